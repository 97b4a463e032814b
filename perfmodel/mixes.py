"""Primitive operations per element of each elementwise function: all such counts of the project."""

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
LARGEST = Mix(MAX)
COMPARISON = Mix(COMPARE)
CHOICE = Mix(SELECT)
DIFFERENCE = Mix(SUBTRACT)
WEIGHTED = Mix(MULTIPLY, ADD)
# A quantised weight as a number: minus the zero point, times the scale.
SHIFTED_SCALE = Mix(SUBTRACT, MULTIPLY)
# Quantisation. The largest magnitude, per element: one maximum, as instructions drop a sign without work. Per scale:
# largest value over the type's largest, and the reciprocal. The cast, per element: times the reciprocal, two limits.
MAGNITUDE = Mix(MAX)
SCALE_OF_LARGEST = Mix(MULTIPLY, DIVIDE)
QUANTISE = Mix(MULTIPLY, (2, MAX))
# A random integer as a number between two limits.
UNIFORM = Mix(MULTIPLY, ADD)

# Softmax, per score; all scores of a row are divided by the same sum.
SOFTMAX = Mix(MAX, SUBTRACT, EXP, ADD, DIVIDE_BY_SHARED)
# Softmax with a running maximum and sum; the division follows at the end of the row.
ONLINE_SOFTMAX = Mix(MAX, SUBTRACT, EXP, ADD)
NORMALISE = Mix(DIVIDE_BY_SHARED)
# Gradient of softmax: y dy is added to the row's sum, then (dy - sum) y.
SOFTMAX_GRADIENT = Mix((2, MULTIPLY), ADD, SUBTRACT)
# The gradient if the row's sum is known; and the probability, recomputed from a stored logsumexp.
SOFTMAX_GRADIENT_WITH_SUM = Mix(SUBTRACT, MULTIPLY)
SOFTMAX_AGAIN = Mix(SUBTRACT, EXP)

# Cross-entropy, per logit and per row: maximum, shifted exponential, sum; then log and the target's own logit.
CROSS_ENTROPY = Mix(MAX, SUBTRACT, EXP, ADD)
CROSS_ENTROPY_ROW = Mix(LOG, ADD, SUBTRACT)
# Gradient of cross-entropy: (exp(x - logsumexp) - 1 at the target) / rows.
CROSS_ENTROPY_GRADIENT = Mix(SUBTRACT, EXP, MULTIPLY)
CROSS_ENTROPY_GRADIENT_ROW = Mix(SUBTRACT)

# Log-softmax, per score and per row: maximum, shifted exponential, sum; then its log, subtracted from the shifted score.
LOG_SOFTMAX = Mix(MAX, (2, SUBTRACT), EXP, ADD)
LOG_SOFTMAX_ROW = Mix(LOG)
# Gradient: dy is added to the row's sum; dy - exp(y) sum.
LOG_SOFTMAX_GRADIENT = Mix(ADD, EXP, MULTIPLY, SUBTRACT)

# Activations. GELU is x/2 (1 + erf(x/√2)), or with tanh(√(2/π) x (1 + 0.044715 x²)) instead of erf.
RELU = Mix(MAX)
RELU_SQUARED = Mix(MAX, MULTIPLY)
GELU = Mix((3, MULTIPLY), ERF, ADD)
GELU_TANH = Mix((6, MULTIPLY), (2, ADD), TANH)
SIGMOID = Mix(NEGATE, EXP, ADD, DIVIDE)
SILU = Mix(NEGATE, EXP, ADD, DIVIDE)
HYPERBOLIC_TANGENT = Mix(TANH)

# Gated activations: f(gate) times up.
RELU_TIMES_UP = Mix(MAX, MULTIPLY)
RELU_SQUARED_TIMES_UP = Mix(MAX, (2, MULTIPLY))
GELU_TIMES_UP = Mix((4, MULTIPLY), ERF, ADD)
GELU_TANH_TIMES_UP = Mix((7, MULTIPLY), (2, ADD), TANH)
SIGMOID_TIMES_UP = Mix(NEGATE, EXP, ADD, DIVIDE, MULTIPLY)
SILU_TIMES_UP = Mix(NEGATE, EXP, ADD, DIVIDE, MULTIPLY)
TANH_TIMES_UP = Mix(TANH, MULTIPLY)
# gpt-oss: gate and up are clamped; gate sigmoid(1.702 gate) x (up + 1).
CLAMPED_SWIGLU = Mix((3, MAX), MULTIPLY, NEGATE, EXP, ADD, DIVIDE, ADD, (2, MULTIPLY))
# c tanh(x / c), which limits logits to the range from -c to c.
SOFTCAP = Mix((2, MULTIPLY), TANH)

# Gradients, times dy. GELU: Φ(x) + x φ(x). SiLU: s (1 + x (1 - s)). tanh and sigmoid: computed from their outputs.
RELU_GRADIENT = Mix(COMPARE, SELECT)
RELU_SQUARED_GRADIENT = Mix(MAX, (2, MULTIPLY))
GELU_GRADIENT = Mix((7, MULTIPLY), (2, ADD), ERF, EXP)
GELU_TANH_GRADIENT = Mix((12, MULTIPLY), (4, ADD), SUBTRACT, TANH)
SILU_GRADIENT = Mix(NEGATE, EXP, (2, ADD), DIVIDE, SUBTRACT, (3, MULTIPLY))
# Gradients of gated activations: f is recomputed, dy f is the gradient of up, and dy up f' that of the gate.
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

# Normalisation. LayerNorm, per element: add to both sums (x and x²), subtract the mean, times 1/σ, times gamma, plus
# beta. Per row: two means, mean square minus mean², plus epsilon, 1/√.
LAYERNORM = Mix((3, MULTIPLY), (3, ADD), SUBTRACT)
LAYERNORM_ROW = Mix((3, MULTIPLY), SUBTRACT, ADD, RSQRT)
# RMSNorm, per element: add the square to the sum, times 1/rms, times gamma. Per row: mean, plus epsilon, 1/√.
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
# x̂ recomputed, in a kernel that reads only x and the row's statistics.
LAYERNORM_AGAIN = Mix(SUBTRACT, MULTIPLY)
# RMSNorm's gradient: x̂ (1), g (1), sum of g x̂ (2), (g - x̂ b)/rms (3); gamma: sum of dy x̂ (2); per row: one mean.
RMSNORM_GRADIENT = Mix((5, MULTIPLY), ADD, SUBTRACT)
RMSNORM_PARAMETER_GRADIENT = Mix(MULTIPLY, ADD)
RMSNORM_GRADIENT_ROW = Mix(MULTIPLY)
RMSNORM_AGAIN = Mix(MULTIPLY)

# Batch normalisation, per channel: those of a LayerNorm's row; the unbiased variance (1 multiplication); the running mean
# and variance (2 multiplications and 1 addition each).
BATCHNORM_CHANNEL = Mix((8, MULTIPLY), SUBTRACT, (3, ADD), RSQRT)
# With known statistics, per element: minus the mean, times 1/σ, times gamma, plus beta; per channel: plus epsilon, 1/√.
BATCHNORM_KNOWN = Mix(SUBTRACT, (2, MULTIPLY), ADD)
BATCHNORM_KNOWN_CHANNEL = Mix(ADD, RSQRT)
# Gradient, per channel: two means, and gamma / σ.
BATCHNORM_GRADIENT_CHANNEL = Mix((3, MULTIPLY))
# Group normalisation's gradient, per channel of a sequence: both sums times gamma are added to the group's, and added to
# the gradients of gamma and beta.
GROUPNORM_GRADIENT_CHANNEL = Mix((2, MULTIPLY), (4, ADD))

# Rotary embedding: each element is the sum of a product with cos and one with sin.
ROTATE = Mix((2, MULTIPLY), ADD)
# Dropout compares a random number with the rate and scales the elements that remain.
DROP = Mix(COMPARE, MULTIPLY)

# Routing, per token and expert: one comparison in each search for the next largest score.
CHOOSE = Mix(COMPARE)
ROUTE_GRADIENT = Mix((2, MULTIPLY), ADD, SUBTRACT)
# Multiply an expert's output by its weight and add it to the token's output.
COMBINE = Mix(MULTIPLY, ADD)

# Selective scan, per channel and state: exp(Δ a), Δ b u, h = decay h + input; per channel: softplus of Δ, the skip D u.
SCAN = Mix((2, MULTIPLY), EXP, MULTIPLY, ADD)
SCAN_CHANNEL = Mix(EXP, ADD, LOG, (2, MULTIPLY), ADD)
# Gradient, per state. The update is recomputed (5). From the gradient G of h follow: the gradients of u Δ and b (2
# multiply-adds); those of the previous state (G decay) and of Δ a (2); those of Δ and a (2 multiply-adds).
SCAN_GRADIENT = Mix((9, MULTIPLY), EXP, (5, ADD))
# Per channel: softplus and Δ u are recomputed (4); du from the skip and from Δ u (3), dskip (2), dΔ (2), times σ (2).
SCAN_CHANNEL_GRADIENT = Mix(EXP, LOG, DIVIDE, (6, MULTIPLY), (4, ADD))
# RWKV's recurrence, per channel: twice a maximum that bounds the exponents, with two exponentials relative to it and
# the sums of numerator (2 multiplications) and denominator (1); then the quotient.
WKV = Mix((2, MAX), (4, SUBTRACT), (4, EXP), (6, MULTIPLY), (6, ADD), DIVIDE)
# Gradient: the recurrence is recomputed (23). Then, backwards in time, with the gradients of both sums scaled by an
# exponent: dy divided by the denominator (1); the weight of the token itself, and the gradient of its bonus (5);
# gradients of k and v from later tokens (8); gradient of the decay (7); both gradients passed to the previous token
# (12).
WKV_GRADIENT = Mix((3, MAX), (8, SUBTRACT), (8, EXP), (18, MULTIPLY), (16, ADD), (2, DIVIDE), NEGATE)
# RWKV's token shift: a learned weighted mean of a token and the previous one.
TOKEN_SHIFT = Mix((2, MULTIPLY), ADD, SUBTRACT)
# Gradient: dmixed m + dmixed_after (1 - m) for the input, and the sum of dmixed (x - x_before) for m.
TOKEN_SHIFT_GRADIENT = Mix((3, MULTIPLY), (2, ADD), (2, SUBTRACT))

# Stochastic gradient descent with momentum: momentum x rate plus gradient; weight minus step x momentum.
SGD = Mix((2, MULTIPLY), ADD, SUBTRACT)
# A sum of squares, per element; its root, per tensor.
SQUARES = Mix(MULTIPLY, ADD)
ROOT = Mix(SQRT)
# Adam with decoupled weight decay (AdamW), per parameter: both moments (2 and 3 multiplications, 2 additions); the
# bias-corrected root of the second moment (1 multiplication) plus epsilon (1 addition); the quotient; then step x
# quotient + rate x weight is subtracted from the weight.
ADAM = Mix((8, MULTIPLY), (4, ADD), SUBTRACT, SQRT, DIVIDE)
