"""What one element of each elementwise function costs, primitive by primitive: every such count of the project."""

from __future__ import annotations

from perfmodel.op import (
    ADD,
    COMPARE,
    DIVIDE,
    DIVIDE_BY_SHARED,
    ERF,
    EXP,
    LOG,
    MAX,
    MULTIPLY,
    NEGATE,
    RSQRT,
    SELECT,
    SQRT,
    SUBTRACT,
    TANH,
    Mix,
)

NOTHING = Mix()
SUM = Mix(ADD)
SCALE = Mix(MULTIPLY)
QUOTIENT = Mix(DIVIDE)
QUOTIENT_GRADIENT = Mix(DIVIDE, MULTIPLY, NEGATE)
EXPONENTIAL = Mix(EXP)

# Softmax, per score; the row's sum divides all of them.
SOFTMAX = Mix(MAX, SUBTRACT, EXP, ADD, DIVIDE_BY_SHARED)
# The same with a running maximum and sum; the division waits for the end of the row.
ONLINE_SOFTMAX = Mix(MAX, SUBTRACT, EXP, ADD)
NORMALISE = Mix(DIVIDE_BY_SHARED)
# Its gradient: add y dy to the row's sum, dy less that sum, times y.
SOFTMAX_GRADIENT = Mix((2, MULTIPLY), ADD, SUBTRACT)
# The gradient where the row's sum is known already, and the probability again from a stored logsumexp.
SOFTMAX_GRADIENT_WITH_SUM = Mix(SUBTRACT, MULTIPLY)
SOFTMAX_AGAIN = Mix(SUBTRACT, EXP)

# Cross-entropy, per logit and per row: maximum, shifted exponential, sum; then log and the target's own logit.
CROSS_ENTROPY = Mix(MAX, SUBTRACT, EXP, ADD)
CROSS_ENTROPY_ROW = Mix(LOG, ADD, SUBTRACT)
# Its gradient: (exp(x - logsumexp) - 1 at the target) / rows.
CROSS_ENTROPY_GRADIENT = Mix(SUBTRACT, EXP, MULTIPLY)
CROSS_ENTROPY_GRADIENT_ROW = Mix(SUBTRACT)

# Activations. GELU is x/2 (1 + erf(x/√2)), or with tanh(√(2/π) x (1 + 0.044715 x²)) in the place of the erf.
RELU = Mix(MAX)
RELU_SQUARED = Mix(MAX, MULTIPLY)
GELU = Mix((3, MULTIPLY), ERF, ADD)
GELU_TANH = Mix((6, MULTIPLY), (2, ADD), TANH)
SIGMOID = Mix(NEGATE, EXP, ADD, DIVIDE)
SILU = Mix(NEGATE, EXP, ADD, DIVIDE)
SILU_TIMES_UP = Mix(NEGATE, EXP, ADD, DIVIDE, MULTIPLY)
HYPERBOLIC_TANGENT = Mix(TANH)

GELU_TIMES_UP = Mix((4, MULTIPLY), ERF, ADD)
GELU_TANH_TIMES_UP = Mix((7, MULTIPLY), (2, ADD), TANH)
# gpt-oss: gate and up clamped, gate sigmoid(1.702 gate) x (up + 1).
CLAMPED_SWIGLU = Mix((3, MAX), MULTIPLY, NEGATE, EXP, ADD, DIVIDE, ADD, (2, MULTIPLY))
# c tanh(x / c), the cap that keeps logits within c.
SOFTCAP = Mix((2, MULTIPLY), TANH)

# Their gradients times dy. GELU: Φ(x) + x φ(x). SiLU: s (1 + x (1 - s)). tanh and sigmoid: from their outputs.
RELU_GRADIENT = Mix(COMPARE, SELECT)
RELU_SQUARED_GRADIENT = Mix(MAX, (2, MULTIPLY))
GELU_GRADIENT = Mix((7, MULTIPLY), (2, ADD), ERF, EXP)
GELU_TANH_GRADIENT = Mix((12, MULTIPLY), (4, ADD), SUBTRACT, TANH)
SILU_GRADIENT = Mix(NEGATE, EXP, (2, ADD), DIVIDE, SUBTRACT, (3, MULTIPLY))
SILU_TIMES_UP_GRADIENT = Mix(NEGATE, EXP, (2, ADD), DIVIDE, SUBTRACT, (6, MULTIPLY))
GELU_TIMES_UP_GRADIENT = Mix((10, MULTIPLY), (2, ADD), ERF, EXP)
GELU_TANH_TIMES_UP_GRADIENT = Mix((15, MULTIPLY), (4, ADD), SUBTRACT, TANH)
CLAMPED_SWIGLU_GRADIENT = Mix(
    (3, COMPARE), (3, SELECT), MULTIPLY, NEGATE, EXP, (3, ADD), DIVIDE, SUBTRACT, (6, MULTIPLY)
)
SOFTCAP_GRADIENT = Mix((3, MULTIPLY), TANH, SUBTRACT)
TANH_GRADIENT = Mix((2, MULTIPLY), SUBTRACT)
SIGMOID_GRADIENT = Mix((2, MULTIPLY), SUBTRACT)

# Normalisation. LayerNorm, per element: into both sums (x, and x²), less the mean, times 1/σ, times gamma, plus beta;
# per row: two means, mean² off the mean square, epsilon, 1/√.
LAYERNORM = Mix((3, MULTIPLY), (3, ADD), SUBTRACT)
LAYERNORM_ROW = Mix((3, MULTIPLY), SUBTRACT, ADD, RSQRT)
# RMSNorm, per element: square into the sum, times 1/rms, times gamma; per row: mean, epsilon, 1/√.
RMSNORM = Mix((3, MULTIPLY), ADD)
RMSNORM_ROW = Mix(MULTIPLY, ADD, RSQRT)
# LayerNorm's input gradient, per element: x̂ (2), g = dy gamma (1), sums of g and g x̂ (3), then (g - a - x̂ b)/σ (4);
# the parameter gradients: sum of dy x̂ (2) and of dy (1); per row: two means.
LAYERNORM_GRADIENT = Mix((5, MULTIPLY), (2, ADD), (3, SUBTRACT))
LAYERNORM_PARAMETER_GRADIENT = Mix(MULTIPLY, (2, ADD))
LAYERNORM_GRADIENT_ROW = Mix((2, MULTIPLY))
# RMSNorm's: x̂ (1), g (1), sum of g x̂ (2), (g - x̂ b)/rms (3); gamma: sum of dy x̂ (2); per row: one mean.
RMSNORM_GRADIENT = Mix((5, MULTIPLY), ADD, SUBTRACT)
RMSNORM_PARAMETER_GRADIENT = Mix(MULTIPLY, ADD)
RMSNORM_GRADIENT_ROW = Mix(MULTIPLY)

# A rotation of pairs: each element is one cos and one sin product, added.
ROTATE = Mix((2, MULTIPLY), ADD)
# Dropout compares a random number with the rate and scales what it keeps.
DROP = Mix(COMPARE, MULTIPLY)

# Choosing experts, per token and expert: the softmax, and one comparison in the search for the largest.
ROUTE = Mix(MAX, SUBTRACT, EXP, ADD, DIVIDE_BY_SHARED, COMPARE)
ROUTE_GRADIENT = Mix((2, MULTIPLY), ADD, SUBTRACT)
# Weighting an expert's output and adding it to the token's.
COMBINE = Mix(MULTIPLY, ADD)

# Selective scan, per channel and state: exp(Δ a), Δ b u, h = decay h + input; per channel: softplus of Δ, the skip D u.
SCAN = Mix((2, MULTIPLY), EXP, MULTIPLY, ADD)
SCAN_CHANNEL = Mix(EXP, ADD, LOG, (2, MULTIPLY), ADD)
# Its gradient recomputes the state and runs back: per state and channel.
SCAN_GRADIENT = Mix((8, MULTIPLY), EXP, (4, ADD))
SCAN_CHANNEL_GRADIENT = Mix(EXP, ADD, DIVIDE, (4, MULTIPLY), (2, ADD))
# RWKV's recurrence, per channel: maxima that keep exponents bounded, weighted sums of numerator and denominator.
WKV = Mix((2, MAX), (4, SUBTRACT), (4, EXP), (4, MULTIPLY), (6, ADD), DIVIDE)
WKV_GRADIENT = Mix((2, MAX), (6, SUBTRACT), (6, EXP), (14, MULTIPLY), (10, ADD), DIVIDE)
# RWKV's token shift: a learned mean of a token and the one before.
TOKEN_SHIFT = Mix((2, MULTIPLY), ADD, SUBTRACT)
TOKEN_SHIFT_GRADIENT = Mix((4, MULTIPLY), (2, ADD), SUBTRACT)

# Adam with decoupled decay, per parameter: both moments, their corrections, root, quotient, decay, step.
ADAM = Mix((8, MULTIPLY), (4, ADD), SUBTRACT, SQRT, DIVIDE)
