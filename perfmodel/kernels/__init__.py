"""Custom kernels: a decorator that states the operation and the sizes of a user's Triton or CUDA function.

    @perfmodel.kernel(op="softmax", rows="x.shape[0]", cols="x.shape[1]")
    def softmax(x): ...

The function behaves as before. ``softmax.perfmodel`` describes it, ``find`` looks it up by the name of its GPU kernel.
While ``listener`` is set, as in a capture, every call goes to it.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from functools import update_wrapper
from typing import Any, TypeVar, cast

from perfmodel.errors import InputError, UsageError, did_you_mean, shown
from perfmodel.kernels.description import COUNTS, IN_PLACE, Kernel, dtype_of, results_of, sizes_of
from perfmodel.kernels.reading import Reading, is_tensor
from perfmodel.op import Engine
from perfmodel.vocabulary import ELEMENTWISE, ELEMENTWISE_KINDS, implementations

Function = TypeVar("Function", bound=Callable[..., Any])
# Is called with the description, the sizes and the tensors of every call, by name, and returns whether the function runs.
# If not, the call returns new tensors without contents (see ``returns``).
Listener = Callable[[Kernel, Mapping[str, Any], Mapping[str, Any]], bool]

listener: Listener | None = None
registered: dict[str, Kernel] = {}

_TEMPLATE = re.compile(r"[<(].*", re.DOTALL)
_TRITON = re.compile(r"_\d+d[0-9a-z]*$")  # the suffix of a specialised kernel in Triton 2


def kernel(
    *,
    op: str | None = None,
    kind: str | None = None,
    flops: str | int | None = None,
    reads: str | int | None = None,
    writes: str | int | None = None,
    engine: str | None = None,
    dtype: str | None = None,
    impl: str = "",
    name: str | tuple[str, ...] = (),
    returns: str | None = None,
    **sizes: str | int,
) -> Callable[[Function], Function]:
    """Decorator: gives a function the counts of an operation, or counts of its own.

    ``op`` is an operation of ``perfmodel ops`` (or ``elementwise`` with ``kind``), and ``sizes`` are its sizes as
    expressions of the arguments: ``rows="x.shape[0]"``. Without ``op``, ``flops``, ``reads`` and ``writes`` are formulas
    of the FLOPs and bytes, and ``engine`` (``tensor``, ``vector`` or ``special``, by default ``vector``) executes the
    FLOPs.

    ``name`` are the names of its GPU kernels in a trace, by default that of the function. ``returns`` describes the
    results for a capture, where nothing runs: ``like x`` (default: like the first tensor), ``(m, n) like x``, ``x`` (the
    argument itself), ``none``, or several separated by semicolons.
    """

    def decorate(function: Function) -> Function:
        names = ((name,) if isinstance(name, str) else tuple(name)) or (_plain(function).__name__,)
        where = f"kernel {names[0]}"
        parameters, defaults = _parameters(function, where)
        operation = _operation(op, kind, {"flops": flops, "reads": reads, "writes": writes}, where)
        formulas = {"flops": flops or 0, "reads": reads, "writes": writes} if not operation else {}
        own = {size: Reading(text, f"{where}: {size}") for size, text in sizes.items()}
        direct = inspect.isroutine(function) or not hasattr(function, "__getitem__")
        described = Kernel(
            name=names[0],
            names=names,
            parameters=parameters,
            defaults=defaults,
            op=operation,
            sizes=sizes_of(operation, sizes, where) if operation else own,
            counts={count: Reading(text or 0, f"{where}: {count}") for count, text in formulas.items()},
            engine=_engine(operation, engine, where),
            dtype=dtype_of(dtype, parameters, f"{where}: dtype"),
            impl=_implementation(operation, impl, where),
            results=results_of(returns if returns or direct else IN_PLACE, f"{where}: returns"),
        )
        _check_names(described)
        registered.update(dict.fromkeys(names, described))
        return cast(Function, _wrapped(function, described, direct))

    return decorate


def find(name: str) -> Kernel | None:
    """Returns the kernel whose GPU kernel has this name in a trace; None if there is none.

    Return types, namespaces, template arguments and the suffixes of Triton are ignored.
    """
    if name in registered:
        return registered[name]
    plain = _TEMPLATE.sub("", name.replace("(anonymous namespace)::", ""))
    base = plain.split("::")[-1].split(" ")[-1]
    return registered.get(base) or registered.get(_TRITON.sub("", base))


def _wrapped(function: Any, described: Kernel, direct: bool) -> Any:
    """The function with its description; its calls go to the listener while there is one."""
    if not direct:
        return Launcher(function, described)

    def call(*args: Any, **keywords: Any) -> Any:
        if listener is None:
            return function(*args, **keywords)
        return _heard(described, function, args, keywords)

    update_wrapper(call, function)
    call.perfmodel = described  # type: ignore[attr-defined]
    return call


class Launcher:
    """A function that is launched as ``function[grid](...)``, such as one of Triton, with its description."""

    def __init__(self, function: Any, described: Kernel) -> None:
        self._function = function
        self.perfmodel = described

    def __getattr__(self, name: str) -> Any:
        return getattr(self._function, name)

    def __call__(self, *args: Any, **keywords: Any) -> Any:
        if listener is None:
            return self._function(*args, **keywords)
        return _heard(self.perfmodel, self._function, args, keywords)

    def __getitem__(self, grid: Any) -> Any:
        if listener is None:
            return self._function[grid]
        return lambda *args, **keywords: _heard(self.perfmodel, self._function[grid], args, keywords)


def _heard(described: Kernel, run: Callable[..., Any], args: tuple[Any, ...], keywords: Mapping[str, Any]) -> Any:
    """Passes a call to the listener, and runs the function if the listener says so."""
    arguments = described.bound(args, keywords)
    tensors = {name: value for name, value in arguments.items() if is_tensor(value)}
    sizes = described.read(arguments)
    if listener is None or listener(described, sizes, tensors):
        return run(*args, **keywords)
    return described.result(arguments, sizes)


# --- what the decorator is given


def _parameters(function: Any, where: str) -> tuple[tuple[str, ...], dict[str, Any]]:
    """The names of the parameters, and the values of those that have a default."""
    try:
        known = inspect.signature(_plain(function)).parameters
    except (TypeError, ValueError):
        raise InputError(
            where, "the parameters of the function cannot be read", "a function of Python or Triton is accepted",
            "Decorate a Python function that calls it.",
        ) from None  # fmt: skip
    varying = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    names = tuple(name for name, one in known.items() if one.kind not in varying)
    return names, {name: known[name].default for name in names if known[name].default is not inspect.Parameter.empty}


def _plain(function: Any) -> Any:
    """The Python function inside the objects that Triton wraps around it."""
    while not inspect.isroutine(function) and hasattr(function, "fn"):
        function = function.fn
    return function


def _operation(op: str | None, kind: str | None, counts: Mapping[str, Any], where: str) -> str:
    """The operation; empty for formulas of one's own."""
    given = [name for name in COUNTS if counts[name] is not None]
    if (op is None) == (not given):
        found = f"op and {given[0]} are given" if given else "neither op nor flops, reads and writes are given"
        raise UsageError(where, found, "an operation or formulas of one's own are accepted", "Give one of the two.")
    if op is None:
        for name in ("reads", "writes"):
            if counts[name] is None:
                raise UsageError(where, f"{name} is missing", "formulas of the bytes are required", f"Add {name}.")
        return ""
    if (op == ELEMENTWISE) != (kind is not None) or (kind is not None and kind not in ELEMENTWISE_KINDS):
        raise InputError(
            f"{where}: kind", f"{shown(kind)} is given with {op}", "elementwise takes a function, such as gelu",
            did_you_mean(str(kind), ELEMENTWISE_KINDS) or "Name the operation.",
        )  # fmt: skip
    return kind or op


def _engine(operation: str, name: str | None, where: str) -> Engine:
    if name is not None and operation:
        raise UsageError(where, "op and engine are given", "engine belongs to formulas of one's own", "Remove engine.")
    if name not in (None, *Engine):
        raise InputError(f"{where}: engine", f"{shown(name)} is not known", f"one of {', '.join(Engine)} is accepted")
    return Engine(name or Engine.VECTOR)


def _implementation(operation: str, impl: str, where: str) -> str:
    known = implementations(operation) if operation and impl else ()
    if impl and impl not in known:
        raise InputError(
            f"{where}: impl", f"{shown(impl)} is not an implementation of {operation or 'a formula'}",
            f"{', '.join(known) or 'none'} is accepted", did_you_mean(impl, known) or "Remove it.",
        )  # fmt: skip
    return impl


def _check_names(described: Kernel) -> None:
    """Refuses names that are neither a parameter nor a size that was given before."""
    known = list(described.parameters)
    for size, reading in (*described.sizes.items(), *described.counts.items()):
        _known(reading.names, known, f"{described.where}: {size}")
        known.append(size)
    for result in described.results or ():
        shape = {name for size in result.shape or () for name in size.names}
        _known({result.argument, *shape}, known, f"{described.where}: returns")


def _known(names: frozenset[str] | set[str], known: list[str], where: str) -> None:
    for name in sorted(names - set(known)):
        raise InputError(
            where, f"{shown(name)} is not an argument", f"{', '.join(known)} are accepted",
            did_you_mean(name, known) or "Correct it.",
        )  # fmt: skip
