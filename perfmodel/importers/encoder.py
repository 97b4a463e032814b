"""Encoders and decoders that look at one another: parts of T5 and Whisper."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from perfmodel.block import Step
from perfmodel.expression import Expression


def renamed(steps: Iterable[Step], names: Mapping[str, str], prefix: str = "") -> list[Step]:
    """Steps over other sizes: ``{"N": "N_e"}`` makes a decoder's parts an encoder's; nothing of it is cached."""
    pattern = re.compile(rf"\b({'|'.join(names)})\b")

    def other(text: str) -> str:
        return pattern.sub(lambda found: names[found[0]], text)

    return [
        s._replace(
            name=prefix + s.name,
            group=prefix + s.group if s.group else "",
            cached=False,
            unmasked=True,
            sizes={
                **{new: Expression(names[new], s.name) for new in names if new in s.operation.arguments},
                **{key: Expression(other(size.text), s.name) for key, size in s.sizes.items()},
            },
            flow={tensor: prefix + flow for tensor, flow in s.flow.items()},
        )
        for s in steps
    ]


def encoder_of(steps: Iterable[Step], tokens: str = "N_e") -> list[Step]:
    """The steps of an encoder over so many positions: N_e beside a decoder, N alone."""
    return renamed(steps, {"N": tokens, "T": tokens}, "encoder.")


def encoder_phases(prompt: int) -> dict[str, dict[str, int | str]]:
    """The phases of an encoder alone: it reads all positions at once and keeps no cache."""
    return {phase: {"N": prompt, "S": "N", "T": "S"} for phase in ("prefill", "train")}


def phases(prompt: int, encoder: int | None, positions: int | None = None) -> dict[str, dict[str, int | str]]:
    """N_e encoder positions: as many as decoder tokens unless the architecture fixes them."""
    prefill: dict[str, int | str] = {"N": prompt, "S": "N", "T": "S", "N_e": encoder or "N"}
    decode: dict[str, int | str] = {
        "N": 1,
        "S": prompt if positions is None else max(1, min(prompt, positions - 1)),
        "T": "S + N",
        "N_e": encoder or "S",
    }
    return {"prefill": prefill, "decode": decode, "train": dict(prefill)}
