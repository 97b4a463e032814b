"""Vector operations with classical intensities: saxpy, the dot product, and the four streams.

They do one or two FLOPs per element and no element is used twice, so they measure memory: saxpy in fp64 does 2 FLOPs
for 24 bytes, 1/12 FLOP per byte.
"""

from __future__ import annotations

from perfmodel.arithmetic import Size
from perfmodel.mixes import NOTHING, SCALE, SUM
from perfmodel.op import MULTIPLY_ADD, Engine, Mix, Op, Tensor, Work, each
from perfmodel.operation import Example, operation
from perfmodel.runs import Stream

STREAM = ("McCalpin 1995 (STREAM)",)


def _vectors(name: str, mix: Mix, numel: Size, act: Size, reads: str, writes: str) -> Op:
    return Op(
        tensors=(
            *(Tensor(t, (numel,), act, reads=1, writes=int(t in writes.split())) for t in reads.split()),
            *(Tensor(t, (numel,), act, writes=1) for t in writes.split() if t not in reads.split()),
        ),
        work=(Work(name, each(mix, numel), Engine.VECTOR),),
        runs=Stream(),
    )


@operation(
    summary="y = a x + y",
    example=Example(
        at={"numel": 10, "act": 8},
        flops=20,
        traffic=240,
        because="10 multiply-adds; x read, y read and written, 8 bytes each: intensity 20 / 240 = 1/12",
    ),
    sources=("Williams et al. 2009 (roofline), the classical intensities",),
)
def saxpy(numel: Size, act: Size = 4) -> Op:
    """Two reads and a write for every multiply-add."""
    return _vectors("saxpy", MULTIPLY_ADD, numel, act, "x y", "y")


@operation(
    summary="s = sum of x y",
    example=Example(
        at={"numel": 10},
        flops=20,
        traffic=80,
        because="10 multiply-adds; two vectors of 10 elements read, 4 bytes each",
    ),
    sources=("Lawson et al. 1979 (BLAS)",),
)
def dot(numel: Size, act: Size = 4) -> Op:
    """Two reads for every multiply-add; the one number that is written is left out."""
    return _vectors("dot", MULTIPLY_ADD, numel, act, "x y", "")


@operation(
    summary="c = a",
    example=Example(
        at={"numel": 10, "act": 8}, flops=0, traffic=160, because="10 elements read, 10 written, 8 bytes each"
    ),
    sources=STREAM,
)
def stream_copy(numel: Size, act: Size = 4) -> Op:
    """Bytes alone."""
    return _vectors("copy", NOTHING, numel, act, "a", "c")


@operation(
    summary="b = q c",
    example=Example(
        at={"numel": 10, "act": 8},
        flops=10,
        traffic=160,
        because="10 multiplications; 10 elements read, 10 written, 8 bytes each",
    ),
    sources=STREAM,
)
def stream_scale(numel: Size, act: Size = 4) -> Op:
    """One multiplication for a read and a write."""
    return _vectors("scale", SCALE, numel, act, "c", "b")


@operation(
    summary="c = a + b",
    example=Example(
        at={"numel": 10, "act": 8},
        flops=10,
        traffic=240,
        because="10 additions; 20 elements read, 10 written, 8 bytes each",
    ),
    sources=STREAM,
)
def stream_add(numel: Size, act: Size = 4) -> Op:
    """One addition for two reads and a write: the ceiling that measured kernels are held to."""
    return _vectors("add", SUM, numel, act, "a b", "c")


@operation(
    summary="a = b + q c",
    example=Example(
        at={"numel": 10, "act": 8},
        flops=20,
        traffic=240,
        because="10 multiply-adds; 20 elements read, 10 written, 8 bytes each",
    ),
    sources=STREAM,
)
def stream_triad(numel: Size, act: Size = 4) -> Op:
    """Two FLOPs for two reads and a write."""
    return _vectors("triad", MULTIPLY_ADD, numel, act, "b c", "a")
