"""The analysis of a workload at given sizes on a card: one row per kernel, and totals."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from perfmodel import block
from perfmodel.arithmetic import Size, total
from perfmodel.boundary import compulsory_byte
from perfmodel.errors import InputError, shown
from perfmodel.hardware import Gpu
from perfmodel.op import Engine, by_engine
from perfmodel.roofline import Bounds, Rates, lower_under, rates, together
from perfmodel.timing.card import Card
from perfmodel.timing.expectation import Expected
from perfmodel.units import ITEM_BYTES
from perfmodel.workload import COUNTS, ROLES, Workload

# The protocol of expected times of workloads: one replay of a graph whose first kernel finds nothing in L2.
PROTOCOL = "cold"


class Row(NamedTuple):
    """The counts of one kernel for one repeat, with its bounds and expected time if there is a card."""

    name: str
    operation: str
    repeat: int
    flops: int
    contraction_flops: int
    work: dict[str, int]
    engines: dict[str, int]
    traffic_byte: int
    read_byte: int
    write_byte: int
    compulsory_byte: int
    tensors: dict[str, int]
    bounds: Bounds | None
    step: block.Step
    forward: bool
    expected: Expected | None = None

    @property
    def intensity_flop_per_byte(self) -> float:
        return self.flops / self.traffic_byte if self.traffic_byte else 0.0


class Total(NamedTuple):
    """Sums over all kernels and repeats. ``bound`` is the resource with the largest total time."""

    flops: int
    contraction_flops: int
    traffic_byte: int
    compulsory_byte: int
    lower_s: float | None = None
    no_overlap_s: float | None = None
    bound: str | None = None
    expected: Expected | None = None

    @property
    def intensity_flop_per_byte(self) -> float:
        return self.flops / self.traffic_byte if self.traffic_byte else 0.0


class Form(NamedTuple):
    """One way to run a phase: its kernels, their totals, and the cache bytes per token of one sequence."""

    rows: tuple[Row, ...]
    total: Total
    kv_cache_byte_per_token: int


NOTABLE = 0.01  # share of the expected time from which operations without a mechanism are a warning
# Work of a training step besides the gradients of its operations.
GRADIENT_SUMS = "the sums of gradients where several operations read one tensor, one addition per element and reader"


class Analysis(NamedTuple):
    """The whole answer, as tables, JSON and plots show it. ``forms`` holds all ways to run the phase; ``form`` is
    shown.
    """

    workload: Workload
    phase: str
    fused: bool
    causal: bool
    counting: str
    dims: dict[str, Any]
    gpu: Gpu | None
    form: str
    parameters: block.Parameters
    kv_cache_byte_per_token: int
    rows: tuple[Row, ...]
    total: Total
    forms: dict[str, Form]
    knowledge: str = ""
    basis: str = ""
    protocol: str = PROTOCOL

    @property
    def card(self) -> Rates | None:
        """The card's roofs for the data type of the activations."""
        return rates(self.gpu, self.workload.dtypes["activation"]) if self.gpu else None

    @property
    def roof_notes(self) -> tuple[str, ...]:
        """The types that the card lacks, and the rates at which their work runs instead."""
        return self.card.notes_of(row.step.operation.computes for row in self.rows) if self.card else ()

    @property
    def dtypes(self) -> dict[str, str]:
        """The data type by role; bytes per element where a size of the role was set to other than its type's."""
        found = dict(self.workload.dtypes)
        for symbol, role in ROLES.items():
            item = self.dims.get(symbol)
            if item is not None and symbol not in ("mask", "out") and item != ITEM_BYTES[found[role]]:
                found[role] = f"{item:g}-byte"
        return found

    @property
    def launch_s(self) -> float:
        """The part of the expected time that is the launch before the first kernel and belongs to no row."""
        rows_s = sum(row.expected.expected_s * row.repeat for row in self.rows if row.expected)
        return max(0.0, self.total.expected.expected_s - rows_s) if self.total.expected else 0.0

    @property
    def notes(self) -> tuple[str, ...]:
        """Notes for the reader of the counts: those of the workload, and those that these sizes require."""
        return (*self.workload.notes, *self._by_bytes(), *self._called_for())

    @property
    def warnings(self) -> tuple[str, ...]:
        """Notes that a reader needs before the figures: unusual sizes, and operations without a time model."""
        return (*self._by_bytes(NOTABLE), *self._called_for(), *self._unquantised())

    def _unquantised(self) -> list[str]:
        """A note on the training of a model whose config states quantised weights."""
        asked = self.phase == "train" and self.workload.stores
        return ["The config states quantised weights; a training step has unquantised weights."] if asked else []

    def _called_for(self) -> list[str]:
        """Notes on these sizes: more positions than the model has, a window that is not applied."""
        found, keys, window = [], self.dims.get("T", self.dims.get("S", 0)), self.dims.get("W")
        longest = self.workload.longest
        if longest is not None and keys > longest:
            found.append(
                f"NB {keys:,} positions pass the {longest:,} of the model's config (max_position_embeddings): they are "
                "counted all the same."
            )
        limited = self.dims.get("T_w", keys) < keys  # the window already limits the keys of a chunk
        if window is not None and not self.causal and self.phase != "decode" and keys > window and not limited:
            found.append(
                f"The window W = {window} is part of a causal mask: without --causal attention counts all pairs."
            )
        return found

    def _by_bytes(self, least: float = 0.0) -> list[str]:
        """Names the operations that are priced by bytes alone, if their share of the expected time is at least this."""
        whole = self.total.expected
        seconds: dict[str, float] = {}
        for row in self.rows:
            if row.expected and row.expected.unmodelled_s:
                own_s = row.expected.unmodelled_s * row.repeat
                seconds[row.operation] = seconds.get(row.operation, 0.0) + own_s
        if not whole or not seconds:
            return []
        share = sum(seconds.values()) / whole.expected_s
        if share < least:
            return []
        names = ", ".join(sorted(seconds, key=lambda name: -seconds[name]))
        return [f"Timed by bytes alone, with a wide range ({100 * share:.2g} % of the expected time): {names}."]

    @property
    def not_counted(self) -> tuple[str, ...]:
        """Features of the workload that have no formula."""
        return (*self.workload.not_counted, *((GRADIENT_SUMS,) if self.phase == "train" else ()))


def counted(flops: Mapping[tuple[Engine, bool], Size], count: str) -> dict[tuple[Engine, bool], Size]:
    """The FLOPs of a kernel that a counting convention includes.

    ``all``: every primitive. ``leading``: only contractions in kernels that have matrix products, everything in other
    kernels. The softmax inside a fused attention kernel is then not counted, as in many published tables.
    """
    leading = count == "leading" and (Engine.TENSOR, True) in flops
    return {kind: number for kind, number in flops.items() if kind[1] or not leading}


def analyse(
    workload: Workload,
    *,
    phase: str | None = None,
    gpu: Gpu | None = None,
    settings: Mapping[str, Any] | None = None,
    fused: bool | None = None,
    causal: bool | None = None,
    count: str | None = None,
    form: str | None = None,
    knowledge: str | None = None,
    protocol: str = PROTOCOL,
) -> Analysis:
    """Returns counts, and with a card bounds and expected times, of every kernel. ``form`` selects a form of the
    decoding step.
    """
    phase = phase or workload.default_phase
    fused = workload.fused if fused is None else fused
    causal = workload.causal if causal is None else causal
    count = count or workload.counting
    if count not in COUNTS:
        raise InputError(f"count {shown(count)}", "it is not a convention", f"{' and '.join(COUNTS)} are accepted")
    dims = workload.dims(phase, settings)
    at = {"causal": int(causal), **dims}
    card = rates(gpu, workload.dtypes["activation"]) if gpu else None
    timed = _timed(gpu, knowledge) if gpu else None
    chosen = workload.form_in(phase, form)
    forms, forward = {}, {}
    for name in workload.decode if chosen else ("",):
        steps = workload.steps_in(phase, name or None)
        forward[name] = tuple(block.wholes(steps, at))
        forms[name] = _form(workload, steps, forward[name], phase, at, fused, count, card, timed, protocol)
    held = forward[""] if "" in forward else tuple(block.wholes(workload.steps, at))
    return Analysis(
        workload=workload,
        phase=phase,
        fused=fused,
        causal=bool(at["causal"]),
        counting=count,
        dims=dims,
        gpu=gpu,
        form=chosen,
        parameters=block.parameters(held),
        kv_cache_byte_per_token=forms[chosen].kv_cache_byte_per_token,
        rows=forms[chosen].rows,
        total=forms[chosen].total,
        forms=forms,
        knowledge=timed.knowledge if timed else "",
        basis=timed.basis if timed else "",
        protocol=protocol,
    )


def _form(
    workload: Workload,
    steps: tuple[block.Step, ...],
    forward: tuple[block.Kernel, ...],
    phase: str,
    at: Mapping[str, Any],
    fused: bool,
    count: str,
    card: Rates | None,
    timed: Card | None,
    protocol: str,
) -> Form:
    """Compulsory bytes are those of the outer tensors; in training, which keeps activations, those of every kernel."""
    train = phase == "train"
    running = tuple(block.running(forward, steps, at, fused=fused, backward=train, optimizer=train))
    rows = tuple(row(kernel, count, lower_under(kernel.op, card, protocol) if card else None) for kernel in running)
    whole = None
    if timed:
        rows, whole = _with_times(workload, running, rows, timed, protocol)
    apart = sum(row.compulsory_byte * row.repeat for row in rows)
    needed_byte = apart if train else compulsory_byte(forward)
    return Form(rows, summed(rows, needed_byte)._replace(expected=whole), block.cache_byte_per_token(forward))


def _timed(gpu: Gpu, knowledge: str | None) -> Card:
    """Returns the figures of the card for the time model."""
    from perfmodel.timing.parameters import card

    return card(gpu, knowledge)


def _with_times(
    workload: Workload, running: tuple[block.Kernel, ...], rows: tuple[Row, ...], timed: Card, protocol: str
) -> tuple[tuple[Row, ...], Expected]:
    """The expected time of every kernel, and of all in sequence."""
    from perfmodel.timing.sequence import expected

    lower = (row.bounds.lower_s if row.bounds else 0.0 for row in rows)
    times, whole = expected(timed, zip(running, lower, strict=True), workload.dtypes["activation"], protocol=protocol)
    return tuple(row._replace(expected=time) for row, time in zip(rows, times, strict=True)), whole


def row(kernel: block.Kernel, count: str, bound: Bounds | None) -> Row:
    """Returns one kernel's counts as plain integers."""
    op = kernel.op
    kinds = op.flops_by_kind()
    engines = by_engine(kinds)
    return Row(
        name=kernel.name,
        operation=kernel.operation,
        repeat=kernel.repeat,
        flops=total(counted(kinds, count).values()),
        contraction_flops=total(number for (_, products), number in kinds.items() if products),
        work=op.primitives(),
        engines={engine.value: engines.get(engine, 0) for engine in Engine},
        traffic_byte=op.traffic_byte(),
        read_byte=op.read_byte(),
        write_byte=op.write_byte(),
        compulsory_byte=op.compulsory_byte(),
        tensors={tensor.name: tensor.traffic_byte for tensor in op.tensors if tensor.traffic_byte and not tensor.spill},
        bounds=bound,
        step=kernel.step,
        forward=kernel.forward,
    )


def summed(rows: tuple[Row, ...], compulsory_byte: int) -> Total:
    """Returns totals over all repeats."""
    known = [(row.bounds, row.repeat) for row in rows if row.bounds]
    whole = together(known) if known else None
    return Total(
        flops=sum(row.flops * row.repeat for row in rows),
        contraction_flops=sum(row.contraction_flops * row.repeat for row in rows),
        traffic_byte=sum(row.traffic_byte * row.repeat for row in rows),
        compulsory_byte=compulsory_byte,
        lower_s=whole.lower_s if whole else None,
        no_overlap_s=whole.no_overlap_s if whole else None,
        bound=whole.bound if whole else None,
    )
