"""The time of a collective: a lower bound from the links' data sheets, and the expected time of the library.

Time = launch + setup + steps x time per hop + bytes / rate + the rank's own part. A library chooses among algorithms
and protocols: few steps with a low rate for small tensors, the full rate after a long setup for large ones. The model
takes the fastest, which is the aim of the library's own tuning. NB near the crossover the library is up to 1.8x slower,
because it switches too early.

Ranks on several nodes: the data crosses from each node to the next once, over the ports of all participating GPUs of the
node at a time. The bound and the expected time assume that each GPU uses its own ports only.
"""

from collections.abc import Iterator
from typing import NamedTuple

from perfmodel.arithmetic import ceil_log2
from perfmodel.hardware import Gpu
from perfmodel.patterns import (
    ALL_GATHER,
    ALL_REDUCE,
    ALL_TO_ALL,
    BROADCAST,
    DIRECT,
    IN_NETWORK,
    ONE_SHOT,
    REDUCE_SCATTER,
    RING,
    SEND_RECV,
    TREE,
    TWO_SHOT,
    busiest,
    checked,
    least_byte,
    messages,
)
from perfmodel.systems import Level, System
from perfmodel.timing.links import Link, Protocol, known, link
from perfmodel.timing.terms import Term
from perfmodel.timing.weights import Mechanism

SWITCHED, SMALL = Mechanism("collectives").facts("switched", "small")
NCCL, SERVING = "nccl", "serving"


class CollectiveTime(NamedTuple):
    """The time of one collective, as a CUDA graph replays it.

    ``lower_s``: no program can be faster, by the data sheet of the links. The terms add up to ``expected_s``. About 80 %
    of measurements lie between ``low_s`` and ``high_s``.
    """

    kind: str
    byte: int
    ranks: int
    ranks_per_node: int
    algorithm: str
    protocol: str
    lower_s: float
    expected_s: float
    low_s: float
    high_s: float
    terms: tuple[Term, ...] = ()
    host_s: float = 0.0


class _Group(NamedTuple):
    """A collective on a system: ``local`` ranks in each of ``nodes`` domains."""

    kind: str
    byte: int
    ranks: int
    local: int
    scale_up: Level
    network: Level | None

    @property
    def nodes(self) -> int:
        return -(-self.ranks // self.local)


def collective_s(
    system: System, gpu: Gpu, kind: str, byte: int, ranks: int, *, ranks_per_node: int | None = None,
    algorithm: str = "", library: str = NCCL, figures: Link | None = None,
) -> CollectiveTime:  # fmt: skip
    """Returns the time of a collective of ``ranks`` GPUs on a system.

    ``byte``: the tensor that each rank gives to the call (of an all-gather the input). ``ranks_per_node``: ranks of the
    group in one scale-up domain, by default as many as fit. ``algorithm``: forces one, by default the library chooses.
    ``library``: ``nccl``, or ``serving`` for a serving stack, whose own one-shot and two-shot kernels sum small tensors.
    ``figures``: those of the scale-up links, by default those of their generation.
    """
    checked(kind, algorithm)
    local = system.local_ranks(ranks, ranks_per_node)
    group = _Group(kind, byte, ranks, local, system.scale_up, system.network if ranks > local else None)
    lower_s = _lower_s(group)
    own = figures or known(group.scale_up, gpu)
    if ranks == 1:
        return CollectiveTime(kind, byte, 1, 1, algorithm or DIRECT, "", 0.0, 0.0, 0.0, 0.0)
    ways = [way for way in _ways(group, own) if algorithm in ("", way[0])] or [_textbook(group, own, algorithm)]
    if library == SERVING and kind == ALL_REDUCE and not algorithm and group.network is None:
        ways += [_textbook(group, own, one) for one in (ONE_SHOT, TWO_SHOT)]
    name, protocol, terms = min(ways, key=lambda way: sum(term.seconds for term in way[2]))
    seconds = sum(term.seconds for term in terms)
    if seconds < lower_s:
        terms = (*terms, Term("raised to the lower bound", lower_s - seconds))
    expected_s = max(seconds, lower_s)
    half = own.spread_small if byte < SMALL else own.spread
    return CollectiveTime(
        kind, byte, ranks, local, name, protocol, lower_s, expected_s, max(lower_s, expected_s / (1 + half)),
        expected_s * (1 + half), terms, own.host_s,
    )  # fmt: skip


def _lower_s(group: _Group) -> float:
    """The bytes that must pass the links of one GPU, and the ports of one node, at data-sheet rates."""
    inside = least_byte(group.kind, group.byte, group.local, group.scale_up.reduces)
    lower_s = float(inside / group.scale_up.one_way_byte_per_s.value)
    if group.network is None:
        return lower_s
    ports = 1 if group.kind == SEND_RECV else group.local
    return max(lower_s, _crossing_byte(group) / (ports * group.network.one_way_byte_per_s.value))


def _crossing_byte(group: _Group) -> float:
    """The least bytes that leave, or enter, one node."""
    n, p, local, nodes = group.byte, group.ranks, group.local, group.nodes
    if group.kind == ALL_REDUCE:  # the node's sum
        return 2.0 * n * (nodes - 1) / nodes
    if group.kind == REDUCE_SCATTER:
        return n * (nodes - 1) / nodes
    if group.kind == ALL_GATHER:
        return float(n) * (p - local)
    return local * n * (p - local) / p if group.kind == ALL_TO_ALL else float(n)


def _ways(group: _Group, own: Link) -> Iterator[tuple[str, str, tuple[Term, ...]]]:
    """The algorithms and protocols that the library has for a collective, with their terms."""
    far = link(group.network.link) if group.network else None
    if group.kind == SEND_RECV:
        yield DIRECT, own.message.name, _message(group, own, far.message if far else None)
        return
    if group.kind == ALL_TO_ALL:
        for number, protocol in enumerate(own.pair):
            beyond = far.pair[min(number, len(far.pair) - 1)] if far else None
            yield DIRECT, protocol.name, _direct(group, own, protocol, beyond)
        return
    for number, protocol in enumerate(own.ring):
        beyond = far.ring[min(number, len(far.ring) - 1)] if far else None
        yield RING, protocol.name, _ring(group, own, protocol, beyond)
        if far and beyond and group.kind in (ALL_REDUCE, BROADCAST):
            yield TREE, protocol.name, _tree(group, own, protocol, beyond)
    if group.kind == ALL_REDUCE and own.switch and group.scale_up.reduces and group.ranks >= SWITCHED and far is None:
        rate = own.switch.share * group.scale_up.rate_byte_per_s
        yield IN_NETWORK, "Simple", _terms(own, own.switch.start_s, 2 * own.switch.hop_s, group.byte / rate, 0.0)


def _textbook(group: _Group, own: Link, algorithm: str) -> tuple[str, str, tuple[Term, ...]]:
    """An algorithm that the library does not offer, as a kernel of its own: steps of LL and the rate of messages."""
    steps = messages(group.kind, algorithm, group.byte, group.ranks).steps
    sent = busiest(group.kind, algorithm, group.ranks) * group.byte
    hop_s, links_s = own.ring[0].hop_s, sent / _rate(group, own, own.message)
    if group.network is not None:
        far = link(group.network.link)
        hop_s, links_s = far.ring[0].hop_s, max(links_s, sent / (far.message.share * group.network.rate_byte_per_s))
    return algorithm, "", _terms(own, 0.0, steps * hop_s, links_s, 0.0)


def _ring(group: _Group, own: Link, near: Protocol, far: Protocol | None) -> tuple[Term, ...]:
    """Every rank sends to the next. One rank of a node sends to the next node at a time, on every channel another."""
    rounds = 2 if group.kind == ALL_REDUCE else 1
    sent = _sent_byte(group, rounds)
    crossings = rounds * (group.nodes - 1) if far else 0
    hops_s = (rounds * (group.ranks - 1) - crossings) * near.hop_s + crossings * (far.hop_s if far else 0.0)
    own_byte = 0 if group.kind == BROADCAST else _whole_byte(group) / group.ranks
    return _terms(
        own,
        near.start_s + (far.start_s if far else 0.0),
        hops_s,
        max(sent / _rate(group, own, near), _network_s(group, sent, far)),
        own_byte / (near.own * _shared(group, own)) if near.own else 0.0,
    )


def _tree(group: _Group, own: Link, near: Protocol, far: Protocol) -> tuple[Term, ...]:
    """A chain inside each node, and a tree of nodes: up to its root, and down again."""
    rounds = 2 if group.kind == ALL_REDUCE else 1
    hops_s = rounds * ((group.local - 1) * near.hop_s + ceil_log2(group.nodes) * far.hop_s)
    sent = float(rounds * group.byte)
    links_s = max(sent / _rate(group, own, near), _network_s(group, sent, far))
    return _terms(own, near.start_s + far.start_s, hops_s, links_s, 0.0)


def _direct(group: _Group, own: Link, near: Protocol, far: Protocol | None) -> tuple[Term, ...]:
    """Every rank sends a part to every other rank. With LL one channel serves a peer; with Simple all channels serve
    one peer after another.
    """
    part = group.byte / group.ranks
    peers, beyond = group.local - 1, group.ranks - group.local
    at_once = min(1, peers) if near.name == "LL" else peers
    far_s = beyond * part / (far.share * group.network.rate_byte_per_s) if far and group.network else 0.0
    start_s = near.start_s + (far.start_s if far else 0.0)
    hops_s = max(0, peers - 1) * near.hop_s + (far.hop_s if far else 0.0)
    own_s = part / (near.own * _shared(group, own)) if near.own else 0.0
    return _terms(own, start_s, hops_s, max(at_once * part / _rate(group, own, near), far_s), own_s)


def _message(group: _Group, own: Link, far: Protocol | None) -> tuple[Term, ...]:
    """Every rank sends its tensor to the next one."""
    near_s = group.byte / _rate(group, own, own.message) if group.local > 1 else 0.0
    far_s = group.byte / (far.share * group.network.rate_byte_per_s) if far and group.network else 0.0
    return _terms(own, own.message.start_s, far.hop_s if far else 0.0, max(near_s, far_s), 0.0)


def _terms(own: Link, start_s: float, hops_s: float, links_s: float, own_s: float) -> tuple[Term, ...]:
    parts = (("launch", own.launch_s), ("setup", start_s), ("hops", hops_s), ("links", links_s), ("own part", own_s))
    return tuple(Term(name, seconds) for name, seconds in parts if seconds)


def _whole_byte(group: _Group) -> int:
    """The tensor that all ranks together hold at one end of the collective."""
    return group.byte * group.ranks if group.kind == ALL_GATHER else group.byte


def _sent_byte(group: _Group, rounds: int) -> float:
    if group.kind == BROADCAST:
        return float(group.byte)
    return rounds * _whole_byte(group) * (group.ranks - 1) / group.ranks


def _shared(group: _Group, own: Link) -> float:
    """The rate of one GPU's links, where more than two GPUs share paths."""
    return group.scale_up.rate_byte_per_s * float((2.0 / max(2, group.local)) ** own.contention)


def _rate(group: _Group, own: Link, protocol: Protocol) -> float:
    return protocol.share * _shared(group, own)


def _network_s(group: _Group, sent: float, far: Protocol | None) -> float:
    """Returns the time in which the ports of a node send its data. Each channel sends it to the next node once."""
    if far is None or group.network is None:
        return 0.0
    return sent / (group.local * far.share * group.network.rate_byte_per_s)
