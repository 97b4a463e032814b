"""Elementwise operators: each tensor read once, one result written, with the arithmetic of the function.

Operands may differ in shape and data type. A kernel whose operands do not all lie alike in memory computes the place of
every element of every operand; it is not vectorised, and its fact says so.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import Any

from perfmodel import mixes
from perfmodel.aten.asking import arithmetic_type, broadcast, compact, dimensions, lines, result_of
from perfmodel.aten.calls import ITEMS, Call, Launched, Operand, Rule
from perfmodel.mixes import NOTHING, SCALE, SUM
from perfmodel.op import (
    ADD,
    COMPARE,
    DIVIDE,
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
    Engine,
    Mix,
    Op,
    Tensor,
    Work,
    each,
)  # fmt: skip
from perfmodel.runs import Stream

# The mix of primitives of one element, by operator. Rounding, comparisons and bit operations count as one comparison.
MIXES: dict[str, Mix] = {
    **dict.fromkeys(("add", "rsub", "__radd__", "__add__"), SUM),
    **dict.fromkeys(("sub", "subtract"), Mix(SUBTRACT)),
    **dict.fromkeys(("mul", "multiply", "square", "__mul__"), SCALE),
    **dict.fromkeys(("div", "divide", "true_divide", "reciprocal", "floor_divide", "remainder", "fmod"), Mix(DIVIDE)),
    "neg": Mix(NEGATE),
    **dict.fromkeys(("exp", "exp2", "expm1"), Mix(EXP)),
    **dict.fromkeys(("log", "log1p", "log2", "log10"), Mix(LOG)),
    "sqrt": Mix(SQRT),
    "rsqrt": Mix(RSQRT),
    "tanh": Mix(TANH),
    **dict.fromkeys(("sin", "cos", "tan", "atan", "atan2", "asin", "acos", "sinh", "cosh"), Mix(TANH)),
    **dict.fromkeys(("erf", "erfc", "erfinv"), Mix(ERF)),
    "addcmul": Mix((2, MULTIPLY), ADD),
    "addcdiv": Mix(DIVIDE, MULTIPLY, ADD),
    "lerp": Mix(SUBTRACT, MULTIPLY, ADD),
    "relu": mixes.RELU,
    **dict.fromkeys(
        ("leaky_relu", "hardtanh", "relu6", "threshold", "prelu", "_prelu_kernel"), Mix(COMPARE, SELECT, MULTIPLY)
    ),
    **dict.fromkeys(("maximum", "minimum", "fmax", "fmin"), Mix(MAX)),
    **dict.fromkeys(("clamp_min", "clamp_max", "clip"), Mix(MAX)),
    "clamp": Mix((2, MAX)),
    "silu": mixes.SILU,
    "sigmoid": mixes.SIGMOID,
    "logit": Mix(SUBTRACT, DIVIDE, LOG),
    "softplus": Mix(EXP, ADD, LOG),
    "log_sigmoid_forward": Mix(NEGATE, EXP, ADD, LOG),
    "mish": Mix(EXP, ADD, LOG, TANH, MULTIPLY),
    "elu": Mix(COMPARE, EXP, SUBTRACT, SELECT),
    "hardswish": Mix(ADD, (2, MAX), (2, MULTIPLY)),
    "hardsigmoid": Mix(ADD, (2, MAX), MULTIPLY),
    "abs": Mix(MAX),
    **dict.fromkeys(("sign", "sgn", "floor", "ceil", "round", "trunc", "frac", "nan_to_num"), Mix(COMPARE)),
    **dict.fromkeys(
        ("eq", "ne", "lt", "le", "gt", "ge", "isinf", "isnan", "isneginf", "isposinf", "isfinite"), Mix(COMPARE)
    ),
    **dict.fromkeys(("logical_not", "logical_and", "logical_or", "logical_xor", "signbit"), Mix(COMPARE)),
    **dict.fromkeys(("bitwise_and", "bitwise_or", "bitwise_xor", "bitwise_not", "__and__", "__or__"), Mix(COMPARE)),
    **dict.fromkeys(("bitwise_left_shift", "bitwise_right_shift", "__lshift__", "__rshift__"), Mix(COMPARE)),
    **dict.fromkeys(("where", "masked_fill"), Mix(SELECT)),
    **dict.fromkeys(("tril", "triu"), Mix(SELECT)),
    "native_dropout_backward": SCALE,
    "glu": mixes.SIGMOID_TIMES_UP,
    "mse_loss": Mix(SUBTRACT, MULTIPLY),
    "polar": Mix((2, MULTIPLY), (2, TANH)),
    "complex": NOTHING,
    "hypot": Mix((2, MULTIPLY), ADD, SQRT),
    # gradients: dy first, then what the forward pass kept
    "threshold_backward": mixes.RELU_GRADIENT,
    "silu_backward": mixes.SILU_GRADIENT,
    "sigmoid_backward": mixes.SIGMOID_GRADIENT,
    "tanh_backward": mixes.TANH_GRADIENT,
    "hardtanh_backward": mixes.RELU_GRADIENT,
    "leaky_relu_backward": Mix(COMPARE, SELECT, MULTIPLY),
    "softplus_backward": Mix(EXP, ADD, DIVIDE, MULTIPLY),
    "elu_backward": Mix(COMPARE, EXP, MULTIPLY, SELECT),
    "hardswish_backward": Mix((2, COMPARE), (2, SELECT), (3, MULTIPLY)),
    "mish_backward": Mix((2, EXP), (3, ADD), LOG, TANH, DIVIDE, (4, MULTIPLY)),
    "glu_backward": mixes.SIGMOID_TIMES_UP_GRADIENT,
    "mse_loss_backward": Mix(SUBTRACT, (2, MULTIPLY)),
    "log_sigmoid_backward": Mix(EXP, ADD, DIVIDE, MULTIPLY),
}
POWER = Mix(LOG, MULTIPLY, EXP)
POWERS = {
    2.0: Mix(MULTIPLY), 3.0: Mix((2, MULTIPLY)), 0.5: Mix(SQRT), -0.5: Mix(RSQRT), -1.0: Mix(DIVIDE), -2.0: Mix(MULTIPLY, DIVIDE),
}  # fmt: skip
TANH_FORM = {"gelu": mixes.GELU_TANH, "gelu_backward": mixes.GELU_TANH_GRADIENT}
ERF_FORM = {"gelu": mixes.GELU, "gelu_backward": mixes.GELU_GRADIENT}
COMPARING = frozenset(
    ["eq", "ne", "lt", "le", "gt", "ge", "isinf", "isnan", "isneginf", "isposinf", "isfinite", "logical_not", "logical_and", "logical_or", "logical_xor", "signbit"]
)  # fmt: skip
# Functions with a boolean beside numbers.
SELECTING = frozenset(["where", "masked_fill", "native_dropout_backward", "dropout"])
_PAIRS = {"fp16": "int32", "fp32": "complex64", "fp64": "complex128"}
COMPLEX = {"complex": _PAIRS, "polar": _PAIRS}


def pointwise(call: Call) -> Iterable[Launched]:
    """One kernel over the common shape of all operands."""
    name = call.name if call.name in MIXES else call.name.rstrip("_")
    yield from over(name, MIXES[name], call)


def power(call: Call) -> Iterable[Launched]:
    """pow(x, exponent): torch has shorter forms for a few exponents."""
    exponent = call.argument(1, "exponent")
    try:
        mix = POWERS.get(float(exponent), POWER)
    except (TypeError, ValueError):  # a tensor
        mix = POWER
    yield from over("pow", mix, call)


def gelu(call: Call) -> Iterable[Launched]:
    """GELU with erf, or with tanh where ``approximate`` says so."""
    name = call.name.rstrip("_")
    words = [*call.arguments, *call.keywords.values()]
    yield from over(name, (TANH_FORM if "tanh" in words else ERF_FORM)[name], call)


def halved(call: Call) -> Iterable[Launched]:
    """glu(x, dim): one half of x by the sigmoid of the other."""
    (x, *_), axis = call.operands, int(call.argument(1, "dim", -1))
    shape = [size // 2 if at == axis % len(x.shape) else size for at, size in enumerate(x.shape)]
    yield from over("glu", MIXES["glu"], call._replace(results=call.results or (compact(shape, x.dtype),)))


def over(name: str, mix: Mix, call: Call) -> Iterable[Launched]:
    """The kernel of a mix over the operands of a call, or nothing for an empty result."""
    operands = [x for x in call.operands if x.shape or call.results]
    shape = call.results[0].shape if call.results else broadcast(operands or call.operands)
    results = call.results[:2] or (_guessed(name, shape, call.operands),)
    numel = results[0].numel
    if isinstance(numel, int) and numel == 0:
        return
    reads = tuple((x.distinct, x.item) for x in call.operands)
    writes = tuple((x.numel, x.item) for x in results if x.shape == results[0].shape)
    converts = _converts(name, call.operands, results[0])
    fact = Stream(special="random" if name == "dropout" else "cast" if converts else "")
    if not _alike(call.operands, results[0]):
        far = sum(lines(x, results[0]) - 1 for x in call.operands)
        fact = Stream(special="strided", dims=dimensions((results[0], *call.operands)), lines=far, converts=converts)
    yield Launched(
        name,
        {"numel": numel},
        _op(name, mix, reads, writes, numel, fact),
        arithmetic_type((*results, *call.operands)),
    )


@cache
def _op(
    name: str,
    mix: Mix,
    reads: tuple[tuple[Any, Any], ...],
    writes: tuple[tuple[Any, Any], ...],
    numel: Any,
    fact: Stream,
) -> Op:
    tensors = (
        *(Tensor(f"x{i}", (count,), item, reads=1) for i, (count, item) in enumerate(reads)),
        *(Tensor(f"y{i}" if i else "y", (count,), item, writes=1) for i, (count, item) in enumerate(writes)),
    )
    return Op(tensors, (Work(name, each(mix, numel), Engine.VECTOR),), fact)


def _converts(name: str, operands: Iterable[Operand], result: Operand) -> bool:
    """Whether tensors of several data types meet, which torch converts element by element."""
    types = {x.dtype for x in operands if x.shape} if name not in SELECTING else set()
    compared = name in COMPARING or result.dtype.startswith("complex")
    return len(types if compared or not types else types | {result.dtype}) > 1


def _alike(operands: Iterable[Operand], result: Operand) -> bool:
    """Whether every tensor lies in memory as the result does. A number in the host's memory is an argument of the kernel."""
    on_card = (x for x in operands if x.shape or x.storage)
    return all(x.shape == result.shape and x.dense and x.strides == result.strides for x in on_card)


def _guessed(name: str, shape: tuple[Any, ...], operands: tuple[Operand, ...]) -> Operand:
    """The result where it is not recorded: the widest type of its operands, or a boolean of a comparison."""
    widest = max(operands, key=lambda x: (x.dtype != "bool", len(x.shape) > 0, ITEMS[x.dtype])).dtype
    result = compact(shape, "bool" if name in COMPARING else COMPLEX.get(name, {}).get(widest, widest))
    like = next((x for x in operands if x.shape == shape and x.dense), result)
    return result._replace(strides=like.strides)


def dropout(call: Call) -> Iterable[Launched]:
    """native_dropout: random numbers, a comparison and a product; a mask byte per element is kept."""
    x = result_of(call)
    mask = Operand(x.shape, "bool", x.strides)
    yield from over("dropout", mixes.DROP, call._replace(results=(x, mask)))


RULES: dict[str, Rule] = {
    **dict.fromkeys(MIXES, pointwise),
    "pow": power,
    "glu": halved,
    "gelu": gelu,
    "gelu_backward": gelu,
    "native_dropout": dropout,
    "_fused_dropout": dropout,
}
