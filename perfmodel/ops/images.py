"""Images: two-dimensional convolution with its gradients, and interpolation.

An output pixel of one channel is the dot product of a patch of C/groups x K_h x K_w inputs with a filter. A convolution
is therefore a matrix product of B h_out w_out rows by C_out columns over C/groups K_h K_w terms, 2 FLOPs each. Each of
its two gradients is a product of the same size. Positions over the padding count, as in torch's FLOP counter.
"""

from __future__ import annotations

from perfmodel.arithmetic import Size, exact_div
from perfmodel.mixes import WEIGHTED
from perfmodel.op import Engine, Kind, Op, Tensor, Work, contract, each
from perfmodel.operation import Backward, Example, Valid, operation
from perfmodel.runs import Convolution2d, Windows

GROUPED = (
    Valid("C % groups == 0", "each group has the same number of input channels, so groups must divide C"),
    Valid("C_out % groups == 0", "each group has the same number of output channels, so groups must divide C_out"),
)
TEXTBOOK = ("Dumoulin and Visin 2016 (convolution arithmetic)", "Chetlur et al. 2014 (cuDNN)")
AT = {"B": 1, "C": 2, "C_out": 3, "h": 4, "w": 4, "h_out": 4, "w_out": 4, "K_h": 3, "K_w": 3, "groups": 1}
NUMBERS = "2 x 3 x 16 pixels x 2 x 9 = 1728; x 1 x 2 x 4 x 4 = 32, y 48, filters 3 x 2 x 9 = 54 elements, 2 bytes each"


def _convolution(moved: tuple[Tensor, Tensor, Tensor], fact: Convolution2d) -> Op:
    """A product over the patches, whichever of its three tensors is the result."""
    count = contract(
        fact.B, fact.C_out, fact.h_out, fact.w_out, exact_div(fact.C, fact.groups), fact.K_h, fact.K_w
    )  # fmt: skip
    return Op(moved, (Work("patches", count, Engine.TENSOR),), fact)


@operation(
    summary="y = two-dimensional convolution of x, in groups of channels",
    example=Example(at=AT, flops=1728, traffic=268, because=NUMBERS),
    sources=TEXTBOOK,
    valid=GROUPED,
    backward=(Backward("conv2d_input_gradient"), Backward("conv2d_weight_gradient")),
)
def conv2d(
    B: Size, C: Size, C_out: Size, h: Size, w: Size, h_out: Size, w_out: Size, K_h: Size, K_w: Size, groups: Size,
    act: Size = 2, weight: Size = 2,
) -> Op:  # fmt: skip
    """Padding, stride and dilation show in the sizes of the result. Without them, w_out = w - K_w + 1.

    NB a stride larger than the filter leaves pixels unread; all of x is counted.
    """
    return _convolution(
        (
            Tensor("x", (B, C, h, w), act, reads=1),
            Tensor("filters", (C_out, exact_div(C, groups), K_h, K_w), weight, reads=1, kind=Kind.PARAMETER),
            Tensor("y", (B, C_out, h_out, w_out), act, writes=1),
        ),
        Convolution2d(B, C, C_out, h, w, h_out, w_out, K_h, K_w, groups, act, weight, "forward"),
    )  # fmt: skip


@operation(
    summary="gradient of a two-dimensional convolution for its input",
    example=Example(at=AT, flops=1728, traffic=268, because=NUMBERS.replace("; x", "; dx").replace(" y ", " dy ")),
    sources=TEXTBOOK,
    valid=GROUPED,
)
def conv2d_input_gradient(
    B: Size, C: Size, C_out: Size, h: Size, w: Size, h_out: Size, w_out: Size, K_h: Size, K_w: Size, groups: Size,
    act: Size = 2, weight: Size = 2,
) -> Op:  # fmt: skip
    """Each gradient of a pixel goes to the inputs of its patch: a transposed convolution."""
    return _convolution(
        (
            Tensor("dy", (B, C_out, h_out, w_out), act, reads=1),
            Tensor("filters", (C_out, exact_div(C, groups), K_h, K_w), weight, reads=1, kind=Kind.WEIGHT),
            Tensor("dx", (B, C, h, w), act, writes=1),
        ),
        Convolution2d(B, C, C_out, h, w, h_out, w_out, K_h, K_w, groups, act, weight, "input"),
    )  # fmt: skip


@operation(
    summary="gradient of a two-dimensional convolution for its filters",
    example=Example(
        at=AT, flops=1728, traffic=268, because=NUMBERS.replace(" y ", " dy ").replace("filters", "dfilters")
    ),
    sources=TEXTBOOK,
    valid=GROUPED,
)
def conv2d_weight_gradient(
    B: Size, C: Size, C_out: Size, h: Size, w: Size, h_out: Size, w_out: Size, K_h: Size, K_w: Size, groups: Size,
    act: Size = 2, weight: Size = 2,
) -> Op:  # fmt: skip
    """A sum over all B h_out w_out pixels for each element of the filters."""
    return _convolution(
        (
            Tensor("x", (B, C, h, w), act, reads=1),
            Tensor("dy", (B, C_out, h_out, w_out), act, reads=1),
            Tensor("dfilters", (C_out, exact_div(C, groups), K_h, K_w), weight, writes=1),
        ),
        Convolution2d(B, C, C_out, h, w, h_out, w_out, K_h, K_w, groups, act, weight, "weight"),
    )  # fmt: skip


PIXELS = {"B": 1, "C": 2, "h": 2, "w": 2, "h_out": 4, "w_out": 4, "taps": 4}
SAMPLING = ("Keys 1981 (cubic convolution interpolation)",)


@operation(
    summary="y = x at another resolution, each pixel a weighted sum of its neighbours",
    example=Example(
        at=PIXELS,
        flops=256,
        traffic=80,
        because="2 x 16 pixels x 4 taps x 2 = 256; 8 elements read and 32 written, 2 bytes each",
    ),
    sources=SAMPLING,
    backward=(Backward("interpolate_backward"),),
)
def interpolate(B: Size, C: Size, h: Size, w: Size, h_out: Size, w_out: Size, taps: Size, act: Size = 2) -> Op:
    """NB nearest neighbours (one tap) are copied; their one multiply-add is counted all the same."""
    return Op(
        tensors=(Tensor("x", (B, C, h, w), act, reads=1), Tensor("y", (B, C, h_out, w_out), act, writes=1)),
        work=(Work("taps", each(WEIGHTED, B, C, h_out, w_out, taps), Engine.VECTOR),),
        runs=Windows("interpolate", (B, C, h_out, w_out), taps, (B, C, h, w), act),
    )


@operation(
    summary="gradient of an interpolation: each pixel's gradient added to the pixels that it was computed from",
    example=Example(
        at=PIXELS,
        flops=256,
        traffic=80,
        because="2 x 16 pixels x 4 taps x 2 = 256; 32 elements read and 8 written, 2 bytes each",
    ),
    sources=SAMPLING,
)
def interpolate_backward(B: Size, C: Size, h: Size, w: Size, h_out: Size, w_out: Size, taps: Size, act: Size = 2) -> Op:
    """The same weights as in the forward pass."""
    return Op(
        tensors=(Tensor("dy", (B, C, h_out, w_out), act, reads=1), Tensor("dx", (B, C, h, w), act, writes=1)),
        work=(Work("taps", each(WEIGHTED, B, C, h_out, w_out, taps), Engine.VECTOR),),
        runs=Windows("interpolate", (B, C, h_out, w_out), taps, (B, C, h, w), act, backward=True),
    )
