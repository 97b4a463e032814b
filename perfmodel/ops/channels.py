"""Batch and group normalisation: images with statistics per channel, or per group of channels of one image.

A mean and a variance are taken over B x pixels elements of a channel, or over C / groups x pixels elements of a group.
The arithmetic per element is that of a LayerNorm, so both are memory-bound. The statistics of a whole channel are known
only after all of it has been read; a kernel that cannot hold it on chip reads it again.
"""

from __future__ import annotations

from perfmodel.arithmetic import Size
from perfmodel.mixes import (
    BATCHNORM_CHANNEL,
    BATCHNORM_GRADIENT_CHANNEL,
    BATCHNORM_KNOWN,
    BATCHNORM_KNOWN_CHANNEL,
    GROUPNORM_GRADIENT_CHANNEL,
    LAYERNORM,
    LAYERNORM_GRADIENT,
    LAYERNORM_GRADIENT_ROW,
    LAYERNORM_PLAIN_GRADIENT,
    LAYERNORM_ROW,
)
from perfmodel.op import Engine, Op, Tensor, Work, each
from perfmodel.operation import Backward, Example, Valid, operation
from perfmodel.runs import Normalised

BATCH = ("Ioffe and Szegedy 2015",)
GROUP = ("Wu and He 2018",)
AT = {"B": 2, "C": 3, "pixels": 4}
WHOLE = Valid("C % groups == 0", "each group has the same number of channels, so groups must divide C")


def _channels(C: Size, acc: Size, reads: str, writes: str = "", changed: str = "") -> tuple[Tensor, ...]:
    """Tensors of one element per channel."""
    return (
        *(Tensor(name, (C,), acc, reads=1) for name in reads.split()),
        *(Tensor(name, (C,), acc, writes=1) for name in writes.split()),
        *(Tensor(name, (C,), acc, reads=1, writes=1) for name in changed.split()),
    )


@operation(
    summary="(x - mean) / sigma x gamma + beta, with the statistics of each channel over the batch",
    example=Example(
        at=AT,
        flops=207,
        traffic=192,
        because="24 elements x 7, 3 channels x 13; x and y 24 elements, 2 bytes each; per channel gamma and beta read, mean "
        "and 1/sigma written, running mean and variance read and written: 8 x 4 bytes",
    ),
    sources=BATCH,
    backward=(Backward("batch_norm_backward"),),
)
def batch_norm(B: Size, C: Size, pixels: Size, act: Size = 2, acc: Size = 4) -> Op:
    """The training form: it also updates the running statistics that inference uses."""
    shape = (B, C, pixels)
    return Op(
        tensors=(
            Tensor("x", shape, act, reads=1),
            *_channels(C, acc, "gamma beta", "mean rstd", "running_mean running_var"),
            Tensor("y", shape, act, writes=1),
        ),
        work=(
            Work("elements", each(LAYERNORM, B, C, pixels), Engine.VECTOR),
            Work("channels", each(BATCHNORM_CHANNEL, C), Engine.VECTOR),
        ),
        runs=Normalised(B, C, None, pixels, act),
    )


@operation(
    summary="(x - mean) / sigma x gamma + beta, with known statistics of each channel",
    example=Example(
        at=AT,
        flops=102,
        traffic=144,
        because="24 elements x 4, 3 channels x 2; x and y 24 elements, 2 bytes each; 4 x 3 elements per channel, 4 bytes each",
    ),
    sources=BATCH,
)
def batch_norm_inference(B: Size, C: Size, pixels: Size, act: Size = 2, acc: Size = 4) -> Op:
    """One scale and one shift per channel: an elementwise operation."""
    shape = (B, C, pixels)
    return Op(
        tensors=(
            Tensor("x", shape, act, reads=1),
            *_channels(C, acc, "gamma beta mean variance"),
            Tensor("y", shape, act, writes=1),
        ),
        work=(
            Work("elements", each(BATCHNORM_KNOWN, B, C, pixels), Engine.VECTOR),
            Work("channels", each(BATCHNORM_KNOWN_CHANNEL, C), Engine.VECTOR),
        ),
        runs=Normalised(B, C, None, pixels, act, "inference"),
    )


@operation(
    summary="gradients of a batch normalisation for x, gamma and beta",
    example=Example(
        at=AT,
        flops=225,
        traffic=204,
        because="24 elements x 9, 3 channels x 3; x, dy and dx 24 elements, 2 bytes each; per channel gamma, mean and 1/sigma "
        "read, two gradients written: 5 x 4 bytes",
    ),
    sources=BATCH,
)
def batch_norm_backward(B: Size, C: Size, pixels: Size, act: Size = 2, acc: Size = 4) -> Op:
    """Both sums of a channel, which are also the gradients of gamma and beta, come before the gradient of x."""
    shape = (B, C, pixels)
    return Op(
        tensors=(
            Tensor("x", shape, act, reads=1),
            Tensor("dy", shape, act, reads=1),
            *_channels(C, acc, "gamma mean rstd", "dgamma dbeta"),
            Tensor("dx", shape, act, writes=1),
        ),
        work=(
            Work("elements", each(LAYERNORM_PLAIN_GRADIENT, B, C, pixels), Engine.VECTOR),
            Work("channels", each(BATCHNORM_GRADIENT_CHANNEL, C), Engine.VECTOR),
        ),
        runs=Normalised(B, C, None, pixels, act, "backward"),
    )


@operation(
    summary="(x - mean) / sigma x gamma + beta, with the statistics of each group of channels of an image",
    example=Example(
        at={"B": 2, "C": 4, "groups": 2, "pixels": 3},
        flops=192,
        traffic=160,
        because="24 elements x 7, 4 groups x 6; x and y 24 elements, 2 bytes each; gamma and beta 4, mean and 1/sigma 4 elements "
        "of 4 bytes",
    ),
    sources=GROUP,
    valid=(WHOLE,),
    backward=(Backward("group_norm_backward"),),
)
def group_norm(B: Size, C: Size, groups: Size, pixels: Size, act: Size = 2, acc: Size = 4) -> Op:
    """A group of one image is contiguous in memory, so it is a row of C / groups x pixels elements."""
    shape, each_group = (B, C, pixels), (B, groups)
    return Op(
        tensors=(
            Tensor("x", shape, act, reads=1),
            *_channels(C, acc, "gamma beta"),
            Tensor("mean", each_group, acc, writes=1),
            Tensor("rstd", each_group, acc, writes=1),
            Tensor("y", shape, act, writes=1),
        ),
        work=(
            Work("elements", each(LAYERNORM, B, C, pixels), Engine.VECTOR),
            Work("groups", each(LAYERNORM_ROW, B, groups), Engine.VECTOR),
        ),
        runs=Normalised(B, C, groups, pixels, act),
    )


@operation(
    summary="gradients of a group normalisation for x, gamma and beta",
    example=Example(
        at={"B": 2, "C": 4, "groups": 2, "pixels": 3},
        flops=296,
        traffic=224,
        because="24 elements x 10, 8 channels of images x 6, 4 groups x 2; x, dy and dx 24 elements, 2 bytes each; gamma and "
        "its two gradients 4 elements, mean and 1/sigma 4 elements of 4 bytes",
    ),
    sources=GROUP,
    valid=(WHOLE,),
)
def group_norm_backward(B: Size, C: Size, groups: Size, pixels: Size, act: Size = 2, acc: Size = 4) -> Op:
    """Both sums of each channel of an image give the sums of its group and the gradients of gamma and beta."""
    shape, each_group = (B, C, pixels), (B, groups)
    return Op(
        tensors=(
            Tensor("x", shape, act, reads=1),
            Tensor("dy", shape, act, reads=1),
            *_channels(C, acc, "gamma", "dgamma dbeta"),
            Tensor("mean", each_group, acc, reads=1),
            Tensor("rstd", each_group, acc, reads=1),
            Tensor("dx", shape, act, writes=1),
        ),
        work=(
            Work("elements", each(LAYERNORM_GRADIENT, B, C, pixels), Engine.VECTOR),
            Work("channels", each(GROUPNORM_GRADIENT_CHANNEL, B, C), Engine.VECTOR),
            Work("groups", each(LAYERNORM_GRADIENT_ROW, B, groups), Engine.VECTOR),
        ),
        runs=Normalised(B, C, groups, pixels, act, "backward"),
    )
