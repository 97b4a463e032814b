"""A training program as one of several replicas runs it, under DistributedDataParallel or FSDP.

The program is that of one GPU with the batch of one replica. The wrapper's kernels and collectives are added to it as
steps like any other (``summing``, ``sharding``), the collectives in a stream of their own.
"""

from __future__ import annotations

from perfmodel.errors import InputError
from perfmodel.plans.plan import Plan
from perfmodel.programs.program import Program
from perfmodel.programs.sharding import Sharded
from perfmodel.programs.summing import Summed
from perfmodel.programs.wrapping import gradients

DIVIDED = ("dp", "zero")  # the fields of a plan that divide a program


class Replicas:
    """The number of replicas, and the wrapper that divides a program among them. One replica has no wrapper."""

    def __init__(self, plan: Plan) -> None:
        other = next((name for name in Plan._fields if name not in DIVIDED and getattr(plan, name) != Plan._field_defaults[name]), "")  # fmt: skip
        if other or plan.zero == 1:
            raise InputError(
                f"plan: {plan.words}", f"{other} is given for a program" if other else "zero 1 is given for a program",
                "dp divides a program, with zero 0 (DistributedDataParallel), 2 or 3 (FSDP)",
                "Leave it out, or describe the model by --config without --via.",
            )  # fmt: skip
        self.number, self.zero = plan.dp, plan.zero

    def program(self, program: Program) -> Program:
        """Returns the program of one replica."""
        if self.number == 1:
            return program
        found = gradients(program)
        if not found and self.zero == 0:
            return program
        wrapped = Sharded(program, found, self.number, self.zero) if self.zero else Summed(program, found, self.number)
        return wrapped.program()
