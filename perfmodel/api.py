"""The library's face: the commands' answers as Python objects, with names and sizes given as one would type them.

Every function takes the same things. ``config`` is an operation's name, a configuration's name or file, a ``Workload``
or an ``Operation``. A name that is both means the operation; the path of the file means the file. ``gpu`` is a card's
name, short name or file, or a ``Gpu``. Options have the names of the command line. Sizes are keywords
(``N=512``) or, as ``--set`` takes them, ``settings={"N": "8Ki", "S": "N"}``; an operation takes typical values for
those that are left out.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from perfmodel import hardware, ops, paths
from perfmodel.analysis import analyse as _analyse
from perfmodel.answers import (
    AnalysisAnswer,
    BoundsAnswer,
    ComparisonAnswer,
    MemoryAnswer,
    PredictionsAnswer,
    SweepAnswer,
)
from perfmodel.errors import InputError, did_you_mean, shown
from perfmodel.hardware import Gpu
from perfmodel.operation import Operation
from perfmodel.roofline import rates, together
from perfmodel.symbols import ALIASES, SYMBOLS
from perfmodel.units import checked_dtype
from perfmodel.workload import Workload, setting, single
from perfmodel.workload import workload as _workload

if TYPE_CHECKING:
    from perfmodel.answers.algebra import FormulasAnswer, SolutionAnswer

Config = str | os.PathLike[str] | Workload | Operation
Card = str | os.PathLike[str] | Gpu
Settings = Mapping[str, Any] | None


def gpu(name: Card) -> Gpu:
    """A card by name, short name or file."""
    return name if isinstance(name, Gpu) else hardware.gpu(os.fspath(name))


def load(config: Config) -> Workload:
    """A workload by name or file; an operation as a workload of one step."""
    return _chosen(config)


def find(name: str | Operation) -> Operation:
    """An operation by name; call it with sizes for its counts."""
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
    knowledge: str | None = None,
    **sizes: Any,
) -> AnalysisAnswer:
    """Counts, and with a card bounds and expected times, of every kernel: ``perfmodel flops``."""
    card = _card(gpu)
    found = _analyse(
        _chosen(config, dtype, card),
        phase=phase,
        gpu=card,
        settings=_sizes(settings, sizes),
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
    """The time of memory and of each engine at data-sheet rates, over all kernels; an operation is one kernel."""
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
    """Counts and bytes as sympy expressions; sizes that are given stand in for their symbols: ``flops --symbolic``."""
    from perfmodel.answers.algebra import FormulasAnswer
    from perfmodel.formulas import of_operation, of_workload

    named, given = _named(config), _sizes(settings, sizes)
    found = (
        of_operation(named, phase, given, fused=fused, causal=causal)
        if isinstance(named, Operation)
        else of_workload(named, phase, given, fused=fused, causal=causal, form=form)
    )
    return FormulasAnswer._make(found)


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
    """Where memory-bound turns compute-bound in one symbol: ``perfmodel solve --for SYMBOL``."""
    from perfmodel.answers.algebra import SolutionAnswer
    from perfmodel.solve import solve

    known = _known(gpu)
    chosen = _chosen(config, dtype, known)
    card, given = rates(known, chosen.dtypes["activation"]), _sizes(settings, sizes)
    return SolutionAnswer._make(solve(chosen, card, symbol, given, phase=phase, fused=fused, causal=causal))


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
    expected: bool = False,
    **sizes: Any,
) -> SweepAnswer:
    """A workload over ranges of its sizes, on one card or several: ``perfmodel sweep``.

    ``over`` maps a symbol to its values: a list, an array, or text as ``--over`` takes it, ``{"N": "128:8Ki:log"}``.
    Iterate over the answer for chunks of NumPy arrays.
    """
    from perfmodel.sweep import plan

    cards = [_known(one) for one in _several(gpu)]
    found = plan(
        _chosen(config, dtype),
        cards,
        over,
        phase=phase,
        settings=_sizes(settings, sizes),
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
    **sizes: Any,
) -> MemoryAnswer:
    """Weights, training states, activations and caches on each GPU, and whether they fit: ``perfmodel memory``.

    Where no phase is named, ``zero``, ``recompute`` and ``optimizer`` mean training.
    """
    from perfmodel.footprint import Plan
    from perfmodel.footprint import memory as account

    card = _card(gpu)
    found = account(
        _chosen(config, dtype, card),
        phase=memory_phase(phase, zero, recompute, optimizer),
        plan=Plan(gpus or 1, zero or 0, recompute or "none", optimizer or "adam"),
        gpu=card,
        settings=_sizes(settings, sizes),
        solve=solve,
        fused=fused,
        form=form,
    )
    return MemoryAnswer._make(found)


def memory_phase(phase: str | None, zero: int | None, recompute: str | None, optimizer: str | None) -> str | None:
    """The phase that is meant where none is named: training, if an option of training is given."""
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
    speedup: Mapping[str, float] | Iterable[str] = (),
    **sizes: Any,
) -> ComparisonAnswer:
    """Workloads and cards side by side: ``perfmodel compare``. ``speedup`` maps a part to its factor: ``{"softmax": 6.5}``."""
    from perfmodel.comparison import compare as compared
    from perfmodel.comparison import factor

    texts = [f"{key}={value}" for key, value in speedup.items()] if isinstance(speedup, Mapping) else speedup
    found = compared(
        [_chosen(one, dtype) for one in _several(config)],
        [_known(one) for one in _several(gpu)],
        settings=_sizes(settings, sizes),
        speedups=dict(map(factor, texts)),
        phase=phase,
        fused=fused,
        causal=causal,
    )
    return ComparisonAnswer._make(found)


def predict(cases: Any, gpu: Card, *, knowledge: str | None = None) -> PredictionsAnswer:
    """Bounds and expected times of cases: ``perfmodel predict``.

    ``cases`` is one case or several, each a mapping or a line of JSON; or a file of such lines, by path or name. A case
    that cannot be done has an ``error`` and stops no other.
    """
    from perfmodel.cases import read
    from perfmodel.prediction import predictions
    from perfmodel.timing import parameters

    known = _known(gpu)
    state = parameters.card(known, knowledge).knowledge
    lines, name = _lines(cases)
    found = tuple(predictions(read(lines, name), known, knowledge=state))
    if not found:
        raise InputError(name, "there is no case in it", "one JSON object per line is accepted", "Add a line.")
    return PredictionsAnswer(found, known, state)


# --- what is given, as the lower layers take it


def _known(given: Card) -> Gpu:
    return gpu(given)


def _card(given: Card | None) -> Gpu | None:
    return None if given is None else _known(given)


def _named(config: Config) -> Workload | Operation:
    """The operation of that name, else the configuration; a path is always a file."""
    if isinstance(config, (Workload, Operation)):
        return config
    if config in ops.FAMILY_OF:
        return ops.find(str(config))
    name = os.fspath(config)
    if paths.is_name(name) and paths.named("configs", name) is None:
        raise InputError(
            f"config {shown(name)}", "there is no operation and no configuration of that name",
            "a name of 'perfmodel ops' or 'perfmodel models', or a path, is accepted",
            did_you_mean(name, (*ops.FAMILY_OF, *paths.files("configs"))),
        )  # fmt: skip
    return _workload(name)


def _chosen(config: Config, dtype: str | None = None, card: Gpu | None = None) -> Workload:
    """The workload that is meant, in one data type where that is named; a card's own sizes are an operation's."""
    found = _named(config)
    if isinstance(found, Operation):
        return single(found, checked_dtype(dtype or "fp16"), card.sizes() if card else {})
    return found.with_dtype(dtype) if dtype else found


def _several(given: Any) -> list[Any]:
    """One thing or several as a list; the types of the package that are tuples are one thing."""
    return [given] if isinstance(given, (str, os.PathLike, Gpu, Workload, Operation)) else list(given)


def _sizes(settings: Settings, sizes: Mapping[str, Any]) -> dict[str, Any]:
    """Sizes as numbers or expressions, from both places where they may stand."""
    found: dict[str, Any] = {}
    for name, value in (*(settings or {}).items(), *sizes.items()):
        symbol = ALIASES.get(name, name)
        if name in sizes and symbol not in SYMBOLS:
            raise InputError(
                f"{name}={shown(value)}", "it is neither an option nor a size",
                "the options of this function and the letters of 'perfmodel symbols' are accepted",
                did_you_mean(name, SYMBOLS),
            )  # fmt: skip
        if symbol in found:
            raise InputError(f"set {name}", "it is set twice", "a size has one value", "Leave one of them out.")
        found[symbol] = setting(f"{symbol}={value}")[1] if isinstance(value, str) else _whole(value)
    return found


def _whole(value: Any) -> Any:
    """Whole numbers of other libraries, such as NumPy's, as Python's; anything else as it is."""
    return value.__index__() if hasattr(value, "__index__") and not isinstance(value, (bool, int)) else value


def _lines(cases: Any) -> tuple[Iterable[str], str]:
    """Cases as lines of JSON, and what messages call them."""
    from perfmodel.specfile import read_lines

    if isinstance(cases, (str, os.PathLike)):
        text = os.fspath(cases)
        if text.lstrip().startswith("{"):
            return text.splitlines(), "cases"
        path = text if os.path.exists(text) else paths.find("cases", text)
        return read_lines(path), path
    given = [cases] if isinstance(cases, Mapping) else cases
    return [one if isinstance(one, str) else _line(one) for one in given], "cases"


def _line(case: Mapping[str, Any]) -> str:
    import json

    try:
        return json.dumps(case, default=lambda value: value.__index__())
    except (AttributeError, TypeError, ValueError):
        raise InputError(
            "cases",
            f"{shown(case)} cannot be written as JSON",
            "a mapping of text, whole numbers and flags is accepted",
        ) from None
