"""Stated guesses: values that a program asks for and that depend on data.

The caller can answer instead: a mapping from the place (``modeling_x.py:123``) or the kind of question to the value, or a
function of kind, place and the guess. Kinds are ``bool``, ``int``, ``float``, ``rows`` (how many elements a mask selects,
or below 1 their share) and ``list``.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from perfmodel.errors import InputError

_OWN = (os.path.dirname(torch.__file__) + os.sep, os.path.dirname(__file__) + os.sep, "<")
_MANY = 250  # the same question: probably a loop that waits for the other answer


class Guesses:
    """Answers requests for values, and records the answers."""

    def __init__(self, answers: Any = None) -> None:
        self._answers = answers
        self._asked: dict[tuple[str, str], int] = {}
        self._told: int | None = None
        self.stated: dict[str, None] = {}

    def answer(self, kind: str, question: str, guess: Any) -> Any:
        """The caller's answer for this place or kind, else the guess. Both are stated."""
        if self._told is not None:
            return self._told
        place = source()
        times = self._asked[kind, place] = self._asked.get((kind, place), 0) + 1
        if kind == "bool" and times > _MANY:
            if times > 2 * _MANY:
                raise InputError(
                    place, f"bool(tensor) was asked for {times} times in a capture", "a loop whose end data decides needs an answer that changes",
                    "Pass guess=, a function of kind, place and guess.",
                )  # fmt: skip
            guess = not guess
        value = self._of_caller(kind, place, guess)
        self.stated[f"{place}: {question} taken as {value}"] = None
        return value

    @contextmanager
    def told(self, value: int | None) -> Iterator[None]:
        """The answer follows from the program itself, unless it is None."""
        self._told = value
        try:
            yield
        finally:
            self._told = None

    def _of_caller(self, kind: str, place: str, guess: Any) -> Any:
        if self._answers is None:
            return guess
        if callable(self._answers):
            return self._answers(kind, place, guess)
        return self._answers.get(place, self._answers.get(kind, guess))


def source() -> str:
    """File name and line of the innermost code that is neither torch's nor this package's."""
    frame = sys._getframe(1)
    while frame is not None and frame.f_back is not None:
        if not frame.f_code.co_filename.startswith(_OWN):
            break
        frame = frame.f_back
    return f"{os.path.basename(frame.f_code.co_filename)}:{frame.f_lineno}"
