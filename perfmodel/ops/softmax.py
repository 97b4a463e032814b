"""Softmax over rows, with the mask before it and the dropout after it.

A row of C scores becomes exp(x - max) / sum. Each score needs one comparison for the maximum, one subtraction, one
exponential, one addition to the sum and one division: 5 FLOPs. A count of 3 omits the maximum and the subtraction; the
list of primitives allows both. A kernel that keeps a row on chip reads and writes it once.
"""

from __future__ import annotations

from perfmodel.arithmetic import Size
from perfmodel.mixes import DROP, SCALE, SOFTMAX, SOFTMAX_GRADIENT, SUM
from perfmodel.op import Engine, Op, Tensor, Work, each
from perfmodel.operation import Backward, Example, operation
from perfmodel.runs import Rows, Stream


@operation(
    summary="softmax of each row",
    example=Example(
        at={"rows": 3, "cols": 4},
        flops=60,
        traffic=48,
        because="12 scores x (max, subtract, exp, add, divide); 12 elements read and 12 written, 2 bytes each",
    ),
    sources=("Milakov and Gimelshein 2018",),
    backward=(Backward("softmax_backward"),),
)
def softmax(rows: Size, cols: Size, act: Size = 2) -> Op:
    """5 FLOPs and, in fp16, 4 bytes per score: memory-bound on every card. The division is by the row's shared sum."""
    return Op(
        tensors=(Tensor("x", (rows, cols), act, reads=1), Tensor("y", (rows, cols), act, writes=1)),
        work=(Work("softmax", each(SOFTMAX, rows, cols), Engine.VECTOR),),
        runs=Rows("softmax", rows, cols, act),
    )


@operation(
    summary="gradient of a softmax: dx = y (dy - sum of y dy)",
    example=Example(
        at={"rows": 3, "cols": 4},
        flops=48,
        traffic=72,
        because="12 elements x (multiply and add to the row's sum, subtract, multiply); y, dy read and dx written, 2 bytes",
    ),
    sources=("Dao et al. 2022, appendix B.2",),
)
def softmax_backward(rows: Size, cols: Size, act: Size = 2) -> Op:
    """Needs the output instead of the input: y and dy of each row, read once."""
    shape = (rows, cols)
    return Op(
        tensors=(
            Tensor("y", shape, act, reads=1),
            Tensor("dy", shape, act, reads=1),
            Tensor("dx", shape, act, writes=1),
        ),
        work=(Work("gradient", each(SOFTMAX_GRADIENT, rows, cols), Engine.VECTOR),),
        runs=Rows("softmax", rows, cols, act, backward=True),
    )


@operation(
    summary="softmax(scale x + mask) of attention scores in one kernel",
    example=Example(
        at={"B": 1, "H": 2, "N": 3, "S": 4},
        flops=168,
        traffic=120,
        because="2 heads x 12 scores x (1 + 1 + 5) = 168: scale, mask, softmax; 24 scores read and 24 written and a mask of 12 "
        "elements read, 2 bytes each; as three kernels 6 x 24 scores and the mask: 156 elements",
        unfused=312,
    ),
    sources=("Vaswani et al. 2017, sections 3.2.1 and 3.2.3", "Milakov and Gimelshein 2018"),
    backward=(Backward("masked_softmax_backward"),),
)
def masked_softmax(B: Size, H: Size, N: Size, S: Size, act: Size = 2, mask: Size = 2) -> Op:
    """7 FLOPs and, in fp16, 4 bytes per score: memory-bound on every card. Hidden scores are computed as well.

    The mask has N S elements, which all B H heads share: -10000 or minus infinity where a key is hidden, 0 elsewhere.

    As three kernels, each of the B H N S scores crosses memory six times: each kernel reads it and writes it. One kernel
    scales and masks the row while it is on chip, so a score crosses memory twice. The mask is read once in both forms.
    With many heads, fusion saves 2/3 of the bytes. Every form is memory-bound, so it saves as much of the minimum time.

    The gradient of an added mask passes unchanged. So the backward kernel is that of the softmax with one more
    multiplication: a score crosses memory three times instead of five.
    """
    shape, rows = (B, H, N, S), Rows("softmax", (B, H, N), S, act)
    return Op(
        tensors=(
            Tensor("scores", shape, act, reads=1),
            Tensor("mask", (N, S), mask, reads=1),
            Tensor("scaled", shape, act, reads=1, writes=1, spill=True),
            Tensor("masked", shape, act, reads=1, writes=1, spill=True),
            Tensor("probs", shape, act, writes=1),
        ),
        work=(
            Work("scale", each(SCALE, *shape), Engine.VECTOR, reads=("scores",), writes=("scaled",), runs=Stream()),
            Work("mask", each(SUM, *shape), Engine.VECTOR, reads=("scaled", "mask"), writes=("masked",),
                 runs=Stream(special="strided", dims=2)),
            Work("softmax", each(SOFTMAX, *shape), Engine.VECTOR, reads=("masked",), writes=("probs",), runs=rows),
        ),
        runs=rows._replace(own=True, mask=(N, S, mask)),
    )  # fmt: skip


@operation(
    summary="gradient of a masked softmax for its scores, in one kernel",
    example=Example(
        at={"B": 1, "H": 2, "N": 3, "S": 4},
        flops=120,
        traffic=144,
        because="2 heads x 12 scores x (4 + 1) = 120: softmax gradient, scale; probs and dprobs read and dscores written, 24 "
        "elements each, 2 bytes; as two kernels the scale reads and writes 24 elements more each: 120 elements",
        unfused=240,
    ),
    sources=("Dao et al. 2022, appendix B.2",),
)
def masked_softmax_backward(B: Size, H: Size, N: Size, S: Size, act: Size = 2) -> Op:
    """dscores = scale probs (dprobs - sum of probs dprobs). The mask is a constant and is not read: a hidden key has the
    probability 0, and so the gradient 0.
    """
    shape, rows = (B, H, N, S), Rows("softmax", (B, H, N), S, act, backward=True)
    return Op(
        tensors=(
            Tensor("probs", shape, act, reads=1),
            Tensor("dprobs", shape, act, reads=1),
            Tensor("dscaled", shape, act, reads=1, writes=1, spill=True),
            Tensor("dscores", shape, act, writes=1),
        ),
        work=(
            Work("gradient", each(SOFTMAX_GRADIENT, *shape), Engine.VECTOR, reads=("probs", "dprobs"),
                 writes=("dscaled",), runs=rows),
            Work("scale", each(SCALE, *shape), Engine.VECTOR, reads=("dscaled",), writes=("dscores",), runs=Stream()),
        ),
        runs=rows._replace(own=True),
    )  # fmt: skip


@operation(
    summary="causal mask as an added tensor of N S elements, shared by all heads",
    example=Example(
        at={"B": 2, "H": 3, "N": 4, "S": 5},
        flops=120,
        traffic=520,
        because="2 x 3 x 4 x 5 = 120 additions; 120 scores read and written, mask 4 x 5 = 20: 260 elements, 2 bytes each",
    ),
    sources=("Vaswani et al. 2017, section 3.2.3",),
)
def causal_mask(B: Size, H: Size, N: Size, S: Size, act: Size = 2, mask: Size = 2) -> Op:
    """Adds -10000 to hidden keys. The mask of N S elements is shared by all B H heads and read once.

    The gradient of an added constant passes unchanged, so there is no backward operation.
    """
    scores = (B, H, N, S)
    return Op(
        tensors=(
            Tensor("scores", scores, act, reads=1),
            Tensor("mask", (N, S), mask, reads=1),
            Tensor("masked", scores, act, writes=1),
        ),
        work=(Work("add", each(SUM, B, H, N, S), Engine.VECTOR),),
        runs=Stream(special="strided", dims=2),
    )


@operation(
    summary="mask as an added tensor, separate for every sequence and head",
    example=Example(
        at={"B": 2, "H": 3, "N": 4, "S": 5},
        flops=120,
        traffic=720,
        because="120 additions; scores read and written and a mask of 120 elements read: 360 elements, 2 bytes each",
    ),
    sources=("Vaswani et al. 2017, section 3.2.3",),
)
def full_mask(B: Size, H: Size, N: Size, S: Size, act: Size = 2, mask: Size = 2) -> Op:
    """A mask stored at the size of the scores, B H N S elements. It adds half of the traffic of the scores."""
    scores = (B, H, N, S)
    return Op(
        tensors=(
            Tensor("scores", scores, act, reads=1),
            Tensor("mask", scores, mask, reads=1),
            Tensor("masked", scores, act, writes=1),
        ),
        work=(Work("add", each(SUM, B, H, N, S), Engine.VECTOR),),
        runs=Stream(),
    )


@operation(
    summary="dropout: sets some elements to zero and scales the others",
    example=Example(
        at={"numel": 12},
        flops=24,
        traffic=60,
        because="12 comparisons and 12 multiplications; 12 elements read, 12 written, 2 bytes each; 12 mask bytes written",
    ),
    sources=("Srivastava et al. 2014",),
    backward=(Backward("dropout_backward"),),
)
def dropout(numel: Size, act: Size = 2) -> Op:
    """Compares a random number with the rate and multiplies. Writes one byte per element for the backward pass.

    NB generating the random numbers (about ten integer operations for four of them) is not a FLOP and not counted.
    """
    return Op(
        tensors=(
            Tensor("x", (numel,), act, reads=1),
            Tensor("kept", (numel,), 1, writes=1),
            Tensor("y", (numel,), act, writes=1),
        ),
        work=(Work("drop", each(DROP, numel), Engine.VECTOR),),
        runs=Stream(special="random"),
    )


@operation(
    summary="gradient of a dropout: the kept elements, scaled",
    example=Example(
        at={"numel": 12},
        flops=12,
        traffic=60,
        because="12 multiplications; dy read and dx written, 2 bytes each; 12 mask bytes read",
    ),
    sources=("Srivastava et al. 2014",),
)
def dropout_backward(numel: Size, act: Size = 2) -> Op:
    """Reads the mask bytes that the forward pass wrote."""
    return Op(
        tensors=(
            Tensor("dy", (numel,), act, reads=1),
            Tensor("kept", (numel,), 1, reads=1),
            Tensor("dx", (numel,), act, writes=1),
        ),
        work=(Work("scale", each(SCALE, numel), Engine.VECTOR),),
        runs=Stream(),
    )
