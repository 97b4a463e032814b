"""Instructions of elementwise functions.

One lane executes one simple instruction per clock. Functions without a hardware instruction are sequences: a division,
an exponential with its scaling, a tanh, the polynomial of an erf. A kernel also spends instructions on loading,
converting and storing every element. The counts are fitted on elementwise kernels of an H200 (2026-11, torch 2.11), of
which gelu, tanh, silu and sigmoid in fp16 are compute-bound.
"""

from __future__ import annotations

from functools import cache

from perfmodel.arithmetic import Size
from perfmodel.op import Op, Primitive
from perfmodel.timing.weights import Mechanism

_data = Mechanism("instructions")
ELEMENT, SEQUENCES = _data.weight("element"), _data.group("sequences")


@cache
def _of(primitives: tuple[tuple[int, Primitive], ...]) -> float:
    """Instructions per element of a mix of primitives."""
    return float(
        sum(count * SEQUENCES.get(p.name, 1.0) if p.engine or p.name == "erf" else count for count, p in primitives)
    )


def of_op(op: Op, elements: Size) -> Size:
    """Instructions of all elementwise work of an operation, plus the fixed cost per element of its result."""
    lanes: Size = sum(_of(work.amount.mix.primitives) * work.amount.times for work in op.work)
    return lanes + ELEMENT * elements
