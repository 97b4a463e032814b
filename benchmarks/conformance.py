"""Counts of other tools on common tasks: python benchmarks/conformance.py [RECORDS.jsonl]

Each task is a torch module with inputs, and the operations of this project that count the same products. Every installed tool
counts each task, and a line of JSON has its figure. A tool that fails has its message. Nothing here is a dependency: install
what you want to compare, such as ``pip install fvcore calflops thop ptflops torchinfo torchprofile``.
"""

from __future__ import annotations

import contextlib
import io
import json
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

import perfmodel

B, N, D, H, F, K = 2, 128, 256, 4, 1024, 3
d = D // H


class Task(NamedTuple):
    """What is counted, and the FLOPs of its matrix products and convolutions by this project."""

    means: str
    build: Callable[[], tuple[Any, tuple[Any, ...]]]
    ours: int
    backward: bool = False


def ours(*parts: tuple[str, dict[str, int]]) -> int:
    return sum(perfmodel.find(name)(**sizes).contraction_flops() for name, sizes in parts)


HEADS = {"B": B, "H": H, "H_kv": H, "N": N, "S": N, "d": d}
CONVOLUTION = {"B": B, "N": N, "D": D, "K": K}


def tasks() -> dict[str, Task]:
    """The tasks by name."""
    encoder = perfmodel.analyse(
        "encoder-block", settings={"B": B, "N": N, "D": D, "H": H, "F": F}
    ).total.contraction_flops
    return {
        "mlp": Task("two linear layers with a GELU between", mlp, ours(("mlp", {"B": B, "N": N, "D": D, "F": F}))),
        "attention, fused": Task("F.scaled_dot_product_attention", fused, ours(("attention", HEADS))),
        "attention, products": Task("q @ k^T, softmax, @ v", products, ours(("scores", HEADS), ("weighted_values", HEADS))),
        "encoder layer": Task("nn.TransformerEncoderLayer", layer, encoder),
        "depthwise convolution": Task("nn.Conv1d with groups = channels", depthwise, ours(("conv1d", CONVOLUTION))),
        "depthwise, with backward": Task(
            "the same, forward and backward", depthwise, ours(("conv1d", CONVOLUTION), ("conv1d_backward", CONVOLUTION)), True
        ),
        "embedding": Task("nn.Embedding, a look-up", embedding, ours(("embedding", {"B": B, "N": N, "D": D, "V": 1000}))),
    }  # fmt: skip


def _module(forward: Callable[..., Any], **parts: Any) -> Any:
    """A module with a parameter that it does not use: some tools look for one."""
    import torch
    from torch import nn

    module = type("Module", (nn.Module,), {"forward": forward})()
    module.unused = nn.Parameter(torch.ones(1))
    for name, part in parts.items():
        setattr(module, name, part)
    return module


def mlp() -> tuple[Any, tuple[Any, ...]]:
    import torch
    from torch import nn

    return nn.Sequential(nn.Linear(D, F), nn.GELU(), nn.Linear(F, D)), (torch.randn(B, N, D),)


def _heads() -> tuple[Any, ...]:
    import torch

    return tuple(torch.randn(B, H, N, d) for _ in range(3))


def fused() -> tuple[Any, tuple[Any, ...]]:
    import torch

    def forward(self: Any, q: Any, k: Any, v: Any) -> Any:
        return torch.nn.functional.scaled_dot_product_attention(q, k, v)

    return _module(forward), _heads()


def products() -> tuple[Any, tuple[Any, ...]]:
    import torch

    def forward(self: Any, q: Any, k: Any, v: Any) -> Any:
        return torch.softmax(torch.matmul(q, k.transpose(-2, -1)) / d**0.5, -1) @ v

    return _module(forward), _heads()


def layer() -> tuple[Any, tuple[Any, ...]]:
    import torch

    return torch.nn.TransformerEncoderLayer(D, H, F, dropout=0.0, batch_first=True), (torch.randn(B, N, D),)


def depthwise() -> tuple[Any, tuple[Any, ...]]:
    import torch

    def forward(self: Any, u: Any) -> Any:
        return self.conv(torch.nn.functional.pad(u, (K - 1, 0)))

    conv = torch.nn.Conv1d(D, D, K, groups=D)
    return _module(forward, conv=conv), (torch.randn(B, D, N, requires_grad=True),)


def embedding() -> tuple[Any, tuple[Any, ...]]:
    import torch

    return torch.nn.Embedding(1000, D), (torch.zeros(B, N, dtype=torch.long),)


# --- the tools: each returns its own figure


def torch_counter(module: Any, inputs: Any, backward: bool) -> int:
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as mode:
        out = module(*inputs)
        if backward:
            out.sum().backward()
    return int(mode.get_total_flops())


def fvcore(module: Any, inputs: Any, backward: bool) -> int:
    from fvcore.nn import FlopCountAnalysis

    analysis = FlopCountAnalysis(module, inputs)
    return int(analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False).total())


def thop(module: Any, inputs: Any, backward: bool) -> int:
    from thop import profile

    return int(profile(module, inputs, verbose=False)[0])


def ptflops(module: Any, inputs: Any, backward: bool) -> int:
    from inspect import signature

    from ptflops import get_model_complexity_info

    names = list(signature(module.forward).parameters)
    given = dict(zip(names, inputs, strict=False))
    return int(
        get_model_complexity_info(
            module, (1,), input_constructor=lambda _: given, as_strings=False, print_per_layer_stat=False
        )[0]
    )


def calflops(module: Any, inputs: Any, backward: bool) -> int:
    from calflops import calculate_flops

    options = {"output_as_string": False, "print_results": False, "print_detailed": False}
    return int(calculate_flops(module, args=list(inputs), **options)[0])


def torchinfo(module: Any, inputs: Any, backward: bool) -> int:
    from torchinfo import summary

    return int(summary(module, input_data=inputs, verbose=0).total_mult_adds)


def torchprofile(module: Any, inputs: Any, backward: bool) -> int:
    from torchprofile import profile_macs

    return int(profile_macs(module, inputs))


# The distribution of a tool, its figure, and the FLOPs of one unit of it: 2 where its documentation counts multiply-adds.
TOOLS: dict[str, tuple[str, Callable[[Any, Any, bool], int], int]] = {
    "torch.utils.flop_counter": ("torch", torch_counter, 1),
    "calflops": ("calflops", calflops, 1),
    "fvcore": ("fvcore", fvcore, 2),
    "ptflops": ("ptflops", ptflops, 2),
    "thop": ("thop", thop, 2),
    "torchinfo": ("torchinfo", torchinfo, 2),
    "torchprofile": ("torchprofile", torchprofile, 2),
}


def installed(tool: str) -> str:
    """The version of a tool, or nothing."""
    try:
        return version(TOOLS[tool][0]).partition("+")[0]
    except PackageNotFoundError:
        return ""


def counted(tool: str, task: Task) -> int:
    """The FLOPs of a task by a tool."""
    _, count, unit = TOOLS[tool]
    module, inputs = task.build()
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        warnings.simplefilter("ignore")
        return unit * count(module, inputs, task.backward)


def records(tool: str) -> Iterator[dict[str, Any]]:
    """One record for each task. Only torch's own counter sees a backward pass."""
    for name, task in tasks().items():
        if task.backward and tool != "torch.utils.flop_counter":
            continue
        record: dict[str, Any] = {"tool": tool, "version": installed(tool), "task": name}
        try:
            record["flops"] = counted(tool, task)
        except Exception as error:
            record["error"] = f"{type(error).__name__}: {error}".splitlines()[0][:120]
        yield record


def alone(tool: str) -> list[dict[str, Any]]:
    """The records of a tool, from a process of its own: some tools replace functions of torch."""
    command = [sys.executable, __file__, "--tool", tool]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    return [json.loads(line) for line in ran.stdout.splitlines()]


def main() -> None:
    if sys.argv[1:2] == ["--tool"]:
        for record in records(sys.argv[2]):
            print(json.dumps(record))
        return
    lines = "".join(json.dumps(record) + "\n" for tool in filter(installed, TOOLS) for record in alone(tool))
    if sys.argv[1:]:
        Path(sys.argv[1]).write_text(lines, encoding="utf-8")
    sys.stdout.write(lines)


if __name__ == "__main__":
    main()
