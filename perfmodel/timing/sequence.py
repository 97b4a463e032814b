"""Kernels one after another: the data that each finds in L2, the gaps between them, and the first launch.

Protocols. ``cold``: replay of a CUDA graph that starts with an empty L2; a later kernel finds the data of the kernel
before it. ``warm``: replay back to back; data that fits in L2 is still there. ``rotating``: like warm, but weights (of
a plain product, the right operand) come from memory. ``eager``: the kernels of warm, launched by the host.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from perfmodel.arithmetic import Size, maximum, minimum, where
from perfmodel.block import Kernel
from perfmodel.roofline import FROM_L2
from perfmodel.timing.card import Card
from perfmodel.timing.expectation import Expected
from perfmodel.timing.kernels import UNMODELLED, parts
from perfmodel.timing.launch import first_launch_s, gap_s, host_call, ramp_s
from perfmodel.timing.part import Part
from perfmodel.timing.power import settled
from perfmodel.timing.stream import NEAR, kept
from perfmodel.timing.terms import Body, Term, is_none

# Mechanisms whose speed at the reduced clock after a pause was fitted.
CLOCKED = ("rows", "stream")


class Launched(NamedTuple):
    """A kernel of the model with its lower bound, its launches, and the FLOPs of its products over all repeats."""

    kernel: Kernel
    lower_s: Size
    parts: tuple[Part, ...]
    flops: Size = 0


class Row(NamedTuple):
    """One kernel of the model with its launches' times, for one repeat; ``gaps_s`` precede its launches."""

    kernel: Kernel
    repeat: Size
    lower_s: Size
    bodies: tuple[Body, ...]
    gaps_s: Size
    ramps_s: Size

    @property
    def unclamped_s(self) -> Size:
        """The model's own time, before it is held to the lower bound."""
        return sum(body.all_s for body in self.bodies) + self.gaps_s + self.ramps_s


def expected(
    card: Card, kernels: Iterable[tuple[Kernel, float]], dtype: str, *, impl: str = "", protocol: str = "cold"
) -> tuple[list[Expected], Expected]:
    """The time of every kernel for one repeat, and of all with the launch; each kernel comes with its lower bound."""
    card, rows = _run(card, tuple(kernels), dtype, impl, protocol)
    return [_one(card, row) for row in rows], _whole(card, rows, protocol)


def expected_s(
    card: Card, kernels: Iterable[tuple[Kernel, Size]], dtype: str, *, impl: str = "", protocol: str = "cold"
) -> tuple[Size, Size, Size, Size, Size]:
    """Returns the time of all kernels without terms: the time, the ends of its range, the time before it is raised to
    the bound, and the part without a mechanism.
    """
    card, rows = _run(card, tuple(kernels), dtype, impl, protocol)
    if not rows:
        return 0.0, 0.0, 0.0, 0.0, 0.0
    whole = _sums(card, rows, protocol)
    found = _range(card, rows, maximum(whole.seconds, whole.lower_s), whole.lower_s)
    return (*found, whole.unclamped_s, _unmodelled_s(rows))


def _run(
    card: Card, given: tuple[tuple[Kernel, Size], ...], dtype: str, impl: str, protocol: str
) -> tuple[Card, list[Row]]:
    """The kernels as they run, and the card at its clock during the run."""
    if protocol == "eager" and card.settle_s:
        return _after_pauses(card, given, dtype, impl)
    if len(given) > 1 or any(kernel.repeat > 1 for kernel, _ in given):
        card = settled(card, dtype, sum(kernel.op.contraction_flops() * kernel.repeat for kernel, _ in given))
    launches = [
        Launched(kernel, lower_s, parts(card, kernel.op, kernel.op.computes or kernel.dtype or dtype, impl))
        for kernel, lower_s in given
    ]
    return card, _rows(card, launches, protocol, Bodies())


def time_s(
    card: Card, launches: Sequence[Launched], dtype: str, known: "Bodies", *, protocol: str = "cold"
) -> tuple[Size, Size, Size]:
    """Returns the time of all kernels and the ends of its range, as ``expected``, for callers that time many sequences
    of the same launches.
    """
    if len(launches) > 1 or any(one.kernel.repeat > 1 for one in launches):
        card = settled(card, dtype, sum(one.flops for one in launches))
    known.limited.clear()
    rows = _rows(card, launches, protocol, known)
    if not rows:
        return 0.0, 0.0, 0.0
    whole = _sums(card, rows, protocol)
    return _range(card, rows, maximum(whole.seconds, whole.lower_s), whole.lower_s)


def _rows(card: Card, launches: Sequence[Launched], protocol: str, known: "Bodies") -> list[Row]:
    """Every kernel's bodies, each after the one before it."""
    whole: Size = 0.0
    if protocol in FROM_L2:
        whole = kept(card, sum(part.byte * part.times * one.kernel.repeat for one in launches for part in one.parts))
    rows: list[Row] = []
    before: Part | None = None
    last_s = 0.0
    for number, (kernel, lower_s, own, _) in enumerate(launches):
        ends = protocol == "cold" and number == len(launches) - 1 and kernel.repeat == 1
        bodies = run(card, own, whole, before, followed=not ends, rotating=protocol == "rotating", known=known)
        gaps_s: Size = 0.0
        ramps_s: Size = 0.0
        for body in bodies:
            gaps_s += gap_s(card, protocol, last_s)
            ramps_s += ramp_s(card, body.far) * body.times
            last_s = body.seconds
            gaps_s += gap_s(card, protocol, last_s) * (body.times - 1)
        rows.append(Row(kernel, kernel.repeat, lower_s, tuple(bodies), gaps_s, ramps_s))
        before = own[-1]
    return rows


class Bodies:
    """The times of launches on one card, each computed once for each share of its bytes that L2 holds.

    ``limited``: those under the power limit, which hold for one run.
    """

    def __init__(self) -> None:
        self.lasting: dict[tuple[int, float, bool], tuple[Part, Body]] = {}
        self.limited: dict[tuple[int, float, bool], tuple[Part, Body]] = {}

    def of(self, card: Card, part: Part, share: Size, followed: bool) -> Body:
        """One launch, of whose data L2 holds ``share``."""
        if not isinstance(share, (int, float)):
            return _body(card, part, share, followed=followed)
        table = self.limited if part.limited else self.lasting
        key = id(part), share, followed
        if key not in table:
            table[key] = part, _body(card, part, share, followed=followed)  # the part, to keep its identity
        return table[key][1]


def run(
    card: Card,
    launched: Sequence[Part],
    whole: Size = 0.0,
    before: Part | None = None,
    *,
    followed: bool = False,
    rotating: bool = False,
    known: Bodies | None = None,
) -> list[Body]:
    """Launches in a row. ``whole`` is the share of the data that L2 holds from the run before.

    A launch may also find the data of the launch before it, except weights. The last writes of the last launch cost
    only if another launch follows.
    """
    bodies = []
    known = known or Bodies()  # launches of one kernel are often alike: thousands in an optimizer
    last = len(launched) - 1
    for at, part in enumerate(launched):
        fresh_byte = (part.fresh_byte or part.right_byte) if rotating else 0
        share = whole * (1.0 - fresh_byte / part.byte) if part.byte else whole
        if before is not None and share < 1.0 and part.byte:
            touched = minimum(1.0 - part.fresh_byte / part.byte, before.byte / part.byte)
            share = maximum(share, kept(card, part.byte + before.byte) * touched)
        body = known.of(card, part, share, followed or at < last)
        bodies.append(body if isinstance(part.times, int) else body._replace(times=part.times))
        before = part
    return bodies


def _body(card: Card, part: Part, share: Size, *, followed: bool) -> Body:
    """One launch, of whose data L2 holds ``share``."""
    body = part.limited(card, share) if part.limited else part.body(share)
    fetch_s = where(share <= 0.0, part.code_s, 0.0)
    if not is_none(fetch_s):
        body = body._replace(seconds=body.seconds + fetch_s, terms=(*body.terms, Term("instruction fetch", fetch_s)))
    if followed and not is_none(body.late_s):
        body = drained(body)
    return body._replace(far=part.reads and share < NEAR)


def drained(body: Body) -> Body:
    """Adds the write-back of the previous launch, which runs at the same time."""
    late = Term("write-back of the previous run", body.late_s)
    return body._replace(seconds=body.seconds + body.late_s, terms=(*body.terms, late))


def _one(card: Card, row: Row) -> Expected:
    """One kernel for one repeat, with the gaps before its launches."""
    row = row._replace(repeat=1)
    terms = (Term("gaps between kernels", row.gaps_s), Term("ramp", row.ramps_s), *_terms([row]))
    return _expected(card, [row], row.unclamped_s, row.lower_s, terms)


class _Sums(NamedTuple):
    """Sums over all kernels with their repeats, in seconds: launch, gaps and ramps, total, lower bound, and total
    before it is raised to the bound.
    """

    first_s: Size
    gaps_s: Size
    ramps_s: Size
    seconds: Size
    lower_s: Size
    unclamped_s: Size


def _sums(card: Card, rows: Sequence[Row], protocol: str) -> _Sums:
    """All kernels with their repeats. The first launch has its own cost in the place of a gap."""
    ramps_s = sum(row.ramps_s * row.repeat for row in rows)
    bodies_s = sum(body.all_s * row.repeat for row in rows for body in row.bodies)
    gaps_s = sum(row.gaps_s * row.repeat for row in rows) - gap_s(card, protocol, 0.0)
    first_s = first_launch_s(card, protocol, host_call(rows[0].kernel), bodies_s + ramps_s)
    # Each kernel is held to its own bound, so the sum of the rows and the launch is the whole.
    short_s = sum(maximum(0.0, row.lower_s - row.unclamped_s) * row.repeat for row in rows)
    unclamped_s = first_s + gaps_s + ramps_s + bodies_s
    seconds = unclamped_s + short_s
    if len(rows) == 1 and rows[0].repeat == 1:
        seconds -= short_s  # one kernel: its launch counts before its bound does
    lower_s = sum(row.lower_s * row.repeat for row in rows)
    return _Sums(first_s, gaps_s, ramps_s, seconds, lower_s, unclamped_s)


def _whole(card: Card, rows: Sequence[Row], protocol: str) -> Expected:
    """The time of all kernels, with its terms."""
    if not rows:
        return Expected(0.0, 0.0, 0.0)
    first_s, gaps_s, ramps_s, seconds, lower_s, _ = _sums(card, rows, protocol)
    launch = "host launch" if protocol == "eager" else "launch"
    around = (Term(launch, first_s), Term("gaps between kernels", gaps_s), Term("ramp", ramps_s))
    terms = (*(term for term in around if term.seconds), *_terms(rows))
    found = _expected(card, rows, seconds, lower_s, terms)
    names = tuple(row.kernel.name for row in rows for _ in row.bodies)
    return found._replace(bodies=tuple(body for row in rows for body in row.bodies), kernels=names)


def _terms(rows: Sequence[Row]) -> list[Term]:
    found: list[Term] = []
    for row in rows:
        repeat = row.repeat
        for body in row.bodies:
            found += (
                body.terms if repeat == 1 else [term._replace(seconds=term.seconds * repeat) for term in body.terms]
            )
    return found


def _expected(card: Card, rows: Sequence[Row], seconds: float, lower_s: float, terms: tuple[Term, ...]) -> Expected:
    """The time, not below the bound, with its range."""
    unclamped_s = sum(term.seconds for term in terms if term.counts)
    held_s = max(seconds, lower_s)
    if held_s > unclamped_s * (1.0 + 1e-12):
        terms = (*terms, Term("raised to the lower bound", held_s - unclamped_s))
    found = _range(card, rows, held_s, lower_s)
    return Expected(*found, terms, unclamped_s=unclamped_s, unmodelled_s=_unmodelled_s(rows))


def _unmodelled_s(rows: Sequence[Row]) -> Size:
    """The time of kernels without a mechanism."""
    return sum(body.all_s * row.repeat for row in rows for body in row.bodies if body.mechanism == UNMODELLED)


def _range(card: Card, rows: Sequence[Row], held_s: Size, lower_s: Size) -> tuple[Size, Size, Size]:
    """A time and the ends of its range."""
    down, up = spread(card, rows)
    return held_s, maximum(lower_s, held_s * down), held_s * up


def spread(card: Card, rows: Sequence[Row]) -> tuple[Size, Size]:
    """The ends of the range as factors of the time: those of the mechanisms, weighted by their time."""
    shares = [(card.half_range(body.mechanism), body.all_s * repeat) for repeat, bodies in
              ((row.repeat, row.bodies) for row in rows) for body in bodies]  # fmt: skip
    whole = sum(seconds for _, seconds in shares)
    half = sum(half * seconds for half, seconds in shares) / whole if whole > 0 else card.spread["any"]
    return 1.0 / (1.0 + half), 1.0 + half


def _after_pauses(card: Card, given: tuple[tuple[Kernel, Size], ...], dtype: str, impl: str) -> tuple[Card, list[Row]]:
    """Returns one call after a pause. Short work runs near the reduced clock, longer work near the highest."""
    settle_s, card = card.settle_s, card._replace(settle_s=0.0)
    settled_card, rows = _run(card, given, dtype, impl, "eager")
    bodies = [body for row in rows for body in row.bodies]
    if card.idle_share >= 1.0 or any(body.mechanism.partition(" ")[0] not in CLOCKED for body in bodies):
        return settled_card, rows
    busy_s = sum(body.all_s for body in bodies)
    up = busy_s**2 / (busy_s**2 + settle_s**2)
    share = card.idle_share + (1.0 - card.idle_share) * up
    slower = card._replace(
        clock_hz=card.clock_hz * share, l2_byte_per_s=card.l2_byte_per_s * share, lane_per_s=card.lane_per_s * share
    )
    return _run(slower, given, dtype, impl, "eager")
