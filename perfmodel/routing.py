"""The choice of experts by tokens: how many experts a batch uses, how many rows each gets, and which rank is busiest.

A token chooses A of E different experts. Expert i is chosen by a share p_i of the tokens, and the shares add up to A. Tokens
choose independently of each other, so T tokens leave expert i unused with probability (1 - p_i)^T, whichever experts a token
chooses together. Expected numbers of used experts and of tiles are therefore exact sums over the experts.

``routing`` states the shares. A number s is the exponent of a Zipf law: the i-th most popular expert is chosen in proportion to
1 / i^s, and 0 is the same for all. A list has a count for each expert, such as tokens of a trace. A share is at most 1, because
a token chooses an expert once: what is more goes to the others in proportion.
"""

from __future__ import annotations

from functools import lru_cache
from math import erfc, exp, floor, inf, isfinite, lgamma, log, log1p, prod, sqrt
from typing import Any, NamedTuple

from perfmodel.errors import InputError, said, shown

UNIFORM = 0
LARGEST_EXPONENT = 16.0
MOST_EXPERTS = 65536
EXACT = 2**53  # up to which every whole number is a float
ACCEPTED = f"the exponent of a Zipf law from 0 to {LARGEST_EXPONENT:g}, or a count for each expert, such as 40:30:20:10, is accepted"
Routing = int | float | tuple[int | float, ...]
# Standard deviations beyond which a binomial distribution is cut, and the ratio to a tile beyond which its remainder is even.
CUT, SMOOTH = 12.0, 2.0
STEPS = 2000  # of a numerical integral


def checked(value: Any, where: str) -> Routing:
    """A routing: the exponent of a Zipf law, or a count for each expert."""
    if isinstance(value, (list, tuple)):
        numbers = all(type(one) in (int, float) and 0 <= one < inf for one in value)
        if not (numbers and 0 < len(value) <= MOST_EXPERTS and any(value)):
            wrong = "has no expert with tokens" if numbers and value and not any(value) else "is not a list of counts"
            raise InputError(where, f"{shown(text(tuple(value)))} {wrong}", ACCEPTED, "Correct it.")
        return tuple(value)
    if type(value) not in (int, float) or not 0 <= value <= LARGEST_EXPONENT:
        raise InputError(where, f"{said(value)} is not a routing", ACCEPTED, "Correct it.")
    return value  # type: ignore[no-any-return]


def text(value: Any) -> str:
    """A routing as it is written after ``--set``: ``1.2``, or ``40:30:20:10``."""
    return ":".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def from_text(given: str, where: str) -> Routing:
    """Reads an exponent, ``1.2``, or counts of the experts, ``40:30:20:10``."""
    try:
        numbers = [float(part) for part in given.split(":")]
    except ValueError:
        raise InputError(where, f"{shown(given)} is not a routing", ACCEPTED, "Correct it.") from None
    if not all(map(isfinite, numbers)):
        raise InputError(where, f"{shown(given)} is not a routing", ACCEPTED, "Correct it.")
    plain = [int(one) if one == floor(one) and abs(one) < EXACT else one for one in numbers]
    return checked(plain[0] if len(plain) == 1 else plain, where)


@lru_cache(maxsize=1024)
def shares(E: int, A: int, routing: Routing = UNIFORM) -> tuple[float, ...]:
    """The share of the tokens that choose each expert; together A."""
    if isinstance(routing, tuple):
        if len(routing) != E:
            raise InputError(
                "routing",
                f"it has {len(routing)} counts for {E} experts",
                "a count for each expert is accepted",
                "Correct it.",
            )
        weights = [float(one) for one in routing]
    else:
        weights = [(i + 1) ** -float(routing) for i in range(E)]
    if sum(one > 0 for one in weights) < A:
        raise InputError(
            "routing", f"experts with tokens: {sum(one > 0 for one in weights)}, fewer than the {A} that a token chooses",
            "at least as many experts as a token chooses are accepted", "Correct it.",
        )  # fmt: skip
    return tuple(_capped(weights, A))


def _capped(weights: list[float], A: int) -> list[float]:
    """Shares in proportion to the weights, none above 1, together A."""
    found: list[float | None] = [None] * len(weights)
    left, rest = float(A), sum(weights)
    while True:
        full = [i for i, own in enumerate(weights) if found[i] is None and left * own >= rest > 0]
        if not full or left <= 0:
            break
        for i in full:
            found[i] = 1.0
        left, rest = left - len(full), rest - sum(weights[i] for i in full)
    scale = left / rest if rest > 0 else 0.0
    return [own * scale if done is None else done for own, done in zip(weights, found, strict=True)]


def alike(E: int, A: int, routing: Routing) -> tuple[tuple[float, int], ...]:
    """The different shares, each with the number of experts that have it."""
    if type(E) is not int or type(A) is not int:
        raise InputError(
            "routing", "the number of experts E, or A of them for a token, is a symbol or has several values",
            "a routing is accepted with numbers for E and A", "Leave routing out, or set E and A to numbers.",
        )  # fmt: skip
    found: dict[float, int] = {}
    for share in shares(E, A, routing):
        found[share] = found.get(share, 0) + 1
    return tuple(found.items())


def distinct(E: int, A: int, tokens: float, routing: Routing = UNIFORM) -> float:
    """Expected number of experts that at least one of the tokens chooses."""
    return float(sum(number * (1.0 - (1.0 - share) ** tokens) for share, number in alike(E, A, routing)))


def padded_rows(E: int, A: int, tokens: int, tile: int, routing: Routing = UNIFORM) -> float:
    """Expected rows of all experts together, each expert's rounded up to whole tiles."""
    return tile * sum(number * _tiles(tokens, share, tile) for share, number in alike(E, A, routing))


@lru_cache(maxsize=4096)
def _tiles(tokens: int, share: float, tile: int) -> float:
    """Expected number of tiles of a binomial number of rows: the sum over j of the probability of more than j tiles."""
    mean = tokens * share
    if share >= 1.0:
        return float(-(-tokens // tile))
    width = sqrt(mean * (1.0 - share))
    if width > SMOOTH * tile:  # the last tile is filled evenly; NB the error is below exp(-79)
        return mean / tile + (tile - 1) / (2 * tile)
    first = max(0, floor(mean - CUT * width - 1))
    last = min(tokens, floor(mean + CUT * width + 12))
    found, chosen, missed = 0.0, log(share) if share else -inf, log1p(-share)
    for rows in range(first, last + 1):
        found += -(-rows // tile) * _chance(tokens, rows, chosen, missed)
    return found


def _chance(tokens: int, rows: int, chosen: float, missed: float) -> float:
    """The probability that a binomial number is ``rows``, from the logarithms of both outcomes."""
    if not rows:
        return exp(tokens * missed)
    ways = lgamma(tokens + 1) - lgamma(rows + 1) - lgamma(tokens - rows + 1)
    return exp(ways + rows * chosen + (tokens - rows) * missed)


class Rank(NamedTuple):
    """The rank of an expert-parallel group that gets most rows: its experts' shares, and its rows relative to the mean."""

    shares: tuple[float, ...]
    load: float


@lru_cache(maxsize=1024)
def busiest(E: int, A: int, ranks: int, routing: Routing = UNIFORM) -> Rank:
    """The busiest of so many ranks with E / ranks experts each, by expected rows.

    Counts of experts are those of neighbours on a rank, as frameworks place them. A Zipf law says nothing about places: the
    popular experts are dealt to the ranks one by one, as a balanced placement does.
    """
    largest = max(_placed(shares(E, A, routing), ranks, routing), key=sum)
    return Rank(largest, sum(largest) * ranks / A)


def fullest_rank_rows(E: int, A: int, tokens: int, ranks: int, routing: Routing = UNIFORM) -> float:
    """Expected rows of the rank that gets most, chance included: the largest of normal numbers of rows.

    Rows that one rank gets are missing on others, which spreads the ranks as much as it narrows each of them.
    """
    own = shares(E, A, routing)
    groups = _placed(own, ranks, routing)
    wider = sqrt(E / (E - 1)) if E > 1 else 1.0
    rows = [(tokens * sum(p), wider * sqrt(tokens * sum(one * (1.0 - one) for one in p))) for p in groups]
    low, high = (max(mean + way * CUT * width for mean, width in rows) for way in (-1, 1))
    step = (high - low) / STEPS
    middles = (low + (i + 0.5) * step for i in range(STEPS))
    return low + step * sum(1.0 - prod(_below(x, mean, width) for mean, width in rows) for x in middles)


def _placed(own: tuple[float, ...], ranks: int, routing: Routing) -> list[tuple[float, ...]]:
    """The shares of the experts of each rank."""
    each = len(own) // ranks
    if isinstance(routing, tuple):
        return [own[r * each : (r + 1) * each] for r in range(ranks)]
    return [own[r::ranks] for r in range(ranks)]


def _below(x: float, mean: float, width: float) -> float:
    """The probability that a normal number is at most x."""
    if width <= 0:
        return float(x >= mean)
    return 0.5 * erfc((mean - x) / (width * sqrt(2.0)))
