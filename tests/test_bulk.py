"""Files of many cases: numbers written at once, and lines grouped by their text."""

from __future__ import annotations

import random

import numpy as np
import pytest

from perfmodel.bulk.decimals import texts
from perfmodel.bulk.lines import kinds

POWERS = 10.0 ** np.arange(-120, 120)
NUMBERS = {
    "times": lambda draw: 10.0 ** draw.uniform(-12, 4, 20_000),
    "all sizes": lambda draw: 10.0 ** draw.uniform(-130, 130, 20_000),
    "few digits": lambda draw: np.round(10.0 ** draw.uniform(-6, 9, 20_000), 3),
    "quotients": lambda draw: draw.integers(0, 10**6, 20_000) / draw.integers(1, 10**6, 20_000),
    "whole": lambda draw: draw.integers(0, 10**17, 20_000).astype(float),
    "digits": lambda draw: np.array([float(f"{10.0 ** draw.uniform(-9, 9):.{draw.integers(17)}e}") for _ in range(9_000)]),
    "powers": lambda draw: np.concatenate([2.0 ** np.arange(-1070, 1020), POWERS, np.nextafter(POWERS, 0), np.nextafter(POWERS, 1)]),
    "ends": lambda draw: np.array([0.0, 5e-324, 1.7976931348623157e308, 1e-4, 9.999e-5, 1e16, 9.5e15, 1e22, 1e23, 123456.0]),
}  # fmt: skip


@pytest.mark.parametrize("name", NUMBERS)
def test_numbers_have_the_text_that_repr_gives_them(name):
    values = NUMBERS[name](np.random.default_rng(14))
    assert texts(values) == [*map(repr, values.tolist())]


def test_lines_of_a_kind_differ_in_their_numbers_alone():
    draw = random.Random(14)
    lines = [f"a {draw.randint(1, 10**15 - 1)} b{place % 10}x" for place in range(50)]
    lines += ["a 1 b 2x", "a 12 bx", "a 01 b1x", f"a {10**15} b1x", "", "a b1x 1", "ä 1 b1x"] * 3
    found = [*kinds(lines, 4)]
    told = {place: tuple(row) for own in found for place, row in zip(own.places, own.numbers.tolist(), strict=True)}
    assert told == {place: (int(line[2:].split()[0]), int(line[-2])) for place, line in enumerate(lines[:50])}
    marks = {line[-2] == "0" for line in lines[:50]}  # a number 0 is text, because no size is 0
    assert len(found) == len(marks) == 2


def test_a_line_with_a_line_break_inside_is_in_no_kind():
    assert [*kinds(["a 1", "a 2", "a 3\na 4"], 2)] == []
    assert [own.places.tolist() for own in kinds(["a 1", "a 2", "a 3"], 2)] == [[0, 1, 2]]
