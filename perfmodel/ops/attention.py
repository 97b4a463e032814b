"""Attention, stage by stage and as a whole.

Each of the B H pairs of a sequence and a query head scores N queries against S keys. q k^T / sqrt(d) is a product of
(N, d) by (d, S), so N S d multiply-adds. The softmax works on the N S scores. The weighted sum of the values is a
product of (N, S) by (S, d), again N S d multiply-adds.

Stage by stage, the N S scores move through memory four times: written, read and written by the softmax, and read. In
one kernel they stay on chip. Only q, k, v and the output move, N + S rows per head instead of N S.
"""

from __future__ import annotations

from perfmodel.arithmetic import Size, exact_div, visible_keys, visible_pairs
from perfmodel.mixes import SCALE, SOFTMAX
from perfmodel.op import Engine, Kind, Op, Tensor, Work, contract, each
from perfmodel.operation import GROUPED, PROMPT, Backward, Example, Valid, operation
from perfmodel.runs import Heads, Stages


@operation(
    summary="QKᵀ/√d, the division fused, per head",
    example=Example(
        at={"B": 1, "H": 2, "H_kv": 1, "N": 3, "S": 4, "d": 8},
        flops=408,
        traffic=208,
        because="2 heads x 12 pairs x (8 multiply-adds = 16, and 1 scale); q 48, k 32, scores 24 elements, 2 bytes each",
    ),
    sources=("Vaswani et al. 2017, eq. 1",),
    valid=(GROUPED, PROMPT),
    backward=(Backward("scores_backward"),),
)
def scores(B: Size, H: Size, H_kv: Size, N: Size, S: Size, d: Size, causal: Size = 0, W: Size = None,
           act: Size = 2, cache: Size = 2) -> Op:  # fmt: skip
    """Scores of every query of every head for the visible keys. A mask does not shrink the stored N x S matrix."""
    keys = visible_keys(N, S, causal, W)
    pairs = visible_pairs(N, S, causal, W)
    return Op(
        tensors=(
            Tensor("q", (B, H, N, d), act, reads=1),
            Tensor("k", (B, H_kv, keys, d), cache, reads=1, kind=Kind.CACHE),
            Tensor("scores", (B, H, N, S), act, writes=1),
        ),
        work=(
            Work("scores", contract(B, H, pairs, d), Engine.TENSOR),
            Work("scale", each(SCALE, B, H, pairs), Engine.VECTOR),
        ),
        runs=Stages(B, H, H_kv, N, S, d, d, causal, W, act, cache).scores,
    )


@operation(
    summary="gradients of the scores with respect to q and k",
    example=Example(
        at={"B": 1, "H": 2, "H_kv": 1, "N": 3, "S": 4, "d": 8},
        flops=816,
        traffic=368,
        because="two products like the forward's, 2 x (2 x 12 x 16), and the scale of each gradient, 2 x 24; "
        "dscores 24, q and dq 48 each, k and dk 32 each: 184 elements, 2 bytes each",
        unfused=416,
    ),
    sources=("Vaswani et al. 2017, eq. 1, differentiated",),
    valid=(GROUPED, PROMPT),
)
def scores_backward(B: Size, H: Size, H_kv: Size, N: Size, S: Size, d: Size, causal: Size = 0, W: Size = None,
                    act: Size = 2, cache: Size = 2) -> Op:  # fmt: skip
    """dq = dscores k / sqrt(d) and dk = dscores^T q / sqrt(d), the scale folded into each."""
    keys = visible_keys(N, S, causal, W)
    pairs = visible_pairs(N, S, causal, W)
    stages = Stages(B, H, H_kv, N, S, d, d, causal, W, act, cache)
    return Op(
        tensors=(
            Tensor("dscores", (B, H, N, S), act, reads=1),
            Tensor("q", (B, H, N, d), act, reads=1),
            Tensor("k", (B, H_kv, keys, d), cache, reads=1),
            Tensor("dq", (B, H, N, d), act, writes=1),
            Tensor("dk", (B, H_kv, keys, d), act, writes=1),
        ),
        work=(
            Work("dq", contract(B, H, pairs, d), Engine.TENSOR, reads=("dscores", "k"), writes=("dq",), runs=stages.dq),
            Work("scale dq", each(SCALE, B, H, pairs), Engine.VECTOR),
            Work("dk", contract(B, H, pairs, d), Engine.TENSOR, reads=("dscores", "q"), writes=("dk",), runs=stages.dk),
            Work("scale dk", each(SCALE, B, H, pairs), Engine.VECTOR),
        ),
        runs=(stages.dq, stages.dk),
    )


@operation(
    summary="A V: the probabilities times the values",
    example=Example(
        at={"B": 1, "H": 2, "H_kv": 1, "N": 3, "S": 4, "d": 8},
        flops=384,
        traffic=208,
        because="2 heads x 12 pairs x 16; probabilities 24, v 32, out 48 elements, 2 bytes each",
    ),
    sources=("Vaswani et al. 2017, eq. 1",),
    valid=(GROUPED, PROMPT),
    backward=(Backward("weighted_values_backward"),),
)
def weighted_values(B: Size, H: Size, H_kv: Size, N: Size, S: Size, d: Size, causal: Size = 0, W: Size = None,
                    act: Size = 2, cache: Size = 2) -> Op:  # fmt: skip
    """Mean of the values for every query, weighted by its probabilities."""
    keys = visible_keys(N, S, causal, W)
    return Op(
        tensors=(
            Tensor("probs", (B, H, N, S), act, reads=1),
            Tensor("v", (B, H_kv, keys, d), cache, reads=1, kind=Kind.CACHE),
            Tensor("out", (B, H, N, d), act, writes=1),
        ),
        work=(Work("output", contract(B, H, visible_pairs(N, S, causal, W), d), Engine.TENSOR),),
        runs=Stages(B, H, H_kv, N, S, d, d, causal, W, act, cache).output,
    )


@operation(
    summary="gradients of A V with respect to the probabilities and the values",
    example=Example(
        at={"B": 1, "H": 2, "H_kv": 1, "N": 3, "S": 4, "d": 8},
        flops=768,
        traffic=320,
        because="two products of 2 x 12 x 16; dout 48, probs 24, v 32, dprobs 24, dv 32: 160 elements, 2 bytes each",
        unfused=416,
    ),
    sources=("Vaswani et al. 2017, eq. 1, differentiated",),
    valid=(GROUPED, PROMPT),
)
def weighted_values_backward(B: Size, H: Size, H_kv: Size, N: Size, S: Size, d: Size, causal: Size = 0,
                             W: Size = None, act: Size = 2, cache: Size = 2) -> Op:  # fmt: skip
    """dA = dO V^T and dV = A^T dO. As two kernels, each reads dO."""
    keys = visible_keys(N, S, causal, W)
    pairs = visible_pairs(N, S, causal, W)
    stages = Stages(B, H, H_kv, N, S, d, d, causal, W, act, cache)
    return Op(
        tensors=(
            Tensor("dout", (B, H, N, d), act, reads=1),
            Tensor("probs", (B, H, N, S), act, reads=1),
            Tensor("v", (B, H_kv, keys, d), cache, reads=1),
            Tensor("dprobs", (B, H, N, S), act, writes=1),
            Tensor("dv", (B, H_kv, keys, d), act, writes=1),
        ),
        work=(
            Work(
                "dprobs",
                contract(B, H, pairs, d),
                Engine.TENSOR,
                reads=("dout", "v"),
                writes=("dprobs",),
                runs=stages.dprobs,
            ),
            Work(
                "dv", contract(B, H, pairs, d), Engine.TENSOR, reads=("dout", "probs"), writes=("dv",), runs=stages.dv
            ),
        ),
        runs=(stages.dprobs, stages.dv),
    )


@operation(
    summary="softmax(QKᵀ/√d) V for grouped, causal or windowed heads",
    example=Example(
        at={"B": 1, "H": 2, "H_kv": 1, "N": 3, "S": 4, "d": 8},
        flops=912,
        traffic=320,
        because="2 heads x 12 pairs x (16 + 1 for the scale + 5 + 16); q and out 48 elements each, k and v 32 each, 2 bytes each; "
        "unfused adds 4 x 24 elements of scores and probabilities",
        unfused=512,
    ),
    sources=("Vaswani et al. 2017, eq. 1", "Dao et al. 2022, theorem 2"),
    valid=(GROUPED, PROMPT),
    backward=(Backward("attention_backward", fused="attention_backward_recompute"),),
)
def attention(B: Size, H: Size, H_kv: Size, N: Size, S: Size, d: Size, causal: Size = 0, W: Size = None,
              act: Size = 2, cache: Size = 2, acc: Size = 4) -> Op:  # fmt: skip
    """Each query attends to S keys; H / H_kv query heads share one key-value head.

    In one kernel the scores and the probabilities stay on chip. The work is the sum of the stages, including one
    multiplication by 1/sqrt(d) per score. In training the logarithm of each row's sum is written for the gradients. NB
    its logarithm and addition, two FLOPs per row, are not counted.

    NB a causal mask saves work but no bytes. Stored N x S matrices stay whole, and k and v are read except for rows
    that a window hides from every query.
    """
    keys = visible_keys(N, S, causal, W)
    pairs = visible_pairs(N, S, causal, W)
    stages = Stages(B, H, H_kv, N, S, d, d, causal, W, act, cache)
    return Op(
        tensors=(
            Tensor("q", (B, H, N, d), act, reads=1),
            Tensor("k", (B, H_kv, keys, d), cache, reads=1, kind=Kind.CACHE),
            Tensor("v", (B, H_kv, keys, d), cache, reads=1, kind=Kind.CACHE),
            Tensor("scores", (B, H, N, S), act, reads=1, writes=1, spill=True),
            Tensor("probs", (B, H, N, S), act, reads=1, writes=1, spill=True),
            Tensor("out", (B, H, N, d), act, writes=1),
            Tensor("logsumexp", (B, H, N), acc, kept=True),
        ),
        work=(
            Work(
                "scores",
                contract(B, H, pairs, d),
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
                contract(B, H, pairs, d),
                Engine.TENSOR,
                reads=("probs", "v"),
                writes=("out",),
                runs=stages.output,
            ),
        ),
        runs=Heads(B, H, H_kv, N, S, d, d, causal, W, act, cache),
    )


@operation(
    summary="attention of a model of width D split over H heads, no projections",
    example=Example(
        at={"B": 1, "N": 4, "D": 16, "H": 2},
        flops=1216,
        traffic=512,
        because="4 B N² D = 1024 for the two products, 6 B H N² = 192 for the scale and the softmax; q, k, v, out 64 elements each, "
        "2 bytes each; unfused adds 4 x 32 scores and probabilities",
        unfused=768,
    ),
    sources=("Vaswani et al. 2017, section 3.2.2",),
    valid=(Valid("D % H == 0", "the heads share the model width evenly, so H must divide D"),),
    backward=(
        Backward(
            "attention_backward", (("H_kv", "H"), ("S", "N"), ("d", "D / H")), fused="attention_backward_recompute"
        ),
    ),
)
def multi_head_attention(B: Size, N: Size, D: Size, H: Size, causal: Size = 0, W: Size = None,
                         act: Size = 2, cache: Size = 2, acc: Size = 4) -> Op:  # fmt: skip
    """Self-attention over N tokens with d = D / H. FLOPs are quadratic in N; bytes are quadratic unfused and linear
    fused.
    """
    return attention.function(B, H, H, N, N, exact_div(D, H), causal, W, act, cache, acc)


@operation(
    summary="attention of N decoder tokens over S encoder positions, no projections",
    example=Example(
        at={"B": 1, "N": 2, "S": 4, "D": 16, "H": 2},
        flops=608,
        traffic=384,
        because="4 B N S D = 512 and 6 B H N S = 96; q and out 32 elements each, k and v 64 each, 2 bytes each; "
        "unfused adds 4 x 16 elements",
        unfused=512,
    ),
    sources=("Vaswani et al. 2017, section 3.2.3",),
    valid=(Valid("D % H == 0", "the heads share the model width evenly, so H must divide D"),),
    backward=(Backward("attention_backward", (("H_kv", "H"), ("d", "D / H")), fused="attention_backward_recompute"),),
)
def cross_attention(B: Size, N: Size, S: Size, D: Size, H: Size, act: Size = 2, cache: Size = 2, acc: Size = 4) -> Op:
    """Queries of the decoder, keys and values of the encoder. N and S differ, and nothing is masked."""
    return attention.function(B, H, H, N, S, exact_div(D, H), 0, None, act, cache, acc)


@operation(
    summary="one new token attends to a cache of S tokens",
    example=Example(
        at={"B": 2, "H": 4, "H_kv": 2, "S": 8, "d": 4},
        flops=1408,
        traffic=640,
        because="2 x 4 heads x 8 pairs x (8 + 1 + 5 + 8); q and out 32 elements each, k and v 128 each: 320, 2 bytes each; "
        "unfused adds 4 x 64 elements",
        unfused=1152,
    ),
    sources=("Pope et al. 2022, section 3.3", "Shazeer 2019 (multi-query attention)"),
    valid=(GROUPED,),
)
def attention_decode(B: Size, H: Size, H_kv: Size, S: Size, d: Size, act: Size = 2, cache: Size = 2) -> Op:
    """N = 1: each cached element is read once for 2 H/H_kv FLOPs, so the intensity is near H/H_kv in fp16.

    The cache is only read. The projection writes the key and value of the new token.
    """
    return attention.function(B, H, H_kv, 1, S, d, 0, None, act, cache)
