"""Collectives between GPUs, as a program under data parallelism calls them.

Their keywords are the number of ranks, ``gpus``. Each rank gives the first tensor to the call.
"""

from __future__ import annotations

from collections.abc import Iterable

from perfmodel.arithmetic import ceil_div
from perfmodel.aten.asking import asked
from perfmodel.aten.calls import Call, Launched, Rule
from perfmodel.patterns import ALL_GATHER, ALL_REDUCE, BROADCAST, REDUCE_SCATTER


def _collective(kind: str) -> Rule:
    def rule(call: Call) -> Iterable[Launched]:
        x, gpus = call.operands[0], call.keywords["gpus"]
        byte, unit = int(x.numel * x.item), int(x.item * gpus)
        if byte:
            yield asked(kind, x.dtype, "nccl", byte=ceil_div(byte, unit) * unit, gpus=gpus, act=x.item)

    return rule


RULES: dict[str, Rule] = {kind: _collective(kind) for kind in (ALL_GATHER, ALL_REDUCE, BROADCAST, REDUCE_SCATTER)}
