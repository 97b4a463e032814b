"""Memory of a serving stack: weights, a cache in blocks, and the largest batch.

The cache of a sequence is stored in blocks of ``block`` tokens. Its last block is full, or holds any smaller number of
tokens: over many sequence lengths (block - 1) / 2 tokens of each sequence are wasted on average (Kwon et al. 2023).
"""

from __future__ import annotations

from typing import NamedTuple

from perfmodel import block as blocks
from perfmodel.arithmetic import ceil_div
from perfmodel.footprint import inference
from perfmodel.footprint.lines import cache_lines, state_lines
from perfmodel.footprint.reserve import DEFAULT, Reserve
from perfmodel.plans.division import divided
from perfmodel.service.step import Chunk, Stepper


class Paging(NamedTuple):
    """Bytes of one GPU. ``sequence_byte``: the cache of one sequence in whole blocks.

    ``room_byte``: what weights, workspace and reserve leave. ``waste``: the mean share of the cache that is wasted by
    blocks that are not full.
    """

    block: int
    weight_byte: int
    workspace_byte: int
    token_byte: int
    sequence_byte: int
    room_byte: int
    largest_batch: int
    waste: float


def paging(
    stepper: Stepper, context: int, step: Chunk, *, block: int, capacity_byte: int, reserve: Reserve = DEFAULT,
    others_byte: int = 0,
) -> Paging:  # fmt: skip
    """Memory at ``context`` tokens per sequence; ``step`` is the chunk that needs the largest workspace."""
    weight_byte, workspace_byte = _resident(stepper, step)
    padded = ceil_div(context, block) * block
    sequence_byte = cache_byte(stepper, padded)
    token_byte = sequence_byte - cache_byte(stepper, padded - 1) if padded > 2 else sequence_byte
    room_byte = capacity_byte - reserve.byte(capacity_byte) - weight_byte - workspace_byte - others_byte
    largest = max(0, room_byte) // sequence_byte if sequence_byte else 0
    lost = (block - 1) / 2
    return Paging(
        block, weight_byte, workspace_byte, token_byte, sequence_byte, room_byte, largest, lost / (context + lost)
    )


def weight_byte(stepper: Stepper) -> int:
    """Bytes of the weights on one GPU."""
    return _resident(stepper, Chunk(1))[0]


def cache_byte(stepper: Stepper, tokens: int) -> int:
    """Bytes of keys, values and states of one sequence of that many tokens on one GPU."""
    dims = stepper.dims(Chunk(1, max(1, tokens - 1)))
    steps = divided(stepper.workload.steps_in("decode", stepper.form), dims, stepper.plan(dims), train=False).steps
    lines = [*cache_lines(inference.cache(steps, dims), 1),
             *state_lines(inference.states(steps, dims), dims.get("cache", dims.get("act", 2)), 1)]  # fmt: skip
    return sum(line.byte_per_gpu for line in lines)


def _resident(stepper: Stepper, step: Chunk) -> tuple[int, int]:
    """Bytes of the weights, and of the tensors between kernels in a step."""
    dims = stepper.dims(step)
    steps = divided(stepper.workload.steps_in("decode", stepper.form), dims, stepper.plan(dims), train=False).steps
    own = tuple(blocks.wholes(steps, dims))
    space = inference.workspace(steps, dims, fused=stepper.workload.fused, keeps_cache=True)
    return blocks.stored_byte(own), space.operand_byte + space.waiting_byte
