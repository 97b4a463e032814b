"""An imported model: its sizes, and the steps of each phase."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from perfmodel.block import Step
from perfmodel.quantisation import Chosen


class Model(NamedTuple):
    """A model that was read from a config.

    - ``phases``: sizes that differ by phase, as text. A model without a decode phase has no cache.
    - ``decode``: the steps for one token where they differ from the prompt's, by form; the first form is the default.
    - ``longest``: the number of positions that the model supports.
    - ``name``: the name that the config gives.
    - ``dtype``: the data type that the config gives.
    - ``stored``: the formats of quantised weights, by step; ``stored_note`` names them.
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
    dtype: str = "fp16"
    stored: Chosen | None = None
    stored_note: str = ""
