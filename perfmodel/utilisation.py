"""Utilisation of a card: ``perfmodel.mfu``, the share of its peak from a measured speed, and ``perfmodel.occupancy``.

Products of f FLOPs whose peak is p FLOP/s need f / p seconds at least. Utilisation is the sum of these seconds, each
product at the peak of its own data type, divided by the measured time. MFU counts what the model needs, HFU what runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from perfmodel import given, model_flops, residency
from perfmodel.errors import InputError, UsageError, did_you_mean, shown
from perfmodel.given import Card, Config, Settings
from perfmodel.hardware import Gpu
from perfmodel.model_flops import PAIRS, PARTS, RECOMPUTE, Counted
from perfmodel.op import Engine
from perfmodel.roofline import rates
from perfmodel.units import Gate, checked_dtype, scaled

USUAL = "bf16"  # data type of FLOPs that are given as one number

RATE = Gate("a rate in tokens per second", 1e-9, 1e18)
SECONDS = Gate("a time in seconds", 1e-12, 1e9)
FLOPS = Gate("a number of FLOPs", 1, 1e36)
PEAK = Gate("a peak in FLOP/s", 1, 1e24)
GPUS = Gate("a number of GPUs", 1, 10**9, whole=True)
TOKENS = Gate("a number of tokens", 1, 10**18, whole=True)

Numbers = float | Mapping[str, float] | None


class Utilisation(NamedTuple):
    """Utilisation of the peak rate of matrix products, and the definition of the counted FLOPs.

    ``mfu`` and ``hfu`` are shares of the peak of all GPUs, ``flop_per_s`` the rate of model FLOPs of all GPUs.
    ``peak_flop_per_s`` is the peak of one GPU; where several data types run, it is weighted by the time that each needs
    at its own peak. ``parts`` are the model's FLOPs by part, of a token or, where the tokens are unknown, of a step; the
    figures per token are then None. ``because`` states the conventions.
    """

    mfu: float
    hfu: float
    flops_per_token: float | None
    executed_flops_per_token: float | None
    flop_per_s: float
    peak_flop_per_s: float
    gpus: int
    parts: Mapping[str, float]
    because: tuple[str, ...]


def mfu(
    model: Config | Any = None,
    *,
    tokens_per_s: float | None = None,
    seconds_per_step: float | None = None,
    gpu: Card | None = None,
    peak_flop_per_s: Numbers = None,
    gpus: int = 1,
    dtype: str | Mapping[str, str] | None = None,
    flops_per_token: Numbers = None,
    flops_per_step: Numbers = None,
    tokens_per_step: int | None = None,
    phase: str = "train",
    causal: bool | None = None,
    fused: bool | None = None,
    recompute: str = "none",
    settings: Settings = None,
    **sizes: Any,
) -> Utilisation:
    """Returns model FLOPs utilisation and hardware FLOPs utilisation of a measured speed, with what was counted.

    ``model`` is a configuration as for ``analyse``, or an object with the ``contraction_flops`` of a step. Instead,
    ``flops_per_token`` or ``flops_per_step`` give a number of FLOPs, or numbers by data type: ``{"fp8": 3e12, "bf16":
    1e12}``. The speed is ``tokens_per_s`` of all GPUs together, or ``seconds_per_step``.

    The peak is that of ``gpu``, or ``peak_flop_per_s`` of one GPU, a number or numbers by data type. ``dtype`` may differ
    by part: ``{"weights": "fp8", "attention": "bf16", "logits": "bf16"}``. ``causal`` counts visible query-key pairs
    only. ``recompute`` (``none``, ``selective`` or ``full``) changes HFU alone.
    """
    _one_of(model=model, flops_per_token=flops_per_token, flops_per_step=flops_per_step)
    _one_of(tokens_per_s=tokens_per_s, seconds_per_step=seconds_per_step)
    _one_of(gpu=gpu, peak_flop_per_s=peak_flop_per_s)
    if recompute not in RECOMPUTE:
        raise InputError("recompute", f"{shown(recompute)} is not known", f"one of {', '.join(RECOMPUTE)} is accepted")
    tokens = None if tokens_per_step is None else _number(tokens_per_step, TOKENS, "tokens_per_step")
    shaping = {"causal": causal, "fused": fused, "settings": settings, **sizes}
    if model is None:
        _refuse_shaping(shaping)
        found = _given_flops(flops_per_token, flops_per_step, tokens, dtype, recompute)
    elif (total := _contractions(model)) is not None:
        _refuse_shaping(shaping)
        _refuse_recompute(recompute, "none", "counted FLOPs, which include what the program recomputes")
        found = model_flops.of_program(total, tokens, _one_type(dtype))
    else:
        at = given.sizes(settings, sizes)
        found = model_flops.of_workload(given.workload(model), at, phase, causal, fused, recompute)
        if seconds_per_step is not None and found.tokens and tokens is None and "B" not in at:
            raise _missing("seconds_per_step", "the batch of a step is not given", "B= or tokens_per_step=")
    runs_per_s = _runs_per_s(found, tokens_per_s, seconds_per_step, tokens)
    peaks, told = _peaks(_types(dtype, found), given.card(gpu), peak_flop_per_s)
    return _utilisation(found, runs_per_s, peaks, _number(gpus, GPUS, "gpus"), told)


def occupancy(gpu: Card, threads: int, registers: int, shared: int | str = 0) -> residency.Occupancy:
    """Returns the blocks of a kernel on one multiprocessor and what limits them: ``perfmodel occupancy``.

    ``threads`` are those of a block, ``registers`` those of a thread. ``shared`` is the shared memory of a block: a
    number of bytes, or a text such as ``"48 KiB"``.
    """
    byte = residency.shared_from_text(shared) if isinstance(shared, str) else shared
    return residency.occupancy(given.known(gpu), threads, registers, byte)


def _utilisation(
    found: Counted, runs_per_s: float, peaks: Mapping[str, float], gpus: int, told: list[str]
) -> Utilisation:
    """Seconds at peak divided by measured seconds."""

    def used(flops: Mapping[str, float]) -> float:
        return sum(count / peaks[part] for part, count in flops.items()) * runs_per_s / gpus

    def per_token(flops: float) -> float | None:
        return _plain(flops / found.tokens) if found.tokens else None

    flops, share = sum(found.model.values()), used(found.model)
    because = list(found.because)
    if found.masked is not None:
        other = f"With {PAIRS[not found.causal]}, MFU is {used(found.masked):.2%}."
        because.append(f"Attention counts {PAIRS[found.causal]}. {other}")
    kinds = set(peaks.values())
    return Utilisation(
        mfu=share,
        hfu=used(found.executed),
        flops_per_token=per_token(flops),
        executed_flops_per_token=per_token(sum(found.executed.values())),
        flop_per_s=flops * runs_per_s,
        peak_flop_per_s=kinds.pop() if len(kinds) == 1 else flops * runs_per_s / gpus / share,
        gpus=gpus,
        parts={part: _plain(count / (found.tokens or 1)) for part, count in found.model.items()},
        because=(*because, *told),
    )


def _plain(value: float) -> float:
    """A whole number as an int."""
    return int(value) if float(value).is_integer() else value


# --- FLOPs that are given as numbers


def _given_flops(
    per_token: Numbers, per_step: Numbers, tokens: int | None, dtype: str | Mapping[str, str] | None, recompute: str
) -> Counted:
    _refuse_recompute(recompute, "full", "a number of FLOPs")
    name, value = ("flops_per_token", per_token) if per_token is not None else ("flops_per_step", per_step)
    if isinstance(value, Mapping) and dtype is not None:
        raise UsageError(
            "mfu", f"dtype and {name} by data type are given", "one of the two is accepted", "Remove dtype."
        )
    by_type = value if isinstance(value, Mapping) else {_one_type(dtype): value}
    flops = {checked_dtype(kind): _number(count, FLOPS, name) for kind, count in by_type.items()}
    if not flops:
        raise InputError(name, "it is empty", FLOPS.accepted)
    return model_flops.of_number(flops, tokens, per_token=per_token is not None, full=recompute == "full")


def _contractions(model: Any) -> float | None:
    """The FLOPs of an object that counts its matrix products, or whose total does; None for a configuration."""
    if isinstance(model, (bool, int, float)):
        raise UsageError(
            "mfu", f"the number {shown(model)} is given as the model", "a number is accepted as flops_per_token= or flops_per_step=",
            "Name it.",
        )  # fmt: skip
    counts = (getattr(part, "contraction_flops", None) for part in (model, getattr(model, "total", None)))
    found = next((count for count in counts if count is not None), None)
    return None if found is None else float(_number(found() if callable(found) else found, FLOPS, "contraction_flops"))


def _one_type(dtype: str | Mapping[str, str] | None) -> str:
    if isinstance(dtype, Mapping):
        raise InputError(
            "dtype", "data types by part are given", "one data type is accepted here", "Name a configuration."
        )
    return checked_dtype(dtype or USUAL)


def _refuse_recompute(recompute: str, accepted: str, because: str) -> None:
    if recompute not in ("none", accepted):
        raise InputError(
            "recompute", f"'{recompute}' is given with {because}", "a configuration is required", "Name the model."
        )


def _refuse_shaping(options: Mapping[str, Any]) -> None:
    """Refuses options that change the FLOPs of a configuration alone."""
    name = next((name for name, value in options.items() if value is not None), None)
    if name is not None:
        raise UsageError(
            "mfu", f"{name} is given with counted FLOPs", "it is accepted with a configuration", "Remove it."
        )


# --- speed and peak


def _runs_per_s(found: Counted, tokens_per_s: Any, seconds_per_step: Any, tokens: int | None) -> float:
    """Runs of the counted FLOPs per second."""
    if tokens_per_s is not None:
        if found.tokens is None:
            raise _missing("tokens_per_s", "the FLOPs are those of a step of unknown tokens", "tokens_per_step=")
        return float(_number(tokens_per_s, RATE, "tokens_per_s") / found.tokens)
    if found.per_token and tokens is None:
        raise _missing("seconds_per_step", "the FLOPs are those of one token", "tokens_per_step=")
    runs = tokens / found.tokens if tokens and found.tokens else 1.0
    return float(runs / _number(seconds_per_step, SECONDS, "seconds_per_step"))


def _types(dtype: str | Mapping[str, str] | None, found: Counted) -> dict[str, str]:
    """The data type of every part."""
    if found.by_type:
        return {kind: kind for kind in found.model}
    if not isinstance(dtype, Mapping):
        return dict.fromkeys(found.model, checked_dtype(dtype or found.dtype))
    for part in dtype:
        if part not in PARTS:
            raise InputError(
                f"dtype {shown(part)}",
                "it is not a part",
                f"{', '.join(PARTS)} are accepted",
                did_you_mean(part, PARTS),
            )
    return {part: checked_dtype(dtype.get(part, found.dtype)) for part in found.model}


def _peaks(types: Mapping[str, str], card: Gpu | None, own: Numbers) -> tuple[dict[str, float], list[str]]:
    """The peak of every part, and sentences on where they come from."""
    by_type: dict[str, float] = {}
    notes: list[str] = []
    for kind in dict.fromkeys(types.values()):
        if card is not None:
            found = rates(card, kind)
            by_type[kind] = found.roofs[Engine.TENSOR].flop_per_s
            notes += found.notes
            continue
        value = own.get(kind) if isinstance(own, Mapping) else own
        if value is None:
            raise _missing("peak_flop_per_s", f"{kind} has no peak", f"a peak of each data type ({kind})")
        by_type[kind] = _number(value, PEAK, "peak_flop_per_s")
    each = ", ".join(f"{kind} {scaled(peak, 'FLOP/s', 4)}" for kind, peak in by_type.items())
    weighted = "; each is weighted by the time that its products need at it" if len(by_type) > 1 else ""
    told = f"Peak of one GPU: {each} ({f'{card.title}, dense' if card else 'given'}){weighted}."
    return {part: by_type[kind] for part, kind in types.items()}, [told, *notes]


def _number(value: Any, gate: Gate, where: str) -> Any:
    """Returns a checked number. Numbers of other libraries, such as a tensor of one element, become Python's."""
    if not isinstance(value, (int, float, str)) and hasattr(value, "__float__"):
        value = float(value)
        value = int(value) if gate.whole and value.is_integer() else value
    return gate.checked(value, where)


def _one_of(**options: Any) -> None:
    """Refuses none or several of the options."""
    found = [name for name, value in options.items() if value is not None]
    if len(found) != 1:
        *names, last = options
        told = f"{' and '.join(found)} are given" if found else f"none of {', '.join(options)} is given"
        raise UsageError("mfu", told, f"exactly one of {', '.join(names)} and {last} is accepted", "Give one of them.")


def _missing(where: str, found: str, accepted: str) -> InputError:
    return InputError(where, found, f"{accepted} is accepted", "Add it.")
