"""What the bounds of a phase mean for who waits: time to the first token, per token or per step, tokens per second.

From the data sheet alone, so times are at least and rates at most: the counted work takes no less than its lower time.
The use of FLOPs is that of contractions against the roof which serves the tensor engine, as it would be at the lower
time. A workload without matrix products (a depthwise convolution, a normalisation) has neither that nor tokens: its N
are positions. The first token needs the logits of the last position of a prompt alone: its time leaves out those of the
other positions, which the counts of ``flops`` include.
"""

from typing import NamedTuple

from perfmodel import block
from perfmodel.analysis import Analysis
from perfmodel.op import Engine
from perfmodel.roofline import Rates, lower_under
from perfmodel.workload import is_logits, last_position


class Speed(NamedTuple):
    """Bounds of a phase: the time of a prompt, of a decoded token of each sequence, or of a training step.

    ``complete`` says that tokens go in and tokens come out, so that it is a model's time and not a part's. The prompt
    of an encoder and decoder is what the encoder reads; a workload without batch and length has no tokens. ``roof`` is
    the roof of the products, against which their use is given: the tensor engine's, or what stands in for it.
    ``last_logits`` says that only the logits of the last position are included.
    """

    complete: bool
    time_at_least_s: float
    tokens: int | None
    tokens_at_most_per_s: float | None
    flops_utilisation_at_most: float | None
    roof: str | None
    last_logits: bool = False


def speed(answer: Analysis) -> Speed | None:
    """The bounds of an answer that has a card."""
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
    roof = answer.card.roofs[Engine.TENSOR]
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
