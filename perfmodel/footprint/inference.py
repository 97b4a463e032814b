"""Memory of inference beside the weights: the cache, recurrent states, and the tensors that pass between kernels.

A token adds a key and a value to the cache of each layer, or one latent for both; a layer with a window keeps the last
W of them. Layers without attention keep a state of constant size instead. A tensor between two kernels lives from the
kernel that writes it to the last one that reads it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from perfmodel.arithmetic import product, stored_byte, whole_bytes
from perfmodel.block import Kernel, Step, kernels
from perfmodel.expression import Expression
from perfmodel.footprint.flow import Flow, Key, layers, stored
from perfmodel.op import WEIGHTS, Kind, Tensor

# Elements that a layer keeps per sequence from one token to the next.
STATES = {
    "conv1d": ("last K inputs of a convolution", Expression("D*K", "state")),
    "selective_scan": ("X states of each channel", Expression("D*X", "state")),
    "token_shift": ("previous token", Expression("D", "state")),
    "wkv": ("numerator, denominator and maximum", Expression("3*D", "state")),
}
RECURRENCES = ("selective_scan", "wkv")


class Share(NamedTuple):
    """The cache of one kind of layer: bytes per token of one sequence, tokens, and number of layers."""

    byte_per_token: int | float
    tokens: int
    repeat: int
    windowed: bool = False

    @property
    def byte(self) -> int:
        return int(whole_bytes(product((self.byte_per_token, self.tokens, self.repeat))))


class Cache(NamedTuple):
    """Keys and values by kind of layer: of earlier tokens, of the new ones, and of an encoder's positions."""

    before: tuple[Share, ...]
    new: tuple[Share, ...]
    cross: tuple[Share, ...]


class State(NamedTuple):
    """A recurrent state: elements per sequence, and the number of layers that keep it."""

    name: str
    elements: int
    repeat: int
    recurrence: bool


class Workspace(NamedTuple):
    """The kernel at which most memory is in use: its operands, and tensors that later kernels read."""

    name: str
    operand_byte: int
    waiting_byte: int


def cache(steps: Sequence[Step], dims: Mapping[str, Any]) -> Cache:
    """Keys and values that stay in memory, for one sequence.

    S tokens were cached earlier. A kernel that attends to more tokens has written the others itself.
    """
    before, new, cross = [], [], []
    for kernel in kernels(steps, dims):
        held = [tensor for tensor in kernel.op.tensors if tensor.kind is Kind.CACHE]
        if not held or not (kernel.step.cached or kernel.step.crosses):
            continue
        per_token, full = (
            sum(stored_byte(heads * width, t.item) for t in held for _, heads, _, width in [t.shape]),
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
    """Layers with equal shares, added together."""
    repeats: dict[Share, int] = {}
    for share in shares:
        kind = share._replace(repeat=0)
        repeats[kind] = repeats.get(kind, 0) + share.repeat
    return tuple(kind._replace(repeat=repeat) for kind, repeat in repeats.items() if kind.tokens)


def states(steps: Sequence[Step], dims: Mapping[str, Any]) -> tuple[State, ...]:
    """Recurrent states of one sequence. Operations that shift the same tensor share its last token."""
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
    """The largest sum of tensors that live at the same time, without weights, cache and states."""
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
    """The kernels of each layer twice: the second run represents all further repeats."""
    for _, repeat, together in layers(steps, dims):
        once = tuple(kernels(together, dims, fused=fused))
        yield from once * min(repeat, 2)


def _stays(tensor: Tensor, kernel: Kernel) -> bool:
    """Whether a tensor is a cache or a state, which outlives the last kernel."""
    if tensor.kind is Kind.CACHE:
        return kernel.step.cached or kernel.step.crosses
    return tensor.name == "state" and kernel.operation in STATES


def _passes(tensor: Tensor, step: Step) -> bool:
    """Whether a tensor is stored in memory and is not a weight.

    An operand that is only read and is not in the step's flow comes from no other step: it is a weight or an index.
    """
    if tensor.spill or tensor.kind in WEIGHTS:
        return False
    return bool(tensor.writes or (tensor.reads and (tensor.name in step.flow or not step.flow)))


def _largest(touched: list[tuple[str, tuple[Key, ...], int]], sizes: Mapping[Key, int]) -> Workspace:
    """The kernel at which most bytes live. A tensor lives from the first kernel that touches it to the last."""
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
