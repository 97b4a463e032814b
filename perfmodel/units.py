"""Numbers with units: reading sizes and quantities from text, and printing them.

Decimal and binary prefixes are distinct. k, M, G, T are powers of 1000, and Ki, Mi, Gi, Ti are powers of 1024. This
holds for sizes (``8k`` is 8000) and for quantities (``80 GB`` is 80e9 bytes, ``40 MiB`` is 41,943,040).
"""

from __future__ import annotations

import re
from functools import lru_cache

from perfmodel.errors import InputError, SizeRangeError, did_you_mean, shown

DECIMAL = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "P": 10**15, "E": 10**18}
BINARY = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40, "Pi": 2**50}
PREFIXES = {**DECIMAL, **BINARY}

# Names of the units. Quantities are stored without prefix: bytes, FLOP per second, hertz, seconds, watts.
UNITS = {
    "B": "bytes",
    "B/s": "bytes per second",
    "FLOP/s": "operations per second",
    "OP/s": "operations per second",
    "FLOP": "operations",
    "OP": "operations",
    "Hz": "hertz",
    "W": "watts",
    "s": "seconds",
    "bit": "bits",
    "bit/s": "bits per second",
}

ITEM_BYTES: dict[str, int | float] = {
    "fp64": 8, "fp32": 4, "tf32": 4, "fp16": 2, "bf16": 2, "fp8": 1, "int8": 1, "fp4": 0.5, "int4": 0.5,
}  # fmt: skip
HALF_BYTE = 0.5

LARGEST_SIZE = 10**15
ITEMS_ACCEPTED = "a whole number of bytes per element, or 0.5 for a type of 4 bits, is accepted"
SIZES_ACCEPTED = "a size is a whole number from 1 to 10^15, such as 8192, 8k (8000), 8Ki (8192) or 1M (1,000,000)"

_NUMBER = re.compile(r"([+-]?(?:\d+(?:_\d+)*)(?:\.\d+)?(?:[eE][+-]?\d{1,4})?)\s*([A-Za-z]*)(.*)", re.DOTALL | re.ASCII)


def checked_dtype(name: str) -> str:
    """Returns the name if it is a data type; raises InputError otherwise."""
    if name not in ITEM_BYTES:
        raise InputError(
            f"dtype {shown(name)}", "it is not a data type", f"one of {', '.join(ITEM_BYTES)} is accepted",
            did_you_mean(name, ITEM_BYTES),
        )  # fmt: skip
    return name


def checked_size(value: object, where: str) -> int:
    """Returns the value if it is a size, a whole number from 1 to 10^15; raises InputError otherwise."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise InputError(where, f"{shown(value)} is not a whole number", SIZES_ACCEPTED)
    if not 1 <= value <= LARGEST_SIZE:
        error = SizeRangeError if value > LARGEST_SIZE else InputError
        raise error(where, f"{shown(value)} is out of range", SIZES_ACCEPTED)
    return value


def checked_item(value: object, where: str) -> int | float:
    """Returns bytes per element: a whole number, or 0.5 for types of 4 bits."""
    if isinstance(value, float) and value == HALF_BYTE:
        return HALF_BYTE
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= LARGEST_SIZE:
        raise InputError(where, f"{shown(value)} is not a number of bytes per element", ITEMS_ACCEPTED)
    return value


def item_from_text(text: str, where: str) -> int | float:
    """Reads bytes per element: a size, or 0.5 for types of 4 bits."""
    try:
        is_half = float(text) == HALF_BYTE
    except ValueError:
        is_half = False
    return HALF_BYTE if is_half else size_from_text(text, where)


def size_from_text(text: str, where: str) -> int:
    """Reads a whole number with an optional prefix: 8192, 8k, 8Ki, 1.5M."""
    match = _NUMBER.fullmatch(text.strip()) if len(text) <= 60 else None
    if not match or match[3] or match[2] not in PREFIXES:
        raise InputError(where, f"{shown(text)} is not a size", SIZES_ACCEPTED, _meant(match) if match else "")
    number, factor = match[1].replace("_", ""), PREFIXES[match[2]]
    value = int(number) * factor if number.lstrip("+-").isdigit() else _exact(number, factor)
    if value is None:
        raise InputError(where, f"{shown(text)} is not a whole number", SIZES_ACCEPTED)
    if not 1 <= value <= LARGEST_SIZE:
        raise InputError(where, f"{text.strip()} is out of range", SIZES_ACCEPTED)
    return value


def _meant(match: re.Match[str]) -> str:
    """Returns a suggestion for a prefix in the wrong case: ``Write 8k (8000) or 8Ki (8192).`` for ``8K``."""
    word = match[2].casefold()
    meant = (
        [prefix for prefix in PREFIXES if prefix and prefix.casefold() in (word, f"{word}i")] if not match[3] else []
    )
    values = [(f"{match[1]}{prefix}", _exact(match[1].replace("_", ""), PREFIXES[prefix])) for prefix in meant]
    words = [f"{text} ({value})" for text, value in values if value is not None and 1 <= value <= LARGEST_SIZE]
    return f"Write {' or '.join(words)}." if words else ""


def _exact(number: str, factor: int) -> int | None:
    """Returns number times factor as a whole number; None if it is not whole, 0 if it is far out of range."""
    from fractions import Fraction

    exponent = int((number.lower() + "e0").split("e")[1])
    value = Fraction(number) * factor if abs(exponent) <= 40 else Fraction(0)
    return int(value) if value.denominator == 1 else None


def quantity_from_text(text: object, unit: str, where: str) -> float:
    """Reads '1555 GB/s' in the given unit. A number without a unit, or with another unit, is an error."""
    accepted = f"a quantity in {unit} is accepted ({UNITS[unit]}), such as '1.5 G{unit}'"
    match = _NUMBER.fullmatch(text.strip()) if isinstance(text, str) and len(text) <= 60 else None
    if not match:
        raise InputError(where, f"{shown(text)} is not a quantity with a unit", accepted)
    prefix, found = _prefix_and_unit(match[2] + match[3], unit)
    if found != unit:
        raise InputError(where, f"{shown(text)} is not in {unit}", accepted)
    value = float(match[1].replace("_", "")) * PREFIXES[prefix]
    if not 0 < value < float("inf"):
        raise InputError(where, f"{shown(text)} is not positive and finite", accepted)
    return value


def _prefix_and_unit(word: str, unit: str) -> tuple[str, str]:
    word = word.strip()
    prefix = word[: len(word) - len(unit)] if word.endswith(unit) else ""
    return (prefix, unit) if prefix in PREFIXES and word.endswith(unit) else ("", word)


_DECIMAL = ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""))
_SECONDS = ((1.0, ""), (1e-3, "m"), (1e-6, "µ"), (1e-9, "n"))


@lru_cache(maxsize=1 << 16)
def scaled(value: float, unit: str = "", digits: int = 5) -> str:
    """Returns a number with a decimal prefix: 312 TFLOP/s, 33.56 MB, 110.2 µs."""
    if value == 0:
        return f"0 {unit}".rstrip()
    if unit == "" and abs(value) < 1000 and value == int(value):
        return str(int(value))
    size = abs(value)
    for factor, prefix in _SECONDS if unit == "s" else _DECIMAL:  # noqa: B007 - the last one if none is reached
        if size >= factor * (1 - 5e-7):
            break
    return f"{significant(value / factor, digits)} {prefix}{unit}".rstrip()


def significant(value: float, digits: int = 5) -> str:
    """Returns a number with ``digits`` significant digits, in fixed-point notation from 1e-6 to 1e15."""
    if value == 0:
        return "0"
    if abs(value) >= 1e15 or abs(value) < 1e-6:
        return f"{value:.{digits - 1}e}"
    places = digits - 1 - int(f"{abs(value):e}"[-3:])
    return f"{value:.{max(0, places)}f}"
