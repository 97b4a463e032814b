"""A training step as a function: eager, or as the replay of one CUDA graph of forward, backward and optimizer."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any, NamedTuple

import torch

from examples.fused_training.data import Batches, batches
from examples.fused_training.model import BASE, Sizes, Translator

SEED = 0
RATE = 3e-4
WARM_UP = 3
TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


class Setting(NamedTuple):
    """What is trained: way of the row functions, data type, sentences, words of a sentence, sizes of the model."""

    way: str
    dtype: str = "fp32"
    B: int = 64
    N: int = 64
    sizes: Sizes = BASE


class Training:
    """A model, its optimizer and the memory of one batch. Two trainings of one seed start with equal weights."""

    def __init__(self, setting: Setting, device: str) -> None:
        torch.manual_seed(SEED)
        self.model = Translator(setting.way, setting.sizes, longest=setting.N).to(device, TYPES[setting.dtype])
        on_gpu = device == "cuda"
        self.optimizer = torch.optim.AdamW(self.model.parameters(), RATE, fused=True, capturable=on_gpu)
        self.batch = tuple(torch.zeros(setting.B, setting.N, dtype=torch.int64, device=device) for _ in range(3))

    def step(self) -> torch.Tensor:
        """Trains on the batch in memory, and returns its loss."""
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.model.loss(*self.batch)
        loss.backward()
        self.optimizer.step()
        return loss.detach()

    def take(self, batch: tuple[torch.Tensor, ...]) -> None:
        """Copies a batch into memory."""
        for to, new in zip(self.batch, batch, strict=True):
            to.copy_(new)

    def graphed(self, first: tuple[torch.Tensor, ...]) -> Callable[[], torch.Tensor]:
        """Returns the step as the replay of a CUDA graph. The steps that warm it up are undone."""
        self.take(first)
        weights = [weight.detach().clone() for weight in self.model.parameters()]
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(WARM_UP):
                self.step()
        torch.cuda.current_stream().wait_stream(stream)
        self.optimizer.zero_grad(set_to_none=True)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            loss = self.step()
        self._undo(weights)

        def replay() -> torch.Tensor:
            graph.replay()
            return loss

        return replay

    def _undo(self, weights: list[torch.Tensor]) -> None:
        with torch.no_grad():
            for weight, before in zip(self.model.parameters(), weights, strict=True):
                weight.copy_(before)
            for state in self.optimizer.state.values():
                for value in state.values():
                    value.zero_()


class Epoch(NamedTuple):
    """Losses of all steps, time of each step in milliseconds, and the peak of the memory that it allocated, in bytes."""

    losses: list[float]
    times_ms: list[float]
    peak_byte: int


def epoch(setting: Setting, steps: int, *, graph: bool) -> Epoch:
    """Trains a new model for some steps on the GPU, each between two events."""
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    held = torch.cuda.memory_allocated()
    training = Training(setting, "cuda")
    given = on_device(batches(steps, setting.B, setting.N, setting.sizes.vocabulary), "cuda")
    run = training.graphed(given.at(0)) if graph else training.step
    losses = torch.zeros(steps, device="cuda")
    events = [torch.cuda.Event(enable_timing=True) for _ in range(steps + 1)]
    torch.cuda.synchronize()
    events[0].record()
    for index in range(steps):
        training.take(given.at(index))
        losses[index].copy_(run())
        events[index + 1].record()
    torch.cuda.synchronize()
    times = [start.elapsed_time(end) for start, end in pairwise(events)]
    return Epoch(losses.tolist(), times, torch.cuda.max_memory_allocated() - held)


def on_device(given: Batches, device: str) -> Batches:
    """Returns the batches in the memory of a device."""
    return Batches(*(part.to(device) for part in given))


def step_on_meta(setting: Setting) -> Callable[[], Any]:
    """Returns a training step without weights, for ``perfmodel.capture``."""
    with torch.device("meta"):
        model = Translator(setting.way, setting.sizes, longest=setting.N).to(TYPES[setting.dtype])
        optimizer = torch.optim.AdamW(model.parameters(), RATE, fused=True, capturable=True)
        given = [torch.zeros(setting.B, setting.N, dtype=torch.int64) for _ in range(3)]

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        model.loss(*given).backward()
        optimizer.step()

    return step
