"""The mode that sees every operator that torch dispatches, and records those that work on a GPU's tensors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from perfmodel.aten.calls import Operand
from perfmodel.aten.views import VIEWS
from perfmodel.capture.data import SPECIALS
from perfmodel.capture.estimates import SECOND, Estimate, expected
from perfmodel.capture.guesses import Guesses
from perfmodel.capture.overrides import OVERRIDES, PARTS, SHAPES
from perfmodel.capture.shapes import Shapes
from perfmodel.capture.storages import dtype_name, host_operand
from perfmodel.capture.tape import Tape
from perfmodel.capture.values import Values

META = torch.device("meta")
_Tensor = torch.Tensor
# Keywords that say where a result lies, which is on the card in every case.
_PLACEMENT = frozenset(("device", "layout", "pin_memory", "generator", "non_blocking"))


class Plan(NamedTuple):
    """How one overload of an operator is handled: ``special`` replaces everything else."""

    name: str
    overload: str
    view: bool
    mutates: bool
    special: Callable[..., Any] | None


class Recorder(TorchDispatchMode):  # type: ignore[misc]
    """Records operators on meta tensors. Operators on tensors of the host alone are executed and not recorded."""

    def __init__(self, tape: Tape, values: Values, guesses: Guesses, twin: Callable[[torch.Tensor], torch.Tensor]):
        super().__init__()
        self.tape = tape
        self.values = values
        self.guesses = guesses
        self.twin = twin
        self._estimates: dict[int, Estimate] = {}
        self._plans: dict[Any, Plan] = {}
        self._shapes = Shapes()
        self.on_card = self.on_host = False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        plan = self._plans.get(func) or self._plan(func)
        kwargs = kwargs or {}
        if plan.special is not None:
            return plan.special(self, plan, func, args, kwargs)
        if plan.view:
            result = func(*args, **kwargs)
            if self._meta(result):
                self.tape.views += plan.name != "detach"  # autograd detaches the results that it keeps
                self.values.follow(plan.name, False, func, args, kwargs, result)
            return result
        return self.call(plan, func, args, kwargs)

    def _plan(self, func: Any) -> Plan:
        packet, overload = func._schema.name.partition("::")[2], func._schema.overload_name
        special = SPECIALS.get(f"{packet}.{overload}") or SPECIALS.get(packet)
        if special is None and packet in SHAPES:
            special = _shaped(SHAPES[packet])
        elif special is None and _implicit(func):
            replaced = OVERRIDES.get(f"{packet}.{overload}") or OVERRIDES.get(packet)
            special = _taken_apart if replaced is None else _as_on_a_card(replaced)
        elif special is None and packet in PARTS:
            special = _as_on_a_card(PARTS[packet])
        plan = Plan(packet, overload, packet in VIEWS, func._schema.is_mutable, special)
        self._plans[func] = plan
        return plan

    def call(self, plan: Plan, func: Any, args: Any, kwargs: Any) -> Any:
        """Executes an operator for its shapes, and records it if it is one of the card."""
        arguments, keywords = self.described(args, kwargs)
        if self.on_card and self.on_host:
            args, kwargs = self.moved(args), self.moved(kwargs)
        if plan.mutates or not self.on_card:
            result = func(*args, **kwargs)
        else:
            result = self._shapes.result(func, args, kwargs, (arguments, keywords))
        if self.on_card or self._meta(result):
            self.tape.record(plan.name, arguments, keywords, self.results(result), plan.overload)
            self.values.follow(plan.name, plan.mutates, func, args, kwargs, result)
            estimate = expected(plan.name, args, kwargs, self.estimate)
            if estimate is not None:
                self.expect(result[1] if plan.name in SECOND else result, *estimate)
        return result

    def state(self, name: str, args: Any, kwargs: dict[str, Any], results: Any) -> None:
        """Records a call that does not come through torch's dispatcher."""
        self.tape.record(name, *self.described(args, kwargs), self.results(results))

    def described(self, args: Any, kwargs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Arguments and keywords as data."""
        self.on_card = self.on_host = False
        return self._converted(args), {key: self._value(x) for key, x in kwargs.items() if key not in _PLACEMENT}

    def read(self, tensor: torch.Tensor) -> torch.Tensor:
        """A tensor in the memory of the host with the known, expected or guessed values of one on the card."""
        self.tape.waits = True
        real = self.values.of(tensor)
        if real is not None:
            return real.detach()
        estimate = self.estimate(tensor)
        number = estimate.number if estimate else 1
        whole = not tensor.dtype.is_floating_point
        guess = self.guesses.answer("list", f"each of {tensor.numel()} values", round(number) if whole else number)
        if isinstance(guess, (list, tuple)):
            return torch.tensor(guess, dtype=tensor.dtype)
        return torch.full(tensor.shape, guess, dtype=tensor.dtype)

    def estimate(self, tensor: torch.Tensor) -> Estimate | None:
        """Returns the estimate of the values of a tensor, if there is one."""
        return self._estimates.get(self.tape.storages.reference(tensor).number) if tensor.is_meta else None

    def expect(self, result: Any, kind: str, value: float) -> None:
        """Stores an estimate of the values of a result."""
        first = result[0] if isinstance(result, (tuple, list)) else result
        self._estimates[self.tape.storages.reference(first).number] = Estimate(kind, value)

    def results(self, result: Any) -> tuple[Operand, ...]:
        """All tensors that an operator returned."""
        if isinstance(result, _Tensor):
            return (self.tape.storages.operand(result),)
        if isinstance(result, (tuple, list)):
            return tuple(operand for item in result for operand in self.results(item))
        return ()

    def _converted(self, values: Any) -> tuple[Any, ...]:
        return tuple([self._value(value) for value in values])

    def _value(self, value: Any) -> Any:
        """An argument as data. Notes whether tensors of the card and of the host are among them."""
        if isinstance(value, _Tensor):
            if value.is_meta:
                self.on_card = True
                return self.tape.storages.operand(value)
            self.on_host |= value.dim() > 0
            return host_operand(value)
        kind = type(value)
        if kind is list or kind is tuple:
            return self._converted(value)
        if kind is torch.dtype:
            return dtype_name(value)
        if kind is torch.memory_format:
            return str(value).removeprefix("torch.")
        if kind is torch.SymInt and self.tape.storages.plain:
            return self.tape.storages.plain(value)
        return None if kind is torch.device or kind is torch.Generator or kind is torch.layout else value

    def moved(self, value: Any) -> Any:
        """The arguments with every tensor of the host replaced by its twin on the card."""
        if isinstance(value, _Tensor):
            return value if value.is_meta or value.dim() == 0 else self.twin(value)
        if isinstance(value, (tuple, list)):
            return type(value)([self.moved(item) for item in value])
        if isinstance(value, dict):
            return {key: self.moved(item) for key, item in value.items()}
        return value

    def _meta(self, result: Any) -> bool:
        if isinstance(result, _Tensor):
            return bool(result.is_meta)
        return isinstance(result, (tuple, list)) and any(self._meta(item) for item in result)


def _taken_apart(recorder: Recorder, plan: Plan, func: Any, args: Any, kwargs: Any) -> Any:
    """An operator that is only ever the sum of others. It gets here in inference mode, where no gradients are kept. One
    that gets here otherwise is called as a whole on a card too.
    """
    if not torch.is_inference_mode_enabled():
        return recorder.call(plan, func, args, kwargs)
    with recorder:
        return func.decompose(*args, **kwargs)


def _as_on_a_card(function: Callable[..., Any]) -> Callable[..., Any]:
    def special(recorder: Recorder, plan: Plan, func: Any, args: Any, kwargs: Any) -> Any:
        with recorder:
            return function(*args, **kwargs)

    return special


def _shaped(function: Callable[..., Any]) -> Callable[..., Any]:
    """An operator without a form on the meta device: a function makes its results."""

    def special(recorder: Recorder, plan: Plan, func: Any, args: Any, kwargs: Any) -> Any:
        return recorder.call(plan, function, args, kwargs)

    return special


def _implicit(func: Any) -> bool:
    """Returns whether an operator always decomposes into others, so that no device has a kernel for it."""
    has, name, keys = torch._C._dispatch_has_kernel_for_dispatch_key, func.name(), torch._C.DispatchKey
    return bool(has(name, keys.CompositeImplicitAutograd) and not has(name, keys.CPU))
