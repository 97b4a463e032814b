"""Workloads: sizes with names, data types, phases and the steps of a model or a problem."""

from collections.abc import Mapping as Dict
from types import MappingProxyType
from typing import Any, NamedTuple

from perfmodel import formats, quantisation, routing
from perfmodel.block import Step
from perfmodel.errors import InputError, did_you_mean, near_or_known, shown
from perfmodel.expression import Expression
from perfmodel.operation import Operation, checked_value
from perfmodel.symbols import ALIASES, SYMBOLS
from perfmodel.units import ITEM_BYTES, checked_dtype, item_from_text, size_from_text

PHASES = ("prefill", "decode", "train")
COUNTS = ("all", "leading")
LOGITS = ("all", "last")
# The data type of each item size. A mask is stored like the activations that it is added to, and so is a result.
ROLES = {"weight": "weight", "act": "activation", "cache": "cache", "mask": "activation", "out": "activation"}
DTYPE_ROLES = ("weight", "activation", "cache")


class Workload(NamedTuple):
    """A workload before its sizes are chosen, from a file or for one operation.

    ``plain``: the same workload without quantisation, where its weights are quantised. A training step is that of ``plain``.
    """

    name: str
    file: str
    title: str
    sources: tuple[str, ...]
    dtypes: Dict[str, str]
    sizes: Dict[str, int | Expression]
    phases: Dict[str, Dict[str, int | Expression]]
    steps: tuple[Step, ...]
    counting: str = "all"
    fused: bool = True
    causal: bool = False
    loss: tuple[Step, ...] = ()
    notes: tuple[str, ...] = ()
    not_counted: tuple[str, ...] = ()
    decode: Dict[str, tuple[Step, ...]] = MappingProxyType({})
    longest: int | None = None
    logits: str = "all"
    plain: "Workload | None" = None

    def __repr__(self) -> str:
        return f"<Workload {self.name}: {self.title}, {len(self.steps)} steps, {', '.join(self.phases)}>"

    def steps_in(self, phase: str, form: str | None = None) -> tuple[Step, ...]:
        """The steps of a phase. A decoding step may have its own steps, in one or several forms; training adds the
        loss.
        """
        name = self.form_in(phase, form)
        if name:
            return self.decode[name]
        return (*(self.plain or self).steps, *self.loss) if phase == "train" else self.steps

    def form_in(self, phase: str, form: str | None = None) -> str:
        """The name of a phase's form, by default the first; empty for a phase without forms."""
        known = self.decode if phase == "decode" else {}
        if form is None:
            return next(iter(known), "")
        if form not in known:
            accepted = "the name of one of its forms is accepted" if known else "it has a single form without a name"
            elsewhere = "Choose --phase decode." if form in self.decode else "Remove --form."
            raise InputError(
                f"{self.name}: form {shown(form)}", f"its {phase} phase has no form of that name", accepted,
                near_or_known(form, known) if known else elsewhere,
            )  # fmt: skip
        return form

    @property
    def default_phase(self) -> str:
        return next(iter(self.phases))

    def settable(self) -> frozenset[str]:
        """The symbols that ``--set`` accepts: the workload's sizes, and arguments that no step fixes."""
        own = set(self.sizes).union(*self.phases.values())
        for step in (*self.steps, *(step for steps in self.decode.values() for step in steps)):
            reached = (name for name in step.operation.arguments if step.windowed or name != "W")
            own.update(name for name in reached if name not in step.sizes)
        return frozenset(own)

    def with_dtype(self, dtype: str) -> "Workload":
        """The workload with one data type for all roles.

        It replaces quantised weights that the model's config states. Those that were chosen by ``NAME@FORMAT`` stay.
        """
        dtypes = dict.fromkeys(DTYPE_ROLES, checked_dtype(dtype))
        if self.plain is None:
            return self._replace(dtypes=dtypes)
        plain = self.plain._replace(dtypes=dtypes)
        return self._replace(dtypes=dtypes, plain=plain) if self.name != self.plain.name else plain

    @property
    def stores(self) -> bool:
        """Whether any weights are quantised, but for training."""
        return any(step.operation.stores for step in self.steps)

    def with_logits(self, which: str) -> "Workload":
        """The workload with the logits of all positions, or of the last position of each sequence."""
        steps = (*self.steps, *(step for steps in self.decode.values() for step in steps))
        if which not in LOGITS:
            raise InputError(f"logits {shown(which)}", "it is not a choice", f"{' and '.join(LOGITS)} are accepted")
        if which == self.logits:
            return self
        if "decode" not in self.phases or not any(map(is_logits, steps)):
            raise InputError(
                f"{self.name}: logits {which}", "the workload computes no logits of a next token", "a model with a decode phase and a step named 'logits' is accepted",
                "Remove --logits.",
            )  # fmt: skip
        decode = {form: tuple(map(last_position, steps)) for form, steps in self.decode.items()}
        return self._replace(steps=tuple(map(last_position, self.steps)), decode=decode, logits=which)

    def dims(self, phase: str, settings: Dict[str, Any] | None = None, *, checked: bool = True) -> dict[str, Any]:
        """Every size as a number. The phase overrides the file, and ``settings`` override both."""
        return resolved(self.given(phase, settings), self.name, checked=checked)

    def given(self, phase: str, settings: Dict[str, Any] | None = None) -> dict[str, Any]:
        """Every size as a number or an expression. The phase overrides the file, and ``settings`` override both."""
        if phase not in self.phases:
            raise InputError(
                self.file, f"this workload has no phase '{phase}'",
                f"{', '.join(self.phases)} are accepted", f"Choose --phase {self.default_phase}.",
            )  # fmt: skip
        if phase == "train" and self.logits == "last":
            raise InputError(
                f"{self.name}: logits last", "the loss of a training step reads the logits of every position",
                "prefill and decode are accepted", "Remove --logits.",
            )  # fmt: skip
        if phase == "train" and self.plain is not None and self.plain.title != self.title:
            own = self.plain.name if self.plain.name != self.name else f"{self.plain.name} without 'weights'"
            raise InputError(
                f"{self.name}: phase train", "its weights are quantised, and a training step updates unquantised weights",
                "prefill and decode are accepted", f"Choose another phase, or train {own}.",
            )  # fmt: skip
        chosen = {ALIASES.get(name, name): value for name, value in (settings or {}).items()}
        known = self.settable()
        unknown = next((name for name in chosen if name not in known), None)
        if unknown is not None:
            raise InputError(
                f"{self.name}: set {unknown}", "it is not a symbol of this workload",
                f"its symbols are {', '.join(sorted(known, key=list(SYMBOLS).index))}",
                did_you_mean(unknown, known),
            )  # fmt: skip
        return {**self.sizes, **self.phases[phase], **self.items(), **chosen}

    def items(self) -> dict[str, int | float]:
        """Bytes per element of the roles that the operations use, from the data types."""
        found = {symbol: ITEM_BYTES[self.dtypes[role]] for symbol, role in ROLES.items()}
        booleans = {symbol for step in self.steps for symbol in step.operation.booleans}
        read = self.settable() - booleans
        return {symbol: value for symbol, value in found.items() if symbol in read}


def with_weights(given: Workload, text: str) -> Workload:
    """The workload with the weights of its layers in a quantised format, such as ``int4-g128``."""
    where = f"{given.name}: weights {shown(text)}"
    form = formats.named(text, where)
    plain = given.plain or given
    chosen = quantisation.of_layers(plain.steps, form)
    if not any(map(chosen, plain.steps)):
        products = ", ".join(quantisation.PRODUCTS)
        raise InputError(where, "it has no product of weights", f"a workload with {products} is accepted", "Remove it.")
    found = stored(plain, chosen, f"Weights of the layers are in {form.text}: {form.means}.")
    title = f"{plain.title}, weights in {form.text}"
    return found._replace(name=f"{plain.name.partition('@')[0]}@{form.text}", title=title)


def stored(given: Workload, chosen: quantisation.Chosen, note: str) -> Workload:
    """The workload with the weights of each step in the format that is chosen for it."""
    return given._replace(
        steps=quantisation.quantised(given.steps, chosen),
        decode={name: quantisation.quantised(steps, chosen) for name, steps in given.decode.items()},
        plain=given,
        notes=(*given.notes, f"{note} A training step has unquantised weights."),
    )


def is_logits(step: Step) -> bool:
    """Whether a step computes or changes the scores over the vocabulary."""
    return step.name.split(".")[0] == "logits"


def last_position(step: Step) -> Step:
    """A logits step for one position of each sequence; any other step unchanged."""
    if not is_logits(step):
        return step
    sizes = {name: size.fixed("N", 1) for name, size in step.sizes.items()}
    own = {"N": Expression("1", step.name)} if "N" in step.operation.arguments else {}
    return step._replace(sizes={**sizes, **own})


def resolved(sizes: Dict[str, Any], where: str, *, checked: bool = True) -> dict[str, Any]:
    """The sizes with all expressions evaluated, each after those that it depends on."""
    values = {name: value for name, value in sizes.items() if not isinstance(value, Expression)}
    waiting = {name: value for name, value in sizes.items() if isinstance(value, Expression)}
    while waiting:
        ready = [name for name, value in waiting.items() if not (value.names & waiting.keys())]
        if not ready:
            raise InputError(
                where, f"the sizes {', '.join(sorted(waiting))} depend on each other",
                "sizes without circular dependencies are accepted", "Set one of them to a number.",
            )  # fmt: skip
        for name in ready:
            values[name] = waiting.pop(name)(values)
    if checked:
        values = {name: checked_value(name, value, f"{where}: {name}") for name, value in values.items()}
    return {name: values[name] for name in sizes}


def setting(text: str) -> tuple[str, int | float | Expression]:
    """A setting such as ``N=8Ki`` or ``S=N``: the symbol, and its size or expression."""
    name, equals, value = text.partition("=")
    name = ALIASES.get(name.strip(), name.strip())
    if not name or not equals or not value.strip():
        raise InputError(
            f"--set {shown(text)}", "it is not of the form SYMBOL=VALUE",
            "a symbol and a size, such as N=8Ki, or an expression of sizes, such as S=N, is accepted", "Write, for example, N=2048.",
        )  # fmt: skip
    if name not in SYMBOLS:
        raise InputError(
            f"--set {name}", "it is not a symbol", "the letters of 'perfmodel symbols' are accepted",
            did_you_mean(name, SYMBOLS),
        )  # fmt: skip
    return name, size_or_expression(name, value.strip(), f"--set {name}")


def size_or_expression(name: str, text: str, where: str) -> int | float | Expression:
    """A size, or an expression of sizes where the text does not start like a number."""
    if SYMBOLS[name].kind == "flag":
        if text not in ("0", "1"):
            raise InputError(where, f"{shown(text)} is not a flag", "0 or 1 is accepted")
        return int(text)
    if SYMBOLS[name].kind == "routing":
        return routing.from_text(text, where)  # type: ignore[return-value]
    if text[0].isalpha() or text[0] in "(_" or any(c in text for c in "*/%"):
        if text.casefold() in ("nan", "inf", "infinity"):
            return size_from_text(text, where)
        return Expression(text, where)
    return item_from_text(text, where) if SYMBOLS[name].kind == "item" else size_from_text(text, where)


def _typical(name: str, operation: Operation) -> int | Expression:
    """The typical size of the notation table, or the expression that it usually follows."""
    symbol = SYMBOLS[name]
    follows = Expression(symbol.follows, name) if symbol.follows else None
    return follows if follows and follows.names <= set(operation.arguments) else symbol.typical


def single(operation: Operation, dtype: str = "fp16", known: Dict[str, int] = MappingProxyType({})) -> Workload:
    """An operation as a workload of one step. Sizes are the ``known`` ones (a card's) or typical values."""
    sizes = {
        name: known[name] if name in known else _typical(name, operation)
        for name in operation.arguments
        if SYMBOLS[name].kind == "size" and operation.defaults.get(name) is None
    }
    return Workload(
        name=operation.name,
        file=operation.name,
        title=f"{operation.name}, {operation.summary}",
        sources=operation.sources,
        dtypes=dict.fromkeys(DTYPE_ROLES, dtype),
        sizes=sizes,
        phases={phase: {} for phase in ("prefill", "train")},
        steps=(Step(operation.name, operation),),
        fused=not operation.apart,
    )
