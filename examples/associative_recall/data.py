"""Strings of key-value pairs, then queries: each key again, in another order, and after it its value.

    a 3 d 0 c 3 b 7 | c 3 b 7 a 3 d 0

The model reads a string without its last token (the input) and is asked for the next token at every position (the
target). Only the answers can be known: the tokens after the queries. The loss and the accuracy count these alone.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

LETTERS, DIGITS = "abcdefghijklmnopqrstuvwxyz", "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"


class Task(NamedTuple):
    """Pairs in a string, different keys and different values."""

    pairs: int = 8
    keys: int = 16
    values: int = 16

    @property
    def tokens(self) -> int:
        """Returns the size of the vocabulary: keys first, then values."""
        return self.keys + self.values

    @property
    def length(self) -> int:
        """Returns the tokens of an input: pairs and queries, without the last answer."""
        return 4 * self.pairs - 1

    @property
    def answers(self) -> slice:
        """Returns the positions of the queries, where the target is an answer."""
        return slice(2 * self.pairs, None, 2)


SMALL = Task(pairs=4, keys=8, values=8)


class Batch(NamedTuple):
    """Inputs and targets of shape (strings, length): the target of a position is the next input."""

    inputs: torch.Tensor
    targets: torch.Tensor


def strings(task: Task, count: int, random: torch.Generator) -> torch.Tensor:
    """Returns random strings of shape (count, 4 pairs). The keys of a string differ, its values may repeat."""
    keys = torch.rand(count, task.keys, generator=random).argsort(-1)[:, : task.pairs]
    values = task.keys + torch.randint(task.values, (count, task.pairs), generator=random)
    order = torch.rand(count, task.pairs, generator=random).argsort(-1)
    pairs = torch.stack((keys, values), -1)
    asked = pairs.gather(1, order[..., None].expand(-1, -1, 2))
    return torch.cat((pairs, asked), 1).flatten(1)


def batch(task: Task, count: int, random: torch.Generator) -> Batch:
    """Returns random strings as inputs and targets."""
    whole = strings(task, count, random)
    return Batch(whole[:, :-1], whole[:, 1:])


def spelled(task: Task, tokens: torch.Tensor) -> str:
    """Returns a string as text: letters are keys, digits are values."""
    return " ".join((LETTERS[: task.keys] + DIGITS)[token] for token in tokens.tolist())
