"""Batch and group normalisation by torch's own kernels, channels first."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from perfmodel.measure.program import Pairs, Program
from perfmodel.measure.workloads import Bench

EPSILON, MOMENTUM = 1e-5, 0.1
CHANNELS_CHECKED = 32


def build(bench: Bench) -> Program:
    """The program of the operation that the case names."""
    return _group(bench) if bench.op.startswith("group_norm") else _batch(bench)


def _batch(bench: Bench) -> Program:
    """The figures of the channels are float32."""
    torch, size = bench.torch, bench.shape
    B, C, pixels = size["B"], size["C"], size["pixels"]
    x, dy = bench.normal(B, C, pixels, 1) + 0.5, bench.normal(B, C, pixels, 1)
    gamma, beta = (bench.normal(C).float() for _ in range(2))
    mean, variance = torch.zeros(C, device=bench.device), torch.ones(C, device=bench.device)
    aten, some = torch.ops.aten, slice(None, None, max(1, C // CHANNELS_CHECKED))
    training = bench.op != "batch_norm_inference"

    def each(tensor: Any) -> Any:
        return tensor[some].double().view(1, -1, 1, 1)

    def moments() -> tuple[Any, Any]:
        wide = x[:, some].double()
        if not training:
            return each(mean), each(variance)
        centre = wide.mean((0, 2, 3), keepdim=True)
        return centre, ((wide - centre) ** 2).mean((0, 2, 3), keepdim=True)

    def forward(out: Any) -> Pairs:
        centre, spread = moments()
        wanted = (x[:, some].double() - centre) * (spread + EPSILON).rsqrt() * each(gamma) + each(beta)
        yield "the normalised images", (out[0] if isinstance(out, tuple) else out)[:, some], wanted

    def backward(out: Any) -> Pairs:
        centre, spread = moments()
        scale = (spread + EPSILON).rsqrt()
        hat, g = (x[:, some].double() - centre) * scale, dy[:, some].double()
        sums = [(g * hat).mean((0, 2, 3), keepdim=True), g.mean((0, 2, 3), keepdim=True)]
        yield "the images' gradient", out[0][:, some], (g - sums[1] - hat * sums[0]) * scale * each(gamma)
        yield "gamma's gradient", out[1][some], (g * hat).sum((0, 2, 3))
        yield "beta's gradient", out[2][some], g.sum((0, 2, 3))

    def normalise() -> Any:
        return aten.native_batch_norm(x, gamma, beta, mean, variance, training, MOMENTUM, EPSILON)

    if bench.op == "batch_norm":
        return Program(normalise, forward)
    if bench.op == "batch_norm_inference":
        return Program(lambda: normalise()[0], forward)
    _, centre, scale = normalise()
    back: Callable[..., Any] = aten.native_batch_norm_backward
    every = [True, True, True]
    return Program(lambda: back(dy, x, gamma, mean, variance, centre, scale, True, EPSILON, every), backward)


def _group(bench: Bench) -> Program:
    torch, size = bench.torch, bench.shape
    B, C, groups, pixels = size["B"], size["C"], size["groups"], size["pixels"]
    x, dy, gamma, beta = bench.normal(B, C, pixels) + 0.5, bench.normal(B, C, pixels), bench.normal(C), bench.normal(C)
    aten = torch.ops.aten

    def wide() -> tuple[Any, Any, Any]:
        rows = x[-1].double().view(groups, -1)
        centre = rows.mean(1, keepdim=True)
        scale = ((rows - centre) ** 2).mean(1, keepdim=True).add(EPSILON).rsqrt()
        return (rows - centre) * scale, scale, gamma.double()[:, None]

    def forward(out: Any) -> Pairs:
        hat, _, g = wide()
        yield "the last normalised image", out[0][-1], hat.view(C, pixels) * g + beta.double()[:, None]

    def backward(out: Any) -> Pairs:
        hat, scale, g = wide()
        arriving = (dy[-1].double() * g).view(groups, -1)
        centre, slope = arriving.mean(1, keepdim=True), (arriving * hat).mean(1, keepdim=True)
        yield "the last image's gradient", out[0][-1], ((arriving - centre - hat * slope) * scale).view(C, pixels)
        yield "beta's gradient", out[2], dy.double().sum((0, 2))

    def normalise() -> Any:
        return aten.native_group_norm(x, gamma, beta, B, C, pixels, groups, EPSILON)

    if bench.op == "group_norm":
        return Program(normalise, forward)
    _, centre, scale = normalise()
    back: Callable[..., Any] = aten.native_group_norm_backward
    every = [True, True, True]
    return Program(lambda: back(dy, x, centre, scale, gamma, B, C, pixels, groups, every), backward)
