"""Elementwise operations and their gradients by torch, one kernel each."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from perfmodel.measure.program import Pairs, Program

if TYPE_CHECKING:
    from perfmodel.measure.workloads import Bench

CHECKED = 1 << 20


def build(bench: Bench) -> Program:
    """The kernel of torch for the operation. The reference is the formula of ``REFERENCES`` in float64."""
    size = bench.shape
    numel = size["numel"] if "numel" in size else size["B"] * size["N"] * size["D"]
    inputs, function = FUNCTIONS[bench.op]
    given = [bench.normal(numel) for _ in range(inputs)]
    if bench.op == "div":
        given[1] = given[1].abs() + 0.5
    step = max(1, numel // CHECKED)

    def compare(out: Any) -> Pairs:
        yield bench.op, out[::step], REFERENCES[bench.op](bench.torch, *(x[::step].double() for x in given))

    return Program(lambda: function(bench.torch, *given), compare)


def _gelu(tanh: bool) -> tuple[int, Callable[..., Any]]:
    kind = "tanh" if tanh else "none"
    return 1, lambda t, x: t.nn.functional.gelu(x, approximate=kind)


def _gelu_backward(tanh: bool) -> tuple[int, Callable[..., Any]]:
    kind = "tanh" if tanh else "none"
    return 2, lambda t, x, dy: t.ops.aten.gelu_backward(dy, x, approximate=kind)


FUNCTIONS: dict[str, tuple[int, Callable[..., Any]]] = {
    "add": (2, lambda t, a, b: a + b),
    "mul": (2, lambda t, a, b: a * b),
    "div": (2, lambda t, a, b: a / b),
    "scale": (1, lambda t, x: x * 0.125),
    "exp": (1, lambda t, x: t.exp(x)),
    "relu": (1, lambda t, x: t.relu(x)),
    "relu_backward": (2, lambda t, x, dy: t.ops.aten.threshold_backward(dy, x, 0)),
    "gelu": _gelu(tanh=False),
    "gelu_tanh": _gelu(tanh=True),
    "gelu_backward": _gelu_backward(tanh=False),
    "gelu_tanh_backward": _gelu_backward(tanh=True),
    "silu": (1, lambda t, x: t.nn.functional.silu(x)),
    "silu_backward": (2, lambda t, x, dy: t.ops.aten.silu_backward(dy, x)),
    "sigmoid": (1, lambda t, x: t.sigmoid(x)),
    "sigmoid_backward": (2, lambda t, y, dy: t.ops.aten.sigmoid_backward(dy, y)),
    "tanh": (1, lambda t, x: t.tanh(x)),
    "tanh_backward": (2, lambda t, y, dy: t.ops.aten.tanh_backward(dy, y)),
    "residual": (2, lambda t, x, y: x + y),
    "saxpy": (2, lambda t, x, y: t.add(y, x, alpha=0.125)),
    "stream_copy": (1, lambda t, a: a.clone()),
    "stream_scale": (1, lambda t, c: c * 0.125),
    "stream_add": (2, lambda t, a, b: a + b),
    "stream_triad": (2, lambda t, b, c: t.add(b, c, alpha=0.125)),
}


def _phi(t: Any, x: Any) -> Any:
    """The normal distribution function."""
    return 0.5 * (1 + t.erf(x / math.sqrt(2)))


def _inner(x: Any) -> Any:
    """The argument of the tanh in the approximate GELU."""
    return math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)


def _tanh(t: Any, x: Any) -> Any:
    """tanh |x| = (1 - e) / (1 + e) with e = exp(-2 |x|), which cannot overflow."""
    e = t.exp(-2 * x.abs())
    return (1 - e) / (1 + e) * x.sign()


def _sigmoid(t: Any, x: Any) -> Any:
    return 0.5 * (1 + _tanh(t, x / 2))


def _gelu_slope(t: Any, x: Any, dy: Any) -> Any:
    return dy * (_phi(t, x) + x * t.exp(-x * x / 2) / math.sqrt(2 * math.pi))


def _gelu_tanh_slope(t: Any, x: Any, dy: Any) -> Any:
    h = _tanh(t, _inner(x))
    return dy * (0.5 * (1 + h) + 0.5 * x * (1 - h * h) * math.sqrt(2 / math.pi) * (1 + 3 * 0.044715 * x * x))


def silu_slope(t: Any, x: Any, dy: Any) -> Any:
    """The gradient of x times the sigmoid of x."""
    s = _sigmoid(t, x)
    return dy * s * (1 + x * (1 - s))


# The definitions in float64, from arithmetic, exp and erf. They share no function with the measured kernels but exp.
REFERENCES: dict[str, Callable[..., Any]] = {
    "add": lambda t, a, b: a + b,
    "mul": lambda t, a, b: a * b,
    "div": lambda t, a, b: a / b,
    "scale": lambda t, x: x / 8,
    "exp": lambda t, x: math.e**x,
    "relu": lambda t, x: (x + x.abs()) / 2,
    "relu_backward": lambda t, x, dy: dy * (x > 0),
    "gelu": lambda t, x: x * _phi(t, x),
    "gelu_tanh": lambda t, x: 0.5 * x * (1 + _tanh(t, _inner(x))),
    "gelu_backward": _gelu_slope,
    "gelu_tanh_backward": _gelu_tanh_slope,
    "silu": lambda t, x: x * _sigmoid(t, x),
    "silu_backward": silu_slope,
    "sigmoid": _sigmoid,
    "sigmoid_backward": lambda t, y, dy: dy * y * (1 - y),
    "tanh": _tanh,
    "tanh_backward": lambda t, y, dy: dy * (1 - y * y),
    "residual": lambda t, x, y: x + y,
    "saxpy": lambda t, x, y: y + x / 8,
    "stream_copy": lambda t, a: a,
    "stream_scale": lambda t, c: c / 8,
    "stream_add": lambda t, a, b: a + b,
    "stream_triad": lambda t, b, c: b + c / 8,
}
