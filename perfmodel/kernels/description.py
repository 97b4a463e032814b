"""A custom kernel as data: its operation, and its sizes as expressions of its arguments."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from perfmodel import ops
from perfmodel.aten.calls import FLOATS, Launched
from perfmodel.errors import InputError, did_you_mean, shown
from perfmodel.expression import expression
from perfmodel.kernels.reading import Reading, dtype_name, is_tensor
from perfmodel.op import Count, Engine, Mix, Op, Primitive, Tensor, Work
from perfmodel.operation import Operation
from perfmodel.symbols import ALIASES, SYMBOLS
from perfmodel.units import ITEM_BYTES, checked_dtype
from perfmodel.vocabulary import kind
from perfmodel.workload import ROLES

OPERATION = Mix(Primitive("operation"))
COUNTS = ("flops", "reads", "writes")
IN_PLACE = "none"  # of ``returns``
_RESULT = re.compile(r"(?:\((?P<shape>[^()]+(?:\([^()]*\)[^()]*)*)\)\s*)?like\s+(?P<like>\w+)")
_COUNTED = re.compile(r"(\w+)\.dtype")


class Result(NamedTuple):
    """A result: an argument itself, or a new tensor with the data type of an argument, of its shape or another."""

    argument: str
    new: bool = False
    shape: tuple[Reading, ...] | None = None


class Kernel(NamedTuple):
    """A custom kernel. ``op`` is an operation of ``perfmodel ops``; where it is empty, ``counts`` has formulas of one's
    own for FLOPs and for bytes that are read and written, and ``engine`` executes the FLOPs.

    ``names`` are the names of its GPU kernels in a trace. ``dtype`` is a data type, or ``x.dtype`` of an argument, or
    empty for that of the first floating-point tensor. ``results`` is None for a new tensor like the first one.
    """

    name: str
    names: tuple[str, ...]
    parameters: tuple[str, ...]
    defaults: Mapping[str, Any]
    op: str
    sizes: Mapping[str, Reading]
    counts: Mapping[str, Reading]
    engine: Engine
    dtype: str
    impl: str
    results: tuple[Result, ...] | None

    @property
    def where(self) -> str:
        return f"kernel {self.name}"

    def bound(self, args: tuple[Any, ...], keywords: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the arguments of a call by name."""
        named = {name: value for name, value in keywords.items() if name in self.parameters}
        return {**self.defaults, **dict(zip(self.parameters, args, strict=False)), **named}

    def read(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the sizes of a call, in the order in which they were given; one may use those before it."""
        found: dict[str, Any] = {}
        for name, reading in (*self.sizes.items(), *self.counts.items()):
            found[name] = reading({**arguments, **found})
        return found

    def dtype_of(self, tensors: Mapping[str, Any]) -> str:
        """Returns the data type of a call."""
        named = _COUNTED.fullmatch(self.dtype)
        if self.dtype and not named:
            return self.dtype
        chosen = [tensors[named[1]]] if named and named[1] in tensors else [*tensors.values()]
        types = [dtype_name(tensor, f"{self.where}: dtype") for tensor in chosen]
        found = next((one for one in types if one in FLOATS), types[0] if types else "fp32")
        return found.removesuffix("_e5m2")

    def launched(self, sizes: Mapping[str, Any], tensors: Mapping[str, Any]) -> Launched:
        """Returns the operation of a call, with its counts."""
        dtype = self.dtype_of(tensors)
        shape = {name: size for name, size in sizes.items() if name not in COUNTS}
        if not self.op:
            return Launched(self.name, shape, self._counted(sizes), dtype)
        operation = ops.find(self.op)
        complete = _complete(operation, {**_items(operation, dtype), **shape}, self.where)
        plain = all(isinstance(size, (int, float)) or size is None for size in complete.values())
        op = operation(**complete) if plain else operation.function(**{**operation.defaults, **complete})
        return Launched(self.op, shape, op, dtype, self.impl)

    def case(self, sizes: Mapping[str, Any], tensors: Mapping[str, Any]) -> dict[str, Any]:
        """Returns a call of an operation as the line of a case file."""
        kinds = {name: SYMBOLS[name].kind for name in sizes}
        line: dict[str, Any] = {
            "op": self.op,
            "shape": {name: size for name, size in sizes.items() if kinds[name] != "flag"},
            "dtype": self.dtype_of(tensors),
        }
        flags = {name: True for name, size in sizes.items() if kinds[name] == "flag" and size}
        return {**line, **flags, **({"impl": self.impl} if self.impl else {})}

    def _counted(self, sizes: Mapping[str, Any]) -> Op:
        """The formulas as an operation: bytes as elements of one byte."""
        for name in COUNTS:
            if isinstance(sizes[name], int) and sizes[name] < 0:
                raise InputError(
                    f"{self.where}: {name}", f"{self.counts[name].text} is {sizes[name]}", "0 or more is accepted"
                )
        work = Count(OPERATION, (sizes["flops"],), contraction=self.engine is Engine.TENSOR)
        return Op(
            (Tensor("reads", (sizes["reads"],), 1, reads=1), Tensor("writes", (sizes["writes"],), 1, writes=1)),
            (Work(self.name, work, self.engine),),
        )

    def result(self, arguments: Mapping[str, Any], sizes: Mapping[str, Any]) -> Any:
        """Returns what a call returns when nothing runs: new tensors without contents, or arguments."""
        results = self.results
        if results is None:
            first = next((name for name, value in arguments.items() if is_tensor(value)), None)
            results = (Result(first, new=True),) if first else ()
        made = tuple(self._made(result, {**arguments, **sizes}) for result in results)
        return made[0] if len(made) == 1 else made or None

    def _made(self, result: Result, values: Mapping[str, Any]) -> Any:
        like = values.get(result.argument)
        if not result.new:
            return like
        if like is None or not hasattr(like, "new_empty"):
            raise InputError(
                f"{self.where}: returns",
                f"{result.argument} is {shown(like)}",
                "a tensor is accepted",
                "Name a tensor.",
            )
        return like.new_empty(like.shape if result.shape is None else tuple(size(values) for size in result.shape))


def _items(operation: Operation, dtype: str) -> dict[str, int | float]:
    """The bytes per element of every role; tensors without a default, such as a mask, are absent."""
    return {name: ITEM_BYTES[dtype] for name in ROLES if operation.defaults.get(name)}


def _complete(operation: Operation, sizes: dict[str, Any], where: str) -> dict[str, Any]:
    """The sizes with those that follow from others, such as H_kv = H."""
    for name, text in kind(operation.name).ties.items():
        if name not in sizes:
            sizes[name] = expression(text, where)(sizes)
    return sizes


# --- what the decorator is given


def sizes_of(op: str, given: Mapping[str, Any], where: str) -> dict[str, Reading]:
    """Returns the sizes of an operation as expressions; refuses unknown and missing ones."""
    operation, known = ops.find(op, where), kind(op)
    found: dict[str, Reading] = {}
    for name, text in given.items():
        symbol = ALIASES.get(name, name)
        if symbol not in operation.arguments:
            raise InputError(
                where, f"{shown(name)} is not a size of {op}", f"its sizes are {', '.join(operation.arguments)}",
                did_you_mean(name, operation.arguments) or "Remove it.",
            )  # fmt: skip
        found[symbol] = Reading(text, f"{where}: {name}")
    missing = [name for name in known.shape if name not in found and name not in (*known.optional, *known.ties)]
    if missing:
        raise InputError(
            where, f"'{missing[0]}' is missing", f"{op} needs {', '.join(operation.required)}",
            f'Add {missing[0]}="x.shape[0]" or the like: {SYMBOLS[missing[0]].meaning}.',
        )  # fmt: skip
    return found


def results_of(text: str | None, where: str) -> tuple[Result, ...] | None:
    """Reads ``returns``: ``none``, an argument, ``like x``, ``(m, n) like x``, or several separated by semicolons."""
    if text is None:
        return None
    return () if text == IN_PLACE else tuple(_result(part.strip(), where) for part in text.split(";"))


def _result(text: str, where: str) -> Result:
    if text.isidentifier():
        return Result(text)
    match = _RESULT.fullmatch(text)
    if not match:
        raise InputError(
            where, f"{shown(text)} is not a result",
            "none, an argument, 'like x', '(m, n) like x', or several separated by ';' are accepted", "Correct it.",
        )  # fmt: skip
    sizes = tuple(Reading(part.strip(), where) for part in _split(match["shape"])) if match["shape"] else None
    return Result(match["like"], new=True, shape=sizes)


def _split(text: str) -> list[str]:
    """Splits at commas outside parentheses and brackets."""
    parts, depth = [""], 0
    for letter in text:
        depth += (letter in "([") - (letter in ")]")
        if letter == "," and not depth:
            parts.append("")
        else:
            parts[-1] += letter
    return [part for part in parts if part.strip()]


def dtype_of(text: str | None, parameters: tuple[str, ...], where: str) -> str:
    """Checks ``dtype``: a data type, or ``x.dtype`` of an argument."""
    named = _COUNTED.fullmatch(text or "")
    if named and named[1] in parameters:
        return str(text)
    if named:
        raise InputError(
            where, f"{shown(named[1])} is not an argument", f"{', '.join(parameters)} are accepted",
            did_you_mean(named[1], parameters),
        )  # fmt: skip
    return checked_dtype(text) if text else ""
