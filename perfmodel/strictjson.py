"""Strict JSON, read and written: no duplicate keys, no NaN or Infinity, fixed limits on nesting and digits.

The limits are fixed here because those of Python depend on its version and on the current stack depth.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from math import isfinite
from typing import Any

from perfmodel.errors import InputError, printable, shown

DEEPEST = 64
MOST_DIGITS = 400
# A bracket, or a string in which brackets have no meaning.
_BRACKETS = re.compile(r'"(?:[^"\\]|\\.)*"?|(?P<open>[\[{])|(?P<close>[\]}])')
# Half of a surrogate pair as an escape. Only a whole pair is a character.
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


def _encoder() -> Callable[[Any], str]:
    """Returns the function that encodes plain values. ``json`` makes an encoder in C for every call, and this one once."""
    own, make = json.JSONEncoder(allow_nan=False), getattr(json.encoder, "c_make_encoder", None)
    if make is None:
        return own.encode
    texts = json.encoder.encode_basestring_ascii
    parts = make(None, own.default, texts, None, own.key_separator, own.item_separator, False, False, False)
    return lambda value: "".join(parts(value, 0))


_encode = _encoder()


def dumped(
    value: Any, *, indent: int | None = None, sort_keys: bool = False, default: Callable[[Any], Any] | None = None
) -> str:
    """Returns JSON text. A figure that is NaN or infinite is an error, because JSON has no such numbers."""
    try:
        if indent is None and not sort_keys and default is None:
            return _encode(value)
        return json.dumps(value, indent=indent, sort_keys=sort_keys, default=default, allow_nan=False)
    except ValueError as error:
        if "JSON compliant" not in str(error):
            raise
        raise InputError(
            "json", "a figure of the answer is not finite", "sizes and rates with finite results are accepted",
            "Choose less extreme values.",
        ) from None  # fmt: skip


# Exponents, which may give an infinite number.
_EXPONENT = re.compile(r"[0-9.][eE]")
_DECODER = json.JSONDecoder()


def _quickly(text: str) -> dict[str, Any] | None:
    """Returns the JSON object in a short and simple text; None if the text needs a closer look.

    Every key has a colon. With as many colons as keys, no key is repeated and no text has a colon.
    """
    text = text.rstrip()
    if len(text) > MOST_DIGITS or not (text.isascii() and text.isprintable() and text.startswith("{")):
        return None
    if "\\" in text or "NaN" in text or "Infinity" in text or "[" in text or _EXPONENT.search(text):
        return None
    try:
        found, end = _DECODER.raw_decode(text)
    except ValueError:
        return None
    keys = len(found) + sum(len(value) for value in found.values() if isinstance(value, dict))
    return found if keys == text.count(":") and end == len(text) else None


def parsed(text: str, where: str, accepted: str, action: str) -> dict[str, Any]:
    """Returns the JSON object in ``text``. ``accepted`` and ``action`` are the end of the message if there is none."""
    simple = _quickly(text)
    if simple is not None:
        return simple

    def refused(found: str, place: str = where) -> InputError:
        return InputError(place, found, accepted, action)

    def constant(name: str) -> float:
        raise InputError(where, f"the number {name} was found", "JSON numbers are accepted", "Write a finite number.")

    def finite(digits: str) -> float:
        value = float(digits)
        return value if isfinite(value) else constant(shown(digits)[1:-1])

    def whole(digits: str) -> int:
        if len(digits) > MOST_DIGITS:
            raise refused(f"a number has {len(digits)} digits, more than {MOST_DIGITS}")
        return int(digits)

    plain = "\\" not in text and text.strip().isprintable()  # then no text in it has a control character

    def pairs(found: list[tuple[str, Any]]) -> dict[str, Any]:
        return _pairs(found if plain else [(printable(key), escaped(value)) for key, value in found], where)

    if _depth(text) > DEEPEST:
        raise refused(f"it is nested deeper than {DEEPEST} levels")
    try:
        found = json.loads(text, parse_constant=constant, parse_float=finite, parse_int=whole, object_pairs_hook=pairs)
    except json.JSONDecodeError as error:
        place = f"{where}:{error.lineno}" if "\n" in text.rstrip() else where
        raise refused(f"the text is not valid JSON from column {error.colno}", place) from None
    if not isinstance(found, dict):
        raise refused(f"{shown(found)} was found")
    if _SURROGATE.search(text) and not _encodable(json.loads(text)):
        raise refused("a text contains half of a surrogate pair")
    return found


def _encodable(found: object) -> bool:
    try:
        json.dumps(found, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _pairs(found: list[tuple[str, Any]], where: str) -> dict[str, Any]:
    seen: set[str] = set()
    for key, _ in found:
        if key in seen:
            raise InputError(
                where, f"the key {shown(key)} is repeated", "one value per key is accepted", "Remove one of the two."
            )
        seen.add(key)
    return dict(found)


def escaped(value: Any) -> Any:
    """Returns a value without control characters in its texts; only line breaks are kept."""
    match value:
        case str():
            return printable(value, "\n")
        case list():
            return [escaped(item) for item in value]
        case dict():
            return {printable(key): escaped(item) for key, item in value.items()}
    return value


def _depth(text: str) -> int:
    """Returns the depth of nesting, or 0 if there are too few brackets to reach the limit."""
    if text.count("[") + text.count("{") <= DEEPEST:
        return 0
    depth = deepest = 0
    for found in _BRACKETS.finditer(text):
        depth += bool(found["open"]) - bool(found["close"])
        deepest = max(deepest, depth)
    return deepest
