"""Strict JSON: no key twice, no number that JSON lacks, limits of its own on nesting and on digits.

The limits are stated here because Python's own change between versions and depend on the stack in use.
"""

from __future__ import annotations

import json
import re
from math import isfinite
from typing import Any

from perfmodel.errors import InputError, shown

DEEPEST = 64
MOST_DIGITS = 400
# A bracket outside text, or a text whose brackets mean nothing.
_BRACKETS = re.compile(r'"(?:[^"\\]|\\.)*"?|(?P<open>[\[{])|(?P<close>[\]}])')


def parsed(text: str, where: str, accepted: str, action: str) -> dict[str, Any]:
    """Returns the JSON object that ``text`` holds; ``accepted`` and ``action`` end the message if it holds none."""

    def refused(found: str, place: str = where) -> InputError:
        return InputError(place, found, accepted, action)

    def constant(name: str) -> float:
        raise InputError(where, f"{name} stands in it", "numbers of JSON are accepted", "Write a finite number.")

    def finite(digits: str) -> float:
        value = float(digits)
        return value if isfinite(value) else constant(shown(digits)[1:-1])

    def whole(digits: str) -> int:
        if len(digits) > MOST_DIGITS:
            raise refused(f"it holds a number of {len(digits)} digits, more than {MOST_DIGITS}")
        return int(digits)

    if _depth(text) > DEEPEST:
        raise refused(f"it is nested deeper than {DEEPEST} levels")
    try:
        found = json.loads(
            text, parse_constant=constant, parse_float=finite, parse_int=whole, object_pairs_hook=lambda p: _pairs(p, where)
        )  # fmt: skip
    except json.JSONDecodeError as error:
        place = f"{where}:{error.lineno}" if "\n" in text.rstrip() else where
        raise refused(f"it is not JSON from column {error.colno} on", place) from None
    if not isinstance(found, dict):
        raise refused(f"{shown(found)} stands there")
    return found


def _pairs(found: list[tuple[str, Any]], where: str) -> dict[str, Any]:
    seen: set[str] = set()
    for key, _ in found:
        if key in seen:
            raise InputError(where, f"{shown(key)} stands twice", "a key may stand once", "Remove one of the two.")
        seen.add(key)
    return dict(found)


def _depth(text: str) -> int:
    """Returns the depth of nesting; 0 where there are too few brackets to reach the limit."""
    if text.count("[") + text.count("{") <= DEEPEST:
        return 0
    depth = deepest = 0
    for found in _BRACKETS.finditer(text):
        depth += bool(found["open"]) - bool(found["close"])
        deepest = max(deepest, depth)
    return deepest
