"""Latent attention by torch: over expanded keys and values of different sizes, and over the latent itself.

``naive`` runs scores, scale, mask, softmax and weighted sum as separate kernels. ``fused`` of expanded attention is torch's
choice among its back ends, which accept values of another size than keys.
"""

from __future__ import annotations

from typing import Any

from perfmodel.measure.program import Pairs, Program
from perfmodel.measure.workloads import Bench
from perfmodel.measure.workloads.references import probabilities

ROWS_CHECKED = 64


def build(bench: Bench) -> Program:
    """Attention of q (B, H, N, d_k) over keys and values; the latent is one key and value head for all queries."""
    torch, size = bench.torch, bench.shape
    if bench.direction != "forward":
        raise bench.refuse("no program measures its backward pass", "forward is accepted")
    B, H, N, S = (size[name] for name in ("B", "H", "N", "S"))
    latent = bench.op == "mla_latent_attention"
    width, value = (size["r"] + size["d_r"], size["r"]) if latent else (size["d"] + size["d_r"], size["d_v"])
    q = bench.normal(B, H, N, width)
    if latent:
        k = bench.normal(B, 1, S, width)
        v = k[..., :value]
    else:
        k, v = bench.normal(B, H, S, width), bench.normal(B, H, S, value)

    def compare(out: Any) -> Pairs:
        chosen = torch.arange(0, N, max(1, N // ROWS_CHECKED), device=q.device)
        first = S - N if bench.causal else None
        for b, h in {(0, 0), (B - 1, H - 1)}:
            p = probabilities(torch, q[b, h, chosen].double(), k[b, h % k.shape[1]].double(), chosen, first)
            yield "the attention", out[b, h, chosen], p @ v[b, h % v.shape[1]].double()

    if bench.impl == "naive":
        return Program(lambda: _stages(torch, q, k, v, bench.causal), compare)
    if latent or (bench.causal and N != S):
        raise bench.refuse("no kernel of torch runs this attention", "naive is accepted")
    sdpa = torch.nn.functional.scaled_dot_product_attention
    return Program(lambda: sdpa(q, k, v, is_causal=bench.causal), compare)


def _stages(torch: Any, q: Any, k: Any, v: Any, causal: bool) -> Any:
    """Separate kernels. All query heads over one latent are rows of one product."""
    B, H, N, width = q.shape
    heads, S = k.shape[1], k.shape[2]
    rows = q.reshape(B, heads, H // heads * N, width)
    scores = (rows @ k.transpose(-2, -1)) * width**-0.5
    if causal and N > 1:
        hidden = torch.ones(N, S, dtype=torch.bool, device=q.device).triu(S - N + 1)
        scores = scores.view(B, H, N, S).masked_fill(hidden, float("-inf")).view(scores.shape)
    return (torch.softmax(scores, -1) @ v).view(B, H, N, v.shape[-1])
