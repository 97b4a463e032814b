"""Sentences of a made-up language pair: each word has one translation, and the target is in reverse order.

Words follow Zipf's law, so the first steps already lower the loss. The same seed gives the same batches.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

START = 0


class Batches(NamedTuple):
    """Batches of token numbers, each of shape (batches, B, N): source, target with the start first, wanted tokens."""

    source: torch.Tensor
    target: torch.Tensor
    wanted: torch.Tensor

    def at(self, index: int) -> tuple[torch.Tensor, ...]:
        """Returns one batch."""
        return tuple(part[index % len(self.source)] for part in self)


def batches(count: int, B: int, N: int, vocabulary: int, seed: int = 0) -> Batches:
    """Draws batches of B sentences of N words."""
    random = torch.Generator().manual_seed(seed)
    weights = 1 / torch.arange(1, vocabulary, dtype=torch.float64)
    source = 1 + torch.multinomial(weights, count * B * N, replacement=True, generator=random).view(count, B, N)
    dictionary = 1 + torch.randperm(vocabulary - 1, generator=random)
    wanted = dictionary[source.flip(-1) - 1]
    start = torch.full_like(wanted[..., :1], START)
    return Batches(source, torch.cat((start, wanted[..., :-1]), -1), wanted)
