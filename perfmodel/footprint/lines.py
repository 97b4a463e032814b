"""The lines of a memory account: each figure of one GPU with its formula."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from perfmodel.arithmetic import ceil_div, product, whole_bytes
from perfmodel.errors import InputError
from perfmodel.footprint.activations import OUTSIDE, Activations, Layer, size_byte
from perfmodel.footprint.inference import Cache, Share, State, Workspace

SHORTEST_TRAINED = 2  # bytes of a weight
OPTIMIZERS = ("adam", "sgd", "none")
# Moments of the gradient that an optimizer keeps: Adam two, SGD with momentum one.
MOMENTS = {"adam": ("mean", "variance"), "sgd": ("momentum",), "none": ()}


class Plan(NamedTuple):
    """How the work is distributed: data-parallel GPUs, the ZeRO stage, the recomputation mode and the optimizer."""

    gpus: int = 1
    zero: int = 0
    recompute: str = "none"
    optimizer: str = "adam"


# Kinds of figures, for subtotals.
KINDS = ("weights", "training", "activations", "cache")


class Line(NamedTuple):
    """A figure of one GPU, its formula, and its kind, one of ``KINDS``.

    ``training`` means gradients and optimizer states. ``activations`` means tensors kept for the backward pass and
    tensors that pass between kernels. ``cache`` means keys, values and recurrent states.
    """

    name: str
    byte_per_gpu: int
    formula: str
    kind: str


class Moment(NamedTuple):
    """A point of the backward pass, and the bytes that it needs beside all kept tensors."""

    name: str
    byte: int
    formula: str


class Stored(NamedTuple):
    """Bytes of quantised weights with their scales and zero points: of a model, and of its largest layer."""

    all: int
    largest: int


class Model(NamedTuple):
    """Parameters of a model, parameters of its largest layer, and bytes per parameter.

    ``stored`` replaces parameters times bytes where weights are quantised.
    """

    parameters: int
    largest: int
    item: int | float
    stored: Stored | None = None


def weights(model: Model, plan: Plan) -> list[Line]:
    """The weights. ZeRO stage 3 keeps a shard of them and gathers one layer at a time."""
    if model.stored:
        return _quantised(model, model.stored, plan)
    lines = [_sharded("weights", ((model.item, ""),), model.parameters, plan, 3, "weights")]
    if plan.zero == 3 and plan.gpus > 1:
        formula = f"{model.item} bytes x {model.largest:,} parameters of the largest layer, gathered while it runs"
        lines.append(Line("gathered weights", _bytes(model.item, model.largest), formula, "weights"))
    return lines


def _quantised(model: Model, stored: Stored, plan: Plan) -> list[Line]:
    """Quantised weights, each tensor with its own bytes per element."""
    share = plan.gpus if plan.zero == 3 else 1
    formula = f"{stored.all:,} bytes of {model.parameters:,} parameters with their scales"
    formula += f", one of {share:,} shards" if share > 1 else ""
    lines = [Line("weights", ceil_div(stored.all, share), formula, "weights")]
    if share > 1:
        formula = f"{stored.largest:,} bytes of the largest layer, gathered while it runs"
        lines.append(Line("gathered weights", stored.largest, formula, "weights"))
    return lines


def training_states(model: Model, plan: Plan, where: str) -> list[Line]:
    """Gradients and optimizer states.

    Gradients have the type of the weights. Weights narrower than float32 have a float32 master copy. Moments are
    float32 or wider.
    """
    if model.item < SHORTEST_TRAINED:
        raise InputError(
            where, f"training with {model.item}-byte weights",
            "weights of 2, 4 or 8 bytes (fp16, bf16, fp32, tf32, fp64) are accepted; narrower ones have no standard training recipe",
            "Choose --dtype bf16.",
        )  # fmt: skip
    wide = max(4, model.item)
    parts = [(wide, "master copy")] if model.item < wide and plan.optimizer != "none" else []
    parts += [(wide, moment) for moment in MOMENTS[plan.optimizer]]
    lines = [_sharded("gradients", ((model.item, ""),), model.parameters, plan, 2, "training")]
    if parts:
        lines.append(_sharded("optimizer states", parts, model.parameters, plan, 1, "training"))
    return lines


def _sharded(
    name: str, parts: Sequence[tuple[int | float, str]], parameters: int, plan: Plan, from_stage: int, kind: str
) -> Line:
    """A line of bytes per parameter times the parameters, or times a shard of them, rounded up."""
    each = " + ".join(f"{item} {what}".rstrip() for item, what in parts)
    each = f"({each}) bytes" if len(parts) > 1 or parts[0][1] else f"{each} bytes"
    share = plan.gpus if plan.zero >= from_stage else 1
    held = ceil_div(parameters, share)
    formula = f"{each} x {parameters:,} parameters"
    if share > 1:
        formula = f"{each} x {held:,} parameters, one of {share:,} shards of {parameters:,}"
    return Line(name, _bytes(sum(item for item, _ in parts), held), formula, kind)


def kept(activations: Activations, plan: Plan) -> list[Line]:
    """The activations that are kept for the backward pass, one line per kind of layer."""
    return [
        Line(f"activations: {layer.name}", layer.byte, _layers(layer, plan), "activations")
        for layer in activations.layers
        if layer.byte
    ]


def _layers(layer: Layer, plan: Plan) -> str:
    first, further = size_byte(layer.first), size_byte(layer.further)
    names = " + ".join(dict.fromkeys(tensor.name for tensor in layer.first))
    if layer.repeat == 1:
        return f"{first:,} bytes: {names}"
    what = f"the inputs of each, {names}" if plan.recompute == "full" else "tensors that the gradients of each read"
    if first == further:
        return f"{layer.repeat:,} layers x {first:,} bytes: {what}"
    return f"{first:,} bytes of one layer + {layer.repeat - 1:,} x {further:,}: {what}"


def moments(activations: Activations) -> list[Moment]:
    """The loss, with its logits and their gradient, and the backward pass of each kind of layer."""
    found = []
    logits = size_byte(activations.logits)
    if logits:
        shapes = " + ".join(tensor.formula for tensor in activations.logits)
        found.append(Moment("loss", 2 * logits, f"2 x {logits:,} bytes: the logits, {shapes}, and their gradient"))
    for layer in activations.layers:
        if layer.passing_byte:
            again = size_byte(layer.again)
            formula = f"{layer.gradient_byte:,} bytes of activation gradients"
            formula = f"{again:,} bytes recomputed + {formula}" if again else formula
            name = "outside the layers" if layer.name == OUTSIDE else f"in {layer.name}"
            found.append(Moment(f"backward pass {name}", layer.passing_byte, formula))
    return found


def passing(found: Sequence[Moment]) -> list[Line]:
    """The largest of the moments. No two of them occur at the same time."""
    if not found:
        return []
    largest = max(found, key=lambda moment: moment.byte)
    others = ", ".join(f"{moment.name} {moment.byte:,}" for moment in found if moment is not largest)
    formula = f"{largest.name}: {largest.formula}" + (f"; not at the same time: {others}" if others else "")
    return [Line("working memory", largest.byte, formula, "activations")]


def cache_lines(cache: Cache, B: int) -> list[Line]:
    """Keys and values of all sequences."""
    names = ("key-value cache", "key-value cache, new tokens", "cross-attention cache")
    return [
        Line(name, _byte(shares) * B, _shares(shares, B), "cache")
        for name, shares in zip(names, cache, strict=True)
        if shares
    ]


def _byte(shares: Iterable[Share]) -> int:
    return sum(share.byte for share in shares)


def _shares(shares: Sequence[Share], B: int) -> str:
    """The formula: 3 sequences x (21 layers x 8,192 bytes x 4,096 tokens (the window) + …)"""
    terms = " + ".join(
        f"{_count(share.repeat, 'layer')} x {share.byte_per_token:,} bytes x {_count(share.tokens, 'token')}"
        f"{' (the window)' if share.windowed else ''}"
        for share in shares
    )
    return _times(B, f"({terms})" if len(shares) > 1 else terms)


def state_lines(states: Sequence[State], item: int | float, B: int) -> list[Line]:
    """Recurrent states of all sequences."""
    if not states:
        return []
    repeats: dict[tuple[str, int], int] = {}
    for state in states:
        kind = (state.name, state.elements)
        repeats[kind] = repeats.get(kind, 0) + state.repeat
    terms = " + ".join(f"{repeat:,} x {elements:,} ({name})" for (name, elements), repeat in repeats.items())
    number = sum(elements * repeat for (_, elements), repeat in repeats.items())
    return [Line("recurrent state", _bytes(item, number * B), _times(B, f"({terms}) x {item} bytes"), "cache")]


def workspace_line(found: Workspace) -> list[Line]:
    """The tensors between kernels where they need most memory."""
    byte = found.operand_byte + found.waiting_byte
    if not byte:
        return []
    waiting = f" + {found.waiting_byte:,} bytes for later kernels" if found.waiting_byte else ""
    formula = f"{found.operand_byte:,} bytes of inputs and outputs of {found.name}{waiting}"
    return [Line("workspace of the largest kernel", byte, formula, "activations")]


def _bytes(item: int | float, number: int) -> int:
    """Bytes of a number of elements. Two elements of half a byte share a byte."""
    return int(whole_bytes(product((item, number))))


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _times(B: int, text: str) -> str:
    return text if B == 1 else f"{B:,} sequences x {text}"
