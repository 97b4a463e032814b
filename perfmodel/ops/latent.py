"""Multi-head latent attention (MLA), which caches one latent of rank r and a rotary key of d_r per token.

A query head has d elements (compared in the latent) and d_r elements (compared after rotation); a value head has d_v.
Expanded: the latent is multiplied up to H keys of d and values of d_v. Attention then has heads of d + d_r and d_v
elements. Absorbed: queries are multiplied into the latent space, scores and sums use the latent itself, and the result
is multiplied up. A cached token takes r + d_r numbers instead of H (d + d_r + d_v), and a decoding step reads each once
for all heads.
"""

from __future__ import annotations

from perfmodel.arithmetic import Size, visible_keys, visible_pairs
from perfmodel.mixes import SCALE, SOFTMAX, SOFTMAX_AGAIN, SOFTMAX_GRADIENT, SOFTMAX_GRADIENT_WITH_SUM
from perfmodel.op import MULTIPLY_ADD, Engine, Kind, Op, Tensor, Work, contract, each
from perfmodel.operation import PROMPT, Backward, Example, operation
from perfmodel.runs import Heads, Stages


def _expanded(B: Size, H: Size, N: Size, S: Size, d: Size, d_r: Size, d_v: Size, causal: Size, W: Size, act: Size,
              cache: Size, acc: Size = 4) -> Op:  # fmt: skip
    """Attention over keys and values of every head, stored in elements of ``cache`` bytes."""
    pairs, keys = visible_pairs(N, S, causal, W), visible_keys(N, S, causal, W)
    stages = Stages(B, H, H, N, S, d + d_r, d_v, causal, W, act, cache)
    return Op(
        tensors=(
            Tensor("q", (B, H, N, d + d_r), act, reads=1),
            Tensor("k", (B, H, keys, d + d_r), cache, reads=1),
            Tensor("v", (B, H, keys, d_v), cache, reads=1),
            Tensor("scores", (B, H, N, S), act, reads=1, writes=1, spill=True),
            Tensor("probs", (B, H, N, S), act, reads=1, writes=1, spill=True),
            Tensor("out", (B, H, N, d_v), act, writes=1),
            Tensor("logsumexp", (B, H, N), acc, kept=True),
        ),
        work=(
            Work(
                "scores",
                contract(B, H, pairs, d + d_r),
                Engine.TENSOR,
                reads=("q", "k"),
                writes=("scores",),
                runs=stages.scores,
            ),
            Work("scale", each(SCALE, B, H, pairs), Engine.VECTOR),
            Work(
                "softmax",
                each(SOFTMAX, B, H, pairs),
                Engine.VECTOR,
                reads=("scores",),
                writes=("probs",),
                runs=stages.softmax,
            ),
            Work(
                "output",
                contract(B, H, pairs, d_v),
                Engine.TENSOR,
                reads=("probs", "v"),
                writes=("out",),
                runs=stages.output,
            ),
        ),
        runs=Heads(B, H, H, N, S, d + d_r, d_v, causal, W, act, cache),
    )


@operation(
    summary="attention with key heads of d + d_r and value heads of d_v",
    example=Example(
        at={"B": 1, "H": 2, "N": 3, "S": 4, "d": 4, "d_r": 2, "d_v": 5, "r": 6},
        flops=672,
        traffic=308,
        because="2 heads x 12 pairs x (12 + 1 + 5 + 10); q 36, k 48, v 40, out 30 elements, 2 bytes each; unfused adds 4 x 24",
        unfused=500,
    ),
    sources=("DeepSeek-AI 2024 (DeepSeek-V2), section 2.1",),
    valid=(PROMPT,),
    backward=(Backward("mla_attention_backward", fused="mla_attention_backward_recompute"),),
)
def mla_attention(B: Size, H: Size, N: Size, S: Size, d: Size, d_r: Size, d_v: Size, r: Size, causal: Size = 0,
                  W: Size = None, act: Size = 2, cache: Size = 2, acc: Size = 4) -> Op:  # fmt: skip
    """Expanded: ordinary attention with a different size of the value heads.

    Later tokens need the latent of r + d_r numbers per token. It does not move here.
    """
    keys = visible_keys(N, S, causal, W)
    expanded = _expanded(B, H, N, S, d, d_r, d_v, causal, W, act, act, acc)
    latent = (
        Tensor("latent", (B, 1, keys, r), cache, kind=Kind.CACHE),
        Tensor("rotary keys", (B, 1, keys, d_r), cache, kind=Kind.CACHE),
    )
    return expanded._replace(tensors=(*expanded.tensors, *latent))


@operation(
    summary="attention with key heads of d + d_r and value heads of d_v, kept after the expansion",
    example=Example(
        at={"B": 1, "H": 2, "N": 1, "S": 4, "d": 4, "d_r": 2, "d_v": 5},
        flops=224,
        traffic=220,
        because="2 heads x 4 pairs x (12 + 1 + 5 + 10); q 12, k 48, v 40, out 10 elements, 2 bytes each; unfused adds 4 x 8",
        unfused=284,
    ),
    sources=("DeepSeek-AI 2024 (DeepSeek-V2), section 2.1",),
    valid=(PROMPT,),
)
def mla_cached_attention(B: Size, H: Size, N: Size, S: Size, d: Size, d_r: Size, d_v: Size, causal: Size = 0,
                         W: Size = None, act: Size = 2, cache: Size = 2) -> Op:  # fmt: skip
    """The cache holds keys and values of every head, H (d + d_r + d_v) numbers per token, instead of the latent."""
    expanded = _expanded(B, H, N, S, d, d_r, d_v, causal, W, act, cache)
    kept = ("k", "v")
    tensors = (tensor._replace(kind=Kind.CACHE) if tensor.name in kept else tensor for tensor in expanded.tensors)
    return expanded._replace(tensors=tuple(tensors))


@operation(
    summary="attention over the latent itself, up-projections absorbed",
    example=Example(
        at={"B": 1, "H": 2, "N": 1, "S": 4, "r": 6, "d_r": 2},
        flops=272,
        traffic=120,
        because="2 heads x 4 pairs x (16 + 1 + 5 + 12); q 16, latent 24, rotary keys 8, out 12 elements, 2 bytes each; unfused "
        "reads the latent again, 24, and adds 4 x 8 scores",
        unfused=232,
    ),
    sources=("DeepSeek-AI 2024 (DeepSeek-V2), appendix on absorption",),
    valid=(PROMPT,),
)
def mla_latent_attention(B: Size, H: Size, N: Size, S: Size, r: Size, d_r: Size, causal: Size = 0, W: Size = None,
                         act: Size = 2, cache: Size = 2) -> Op:  # fmt: skip
    """Multi-query attention with one key of r + d_r and one value of r per token. The value is the first part of the
    key.
    """
    pairs, keys = visible_pairs(N, S, causal, W), visible_keys(N, S, causal, W)
    stages = Stages(B, H, 1, N, S, r + d_r, r, causal, W, act, cache)
    return Op(
        tensors=(
            Tensor("q", (B, H, N, r + d_r), act, reads=1),
            Tensor("latent", (B, 1, keys, r), cache, reads=1, kind=Kind.CACHE),
            Tensor("rotary keys", (B, 1, keys, d_r), cache, reads=1, kind=Kind.CACHE),
            Tensor("scores", (B, H, N, S), act, reads=1, writes=1, spill=True),
            Tensor("probs", (B, H, N, S), act, reads=1, writes=1, spill=True),
            Tensor("out", (B, H, N, r), act, writes=1),
        ),
        work=(
            Work("scores", contract(B, H, pairs, r + d_r), Engine.TENSOR,
                 reads=("q", "latent", "rotary keys"), writes=("scores",), runs=stages.scores),
            Work("scale", each(SCALE, B, H, pairs), Engine.VECTOR),
            Work("softmax", each(SOFTMAX, B, H, pairs), Engine.VECTOR, reads=("scores",), writes=("probs",), runs=stages.softmax),
            Work("output", contract(B, H, pairs, r), Engine.TENSOR, reads=("probs", "latent"), writes=("out",), runs=stages.output),
        ),
        runs=Heads(B, H, 1, N, S, r + d_r, r, causal, W, act, cache, shared=True),
    )  # fmt: skip


@operation(
    summary="gradients of expanded latent attention, from stored probabilities",
    example=Example(
        at={"B": 1, "H": 2, "N": 3, "S": 4, "d": 4, "d_r": 2, "d_v": 5},
        flops=1200,
        traffic=604,
        because="2 heads x 12 pairs x (2 products of 12 and 2 of 10, 4 for the softmax and 2 scales); dout 30, q, dq 36, k, dk 48, v, "
        "dv 40, probabilities 24: 302 elements, 2 bytes each; unfused: five kernels of 94, 94, 72, 108, 108",
        unfused=952,
    ),
    sources=("Dao et al. 2022, appendix B.2",),
    valid=(PROMPT,),
)
def mla_attention_backward(B: Size, H: Size, N: Size, S: Size, d: Size, d_r: Size, d_v: Size, causal: Size = 0,
                           W: Size = None, act: Size = 2) -> Op:  # fmt: skip
    """Two products over d + d_r (dq, dk) and two over d_v (dv, dprobs). Unfused, the N S matrices move through memory."""
    pairs, keys = visible_pairs(N, S, causal, W), visible_keys(N, S, causal, W)
    long, short = contract(B, H, pairs, d + d_r), contract(B, H, pairs, d_v)
    q, k, v, square = (B, H, N, d + d_r), (B, H, keys, d + d_r), (B, H, keys, d_v), (B, H, N, S)
    stages = Stages(B, H, H, N, S, d + d_r, d_v, causal, W, act, act)
    return Op(
        tensors=(
            Tensor("dout", (B, H, N, d_v), act, reads=1),
            Tensor("q", q, act, reads=1),
            Tensor("k", k, act, reads=1),
            Tensor("v", v, act, reads=1),
            Tensor("probs", square, act, reads=1),
            Tensor("dprobs", square, act, reads=1, writes=1, spill=True),
            Tensor("dscores", square, act, reads=2, writes=1, spill=True),
            Tensor("dq", q, act, writes=1),
            Tensor("dk", k, act, writes=1),
            Tensor("dv", v, act, writes=1),
        ),
        work=(
            Work("dv", short, Engine.TENSOR, reads=("probs", "dout"), writes=("dv",), runs=stages.dv),
            Work("dprobs", short, Engine.TENSOR, reads=("dout", "v"), writes=("dprobs",), runs=stages.dprobs),
            Work("softmax gradient", each(SOFTMAX_GRADIENT, B, H, pairs), Engine.VECTOR,
                 reads=("probs", "dprobs"), writes=("dscores",), runs=stages.dscores),
            Work("dq", long, Engine.TENSOR, reads=("dscores", "k"), writes=("dq",), runs=stages.dq),
            Work("scale dq", each(SCALE, B, H, pairs), Engine.VECTOR),
            Work("dk", long, Engine.TENSOR, reads=("dscores", "q"), writes=("dk",), runs=stages.dk),
            Work("scale dk", each(SCALE, B, H, pairs), Engine.VECTOR),
        ),
        runs=Heads(B, H, H, N, S, d + d_r, d_v, causal, W, act, act, backward=True),
    )  # fmt: skip


@operation(
    summary="gradients of expanded latent attention, the scores recomputed",
    example=Example(
        at={"B": 1, "H": 2, "N": 3, "S": 4, "d": 4, "d_r": 2, "d_v": 5},
        flops=1548,
        traffic=640,
        because="2 heads x 12 pairs x (3 products of 12 and 2 of 10, 3 to scale and recompute, 3 for the gradient and its scale) = 1488, "
        "30 outputs x 2; dout, out 30, q, dq 36, k, dk 48, v, dv 40 elements each, 2 bytes: 616; 6 rows of 4 bytes",
    ),
    sources=("Dao et al. 2022, algorithm 4",),
    valid=(PROMPT,),
)
def mla_attention_backward_recompute(B: Size, H: Size, N: Size, S: Size, d: Size, d_r: Size, d_v: Size, causal: Size = 0,
                           W: Size = None, act: Size = 2, acc: Size = 4) -> Op:  # fmt: skip
    """Three products over d + d_r (recomputed scores, dq, dk) and two over d_v (dv, dprobs)."""
    pairs, keys = visible_pairs(N, S, causal, W), visible_keys(N, S, causal, W)
    long, short = contract(B, H, pairs, d + d_r), contract(B, H, pairs, d_v)
    q, k, v, out = (B, H, N, d + d_r), (B, H, keys, d + d_r), (B, H, keys, d_v), (B, H, N, d_v)
    return Op(
        tensors=(
            Tensor("dout", out, act, reads=1),
            Tensor("out", out, act, reads=1),
            Tensor("q", q, act, reads=1),
            Tensor("k", k, act, reads=1),
            Tensor("v", v, act, reads=1),
            Tensor("logsumexp", (B, H, N), acc, reads=1),
            Tensor("dq", q, act, writes=1),
            Tensor("dk", k, act, writes=1),
            Tensor("dv", v, act, writes=1),
        ),
        work=(
            Work("row sums of dout·out", each(MULTIPLY_ADD, B, H, N, d_v), Engine.VECTOR),
            Work("scores again", long, Engine.TENSOR),
            Work("scale again", each(SCALE, B, H, pairs), Engine.VECTOR),
            Work("probabilities again", each(SOFTMAX_AGAIN, B, H, pairs), Engine.VECTOR),
            Work("dv", short, Engine.TENSOR),
            Work("dprobs", short, Engine.TENSOR),
            Work("softmax gradient", each(SOFTMAX_GRADIENT_WITH_SUM, B, H, pairs), Engine.VECTOR),
            Work("scale", each(SCALE, B, H, pairs), Engine.VECTOR),
            Work("dq", long, Engine.TENSOR),
            Work("dk", long, Engine.TENSOR),
        ),
        runs=Heads(B, H, H, N, S, d + d_r, d_v, causal, W, act, act, backward=True),
    )
