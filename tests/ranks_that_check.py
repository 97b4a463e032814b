"""The command line of one rank, whose training steps are also compared parameter by parameter with one process.

A step of Adam changes a parameter by the learning rate, whatever the size of its gradient, so a missing sum over the
ranks shows as a difference of that size.
"""

from __future__ import annotations

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


if __name__ == "__main__":
    processor.hardware_file = lambda: given_rates.FILE.read_text("utf-8")
    training.Training.wrong = wrong
    for module in (pipeline, tensor_parallel, training):
        module.BUDGET_S = 0.02
    main()
