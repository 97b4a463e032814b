"""The words, data types and sizes of a case, each checked: what is accepted, and what is not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from perfmodel import routing
from perfmodel.errors import InputError, did_you_mean, said, shown
from perfmodel.expression import expression
from perfmodel.operation import checked_value
from perfmodel.symbols import ALIASES, SYMBOLS
from perfmodel.units import ITEM_BYTES, SIZES_ACCEPTED, item_from_text, size_from_text
from perfmodel.vocabulary import Kind
from perfmodel.workload import DTYPE_ROLES, ROLES


def word(
    line: Mapping[str, Any], key: str, choices: tuple[str, ...], default: str | None, where: str, listed: str = ""
) -> str:
    """Returns a word of the line, or its default; ``None`` makes it required."""
    accepted = listed or f"one of {', '.join(choices)} is accepted"
    if key not in line and default is None:
        raise InputError(where, f"'{key}' is missing", accepted, f'Add "{key}".')
    value = line.get(key, default)
    value = said(value) if isinstance(value, bool) else value
    if not isinstance(value, str) or value not in choices:
        raise InputError(
            f"{where}: {key}", f"{said(value)} is not known", accepted,
            did_you_mean(value, choices) if isinstance(value, str) else "",
        )  # fmt: skip
    return value


def items_of(line: Mapping[str, Any], found: Kind, name: str, where: str) -> tuple[str, dict[str, int | float]]:
    """Returns the data type of the operation, and the bytes per element by role."""
    dtype = word(line, "dtype", tuple(ITEM_BYTES), "fp16", where)
    if "dtypes" not in line:
        return dtype, dict.fromkeys(ROLES, ITEM_BYTES[dtype])
    given = line["dtypes"]
    if not isinstance(given, dict):
        raise InputError(
            f"{where}: dtypes", f"{said(given)} is not an object", "an object of data types by role is accepted",
            'Write, for example, {"weight": "int8"}.',
        )  # fmt: skip
    roles = tuple(role for role in DTYPE_ROLES if any(ROLES[s] == role for s in found.sizes if s in ROLES))
    for role in given:
        if role not in roles:
            raise InputError(
                f"{where}: dtypes", f"{shown(role)} is not a role of {name}", f"its roles are {', '.join(roles)}",
                did_you_mean(role, roles) or "Remove it.",
            )  # fmt: skip
    types = {role: word(given, role, tuple(ITEM_BYTES), dtype, f"{where}: dtypes") for role in DTYPE_ROLES}
    return types["activation"], {symbol: ITEM_BYTES[types[role]] for symbol, role in ROLES.items()}


def dims_of(line: Mapping[str, Any], found: Kind, name: str, where: str) -> dict[str, Any]:
    """Returns the checked sizes of the shape, with defaults for those that may be omitted."""
    shape = line.get("shape")
    if not isinstance(shape, dict):
        accepted, action = "an object of sizes is accepted", f"Add {', '.join(found.shape)}."
        if "shape" in line:
            raise InputError(f"{where}: shape", f"{said(shape)} is not an object", accepted, action)
        raise InputError(where, "'shape' is missing", accepted, action)
    dims: dict[str, Any] = {}
    for given, value in shape.items():
        symbol = ALIASES.get(given, given)
        if symbol not in found.sizes:
            raise InputError(
                f"{where}: shape", f"'{given}' is not a size of {name}", f"its sizes are {', '.join(found.shape)}",
                did_you_mean(given, found.shape),
            )  # fmt: skip
        if symbol in dims:
            raise InputError(
                f"{where}: shape", f"{symbol} is given twice", "a size is given once", "Remove one of them."
            )
        if not (value is None and SYMBOLS[symbol].kind == "optional"):
            dims[symbol] = size(symbol, value, f"{where}: {given}")
    for symbol in found.shape:
        if symbol not in dims and symbol in found.ties:
            dims[symbol] = expression(found.ties[symbol], f"{where}: {symbol}")(dims)
        elif symbol not in dims and symbol not in found.optional:
            raise InputError(
                f"{where}: shape", f"'{symbol}' is missing",
                _required(found),
                f"Add {symbol}: {SYMBOLS[symbol].meaning}.",
            )  # fmt: skip
    return dims


def _required(found: Kind) -> str:
    """The sizes that a shape cannot leave out."""
    names = [symbol for symbol in found.shape if symbol not in found.optional and symbol not in found.ties]
    return f"{', '.join(names)} {'is' if len(names) == 1 else 'are'} required"


def size(symbol: str, value: Any, where: str) -> Any:
    """Returns the size of a symbol, given as a number or as text such as 8k."""
    if value is None:
        raise InputError(where, f"{said(value)} is not a whole number", SIZES_ACCEPTED)
    if isinstance(value, str):
        readers = {"item": item_from_text, "routing": routing.from_text}
        value = readers.get(SYMBOLS[symbol].kind, size_from_text)(value, where)
    return checked_value(symbol, value, where)
