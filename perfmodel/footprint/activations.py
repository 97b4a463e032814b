"""What a training step keeps between its passes, read off the steps: the tensors that their gradients read again.

A linear layer keeps its input, a norm its input and the statistics of each row, an attention in one kernel q, k, v,
its output and one number per row, an attention stage by stage the square of probabilities as well; a sum keeps
nothing. A tensor that several operations read is kept once. Recomputation keeps less: ``selective`` drops the squares
of the attention, ``full`` keeps the inputs of each layer alone and runs the layer again when its gradients are due.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from perfmodel.arithmetic import is_zero
from perfmodel.block import Gradient, Step, gradients
from perfmodel.footprint.flow import Flow, Key, Stored, layers, stored
from perfmodel.op import Kind, Op, Tensor

RECOMPUTE = ("none", "selective", "full")
SQUARES = ("scores", "probs")
OUTSIDE = "outside the layers"
_WEIGHTS = (Kind.PARAMETER, Kind.WEIGHT)


class Kept(NamedTuple):
    """A tensor that waits for the backward pass, and the steps whose gradients read it."""

    name: str
    byte: int
    formula: str
    steps: tuple[str, ...]
    square: bool = False


class Layer(NamedTuple):
    """A kind of layer: what its first repeat keeps, and each further one, what it computes again, and the largest sum of
    gradients that one kernel of its backward pass reads and writes.
    """

    name: str
    repeat: int
    first: tuple[Kept, ...]
    further: tuple[Kept, ...] = ()
    again: tuple[Kept, ...] = ()
    gradient_byte: int = 0

    @property
    def byte(self) -> int:
        """Over all repeats."""
        return size_byte(self.first) + size_byte(self.further) * (self.repeat - 1)

    @property
    def passing_byte(self) -> int:
        """What its backward pass needs beside all that was kept."""
        return size_byte(self.again) + self.gradient_byte


class Activations(NamedTuple):
    """What a training step keeps by kinds of layers, and the logits that its loss reads."""

    layers: tuple[Layer, ...]
    logits: tuple[Kept, ...]


def size_byte(kept: Iterable[Kept]) -> int:
    """Bytes of all of them."""
    return sum(tensor.byte for tensor in kept)


def activations(steps: Sequence[Step], dims: Mapping[str, Any], *, fused: bool, recompute: str) -> Activations:
    """Kinds of layers in running order; what stands between them is one more, at the end.

    A layer is run twice: the second run, which starts where the first ended, stands for all further ones.
    """
    ledger, found, outside = _Ledger(recompute), [], Layer(OUTSIDE, 1, ())
    for name, repeat, running in layers(steps, dims):
        pages = [_page(step, dims, fused, name) for step in running]
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


class _Page(NamedTuple):
    """A step: its short name, what it does, what its gradients read again, and the gradients of one of their kernels."""

    name: str
    step: Step
    op: Op
    remembered: tuple[Tensor, ...]
    gradient_byte: int


def _page(step: Step, dims: Mapping[str, Any], fused: bool, group: str) -> _Page:
    op = step.operation.function(**step.operation.checked(step.values(dims), step.name))
    known = {tensor.name: tensor for tensor in op.tensors}
    backward = tuple(gradients(step, dims, fused=fused))
    gradient_byte = max((_gradient_byte(gradient, known) for gradient in backward), default=0)
    name = step.name.removeprefix(f"{group}.") if group else step.name
    return _Page(name, step, op, tuple(_remembered(backward, known)), gradient_byte)


def _is_gradient(name: str, known: Mapping[str, Tensor]) -> bool:
    """dout, ddelta: the gradient of a tensor of the forward pass, which a product of several may call x and y."""
    return name not in known and name[:1] == "d" and (name[1:] in known or name[1:] in ("x", "y"))


def _names_gradients(gradient: Gradient, known: Mapping[str, Tensor]) -> bool:
    """Whether it was written as a gradient; a sum or a product that stands in for one calls its operands otherwise."""
    return any(_is_gradient(tensor.name, known) for tensor in gradient.op.tensors)


def _remembered(backward: Sequence[Gradient], known: Mapping[str, Tensor]) -> Iterator[Tensor]:
    """The tensors, other than weights and gradients, that the backward pass reads.

    One that the forward pass does not have is a statistic that it leaves, such as a mean. Of several operations the
    last stands at the forward's beginning: its operand is the forward's of that name, an earlier one's an inner tensor.
    """
    taken: set[str] = set()
    for gradient in reversed(backward):
        if not _names_gradients(gradient, known):
            yield from (known[name] for name in gradient.backward.keeps)
            continue
        for tensor in gradient.op.tensors:
            forward = known.get(tensor.name, tensor)
            if is_zero(tensor.reads) or _is_gradient(tensor.name, known) or {tensor.kind, forward.kind} & {*_WEIGHTS}:
                continue
            inner = tensor.name in taken
            yield tensor._replace(name=f"{tensor.name} of {gradient.backward.operation}") if inner else forward
            taken.add(tensor.name)


def _gradient_byte(gradient: Gradient, known: Mapping[str, Tensor]) -> int:
    """The largest sum of gradients of activations, read and written, of one kernel."""
    if not _names_gradients(gradient, known):
        held = sum(known[name].size_byte for name in gradient.backward.keeps)
        return sum(int(tensor.size_byte) for tensor in gradient.op.tensors) - int(held)
    weights = {name for name, tensor in known.items() if tensor.kind in _WEIGHTS}
    alone = len(gradient.kernels) == 1

    def counts(tensor: Tensor) -> bool:
        passes = _is_gradient(tensor.name, known) and tensor.name[1:] not in weights
        return passes and not (alone and tensor.spill)

    return max(sum(int(t.size_byte) for t in kernel.tensors if counts(t)) for kernel in gradient.kernels)


def _clearest(written: Stored | None, needed: Stored) -> Stored:
    """The whole that was written; of two shapes of the same, the one with more sides."""
    if written is None or (written.byte == needed.byte and written.formula.count(" x ") < needed.formula.count(" x ")):
        return needed
    return written


class _Ledger:
    """Which tensors have been kept so far, while the steps run forward."""

    def __init__(self, recompute: str) -> None:
        self._recompute = recompute
        self._flow = Flow()
        self._kept: set[Key] = set()
        self._read: set[Key] = set()
        self._runs = 0

    def run(self, pages: Iterable[_Page], *, layer: bool) -> tuple[tuple[Kept, ...], tuple[Kept, ...]]:
        """What one run of these steps keeps that was not kept before, and what it will compute again."""
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

    def _wanted(self, page: _Page, places: Mapping[Key, list[Tensor]]) -> Iterator[tuple[Key, Kept]]:
        """What a step remembers: tensors of the block, whole, and its own."""
        key_of = {tensor.name: key for key, parts in places.items() for tensor in parts}
        parts_of: dict[Key, list[Tensor]] = {}
        for tensor in page.remembered:
            own = (f"{page.name}: {tensor.name}", -self._runs)
            parts_of.setdefault(key_of.get(tensor.name, own), []).append(tensor)
        for key, parts in parts_of.items():
            needed, written = stored(parts), self._flow.written.get(key)
            square = any(tensor.name in SQUARES and tensor.spill for tensor in parts)
            if written and needed.byte > written.byte:  # gathered, broadcast or joined with another: a copy of its own
                yield (f"{page.name}: {key[0]}", -self._runs), Kept(f"{page.name}: {key[0]}", *needed, (page.name,))
            else:
                yield key, Kept(key[0], *_clearest(written, needed), (page.name,), square)

    def _chosen(
        self, wanted: dict[Key, Kept], inputs: dict[Key, Kept], layer: bool
    ) -> tuple[tuple[Kept, ...], tuple[Kept, ...]]:
        """What of it is kept under the recomputation asked for."""
        keep = wanted
        if self._recompute == "full" and layer:
            keep = {key: wanted.get(key, inputs[key]) for key in inputs}
        if self._recompute == "selective":
            keep = {key: kept for key, kept in wanted.items() if not kept.square}
        again = tuple(kept for key, kept in wanted.items() if key not in keep)
        new = tuple(kept for key, kept in keep.items() if key not in self._kept)
        self._kept.update(keep)
        return new, again
