"""Instructions: what an elementwise function costs the lanes of a multiprocessor.

One lane does one simple instruction a clock. Functions that a card has no instruction for are sequences: a division, an
exponential with its scaling, a tanh, the polynomial of an erf. A kernel also spends some on every element that it loads,
converts and stores. The counts are of the sequences that the compiler makes, fitted on an H200's elementwise kernels
(2026-11, torch 2.11), of which gelu, tanh, silu and sigmoid in fp16 are bound by arithmetic and not by memory.
"""

from __future__ import annotations

from functools import cache

from perfmodel.op import Op, Primitive

ELEMENT = 0.5
SEQUENCES = {"erf": 36.0, "exp": 9.9, "tanh": 24.0, "divide": 16.0, "log": 8.0, "sqrt": 6.0, "rsqrt": 4.0}


@cache
def _of(primitives: tuple[tuple[int, Primitive], ...]) -> float:
    """Instructions of one element of a mix of primitives."""
    return float(
        sum(count * SEQUENCES.get(p.name, 1.0) if p.engine or p.name == "erf" else count for count, p in primitives)
    )


def of_op(op: Op, elements: float) -> float:
    """Instructions of all of an operation's elementwise work, with what every element of its result costs besides."""
    lanes: float = sum(_of(work.amount.mix.primitives) * work.amount.times for work in op.work)
    return lanes + ELEMENT * elements
