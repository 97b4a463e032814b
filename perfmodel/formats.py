"""Formats of quantised weights, and products that read their weights in one of them.

A matrix of D_in x D_out weights is stored in ``item`` bytes each. Blocks of ``group`` weights along D_in and ``columns``
weights along D_out share one scale, and in some formats one zero point. The last blocks of a row or column may be smaller
and have a scale of their own.

A weight-only format stores weights and computes in the data type of the activations: the kernel converts each weight
before the matrix instruction, (w - zero) x scale, on the vector engine. A format that ``computes`` in a narrow type has
quantised activations too: its matrix instruction reads both operands in that type, and the scales multiply the sums.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from functools import cache
from typing import Any, NamedTuple

from perfmodel.arithmetic import Size, ceil_div, is_one, product, whole
from perfmodel.errors import InputError, did_you_mean, shown
from perfmodel.mixes import SCALE, SHIFTED_SCALE
from perfmodel.op import MULTIPLY_ADD, Engine, Kind, Op, Tensor, Work, each
from perfmodel.operation import Operation
from perfmodel.runs import Gemm, GroupedGemm, Items
from perfmodel.units import HALF_BYTE

HALF = 2  # bytes of a number in half precision
# Tensors that hold matrices of weights, in the operations that have a quantised form.
MATRICES = ("w", "w_q", "w_k", "w_v", "experts", "distinct experts")
LARGEST_GROUP = 1 << 20


class Format(NamedTuple):
    """How a matrix of weights is stored, and in which type its products run.

    ``group``, ``columns``: weights along D_in and D_out that share a scale; 0: all of them. ``scale``, ``zero``: bytes of
    a scale and of a zero point (0: none). ``whole_byte``: bytes of scales of the whole matrix. ``order_byte``: bytes per
    input, GPTQ's group indices. ``computes``: the type of the matrix instruction, empty for that of the activations.
    ``activations``: how activations are quantised, a kind of ``runs.Quantisation``, with ``run`` elements per scale.
    ``parts``: matrices that are stored apart but multiplied as one, such as gate and up of a network.
    """

    name: str
    means: str
    item: int | float
    group: int = 0
    columns: int = 1
    scale: int = HALF
    zero: int | float = 0
    whole_byte: int = 0
    order_byte: int = 0
    computes: str = ""
    activations: str = ""
    run: int = 0
    parts: int = 1

    @property
    def text(self) -> str:
        """The format as a command accepts it."""
        if self.group == FORMATS[self.name].group:
            return self.name
        return f"{self.name}-g{self.group}" if self.group else f"{self.name}-column"

    def blocks(self, D_in: Size, D_out: Size) -> tuple[Size, Size]:
        """Blocks with one scale, along both sides of a matrix."""
        each = D_out if self.parts == 1 else ceil_div(D_out, self.parts)
        across = ceil_div(each, self.columns) if self.columns else 1
        return (ceil_div(D_in, self.group) if self.group else 1), self.parts * across


_TABLE = (
    Format("int4", "4-bit integers in groups, symmetric (compressed-tensors W4A16)", 0.5, 128),
    Format("awq", "4-bit integers in groups with zero points (AWQ)", 0.5, 128, zero=0.5),
    Format("gptq", "4-bit integers in groups with zero points and group indices (GPTQ)", 0.5, 128, zero=0.5, order_byte=4),
    Format("gptq8", "8-bit integers in groups with zero points and group indices (GPTQ)", 1, 128, zero=1, order_byte=4),
    Format("int8", "8-bit integers, one scale per column, weights only", 1),
    Format("mxfp4", "4-bit floats, 32 weights per 8-bit power of two (OCP MX)", 0.5, 32, scale=1),
    Format("nvfp4", "4-bit floats, 16 weights per 8-bit scale, one float32 scale per matrix", 0.5, 16, scale=1, whole_byte=4),
    Format("fp8-block", "8-bit floats, 128 x 128 weights per float32 scale; activations in runs of 128", 1, 128, 128, 4,
           computes="fp8", activations="block", run=128),
    Format("fp8-channel", "8-bit floats, one scale per column; activations per token", 1, computes="fp8",
           activations="token"),
    Format("fp8-tensor", "8-bit floats, one float32 scale per matrix; activations per tensor", 1, 0, 0, 4, computes="fp8",
           activations="tensor"),
    Format("fp8-static", "8-bit floats, one float32 scale per matrix and one for its activations", 1, 0, 0, 4, whole_byte=4,
           computes="fp8", activations="static"),
    Format("int8-token", "8-bit integers, one scale per column; activations per token (W8A8)", 1, computes="int8",
           activations="token"),
    Format("nvfp4-w4a4", "NVFP4 weights and activations, 16 elements per scale", 0.5, 16, scale=1, whole_byte=8,
           computes="fp4", activations="block", run=16),
)  # fmt: skip
FORMATS: Mapping[str, Format] = {one.name: one for one in _TABLE}
ACCEPTED = f"{', '.join(FORMATS)}, or one with the size of its groups, such as int4-g64, is accepted"


def named(text: str, where: str) -> Format:
    """The format of that name. ``-g64`` at its end replaces the size of its groups."""
    name, sign, digits = text.rpartition("-g")
    if not sign or not digits.isdecimal():
        name, digits = text, ""
    if name not in FORMATS:
        raise InputError(where, f"{shown(text)} is not a format of weights", ACCEPTED, did_you_mean(name, FORMATS))
    found = FORMATS[name]
    if not digits:
        return found
    if not found.group or found.computes:
        raise InputError(
            where, f"{name} has no groups of a chosen size", ACCEPTED, f"Write {name}, or choose another format."
        )
    return found._replace(group=checked_group(int(digits), where))


def checked_group(group: int, where: str) -> int:
    """The size of a group, from 2 to 2^20 weights."""
    if not 2 <= group <= LARGEST_GROUP:
        raise InputError(where, f"a group has {group} weights", f"2 to {LARGEST_GROUP:,} weights are accepted")
    return group


def product_op(op: Op, form: Format) -> Op:
    """A product with its weights in a format. Biases keep their type, results that of the activations."""
    fact = op.runs
    if not isinstance(fact, (Gemm, GroupedGemm)):
        raise InputError(
            "weights", f"the operation runs as {type(fact).__name__}", "one product of weights is accepted"
        )
    beside = {t.name: _beside(t, form, _matrix(t, fact)) for t in op.tensors if t.name in MATRICES}
    tensors: list[Tensor] = []
    for tensor in op.tensors:
        if tensor.name in beside:
            tensors += [tensor._replace(item=form.item), *beside[tensor.name]]
        elif tensor.name == "x" and form.computes:
            tensors += _activations(tensor, form, fact.k)
        else:
            tensors.append(tensor)
    read = {t.name: t.shape for t in op.tensors if t.name in MATRICES and t.reads}
    kernels = [work for work in op.work if work.reads and isinstance(work.runs, Gemm)]
    works: list[Work] = []
    for work in kernels:  # each kernel of the unfused form converts its own weights
        own = [name for name in work.reads if name in read]
        names = tuple(tensor.name for name in own for tensor in beside[name])
        works.append(work._replace(reads=(*work.reads, *names), runs=_narrowed(work.runs, form)))
        works += _work(form, [read[name] for name in own], work.runs)
    if not kernels:
        works = [*op.work, *_work(form, list(read.values()), fact)]
    return op._replace(tensors=tuple(tensors), work=tuple(works), runs=_narrowed(fact, form), computes=form.computes)


def _narrowed(fact: Any, form: Format) -> Any:
    """Returns how the product runs with its weights in the format."""
    items = Items(_narrow(form) if form.computes else fact.items.left, form.item, fact.items.result)
    if form.computes == "fp8" and isinstance(fact, Gemm):
        return fact._replace(items=items, scales=form.activations)
    return fact._replace(items=items, converts=not form.computes)


class Matrix(NamedTuple):
    """The sides of a matrix, and how many a tensor holds: 1, all experts, or the expected number of distinct ones."""

    D_in: Size
    D_out: Size
    number: Size = 1


def _matrix(tensor: Tensor, fact: Gemm | GroupedGemm) -> Matrix:
    if isinstance(fact, Gemm):
        return Matrix(tensor.shape[0], product(tensor.shape[1:]))
    return Matrix(fact.k, fact.n, tensor.shape[0] if tensor.kind is Kind.PARAMETER else fact.groups)


def _narrow(form: Format) -> int | float:
    """Bytes of a quantised activation."""
    return HALF_BYTE if form.computes == "fp4" else 1


def _beside(weights: Tensor, form: Format, matrix: Matrix) -> list[Tensor]:
    """The scales, zero points and group indices that a kernel reads with the weights."""
    kind = Kind.SCALE if weights.kind is Kind.PARAMETER else weights.kind
    blocks = form.blocks(matrix.D_in, matrix.D_out)
    sizes = (
        ("scales", form.scale, blocks),
        ("zero points", form.zero, blocks),
        ("scales of the matrix", form.whole_byte, (form.parts,)),
        ("group indices", form.order_byte, (form.parts, matrix.D_in)),
    )
    prefix = "" if weights.name == "w" else f"{weights.name}: "
    found = []
    for name, item, one in sizes:
        if item:
            shape = one if is_one(matrix.number) else (whole(matrix.number * product(one)),)
            found.append(Tensor(f"{prefix}{name}", shape, item, reads=weights.reads, kind=kind))
    return found


def _activations(x: Tensor, form: Format, D_in: Size) -> list[Tensor]:
    """The quantised activations, with their scales where those are computed."""
    rows = x.shape[:-1]
    narrow = x._replace(item=_narrow(form))
    runs = {"token": (*rows, 1), "block": (*rows, ceil_div(D_in, form.run or D_in)), "tensor": (1,)}
    if form.activations not in runs:
        return [narrow]
    scale = form.scale if form.computes == "fp4" else 4
    return [narrow, Tensor("scales of x", runs[form.activations], scale, reads=1)]


def _work(form: Format, weights: Sequence[tuple[Size, ...]], fact: Any) -> list[Work]:
    """The conversion of weights, or the scaling of sums. A scale that a whole column shares multiplies the results."""
    rows = fact.m if isinstance(fact, Gemm) else fact.rows
    sides = (side if isinstance(side, tuple) else (side,) for side in (rows, fact.n))
    results = tuple(size for side in sides for size in side)
    scaled = Work("scale the results", each(SCALE, *results), Engine.VECTOR)
    if not form.group or form.computes == "fp4":  # the matrix instruction of fp4 applies the scales of the blocks
        return [scaled]
    if form.computes:
        return [Work("scale the sums", each(MULTIPLY_ADD, *results, ceil_div(fact.k, form.group)), Engine.VECTOR)]
    mix = SHIFTED_SCALE if form.zero else SCALE
    works = [Work("dequantise", each(mix, *shape), Engine.VECTOR) for shape in weights]
    return [*works, scaled] if form.whole_byte else works


@cache
def stored(operation: Operation, form: Format) -> Operation:
    """An operation whose weights are stored in a format. It has the same name, sizes and page, and no gradients."""
    made, plain = copy(operation), operation.function

    def function(*sizes: Size, **named_sizes: Size) -> Op:
        return product_op(plain(*sizes, **named_sizes), form)

    made.function, made.backward, made.stores, made.computes = function, (), form.text, form.computes
    return made
