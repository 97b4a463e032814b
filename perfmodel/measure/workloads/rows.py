"""Softmax, masked softmax and normalisation of rows, forward and backward, by torch or by kernels of this package."""

from __future__ import annotations

from typing import Any

from perfmodel.measure.program import Pairs, Program
from perfmodel.measure.workloads import Bench

EPSILON = 1e-5
ROWS_CHECKED = 256
HEAD_SCALE = 0.125  # 1 / sqrt(64), for heads of 64 elements


def build(bench: Bench) -> Program:
    """The program of the operation that the case names."""
    own = bench.impl in ("ours", "fused")
    if bench.impl == "naive" and bench.op not in _MASKED:
        raise bench.refuse("no program measures its separate kernels", "torch and ours are accepted")
    if own and bench.device != "cuda":
        raise bench.refuse("the CUDA kernels need a GPU", "torch is accepted on a CPU")
    return _PROGRAMS[bench.op](bench, own)


def _some(rows: int) -> slice:
    return slice(None, None, max(1, rows // ROWS_CHECKED))


def _softmax(bench: Bench, own: bool) -> Program:
    torch = bench.torch
    x = bench.normal(bench.shape["rows"], bench.shape["cols"], scale=3)
    part = _some(x.shape[0])

    def compare(out: Any) -> Pairs:
        wide = x[part].double()
        e = torch.exp(wide - wide.amax(-1, keepdim=True))
        yield "the softmax", out[part], e / e.sum(-1, keepdim=True)

    if own:
        from perfmodel.measure import kernels

        return Program(lambda: kernels.softmax(x), compare)
    return Program(lambda: torch.softmax(x, -1), compare)


def _softmax_backward(bench: Bench, own: bool) -> Program:
    torch = bench.torch
    y = torch.softmax(bench.normal(bench.shape["rows"], bench.shape["cols"], scale=3), -1)
    dy = bench.normal(*y.shape)
    part = _some(y.shape[0])

    def compare(out: Any) -> Pairs:
        p, g = y[part].double(), dy[part].double()
        yield "the softmax's gradient", out[part], p * (g - (p * g).sum(-1, keepdim=True))

    if own:
        from perfmodel.measure import kernels

        return Program(lambda: kernels.softmax_backward(y, dy), compare)
    return Program(lambda: torch._softmax_backward_data(dy, y, -1, y.dtype), compare)


def _masked_softmax(bench: Bench, own: bool) -> Program:
    """softmax(scale x + mask) with a causal mask of N S elements: one kernel of this package, or three of torch."""
    torch = bench.torch
    B, H, N, S = _scores(bench)
    x = bench.normal(B, H, N, S, scale=3 / HEAD_SCALE)
    mask = torch.zeros(N, S, dtype=bench.dtype, device=x.device)
    mask.masked_fill_(torch.ones(N, S, dtype=torch.bool, device=x.device).triu(S - N + 1), float("-inf"))
    part = _some(B * H * N)

    def compare(out: Any) -> Pairs:
        wide = (x.double() * HEAD_SCALE + mask.double()).view(-1, S)[part]
        e = torch.exp(wide - wide.amax(-1, keepdim=True))
        yield "the masked softmax", out.view(-1, S)[part], e / e.sum(-1, keepdim=True)

    if own:
        from perfmodel.measure import kernels

        return Program(lambda: kernels.softmax(x, mask, HEAD_SCALE), compare)
    return Program(lambda: torch.softmax(x * HEAD_SCALE + mask, -1), compare)


def _masked_softmax_backward(bench: Bench, own: bool) -> Program:
    """The gradient for the scores: one kernel of this package, or torch's kernels of the softmax and of the scale."""
    torch = bench.torch
    y = torch.softmax(bench.normal(*_scores(bench), scale=3), -1)
    dy = bench.normal(*y.shape)
    part = _some(y[..., 0].numel())

    def compare(out: Any) -> Pairs:
        p, g = (one.view(-1, y.shape[-1])[part].double() for one in (y, dy))
        wanted = HEAD_SCALE * p * (g - (p * g).sum(-1, keepdim=True))
        yield "the masked softmax's gradient", out.view(-1, y.shape[-1])[part], wanted

    if own:
        from perfmodel.measure import kernels

        return Program(lambda: kernels.softmax_backward(y, dy, HEAD_SCALE), compare)
    return Program(lambda: torch._softmax_backward_data(dy, y, -1, y.dtype) * HEAD_SCALE, compare)


def _scores(bench: Bench) -> tuple[int, ...]:
    """Returns the shape of the scores; with more queries than keys, the first queries would see no key."""
    B, H, N, S = (bench.shape[name] for name in "BHNS")
    if N > S:
        raise bench.refuse(
            f"{N} queries of {S} keys, so the causal mask leaves rows without a key", "S of N or more is accepted"
        )
    return B, H, N, S


def _norm(bench: Bench, own: bool) -> Program:
    torch, cols = bench.torch, bench.shape["cols"]
    rms = bench.op == "rmsnorm"
    x = bench.normal(bench.shape["rows"], cols) + 0.5
    gamma, beta = bench.normal(cols), bench.normal(cols)
    part = _some(x.shape[0])

    def compare(out: Any) -> Pairs:
        wide, g, b = x[part].double(), gamma.double(), beta.double()
        mean = 0 if rms else wide.mean(-1, keepdim=True)
        scale = ((wide - mean) ** 2).mean(-1, keepdim=True).add(EPSILON).rsqrt()
        yield "the normalised rows", out[part], (wide - mean) * scale * g + (0 if rms else b)

    if own:
        from perfmodel.measure import kernels

        run = (lambda: kernels.rmsnorm(x, gamma)) if rms else (lambda: kernels.layernorm(x, gamma, beta))
        return Program(run, compare)
    functional = torch.nn.functional
    if rms:
        return Program(lambda: functional.rms_norm(x, (cols,), gamma, EPSILON), compare)
    return Program(lambda: functional.layer_norm(x, (cols,), gamma, beta, EPSILON), compare)


def _norm_backward(bench: Bench, own: bool) -> Program:
    """Gradients of the input, gamma and beta from the statistics of the forward pass."""
    torch, cols = bench.torch, bench.shape["cols"]
    rms = bench.op == "rmsnorm_backward"
    x = bench.normal(bench.shape["rows"], cols)
    gamma, beta, dy = bench.normal(cols), bench.normal(cols), bench.normal(*x.shape)
    wide = x.double()
    mean = torch.zeros_like(wide[:, :1]) if rms else wide.mean(-1, keepdim=True)
    scale = ((wide - mean) ** 2).mean(-1, keepdim=True).add(EPSILON).rsqrt()
    del wide
    keep = torch.float64 if x.dtype == torch.float64 else torch.float32
    m, s = mean.to(keep), scale.to(keep)
    part = _some(x.shape[0])

    def compare(out: Any) -> Pairs:
        hat, g = (x[part].double() - mean[part]) * scale[part], dy[part].double()
        h = g * gamma.double()
        centre = 0 if rms else h.mean(-1, keepdim=True)
        yield "the input's gradient", out[0][part], (h - centre - hat * (h * hat).mean(-1, keepdim=True)) * scale[part]
        if x.numel() <= 1 << 26:
            every = (x.double() - mean) * scale
            yield "gamma's gradient", out[1], (dy.double() * every).sum(0)
            if not rms:
                yield "beta's gradient", out[2], dy.double().sum(0)

    if own:
        from perfmodel.measure import kernels

        return Program(lambda: kernels.layernorm_backward(dy, x, gamma, m, s), compare)
    aten = torch.ops.aten
    if rms:
        return Program(lambda: aten._fused_rms_norm_backward(dy, x, (cols,), s, gamma, [True, True]), compare)
    every = [True, True, True]
    return Program(lambda: aten.native_layer_norm_backward(dy, x, (cols,), m, s, gamma, beta, every), compare)


_PROGRAMS = {
    "softmax": _softmax,
    "softmax_backward": _softmax_backward,
    "masked_softmax": _masked_softmax,
    "masked_softmax_backward": _masked_softmax_backward,
    "layernorm": _norm,
    "rmsnorm": _norm,
    "layernorm_backward": _norm_backward,
    "rmsnorm_backward": _norm_backward,
}
_MASKED = ("masked_softmax", "masked_softmax_backward")
