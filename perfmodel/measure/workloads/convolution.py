"""Causal depthwise convolution: kernels of this package, and torch with both memory layouts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from perfmodel.measure.program import Pairs, Program
from perfmodel.measure.workloads import Bench

CHANNELS_CHECKED = 64


def build(bench: Bench) -> Program:
    """u (B, N, D), filter (D, K) and bias (D) to (B, N, D). ``torch_channels_first`` uses (B, D, N) for input and
    output.
    """
    size = bench.shape
    B, N, D, K = size["B"], size["N"], size["D"], size["K"]
    impl = bench.impl
    first = impl == "torch_channels_first"
    u = bench.normal(*((B, D, N) if first else (B, N, D)))
    taps, bias = bench.normal(D, K, scale=1 / K), bench.normal(D)
    if impl in ("fused", "naive"):
        return _ours(bench, u, taps, bias)
    torch = bench.torch
    convolve = torch.nn.functional.conv1d

    def forward(x: Any, f: Any, b: Any) -> Any:
        lead = x if first else x.transpose(1, 2)
        out = convolve(lead, f[:, None], b, padding=K - 1, groups=D)[..., :N]
        return out.contiguous() if first else out.transpose(1, 2).contiguous()

    if _direction(bench) == "forward":
        return Program(lambda: forward(u, taps, bias), lambda out: _compare(bench, out, u, taps, bias, first))
    if _direction(bench) == "backward":
        raise bench.refuse(
            "no program measures the backward pass of torch alone", "forward and forward_backward are accepted"
        )
    given = [t.requires_grad_() for t in (u, taps, bias)]
    dout = bench.normal(*u.shape)

    def both() -> Any:
        out = forward(*given)
        return out, *torch.autograd.grad(out, given, dout)

    def compare(found: Any) -> Pairs:
        with torch.no_grad():
            yield from _compare(bench, found[0].detach(), u, taps, bias, first)
            last = [t.transpose(1, 2) if first else t for t in (found[1], u, dout)]
            yield from _gradients(bench, (last[0], *found[2:]), last[1], taps, last[2])

    return Program(both, compare)


def _direction(bench: Bench) -> str:
    """Returns the direction of the case. The gradient operation is always backward."""
    return "backward" if bench.op == "conv1d_backward" else bench.direction


def _ours(bench: Bench, u: Any, taps: Any, bias: Any) -> Program:
    if bench.device != "cuda":
        raise bench.refuse("the CUDA kernels need a GPU", "torch is accepted on a CPU")
    from perfmodel.measure import kernels

    forward = kernels.conv1d if bench.impl == "fused" else kernels.conv1d_two_kernels
    if _direction(bench) == "forward":
        return Program(lambda: forward(u, taps, bias), lambda out: _compare(bench, out, u, taps, bias))
    dout = bench.normal(*u.shape)

    if _direction(bench) == "backward":
        return Program(
            lambda: kernels.conv1d_backward(u, taps, dout), lambda found: _gradients(bench, found, u, taps, dout)
        )

    def both() -> Any:
        return forward(u, taps, bias), *kernels.conv1d_backward(u, taps, dout)

    return Program(both, lambda found: _gradients(bench, found[1:], u, taps, dout))


def _gradients(bench: Bench, found: Sequence[Any], u: Any, taps: Any, dout: Any) -> Pairs:
    """Compares the gradients of some channels: of u (B, N, D), the filter and the bias."""
    _, N, D = u.shape
    K = taps.shape[1]
    step = max(1, D // CHANNELS_CHECKED)
    x, g, f = u[..., ::step].double(), dout[..., ::step].double(), taps[::step].double()
    du, df = bench.torch.zeros_like(x), bench.torch.zeros_like(f)
    for k in range(min(K, N)):
        back = K - 1 - k
        if back < N:
            du[:, : N - back] += g[:, back:] * f[:, k]
            df[:, k] = (g[:, back:] * x[:, : N - back]).sum((0, 1))
    yield "the input's gradient", found[0][..., ::step], du
    yield "the filter's gradient", found[1][::step], df
    yield "the bias's gradient", found[2][::step], g.sum((0, 1))


def _compare(bench: Bench, out: Any, u: Any, taps: Any, bias: Any, first: bool = False) -> Pairs:
    """Compares some channels of every sequence."""
    torch, K = bench.torch, taps.shape[1]
    step = max(1, taps.shape[0] // CHANNELS_CHECKED)
    x = u[:, ::step].double() if first else u[..., ::step].double().transpose(1, 2)
    f, b = taps[::step].double(), bias[::step].double()
    padded = torch.nn.functional.pad(x, (K - 1, 0))
    wanted = b[None, :, None] + sum(f[None, :, k, None] * padded[..., k : k + x.shape[2]] for k in range(K))
    yield "the convolution", (out[:, ::step] if first else out[..., ::step].transpose(1, 2)), wanted
