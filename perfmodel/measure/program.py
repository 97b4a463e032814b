"""A case as a program: what to run, and how to compare its outputs with a float64 reference."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

# Largest accepted relative norm of the error by data type: a few rounding errors, since sums accumulate in fp32.
TOLERANCE = {"fp64": 1e-12, "fp32": 2e-5, "tf32": 2e-3, "fp16": 2e-3, "bf16": 1.2e-2, "fp8": 1.2e-2, "int8": 0.0}
# Accepted error of one element, in tolerances of the sum of its magnitude and the root mean square of all elements.
ELEMENT = 12.0

Pairs = Iterator[tuple[str, Any, Any]]


class Program(NamedTuple):
    """``run`` does the work once and returns the outputs. ``compare`` yields parts of the outputs, each with its name
    and reference. ``weights``: tensors that every run of the rotating protocol replaces by a copy.
    """

    run: Callable[[], Any]
    compare: Callable[[Any], Pairs]
    weights: tuple[Any, ...] = ()


class Verdict(NamedTuple):
    """The largest relative norm of the error over the compared parts, and the error message if a part is wrong."""

    relative_norm: float
    wrong: str = ""


def verdict(pairs: Pairs, dtype: str, lib: Any) -> Verdict:
    """Compares every part with its reference: relative norm of the error, and the error of every single element. NaN
    counts as wrong.
    """
    worst, bound = 0.0, TOLERANCE[dtype]
    for name, found, reference in pairs:
        wanted = to_float64(reference, lib)
        error = to_float64(found, lib) - wanted
        norm = float((error * error).sum()) ** 0.5
        size = float((wanted * wanted).sum()) ** 0.5
        relative = norm / size if size else norm
        if not relative <= bound:
            return Verdict(relative, f"relative error of {name} is {relative:.2g}, at most {bound:.2g} is accepted")
        spread = size / max(1, error.shape.numel() if hasattr(error.shape, "numel") else error.size) ** 0.5
        excess = lib.abs(error) - ELEMENT * bound * (lib.abs(wanted) + spread)
        if bound and float(excess.max()) > 0:
            return Verdict(relative, f"the error of one element of {name} exceeds {ELEMENT:g} tolerances")
        worst = max(worst, relative)
    return Verdict(worst)


def to_float64(value: Any, lib: Any) -> Any:
    """Returns the array in float64, on its device."""
    return value.double() if hasattr(value, "double") else value.astype(lib.float64)
