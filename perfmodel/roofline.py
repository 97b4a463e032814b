"""Bounds of an operation on a card, from the data sheet alone.

``lower``: memory and all engines overlap, so the slowest of them is the time. ``no overlap``: memory and engines one
after another, so it is their sum; a real kernel can be slower. A collective also needs the links between GPUs: those of
the card's default system, without the latency. The ridge of an engine is its peak divided by the
bandwidth; an operation with less intensity is memory-bound.
"""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from perfmodel.arithmetic import Size, maximum, minimum, total
from perfmodel.errors import InputError
from perfmodel.hardware import Gpu
from perfmodel.op import WEIGHTS, Engine, Op, Tensor
from perfmodel.paths import label
from perfmodel.patterns import least_byte
from perfmodel.runs import Collective, Facts, Gemm
from perfmodel.runs import each as each_fact
from perfmodel.units import checked_dtype

MEMORY = "memory"
LINK = "link"


class Roof(NamedTuple):
    """The peak that applies to an engine's work for a data type, and the engine that executes it."""

    name: str
    flop_per_s: float
    engine: Engine


class Rates(NamedTuple):
    """A card's bandwidth and the roof of each engine for one data type."""

    gpu: Gpu
    dtype: str
    bandwidth_byte_per_s: float
    roofs: dict[Engine, Roof]

    @property
    def notes(self) -> tuple[str, ...]:
        """The rate at which products run where the card has none for their data type."""
        roof, own = self.roofs[Engine.TENSOR], self.dtype in self.gpu.peaks["tensor"]
        missing = f"{self.gpu.title}: {'a slower' if own else 'no'} tensor rate for {self.dtype}"
        if roof.engine is not Engine.TENSOR:
            return (f"{missing}; that work runs at the rate of {roof.name}.",)
        wider = roof.name.removeprefix("tensor ")
        if wider == self.dtype:
            return ()
        return (f"{missing}; that work runs at the rate of {roof.name}, a type that holds every {self.dtype} value.",)

    def notes_of(self, computes: Iterable[str]) -> tuple[str, ...]:
        """The notes, and how quantised products run where the card has no rate for the types of their formats."""
        found = list(self.notes)
        for dtype in dict.fromkeys(computes):
            roof = rates(self.gpu, dtype).roofs[Engine.TENSOR] if dtype not in ("", self.dtype) else None
            if roof and roof.name != f"tensor {dtype}":
                missing = f"{'a slower' if dtype in self.gpu.peaks['tensor'] else 'no'} tensor rate for {dtype}"
                found.append(
                    f"{self.gpu.title}: {missing}; quantised products run at the rate of {roof.name}, and their weights and "
                    "activations are converted to it."
                )
        return tuple(found)

    def ridge(self, engine: Engine = Engine.TENSOR) -> float:
        """FLOP per byte at which the roof of the engine meets the bandwidth line."""
        return self.roofs[engine].flop_per_s / self.bandwidth_byte_per_s

    def attainable(self, intensity: float, engine: Engine = Engine.TENSOR) -> float:
        """FLOP per second under the roof: min(peak, bandwidth x intensity)."""
        return min(self.roofs[engine].flop_per_s, self.bandwidth_byte_per_s * intensity)


class Bounds(NamedTuple):
    """Seconds of memory, of each engine and of the links, their maximum, their sum, and the name of the maximum."""

    memory_s: Any
    engine_s: dict[Engine, Any]
    lower_s: Any
    no_overlap_s: Any
    link_s: Any = 0.0

    @property
    def bound(self) -> str:
        """The resource with the largest time; memory if equal."""
        if self.link_s > max(self.memory_s, *self.engine_s.values(), 0.0):
            return LINK
        engine = max(self.engine_s, key=lambda e: self.engine_s[e], default=None)
        if engine is None or self.engine_s[engine] <= self.memory_s:
            return MEMORY
        return engine.value


def rates(gpu: Gpu, dtype: str) -> Rates:
    """The roofs of a card for a data type.

    Products of a type without a tensor rate run at the rate of a wider type, or on the vector engine: fp32 on cards
    with tensor cores for shorter types only. Exponentials run on the vector engine where no special-function rate is
    published.
    """
    checked_dtype(dtype)
    vector = gpu.peak(Engine.VECTOR, dtype)
    if vector is None:
        raise InputError(
            label(gpu.file),
            f"no rate for {dtype} and none for a wider type",
            "a card needs a vector rate",
            "Add it to the file.",
        )
    roofs = {Engine.VECTOR: Roof(vector[1], vector[0], Engine.VECTOR)}
    for engine in (Engine.TENSOR, Engine.SPECIAL):
        peak = gpu.peak(engine, dtype)
        own = peak is not None and peak[1].partition(" ")[0] == engine.value
        roofs[engine] = Roof(peak[1], peak[0], engine) if peak and own else roofs[Engine.VECTOR]
    return Rates(gpu, dtype, gpu.bandwidth_byte_per_s.value, roofs)


def computing(op: Op, card: Rates) -> Rates:
    """The roofs of a kernel: those of the type in which its products run."""
    return card if op.computes in ("", card.dtype) else rates(card.gpu, op.computes)


def bounds(op: Op, card: Rates) -> Bounds:
    """Bounds of one kernel, or of many if the sizes are arrays."""
    card = computing(op, card)
    found = overlapping(op.traffic_byte(), op.engine_flops(), card)
    return with_links(found, link_s(op.runs, card.gpu)) if isinstance(op.runs, Collective) else found


def with_links(found: Bounds, seconds: Any) -> Bounds:
    """The bounds with the time of the links, which overlap with memory and engines."""
    return found._replace(
        lower_s=maximum(found.lower_s, seconds), no_overlap_s=found.no_overlap_s + seconds, link_s=seconds
    )


def link_s(fact: Facts, gpu: Gpu) -> Any:
    """The least time of a collective on the links of the card's default system; 0 for other kernels."""
    if not isinstance(fact, Collective):
        return 0.0
    from perfmodel import systems

    links = systems.default(gpu).scale_up
    return least_byte(fact.kind, fact.byte, fact.gpus, links.reduces) / links.one_way_byte_per_s.value


def overlapping(traffic_byte: Any, engine_flops: Mapping[Engine, Any], card: Rates) -> Bounds:
    """Bounds of so many bytes and FLOPs by engine."""
    memory_s, engine_s = seconds(traffic_byte, engine_flops, card)
    lower_s = memory_s
    for alone_s in engine_s.values():
        lower_s = maximum(lower_s, alone_s)
    return Bounds(memory_s, engine_s, lower_s, memory_s + total(engine_s.values()))


# Protocols whose data may still be in L2 from the run before (``timing/sequence.py`` describes all of them).
FROM_L2 = ("warm", "rotating", "eager")


def lower_under(op: Op, card: Rates, protocol: str) -> Bounds:
    """Bounds of one kernel under a protocol: where L2 may hold data, the lower time charges memory for the rest alone.

    What bounds the kernel, and its time without overlap, do not depend on the protocol.
    """
    found = bounds(op, card)
    if protocol not in FROM_L2:
        return found
    lower_s = reusing_l2(op, card, weights=protocol != "rotating", pauses=protocol == "eager")
    return found._replace(lower_s=maximum(lower_s, found.link_s))


def reusing_l2(op: Op, card: Rates, *, weights: bool = True, pauses: bool = False) -> Size:
    """The least time of a kernel that runs again and again, or after one that left its operands in L2.

    No replacement policy saves more than the capacity of L2, so the tensors with the most traffic per byte are assumed
    to stay. All traffic passes through L2, at its own rate where the data sheet gives one. ``weights``: whether weights
    may stay too. ``pauses``: whether L2 may write back the results of a run before the next one starts. The capacity
    then counts twice: for reads at the start of a run and for writes at its end.
    """
    cache, card = card.gpu.caches.get("l2"), computing(op, card)
    traffic_byte, engine_flops = op.traffic_byte(), op.engine_flops()
    if cache is None:
        return overlapping(traffic_byte, engine_flops, card).lower_s
    held = [t for t in op.tensors if not t.spill and t.size_byte and (weights or not _is_weight(op, t))]
    if pauses:
        saved_byte = _saved_byte(cache.value, ((t.size_byte, t.read_byte) for t in held))
        saved_byte += _saved_byte(cache.value, ((t.size_byte, t.write_byte) for t in held))
    else:
        saved_byte = _saved_byte(cache.value, ((t.size_byte, t.traffic_byte) for t in held))
    found = overlapping(maximum(0.0, traffic_byte - saved_byte), engine_flops, card)
    rate = card.gpu.caches.get("l2_bandwidth")
    return maximum(found.lower_s, traffic_byte / rate.value if rate else 0.0)


def _is_weight(op: Op, tensor: Tensor) -> bool:
    """Whether every run of the rotating protocol reads another copy of a tensor."""
    return tensor.kind in WEIGHTS or any(
        isinstance(fact, Gemm) and fact.rotates == tensor.name for fact in each_fact(op.runs)
    )


def _saved_byte(left_byte: Size, tensors: Iterable[tuple[Size, Size]]) -> Size:
    """Traffic that so many bytes of L2 save, given each tensor's size and traffic."""
    saved_byte: Size = 0.0
    for size_byte, traffic_byte in sorted(tensors, key=lambda one: one[1] / one[0], reverse=True):
        stays_byte = minimum(left_byte, size_byte)
        saved_byte += stays_byte * (traffic_byte / size_byte)
        left_byte -= stays_byte
    return saved_byte


def together(parts: Iterable[tuple[Bounds, Any]]) -> Bounds:
    """Bounds of kernels one after another, each with its repeats.

    The bottleneck is the resource (memory or one engine) with the largest total time. The lower times add up, because
    kernels do not overlap each other.
    """
    memory_s, lower_s, no_overlap_s, links_s = 0.0, 0.0, 0.0, 0.0
    engine_s: dict[Engine, Any] = {}
    for one, repeat in parts:
        memory_s += one.memory_s * repeat
        lower_s += one.lower_s * repeat
        no_overlap_s += one.no_overlap_s * repeat
        links_s += one.link_s * repeat
        for engine, alone_s in one.engine_s.items():
            engine_s[engine] = engine_s.get(engine, 0.0) + alone_s * repeat
    return Bounds(memory_s, engine_s, lower_s, no_overlap_s, links_s)


def seconds(traffic_byte: Any, engine_flops: Mapping[Engine, Any], card: Rates) -> tuple[Any, dict[Engine, Any]]:
    """Seconds of memory and of each engine alone. The work of an engine that the card lacks goes to the one that
    replaces it.
    """
    flops: dict[Engine, Any] = {}
    for engine, count in engine_flops.items():
        on = card.roofs[engine].engine
        flops[on] = flops[on] + count if on in flops else count
    engine_s = {engine: count / card.roofs[engine].flop_per_s for engine, count in flops.items()}
    return traffic_byte / card.bandwidth_byte_per_s, engine_s
