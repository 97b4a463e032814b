"""Pooling of images: the largest or the mean element of each window of K_h x K_w pixels.

A window takes one operation per pixel and the result one pixel per window. Neighbouring windows share pixels, which are
read from memory once, so the intensity stays below K_h K_w / 2 FLOPs per element.
"""

from __future__ import annotations

from perfmodel.arithmetic import Size
from perfmodel.mixes import COMPARISON, SCALE, SUM
from perfmodel.op import Engine, Op, Tensor, Work, each
from perfmodel.operation import Backward, Example, operation
from perfmodel.runs import Windows

AT = {"B": 1, "C": 2, "h": 4, "w": 4, "h_out": 2, "w_out": 2, "K_h": 2, "K_w": 2}
SOURCES = ("Goodfellow et al. 2016, section 9.3",)


@operation(
    summary="y = largest pixel of each window, and its place",
    example=Example(
        at=AT,
        flops=32,
        traffic=144,
        because="8 windows x 4 comparisons; 32 elements read and 8 written, 2 bytes each; 8 places of 8 bytes written",
    ),
    sources=SOURCES,
    backward=(Backward("max_pool2d_backward"),),
)
def max_pool2d(
    B: Size, C: Size, h: Size, w: Size, h_out: Size, w_out: Size, K_h: Size, K_w: Size, act: Size = 2, index: Size = 8
) -> Op:
    """torch writes the places in any case, for the gradient: more bytes than the result itself."""
    return Op(
        tensors=(
            Tensor("x", (B, C, h, w), act, reads=1),
            Tensor("y", (B, C, h_out, w_out), act, writes=1),
            Tensor("places", (B, C, h_out, w_out), index, writes=1),
        ),
        work=(Work("windows", each(COMPARISON, B, C, h_out, w_out, K_h, K_w), Engine.VECTOR),),
        runs=Windows("max", (B, C, h_out, w_out), (K_h, K_w), (B, C, h, w), act),
    )


@operation(
    summary="gradient of a maximum over windows, added at the place of each",
    example=Example(
        at=AT,
        flops=8,
        traffic=144,
        because="8 additions; 8 gradients of 2 bytes and 8 places of 8 read, 32 elements of 2 bytes written",
    ),
    sources=SOURCES,
)
def max_pool2d_backward(
    B: Size, C: Size, h: Size, w: Size, h_out: Size, w_out: Size, K_h: Size, K_w: Size, act: Size = 2, index: Size = 8
) -> Op:
    """A pixel that is no window's largest gets zero."""
    return Op(
        tensors=(
            Tensor("dy", (B, C, h_out, w_out), act, reads=1),
            Tensor("places", (B, C, h_out, w_out), index, reads=1),
            Tensor("dx", (B, C, h, w), act, writes=1),
        ),
        work=(Work("add", each(SUM, B, C, h_out, w_out), Engine.VECTOR),),
        runs=Windows("max", (B, C, h_out, w_out), (K_h, K_w), (B, C, h, w), act, backward=True),
    )


@operation(
    summary="y = mean of each window",
    example=Example(
        at=AT,
        flops=40,
        traffic=80,
        because="8 windows x (4 additions, 1 multiplication by 1/4); 32 elements read and 8 written, 2 bytes each",
    ),
    sources=SOURCES,
    backward=(Backward("average_pool2d_backward"),),
)
def average_pool2d(
    B: Size, C: Size, h: Size, w: Size, h_out: Size, w_out: Size, K_h: Size, K_w: Size, act: Size = 2
) -> Op:
    """Pixels over the padding count as zeros."""
    return Op(
        tensors=(Tensor("x", (B, C, h, w), act, reads=1), Tensor("y", (B, C, h_out, w_out), act, writes=1)),
        work=(
            Work("windows", each(SUM, B, C, h_out, w_out, K_h, K_w), Engine.VECTOR),
            Work("divide", each(SCALE, B, C, h_out, w_out), Engine.VECTOR),
        ),
        runs=Windows("average", (B, C, h_out, w_out), (K_h, K_w), (B, C, h, w), act),
    )


@operation(
    summary="gradient of a mean over windows, added to every pixel of each",
    example=Example(
        at=AT,
        flops=40,
        traffic=80,
        because="8 windows x (1 multiplication by 1/4, 4 additions); 8 elements read and 32 written, 2 bytes each",
    ),
    sources=SOURCES,
)
def average_pool2d_backward(
    B: Size, C: Size, h: Size, w: Size, h_out: Size, w_out: Size, K_h: Size, K_w: Size, act: Size = 2
) -> Op:
    """Each pixel sums the gradients of the windows that it lies in."""
    return Op(
        tensors=(Tensor("dy", (B, C, h_out, w_out), act, reads=1), Tensor("dx", (B, C, h, w), act, writes=1)),
        work=(
            Work("divide", each(SCALE, B, C, h_out, w_out), Engine.VECTOR),
            Work("windows", each(SUM, B, C, h_out, w_out, K_h, K_w), Engine.VECTOR),
        ),
        runs=Windows("average", (B, C, h_out, w_out), (K_h, K_w), (B, C, h, w), act, backward=True),
    )
