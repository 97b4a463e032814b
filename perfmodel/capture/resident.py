"""Tensors in the memory of the card before a program starts: parameters, buffers, optimizer state and inputs."""

from __future__ import annotations

from typing import Any

import torch

from perfmodel.capture.tape import Tape
from perfmodel.programs.program import Resident


def on_the_card(objects: list[Any]) -> list[torch.Tensor]:
    """Tensors that lie on the card in a real run. Step counters of optimizers stay in the memory of the host."""
    on_host: set[int] = set()
    for value in objects:
        if isinstance(value, torch.optim.Optimizer):
            for group in value.param_groups:
                if not (group.get("fused") or group.get("capturable")):
                    on_host.update(
                        id(value.state[p]["step"]) for p in group["params"] if "step" in value.state.get(p, ())
                    )
    return [value for value in objects if isinstance(value, torch.Tensor) and id(value) not in on_host]


def residents(tape: Tape, objects: list[Any]) -> dict[int, Resident]:
    """The storages of all tensors that exist before the first step, with their roles."""
    resident: dict[int, Resident] = {}

    def add(tensor: Any, role: str, label: str) -> None:
        if isinstance(tensor, torch.Tensor) and tensor.is_meta:
            memory = tape.storages.reference(tensor)
            resident.setdefault(memory.number, Resident(memory.byte, role, label))
            if tensor.is_leaf and tensor.grad is not None:
                add(tensor.grad, "state", f"{label}.grad")

    inner: set[int] = set()
    for module in (value for value in objects if isinstance(value, torch.nn.Module)):
        if id(module) in inner:
            continue
        inner.update(map(id, module.modules()))
        for label, tensor in module.named_parameters():
            add(tensor, "parameter", label)
        for label, tensor in module.named_buffers():
            add(tensor, "buffer", label)
    for optimizer in (value for value in objects if isinstance(value, torch.optim.Optimizer)):
        for state in optimizer.state.values():
            for label, tensor in state.items() if isinstance(state, dict) else ():
                add(tensor, "state", label)
    for value in objects:
        add(value, "input", "")
    return resident
