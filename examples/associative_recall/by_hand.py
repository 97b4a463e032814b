"""Two layers whose weights are written by hand, and which answer every query.

The residual stream has one channel for each token and position, and four areas:

    token | position | token before | answer

Layer 1 is a previous-token head: position i asks for position i - 1 and copies its token into the area "token before".
Layer 2 is an induction head: the query asks for the position whose token before is the same key, which holds the value,
and copies that value into the area "answer".

    python -m examples.associative_recall.by_hand
"""

from __future__ import annotations

import torch

from examples.associative_recall.data import Task, batch, spelled
from examples.associative_recall.model import Recaller, Sizes
from examples.associative_recall.train import accuracy

SHARP = 50.0  # difference of the scores: all other positions together have a weight below 1e-20


def by_hand(task: Task) -> Recaller:
    """Returns the model with its weights set."""
    tokens, length = task.tokens, task.length
    width = 3 * tokens + length
    token, position = torch.arange(tokens), tokens + torch.arange(length)
    before, answer = tokens + length + token, 2 * tokens + length + token
    model = Recaller(tokens, length, Sizes(layers=2, width=width, heads=1, inner=0))
    with torch.no_grad():
        for weights in model.parameters():
            weights.zero_()
        model.tokens.weight[token, token] = 1
        model.positions.weight[torch.arange(length), position] = 1
        first, second = model.layers
        # Layer 1. A position asks for its own number; the position before it offers that number.
        set_head(first.attention, query=(position, position), key=(position[:-1], position[1:]), value=(token, before))
        # Layer 2. A position asks for its token; the position after that token offers it. Values alone are copied.
        values = slice(task.keys, None)
        set_head(second.attention, query=(token, token), key=(before, token), value=(token[values], answer[values]))
        # Position 0 saw itself in layer 1, as there is nothing before it. It does not offer that token.
        second.attention.qkv.weight[width + token, position[0]] = -1
        model.logits.weight[token, answer] = SHARP
    return model


Pairs = tuple[torch.Tensor, torch.Tensor]


def set_head(attention: torch.nn.Module, query: Pairs, key: Pairs, value: Pairs) -> None:
    """Sets a head of full width. ``query`` and ``key``: from which channel of the stream to which channel of the product;
    ``value``: from which channel of the stream to which channel of the stream.
    """
    width = attention.out.weight.shape[0]
    q, k, v = attention.qkv.weight.split(width)
    q[query[1], query[0]] = SHARP * width**0.5
    k[key[1], key[0]] = 1
    v[value[0], value[0]] = 1
    attention.out.weight[value[1], value[0]] = 1


def main() -> None:
    """Answers one string aloud, and counts the right answers of many."""
    task = Task()
    model, given = by_hand(task), batch(task, 1, torch.Generator().manual_seed(1))
    guessed = model(given.inputs).argmax(-1)[0, task.answers]
    print("input  ", spelled(task, given.inputs[0]))
    print("queries", spelled(task, given.inputs[0, task.answers]))
    print("answers", spelled(task, guessed))
    print(f"right  {accuracy(model, task):.2%} of 1,000 strings")


if __name__ == "__main__":
    main()
