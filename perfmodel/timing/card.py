"""The figures of a card that the time model uses: rates in base units, and their sources."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from perfmodel.hardware import Gpu

if TYPE_CHECKING:
    from perfmodel.systems import System


class Tiling(NamedTuple):
    """How a generation's matrix products run on one of its engines.

    ``edge``: a tile of m by n loses the share edge (1/m + 1/n) of its rate at its edges. ``draw_byte_per_clock``:
    operand bytes that one multiprocessor can load per clock. ``sharing``: multiprocessors that one L2 read serves
    (multicast). ``lead_s``: pipeline fill and drain of the kernel. ``start_s``: first operands of a wave.
    ``drain_per_clock``: results that leave a multiprocessor per clock. ``split_s``: the kernel that adds the parts of a
    split sum. ``small``, ``small_draw``: factors of rate and load for rows aligned to 4 or 8 bytes; ``misaligned``,
    ``misaligned_draw``: for rows aligned to less. ``issue``: the share of the peak that the engine reaches inside a large
    tile. ``wait``: least time of a step of all tiles that a multiprocessor holds, in latencies of the memory that the
    first access reads. ``overlap``: exponent of the overlap of products, memory and L2.
    """

    edge: float
    draw_byte_per_clock: float
    sharing: float
    lead_s: float
    start_s: float
    drain_per_clock: float
    split_s: float
    small: float
    small_draw: float
    misaligned: float
    misaligned_draw: float
    issue: float
    wait: float
    overlap: float


class Card(NamedTuple):
    """A card's rates as kernels reach them.

    ``through_byte_per_s``: a stream through L2, 0 where it is unknown. ``cold_s``, ``warm_s``: replay of a graph with one
    kernel. ``graph_s``: launch of a kernel in a graph of several. ``node_s``: gap between two of them.
    ``serving_share``: the share of the peak that a serving stack's attention kernel reaches. ``held_flop_per_s``: rates
    that the power limit sustains. ``surge``: rate of a short burst divided by that rate; ``patience_s``: time over which
    the board averages its power. ``near_byte``: L1 of a multiprocessor. ``idle_share``: clock after a pause between
    calls, divided by the highest clock; work of ``settle_s`` brings it half way back. ``before``: the row kernels are
    those of torch before 2.3. ``system``: of collectives, by default that of the card.
    """

    gpu: Gpu
    knowledge: str
    generation: str
    basis: str
    multiprocessors: int
    clock_hz: float
    read_byte_per_s: float
    copy_byte_per_s: float
    add_byte_per_s: float
    write_byte_per_s: float
    l2_byte: float
    l2_byte_per_s: float
    through_byte_per_s: float
    lane_per_s: float
    cold_s: float
    warm_s: float
    graph_s: float
    node_s: float
    host_s: Mapping[str, float]
    host_hidden_s: float
    serving_share: float
    dram_latency_s: float
    l2_latency_s: float
    peak_flop_per_s: Mapping[str, float]
    held_flop_per_s: Mapping[str, float]
    surge: float
    patience_s: float
    tilings: Mapping[str, Tiling]
    spread: Mapping[str, float]
    near_byte: float = 0.0
    idle_share: float = 1.0
    settle_s: float = 0.0
    before: bool = False
    system: System | None = None

    def half_range(self, mechanism: str) -> float:
        """Half of the range of a mechanism. A name of several words without a range of its own has that of its first
        words.
        """
        words = mechanism
        while words:
            if words in self.spread:
                return self.spread[words]
            words = words.rpartition(" ")[0]
        return self.spread["any"]

    def of_each(self, name: str, otherwise: float) -> float:
        """A figure of one multiprocessor, or ``otherwise`` where the data sheet has none."""
        figure = self.gpu.multiprocessor.get(name)
        return figure.value if figure else otherwise
