"""Workloads from files: YAML pages, and the config.json of a model."""

import os.path
from collections.abc import Mapping as Dict
from typing import Any

from perfmodel import ops
from perfmodel.block import Step
from perfmodel.errors import InputError, did_you_mean, one_line, printable, shown
from perfmodel.expression import Expression
from perfmodel.limits import STEPS
from perfmodel.operation import Operation
from perfmodel.paths import find, stem
from perfmodel.specfile import Mapping, load
from perfmodel.symbols import ALIASES, SYMBOLS
from perfmodel.units import ITEM_BYTES
from perfmodel.workload import COUNTS, DTYPE_ROLES, PHASES, Workload, size_or_expression, stored, with_weights


def workload(name: str) -> Workload:
    """The workload of that name or file; ``NAME@FORMAT`` has the weights of its layers in a quantised format."""
    base, sign, form = name.rpartition("@")
    if sign and base and not os.path.exists(name):
        found = workload(base)
        if "@" in found.name:
            raise InputError(
                f"--config {shown(name)}", f"two formats of weights are named, {found.name.partition('@')[2]} and {form}",
                "one format is accepted", f"Write {base} or {found.name.partition('@')[0]}@{form}.",
            )  # fmt: skip
        return with_weights(found, form)
    path = find("configs", name)
    return imported(path) if path.endswith(".json") else parsed(load(path), printable(stem(path)), path)


def imported(path: str) -> Workload:
    """The workload of a model's config.json."""
    from perfmodel.importers import load as load_model

    model = load_model(path)
    STEPS.check(len(model.steps), path)
    name = _called(path, model.name)
    found = Workload(
        name=name,
        file=path,
        title=f"{name}: {model.title}",
        sources=("the model's own config.json",),
        dtypes=dict.fromkeys(DTYPE_ROLES, model.dtype),
        sizes=_texts(model.sizes, path),
        phases={phase: _texts(sizes, path) for phase, sizes in model.phases.items()},
        steps=model.steps,
        loss=_loss(model.steps),
        notes=model.notes,
        not_counted=model.not_counted,
        decode=model.decode or {},
        longest=model.longest,
    )
    return stored(found, model.stored, model.stored_note) if model.stored else found


def _called(path: str, name: str) -> str:
    """The name of a model: its file, or for a config.json the name that it contains or the name of its folder."""
    if stem(path) != "config":
        return printable(stem(path))
    folder = os.path.basename(os.path.dirname(os.path.abspath(path)))
    return one_line(name, 60) or printable(folder) or "config"


def _loss(steps: tuple[Step, ...]) -> tuple[Step, ...]:
    """The cross-entropy of a model that ends in scores for every word; empty for other models."""
    ends = [step for step in steps if step.name in ("logits", "words")]
    return (Step("loss", ops.find("cross_entropy"), flow={"logits": "logits"}),) if ends else ()


def _texts(sizes: Dict[str, int | str], where: str) -> dict[str, int | Expression]:
    return {name: Expression(value, where) if isinstance(value, str) else value for name, value in sizes.items()}


def parsed(page: Mapping, name: str, file: str) -> Workload:
    """The workload of a YAML page."""
    sizes = _sizes(page.mapping("sizes")) if "sizes" in page else {}
    table = page.mapping("phases") if "phases" in page else None
    phases = {phase: _sizes(table.mapping(phase)) if table else {} for phase in _phases(page)}
    steps = tuple(step for item in page.sequence("steps").mappings() for step in _steps(item, "", None))
    STEPS.check(len(steps), f"{file}: steps")
    found = Workload(
        name=name,
        file=file,
        title=page.text("title"),
        sources=page.texts("sources"),
        dtypes=_dtypes(page),
        sizes=sizes,
        phases=phases,
        steps=steps,
        counting=page.choice("count", COUNTS, "all"),
        fused=page.choice("kernels", ("fused", "unfused"), "fused") == "fused",
        causal=page.choice("mask", ("causal", "none"), "none") == "causal",
        loss=_loss(steps) if page.choice("loss", ("cross_entropy", "none"), "none") == "cross_entropy" else (),
        notes=page.texts("notes"),
    )
    weights = page.text("weights", "")
    page.finish()
    if not steps:
        raise InputError(f"{file}: steps", "the list is empty", "at least one step is required", "Add '- op: …'.")
    return with_weights(found, weights)._replace(name=name) if weights else found


def _phases(page: Mapping) -> tuple[str, ...]:
    """The phases of a file: prefill and train where none is named."""
    if "phases" not in page:
        return ("prefill", "train")
    table = page.mapping("phases")
    for phase in table:
        table.node(phase)
        if phase not in PHASES:
            raise InputError(
                table.place_of(phase), f"'{phase}' is not a phase", f"one of {', '.join(PHASES)} is accepted",
                did_you_mean(phase, PHASES),
            )  # fmt: skip
    if not list(table):
        raise InputError(
            str(table.place),
            "the mapping is empty",
            f"{', '.join(PHASES)} are accepted",
            "Add one, or remove the key.",
        )
    return tuple(table)


def _sizes(table: Mapping) -> dict[str, Any]:
    """Symbols of the notation table, each with a size or an expression."""
    found: dict[str, Any] = {}
    for key in table:
        item = table.scalar(key)
        name = ALIASES.get(key, key)
        if name not in SYMBOLS:
            raise InputError(
                str(item.place), f"'{key}' is not a symbol", "the letters of 'perfmodel symbols' are accepted",
                did_you_mean(key, SYMBOLS),
            )  # fmt: skip
        found[name] = size_or_expression(name, item.text.strip(), str(item.place))
    return found


def _dtypes(page: Mapping) -> dict[str, str]:
    """The data type of each role: one for all, or one for each."""
    choices = tuple(ITEM_BYTES)
    if "dtypes" not in page:
        return dict.fromkeys(DTYPE_ROLES, page.choice("dtype", choices, "fp16"))
    table = page.mapping("dtypes")
    found = {role: table.choice(role, choices) for role in DTYPE_ROLES}
    table.finish()
    return found


def _steps(item: Mapping, prefix: str, repeat: str | None) -> list[Step]:
    """A step, or the steps of a group that repeats. The group's name is a prefix of their names."""
    if "repeat" in item:
        own = item.text("repeat")
        repeat = own if repeat is None else f"({repeat}) * ({own})"
    if "steps" in item:
        name = prefix + item.text("name") + "."
        found = [step for inner in item.sequence("steps").mappings() for step in _steps(inner, name, repeat)]
        item.finish()
        return found
    operation = ops.find(item.text("op"), item.place_of("op"))
    sizes = _arguments(item, operation.name, operation.arguments) if "sizes" in item else {}
    step = Step(
        name=prefix + item.text("name", operation.name),
        operation=operation,
        sizes={key: value if isinstance(value, Expression) else _constant(value) for key, value in sizes.items()},
        repeat=Expression(repeat, f"{item.place}: repeat") if repeat is not None else None,
        flow=_flow(item.mapping("flow"), operation) if "flow" in item else {},
        kernels=item.choice("kernels", ("either", "together", "apart"), "either"),
        group=prefix,
        cached=item.choice("keys", ("kept", "passing", "encoder"), "kept") == "kept",
        crosses=item.text("keys", "kept") == "encoder",
        unmasked=item.choice("mask", ("as asked", "none"), "as asked") == "none",
        tied=item.choice("tied", ("yes", "no"), "no") == "yes",
        data=_data(item, operation),
    )
    item.finish()
    return [step]


def _constant(value: int) -> Expression:
    return Expression(str(value), "a size")


def _flow(table: Mapping, operation: Operation) -> dict[str, str]:
    """The block's name for each tensor of the operation."""
    for key in table:
        _checked_tensor(key, table.place_of(key), operation)
    return {key: table.text(key) for key in table}


def _data(item: Mapping, operation: Operation) -> tuple[str, ...]:
    """The operation's tensors that are input data, such as pixels. Training computes no gradient for them."""
    return tuple(_checked_tensor(name, item.place_of("data"), operation) for name in item.texts("data"))


def _checked_tensor(name: str, where: str, operation: Operation) -> str:
    tensors = {tensor.name for tensor in operation(**operation.example.at).tensors}
    if name not in tensors:
        raise InputError(
            where, f"'{name}' is not a tensor of {operation.name}",
            f"its tensors are {', '.join(sorted(tensors))}", did_you_mean(name, tensors),
        )  # fmt: skip
    return name


def _arguments(item: Mapping, name: str, arguments: tuple[str, ...]) -> dict[str, Any]:
    table = item.mapping("sizes")
    for key in table:
        if ALIASES.get(key, key) not in arguments:
            raise InputError(
                table.place_of(key), f"'{key}' is not a size of {name}", f"its sizes are {', '.join(arguments)}",
                did_you_mean(key, arguments),
            )  # fmt: skip
    return _sizes(table)
