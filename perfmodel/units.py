"""Numbers with units: reading sizes and quantities from text, and printing them.

Decimal and binary prefixes are distinct. k, M, G, T are powers of 1000, and Ki, Mi, Gi, Ti are powers of 1024. This
holds for sizes (``8k`` is 8000) and for quantities (``80 GB`` is 80e9 bytes, ``40 MiB`` is 41,943,040).

Numbers are admitted here, whichever command or file they come from: ``checked_size`` and ``checked_item`` for sizes,
``quantity_from_text`` for figures with a unit, and the ``Gate`` of each other kind.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any, NamedTuple

from perfmodel.errors import InputError, SizeRangeError, did_you_mean, said, shown

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

# Smallest and largest accepted quantity of each unit, well beyond real devices. They keep every result finite.
RANGES: dict[str, tuple[float, float]] = {
    "B": (1.0, 1e18), "B/s": (1.0, 1e18), "FLOP/s": (1.0, 1e21), "OP/s": (1.0, 1e21), "FLOP": (1.0, 1e24),
    "OP": (1.0, 1e24), "Hz": (1.0, 1e12), "W": (1e-3, 1e9), "s": (1e-12, 1e6), "bit": (1.0, 1e6), "bit/s": (1.0, 1e15),
}  # fmt: skip


class Gate(NamedTuple):
    """A kind of number without a unit in its text: what it is, and its smallest and largest value."""

    noun: str
    low: float
    high: float
    whole: bool = False

    @property
    def accepted(self) -> str:
        number = "whole number" if self.whole else "number"
        return f"{self.noun}, a {number} from {self.low:g} to {self.high:g}, is accepted"

    def admits(self, value: object) -> bool:
        """Whether the value is a number of this kind; true and false are not numbers."""
        if isinstance(value, bool) or not isinstance(value, int if self.whole else (int, float)):
            return False
        return self.low <= value <= self.high

    def checked(self, value: object, where: str) -> Any:
        """Returns the number; raises InputError for anything else."""
        if not self.admits(value):
            raise InputError(where, f"{said(value)} is not accepted here", self.accepted)
        return value


SHARE = Gate("a share", 0.0, 1.0)
PERCENT = Gate("a percentage", 0.0, 100.0)
FACTOR = Gate("a factor", 1e-9, 1e9)
CAP = Gate("a cap of scores", 1e-9, 1e9)
MULTIPLIER = Gate("a multiplier", -1e9, 1e9)
COUNT = Gate("a count", 0, 10**18, whole=True)
MEASURE = Gate("a reading", 0.0, 1e18)
MICROSECONDS = Gate("a time in microseconds", 1e-6, 1e12)
SECONDS = Gate("a time in seconds", 1e-12, 1e6)

ITEM_BYTES: dict[str, int | float] = {
    "fp64": 8, "fp32": 4, "tf32": 4, "fp16": 2, "bf16": 2, "fp8": 1, "int8": 1, "fp4": 0.5, "int4": 0.5,
}  # fmt: skip
HALF_BYTE = 0.5

LARGEST_SIZE = 10**15
LARGEST_ITEM = 16  # bytes of a double-precision complex number
ITEMS_ACCEPTED = "a whole number of bytes per element from 1 to 16, or 0.5 for a type of 4 bits, is accepted"
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
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= LARGEST_ITEM:
        raise InputError(where, f"{shown(value)} is not a number of bytes per element", ITEMS_ACCEPTED)
    return value


def item_from_text(text: str, where: str) -> int | float:
    """Reads bytes per element: a size, or 0.5 for types of 4 bits."""
    try:
        is_half = float(text) == HALF_BYTE
    except ValueError:
        is_half = False
    return HALF_BYTE if is_half else checked_item(size_from_text(text, where), where)


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
    low, high = RANGES[unit]
    if not low <= value <= high:
        range_ = (
            f"{scaled(low, unit)} to {scaled(high, unit)} is accepted"
            if unit != "s"
            else "1e-12 s to 1e6 s is accepted"
        )
        raise InputError(where, f"{shown(text)} is out of range", range_)
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


UNSEPARATED = ""  # the separator of values of symbols


def significant(value: float, digits: int = 5, separator: str = ",") -> str:
    """Returns a number with ``digits`` significant digits, in fixed-point notation from 1e-6 to 1e15.

    Numbers have thousands separators, but not the values of symbols, such as N = 2048: those can be pasted after ``--set``.
    """
    if value == 0:
        return "0"
    if abs(value) >= 1e15 or abs(value) < 1e-6:
        return f"{value:.{digits - 1}e}"
    places = digits - 1 - int(f"{abs(value):e}"[-3:])
    return f"{value:{separator}.{max(0, places)}f}"
