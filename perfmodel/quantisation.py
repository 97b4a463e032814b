"""Workloads whose weights are quantised: which steps store them in a format, and the kernels that quantise activations.

The products of the layers are quantised. Embedding tables, norms, biases, routers and the output matrix keep the data type
of the workload, as the published checkpoints have it. A format with quantised activations adds one kernel before the
products that read the same tensor.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from copy import copy

from perfmodel import ops
from perfmodel.block import Step
from perfmodel.expression import Expression
from perfmodel.formats import Format, stored
from perfmodel.units import HALF_BYTE

PRODUCTS = ("linear", "linear_bias", "qkv", "output_projection", "expert_linear", "expert_linear_bias")
# Last parts of the names of products that stay in the type of the workload: scores over experts, of one token each.
ROUTERS = ("router", "shared_gate")
# Products of two matrices that checkpoints store apart, each with its own scales.
PAIRS = ("gate_up",)

Chosen = Callable[[Step], Format | None]


def holds_weights(step: Step, *, grouped: bool) -> bool:
    """Whether a step is a product whose weights a quantised model stores in a narrow type; ``grouped``: only in layers."""
    last = step.name.rpartition(".")[2]
    in_layers = bool(step.group) or not grouped
    return in_layers and step.operation.name in PRODUCTS and last not in ROUTERS


def of_layers(steps: Sequence[Step], form: Format) -> Chosen:
    """Chooses one format for all products of the layers, or of a workload without layers for all products."""
    grouped = any(step.group for step in steps)
    return lambda step: form if holds_weights(step, grouped=grouped) else None


def quantised(steps: Sequence[Step], chosen: Chosen) -> tuple[Step, ...]:
    """The steps with the weights in their formats, and kernels that quantise what such products read."""
    return tuple(_walk(steps, chosen))


def _walk(steps: Sequence[Step], chosen: Chosen) -> Iterator[Step]:
    narrow: dict[tuple[str, str], str] = {}
    group = ""
    for step in steps:
        if step.group != group:
            narrow, group = {}, step.group
        form = chosen(step)
        if form is None:
            yield step
        elif not form.activations:
            yield _stored(step, form)
        else:
            source = step.flow.get("x", f"{step.name}.x")
            if (source, form.name) not in narrow:
                target = narrow[source, form.name] = f"{source}_{form.computes}"
                yield _quantiser(step, form, source, target)
            yield _stored(step, form)._replace(flow={**step.flow, "x": narrow[source, form.name]})
        written = {step.flow[tensor] for tensor in _written(step) if tensor in step.flow}
        narrow = {key: name for key, name in narrow.items() if key[0] not in written}


def _stored(step: Step, form: Format) -> Step:
    apart = form.name != "mxfp4" and step.name.endswith(PAIRS)
    return step._replace(operation=stored(step.operation, form._replace(parts=2) if apart else form))


def _written(step: Step) -> list[str]:
    operation = step.operation
    return [tensor.name for tensor in operation(**operation.example.at).tensors if tensor.writes]


def _quantiser(step: Step, form: Format, source: str, target: str) -> Step:
    """The kernel that quantises what a product reads."""
    name, inputs = step.operation.name, {"qkv": "D", "output_projection": "H*d"}
    tokens = step.sizes["N"].text if "N" in step.sizes else "N"
    cols = step.sizes["D_in"].text if "D_in" in step.sizes else inputs.get(name, "D_in")
    # The rows of a first layer of experts are quantised before they are gathered.
    rows = f"B*({tokens})*A" if name.startswith("expert") and "F_e" in cols else f"B*({tokens})"
    prefix = step.name.rpartition(".")[0]
    sizes = {"rows": rows, "cols": cols}
    if form.activations == "block":
        sizes["group"] = str(form.run)
    operation = ops.find(f"quantise_{form.activations}")
    if form.computes == "fp4":
        operation = copy(operation)
        operation.defaults = {**operation.defaults, "packed": HALF_BYTE, "scale": form.scale}
    return step._replace(
        name=f"{prefix}.quantise_{source}" if prefix else f"quantise_{source}",
        operation=operation,
        sizes={key: Expression(text, step.name) for key, text in sizes.items()},
        flow={"x": source, "y": target},
        tied=False,
    )
