"""Captures of code in its compiled form: functions that report whether code is being compiled return true."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch

from perfmodel.capture.session import captured
from perfmodel.programs.program import Program

_asked = [False]


def _noting(function: Callable[[], bool]) -> Callable[[], bool]:
    """The function itself, with a note that somebody has called it."""

    def noted() -> bool:
        _asked[0] = True
        return function()

    return noted


@contextmanager
def noticed() -> Iterator[list[bool]]:
    """Whether anything asks for a compilation while the context is open."""
    original = torch.compiler.is_compiling
    _asked[0] = False
    torch.compiler.is_compiling = _noting(original)
    try:
        yield _asked
    finally:
        torch.compiler.is_compiling = original


@contextmanager
def as_compiled() -> Iterator[Any]:
    """While the block runs, torch reports that code is being compiled."""
    original = torch.compiler.is_compiling
    torch.compiler.is_compiling = lambda: True
    try:
        yield
    finally:
        torch.compiler.is_compiling = original


def captured_twice(
    target: Callable[..., Any], args: Any, kwargs: Mapping[str, Any], name: str | None, guess: Any
) -> tuple[Program, Any]:
    """Returns the program of one call, with its compiled form if that may differ, and the result of the call."""
    with noticed() as asked:
        found, result = captured(target, args, kwargs, name, guess)
    if not asked[0]:
        return found, result
    try:
        with as_compiled():
            return found._replace(traced=captured(target, args, kwargs, name, guess)[0]), result
    except Exception as error:  # of code that is not ours, so of any type
        note = (
            f"Some code runs only under torch.compile and cannot be captured ({type(error).__name__}). "
            "With run compiled, the calls of the eager code are priced."
        )
        return found._replace(notes=(*found.notes, note)), result
