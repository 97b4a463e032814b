"""A step under FSDP: ``fully_shard`` on each layer and on the whole model.

A replica keeps a shard of every parameter. A layer is gathered before its forward pass and, with ZeRO 3, again before
its backward pass. The previous layer of that pass runs at the same time. The sums of its gradients are scattered after
its backward pass. The optimizer updates the shards.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from perfmodel.arithmetic import ceil_div
from perfmodel.aten.calls import ITEMS, Call, Operand
from perfmodel.patterns import ALL_GATHER, REDUCE_SCATTER
from perfmodel.programs.program import Host, Program, Step
from perfmodel.programs.wrapping import COMMUNICATION, PHASE, Gradient, Wrapped, dense

_LAYER = re.compile(r"^(?:[^.]+\.)*?\d+(?=\.|$)")  # the path up to the first number: one of a list of layers
ROOT = ""
HOOKS = Host(units=1)  # FSDP runs its Python hooks once before this step


class _Unit(NamedTuple):
    """The parameters that FSDP gathers at once: those of a layer, or with the name ``ROOT`` all others."""

    name: str
    storages: tuple[int, ...]
    byte: int
    dtype: str


class Sharded(Wrapped):
    """A program under FSDP, on one of ``ranks`` replicas. ``zero`` 3 gathers layers again for the backward pass, 2 does not."""

    def __init__(self, source: Program, found: Sequence[Gradient], ranks: int, zero: int) -> None:
        super().__init__(source, ranks)
        self.found, self.gathers_again = found, zero == 3
        self.parameters = {storage for storage, one in source.resident.items() if one.role == "parameter"}
        self.shards: dict[int, Operand] = {}  # shards of parameters and gradients by the storage of the whole
        self._frees: dict[int, tuple[int, ...]] = {}
        self._gathers: dict[str, list[Step]] = {}
        own = self._units()
        forward = self._spans("forward", own)
        backward = self._spans("backward", own)
        for unit in own.values():
            self._forward(unit, forward, backward)
        order = sorted((name for name in backward if name), key=lambda name: backward[name][0])
        for name, following in zip(order, [*order[1:], None], strict=True):
            self._backward(own[name], backward[name][0], own[following] if following else None)
        for unit in own.values():
            self._scatter(unit, backward)
        self._shard_states()

    def _units(self) -> dict[str, _Unit]:
        """Returns the units by name, and replaces the resident parameters by their shards.

        The data type of a unit is that of a gradient as large as one of its parameters, or fp32 without one.
        """
        types = {one.tensor.byte: one.tensor.dtype for one in self.found}
        groups: dict[str, list[int]] = {}
        for storage, one in self.source.resident.items():
            if one.role == "parameter":
                groups.setdefault(unit_of(one.name), []).append(storage)
        found: dict[str, _Unit] = {}
        for name, storages in groups.items():
            sizes = [int(self.source.resident[storage].byte) for storage in storages]
            dtype = next((types[size] for size in sizes if size in types), "fp32")
            found[name] = _Unit(name, tuple(storages), sum(sizes), dtype)
            for storage, size in zip(storages, sizes, strict=True):
                role = self.resident.pop(storage)
                shard = self.flat(ceil_div(size, self.ranks), dtype)
                self.shards[storage] = shard
                self.resident[shard.storage] = role._replace(byte=shard.storage_byte)
        return found

    def _spans(self, phase: str, own: Mapping[str, _Unit]) -> dict[str, tuple[int, int]]:
        """Returns the first and the last step of each unit in a phase. The root unit spans the phase."""
        numbers = [number for number, step in enumerate(self.source.steps) if step.phase == phase]
        found: dict[str, tuple[int, int]] = {ROOT: (numbers[0], numbers[-1])} if numbers else {}
        for number in numbers:
            name = unit_of(self.source.steps[number].module)
            if name and name in own:
                found[name] = (found.get(name, (number, number))[0], number)
        return found

    def _gathering(self, unit: _Unit) -> tuple[list[Step], list[Step]]:
        """Returns the steps that begin to gather a unit (copy in, collective) and those that end it (copy out)."""
        shards = [self.shards[storage] for storage in unit.storages]
        part, whole = self.flat(sum(x.storage_byte for x in shards), unit.dtype), self.flat(unit.byte, unit.dtype)
        copy_in = Call("_foreach_copy_", (_parts(part, shards), tuple(shards)), {}, (part,))
        begin = [
            Step(copy_in, unit.name, PHASE, COMMUNICATION, HOOKS, source="fsdp::all_gather_copy_in"),
            self.collective(ALL_GATHER, part, whole, unit.name)._replace(frees=(part.storage,)),
        ]
        made = tuple(
            Operand((int(one.byte) // int(ITEMS[unit.dtype]),), unit.dtype, (1,), storage, int(one.byte))
            for storage, one in ((storage, self.source.resident[storage]) for storage in unit.storages)
        )
        copy_out = Call("split_with_sizes_copy", (whole,), {}, made)
        return begin, [Step(copy_out, unit.name, PHASE, frees=(whole.storage,), source="fsdp::split_with_sizes_copy")]

    def _forward(self, unit: _Unit, forward: Mapping[str, tuple[int, int]], backward: Mapping[str, Any]) -> None:
        if unit.name not in forward:
            return
        first, last = forward[unit.name]
        begin, end = self._gathering(unit)
        place = self.before.setdefault(first, [])
        place[:] = [*begin, *end, *place] if unit.name == ROOT else [*place, *begin, *end]
        if unit.name != ROOT and (self.gathers_again or not backward):
            self._free(last, unit.storages)

    def _backward(self, unit: _Unit, first: int, following: _Unit | None) -> None:
        """Gathers a layer before its backward pass, and begins to gather the following layer."""
        if not self.gathers_again:
            return
        begun = unit.name in self._gathers
        begin, end = ([], self._gathers.pop(unit.name)) if begun else self._gathering(unit)
        ahead: list[Step] = []
        if following is not None:
            ahead, self._gathers[following.name] = self._gathering(following)
        self.before.setdefault(first, []).extend([*begin, *end, *ahead])

    def _scatter(self, unit: _Unit, backward: Mapping[str, tuple[int, int]]) -> None:
        """Joins the gradients of a unit after its backward pass; each rank gets the sum of its part."""
        if unit.name not in backward:
            return
        own = [one for one in self.found if unit_of(one.module) in (unit.name, *([] if unit.name else self._foreign()))]
        if not own:
            return
        last = max(backward[unit.name][1], *(one.step for one in own))
        whole = self.flat(sum(int(one.tensor.byte) for one in own), own[0].tensor.dtype)
        part = self.flat(ceil_div(whole.storage_byte, self.ranks), own[0].tensor.dtype)
        for one in own:
            byte = ceil_div(int(one.tensor.byte), self.ranks)
            number = ceil_div(byte, int(one.tensor.item))
            self.shards[one.tensor.storage] = Operand(
                (number,), one.tensor.dtype, (1,), part.storage, part.storage_byte
            )
        gone = (*(one.tensor.storage for one in own), *(unit.storages if unit.name else ()))
        given = tuple(dense(one.tensor) for one in own)
        copy_in = Step(Call("cat", (given,), {}, (whole,)), unit.name, PHASE, 0, HOOKS, gone, "fsdp::chunk_cat")
        scatter = self.collective(REDUCE_SCATTER, whole, part, unit.name)._replace(frees=(whole.storage,))
        self.after.setdefault(last, []).extend([copy_in, scatter])

    def _foreign(self) -> set[str]:
        """Returns the layers that have gradients but no parameters of their own."""
        own = {unit_of(one.name) for one in self.source.resident.values() if one.role == "parameter"}
        return {unit_of(one.module) for one in self.found} - own

    def _free(self, number: int, storages: tuple[int, ...]) -> None:
        self._frees[number] = (*self._frees.get(number, ()), *storages)

    def _shard_states(self) -> None:
        for storage, one in self.resident.items():
            if one.role == "state" and int(one.byte) > max(ITEMS.values()):
                self.resident[storage] = one._replace(byte=ceil_div(int(one.byte), self.ranks))

    def program(self) -> Program:
        found = super().program()
        numbers = {id(step): number for number, step in enumerate(self.source.steps)}
        return found._replace(
            steps=tuple(
                step._replace(frees=(*step.frees, *self._frees[numbers[id(step)]]))
                if numbers.get(id(step)) in self._frees
                else step
                for step in found.steps
            )
        )

    def changed(self, step: Step) -> Step:
        """Returns a step of the source, with shards for the optimizer."""
        if step.phase != "optimizer":
            return step
        call = step.call
        keywords = {key: self._sharded(value) for key, value in call.keywords.items()}
        parameters = {x.storage for x in call.operands if x.storage in self.parameters}
        return step._replace(
            host=step.host._replace(shards=len(parameters)),
            call=call._replace(
                arguments=self._sharded(call.arguments), keywords=keywords, results=self._sharded(call.results)
            ),
        )

    def _sharded(self, value: Any) -> Any:
        """Returns the value with its tensors replaced by their shards."""
        if isinstance(value, Operand):
            if value.storage in self.shards:
                return self.shards[value.storage]
            state = self.source.resident.get(value.storage)
            if state is None or state.role != "state" or value.numel <= 1:
                return value
            number = ceil_div(int(value.numel), self.ranks)
            return value._replace(shape=(number,), strides=(1,), storage_byte=int(number * value.item))
        return tuple(self._sharded(item) for item in value) if type(value) in (tuple, list) else value


def unit_of(path: str) -> str:
    """Returns the layer of a module or a parameter, or ``ROOT``: ``model.layers.3`` for ``model.layers.3.mlp``."""
    found = _LAYER.match(path)
    return found.group() if found else ROOT


def _parts(whole: Operand, shards: Sequence[Operand]) -> tuple[Operand, ...]:
    """Returns the shards as parts of a flat tensor."""
    return tuple(x._replace(storage=whole.storage, storage_byte=whole.storage_byte) for x in shards)
