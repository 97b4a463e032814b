"""Cross-entropy over the vocabulary: a softmax, of which only the target's logarithm is kept."""

from __future__ import annotations

from perfmodel.arithmetic import Size
from perfmodel.mixes import (
    CROSS_ENTROPY,
    CROSS_ENTROPY_GRADIENT,
    CROSS_ENTROPY_GRADIENT_ROW,
    CROSS_ENTROPY_ROW,
)
from perfmodel.op import Engine, Op, Tensor, Work, each
from perfmodel.operation import Backward, Example, operation
from perfmodel.runs import Rows


@operation(
    summary="-log softmax at the target, averaged over tokens",
    example=Example(
        at={"B": 1, "N": 2, "V": 5},
        flops=46,
        traffic=52,
        because="10 logits x 4, 2 rows x 3; 10 logits of 2 bytes, 2 targets of 8, 2 losses and 2 logsumexps of 4",
    ),
    sources=("Goodfellow et al. 2016, section 6.2.2",),
    backward=(Backward("cross_entropy_backward"),),
)
def cross_entropy(B: Size, N: Size, V: Size, act: Size = 2, acc: Size = 4, index: Size = 8) -> Op:
    """Reads the logits once and keeps one number per row, the log of the sum, for the backward pass."""
    return Op(
        tensors=(
            Tensor("logits", (B, N, V), act, reads=1),
            Tensor("targets", (B, N), index, reads=1),
            Tensor("loss", (B, N), acc, writes=1),
            Tensor("logsumexp", (B, N), acc, writes=1),
        ),
        work=(
            Work("logits", each(CROSS_ENTROPY, B, N, V), Engine.VECTOR),
            Work("rows", each(CROSS_ENTROPY_ROW, B, N), Engine.VECTOR),
        ),
        runs=Rows("cross_entropy", (B, N), V, act),
    )


@operation(
    summary="gradient of the cross-entropy: (softmax - 1 at the target) / tokens",
    example=Example(
        at={"B": 1, "N": 2, "V": 5},
        flops=32,
        traffic=64,
        because="10 logits x 3, 2 rows x 1; 10 logits read and 10 gradients written, 2 bytes each; 2 targets of 8 bytes, 2 "
        "logsumexps of 4",
    ),
    sources=("Goodfellow et al. 2016, section 6.2.2",),
)
def cross_entropy_backward(B: Size, N: Size, V: Size, act: Size = 2, acc: Size = 4, index: Size = 8) -> Op:
    """The probabilities again, from the logits and the stored log of their sum."""
    return Op(
        tensors=(
            Tensor("logits", (B, N, V), act, reads=1),
            Tensor("targets", (B, N), index, reads=1),
            Tensor("logsumexp", (B, N), acc, reads=1),
            Tensor("dlogits", (B, N, V), act, writes=1),
        ),
        work=(
            Work("logits", each(CROSS_ENTROPY_GRADIENT, B, N, V), Engine.VECTOR),
            Work("rows", each(CROSS_ENTROPY_GRADIENT_ROW, B, N), Engine.VECTOR),
        ),
        runs=Rows("cross_entropy", (B, N), V, act, backward=True),
    )
