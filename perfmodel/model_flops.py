"""FLOPs of one run of a model by part: those that the model needs, and those that the card executes.

Model FLOPs are the matrix products of the forward and the backward pass, nothing twice (Chowdhery et al. 2022, appendix
B). Executed FLOPs add recomputed activations (Korthikanti et al. 2022), and the scores that fused attention computes
again in its backward pass (Dao et al. 2022).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from perfmodel.analysis import Analysis, Row, analyse
from perfmodel.errors import InputError
from perfmodel.ops import FAMILY_OF
from perfmodel.workload import Workload, is_logits

# Products with the weights of the layers, products of attention without weights, products of the logits.
PARTS = ("weights", "attention", "logits")
RECOMPUTE = ("none", "selective", "full")
ATTENTION = ("attention", "attention_backward", "flash", "latent")
PAIRS = {True: "visible query-key pairs only (as llm.c does)", False: "all query-key pairs (as PaLM and nanoGPT do)"}


class Counted(NamedTuple):
    """FLOPs of one run (a step, or one token) by part, as the model needs them and as the card executes them.

    ``tokens`` are those of the run, None if unknown; ``per_token``: the run is one token. ``by_type``: the parts are data
    types. ``masked`` are the model's FLOPs under the other convention for masked pairs, None if they are the same.
    ``causal`` is the convention of ``model``.
    """

    model: Mapping[str, float]
    executed: Mapping[str, float]
    tokens: float | None
    dtype: str
    because: tuple[str, ...]
    per_token: bool = False
    by_type: bool = False
    causal: bool = False
    masked: Mapping[str, float] | None = None


def of_workload(
    workload: Workload,
    settings: Mapping[str, Any],
    phase: str,
    causal: bool | None,
    fused: bool | None,
    recompute: str,
) -> Counted:
    """Returns the counts of a step. Its unfused form computes nothing twice, so it has the model's FLOPs."""
    pairs = bool(workload.causal if causal is None else causal)
    needed, other = (
        analyse(workload, phase=phase, settings=settings, fused=False, causal=masked) for masked in (pairs, not pairs)
    )
    running = analyse(workload, phase=phase, settings=settings, fused=fused, causal=pairs)
    model, executed, masked = (by_part(answer.rows) for answer in (needed, running, other))
    if not sum(model.values()):
        raise InputError(
            workload.name, "it has no matrix products", "a workload with matrix products is accepted", "Name another."
        )
    scores = sum(executed.values()) - sum(model.values())
    again = by_part(row for row in needed.rows if _recomputed(row, recompute, phase, fused=scores > 0))
    return Counted(
        model=model,
        executed={part: count + again[part] for part, count in executed.items()},
        tokens=needed.dims["B"] * needed.dims["N"] if {"B", "N"} <= needed.dims.keys() else None,
        dtype=workload.dtypes["activation"],
        because=tuple(_conventions(needed, scores, recompute, sum(again.values()))),
        causal=pairs,
        masked=None if masked == model else masked,
    )


def _recomputed(row: Row, recompute: str, phase: str, fused: bool) -> bool:
    """Whether a forward kernel runs again: with ``full`` all of the layers, with ``selective`` attention between its
    projections. The backward kernel of fused attention computes its scores again in any case.
    """
    if not row.forward or phase != "train":
        return False
    return (
        bool(row.step.group) if recompute == "full" else recompute == "selective" and not fused and _in_attention(row)
    )


def _in_attention(row: Row) -> bool:
    return FAMILY_OF[row.step.operation.name] in ATTENTION


def by_part(rows: Iterable[Row]) -> dict[str, float]:
    """Returns the FLOPs of the matrix products of every part, over all repeats."""
    found: dict[str, float] = dict.fromkeys(PARTS, 0)
    for row in rows:
        part = "logits" if is_logits(row.step) else "attention" if _in_attention(row) else "weights"
        found[part] += row.contraction_flops * row.repeat
    return found


def _conventions(needed: Analysis, scores: float, recompute: str, again: float) -> Iterable[str]:
    """Yields sentences on what the counts include."""
    dims = ", ".join(f"{name} = {needed.dims[name]}" for name in ("B", "N", "N_e", "S") if name in needed.dims)
    passes = "forward and backward" if needed.phase == "train" else "forward"
    yield f"{needed.workload.name}, {needed.phase}, {dims}: matrix products, {passes}, 2 FLOP for a multiply-add."
    yield "Embedding lookups, normalisations, softmax and the optimizer count nothing. Logits count at every position."
    if needed.phase == "train" and needed.parameters.embedding:
        yield f"6 FLOP for each active parameter would be {6 * needed.parameters.active:,} FLOP for a token."
    if scores:
        yield "HFU includes the scores that fused attention computes again in its backward pass."
    if recompute != "none":
        layers = "the forward pass of every layer" if recompute == "full" else "the forward pass of attention"
        yield f"Recomputation ({recompute}) adds {layers if again else 'nothing'} to HFU."


def of_number(flops: Mapping[str, float], tokens: float | None, *, per_token: bool, full: bool) -> Counted:
    """Returns the counts of FLOPs by data type. The forward pass is a third of training: full recomputation adds it."""
    because = ["Model FLOPs are the given number."]
    if full:
        because.append("Recomputation (full) adds a third, the forward pass, to HFU.")
    executed = {kind: count * 4 / 3 if full else count for kind, count in flops.items()}
    return Counted(flops, executed, 1 if per_token else tokens, "", tuple(because), per_token=per_token, by_type=True)


def of_program(flops: float, tokens: float | None, dtype: str) -> Counted:
    """Returns the counts of a program whose matrix products were counted as it runs."""
    because = "FLOPs are those of the program as it runs: MFU and HFU both include what it computes twice."
    return Counted({dtype: flops}, {dtype: flops}, tokens, dtype, (because,), by_type=True)
