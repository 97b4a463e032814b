"""Times and rates as text and JSON; each phase has its own names for them."""

from __future__ import annotations

from perfmodel.serving import Speed
from perfmodel.units import scaled, significant

# Names of a phase's time and tokens, for a whole model (True) and for a part of one (False).
TIMES = {
    ("prefill", True): "time_to_first_token", ("prefill", False): "time",
    ("decode", True): "time_per_output_token", ("decode", False): "time_per_token",
    ("train", True): "step_time", ("train", False): "step_time",
}  # fmt: skip
TOKENS = {("prefill", True): "prompt_tokens", ("decode", True): "output_tokens"}


def rates_document(found: Speed, phase: str) -> dict[str, float | str | None]:
    """Returns bounds on time, tokens per second and FLOP utilisation."""
    kind = (phase, found.complete)
    return {
        f"{TIMES[kind]}_at_least_s": found.time_at_least_s,
        f"{TOKENS.get(kind, 'tokens')}_at_most_per_s": found.tokens_at_most_per_s,
        "flops_utilisation_at_most": found.flops_utilisation_at_most,
        "flops_utilisation_of": found.roof,
        **({"logits": "last"} if found.last_logits else {}),
    }


def speed_line(found: Speed, phase: str, causal: bool | None = None, verbose: bool = False) -> str:
    """Returns bounds on time and rate as text; with ``verbose``, also the peak utilisation and the counted pairs.

    ``causal``: whether only visible query-key pairs are counted; None without attention.
    """
    name = TIMES[phase, found.complete].replace("_", " ").capitalize()
    words = [f"{name}: at least {scaled(found.time_at_least_s, 's', 4)}"]
    if found.tokens_at_most_per_s is not None:
        tokens = TOKENS.get((phase, found.complete), "tokens").replace("_", " ")
        words.append(f"at most {number(found.tokens_at_most_per_s)} {tokens}/s")
    if verbose and found.flops_utilisation_at_most is not None:
        words.append(f"utilisation of the {found.roof} peak at most {100 * found.flops_utilisation_at_most:.3g} %")
    part = "" if found.complete else " (this part of a model only)"
    last = " (logits of the last position only)" if found.last_logits else ""
    pairs: dict[bool | None, str] = {
        True: " Attention counts visible query-key pairs only.",
        False: " Attention counts all query-key pairs, masked ones too.",
    }
    counted = pairs.get(causal, "") if verbose and found.complete and phase == "prefill" else ""
    return f"{'; '.join(words)}{part}{last}.{counted}"


def number(value: float) -> str:
    """Returns a number with thousands separators."""
    return f"{value:,.0f}" if value >= 1000 else significant(value, 4)
