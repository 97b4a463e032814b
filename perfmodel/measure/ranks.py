"""The ranks that torchrun starts: one process per GPU through NCCL, or processes on this CPU through gloo.

Every rank runs the same commands. A second group through gloo carries times and decisions, so that these never wait for
the collective that is measured.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

from perfmodel.errors import NoDeviceError, UsageError, one_line
from perfmodel.measure import environment

COMMAND = "torchrun --nproc_per_node 2 -m perfmodel"
LIMIT = timedelta(seconds=120)
TORCH_TYPES = {"bf16": "bfloat16", "fp16": "float16", "fp32": "float32"}

Value = TypeVar("Value")


class RankError(Exception):
    """An error on one rank, raised on all of them."""


class Ranks:
    """This rank: its number, the number of ranks, its device, and the control group."""

    def __init__(self, torch: Any, device: Any, control: Any) -> None:
        self.torch, self.device = torch, device
        self.dist = torch.distributed
        self.rank: int = self.dist.get_rank()
        self.size: int = self.dist.get_world_size()
        self.before_byte = 0
        self._control = control

    @property
    def cuda(self) -> bool:
        """Whether the ranks are GPUs."""
        return str(self.device.type) == "cuda"

    @property
    def first(self) -> bool:
        """Whether this rank reports."""
        return self.rank == 0

    def type_of(self, dtype: str) -> Any:
        """Returns the torch data type of a name such as ``bf16``."""
        return getattr(self.torch, TORCH_TYPES[dtype])

    def meet(self) -> None:
        """Waits for all ranks."""
        self.dist.barrier(group=self._control)

    def told(self, value: Any) -> Any:
        """Returns the value of the first rank."""
        values = [value]
        self.dist.broadcast_object_list(values, src=0, group=self._control)
        return values[0]

    def gathered(self, value: Any) -> list[Any]:
        """Returns the values of all ranks."""
        values: list[Any] = [None] * self.size
        self.dist.all_gather_object(values, value, group=self._control)
        return values

    def agreed(self, function: Callable[[], Value]) -> Value:
        """Returns what the function returns here. An error on any rank becomes a RankError on all, so that none waits."""
        found: list[Value] = []
        told = ""
        try:
            found.append(function())
        except Exception as error:  # an error in a library must not end the other cases
            told = one_line(f"{type(error).__name__}: {error}", 200)
        told = next(filter(None, self.gathered(told)), "")
        if told:
            raise RankError(told)
        return found[0]

    def peak(self) -> dict[str, int]:
        """Returns the most bytes that a rank allocated since the last call, as a field of a record; empty on a processor.

        Bytes that were there before the case are not counted.
        """
        if not self.cuda:
            return {}
        most = max(self.gathered(int(self.torch.cuda.max_memory_allocated()) - self.before_byte))
        self.torch.cuda.reset_peak_memory_stats()
        return {"peak_byte": most}

    def begin(self) -> None:
        """Notes the bytes that are allocated before a case."""
        if self.cuda:
            self.before_byte = int(self.torch.cuda.memory_allocated())

    def synchronize(self) -> None:
        """Waits for this rank's GPU."""
        if self.cuda:
            self.torch.cuda.synchronize(self.device)


def started() -> bool:
    """Whether torchrun started this process."""
    return {"RANK", "WORLD_SIZE", "MASTER_ADDR"} <= os.environ.keys()


@contextmanager
def joined(gpu: str | None, where: str) -> Iterator[Ranks]:
    """Joins the ranks, and leaves them at the end. ``gpu``: ``cpu`` uses gloo on this processor."""
    if not started():
        raise UsageError(where, "it is not run by torchrun", "one process per GPU is required", f"Run '{COMMAND} …'.")
    if int(os.environ["WORLD_SIZE"]) < 2:
        raise UsageError(where, "there is 1 rank", "at least 2 ranks are required", f"Run '{COMMAND} …'.")
    torch = environment.installed_torch()
    if torch is None:
        raise NoDeviceError(where, "torch is not installed", "ranks communicate through torch", "Install torch.")
    cuda = gpu != "cpu" and torch.cuda.is_available()
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0"))) if cuda else torch.device("cpu")
    if cuda:
        if device.index >= torch.cuda.device_count():
            raise NoDeviceError(
                where, f"rank {os.environ['RANK']} has no GPU of its own", f"at most {torch.cuda.device_count()} ranks are accepted",
                "Reduce --nproc_per_node.",
            )  # fmt: skip
        torch.cuda.set_device(device)
    else:
        torch.set_num_threads(max(1, environment.cores() // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))))
    torch.distributed.init_process_group(
        "nccl" if cuda else "gloo", timeout=LIMIT, **({"device_id": device} if cuda else {})
    )
    try:
        yield Ranks(torch, device, torch.distributed.new_group(backend="gloo", timeout=LIMIT))
    finally:
        torch.distributed.destroy_process_group()
