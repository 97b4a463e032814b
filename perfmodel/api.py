"""Library functions: the answers of the commands as Python objects.

All functions take the same arguments. ``config`` is the name of an operation, the name or file of a configuration, a
``Workload`` or an ``Operation``. If a name is both, the operation is used; a path always means the file. ``gpu`` is the
name, short name or file of a card, or a ``Gpu``. Options have the names of the command line. Sizes are keywords
(``N=512``), or a mapping as for ``--set``: ``settings={"N": "8Ki", "S": "N"}``. Sizes of an operation that are not
given take typical values.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from perfmodel import given, ops
from perfmodel.analysis import analyse as _analyse
from perfmodel.answers import (
    AnalysisAnswer,
    BoundsAnswer,
    ComparisonAnswer,
    MemoryAnswer,
    PredictionsAnswer,
    SweepAnswer,
)
from perfmodel.errors import InputError, UsageError
from perfmodel.given import Card, Config, Settings
from perfmodel.hardware import Gpu
from perfmodel.operation import Operation
from perfmodel.roofline import rates, together
from perfmodel.workload import Workload

if TYPE_CHECKING:
    from perfmodel.answers.algebra import FormulasAnswer, SolutionAnswer
    from perfmodel.answers.traces import TraceAnswer
    from perfmodel.programs.program import Program


def gpu(name: Card) -> Gpu:
    """Returns a card by name, short name or file."""
    return given.known(name)


def load(config: Config) -> Workload:
    """Returns a workload by name or file; an operation becomes a workload of one step."""
    return given.workload(config)


def find(name: str | Operation) -> Operation:
    """Returns an operation by name. Call it with sizes to get its counts."""
    return name if isinstance(name, Operation) else ops.find(name)


def analyse(
    config: Config,
    gpu: Card | None = None,
    *,
    phase: str | None = None,
    settings: Settings = None,
    dtype: str | None = None,
    fused: bool | None = None,
    causal: bool | None = None,
    count: str | None = None,
    form: str | None = None,
    logits: str | None = None,
    knowledge: str | None = None,
    **sizes: Any,
) -> AnalysisAnswer:
    """Returns the counts of every kernel and, with a card, bounds and expected times: ``perfmodel flops``.

    ``logits`` is ``all`` or ``last``: the logits of all positions, or of the last position of each sequence.
    """
    card = given.card(gpu)
    chosen = given.workload(config, dtype, card)
    found = _analyse(
        chosen.with_logits(logits) if logits else chosen,
        phase=phase,
        gpu=card,
        settings=given.sizes(settings, sizes),
        fused=fused,
        causal=causal,
        count=count,
        form=form,
        knowledge=knowledge,
    )
    return AnalysisAnswer._make(found)


def bounds(
    config: Config,
    gpu: Card,
    *,
    phase: str | None = None,
    settings: Settings = None,
    dtype: str | None = None,
    fused: bool | None = None,
    causal: bool | None = None,
    form: str | None = None,
    **sizes: Any,
) -> BoundsAnswer:
    """Returns the time of memory and of each engine at data-sheet rates, summed over all kernels.

    An operation counts as one kernel.
    """
    found = analyse(
        config, gpu, phase=phase, settings=settings, dtype=dtype, fused=fused, causal=causal, form=form, **sizes
    )
    whole = together((row.bounds, row.repeat) for row in found.rows if row.bounds)
    return BoundsAnswer(*whole, whole.bound, found)


def formula(
    config: Config,
    *,
    phase: str | None = None,
    settings: Settings = None,
    fused: bool | None = None,
    causal: bool | None = None,
    form: str | None = None,
    **sizes: Any,
) -> FormulasAnswer:
    """Returns counts and bytes as sympy expressions: ``flops --symbolic``. Given sizes replace their symbols."""
    from perfmodel.answers.algebra import FormulasAnswer
    from perfmodel.formulas import of_operation, of_workload

    named, values = given.named(config), given.sizes(settings, sizes)
    of: Any = of_operation if isinstance(named, Operation) else of_workload
    return FormulasAnswer._make(of(named, phase, values, fused=fused, causal=causal, form=form))


def crossings(
    config: Config,
    symbol: str,
    gpu: Card,
    *,
    phase: str | None = None,
    settings: Settings = None,
    dtype: str | None = None,
    fused: bool | None = None,
    causal: bool | None = None,
    **sizes: Any,
) -> SolutionAnswer:
    """Returns the values of one symbol at which the bottleneck turns from memory to compute: ``perfmodel solve``."""
    from perfmodel.answers.algebra import SolutionAnswer
    from perfmodel.solve import solve

    known = given.known(gpu)
    chosen = given.workload(config, dtype, known)
    card, values = rates(known, chosen.dtypes["activation"]), given.sizes(settings, sizes)
    return SolutionAnswer._make(solve(chosen, card, symbol, values, phase=phase, fused=fused, causal=causal))


def sweep_over(
    config: Config,
    gpu: Card | Iterable[Card],
    over: Mapping[str, Any],
    *,
    phase: str | None = None,
    settings: Settings = None,
    dtype: str | None = None,
    fused: bool | None = None,
    causal: bool | None = None,
    count: str | None = None,
    form: str | None = None,
    logits: str | None = None,
    expected: bool = False,
    **sizes: Any,
) -> SweepAnswer:
    """Evaluates a workload over ranges of its sizes, on one card or several: ``perfmodel sweep``.

    ``over`` maps a symbol to its values: a list, an array, or text as for ``--over``, ``{"N": "128:8Ki:log"}``. Iterate
    over the answer to get chunks of NumPy arrays.
    """
    from perfmodel.sweep import plan

    chosen = given.workload(config, dtype)
    cards = [given.known(one) for one in given.several(gpu)]
    found = plan(
        chosen.with_logits(logits) if logits else chosen,
        cards,
        over,
        phase=phase,
        settings=given.sizes(settings, sizes),
        fused=fused,
        causal=causal,
        count=count,
        form=form,
        expected=expected,
    )
    return SweepAnswer(found)


def memory(
    config: Config,
    gpu: Card | None = None,
    *,
    phase: str | None = None,
    settings: Settings = None,
    dtype: str | None = None,
    fused: bool | None = None,
    form: str | None = None,
    gpus: int | None = None,
    zero: int | None = None,
    recompute: str | None = None,
    optimizer: str | None = None,
    solve: str | None = None,
    reserve: str | None = None,
    **sizes: Any,
) -> MemoryAnswer:
    """Returns weights, training states, activations and caches per GPU, and whether they fit: ``perfmodel memory``.

    Without ``phase``, each of ``zero``, ``recompute`` and ``optimizer`` selects training. ``reserve`` is the memory to
    keep free: ``"4 GB"``, ``"10%"`` of the capacity, or ``"0"``.
    """
    from perfmodel.footprint import Plan
    from perfmodel.footprint import memory as account

    card = given.card(gpu)
    found = account(
        given.workload(config, dtype, card),
        phase=memory_phase(phase, zero, recompute, optimizer),
        plan=Plan(gpus or 1, zero or 0, recompute or "none", optimizer or "adam"),
        gpu=card,
        settings=given.sizes(settings, sizes),
        solve=solve,
        fused=fused,
        form=form,
        reserve=given.reserve(reserve),
    )
    return MemoryAnswer._make(found)


def memory_phase(phase: str | None, zero: int | None, recompute: str | None, optimizer: str | None) -> str | None:
    """Returns the phase of a memory estimate; by default training, if an option of training is given."""
    if optimizer is not None and phase not in (None, "train"):
        raise UsageError(
            "perfmodel memory --optimizer", f"a {phase} phase has no optimizer states", "a training phase is accepted",
            "Choose --phase train.",
        )  # fmt: skip
    return phase or ("train" if zero or recompute is not None or optimizer is not None else None)


def compare(
    config: Config | Iterable[Config],
    gpu: Card | Iterable[Card] = (),
    *,
    phase: str | None = None,
    settings: Settings = None,
    dtype: str | None = None,
    fused: bool | None = None,
    causal: bool | None = None,
    logits: str | None = None,
    speedup: Mapping[str, float] | Iterable[str] = (),
    reserve: str | None = None,
    **sizes: Any,
) -> ComparisonAnswer:
    """Compares workloads on cards: ``perfmodel compare``.

    ``speedup`` maps a part to its speed-up factor: ``{"softmax": 6.5}``.
    """
    from perfmodel.comparison import compare as compared
    from perfmodel.comparison import factor

    chosen = [given.workload(one, dtype) for one in given.several(config)]
    texts = [f"{key}={value}" for key, value in speedup.items()] if isinstance(speedup, Mapping) else speedup
    found = compared(
        [one.with_logits(logits) if logits else one for one in chosen],
        [given.known(one) for one in given.several(gpu)],
        settings=given.sizes(settings, sizes),
        speedups=dict(map(factor, texts)),
        reserve=given.reserve(reserve),
        phase=phase,
        fused=fused,
        causal=causal,
    )
    return ComparisonAnswer._make(found)


def predict(cases: Any, gpu: Card, *, knowledge: str | None = None) -> PredictionsAnswer:
    """Returns bounds and expected times of cases: ``perfmodel predict``.

    ``cases`` is one case or several, each a mapping or a line of JSON; or the path or name of a file of such lines. A
    case that cannot be computed has an ``error``; the other cases are still computed.
    """
    from perfmodel.bulk.files import predicted
    from perfmodel.timing import parameters

    known = given.known(gpu)
    state = parameters.card(known, knowledge).knowledge
    lines, name = given.case_lines(cases)
    found = tuple(predicted(lines, name, known, knowledge=state, captured=given.captured))
    if not found:
        raise InputError(name, "it contains no case", "one JSON object per line is accepted", "Add a line.")
    return PredictionsAnswer(found, known, state)


def trace(
    paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    gpu: Card | None = None,
    *,
    knowledge: str | None = None,
    unprofiled: float | None = None,
    step: str | None = None,
    program: Program | None = None,
) -> TraceAnswer:
    """Reads traces that ``torch.profiler`` exported, one file per rank: ``perfmodel trace``.

    Without ``gpu``, the card is the one that the trace names. ``unprofiled`` is the time of the step without the profiler,
    in seconds. ``step`` is the name of the range that is the step. ``program`` is the captured program that ran: it gives
    shapes to the kernels of a CUDA graph.
    """
    from perfmodel.answers.traces import TraceAnswer
    from perfmodel.traces.tracing import trace as read

    files = [os.fspath(path) for path in given.several(paths)]
    found = read(files, given.card(gpu), knowledge=knowledge, unprofiled_s=unprofiled, name=step, program=program)
    return TraceAnswer._make(found)
