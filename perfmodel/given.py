"""Converts the arguments of the library functions (names, files, objects, sizes, cases) for the lower layers."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from perfmodel import hardware, ops, paths
from perfmodel.config_files import workload as _workload
from perfmodel.errors import InputError, did_you_mean, shown
from perfmodel.footprint.reserve import DEFAULT, Reserve
from perfmodel.footprint.reserve import reserve as read_reserve
from perfmodel.hardware import Gpu
from perfmodel.operation import Operation
from perfmodel.symbols import ALIASES, SYMBOLS
from perfmodel.units import checked_dtype
from perfmodel.workload import Workload, setting, single, with_weights

if TYPE_CHECKING:
    from perfmodel.programs.program import Program
    from perfmodel.step_cases import StepCase

Config = str | os.PathLike[str] | Workload | Operation
Card = str | os.PathLike[str] | Gpu
Settings = Mapping[str, Any] | None


def known(name: Card) -> Gpu:
    """Returns a card by name, short name or file."""
    return name if isinstance(name, Gpu) else hardware.gpu(os.fspath(name))


def card(name: Card | None) -> Gpu | None:
    """Returns the card, or None if no card is given."""
    return None if name is None else known(name)


def named(config: Config) -> Workload | Operation:
    """Returns the operation with that name, else the configuration. A path always means a file."""
    if isinstance(config, (Workload, Operation)):
        return config
    if config in ops.FAMILY_OF:
        return ops.find(str(config))
    name = os.fspath(config)
    if paths.is_name(name) and paths.named("configs", name) is None:
        raise InputError(
            f"config {shown(name)}", "there is no operation or configuration with this name",
            "a name from 'perfmodel ops' or 'perfmodel models', or a path, is accepted",
            did_you_mean(name, (*ops.FAMILY_OF, *paths.files("configs"))),
        )  # fmt: skip
    return _workload(name)


def workload(config: Config, dtype: str | None = None, card: Gpu | None = None) -> Workload:
    """Returns the workload, converted to ``dtype`` if given. Sizes that depend on the card are set for an operation."""
    name, _, weights = config.partition("@") if isinstance(config, str) else ("", "", "")
    found = named(name if name in ops.FAMILY_OF else config)
    if isinstance(found, Operation):
        one = single(found, checked_dtype(dtype or "fp16"), card.sizes() if card else {})
        return with_weights(one, weights) if weights else one
    return found.with_dtype(dtype) if dtype else found


def several(things: Any) -> list[Any]:
    """Returns one thing or several as a list. Objects of this package count as one thing, even if they are tuples."""
    return [things] if isinstance(things, (str, os.PathLike, Gpu, Workload, Operation)) else list(things)


def sizes(settings: Settings, keywords: Mapping[str, Any]) -> dict[str, Any]:
    """Returns sizes as numbers or expressions, from ``settings`` and from keywords."""
    found: dict[str, Any] = {}
    for name, value in (*(settings or {}).items(), *keywords.items()):
        symbol = ALIASES.get(name, name)
        if name in keywords and symbol not in SYMBOLS:
            raise InputError(
                f"{name}={shown(value)}", "it is neither an option nor a size",
                "the options of this function and the names in 'perfmodel symbols' are accepted",
                did_you_mean(name, SYMBOLS),
            )  # fmt: skip
        if symbol in found:
            raise InputError(f"set {name}", "it is set twice", "a size has one value", "Remove one of them.")
        found[symbol] = setting(f"{symbol}={value}")[1] if isinstance(value, str) else _whole(value)
    return found


def _whole(value: Any) -> Any:
    """Returns whole numbers of other libraries, such as NumPy's, as Python ints; other values unchanged."""
    return value.__index__() if hasattr(value, "__index__") and not isinstance(value, (bool, int)) else value


def reserve(text: str | None) -> Reserve:
    """Returns the memory to keep free, given as for ``--reserve``."""
    return DEFAULT if text is None else read_reserve(text)


def case_lines(cases: Any) -> tuple[Iterable[str], str]:
    """Returns cases as lines of JSON, and the name of their file for messages."""
    from perfmodel.specfile import read_lines

    if isinstance(cases, (str, os.PathLike)):
        text = os.fspath(cases)
        if text.lstrip().startswith("{"):
            return text.splitlines(), "cases"
        path = paths.cases(text)
        return read_lines(path), path
    given = [cases] if isinstance(cases, Mapping) else cases
    return [one if isinstance(one, str) else _line(one) for one in given], "cases"


def _line(case: Mapping[str, Any]) -> str:
    from perfmodel.strictjson import dumped

    try:
        return dumped(case, default=lambda value: value.__index__())
    except (AttributeError, TypeError, ValueError, InputError):
        raise InputError(
            "cases",
            f"{shown(case)} cannot be written as JSON",
            "a mapping of text, whole numbers and flags is accepted",
        ) from None


def captured(case: StepCase) -> Program:
    """Returns the program of a step of transformers. Loads torch."""
    from perfmodel.capture.steps import program

    return program(case)
