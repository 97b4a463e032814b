"""Trains models of several depths on a processor, and prints the accuracy of each: one layer fails, two recall.

python -m examples.associative_recall.train [--layers 0 1 2 3] [--steps 300] [-o FILE.jsonl]
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

import torch
from torch.nn.functional import cross_entropy

from examples.associative_recall.data import Batch, Task, batch
from examples.associative_recall.model import Recaller, Sizes

STRINGS = 64  # in a batch
RATE = 3e-3
TESTED = 1000  # strings that training does not draw
TEST_SEED = 1 << 20


class Step:
    """A model with its optimizer: a call trains on one batch and returns the loss."""

    def __init__(self, task: Task, sizes: Sizes, seed: int = 0, device: str = "cpu") -> None:
        torch.manual_seed(seed)
        self.task = task
        self.model = Recaller(task.tokens, task.length, sizes).to(device)
        on_gpu = device == "cuda"
        self.optimizer = torch.optim.AdamW(self.model.parameters(), RATE, betas=(0.9, 0.98), weight_decay=0.0,
                                           fused=True, capturable=on_gpu)  # fmt: skip

    def __call__(self, given: Batch) -> torch.Tensor:
        """Trains on one batch."""
        self.optimizer.zero_grad(set_to_none=True)
        loss = loss_of(self.model(given.inputs), given.targets, self.task)
        loss.backward()
        self.optimizer.step()
        return loss.detach()


def loss_of(logits: torch.Tensor, targets: torch.Tensor, task: Task) -> torch.Tensor:
    """Returns the mean cross-entropy of the answers."""
    asked = logits[:, task.answers]
    return cross_entropy(asked.reshape(-1, task.tokens), targets[:, task.answers].reshape(-1))


@torch.no_grad()
def accuracy(model: Recaller, task: Task, count: int = TESTED) -> float:
    """Returns the share of right answers over strings that training does not draw."""
    given = batch(task, count, torch.Generator().manual_seed(TEST_SEED))
    guessed = model(given.inputs)[:, task.answers].argmax(-1)
    return float((guessed == given.targets[:, task.answers]).float().mean())


class Trained(NamedTuple):
    """A trained model, the loss of every step, the accuracy at some steps, and the seconds of training."""

    model: Recaller
    losses: list[float]
    accuracies: dict[int, float]
    seconds: float


def train(task: Task, sizes: Sizes, steps: int, seed: int = 0, every: int = 50) -> Trained:
    """Trains a model on new strings in every step."""
    step, random = Step(task, sizes, seed), torch.Generator().manual_seed(seed)
    losses, accuracies, began = [], {}, perf_counter()
    for index in range(1, steps + 1):
        losses.append(float(step(batch(task, STRINGS, random))))
        if index % every == 0 or index == steps:
            accuracies[index] = accuracy(step.model, task)
    return Trained(step.model, losses, accuracies, perf_counter() - began)


def record(task: Task, sizes: Sizes, steps: int, seed: int) -> dict[str, Any]:
    """Trains a model and returns its record."""
    found = train(task, sizes, steps, seed)
    return {
        "task": task._asdict(), "sizes": sizes._asdict(), "steps": steps, "seed": seed,
        "parameters": sum(weight.numel() for weight in found.model.parameters()),
        "accuracy": round(found.accuracies[steps], 4), "seconds": round(found.seconds, 2),
        "accuracies": {str(step): round(share, 4) for step, share in found.accuracies.items()},
        "losses": [round(loss, 5) for loss in found.losses],
    }  # fmt: skip


def records(depths: list[int], steps: int, seeds: list[int]) -> Iterator[dict[str, Any]]:
    """Yields the record of each depth and seed."""
    for layers in depths:
        for seed in seeds:
            yield record(Task(), Sizes(layers=layers), steps, seed)


def natural(text: str) -> int:
    """Reads a number of layers."""
    if int(text) < 0:
        raise ValueError
    return int(text)


def positive(text: str) -> int:
    """Reads a number of steps."""
    if int(text) < 1:
        raise ValueError
    return int(text)


def main() -> None:
    """Runs the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=natural, nargs="+", default=[0, 1, 2, 3], help="numbers of layers [0 1 2 3]")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="one training for each [0]")
    parser.add_argument("--steps", type=positive, default=300, help="steps of 64 strings [300]")
    parser.add_argument("-o", "--output", type=Path, help="file for one JSON line per training")
    given = parser.parse_args()
    torch.set_num_threads(1)  # the products are too small for a second thread
    lines: list[dict[str, Any]] = []
    print("layers  seed  parameters  accuracy  seconds")
    for found in records(given.layers, given.steps, given.seeds):
        lines.append(found)
        print(f"{found['sizes']['layers']:6}  {found['seed']:4}  {found['parameters']:10,}  "
            f"{found['accuracy']:8.1%}  {found['seconds']:7.1f}", flush=True)  # fmt: skip
    if given.output:
        from perfmodel.measure.environment import cpu_line

        text = "".join(json.dumps(line) + "\n" for line in (cpu_line("torch"), *lines))
        given.output.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
