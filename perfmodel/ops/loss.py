"""Cross-entropy over the vocabulary: a softmax, of which only the target's logarithm is kept.

Fused, it reads the logits once. As eager code runs it, a log-softmax stores all logarithms, and the loss picks one per
row; backward, a matrix of zeros with one element per row is read by the gradient of the log-softmax.
"""

from __future__ import annotations

from perfmodel.arithmetic import Size
from perfmodel.mixes import (
    CROSS_ENTROPY,
    CROSS_ENTROPY_GRADIENT,
    CROSS_ENTROPY_GRADIENT_ROW,
    CROSS_ENTROPY_ROW,
    DIFFERENCE,
    LOG_SOFTMAX,
    LOG_SOFTMAX_GRADIENT,
    LOG_SOFTMAX_ROW,
    SCALE,
)
from perfmodel.op import Engine, Op, Tensor, Work, each
from perfmodel.operation import Backward, Example, operation
from perfmodel.runs import Picked, Rows


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
    """Reads the logits once and writes one number per row, the log of the sum, for the backward pass."""
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
    """Recomputes the probabilities from the logits and the stored log of their sum."""
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


@operation(
    summary="y = x - log of the sum of exp(x), of each row",
    example=Example(
        at={"rows": 2, "cols": 5},
        flops=52,
        traffic=40,
        because="10 scores x (max, 2 subtractions, exp, addition), 2 logarithms; 10 elements read and 10 written, 2 bytes each",
    ),
    sources=("Goodfellow et al. 2016, section 6.2.2",),
    backward=(Backward("log_softmax_backward", (("act", "out"), ("out", "act"))),),
)
def log_softmax(rows: Size, cols: Size, act: Size = 2, out: Size = 2) -> Op:
    """The largest score is subtracted first, then the log of the sum."""
    return Op(
        tensors=(Tensor("x", (rows, cols), act, reads=1), Tensor("y", (rows, cols), out, writes=1)),
        work=(
            Work("scores", each(LOG_SOFTMAX, rows, cols), Engine.VECTOR),
            Work("rows", each(LOG_SOFTMAX_ROW, rows), Engine.VECTOR),
        ),
        runs=Rows("log_softmax", rows, cols, act, result=out),
    )


@operation(
    summary="gradient of a log-softmax: dx = dy - exp(y) x sum of dy",
    example=Example(
        at={"rows": 2, "cols": 5},
        flops=40,
        traffic=60,
        because="10 x (addition, exp, multiplication, subtraction); y, dy read and dx written, 2 bytes each",
    ),
    sources=("Goodfellow et al. 2016, section 6.2.2, differentiated",),
)
def log_softmax_backward(rows: Size, cols: Size, act: Size = 2, out: Size = 2) -> Op:
    """Reads y and dy in the item size of the forward result, and writes dx in that of the logits."""
    shape = (rows, cols)
    return Op(
        tensors=(
            Tensor("y", shape, act, reads=1),
            Tensor("dy", shape, act, reads=1),
            Tensor("dx", shape, out, writes=1),
        ),
        work=(Work("gradient", each(LOG_SOFTMAX_GRADIENT, rows, cols), Engine.VECTOR),),
        runs=Rows("log_softmax", rows, cols, act, backward=True, result=out),
    )


@operation(
    summary="loss = - sum of the log-probabilities at the targets",
    example=Example(
        at={"rows": 2, "cols": 5},
        flops=2,
        traffic=22,
        because="2 subtractions; 2 targets of 8 bytes and 2 elements of 2 read, 1 element of 2 written",
    ),
    sources=("Goodfellow et al. 2016, section 6.2.2",),
    backward=(Backward("nll_loss_backward"),),
)
def nll_loss(rows: Size, cols: Size, act: Size = 2, index: Size = 8) -> Op:
    """Reads one element of each row. The one division of a mean is not counted."""
    return Op(
        tensors=(
            Tensor("targets", (rows,), index, reads=1),
            Tensor("picked", (rows,), act, reads=1),
            Tensor("loss", (1,), act, writes=1),
        ),
        work=(Work("sum", each(DIFFERENCE, rows), Engine.VECTOR),),
        runs=Picked(rows, cols, act),
    )


@operation(
    summary="gradient of the sum of log-probabilities: zeros, and one element per row",
    example=Example(
        at={"rows": 2, "cols": 5},
        flops=2,
        traffic=40,
        because="2 multiplications; 2 targets of 8 bytes read; 10 zeros and 2 elements written, 2 bytes each",
    ),
    sources=("Goodfellow et al. 2016, section 6.2.2, differentiated",),
)
def nll_loss_backward(rows: Size, cols: Size, act: Size = 2, index: Size = 8) -> Op:
    """All rows x cols elements are cleared, then one per row is written."""
    return Op(
        tensors=(
            Tensor("targets", (rows,), index, reads=1),
            Tensor("dx", (rows, cols), act, writes=1),
            Tensor("picked", (rows,), act, write_elements=rows),
        ),
        work=(Work("scale", each(SCALE, rows), Engine.VECTOR),),
        runs=Picked(rows, cols, act, backward=True),
    )
