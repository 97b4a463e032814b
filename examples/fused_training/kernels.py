"""The row functions alone: forward and backward in each way, checked against float64 and timed on the GPU."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch

from examples.fused_training import rows

# Relative norms of the error; the naive composition rounds every intermediate result.
TOLERANCE = {"fp32": 1e-4, "fp16": 1e-2, "bf16": 6e-2}
TYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
SCALE = 0.125


class Case(NamedTuple):
    """A row function in one way and one direction. The shape is that of the scores, (B, H, N, S), or (rows, cols)."""

    op: str
    direction: str
    way: str
    shape: tuple[int, ...]
    dtype: str
    protocol: str

    def fields(self) -> dict[str, Any]:
        """Returns the case for a record."""
        return {"kind": "kernel", **self._asdict(), "shape": list(self.shape)}


OPS = ("softmax", "masked softmax", "LayerNorm")


def inputs(op: str, shape: tuple[int, ...], dtype: torch.dtype, device: str) -> tuple[torch.Tensor, ...]:
    """Returns random inputs: scores with a mask or without one, or rows with gamma and beta."""
    random = torch.Generator(device).manual_seed(0)

    def normal(*sizes: int) -> torch.Tensor:
        return torch.randn(sizes, generator=random, device=device).to(dtype)

    if op == "LayerNorm":
        return normal(*shape) + 0.5, normal(shape[-1]), normal(shape[-1])
    N, S = shape[-2:]
    hidden = torch.full((N, S), float("-inf"), device=device, dtype=dtype).triu(1 + S - N)
    return (normal(*shape) * 3 / SCALE, hidden) if op == "masked softmax" else (normal(*shape) * 3 / SCALE,)


def applied(op: str, way: str, given: tuple[torch.Tensor, ...]) -> torch.Tensor:
    """Returns the output of a row function."""
    if op == "LayerNorm":
        return rows.layer_norm(way, *given)
    return rows.softmax(way, given[0], given[1] if len(given) > 1 else None, SCALE)


class Built(NamedTuple):
    """What to time, and the relative norm of the error of its worst result."""

    run: Callable[[], Any]
    relative_norm: float


def built(case: Case, device: str) -> Built:
    """Returns a run of the case on a device. A backward run repeats the gradient of one forward run."""
    given = inputs(case.op, case.shape, TYPES[case.dtype], device)
    leaves = list(given) if case.op == "LayerNorm" else [given[0]]
    exact = [one.double().requires_grad_(any(one is leaf for leaf in leaves)) for one in given]
    wanted = applied(case.op, "torch", tuple(exact))
    if case.direction == "forward":
        with torch.no_grad():
            error = relative(applied(case.op, case.way, given), wanted)
        return Built(lambda: _forward(case, given), error)
    for leaf in leaves:
        leaf.requires_grad_()
    out, dy = applied(case.op, case.way, given), torch.randn_like(given[0])
    wanted.backward(dy.double())

    def run() -> tuple[torch.Tensor, ...]:
        return torch.autograd.grad(out, leaves, dy, retain_graph=True)

    gradients = [one.grad for one in exact if one.grad is not None]
    return Built(run, max(relative(got, want) for got, want in zip(run(), gradients, strict=True)))


def _forward(case: Case, given: tuple[torch.Tensor, ...]) -> torch.Tensor:
    with torch.no_grad():
        return applied(case.op, case.way, given)


def relative(found: torch.Tensor, wanted: torch.Tensor) -> float:
    """Returns the norm of the error divided by the norm of the exact values; infinity if a value is not finite."""
    error = found.detach().double() - wanted.detach()
    return float(error.norm() / wanted.detach().norm()) if bool(error.isfinite().all()) else float("inf")


def model_cases(dtype: str, B: int, N: int, protocol: str = "warm", heads: int = 8, width: int = 512) -> Iterator[Case]:
    """Yields the cases of a training step of the model: the shapes of its row functions, with a warm L2 or as calls of the
    host (``eager``).
    """
    for op in OPS:
        shape = (B * N, width) if op == "LayerNorm" else (B, heads, N, N)
        for direction in ("forward", "backward"):
            for way in rows.WAYS:
                yield Case(op, direction, way, shape, dtype, protocol)


def large_cases() -> Iterator[Case]:
    """Yields larger shapes, from memory: the inputs of a run exceed L2 or are flushed from it."""
    shapes = {
        "masked softmax": ((16, 8, 256, 256), (16, 16, 1024, 1024)),
        "LayerNorm": ((4096, 1024), (32768, 1024), (32768, 4096)),
    }
    for dtype in ("fp32", "fp16"):
        for op, sizes in shapes.items():
            for shape in sizes:
                for direction in ("forward", "backward"):
                    for way in rows.WAYS:
                        yield Case(op, direction, way, shape, dtype, "cold")


class Watch:
    """Times cases on the GPU by CUDA events around replayed graphs."""

    def __init__(self) -> None:
        from perfmodel.measure.stopwatch import Cuda

        self.cuda = Cuda(torch)

    def measured(self, case: Case) -> dict[str, Any]:
        """Returns the record of a case: its quartiles, or the reason why it has none."""
        from perfmodel.measure.program import Program
        from perfmodel.measure.stopwatch import steadiest

        with torch.cuda.stream(self.cuda.stream):  # autograd runs a gradient on the stream of its forward pass
            made = built(case, "cuda")
        torch.cuda.synchronize()
        fields = {**case.fields(), "relative_norm": float(f"{made.relative_norm:.3g}")}
        if not made.relative_norm <= TOLERANCE[case.dtype]:
            return {**fields, "error": "wrong result"}
        run, _ = self.cuda.ready(Program(made.run, lambda _: iter(())), case.protocol)
        samples, _ = steadiest(lambda: self.cuda.times(run, case.protocol), self.cuda.tries)
        self.cuda.release()
        return {**fields, **samples.fields()}
