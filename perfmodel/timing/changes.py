"""Temporary changes of a parameter, in the modules that keep it or in the file that states it."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

from perfmodel import figures
from perfmodel.timing import parameters
from perfmodel.timing.registry import Parameter
from perfmodel.timing.weights import GIVEN

# Where a module keeps a value: the dictionary, its key, and the path inside of the value there.
Place = tuple[dict[Any, Any], Any, tuple[Any, ...]]
# Packages whose modules may keep parameters, or times that follow from them.
SCOPE = tuple(f"perfmodel.{name}." for name in ("timing", "programs", "traces"))
# Modules that cache the contents of files. Their caches are cleared when a figure of a file changes.
READERS = ("families", "links", "hosts", "measured", "registry")


@contextmanager
def changed(parameter: Parameter, value: float) -> Iterator[None]:
    """Gives a parameter another value until the block ends, and forgets what was computed with either."""
    if parameter.kind in ("fact", "weight"):
        name = os.path.basename(parameter.file).removesuffix(".yaml")
        undo = _put_everywhere(name, parameter.name, value)
        forget(False)
        try:
            yield
        finally:
            for holder, key, old in reversed(undo):
                holder[key] = old
            forget(False)
        return
    place = parameter.file, parameter.name
    figures.CHANGED[place] = value
    forget(True)
    try:
        yield
    finally:
        del figures.CHANGED[place]
        forget(True)


def forget(files: bool = True) -> None:
    """Clears cached times, and with ``files`` cached contents of files."""
    for reads, found in _remembering(len(sys.modules)):
        if files or not reads:
            found.cache_clear()
    parameters._CARDS.clear()


@lru_cache(maxsize=1)
def _remembering(modules: int) -> list[tuple[bool, Any]]:
    """Returns the functions with a cache, and whether it holds contents of files. ``modules`` renews the answer."""
    return [
        (module.__name__.rpartition(".")[2] in READERS, found)
        for module in _modules(modules)
        for found in vars(module).values()
        if hasattr(found, "cache_clear") and getattr(found, "__module__", "") == module.__name__
        if module.__name__ != __name__
    ]


@lru_cache(maxsize=1)
def _modules(loaded: int) -> list[Any]:
    """Returns the modules that may keep parameters. ``loaded`` is the number of all modules, and renews the answer."""
    return [
        module
        for name, module in list(sys.modules.items())
        if name.startswith(SCOPE) or name == "perfmodel.measured"
    ]  # fmt: skip


def _put_everywhere(file: str, name: str, value: float) -> list[tuple[dict[Any, Any], Any, Any]]:
    """Sets the value wherever modules keep the one of the file. Returns a function that restores it."""
    given, modules = sum(map(len, GIVEN.values())), len(_modules(len(sys.modules)))
    places = _places(given, modules).get((file, name), [])
    if not places:  # a module was loaded while the parameter had another value
        _places.cache_clear()
        places = _places(given, modules).get((file, name), [])
    old = GIVEN.get(file, {}).get(name)
    new = round(value) if isinstance(old, int) else value
    undo = []
    for place in places:
        holder, key, path = place
        while path and isinstance(holder[key], dict):
            holder, key, path = holder[key], path[0], path[1:]
        undo.append((holder, key, holder[key]))
        holder[key] = _with(holder[key], path, new)
    return undo


def _with(old: Any, path: tuple[Any, ...], new: float) -> Any:
    """Returns the tuple with the value at the path replaced."""
    if not path:
        return new
    items = [_with(one, path[1:], new) if at == path[0] else one for at, one in enumerate(old)]
    return type(old)(*items) if hasattr(old, "_fields") else tuple(items)


@lru_cache(maxsize=1)
def _places(given: int, modules: int) -> dict[tuple[str, str], list[Place]]:
    """Returns the places where modules keep the values that they were given, by file and name.

    A fraction is found by its identity, because each is an object of its own. A whole number is found by the name of its
    variable. ``given`` and ``modules`` renew the answer when either number changes.
    """
    wanted = {id(one): (file, name) for file, own in GIVEN.items() for name, one in own.items() if type(one) is float}
    whole: dict[str, list[tuple[str, str]]] = {}
    for file, own in GIVEN.items():
        for name, one in own.items():
            if type(one) is int:
                whole.setdefault(name.upper().replace(" ", "_"), []).append((file, name))
    found: dict[tuple[str, str], list[Place]] = {}
    for module in _modules(len(sys.modules)):
        own_name = module.__name__.rpartition(".")[2]
        for variable, one in list(vars(module).items()):
            if not variable.isupper():
                continue
            if type(one) is int:
                for file, name in whole.get(variable, ()):
                    others = (other for other, _ in whole[variable] if other == own_name)
                    if GIVEN[file][name] == one and next(others, file) == file:
                        found.setdefault((file, name), []).append((vars(module), variable, ()))
            for path, leaf in _leaves(one):
                if id(leaf) in wanted:
                    found.setdefault(wanted[id(leaf)], []).append((vars(module), variable, path))
    return found


def _leaves(one: Any) -> Iterator[tuple[tuple[Any, ...], float]]:
    """The fractions in a value, with their paths through dictionaries and tuples."""
    if type(one) is float:
        yield (), one
    elif isinstance(one, dict | tuple):
        for key, inner in one.items() if isinstance(one, dict) else enumerate(one):
            for path, leaf in _leaves(inner):
                yield (key, *path), leaf
