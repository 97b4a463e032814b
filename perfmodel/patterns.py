"""Patterns of communication: the data that the ranks of a collective send, receive and add, and the number of steps.

Counts are exact for any number of ranks. ``byte`` is the tensor that each rank gives to the call. Totals are over all
ranks; the share of one rank is the total divided by the ranks, rounded up where the parts are unequal.
"""

from typing import NamedTuple

from perfmodel.arithmetic import Size, ceil_div, ceil_log2, exact_div, is_zero, minimum
from perfmodel.errors import InputError, did_you_mean, shown

ALL_REDUCE, REDUCE_SCATTER, ALL_GATHER = "all_reduce", "reduce_scatter", "all_gather"
ALL_TO_ALL, BROADCAST, SEND_RECV = "all_to_all", "broadcast", "send_recv"
KINDS = (ALL_REDUCE, REDUCE_SCATTER, ALL_GATHER, ALL_TO_ALL, BROADCAST, SEND_RECV)
RING, TREE, ONE_SHOT, TWO_SHOT, IN_NETWORK, DIRECT = "ring", "tree", "one-shot", "two-shot", "in-network", "direct"

# Algorithms of each collective, the default first.
ALGORITHMS = {
    ALL_REDUCE: (RING, TREE, ONE_SHOT, TWO_SHOT, IN_NETWORK),
    REDUCE_SCATTER: (RING, DIRECT),
    ALL_GATHER: (RING, DIRECT),
    ALL_TO_ALL: (DIRECT,),
    BROADCAST: (RING, TREE, DIRECT),
    SEND_RECV: (DIRECT,),
}


class Messages(NamedTuple):
    """The data that one algorithm moves. ``sent`` and ``added`` are totals over the ranks: bytes, and added elements.

    Every byte that one rank sends, another receives; in the network, the switches receive and send instead. ``steps``
    are messages one after another.
    """

    sent: Size
    added: Size
    steps: Size


def checked(kind: str, algorithm: str = "") -> str:
    """Returns the algorithm, by default that of the most bandwidth; raises InputError for unknown names."""
    if kind not in ALGORITHMS:
        raise InputError(
            f"collective {shown(kind)}", "it is not a collective", f"one of {', '.join(KINDS)} is accepted",
            did_you_mean(kind, KINDS),
        )  # fmt: skip
    known = ALGORITHMS[kind]
    if algorithm and algorithm not in known:
        raise InputError(
            f"{kind}: algorithm {shown(algorithm)}", "it is not known", f"{', '.join(known)} is accepted",
            did_you_mean(algorithm, known),
        )  # fmt: skip
    return algorithm or known[0]


def messages(kind: str, algorithm: str, byte: Size, gpus: Size, item: Size = 1) -> Messages:
    """Returns what an algorithm moves for tensors of ``byte`` bytes in elements of ``item`` bytes."""
    p, n = gpus, byte
    elements = exact_div(8 * n, int(8 * item)) if type(item) is float else exact_div(n, item)
    if kind == ALL_REDUCE:
        return _all_reduce(algorithm, n, elements, p)
    if kind == REDUCE_SCATTER:  # each rank ends with 1/p of the sum; its own part of its tensor stays
        return Messages(n * (p - 1), elements * (p - 1), p - 1 if algorithm == RING else _once(p))
    if kind == ALL_GATHER:  # each rank's tensor reaches all others
        return Messages(n * p * (p - 1), 0 * p, p - 1 if algorithm == RING else _once(p))
    if kind == ALL_TO_ALL:  # each rank keeps 1/p of its tensor
        return Messages(n * (p - 1), 0 * p, _once(p))
    if kind == BROADCAST:
        steps = {RING: p - 1, TREE: ceil_log2(p), DIRECT: _once(p)}[algorithm]
        return Messages(n * (p - 1), 0 * p, steps)
    return Messages(n * p * _once(p), 0 * p, _once(p))  # each rank sends to the next


def _all_reduce(algorithm: str, n: Size, elements: Size, p: Size) -> Messages:
    """Ring and two-shot: reduce-scatter, then all-gather. Tree: up to the root and down again. One-shot: every rank
    sends its tensor to all others, and adds all. In the network: the switches add, and send the sum to all.
    """
    if algorithm == ONE_SHOT:
        return Messages(n * p * (p - 1), elements * p * (p - 1), _once(p))
    if algorithm == IN_NETWORK:
        return Messages(n * p * _once(p), 0 * p, 2 * _once(p))
    steps = {RING: 2 * (p - 1), TREE: 2 * ceil_log2(p), TWO_SHOT: 2 * _once(p)}[algorithm]
    return Messages(2 * n * (p - 1), elements * (p - 1), steps)


def _once(p: Size) -> Size:
    """One step, or none for a single rank. A symbol stands for more than one."""
    return min(1, p - 1) if isinstance(p, int) else 1


def of_rank(total: Size, gpus: Size) -> Size:
    """The share of one rank, rounded up."""
    return total if is_zero(total) else ceil_div(total, gpus)


def busiest(kind: str, algorithm: str, gpus: Size) -> Size:
    """Bytes that the rank with the most messages sends, per byte of its tensor; a ratio that need not be whole.

    In two trees, each for half of the data, a rank is inner in one and a leaf in the other: up once and down three times
    one half, or less. The root of a direct broadcast sends to all others.
    """
    others = gpus - 1
    if algorithm == TREE:
        return 2 if kind == ALL_REDUCE else 1
    if kind == ALL_GATHER or algorithm == ONE_SHOT or (kind == BROADCAST and algorithm == DIRECT):
        return others
    if kind in (BROADCAST, SEND_RECV) or algorithm == IN_NETWORK:
        return 1
    return (2 if kind == ALL_REDUCE else 1) * others / gpus


def least_byte(kind: str, byte: Size, gpus: Size, reduces: bool) -> Size:
    """Returns the bytes that one rank must send or receive, whatever the algorithm; 0 for a single rank.

    An all-reduce moves 2 n (p - 1) / p per rank (Patarasuk and Yuan 2009), or n where the switches add and multicast.
    """
    others = gpus - 1
    if kind == ALL_GATHER:
        return byte * others
    if kind in (BROADCAST, SEND_RECV) or (kind == ALL_REDUCE and reduces):
        return byte * minimum(1, others)
    return byte * others / gpus * (2 if kind == ALL_REDUCE else 1)
