"""What the heads of a two-layer model attend to: the position before, and the answer of a query."""

from __future__ import annotations

import torch

from examples.associative_recall.data import Task, batch
from examples.associative_recall.model import Recaller

STRINGS = 200


def previous_token(model: Recaller, task: Task) -> list[float]:
    """Returns the weight that each head of layer 1 gives to the position before, averaged over the values of the pairs."""
    values = torch.arange(1, 2 * task.pairs, 2)
    return _patterns(model, task)[0][:, :, values, values - 1].mean((0, 2)).tolist()


def induction(model: Recaller, task: Task) -> list[float]:
    """Returns the weight that each head of layer 2 gives to the value of the key that is asked, averaged over queries."""
    given, queries = _strings(task), torch.arange(task.length)[task.answers]
    same = given[:, None, 0 : 2 * task.pairs : 2] == given[:, queries, None]
    value = 2 * same.int().argmax(-1) + 1
    rows = _patterns(model, task)[1][:, :, queries]
    return rows.gather(3, value[:, None, :, None].expand(-1, rows.shape[1], -1, 1)).mean((0, 2, 3)).tolist()


def _strings(task: Task) -> torch.Tensor:
    return batch(task, STRINGS, torch.Generator().manual_seed(7)).inputs


@torch.no_grad()
def _patterns(model: Recaller, task: Task) -> list[torch.Tensor]:
    return model.patterns(_strings(task))
