"""Functions that use what the model uses of Python. ``test_explorer`` compares them with their translation."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from functools import cache, cached_property, partial
from itertools import groupby, islice, zip_longest
from math import ceil, floor
from typing import NamedTuple


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


class Point(NamedTuple):
    x: float
    y: float = 2
    name: str = ""

    @property
    def area(self) -> float:
        return self.x * self.y

    @classmethod
    def square(cls, side: float) -> Point:
        return cls(side, side)

    def moved(self, by: float = 1, *, twice: bool = False) -> Point:
        return self._replace(x=self.x + by * (1 + twice))


class Counter:
    made = 3

    def __init__(self, start: int, **more: int) -> None:
        self.start, self.more = start, dict(more)
        self.calls = 0

    def __call__(self, value: int) -> int:
        return self.start + value

    @cached_property
    def once(self) -> int:
        self.calls += 1
        return self.start * 2

    def step(self) -> int:
        self.start += 1
        return self.start


class Later(Counter):
    def __init__(self, *given: int, **more: int) -> None:
        super().__init__(*given, **more)
        self.late = True


def plain(value):
    """A value as JSON knows it."""
    if isinstance(value, dict):
        return [[plain(key), plain(one)] for key, one in value.items()]
    if isinstance(value, (tuple, list)):
        return [plain(one) for one in value]
    return sorted(value) if isinstance(value, (set, frozenset)) else value


def try_integers():
    pairs = [(7, 2), (-7, 2), (7, -2), (-7, -2), (6, 3), (2**52 + 1, 3), (1, 10**12)]
    return [(a // b, a % b, divmod(a, b), -(-a // b)) for a, b in pairs]


def try_rounding():
    return [round(one) for one in (0.5, 1.5, 2.5, -0.5, -1.5, 2.4, 2.6)] + [
        ceil(-1.5),
        floor(-1.5),
        int(-1.9),
        int("12"),
    ]


def try_bits():
    return [one.bit_length() for one in (0, 1, 2, 255, 256, 2**40, 2**52 - 1)] + [
        1 << 20,
        1000 >> 3,
        True + True,
        5 & 3,
    ]


def try_formats():
    numbers = (0.5, 1234567.891, 1e-7, 123456789012, 0.1 + 0.2, 2.5, 76.8125, 1e21)
    return [f"{one:,}|{one:.3f}|{one:.2e}|{one:g}|{one:.3g}|{one:,.0f}|{one:.1%}" for one in numbers if one < 1e15] + [
        f"{'a':>4}|{'b':<3}|{12:5}|{True}|{None}|{'x'!r}|{1000000:,}|{-1234:,}"
    ]


def try_tuples():
    first, *others = (1, 2, 3)
    a, (b, c) = 1, (2, 3)
    joined = (first, *others) + (4,) * 2
    return (
        joined,
        joined[-1],
        joined[1:3],
        joined[::-1],
        (a, b, c),
        joined.index(3),
        joined.count(4),
        (1, 2) == (1, 2),
        (1, (2,)) in {(1, (2,))},
    )


def try_mappings():
    sums: dict[tuple[str, bool], int] = {}
    for name, flag, value in (("a", True, 1), ("b", False, 2), ("a", True, 3)):
        sums[name, flag] = sums.get((name, flag), 0) + value
    merged = {**{"x": 1, "y": 2}, "x": 3} | {"z": 4}
    known = merged.setdefault("w", 5)
    removed = merged.pop("y")
    return sums, merged, known, removed, "x" in merged, list(merged), sorted(merged)


def try_sets():
    first, second = {1, 2, 3}, frozenset((3, 4))
    return first & second, first | second, first - second, first.issuperset({1}), dict.fromkeys("abca"), len(first)


def try_named_tuples():
    point = Point(3)
    x, y, _ = point
    return (
        point,
        x + y,
        point.area,
        point.moved(twice=True),
        Point.square(4).area,
        Point._fields,
        point == Point(3),
        point[0],
        Point(**{"x": 1}),
        len(point),
    )


def try_classes():
    counter, later = Counter(2, left=1), Later(5, right=2)
    counts = [
        counter(3),
        later(1),
        counter.once,
        counter.once,
        counter.calls,
        later.made,
        later.late,
        later.more,
        isinstance(later, Counter),
    ]
    return counts, list(map(counter, (1, 2))), [later.step() for _ in range(2)], list(map(Point.square, (1, 2)))


def try_arguments():
    def inner(a: int, b: int = 2, *rest: int, last: int = 4, **more: int) -> tuple[object, ...]:
        return a, b, rest, last, more

    partially = partial(_keyword, 1, third=3)
    return (
        inner(1),
        inner(1, 5, 6, 7, last=8, other=9),
        inner(*(1, 2, 3), **{"last": 5}),
        partially(2),
        _keyword(third=1, first=2, second=3),
    )


def _keyword(first: int, second: int, *, third: int = 0) -> tuple[int, int, int]:
    return first, second, third


def _numbers(most: int) -> Iterator[int]:
    number = 0
    while True:
        if number >= most:
            return
        yield number
        number += 1


def try_generators():
    rest = iter(_numbers(10))
    first = list(islice(rest, 3))
    groups = [(key, list(own)) for key, own in groupby(["aa", "ab", "b"], key=lambda word: word[0])]
    return (
        first,
        next(rest),
        sum(one for one in rest if one % 2),
        next((one for one in (1, 2) if one > 5), None),
        groups,
        list(zip_longest((1, 2), (3,))),
    )


def try_conditions():
    empty: list[int] = []
    number, nothing = 1, None
    return (
        empty or "nothing", [1] and "yes", not empty, number < 2 <= number + 1 < 3, nothing is None, any(one > 2 for one in (1, 3)),
        all(one > 2 for one in (1, 3)), max((3, 1), key=lambda one: -one), min([], default=7), sorted([(2, "b"), (1, "c"), (2, "a")], reverse=True),
    )  # fmt: skip


def try_loops():
    found = []
    for number in range(2, 20):
        for divisor in range(2, number):
            if number % divisor == 0:
                break
        else:
            found.append(number)
        if number > 12:
            continue
        found += [-number] if number == 12 else []
    closures = [lambda one, own=own: one + own for own in (1, 2)]
    return found, [one(10) for one in closures], [x for x in range(3) for _ in range(x)], {x: -x for x in range(2)}


def try_errors():
    found = []
    for value in ("x", 0, 4):
        try:
            found.append(_checked(value))
        except (KeyError, ValueError) as error:
            found.append(str(error))
        finally:
            found.append("done")
    return found


def _checked(value: object) -> object:
    if value == "x":
        raise ValueError("no number")
    return value


@cache
def _remembered(point: Point, more: tuple[int, ...]) -> list[int]:
    return [1]


def try_memory():
    first = _remembered(Point(1), (2,))
    return first is _remembered(Point(1.0), (2,)), first is _remembered(Point(1), (3,))


def try_text():
    words = "layers.attention.q"
    return (
        words.split("."), words.partition("."), words.rpartition("."), words.removesuffix(".q"), words.upper(), ", ".join(("a", "b")),
        words.startswith(("x", "layers")), ["a", "b", "c"], words.replace(".", "/"), Colour.RED, Colour("blue").value, list(Colour), "q" in words,
    )  # fmt: skip


def try_patterns():
    def described(value: object) -> str:
        match value:
            case Point(x=1, name=name):
                return f"one {name}"
            case Point(x=x) if x > 2:
                return f"large {x}"
            case [first, second]:
                return f"two {first} {second}"
            case "word" | "other":
                return "a word"
            case _:
                return "nothing"

    return [described(one) for one in (Point(1, name="n"), Point(3), Point(2), [1, 2], "other", 5)]
