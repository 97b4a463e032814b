"""Programs whose sizes are symbols: their counts as formulas, and the program of given sizes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any, NamedTuple

from perfmodel.aten import launched
from perfmodel.aten.calls import Operand
from perfmodel.errors import InputError, near_or_known
from perfmodel.programs.program import Program, Step


class Counts(NamedTuple):
    """Sums over a program: whole numbers, or formulas where its sizes are symbols."""

    flops: Any
    contraction_flops: Any
    traffic_byte: Any


def counts(program: Program) -> Counts:
    """FLOPs, FLOPs of products, and bytes moved by all kernels. Equal terms are counted, then added once."""
    terms: tuple[Counter[Any], ...] = (Counter(), Counter(), Counter())
    for step in program.steps:
        for kernel in launched(step.call):
            for term, value in zip(terms, (kernel.op.flops(), kernel.op.contraction_flops(), kernel.op.traffic_byte()), strict=True):  # fmt: skip
                term[value] += 1
    return Counts(*(sum(value * times for value, times in term.items()) for term in terms))


def at(program: Program, sizes: Mapping[str, int]) -> Program:
    """The program with numbers for its symbols: those given, and for others the values that its branches were taken at."""
    for name in sizes:
        if name not in program.dims:
            raise InputError(f"at({name}=...)", f"the program has no size '{name}'", "", near_or_known(name, program.dims) or "Leave it out.")  # fmt: skip
    numbers = _Numbers({**program.dims, **sizes})
    return program._replace(
        steps=tuple(numbers.step(step) for step in program.steps),
        resident={key: held._replace(byte=numbers(held.byte)) for key, held in program.resident.items()},
        dims={},
        traced=at(program.traced, sizes) if program.traced else None,
    )


class _Numbers:
    """Replaces symbols by numbers. Each formula is evaluated once."""

    def __init__(self, sizes: Mapping[str, int]) -> None:
        self._sizes = sizes
        self._known: dict[Any, int] = {}

    def __call__(self, value: Any) -> Any:
        if isinstance(value, Operand):
            return Operand(self(value.shape), value.dtype, self(value.strides), value.storage, self(value.storage_byte))
        if type(value) is tuple:
            return tuple([self(item) for item in value])
        if not hasattr(value, "free_symbols"):
            return value
        if value not in self._known:
            self._known[value] = int(value.subs({x: self._sizes[x.name] for x in value.free_symbols}))
        return self._known[value]

    def step(self, step: Step) -> Step:
        call = step.call
        keywords = {key: self(value) for key, value in call.keywords.items()}
        return step._replace(call=call._replace(arguments=self(call.arguments), keywords=keywords, results=self(call.results)))  # fmt: skip
