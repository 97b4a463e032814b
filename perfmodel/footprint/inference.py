"""What an inference holds beside the weights: keys and values of earlier tokens, recurrent states, and what passes.

A token leaves a key and a value in each layer, or a latent of both; a layer with a window keeps the last W of them.
Layers without attention keep a state of constant size instead. What passes between two kernels lives from the one
that writes it to the last that reads it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from perfmodel.arithmetic import product, whole_bytes
from perfmodel.block import Kernel, Step, kernels
from perfmodel.expression import Expression
from perfmodel.footprint.flow import Flow, Key, layers, stored
from perfmodel.op import Kind, Tensor

# Numbers that a layer keeps of each sequence from one token to the next.
STATES = {
    "conv1d": ("last K inputs of a convolution", Expression("D*K", "state")),
    "selective_scan": ("X states of each channel", Expression("D*X", "state")),
    "token_shift": ("token before", Expression("D", "state")),
    "wkv": ("numerator, denominator and maximum", Expression("3*D", "state")),
}
RECURRENCES = ("selective_scan", "wkv")


class Share(NamedTuple):
    """What one kind of layer keeps: bytes per token of one sequence, how many tokens, in how many layers."""

    byte_per_token: int | float
    tokens: int
    repeat: int
    windowed: bool = False

    @property
    def byte(self) -> int:
        return int(whole_bytes(product((self.byte_per_token, self.tokens, self.repeat))))


class Cache(NamedTuple):
    """Keys and values by kinds of layers: of earlier tokens, of the new ones, and of an encoder's positions."""

    before: tuple[Share, ...]
    new: tuple[Share, ...]
    cross: tuple[Share, ...]


class State(NamedTuple):
    """A recurrent state: numbers per sequence in each of so many layers."""

    name: str
    elements: int
    repeat: int
    recurrence: bool


class Workspace(NamedTuple):
    """The most that passes between kernels at one time: while which kernel, its operands, and what waits."""

    name: str
    operand_byte: int
    waiting_byte: int


def cache(steps: Sequence[Step], dims: Mapping[str, Any]) -> Cache:
    """Keys and values that stay, for one sequence.

    S tokens were there before; what a kernel attends to beyond them it wrote itself.
    """
    before, new, cross = [], [], []
    for kernel in kernels(steps, dims):
        held = [tensor for tensor in kernel.op.tensors if tensor.kind is Kind.CACHE]
        if not held or not (kernel.step.cached or kernel.step.crosses):
            continue
        per_token, full = (
            sum(product((heads, width, t.item)) for t in held for _, heads, _, width in [t.shape]),
            held[0].shape[2],
        )
        if not kernel.step.cached:
            cross.append(Share(per_token, full, kernel.repeat))
            continue
        window = kernel.step.values(dims).get("W") if kernel.step.forgets else None
        earlier = min(full, dims.get("S", full))
        kept, both = (min(tokens, window or tokens) for tokens in (earlier, full))
        before.append(Share(per_token, kept, kernel.repeat, kept == window))
        new.append(Share(per_token, both - kept, kernel.repeat))
    return Cache(_merged(before), _merged(new), _merged(cross))


def _merged(shares: Iterable[Share]) -> tuple[Share, ...]:
    """Layers that keep the same, together."""
    repeats: dict[Share, int] = {}
    for share in shares:
        kind = share._replace(repeat=0)
        repeats[kind] = repeats.get(kind, 0) + share.repeat
    return tuple(kind._replace(repeat=repeat) for kind, repeat in repeats.items() if kind.tokens)


def states(steps: Sequence[Step], dims: Mapping[str, Any]) -> tuple[State, ...]:
    """Recurrent states of one sequence; operations that shift the same tensor share its last token."""
    flow, found = Flow(), []
    shifted: set[Key] = set()
    for kernel in kernels(steps, dims):
        reads = flow.reads(kernel.op.tensors, kernel.step.flow)
        flow.write(kernel.op.tensors, kernel.step.flow)
        if kernel.operation not in STATES:
            continue
        name, elements = STATES[kernel.operation]
        if kernel.operation == "token_shift":
            if shifted.issuperset(reads):
                continue
            shifted.update(reads)
        values = {**kernel.step.operation.defaults, **kernel.step.values(dims)}
        found.append(State(name, elements(values), kernel.repeat, kernel.operation in RECURRENCES))
    return tuple(found)


def workspace(steps: Sequence[Step], dims: Mapping[str, Any], *, fused: bool, keeps_cache: bool) -> Workspace:
    """The largest sum of what lives at one time, weights, cache and states apart."""
    running = tuple(_running(steps, dims, fused))
    cached = [(k, t) for k in running for t in k.op.tensors if keeps_cache and _stays(t, k)]
    names = {kernel.step.flow.get(tensor.name) for kernel, tensor in cached} - {None}
    flow, sizes = Flow(), dict[Key, int]()
    touched: list[tuple[str, tuple[Key, ...], int]] = []
    for kernel in running:
        passing = [
            tensor
            for tensor in kernel.op.tensors
            if _passes(tensor, kernel.step)
            and kernel.step.flow.get(tensor.name) not in names
            and not (keeps_cache and _stays(tensor, kernel))
        ]
        places = {**flow.reads(passing, kernel.step.flow), **flow.write(passing, kernel.step.flow)}
        placed = {tensor.name for parts in places.values() for tensor in parts}
        own = whole_bytes(sum(tensor.size_byte for tensor in passing if tensor.name not in placed))
        for key, parts in places.items():
            needed = stored(parts).byte
            sizes.setdefault(key, flow.written[key].byte if key in flow.written else needed)
            own += max(0, needed - sizes[key])  # gathered or broadcast: a copy for this kernel
        touched.append((kernel.name, tuple(places), own))
    return _largest(touched, sizes)


def _running(steps: Sequence[Step], dims: Mapping[str, Any], fused: bool) -> Iterator[Kernel]:
    """The kernels of each layer twice: the second run stands for all further ones."""
    for _, repeat, together in layers(steps, dims):
        once = tuple(kernels(together, dims, fused=fused))
        yield from once * min(repeat, 2)


def _stays(tensor: Tensor, kernel: Kernel) -> bool:
    """Whether it is a cache or a state, which lives on after the last kernel."""
    if tensor.kind is Kind.CACHE:
        return kernel.step.cached or kernel.step.crosses
    return tensor.name == "state" and kernel.operation in STATES


def _passes(tensor: Tensor, step: Step) -> bool:
    """Whether it is neither a weight nor something that stays on chip.

    An operand that is only read and that a step leaves out of its flow comes from no other step: a weight, an index.
    """
    if tensor.spill or tensor.kind in (Kind.PARAMETER, Kind.WEIGHT):
        return False
    return bool(tensor.writes or (tensor.reads and (tensor.name in step.flow or not step.flow)))


def _largest(touched: list[tuple[str, tuple[Key, ...], int]], sizes: Mapping[Key, int]) -> Workspace:
    """Each tensor lives from the first kernel that touches it to the last."""
    last = {key: number for number, (_, keys, _) in enumerate(touched) for key in keys}
    living: set[Key] = set()
    found = Workspace("", 0, 0)
    for number, (name, keys, own) in enumerate(touched):
        living.update(keys)
        waiting = sum(sizes[key] for key in living if key not in keys)
        operands = own + sum(sizes[key] for key in keys)
        if operands + waiting > found.operand_byte + found.waiting_byte:
            found = Workspace(name, operands, waiting)
        living = {key for key in living if last[key] > number}
    return found
