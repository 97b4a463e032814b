"""The command line on two ranks, whose training steps are also compared parameter by parameter with one process.

The ranks have the environment that torchrun gives. They are copies of a process that has loaded torch, which takes longer
than what they measure.

A step of Adam changes a parameter by the learning rate, whatever the size of its gradient, so a missing sum over the
ranks shows as a difference of that size.
"""

from __future__ import annotations

import gc
import importlib
import os
import socket
import sys
from importlib.util import find_spec

import given_rates

from perfmodel.__main__ import main
from perfmodel.capture.models import step
from perfmodel.measure import pipeline, processor, tensor_parallel, training
from perfmodel.plans.plan import Plan

RATE = 1e-5
checked = training.Training.wrong


def wrong(self):
    told = checked(self)
    if told:
        return told
    whole = training.Training(self.ranks, self.case._replace(plan=Plan()), step)
    before = {name: x.detach().clone() for name, x in whole.model.named_parameters()}
    whole.step()
    wanted = dict(whole.model.named_parameters())
    moved = differs = total = 0
    for name, x in self.model.named_parameters():
        full = x.full_tensor() if hasattr(x, "full_tensor") else x
        own = name.removeprefix("module.")  # of DistributedDataParallel
        moved += int(((wanted[own] - before[own]).abs() > RATE / 2).sum())
        differs += int(((full - wanted[own]).abs() > RATE / 20).sum())
        total += full.numel()
    assert moved > total / 2, (moved, total)
    return "" if differs <= total / 1000 else f"wrong result: {differs} of {total} parameters differ"


# What the ranks load, in torch and in transformers.
LOADED = ("torch._dynamo", "torch.distributed.tensor.parallel", "torch.distributed.fsdp")
MODELS = ("transformers.models.llama.modeling_llama", "transformers.models.auto.modeling_auto")


def rank() -> int:
    """Runs the commands on this rank, and returns the exit code."""
    processor.hardware_file = lambda: given_rates.FILE.read_text("utf-8")
    training.Training.wrong = wrong
    for module in (pipeline, tensor_parallel, training):
        module.BUDGET_S = 0.02
    try:
        main()
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def ranks(count: int) -> int:
    """Runs the commands on so many ranks, and returns the largest exit code."""
    for name in (*LOADED, *(MODELS if find_spec("transformers") else ())):
        importlib.import_module(name)
    gc.collect()
    gc.freeze()  # collections of the ranks leave the shared memory alone
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count}
    started = []
    for number in range(count):
        os.environ.update({key: str(one) for key, one in {**shared, "RANK": number, "LOCAL_RANK": number}.items()})
        started.append(os.fork())
        if not started[-1]:
            code = rank()
            sys.stdout.flush()
            os._exit(code)
    return max(os.waitstatus_to_exitcode(os.waitpid(one, 0)[1]) for one in started)


if __name__ == "__main__":
    sys.exit(ranks(2))
