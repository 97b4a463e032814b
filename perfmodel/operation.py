"""An operation and its page: the function from sizes to an Op, with its title, worked example, sources and domain."""

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, NamedTuple

from perfmodel import routing
from perfmodel.errors import InputError, did_you_mean
from perfmodel.expression import Expression
from perfmodel.op import Op
from perfmodel.symbols import ALIASES, SYMBOLS
from perfmodel.units import checked_item, checked_size


class Example(NamedTuple):
    """A hand-worked example: sizes, the counts, and the arithmetic that gives them.

    ``traffic`` is the fused count in bytes, ``unfused`` the sum over the kernels of the unfused form.
    """

    at: dict[str, int]
    flops: int
    traffic: int
    because: str
    unfused: int | None = None


class Backward(NamedTuple):
    """An operation of the backward pass, with its sizes where they differ from the forward sizes of the same name.

    ``fused`` names the operation that replaces it after a fused forward pass, which keeps no spilled tensor. ``keeps``
    names the forward tensors that it reads under another name.
    """

    operation: str
    sizes: tuple[tuple[str, str], ...] = ()
    fused: str = ""
    keeps: tuple[str, ...] = ()


class Valid(NamedTuple):
    """A condition under which a formula holds, and the sentence that explains it."""

    condition: str
    because: str


class Operation:
    """The function that builds an Op, with its title, example, sources and domain."""

    def __init__(self, function: Callable[..., Op], **page: Any) -> None:
        code = function.__code__
        self.function = function
        self.name: str = function.__name__
        self.module: str = function.__module__
        self.doc: str = function.__doc__ or ""
        self.arguments: tuple[str, ...] = code.co_varnames[: code.co_argcount]
        defaults = function.__defaults__ or ()
        self.defaults: dict[str, Any] = dict(
            zip(self.arguments[len(self.arguments) - len(defaults) :], defaults, strict=True)
        )
        self.required = tuple(name for name in self.arguments if name not in self.defaults)
        # Item sizes of one byte whatever the data type: masks that choose are booleans.
        self.booleans = {
            name: item for name, item in self.defaults.items() if SYMBOLS[name].kind == "item" and item == 1
        }
        self.summary: str = page["summary"]
        self.example: Example = page["example"]
        self.sources: tuple[str, ...] = page["sources"]
        self.valid: tuple[Valid, ...] = page.get("valid", ())
        self.backward: tuple[Backward, ...] = page.get("backward", ())
        self.apart: bool = page.get("apart", False)
        self.per_token: bool = page.get("per_token", False)
        self.stores = ""  # the format of its weights, where they are quantised
        self.computes = ""  # the type in which its products run, where the format sets it

    def __repr__(self) -> str:
        return f"<operation {self.name}({', '.join(self.arguments)})>"

    def __call__(self, **sizes: Any) -> Op:
        """Returns the Op at integer sizes, each checked."""
        return self.function(**self.checked(sizes))

    def checked(self, sizes: Mapping[str, Any], where: str = "") -> dict[str, Any]:
        """Returns all sizes under their own names, after checking that they are whole and inside the domain of the
        formula.
        """
        where = f"{where}: {self.name}" if where and where != self.name else self.name
        values = dict(self.defaults)
        for given, value in sizes.items():
            name = ALIASES.get(given, given)
            if name not in self.arguments:
                raise InputError(
                    where, f"'{given}' is not a size of it", f"it takes {', '.join(self.arguments)}",
                    did_you_mean(given, self.arguments),
                )  # fmt: skip
            values[name] = checked_value(name, value, f"{where}: {name}")
        self.require(values, where)
        self.check_rules(values, where)
        return values

    def check_rules(self, values: Mapping[str, Any], where: str) -> None:
        """Raises InputError for a rule that the sizes break. Rules about a size that is not a number are not tested."""
        for rule in self.valid:
            names = sorted(_condition(rule.condition, self.name).names)
            if not all(values.get(name) is None or isinstance(values[name], (int, float)) for name in names):
                continue
            if not self.holds(rule, values):
                at = ", ".join(f"{name} = {values[name]}" for name in names)
                raise InputError(where, f"{rule.condition} does not hold at {at}", rule.because, _change(names))

    def require(self, values: Mapping[str, Any], where: str) -> None:
        """Raises InputError unless every required size has a value."""
        missing = [name for name in self.required if name not in values]
        if missing:
            raise InputError(
                where, f"{', '.join(missing)} not given", f"it needs {', '.join(self.required)}",
                f"Set {missing[0]}: {SYMBOLS[missing[0]].meaning}.",
            )  # fmt: skip

    def holds(self, rule: Valid, values: Mapping[str, Any]) -> Any:
        """Whether the sizes satisfy the rule. A rule about an absent size (no window, for example) always holds."""
        expression = _condition(rule.condition, self.name)
        if any(values.get(name) is None for name in expression.names):
            return True
        return expression(values)


def _change(names: list[str]) -> str:
    """What to do where a rule about these sizes does not hold."""
    return f"Change {' or '.join(names)}, or a size that {'it depends' if len(names) == 1 else 'they depend'} on."


@cache
def _condition(text: str, where: str) -> Expression:
    return Expression(text, where, condition=True)


def checked_value(name: str, value: object, where: str) -> Any:
    """Returns a valid value for a symbol: a size, bytes per element, a flag (0 or 1), or None where it is optional."""
    kind = SYMBOLS[name].kind
    if kind == "flag":
        if not isinstance(value, (bool, int)) or value not in (0, 1):
            raise InputError(where, f"{value!r} is not a flag", "0 or 1 is accepted")
        return int(value)
    if kind == "optional" and value is None:
        return None
    if kind == "routing":
        return routing.checked(value, where)
    return checked_item(value, where) if kind == "item" else checked_size(value, where)


def operation(
    *,
    summary: str,
    example: Example,
    sources: tuple[str, ...],
    valid: tuple[Valid, ...] = (),
    backward: tuple[Backward, ...] = (),
    apart: bool = False,
    per_token: bool = False,
) -> Callable[[Callable[..., Op]], Operation]:
    """Decorator: registers the page of a function from sizes to an Op.

    ``apart``: libraries run the operation as separate kernels, so that is its default form. ``per_token``: B and N enter
    it and its gradients as their product only, so one sequence of B N tokens is the same work.
    """

    def page(function: Callable[..., Op]) -> Operation:
        return Operation(
            function,
            summary=summary,
            example=example,
            sources=sources,
            valid=valid,
            backward=backward,
            apart=apart,
            per_token=per_token,
        )

    return page


# Conditions of attention's counts.
GROUPED = Valid("H % H_kv == 0", "each group of query heads shares one key-value head, so H_kv must divide H")
PROMPT = Valid("causal * N <= S", "under a causal mask the last query stands at the last key, so N may not exceed S")
