"""Serving figures from the bounds of a phase: time to the first token, time per token or per step, tokens per second.

They come from the data sheet alone: times are lower bounds, rates upper bounds. Utilisation is that of contractions
against the roof of the tensor engine, at the lower time. A workload without matrix products (a depthwise convolution, a
normalisation) has neither utilisation nor tokens; its N counts positions.
"""

from typing import NamedTuple

from perfmodel.analysis import Analysis
from perfmodel.op import Engine


class Speed(NamedTuple):
    """Bounds of a phase: time of a prompt, of a decoded token of each sequence, or of a training step.

    ``complete``: tokens go in and tokens come out, so it is the time of a model and not of a part. The prompt of an
    encoder-decoder model is the encoder's input. ``roof`` is the roof of the products.
    """

    complete: bool
    time_at_least_s: float
    tokens: int | None
    tokens_at_most_per_s: float | None
    flops_utilisation_at_most: float | None
    roof: str | None


def speed(answer: Analysis) -> Speed | None:
    """Returns the serving figures of an answer that has a card."""
    lower_s = answer.total.lower_s
    if answer.card is None or not lower_s:
        return None
    dims = answer.dims
    length = dims.get("N_e" if answer.phase == "prefill" and "N_e" in dims else "N")
    products = any(row.engines[Engine.TENSOR.value] for row in answer.rows)
    tokens = dims["B"] * length if products and length and "B" in dims else None
    roof = answer.card.roofs[Engine.TENSOR]
    return Speed(
        complete=bool(answer.parameters.embedding) and "decode" in answer.workload.phases,
        time_at_least_s=lower_s / dims.get("N", 1) if answer.phase == "decode" else lower_s,
        tokens=tokens,
        tokens_at_most_per_s=tokens / lower_s if tokens else None,
        flops_utilisation_at_most=answer.total.contraction_flops / (lower_s * roof.flop_per_s) if products else None,
        roof=roof.name if products else None,
    )
