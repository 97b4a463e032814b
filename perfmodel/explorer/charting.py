"""The roofline of a page: the functions of ``chart`` as JavaScript, and the script that draws what they return."""

from __future__ import annotations

import os.path
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from typing import Any

from perfmodel import chart
from perfmodel.explorer.compiler.program import Program

# What the script calls, and the attributes that it reads.
FUNCTIONS: dict[str, Any] = {
    "limits": chart.limits, "decades": chart.decades, "decade": chart.decade, "brief": chart.brief, "tags": chart.tags,
}  # fmt: skip
READ = ("parts", "height", "ridge")
_APP = os.path.join(os.path.dirname(__file__), "app")
SCRIPT, STYLE = os.path.join(_APP, "chart.js"), os.path.join(_APP, "chart.css")


@cache
def runtime() -> str:
    """The part that is written in JavaScript: Python's builtin functions."""
    return files("perfmodel.explorer.compiler").joinpath("runtime.js").read_text("utf-8")


def wrapped(program: str) -> str:
    """A translated program with its runtime, as the object ``perfmodel`` of a page."""
    return f"const perfmodel = (() => {{\n{runtime()}\n{program}\n}})();"


def drawing(cards: Sequence[chart.Card]) -> str:
    """The program of a page that shows these cards with their points."""
    made = Program({}, frozenset(), frozenset())
    for name in READ:
        made.uses(name)
    return wrapped(made.text({**FUNCTIONS, "cards": tuple(cards)}, {}))
