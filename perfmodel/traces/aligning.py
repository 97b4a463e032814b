"""Shapes for the kernels of a CUDA graph from the program that it ran: both are sequences of the same operations.

The operation that a kernel's name tells and the operations that the program's calls launch are compared as two texts are;
what agrees in order belongs together. Kernels that only one side has, such as the fill before a product, stay as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from difflib import SequenceMatcher
from typing import NamedTuple

from perfmodel import aten
from perfmodel.aten.calls import Call, Launched
from perfmodel.programs.program import Program
from perfmodel.traces.inference import computed, seen
from perfmodel.traces.pricing import PROGRAM, Group

# Operations under one word: what a name tells is coarser than what a call says.
_WORDS = {
    "matmul": "product", "linear": "product", "linear_bias": "product", "gemm": "product", "expert_linear": "product",
    "attention": "attention", "attention_backward_recompute": "attention_backward", "embedding": "gather",
    "reduce_max": "reduce_sum", "argmax": "reduce_sum", "log_softmax": "softmax", "sub": "add", "scatter": "gather",
    "scatter_add": "gather", "adam_step": "optimizer", "sgd_step": "optimizer", "foreach": "optimizer",
    "gradient_norm": "optimizer", "rmsnorm": "layernorm",
}  # fmt: skip
_FAMILIES = ("product", "attention", "attention_backward")


class Wanted(NamedTuple):
    """One kernel that the program launches: its word, the kernel, the call and the module."""

    word: str
    launched: Launched
    call: Call
    module: str


def aligned(groups: Sequence[Group], program: Program) -> list[Group]:
    """The groups, those without shapes with the sizes of the program's kernels where the two sequences agree."""
    hidden = [place for place, group in enumerate(groups) if group.call is None]
    wanted = _wanted(program)
    words = [_word(groups[place]) for place in hidden]
    found = list(groups)
    matcher = SequenceMatcher(None, words, [one.word for one in wanted], autojunk=False)
    for first, second, length in matcher.get_matching_blocks():
        for step in range(length):
            found[hidden[first + step]] = _given(groups[hidden[first + step]], wanted[second + step])
    return found


def _wanted(program: Program) -> list[Wanted]:
    return [
        Wanted(_WORDS.get(one.operation, one.operation), one, step.call, step.module)
        for step in program.steps for one in aten.launched(step.call)
    ]  # fmt: skip


def _word(group: Group) -> str:
    """The operation of a kernel by its name alone, an empty text if the name does not tell."""
    what = seen(max(group.kernels, key=lambda one: one.activity.seconds).activity)
    if what.family in _FAMILIES:
        return what.family if "splitKreduce" not in what.activity.name else ""
    made = computed(what, what.elements or 1 << 20, 1 << 10)
    return _WORDS.get(made[0].operation, made[0].operation) if made else ""


def _given(group: Group, wanted: Wanted) -> Group:
    kernels = tuple(one._replace(module=one.module or wanted.module) for one in group.kernels)
    return group._replace(kernels=kernels, launched=(wanted.launched,), call=wanted.call, source=PROGRAM)
