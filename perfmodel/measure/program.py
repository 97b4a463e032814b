"""A case as a program: what to run on a device, and how far what it leaves lies from a float64 reference."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

# Largest relative norm of the error, by data type: a few roundings of the type, since sums are kept in fp32.
TOLERANCE = {"fp64": 1e-12, "fp32": 2e-5, "tf32": 2e-3, "fp16": 2e-3, "bf16": 1.2e-2, "fp8": 1.2e-2, "int8": 0.0}
# One element may be off by so many tolerances of itself and of the root mean square of all.
ELEMENT = 12.0

Pairs = Iterator[tuple[str, Any, Any]]


class Program(NamedTuple):
    """``run`` does the work once and returns what it leaves; ``compare`` yields parts of that, each with its reference."""

    run: Callable[[], Any]
    compare: Callable[[Any], Pairs]


class Verdict(NamedTuple):
    """The largest relative norm over the parts compared, and what is wrong where something is."""

    relative_norm: float
    wrong: str = ""


def verdict(pairs: Pairs, dtype: str, lib: Any) -> Verdict:
    """Holds every part against its reference: relative norm, every single element, and nothing left unwritten."""
    worst, bound = 0.0, TOLERANCE[dtype]
    for name, found, reference in pairs:
        wanted = to_float64(reference, lib)
        error = to_float64(found, lib) - wanted
        norm = float((error * error).sum()) ** 0.5
        size = float((wanted * wanted).sum()) ** 0.5
        relative = norm / size if size else norm
        if not relative <= bound:
            return Verdict(relative, f"{name} is off by {relative:.2g} of its norm, {bound:.2g} is accepted")
        spread = size / max(1, error.shape.numel() if hasattr(error.shape, "numel") else error.size) ** 0.5
        excess = lib.abs(error) - ELEMENT * bound * (lib.abs(wanted) + spread)
        if bound and float(excess.max()) > 0:
            return Verdict(relative, f"one element of {name} is off by more than {ELEMENT:g} tolerances")
        worst = max(worst, relative)
    return Verdict(worst)


def to_float64(value: Any, lib: Any) -> Any:
    """The array in float64, where it lies."""
    return value.double() if hasattr(value, "double") else value.astype(lib.float64)
