"""Collectives simulated in loops: ranks with lists of numbers, and messages that are counted one by one.

The loops share no formula with the package. Tensors are cut into parts that differ by at most one element.
"""

from __future__ import annotations

from itertools import chain, pairwise


class Ranks:
    """Lists of numbers, one per rank, with the elements that each rank has sent, received and added."""

    def __init__(self, tensors):
        self.held = [list(tensor) for tensor in tensors]
        self.p = len(tensors)
        self.sent, self.received, self.added = ([0] * self.p for _ in range(3))
        self.steps = 0

    def message(self, source, target, values):
        """Counts a message and returns its elements."""
        self.sent[source] += len(values)
        self.received[target] += len(values)
        return list(values)

    def add(self, rank, place, values):
        for i, value in zip(place, values, strict=True):
            self.held[rank][i] += value
            self.added[rank] += 1

    def parts(self):
        """The places of p parts of a tensor."""
        n = len(self.held[0])
        bounds = [n * i // self.p for i in range(self.p + 1)]
        return [range(first, last) for first, last in pairwise(bounds)]


def ring_round(ranks, first, adds):
    """p - 1 steps. In step s, rank r passes the part ``first(r) - s`` to the next rank."""
    p, parts = ranks.p, ranks.parts()
    for step in range(p - 1):
        ranks.steps += 1
        out = {r: parts[(first(r) - step) % p] for r in range(p)}
        messages = {r: ranks.message(r, (r + 1) % p, [ranks.held[r][i] for i in place]) for r, place in out.items()}
        for r, values in messages.items():
            target = (r + 1) % p
            if adds:
                ranks.add(target, out[r], values)
            else:
                for i, value in zip(out[r], values, strict=True):
                    ranks.held[target][i] = value


def ring_all_reduce(tensors):
    ranks = Ranks(tensors)
    ring_round(ranks, lambda r: r, adds=True)
    ring_round(ranks, lambda r: r + 1, adds=False)
    return ranks, ranks.held


def ring_reduce_scatter(tensors):
    """Rank r ends with the sum of part r."""
    ranks = Ranks(tensors)
    ring_round(ranks, lambda r: r - 1, adds=True)
    return ranks, [[ranks.held[r][i] for i in place] for r, place in enumerate(ranks.parts())]


def ring_all_gather(tensors):
    ranks, n = Ranks(tensors), len(tensors[0])
    ranks.held = [[0] * (r * n) + list(tensor) + [0] * ((ranks.p - 1 - r) * n) for r, tensor in enumerate(tensors)]
    ring_round(ranks, lambda r: r, adds=False)
    return ranks, ranks.held


def parent(position, p):
    """The parent in a binary tree in which odd positions are leaves and position 0 is the root."""
    if position == 0:
        return None
    low = position & -position
    up = (position ^ low) | (low << 1)
    return up if up < p else position ^ low


def tree_all_reduce(tensors):
    """Two trees, each for one half of the elements. The second renames the ranks, so that leaves become inner."""
    ranks, n, p = Ranks(tensors), len(tensors[0]), len(tensors)
    names = (lambda i: i, (lambda i: p - 1 - i) if p % 2 == 0 else (lambda i: (i + 1) % p))
    depths = []
    for place, name in zip((range(n // 2), range(n // 2, n)), names, strict=True):
        depth = {0: 0}

        def level(i, depth=depth):
            if i not in depth:
                depth[i] = level(parent(i, p)) + 1
            return depth[i]

        order = sorted(range(1, p), key=level, reverse=True)
        for i in order:
            ups = ranks.message(name(i), name(parent(i, p)), [ranks.held[name(i)][k] for k in place])
            ranks.add(name(parent(i, p)), place, ups)
        for i in reversed(order):
            down = ranks.message(name(parent(i, p)), name(i), [ranks.held[name(parent(i, p))][k] for k in place])
            for k, value in zip(place, down, strict=True):
                ranks.held[name(i)][k] = value
        depths.append(max(map(level, range(p))))
    ranks.steps = 2 * max(depths)
    return ranks, ranks.held


def to_all(ranks, given):
    """One step: rank r sends ``given(r, t)`` to every other rank t. Returns the messages by receiver and sender."""
    ranks.steps += ranks.p > 1
    pairs = [(r, t) for r in range(ranks.p) for t in range(ranks.p) if r != t]
    return {(t, r): ranks.message(r, t, given(r, t)) for r, t in pairs}


def one_shot_all_reduce(tensors):
    ranks = Ranks(tensors)
    for (target, _), values in to_all(ranks, lambda r, _: tensors[r]).items():
        ranks.add(target, range(len(values)), values)
    return ranks, ranks.held


def two_shot_all_reduce(tensors):
    ranks = Ranks(tensors)
    parts = ranks.parts()
    for (target, _), values in to_all(ranks, lambda r, t: [tensors[r][i] for i in parts[t]]).items():
        ranks.add(target, parts[target], values)
    sums = [[ranks.held[r][i] for i in parts[r]] for r in range(ranks.p)]
    for (target, source), values in to_all(ranks, lambda r, _: sums[r]).items():
        for i, value in zip(parts[source], values, strict=True):
            ranks.held[target][i] = value
    return ranks, ranks.held


def in_network_all_reduce(tensors):
    """The switch adds what the ranks send, and sends the sum to each."""
    ranks = Ranks(tensors)
    if ranks.p == 1:
        return ranks, ranks.held
    total = [sum(column) for column in zip(*tensors, strict=True)]
    for r in range(ranks.p):
        ranks.sent[r] += len(tensors[r])
        ranks.received[r] += len(total)
    ranks.steps, ranks.held = 2, [total] * ranks.p
    return ranks, ranks.held


def direct_all_to_all(tensors):
    ranks = Ranks(tensors)
    parts = ranks.parts()
    found = to_all(ranks, lambda r, t: [tensors[r][i] for i in parts[t]])
    own = [[tensors[r][i] for i in parts[r]] for r in range(ranks.p)]
    ends = range(ranks.p)
    return ranks, [[*chain(*(own[t] if r == t else found[t, r] for r in ends))] for t in ends]


def ring_broadcast(tensors):
    """From rank 0 along a chain."""
    ranks = Ranks(tensors)
    for r in range(ranks.p - 1):
        ranks.steps += 1
        ranks.held[r + 1] = ranks.message(r, r + 1, ranks.held[r])
    return ranks, ranks.held


def direct_send_recv(tensors):
    ranks = Ranks(tensors)
    if ranks.p > 1:
        ranks.steps = 1
        ranks.held = [ranks.message((r - 1) % ranks.p, r, tensors[r - 1]) for r in range(ranks.p)]
    return ranks, ranks.held
