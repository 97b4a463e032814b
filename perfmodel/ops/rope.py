"""Rotary position embedding: each pair of elements of a head is rotated by an angle proportional to the position.

(a, b) becomes (a cos - b sin, a sin + b cos): two multiplications and one addition per element.
"""

from __future__ import annotations

from perfmodel.arithmetic import Size
from perfmodel.mixes import ROTATE
from perfmodel.op import Engine, Op, Tensor, Work, each
from perfmodel.operation import Backward, Example, Valid, operation
from perfmodel.runs import Stream


@operation(
    summary="rotary position embedding of queries and keys",
    example=Example(
        at={"B": 1, "N": 2, "H": 2, "H_kv": 1, "d": 4},
        flops=72,
        traffic=96,
        because="q 16 and k 8 elements x 3; each read and written, 2 bytes",
    ),
    sources=("Su et al. 2021",),
    valid=(Valid("d % 2 == 0", "elements are rotated in pairs, so d must be even"),),
    backward=(Backward("rope"),),
    per_token=True,
)
def rope(B: Size, N: Size, H: Size, H_kv: Size, d: Size, act: Size = 2) -> Op:
    """The backward pass is the rotation by the opposite angle, with the same counts.

    NB the table of cosines and sines, N d elements for all heads and sequences, is not counted: 1 / (2 B (H + H_kv)) of
    the traffic, 0.8 % at B = 1 and 32 + 32 heads.
    """
    queries, keys = (B, N, H, d), (B, N, H_kv, d)
    return Op(
        tensors=(
            Tensor("q", queries, act, reads=1),
            Tensor("k", keys, act, reads=1),
            Tensor("q_turned", queries, act, writes=1),
            Tensor("k_turned", keys, act, writes=1),
        ),
        work=(
            Work("rotate q", each(ROTATE, B, N, H, d), Engine.VECTOR),
            Work("rotate k", each(ROTATE, B, N, H_kv, d), Engine.VECTOR),
        ),
        runs=Stream(),
    )
