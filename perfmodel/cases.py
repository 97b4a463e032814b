"""Cases: one operation at one shape and data type, as a line of JSON; predictions, suites and sweeps speak of them.

A line is read strictly: its operation, the shape's own symbols, and the few words that an operation knows. A line
that cannot be read is an answer of its own, so that it does not stop the others.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from math import isfinite
from typing import Any, NamedTuple

from perfmodel import ops
from perfmodel.block import Step
from perfmodel.errors import InputError, did_you_mean, said, shown
from perfmodel.expression import Expression, expression
from perfmodel.operation import checked_value
from perfmodel.symbols import ALIASES, SYMBOLS
from perfmodel.units import ITEM_BYTES, SIZES_ACCEPTED, size_from_text

PROTOCOLS = ("cold", "warm", "rotating", "eager")
DIRECTIONS = ("forward", "backward", "forward_backward", "train")


class Kind(NamedTuple):
    """What a case of one name means: steps as (name, operation, sizes), the shape's symbols, the words it knows.

    ``ties`` are sizes that a shape may leave out, as expressions of the others. ``stages`` runs as separate kernels
    in the implementations named there.
    """

    steps: tuple[tuple[str, str, str], ...]
    shape: tuple[str, ...]
    ties: Mapping[str, str]
    words: Mapping[str, tuple[str, ...]]
    apart: tuple[str, ...] = ()


_IMPL = {"impl": ("ours", "torch", "fused", "naive")}
_ROWS = ("rows", "cols")
_HEADS = {"H_kv": "H", "S": "N"}
_BACK_ENDS = {
    "impl": ("flash", "naive", "cudnn", "efficient", "math", "torch", "serving", "paged"),
    "causal": ("false", "true"),
}
COMMON = ("op", "shape", "dtype", "protocol", "torch")
# From this version of torch on softmax keeps longer rows in registers.
BLOCKS_IN_REGISTERS = (2, 3)
ACTIVATIONS = {"gelu": "gelu", "gelu_tanh": "gelu_tanh", "relu": "relu", "silu": "silu"}

KINDS = {
    "matmul": Kind((("matmul", "matmul", ""),), ("m", "k", "n", "batch"), {"batch": "1"}, _IMPL),
    **{
        name: Kind(((name, name, ""),), _ROWS, {}, _IMPL)
        for name in ("softmax", "softmax_backward", "layernorm", "layernorm_backward", "rmsnorm", "rmsnorm_backward")
    },
    "attention": Kind(
        (("attention", "attention", ""),), ("B", "H", "H_kv", "N", "S", "d"), _HEADS, _BACK_ENDS, apart=("naive", "math")
    ),
    "conv1d": Kind(
        (("conv1d", "conv1d", ""),), ("B", "N", "D", "K"), {},
        {"impl": ("fused", "naive", "torch", "torch_channels_first")}, apart=("naive",),
    ),
    "qkv": Kind(
        (("qkv", "qkv", ""),), ("B", "N", "D", "H", "H_kv", "d"), {"H": "1", "H_kv": "H", "d": "D / H"},
        _IMPL, apart=("naive",),
    ),
    "mlp": Kind(
        (("up", "linear", "D_in=D, D_out=F"), ("activation", "gelu", "numel=B*N*F"), ("down", "linear", "D_in=F, D_out=D")),
        ("B", "N", "D", "F"), {"F": "4 * D"}, {**_IMPL, "activation": (*ACTIVATIONS, "swiglu")},
    ),
    "layer": Kind(
        (
            ("attention.norm", "layernorm", "rows=B*N, cols=D"),
            ("attention.qkv", "linear", "D_in=D, D_out=(H + 2*H_kv)*d"),
            ("attention", "attention", ""),
            ("attention.project", "output_projection", ""),
            ("attention.residual", "residual", ""),
            ("mlp.norm", "layernorm", "rows=B*N, cols=D"),
            ("mlp.up", "linear", "D_in=D, D_out=F"),
            ("mlp.activation", "gelu", "numel=B*N*F"),
            ("mlp.down", "linear", "D_in=F, D_out=D"),
            ("mlp.residual", "residual", ""),
        ),
        ("B", "N", "D", "H", "H_kv", "F", "d", "S"),
        {"H_kv": "H", "S": "N", "d": "D / H", "F": "4 * D"},
        {**_BACK_ENDS, "activation": tuple(ACTIVATIONS)},
        apart=("naive", "math"),
    ),
}  # fmt: skip

# Words that some operation takes, and their values that say nothing to one that does not.
WORDS: Mapping[str, tuple[Any, ...]] = {
    "kind": (), "impl": (), "activation": (), "direction": ("forward",), "causal": (False, "false"),
}  # fmt: skip

_GATED = (
    ("gate_up", "linear", "D_in=D, D_out=2*F"),
    ("gate", "silu_gate", "numel=B*N*F"),
    ("down", "linear", "D_in=F, D_out=D"),
)


class Case(NamedTuple):
    """A case that was read: what the line said, and the steps at their sizes.

    ``older_rows``: the row kernels are those of torch before 2.3, as the word ``torch`` says.
    """

    line: Mapping[str, Any]
    where: str
    dtype: str
    protocol: str
    steps: tuple[Step, ...]
    dims: Mapping[str, Any]
    fused: bool
    forward: bool
    backward: bool
    older_rows: bool = False


class Refused(NamedTuple):
    """A line that could not be read, and why."""

    line: Mapping[str, Any]
    error: str


# Cases of a file that are kept in mind, in case they come again: suites repeat their shapes.
REMEMBERED = 1 << 16


def read(lines: Iterable[str], file: str) -> Iterator[Case | Refused]:
    """Every line that is not blank; an environment line, as a measurement file begins with, is passed over.

    A line that stood before is the case that it was then, at another place.
    """
    known: dict[str, Case] = {}
    for number, text in enumerate(lines, 1):
        if not text.strip():
            continue
        where = f"{file}:{number}"
        if text in known:
            yield known[text]._replace(where=where)
            continue
        line: Mapping[str, Any] = {"line": number}
        try:
            line = _parsed(text, where)
            if "op" not in line and "environment" in line:
                continue
            found = case(line, where)
            if len(known) < REMEMBERED and not any(step.sizes for step in found.steps):  # whose messages name the line
                known[text] = found
            yield found
        except InputError as error:
            yield Refused(line, str(error))


def _parsed(text: str, where: str) -> Mapping[str, Any]:
    """A JSON object without repeated keys, and without the numbers that JSON does not have."""

    def constant(name: str) -> float:
        raise InputError(where, f"{name} stands in it", "numbers of JSON are accepted", "Write a whole number.")

    def finite(digits: str) -> float:
        value = float(digits)
        return value if isfinite(value) else constant(shown(digits)[1:-1])

    def pairs(found: list[tuple[str, Any]]) -> dict[str, Any]:
        keys = [key for key, _ in found]
        twice = next((key for key in keys if keys.count(key) > 1), None)
        if twice is not None:
            raise InputError(where, f"'{twice}' stands twice", "a key may stand once", "Remove one of the two.")
        return dict(found)

    try:
        line = json.loads(text, parse_constant=constant, parse_float=finite, object_pairs_hook=pairs)
    except (ValueError, RecursionError) as error:
        raise InputError(
            where,
            f"it is not JSON ({shown(str(error))[1:-1]})",
            "one JSON object per line is accepted",
            "Mend the line.",
        ) from None
    if not isinstance(line, dict):
        raise InputError(where, f"{shown(line)} stands there", "one JSON object per line is accepted", "Mend the line.")
    return line


def case(line: Mapping[str, Any], where: str = "case") -> Case:
    """A case from its JSON object; keys that a measurement adds are left alone."""
    name = _word(line, "op", (*KINDS, "elementwise"), None, where)
    kind = _elementwise(line, where) if name == "elementwise" else KINDS[name]
    choices = _words(kind)
    _refuse_strangers(line, choices, name, where)
    words = {key: _word(line, key, known, known[0], where) for key, known in choices.items()}
    dtype = _word(line, "dtype", tuple(ITEM_BYTES), "fp16", where)
    protocol = _word(line, "protocol", PROTOCOLS, "cold", where)
    direction = words.get("direction", "forward")
    item = ITEM_BYTES[dtype]
    dims = {
        "act": item, "weight": item, "cache": item, "causal": int(words.get("causal", "false") == "true"),
        **_dims(line, kind, where),
    }  # fmt: skip
    return Case(
        line=line,
        where=where,
        dtype=dtype,
        protocol=protocol,
        steps=_steps(kind, words, where),
        dims=dims,
        fused=words.get("impl", "") not in kind.apart,
        forward=direction != "backward",
        backward=direction != "forward",
        older_rows=_older(line, where),
    )


def _older(line: Mapping[str, Any], where: str) -> bool:
    """Whether the version of torch that the line names has the earlier row kernels; absent, it is the newest."""
    version = line.get("torch")
    if version is None:
        return False
    digits = str(version).split(".")[:2] if isinstance(version, str) else []
    if len(digits) != 2 or not all(part.isascii() and part.isdigit() for part in digits):
        raise InputError(
            f"{where}: torch", f"{said(version)} is not a version", 'a text such as "2.1" is accepted', "Correct it."
        )
    return (int(digits[0]), int(digits[1])) < BLOCKS_IN_REGISTERS


def _refuse_strangers(line: Mapping[str, Any], words: Mapping[str, tuple[str, ...]], name: str, where: str) -> None:
    """Keys that a measurement adds are left alone; words of other operations and slips of the pen are not.

    A word that says what is so anyhow, such as a forward direction, is as good as none.
    """
    from difflib import get_close_matches

    known = (*COMMON, *(("kind",) if name == "elementwise" else ()), *words)
    for key in line:
        if key in WORDS and key not in known and line[key] not in WORDS[key]:
            raise InputError(
                f"{where}: {key}",
                f"{said(line[key])} stands there, and {name} does not take the word",
                f"{name} takes {', '.join(known)}",
                "Remove it.",
            )
        near = [] if key in known or key in WORDS else get_close_matches(key, known, n=1, cutoff=0.8)
        if near:
            raise InputError(
                where,
                f"{shown(key)} is not a word of a case",
                f"{', '.join(known)} are accepted",
                f"Did you mean '{near[0]}'?",
            )


def _words(kind: Kind) -> dict[str, tuple[str, ...]]:
    """The choices of a kind, each with its default first; a direction where an operation of it has gradients."""
    trained = any(ops.find(operation).backward for _, operation, _ in kind.steps)
    return {**({"direction": DIRECTIONS} if trained else {}), **kind.words}


def _word(line: Mapping[str, Any], key: str, choices: tuple[str, ...], default: str | None, where: str) -> str:
    if key not in line and default is None:
        raise InputError(where, f"'{key}' is missing", f"one of {', '.join(choices)} is accepted", f'Add "{key}".')
    value = line.get(key, default)
    value = said(value) if isinstance(value, bool) else value
    if not isinstance(value, str) or value not in choices:
        raise InputError(
            f"{where}: {key}", f"{said(value)} is not known", f"one of {', '.join(choices)} is accepted",
            did_you_mean(value, choices) if isinstance(value, str) else "",
        )  # fmt: skip
    return value


def _elementwise(line: Mapping[str, Any], where: str) -> Kind:
    """``kind`` names any elementwise operation."""
    known = tuple(name for name, family in ops.FAMILY_OF.items() if family == "elementwise" and name != "residual")
    name = _word(line, "kind", known, None, where)
    return Kind(((name, name, ""),), ("numel",), {}, _IMPL)


def _dims(line: Mapping[str, Any], kind: Kind, where: str) -> dict[str, int]:
    """The shape's sizes, each checked, with those that may be left out filled in."""
    shape = line.get("shape")
    if not isinstance(shape, dict):
        accepted, action = "an object of sizes is accepted", f"Add {', '.join(kind.shape)}."
        if "shape" in line:
            raise InputError(f"{where}: shape", f"{said(shape)} stands there", accepted, action)
        raise InputError(where, "'shape' is missing", accepted, action)
    found: dict[str, int] = {}
    for given, value in shape.items():
        name = ALIASES.get(given, given)
        if name not in kind.shape:
            raise InputError(
                f"{where}: shape", f"'{given}' is not a size of {line.get('op')}", f"it takes {', '.join(kind.shape)}",
                did_you_mean(given, kind.shape),
            )  # fmt: skip
        if value is None:
            raise InputError(f"{where}: {given}", f"{said(value)} is not a whole number", SIZES_ACCEPTED)
        size = size_from_text(value, f"{where}: {given}") if isinstance(value, str) else value
        found[name] = int(checked_value(name, size, f"{where}: {given}") or 0)
    for name in kind.shape:
        if name not in found and name in kind.ties:
            found[name] = expression(kind.ties[name], f"{where}: {name}")(found)
        elif name not in found:
            raise InputError(
                f"{where}: shape", f"'{name}' is missing", f"{', '.join(kind.shape)} are required",
                f"Add {name}: {SYMBOLS[name].meaning}.",
            )  # fmt: skip
    return found


def _steps(kind: Kind, words: Mapping[str, str], where: str) -> tuple[Step, ...]:
    """The kind's operations as steps, with the activation that the line chose."""
    parts = _GATED if words.get("activation") == "swiglu" else kind.steps
    chosen = {"gelu": ACTIVATIONS.get(words.get("activation", "gelu"), "gelu")}
    return tuple(
        Step(name, ops.find(chosen.get(operation, operation) if len(parts) > 1 else operation), _sizes(sizes, where))
        for name, operation, sizes in parts
    )


def _sizes(text: str, where: str) -> dict[str, Expression]:
    """``D_in=D, D_out=F`` as expressions."""
    pairs = (part.partition("=") for part in text.split(", ") if part)
    return {name: expression(value, where) for name, _, value in pairs}
