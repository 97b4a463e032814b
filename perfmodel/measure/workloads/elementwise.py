"""Elementwise operations by torch, one kernel each, and their gradients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from perfmodel.measure.program import Pairs, Program
from perfmodel.measure.workloads import Bench

CHECKED = 1 << 20


def build(bench: Bench) -> Program:
    """The kernel that torch runs for the case's kind; the reference is the same formula in float64."""
    kind = str(bench.line["kind"])
    if kind not in KINDS:
        raise bench.refuse(f"torch has no single kernel for '{kind}'", f"{', '.join(KINDS)} are accepted")
    inputs, function = KINDS[kind]
    given = [bench.normal(bench.shape["numel"]) for _ in range(inputs)]
    if kind == "div":
        given[1] = given[1].abs() + 0.5
    step = max(1, bench.shape["numel"] // CHECKED)

    def compare(out: Any) -> Pairs:
        yield kind, out[::step], function(bench.torch, *(x[::step].double() for x in given))

    return Program(lambda: function(bench.torch, *given), compare)


def _gelu(tanh: bool) -> tuple[int, Callable[..., Any]]:
    kind = "tanh" if tanh else "none"
    return 1, lambda t, x: t.nn.functional.gelu(x, approximate=kind)


def _gelu_backward(tanh: bool) -> tuple[int, Callable[..., Any]]:
    kind = "tanh" if tanh else "none"
    return 2, lambda t, x, dy: t.ops.aten.gelu_backward(dy, x, approximate=kind)


KINDS: dict[str, tuple[int, Callable[..., Any]]] = {
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
}
