"""An imported model: its sizes, and the steps of each phase."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from perfmodel.block import Step


class Model(NamedTuple):
    """What a family's file makes of a config.

    ``decode`` are the steps of one token where they are not the prompt's: one form or several, the first the default.
    ``longest`` are the positions that it is meant for, ``name`` is what the config calls itself. ``phases`` are sizes, as text, that a phase has of its own; a model without ``decode`` among them has no cache.
    """

    title: str
    sizes: Mapping[str, int | str]
    phases: Mapping[str, Mapping[str, int | str]]
    steps: tuple[Step, ...]
    decode: Mapping[str, tuple[Step, ...]] | None = None
    notes: tuple[str, ...] = ()
    not_counted: tuple[str, ...] = ()
    longest: int | None = None
    name: str = ""
