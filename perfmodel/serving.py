"""Serving figures from the bounds of a phase: time to the first token, time per token or per step, tokens per second.

They come from the data sheet alone: times are lower bounds, rates upper bounds. Utilisation is that of contractions
against the roof of the tensor engine, at the lower time. A workload without matrix products (a depthwise convolution, a
normalisation) has neither utilisation nor tokens; its N counts positions. The first token needs only the logits of the
last position of a prompt: its time leaves out the others, which the counts of ``flops`` include.
"""

from typing import NamedTuple

from perfmodel import block
from perfmodel.analysis import Analysis
from perfmodel.op import Engine
from perfmodel.roofline import Rates, Roof, lower_under, rates
from perfmodel.workload import is_logits, last_position

NARROW = ("fp8", "int8", "fp4")  # types of quantised products, by their usual rate


class Speed(NamedTuple):
    """Bounds of a phase: time of a prompt, of a decoded token of each sequence, or of a training step.

    ``complete``: tokens go in and tokens come out, so it is the time of a model and not of a part. The prompt of an
    encoder-decoder model is the encoder's input. ``roof`` is the roof of the products. ``last_logits``: only the logits of
    the last position are included.
    """

    complete: bool
    time_at_least_s: float
    tokens: int | None
    tokens_at_most_per_s: float | None
    flops_utilisation_at_most: float | None
    roof: str | None
    last_logits: bool = False


def speed(answer: Analysis) -> Speed | None:
    """Returns the serving figures of an answer that has a card."""
    if answer.card is None or not answer.total.lower_s:
        return None
    complete = bool(answer.parameters.embedding) and "decode" in answer.workload.phases
    first = complete and answer.phase == "prefill"
    spared_s, spared_flops = _other_logits(answer, answer.card) if first else (0.0, 0)
    lower_s = answer.total.lower_s - spared_s
    dims = answer.dims
    length = dims.get("N_e" if answer.phase == "prefill" and "N_e" in dims else "N")
    products = any(row.engines[Engine.TENSOR.value] for row in answer.rows)
    tokens = dims["B"] * length if products and length and "B" in dims else None
    roof = _roof(answer, answer.card)
    flops = answer.total.contraction_flops - spared_flops
    return Speed(
        complete=complete,
        time_at_least_s=lower_s / dims.get("N", 1) if answer.phase == "decode" else lower_s,
        tokens=tokens,
        tokens_at_most_per_s=tokens / lower_s if tokens else None,
        flops_utilisation_at_most=flops / (lower_s * roof.flop_per_s) if products else None,
        roof=roof.name if products else None,
        last_logits=first and any(is_logits(row.step) for row in answer.rows),
    )


def _roof(answer: Analysis, card: Rates) -> Roof:
    """The roof of the products: of quantised weights that of the narrow type in which they run."""
    tensor = Engine.TENSOR
    reached = max(
        (row.engines[tensor.value] / row.bounds.engine_s[tensor] for row in answer.rows
         if row.bounds and row.bounds.engine_s.get(tensor)), default=0.0,
    )  # fmt: skip
    roofs = (card.roofs[tensor], *(rates(card.gpu, dtype).roofs[tensor] for dtype in NARROW))
    return next((roof for roof in roofs if roof.flop_per_s * (1 + 1e-9) >= reached), roofs[0])


def _other_logits(answer: Analysis, card: Rates) -> tuple[float, int]:
    """Seconds and FLOPs of the logits of all positions but the last."""
    rows = [row for row in answer.rows if is_logits(row.step)]
    steps = [last_position(step) for step in {row.step.name: row.step for row in rows}.values()]
    at = {"causal": int(answer.causal), **answer.dims}
    spared_s = sum(row.bounds.lower_s * row.repeat for row in rows if row.bounds)
    flops = sum(row.contraction_flops * row.repeat for row in rows)
    for kernel in block.kernels(steps, at, fused=answer.fused):
        spared_s -= lower_under(kernel.op, card, answer.protocol).lower_s * kernel.repeat
        flops -= kernel.op.contraction_flops() * kernel.repeat
    return spared_s, flops
