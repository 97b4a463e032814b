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
HYPERBOLIC_TANGENT = Mix(TANH)

# The gated forms: an activation of the gate times up.
RELU_TIMES_UP = Mix(MAX, MULTIPLY)
RELU_SQUARED_TIMES_UP = Mix(MAX, (2, MULTIPLY))
GELU_TIMES_UP = Mix((4, MULTIPLY), ERF, ADD)
GELU_TANH_TIMES_UP = Mix((7, MULTIPLY), (2, ADD), TANH)
SIGMOID_TIMES_UP = Mix(NEGATE, EXP, ADD, DIVIDE, MULTIPLY)
SILU_TIMES_UP = Mix(NEGATE, EXP, ADD, DIVIDE, MULTIPLY)
TANH_TIMES_UP = Mix(TANH, MULTIPLY)
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
# Of the gated forms, for gate and up: f again, dy f for up, and dy up f' for the gate.
RELU_TIMES_UP_GRADIENT = Mix(MAX, COMPARE, SELECT, (2, MULTIPLY))
RELU_SQUARED_TIMES_UP_GRADIENT = Mix(MAX, (4, MULTIPLY))
SIGMOID_TIMES_UP_GRADIENT = Mix(NEGATE, EXP, ADD, DIVIDE, SUBTRACT, (3, MULTIPLY))
TANH_TIMES_UP_GRADIENT = Mix(TANH, SUBTRACT, (4, MULTIPLY))
SILU_TIMES_UP_GRADIENT = Mix(NEGATE, EXP, (2, ADD), DIVIDE, SUBTRACT, (6, MULTIPLY))
GELU_TIMES_UP_GRADIENT = Mix((10, MULTIPLY), (2, ADD), ERF, EXP)
GELU_TANH_TIMES_UP_GRADIENT = Mix((15, MULTIPLY), (4, ADD), SUBTRACT, TANH)
CLAMPED_SWIGLU_GRADIENT = Mix(
    (3, MAX), (3, COMPARE), (3, SELECT), MULTIPLY, NEGATE, EXP, (3, ADD), DIVIDE, SUBTRACT, (6, MULTIPLY)
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
# Without beta, without both, and an RMSNorm without gamma: one addition, one multiplication each less.
LAYERNORM_UNBIASED = Mix((3, MULTIPLY), (2, ADD), SUBTRACT)
LAYERNORM_PLAIN = Mix((2, MULTIPLY), (2, ADD), SUBTRACT)
RMSNORM_PLAIN = Mix((2, MULTIPLY), ADD)
# LayerNorm's input gradient, per element: x̂ (2), g = dy gamma (1), sums of g and g x̂ (3), then (g - a - x̂ b)/σ (4);
# the parameter gradients: sum of dy x̂ (2) and of dy (1); per row: two means.
LAYERNORM_GRADIENT = Mix((5, MULTIPLY), (2, ADD), (3, SUBTRACT))
LAYERNORM_PARAMETER_GRADIENT = Mix(MULTIPLY, (2, ADD))
# Without beta there is no sum of dy; without gamma no parameter gradient, and g is dy.
LAYERNORM_UNBIASED_PARAMETER_GRADIENT = Mix(MULTIPLY, ADD)
LAYERNORM_PLAIN_GRADIENT = Mix((4, MULTIPLY), (2, ADD), (3, SUBTRACT))
RMSNORM_PLAIN_GRADIENT = Mix((4, MULTIPLY), ADD, SUBTRACT)
LAYERNORM_GRADIENT_ROW = Mix((2, MULTIPLY))
# x̂ once more, in a kernel that has x and the row's statistics alone.
LAYERNORM_AGAIN = Mix(SUBTRACT, MULTIPLY)
# RMSNorm's: x̂ (1), g (1), sum of g x̂ (2), (g - x̂ b)/rms (3); gamma: sum of dy x̂ (2); per row: one mean.
RMSNORM_GRADIENT = Mix((5, MULTIPLY), ADD, SUBTRACT)
RMSNORM_PARAMETER_GRADIENT = Mix(MULTIPLY, ADD)
RMSNORM_GRADIENT_ROW = Mix(MULTIPLY)
RMSNORM_AGAIN = Mix(MULTIPLY)

# A rotation of pairs: each element is one cos and one sin product, added.
ROTATE = Mix((2, MULTIPLY), ADD)
# Dropout compares a random number with the rate and scales what it keeps.
DROP = Mix(COMPARE, MULTIPLY)

# Choosing experts, per token and expert: the softmax, and one comparison in each search for the largest that is left.
CHOOSE = Mix(COMPARE)
ROUTE_GRADIENT = Mix((2, MULTIPLY), ADD, SUBTRACT)
# Weighting an expert's output and adding it to the token's.
COMBINE = Mix(MULTIPLY, ADD)

# Selective scan, per channel and state: exp(Δ a), Δ b u, h = decay h + input; per channel: softplus of Δ, the skip D u.
SCAN = Mix((2, MULTIPLY), EXP, MULTIPLY, ADD)
SCAN_CHANNEL = Mix(EXP, ADD, LOG, (2, MULTIPLY), ADD)
# Its gradient, per state: the update again (5); from the gradient G that stands at h, those of Δ b u for u Δ and for b
# (2 multiply-adds), that of the state before, which is G decay, and of Δ a (2), and those of Δ and a (2 multiply-adds).
SCAN_GRADIENT = Mix((9, MULTIPLY), EXP, (5, ADD))
# Per channel: the softplus and Δ u again (4); du from the skip and from Δ u (3), dskip (2), dΔ (2), times σ (2).
SCAN_CHANNEL_GRADIENT = Mix(EXP, LOG, DIVIDE, (6, MULTIPLY), (4, ADD))
# RWKV's recurrence, per channel: twice a maximum that keeps exponents bounded, two exponentials of what lies below it,
# and the sums of numerator (2 multiplications) and denominator (1); their quotient.
WKV = Mix((2, MAX), (4, SUBTRACT), (4, EXP), (6, MULTIPLY), (6, ADD), DIVIDE)
# Its gradient: the recurrence again (23), then back with the gradients of both sums over an exponent of their own: dy
# over the denominator (1); the token's own weight and the first's gradient (5); what later tokens give k and v (8); the
# decay's (7); and both gradients moved to the token before (12).
WKV_GRADIENT = Mix((3, MAX), (8, SUBTRACT), (8, EXP), (18, MULTIPLY), (16, ADD), (2, DIVIDE), NEGATE)
# RWKV's token shift: a learned mean of a token and the one before.
TOKEN_SHIFT = Mix((2, MULTIPLY), ADD, SUBTRACT)
# Its gradient: dmixed m + dmixed_after (1 - m), and for m the sum of dmixed (x - x_before).
TOKEN_SHIFT_GRADIENT = Mix((3, MULTIPLY), (2, ADD), (2, SUBTRACT))

# Adam with decoupled decay, per parameter: both moments (2 and 3 multiplications, 2 additions), the root of the second
# corrected (1 multiplication) and kept off zero (1 addition), the quotient; step x quotient + rate x weight, off the weight.
ADAM = Mix((8, MULTIPLY), (4, ADD), SUBTRACT, SQRT, DIVIDE)
