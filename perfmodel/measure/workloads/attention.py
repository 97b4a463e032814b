"""Attention by torch: each backend of scaled_dot_product_attention, and the eager stages."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from perfmodel.measure.program import Pairs, Program
from perfmodel.measure.workloads import Bench
from perfmodel.measure.workloads.references import attention_back, probabilities

BACK_ENDS = {
    "flash": "FLASH_ATTENTION",
    "cudnn": "CUDNN_ATTENTION",
    "efficient": "EFFICIENT_ATTENTION",
    "math": "MATH",
}
STACKS = ("serving", "paged")
ROWS_CHECKED = 64
GRADIENTS_UP_TO = 4096


def build(bench: Bench) -> Program:
    """Attention of q (B, H, N, d) over k and v (B, H_kv, S, d): forward, or forward and backward."""
    B, H, H_kv, N, S, d = _sizes(bench)
    q = bench.normal(B, H, N, d)
    k, v = (bench.normal(B, H_kv, S, d) for _ in range(2))
    forward = attend(bench, H // H_kv)
    if bench.direction == "forward":
        return Program(lambda: forward(q, k, v), lambda out: _forward_part(bench, out, q, k, v))
    for tensor in (q, k, v):
        tensor.requires_grad_()
    dout = bench.normal(*q.shape)
    gradient = bench.torch.autograd.grad
    if bench.direction == "backward":
        raise bench.refuse("no program measures the backward pass alone", "forward and forward_backward are accepted")

    def both() -> Any:
        out = forward(q, k, v)
        return out, *gradient(out, (q, k, v), dout)

    return Program(both, lambda found: _both_parts(bench, found, q, k, v, dout))


def _sizes(bench: Bench) -> tuple[int, ...]:
    """Returns B, H, H_kv, N, S and d. Defaults for operations without some of them: one query, S = N, H_kv = H, d = D /
    H.
    """
    size = bench.shape
    N, H = size.get("N", 1), size["H"]
    d = size["d"] if "d" in size else size["D"] // H
    return size["B"], H, size.get("H_kv", H), N, size.get("S", N), d


def attend(bench: Bench, group: int) -> Callable[[Any, Any, Any], Any]:
    """Returns the implementation that the case names, as a function of q, k and v."""
    torch, causal = bench.torch, bench.causal
    impl = bench.impl
    if impl in STACKS:
        raise bench.refuse(
            f"'{impl}' is the kernel of a serving stack, which torch does not have",
            f"{', '.join((*BACK_ENDS, 'naive', 'torch'))} are accepted",
        )
    if impl == "naive":
        return lambda q, k, v: _stages(torch, q, k, v, causal)
    sdpa = torch.nn.functional.scaled_dot_product_attention
    if impl == "torch":
        return lambda q, k, v: sdpa(q, k, v, is_causal=causal, enable_gqa=group > 1)
    from torch.nn.attention import SDPBackend, sdpa_kernel

    back_end = getattr(SDPBackend, BACK_ENDS[impl])

    def run(q: Any, k: Any, v: Any) -> Any:
        with sdpa_kernel(back_end):
            return sdpa(q, k, v, is_causal=causal, enable_gqa=group > 1)

    return run


def _stages(torch: Any, q: Any, k: Any, v: Any, causal: bool) -> Any:
    """Scores, scale, mask, softmax and weighted sum as separate kernels.

    Query heads that share a key head are stacked into rows, so grouped-query attention does not copy k and v.
    """
    B, H, N, d = q.shape
    H_kv, S = k.shape[1], k.shape[2]
    rows = q.reshape(B, H_kv, H // H_kv * N, d)
    scores = (rows @ k.transpose(-2, -1)) * d**-0.5
    if causal:
        hidden = torch.ones(N, S, dtype=torch.bool, device=q.device).triu(S - N + 1)
        scores = scores.view(B, H_kv, H // H_kv, N, S).masked_fill(hidden, float("-inf")).view(scores.shape)
    return (torch.softmax(scores, -1) @ v).view(B, H, N, d)


def _forward_part(bench: Bench, out: Any, q: Any, k: Any, v: Any) -> Pairs:
    """Compares some rows of the first and the last head."""
    group, first = q.shape[1] // k.shape[1], _first(bench, q, k)
    chosen = bench.torch.arange(0, q.shape[2], max(1, q.shape[2] // ROWS_CHECKED), device=q.device)
    for b, h in {(0, 0), (q.shape[0] - 1, q.shape[1] - 1)}:
        p = probabilities(bench.torch, q[b, h, chosen].double(), k[b, h // group].double(), chosen, first)
        yield "the attention", out[b, h, chosen], p @ v[b, h // group].double()


def _first(bench: Bench, q: Any, k: Any) -> int | None:
    """The last key that the first query sees under a causal mask; None without one.

    The mask of torch is aligned to the first key, even if N and S differ.
    """
    if not bench.causal:
        return None
    return k.shape[2] - q.shape[2] if _aligned_right(bench) else 0


def _aligned_right(bench: Bench) -> bool:
    """Whether the causal mask is aligned to the last key, as in our stages, so that the last query sees every key."""
    return bench.impl == "naive"


def _both_parts(bench: Bench, found: Any, q: Any, k: Any, v: Any, dout: Any) -> Pairs:
    yield from _forward_part(bench, found[0].detach(), q.detach(), k.detach(), v.detach())
    if max(q.shape[2], k.shape[2]) > GRADIENTS_UP_TO:
        return
    wide_q, wide_k, wide_v, wide_dout = (t[0].detach().double() for t in (q, k, v, dout))
    wanted: list[Any] = [[], 0, 0]
    for h in range(q.shape[1] // k.shape[1]):  # the heads that share the first key head
        dq, dk, dv = attention_back(bench.torch, wide_q[h], wide_k[0], wide_v[0], wide_dout[h], _first(bench, q, k))
        wanted = [[*wanted[0], dq], wanted[1] + dk, wanted[2] + dv]
    for name, got, want in zip(("q", "k", "v"), found[1:], (wanted[0], [wanted[1]], [wanted[2]]), strict=True):
        for h, one in enumerate(want):
            yield f"the gradient of {name}", got[0, h], one
