"""Measures the memory that a PyTorch process needs on a GPU beside tensors, the default reserve of ``perfmodel
memory``.

It has three parts: the CUDA context with the code of kernels and libraries, the workspace of cuBLAS in PyTorch's pool,
and the fragmentation of the caching allocator. Fragmentation is measured at the largest batch that runs: the share of
the memory outside the context that no tensor could use. Prints one JSON line for the process and one for each model.
Needs torch and a GPU: ``python benchmarks/reserve.py``.
"""

from __future__ import annotations

import gc
import json
from collections.abc import Iterator
from datetime import date
from typing import Any

import torch

TOKENS = 512
STEPS = 4
MODELS = {  # width, heads, layers
    "gpt2-124m": (768, 12, 12),
    "gpt2-xl, a quarter of its depth": (1600, 25, 12),
    "four layers of width 4096": (4096, 32, 4),
}


def outside_byte() -> int:
    """Returns the bytes that the driver counts as used and that are not in PyTorch's pool."""
    torch.cuda.synchronize()
    free, total = torch.cuda.mem_get_info()
    return total - free - torch.cuda.memory_reserved()


def trained(sizes: tuple[int, int, int], batch: int) -> int:
    """Returns the peak of allocated bytes over a few steps of a pre-norm Transformer with 16-bit weights."""
    width, heads, layers = sizes
    stack = [
        torch.nn.TransformerEncoderLayer(width, heads, 4 * width, 0.0, "gelu", batch_first=True, norm_first=True)
        for _ in range(layers)
    ]
    model = torch.nn.Sequential(torch.nn.Embedding(50257, width), *stack, torch.nn.Linear(width, 50257, bias=False))
    model.to("cuda", torch.bfloat16)
    optimizer = torch.optim.AdamW(model.parameters())
    words = torch.randint(50257, (batch, TOKENS), device="cuda")
    torch.cuda.reset_peak_memory_stats()
    for _ in range(STEPS):
        torch.nn.functional.cross_entropy(model(words).flatten(0, 1), words.flatten()).backward()
        optimizer.step()
        optimizer.zero_grad()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated()


def ran(sizes: tuple[int, int, int], batch: int) -> int:
    """Returns the peak with an empty pool, or 0 if memory does not suffice."""
    gc.collect()
    torch.cuda.empty_cache()
    try:
        return trained(sizes, batch)
    except torch.OutOfMemoryError:
        return 0


def fullest(sizes: tuple[int, int, int]) -> dict[str, Any]:
    """Returns the largest batch that runs, found by bisection, and the share of memory that it cannot use."""
    low, high, peak = 0, 2048, 0
    while high - low > 1:
        middle = (low + high) // 2
        found = ran(sizes, middle)
        low, high, peak = (middle, high, found) if found else (low, middle, peak)
    outside = outside_byte()
    total = torch.cuda.get_device_properties(0).total_memory
    return {"batch": low, "allocated_byte": peak, "outside_byte": outside, "lost": 1 - peak / (total - outside)}


def lines() -> Iterator[dict[str, Any]]:
    """Yields the record of the process, then one for each model."""
    torch.zeros(1, device="cuda")
    context = outside_byte()
    a = torch.zeros(4096, 4096, device="cuda", dtype=torch.bfloat16)
    held = torch.cuda.memory_allocated()
    c = a @ a
    workspace = torch.cuda.memory_allocated() - held - c.nbytes
    card = torch.cuda.get_device_properties(0)
    yield {
        "gpu": card.name, "memory_byte": card.total_memory, "torch": torch.__version__, "date": date.today().isoformat(),
        "context_byte": context, "cublas_workspace_byte": workspace,
    }  # fmt: skip
    del a, c
    for name, sizes in MODELS.items():
        yield {"model": name, **fullest(sizes)}


if __name__ == "__main__":
    for line in lines():
        print(json.dumps(line), flush=True)
