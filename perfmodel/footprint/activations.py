"""Activations that a training step keeps for its backward pass: the tensors that the gradients of its steps read.

A linear layer keeps its input. A norm keeps its input and the statistics of each row. Attention in one kernel keeps q,
k, v, its output and one number per row; attention stage by stage keeps the N x S probabilities as well. A sum keeps
nothing. A tensor that several gradients read is kept once.

Recomputation keeps less. ``selective`` drops the N x S tensors of the attention. ``full`` keeps only the inputs of each
layer and runs the layer again before its backward pass.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from perfmodel.arithmetic import is_zero
from perfmodel.block import Gradient, Step, gradients
from perfmodel.footprint.flow import Flow, Key, Stored, layers, stored
from perfmodel.op import WEIGHTS, Op, Tensor

RECOMPUTE = ("none", "selective", "full")
SQUARES = ("scores", "probs")
OUTSIDE = "outside the layers"


class Kept(NamedTuple):
    """A tensor kept for the backward pass, and the steps whose gradients read it."""

    name: str
    byte: int
    formula: str
    steps: tuple[str, ...]
    square: bool = False


class Layer(NamedTuple):
    """A kind of layer and the activations that it keeps.

    ``first`` is kept by the first repeat and ``further`` by each other one. ``again`` is recomputed in the backward
    pass. ``gradient_byte`` is the largest sum of activation gradients that one kernel of the backward pass reads and
    writes.
    """

    name: str
    repeat: int
    first: tuple[Kept, ...]
    further: tuple[Kept, ...] = ()
    again: tuple[Kept, ...] = ()
    gradient_byte: int = 0

    @property
    def byte(self) -> int:
        """Bytes kept by all repeats."""
        return size_byte(self.first) + size_byte(self.further) * (self.repeat - 1)

    @property
    def passing_byte(self) -> int:
        """Bytes that the backward pass of one repeat needs in addition to the kept tensors."""
        return size_byte(self.again) + self.gradient_byte


class Activations(NamedTuple):
    """The activations that a training step keeps, by kind of layer, and the logits that its loss reads."""

    layers: tuple[Layer, ...]
    logits: tuple[Kept, ...]


def size_byte(kept: Iterable[Kept]) -> int:
    """Total bytes of the tensors."""
    return sum(tensor.byte for tensor in kept)


def activations(steps: Sequence[Step], dims: Mapping[str, Any], *, fused: bool, recompute: str) -> Activations:
    """The activations that a training step keeps: kinds of layers in execution order, then the steps outside the
    layers.

    Each layer is evaluated twice. The second evaluation starts with the tensors of the first and represents all further
    repeats.
    """
    groups = [
        (name, repeat, [page(step, dims, fused, name) for step in running])
        for name, repeat, running in layers(steps, dims)
    ]
    return of_pages(groups, recompute)


def of_pages(groups: Iterable[tuple[str, int, Sequence[Page]]], recompute: str) -> Activations:
    """The activations of layers, each a name, its repeats and its pages, in execution order."""
    ledger, found, outside = _Ledger(recompute), [], Layer(OUTSIDE, 1, ())
    for name, repeat, pages in groups:
        gradient_byte = max((page.gradient_byte for page in pages), default=0)
        first, again = ledger.run(pages, layer=bool(name))
        further, again = ledger.run(pages, layer=bool(name)) if repeat > 1 else ((), again)
        if name:
            found.append(Layer(name, repeat, first, further, again, gradient_byte))
        else:
            outside = outside._replace(
                first=(*outside.first, *first), gradient_byte=max(outside.gradient_byte, gradient_byte)
            )
    return Activations((*found, outside), ledger.unread("logits"))


class Page(NamedTuple):
    """A step and the tensors that its backward pass reads.

    ``remembered`` are the tensors that its gradients read. ``gradient_byte`` is the largest sum of activation gradients
    of one of their kernels.
    """

    name: str
    step: Step
    op: Op
    remembered: tuple[Tensor, ...]
    gradient_byte: int


def page(step: Step, dims: Mapping[str, Any], fused: bool, group: str, op: Op | None = None) -> Page:
    """The page of a step. ``group``: the layer that the names of its tensors do not repeat. ``op``: its known operation."""
    op = op or step.operation.function(**step.operation.checked(step.values(dims), step.name))
    known = {tensor.name: tensor for tensor in op.tensors}
    backward = tuple(gradients(step, dims, fused=fused))
    gradient_byte = max((_gradient_byte(gradient, known) for gradient in backward), default=0)
    name = step.name.removeprefix(f"{group}.") if group else step.name
    return Page(name, step, op, tuple(_remembered(backward, known)), gradient_byte)


def _is_gradient(name: str, known: Mapping[str, Tensor]) -> bool:
    """Whether a name is that of a gradient of a forward tensor, such as dout or ddelta.

    A product of several operations may call the tensor x or y.
    """
    return name not in known and name[:1] == "d" and (name[1:] in known or name[1:] in ("x", "y"))


def _names_gradients(gradient: Gradient, known: Mapping[str, Tensor]) -> bool:
    """Whether the operation names its gradients.

    A general sum or product that serves as a gradient operation uses other names.
    """
    return any(_is_gradient(tensor.name, known) for tensor in gradient.op.tensors)


def _remembered(backward: Sequence[Gradient], known: Mapping[str, Tensor]) -> Iterator[Tensor]:
    """The tensors that the backward pass reads, without weights and gradients.

    A tensor that the forward pass does not have is a statistic that it writes, such as a mean. Where the backward pass
    has several operations, the last belongs to the beginning of the forward pass. Its operand is the forward tensor of
    that name; the same name in an earlier operation is an inner tensor.
    """
    taken: set[str] = set()
    for gradient in reversed(backward):
        if not _names_gradients(gradient, known):
            yield from (known[name] for name in gradient.backward.keeps)
            continue
        for tensor in gradient.op.tensors:
            forward = known.get(tensor.name, tensor)
            if is_zero(tensor.reads) or _is_gradient(tensor.name, known) or {tensor.kind, forward.kind} & {*WEIGHTS}:
                continue
            inner = tensor.name in taken
            yield tensor._replace(name=f"{tensor.name} of {gradient.backward.operation}") if inner else forward
            taken.add(tensor.name)


def _gradient_byte(gradient: Gradient, known: Mapping[str, Tensor]) -> int:
    """The largest sum of activation gradients that one kernel reads and writes, in bytes."""
    if not _names_gradients(gradient, known):
        held = sum(known[name].size_byte for name in gradient.backward.keeps)
        return sum(int(tensor.size_byte) for tensor in gradient.op.tensors) - int(held)
    weights = {name for name, tensor in known.items() if tensor.kind in WEIGHTS}
    alone = len(gradient.kernels) == 1

    def counts(tensor: Tensor) -> bool:
        passes = _is_gradient(tensor.name, known) and tensor.name[1:] not in weights
        return passes and not (alone and tensor.spill)

    return max(sum(int(t.size_byte) for t in kernel.tensors if counts(t)) for kernel in gradient.kernels)


def _clearest(written: Stored | None, needed: Stored) -> Stored:
    """The whole tensor that a step wrote, or what is needed where no step wrote it.

    Of two shapes with equal bytes, it returns the one with more dimensions.
    """
    if written is None or (written.byte == needed.byte and written.formula.count(" x ") < needed.formula.count(" x ")):
        return needed
    return written


class _Ledger:
    """The tensors kept so far, while the steps run forward."""

    def __init__(self, recompute: str) -> None:
        self._recompute = recompute
        self._flow = Flow()
        self._kept: set[Key] = set()
        self._read: set[Key] = set()
        self._runs = 0

    def run(self, pages: Iterable[Page], *, layer: bool) -> tuple[tuple[Kept, ...], tuple[Kept, ...]]:
        """The tensors that one run of these steps keeps for the first time, and those that it recomputes."""
        self._runs += 1
        wanted: dict[Key, Kept] = {}
        inputs: dict[Key, Kept] = {}
        fresh: set[Key] = set()
        for page in pages:
            reads = self._flow.reads(page.op.tensors, page.step.flow)
            for key, parts in reads.items():
                self._read.add(key)
                if key not in fresh:
                    size = self._flow.written.get(key) or stored(parts)
                    inputs.setdefault(key, Kept(key[0], *size, ()))
            writes = self._flow.write(page.op.tensors, page.step.flow)
            fresh.update(writes)
            for key, kept in self._wanted(page, {**reads, **writes}):
                before = wanted.get(key, kept)
                wanted[key] = before._replace(steps=tuple(dict.fromkeys((*before.steps, *kept.steps))))
        return self._chosen(wanted, inputs, layer)

    def unread(self, name: str) -> tuple[Kept, ...]:
        """The tensors of that name that no step has read."""
        return tuple(
            Kept(name, *size, ())
            for key, size in self._flow.written.items()
            if key[0] == name and key not in self._read
        )

    def _wanted(self, page: Page, places: Mapping[Key, list[Tensor]]) -> Iterator[tuple[Key, Kept]]:
        """The tensors that a step's gradients read, by the block's name or the step's own."""
        key_of = {tensor.name: key for key, parts in places.items() for tensor in parts}
        parts_of: dict[Key, list[Tensor]] = {}
        for tensor in page.remembered:
            own = (f"{page.name}: {tensor.name}", -self._runs)
            parts_of.setdefault(key_of.get(tensor.name, own), []).append(tensor)
        for key, parts in parts_of.items():
            needed, written = stored(parts), self._flow.written.get(key)
            square = any(tensor.name in SQUARES and tensor.spill for tensor in parts)
            if written and needed.byte > written.byte:  # gathered, broadcast or concatenated: a separate copy
                yield (f"{page.name}: {key[0]}", -self._runs), Kept(f"{page.name}: {key[0]}", *needed, (page.name,))
            else:
                yield key, Kept(key[0], *_clearest(written, needed), (page.name,), square)

    def _chosen(
        self, wanted: dict[Key, Kept], inputs: dict[Key, Kept], layer: bool
    ) -> tuple[tuple[Kept, ...], tuple[Kept, ...]]:
        """Tensors that this recomputation mode keeps in addition, and the tensors that it recomputes."""
        keep = wanted
        if self._recompute == "full" and layer:
            keep = {key: wanted.get(key, inputs[key]) for key in inputs}
        if self._recompute == "selective":
            keep = {key: kept for key, kept in wanted.items() if not kept.square}
        again = tuple(kept for key, kept in wanted.items() if key not in keep)
        new = tuple(kept for key, kept in keep.items() if key not in self._kept)
        self._kept.update(keep)
        return new, again
