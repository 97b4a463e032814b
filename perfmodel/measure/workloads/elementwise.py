"""Elementwise operations and their gradients by torch, one kernel each."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from perfmodel.measure.program import Pairs, Program

if TYPE_CHECKING:
    from perfmodel.measure.workloads import Bench

CHECKED = 1 << 20


def build(bench: Bench) -> Program:
    """The kernel of torch for the operation. The reference is the same function in float64."""
    size = bench.shape
    numel = size["numel"] if "numel" in size else size["B"] * size["N"] * size["D"]
    inputs, function = FUNCTIONS[bench.op]
    given = [bench.normal(numel) for _ in range(inputs)]
    if bench.op == "div":
        given[1] = given[1].abs() + 0.5
    step = max(1, numel // CHECKED)

    def compare(out: Any) -> Pairs:
        yield bench.op, out[::step], function(bench.torch, *(x[::step].double() for x in given))

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
