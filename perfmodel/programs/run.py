"""A program on a card: its kernels one after another, with or without the host.

``graph``: the kernels alone, as in the replay of a CUDA graph; the gaps between them are a figure of their own.
``eager``: the host launches every kernel. Host and device are two timelines: the device waits where the host is slower.
``compiled``: chains of elementwise and reduction calls fused into one kernel each (``fusion``), launched by the host.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from perfmodel import measured, systems
from perfmodel.aten.calls import Operand
from perfmodel.errors import InputError, did_you_mean, shown
from perfmodel.hardware import Gpu
from perfmodel.paths import shipped
from perfmodel.plans.plan import Plan
from perfmodel.programs import timeline
from perfmodel.programs.arrivals import Arrivals, compulsory_byte
from perfmodel.programs.hosts import HostTimes, host_times
from perfmodel.programs.memory import WORKSPACE_BYTE, Usage, usage
from perfmodel.programs.pricing import START_S, Kernel, Prices, modelled
from perfmodel.programs.program import Program, Step
from perfmodel.programs.replicas import Replicas
from perfmodel.programs.reuse import Found, Reuse
from perfmodel.programs.timeline import COMPUTE
from perfmodel.timing.card import Card
from perfmodel.timing.links import known
from perfmodel.timing.power import settled
from perfmodel.timing.stream import NEAR
from perfmodel.timing.weights import Mechanism

RUNS = ("eager", "graph", "compiled", "ideal")
MEMORY_POWER = Mechanism("programs").weight("memory power")


class Row(NamedTuple):
    """One kernel of a program: where it comes from, its counts, its bounds and its time.

    ``l2_share`` is the share of its bytes that the model finds in L2. ``waits_s``: its stream waits for the host before
    it. ``exposed_s``: its stream waits for another one, such as that of communication.
    """

    step: int
    module: str
    phase: str
    source: str
    operation: str
    sizes: Mapping[str, Any]
    dtype: str
    impl: str
    flops: int
    contraction_flops: int
    read_byte: int
    write_byte: int
    bound: str
    lower_s: float
    no_overlap_s: float
    expected_s: float
    spread: float
    known: bool
    modelled: bool
    l2_share: float
    waits_s: float = 0.0
    stream: int = COMPUTE
    exposed_s: float = 0.0


class Total(NamedTuple):
    """Sums over a program. ``expected_s`` is the time of the run: of ``graph`` and ``ideal`` the kernels alone.

    ``kernel_s``: time of the kernels that compute. ``communication_s``: time of those that communicate, of which the
    others wait for ``exposed_s``. ``gaps_s``: gaps between the kernels of a graph's replay, not part of
    ``expected_s`` of a graph. ``waits_s``: the device waits for the host. ``unknown_s``: kernels priced by bytes alone.
    """

    flops: int
    contraction_flops: int
    traffic_byte: int
    compulsory_byte: int
    lower_s: float
    no_overlap_s: float
    expected_s: float
    expected_low_s: float
    expected_high_s: float
    kernel_s: float
    gaps_s: float
    waits_s: float
    unknown_s: float
    kernels: int
    bound: str
    communication_s: float = 0.0
    exposed_s: float = 0.0

    @property
    def host_s(self) -> float:
        """The host's time before the first kernel and after the last: the rest of ``expected_s`` of eager and compiled."""
        return max(0.0, self.expected_s - self.kernel_s - self.waits_s - self.exposed_s)


class Answer(NamedTuple):
    """A program on a card: rows of its kernels in order, sums, and memory over time."""

    program: Program
    gpu: Gpu
    run: str
    knowledge: str
    rows: tuple[Row, ...]
    total: Total
    memory: Usage

    @property
    def peak_byte(self) -> int:
        """The most bytes allocated at once."""
        return self.memory.peak_byte


def on(
    program: Program, gpu: Gpu, run: str = "eager", knowledge: str | None = None, *, plan: Plan | None = None,
    system: str | None = None,
) -> Answer:  # fmt: skip
    """Returns the program's times and memory on a card. ``plan``: the program is that of one of its replicas."""
    if run not in RUNS:
        raise InputError(
            f"run {shown(run)}", "it is not a way to run a program", f"{', '.join(RUNS)} are accepted", did_you_mean(run, RUNS)
        )  # fmt: skip
    replicas = Replicas(plan or Plan())
    memory = usage(replicas.program(program), _workspace(gpu))
    running = program
    if run in ("compiled", "ideal"):
        from perfmodel.programs.fusion import fused

        running = fused(program.traced or program)
    running = replicas.program(running)
    prices = Prices(gpu, knowledge)
    prices.card = _warmed(prices, running)._replace(system=systems.of(gpu, system) if plan or system else None)
    rows, total = _timed(running, tuple(_rows(running, prices)), prices.card, run)
    return Answer(program, gpu, run, prices.card.knowledge, rows, total, memory)


def _workspace(gpu: Gpu) -> int:
    capability = float(gpu.compute_capability or 0)
    return next(byte for least, byte in WORKSPACE_BYTE.items() if capability >= least)


def _warmed(prices: Prices, program: Program) -> Card:
    """The card at the rate of products that the power limit allows in this program.

    Products at the sustained rate take the whole limit. Kernels between them take less, so the products may run faster.
    The factor is 1 / (1 - (1 - p) m / t), for t seconds of products at the sustained rate and m seconds of other kernels
    at the share p of the limit.
    """
    card = prices.card
    flops: dict[str, int] = {}
    others_s = 0.0
    for step in program.steps:
        for kernel in prices.kernels(step.call) if step.stream == COMPUTE else ():
            if kernel.contraction_flops:
                flops[kernel.launched.dtype] = flops.get(kernel.launched.dtype, 0) + kernel.contraction_flops
            else:
                others_s += prices.time(kernel, 0.0).seconds
    prices.forget()
    if not flops:
        return card
    dtype = max(flops, key=lambda name: flops[name])
    if dtype not in card.held_flop_per_s:
        return card
    held_s = flops[dtype] / card.held_flop_per_s[dtype]
    spare = (1.0 - MEMORY_POWER) * others_s / held_s if held_s else 1.0
    faster = card.surge if spare >= 1.0 else min(card.surge, 1.0 / (1.0 - spare))
    slow = settled(card, dtype, flops[dtype])
    return slow._replace(surge=max(slow.surge, faster))


def _rows(program: Program, prices: Prices) -> Iterator[Row]:
    """Yields the row of each kernel in order. What L2 holds depends on the kernels before it."""
    reuse, arrivals = Reuse(prices.card), Arrivals(program, prices.gpu)
    for number, step in enumerate(program.steps):
        kernels = prices.kernels(step.call)
        found = Found(0.0, 0.0)
        if kernels:
            whole = sum(kernel.read_byte + kernel.write_byte for kernel in kernels)
            found = reuse.found(step.call.operands, _written(step), whole)
        reuse.freed(step.frees)
        for place, kernel in enumerate(kernels):
            row = _row(number, step, kernel, prices, found)
            lower_s = arrivals.least_s(step, kernel, first=place == 0)
            yield (
                row
                if lower_s <= row.lower_s
                else row._replace(lower_s=lower_s, expected_s=max(row.expected_s, lower_s))
            )


def _written(step: Step) -> tuple[Operand, ...]:
    """Results in memory of their own. A result in the place of an operand is one of the operands already."""
    given = {operand.storage for operand in step.call.operands}
    return tuple(result for result in step.call.results if result.storage not in given)


def _row(number: int, step: Step, kernel: Kernel, prices: Prices, found: Found) -> Row:
    timed = prices.time(kernel, found.share, near=found.read_share >= NEAR)
    one, bounds = kernel.launched, kernel.bounds
    return Row(
        number, step.module, step.phase, step.source, one.operation, one.sizes, one.dtype, one.impl, kernel.flops,
        kernel.contraction_flops, kernel.read_byte, kernel.write_byte, bounds.bound, bounds.lower_s, bounds.no_overlap_s,
        timed.seconds, timed.spread, kernel.known, modelled(timed), found.share, stream=step.stream,
    )  # fmt: skip


def _timed(program: Program, rows: tuple[Row, ...], card: Card, run: str) -> tuple[tuple[Row, ...], Total]:
    """The rows with the waiting times of their streams, and all sums."""
    host = _host(card) if run in ("eager", "compiled") else None
    lost = known(card.system.scale_up, card.gpu).lost if card.system else 0.0
    times = timeline.run(program, (timeline.Timed(row.step, row.expected_s) for row in rows), host, run, lost)
    rows = tuple(
        row._replace(waits_s=waits_s, exposed_s=exposed_s, expected_s=row.expected_s + slowed_s)
        for row, waits_s, exposed_s, slowed_s in zip(rows, *times[1:], strict=True)
    )
    return rows, _total(program, rows, times.end_s, max(0.0, card.node_s - START_S))


def _total(program: Program, rows: Sequence[Row], end_s: float, gap_s: float) -> Total:
    """Sums over rows. Kernels of different streams may run at the same time, so their bounds do not add."""
    own = [row for row in rows if row.stream == COMPUTE]
    communication = [row for row in rows if row.stream != COMPUTE]
    kernel_s = sum(row.expected_s for row in own)
    width = sum(row.spread * row.expected_s for row in own) / kernel_s if kernel_s else 0.0
    seconds: dict[str, float] = {}
    for row in own:
        seconds[row.bound] = seconds.get(row.bound, 0.0) + row.lower_s
    moved = sum(row.read_byte + row.write_byte for row in rows)
    lower_s = max(sum(row.lower_s for row in group) for group in (own, communication))
    return Total(
        flops=sum(row.flops for row in rows),
        contraction_flops=sum(row.contraction_flops for row in rows),
        traffic_byte=moved,
        compulsory_byte=min(moved, compulsory_byte(program)),
        lower_s=lower_s,
        no_overlap_s=sum(row.no_overlap_s for row in rows),
        expected_s=max(end_s, lower_s),
        expected_low_s=max(lower_s, end_s / (1.0 + width)),
        expected_high_s=end_s * (1.0 + width),
        kernel_s=kernel_s,
        gaps_s=max(0, len(own) - 1) * gap_s,
        waits_s=sum(row.waits_s for row in own),
        unknown_s=sum(row.expected_s for row in rows if not (row.known and row.modelled)),
        kernels=len(rows),
        bound=max(seconds, key=lambda name: seconds[name], default="memory"),
        communication_s=sum(row.expected_s for row in communication),
        exposed_s=sum(row.exposed_s for row in own),
    )


def _host(card: Card) -> HostTimes:
    """Returns the host's figures, scaled to this host if the user has calibrated the card.

    Shipped readings are those of another host, so they do not scale them.
    """
    readings = measured.of(card.gpu) if card.knowledge == "calibrated" else None
    own = readings is not None and not shipped(readings.file)
    return host_times().as_measured(readings.value("launch", "stream") if readings and own else None)
