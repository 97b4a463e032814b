"""The backward pass of attention, with stored probabilities or with recomputed scores.

From dO the gradients are dV = P^T dO, dP = dO V^T, dS = P (dP - rowsum(dO O)), dQ = dS K and dK = dS^T Q. These are
four products of the size of the forward pass's two: twice its matmul FLOPs, and 3 times with the forward pass. A kernel
that did not store P recomputes q k^T first: five products instead of two, 5/2, and 7/2 with the forward pass. The
factor 1/sqrt(d) is one multiplication per score. It belongs to the kernels of dQ and dK, or is applied once where one
kernel computes both.
"""

from __future__ import annotations

from perfmodel.arithmetic import Size, visible_keys, visible_pairs
from perfmodel.mixes import SCALE, SOFTMAX_AGAIN, SOFTMAX_GRADIENT, SOFTMAX_GRADIENT_WITH_SUM
from perfmodel.op import MULTIPLY_ADD, Engine, Op, Tensor, Work, contract, each
from perfmodel.operation import GROUPED, PROMPT, Example, operation
from perfmodel.runs import Heads, Stages


@operation(
    summary="gradients of attention from stored probabilities",
    example=Example(
        at={"B": 1, "H": 2, "H_kv": 1, "N": 3, "S": 4, "d": 8},
        flops=1680,
        traffic=592,
        because="2 heads x 12 pairs x (4 products of 16, 4 for the softmax and a scale each for dq and dk); q, dq, dout 48 elements each, "
        "k, v, dk, dv 32 each, probabilities 24: 296, 2 bytes each; unfused: five kernels, 488 elements",
        unfused=976,
    ),
    sources=("Dao et al. 2022, appendix B.2", "Vaswani et al. 2017, eq. 1, differentiated"),
    valid=(GROUPED, PROMPT),
)
def attention_backward(B: Size, H: Size, H_kv: Size, N: Size, S: Size, d: Size, causal: Size = 0, W: Size = None,
                       act: Size = 2, cache: Size = 2) -> Op:  # fmt: skip
    """Reads the N S probabilities that the forward pass stored. Unfused, dP and dS move through memory too.

    With a window, dk and dv are written only for keys that some query sees. The caller clears the rest to zero.
    """
    keys = visible_keys(N, S, causal, W)
    pairs = visible_pairs(N, S, causal, W)
    product = contract(B, H, pairs, d)
    query, key, square = (B, H, N, d), (B, H_kv, keys, d), (B, H, N, S)
    stages = Stages(B, H, H_kv, N, S, d, d, causal, W, act, cache)
    return Op(
        tensors=(
            Tensor("dout", query, act, reads=1),
            Tensor("q", query, act, reads=1),
            Tensor("k", key, cache, reads=1),
            Tensor("v", key, cache, reads=1),
            Tensor("probs", square, act, reads=1),
            Tensor("dprobs", square, act, reads=1, writes=1, spill=True),
            Tensor("dscores", square, act, reads=2, writes=1, spill=True),
            Tensor("dq", query, act, writes=1),
            Tensor("dk", key, act, writes=1),
            Tensor("dv", key, act, writes=1),
        ),
        work=(
            Work("dv", product, Engine.TENSOR, reads=("probs", "dout"), writes=("dv",), runs=stages.dv),
            Work("dprobs", product, Engine.TENSOR, reads=("dout", "v"), writes=("dprobs",), runs=stages.dprobs),
            Work("softmax gradient", each(SOFTMAX_GRADIENT, B, H, pairs), Engine.VECTOR,
                 reads=("probs", "dprobs"), writes=("dscores",), runs=stages.dscores),
            Work("dq", product, Engine.TENSOR, reads=("dscores", "k"), writes=("dq",), runs=stages.dq),
            Work("scale dq", each(SCALE, B, H, pairs), Engine.VECTOR),
            Work("dk", product, Engine.TENSOR, reads=("dscores", "q"), writes=("dk",), runs=stages.dk),
            Work("scale dk", each(SCALE, B, H, pairs), Engine.VECTOR),
        ),
        runs=Heads(B, H, H_kv, N, S, d, d, causal, W, act, cache, backward=True),
    )  # fmt: skip


@operation(
    summary="gradients of attention in one kernel that recomputes the scores (FlashAttention)",
    example=Example(
        at={"B": 1, "H": 2, "H_kv": 1, "N": 3, "S": 4, "d": 8},
        flops=2160,
        traffic=664,
        because="2 heads x 12 pairs x (5 products of 16, 3 to scale and recompute, 3 for the gradient and its scale) = 2064, and 48 outputs x 2 "
        "for the row sums; q, dq, out, dout 48 elements each, k, v, dk, dv 32 each: 320 of 2 bytes; 6 rows of 4 bytes",
    ),
    sources=("Dao et al. 2022, algorithm 4", "Dao 2023, section 3.1"),
    valid=(GROUPED, PROMPT),
)
def attention_backward_recompute(B: Size, H: Size, H_kv: Size, N: Size, S: Size, d: Size, causal: Size = 0,
                                 W: Size = None, act: Size = 2, cache: Size = 2, acc: Size = 4) -> Op:  # fmt: skip
    """No tensor of N S elements. One number per row, the log of its sum, replaces the probabilities."""
    keys = visible_keys(N, S, causal, W)
    pairs = visible_pairs(N, S, causal, W)
    product = contract(B, H, pairs, d)
    query, key = (B, H, N, d), (B, H_kv, keys, d)
    return Op(
        tensors=(
            Tensor("dout", query, act, reads=1),
            Tensor("out", query, act, reads=1),
            Tensor("q", query, act, reads=1),
            Tensor("k", key, cache, reads=1),
            Tensor("v", key, cache, reads=1),
            Tensor("logsumexp", (B, H, N), acc, reads=1),
            Tensor("dq", query, act, writes=1),
            Tensor("dk", key, act, writes=1),
            Tensor("dv", key, act, writes=1),
        ),
        work=(
            Work("row sums of dout·out", each(MULTIPLY_ADD, B, H, N, d), Engine.VECTOR),
            Work("scores again", product, Engine.TENSOR),
            Work("scale again", each(SCALE, B, H, pairs), Engine.VECTOR),
            Work("probabilities again", each(SOFTMAX_AGAIN, B, H, pairs), Engine.VECTOR),
            Work("dv", product, Engine.TENSOR),
            Work("dprobs", product, Engine.TENSOR),
            Work("softmax gradient", each(SOFTMAX_GRADIENT_WITH_SUM, B, H, pairs), Engine.VECTOR),
            Work("scale", each(SCALE, B, H, pairs), Engine.VECTOR),
            Work("dq", product, Engine.TENSOR),
            Work("dk", product, Engine.TENSOR),
        ),
        runs=Heads(B, H, H_kv, N, S, d, d, causal, W, act, cache, backward=True),
    )
