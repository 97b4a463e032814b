"""Cases: one operation at one shape and data type, as an object of JSON.

Objects are read strictly: every key is either used or refused. The operation is a name of ``vocabulary``, and the shape
has that operation's sizes. Keys that perfmodel writes to a case are ignored, so a file of measurements is a file of
cases. Files are read by ``case_files``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from perfmodel import formats, ops
from perfmodel.block import Step
from perfmodel.case_values import dims_of, items_of, size, word
from perfmodel.errors import InputError, did_you_mean, said, shown
from perfmodel.expression import Expression, expression
from perfmodel.operation import checked_value
from perfmodel.quantisation import PRODUCTS, quantised
from perfmodel.records import WRITTEN, measured_s
from perfmodel.runs import NARROW, SCALES, TORCH_SCALES
from perfmodel.symbols import ALIASES, SYMBOLS
from perfmodel.vocabulary import (
    COLLECTIVES,
    COMPOSITES,
    ELEMENTWISE,
    ELEMENTWISE_KINDS,
    GATED,
    NAMES,
    STAGED,
    STAGES,
    WINDOW,
    Kind,
    kind,
    splits,
)

STACK = "serving"  # the implementation of products with weights in a format
PROTOCOLS = ("cold", "warm", "rotating", "eager")
DEFAULT_PROTOCOL = "cold"
# Keys that every case accepts; ``torch`` is a version, ``comment`` is free text.
COMMON = ("op", "shape", "dtype", "dtypes", "protocol", "torch", "measured_us", "comment")
# Since this version of torch, softmax keeps longer rows in registers.
BLOCKS_IN_REGISTERS = (2, 3)
# Names of ``op`` that a message lists: the first ones, which are those of the original cases format.
_FIRST = NAMES[: NAMES.index(tuple(COMPOSITES)[-1]) + 1]
LISTED = f"one of {', '.join(_FIRST)} or any other operation of 'perfmodel ops' is accepted"
# Keys of a collective: where it runs.
PLACE = ("system", "ranks_per_node")
# Keys that only some operations accept, with the values that other operations ignore.
WORDS: Mapping[str, tuple[Any, ...]] = {
    "kind": (), "impl": (), "activation": (), "direction": ("forward",), "causal": (False, "false"), "window": (None,),
}  # fmt: skip


class Case(NamedTuple):
    """A case: its line, and its steps with their sizes.

    ``op`` is the operation or composite; of an elementwise case, the function. ``words`` are the choices of the line.
    ``by_card``: a size depends on the card. ``measured_s`` is the measured time of the line, if any. ``older_rows``:
    the row kernels are those of torch before 2.3, because the key ``torch`` names such a version. ``system`` and
    ``ranks_per_node`` are those of a collective.
    """

    line: Mapping[str, Any]
    where: str
    op: str
    dtype: str
    protocol: str
    words: Mapping[str, str]
    steps: tuple[Step, ...]
    dims: Mapping[str, Any]
    fused: bool
    forward: bool
    backward: bool
    by_card: bool = False
    measured_s: float | None = None
    older_rows: bool = False
    system: str = ""
    ranks_per_node: int | None = None


def case(line: Mapping[str, Any], where: str = "case") -> Case:
    """Returns the case of a JSON object."""
    name = _operation(line, where)
    found = kind(name)
    windowed = WINDOW in found.sizes
    _refuse_strangers(line, found, name, where)
    _check_implementation(line, found, name, where)
    words = {key: word(line, key, known, known[0], where) for key, known in found.words.items()}
    protocol = word(line, "protocol", PROTOCOLS, DEFAULT_PROTOCOL, where)
    dtype, items = items_of(line, found, name, where)
    _check_quantised(words.get("impl", ""), dtype, where)
    dims = {**items, **found.booleans, **dims_of(line, found, name, where)}
    if windowed:
        words = _windowed(line, dims, words, where)
    direction = words.get("direction", "forward")
    if (
        words.get("impl") in ("naive", STAGES)
        and name not in COMPOSITES
        and not splits(found.operations[0], direction != "forward")
    ):
        raise InputError(
            f"{where}: impl", f"{words['impl']} is given, but {name} in the {direction} direction is one kernel",
            "it is accepted for operations of several kernels", "Remove it.",
        )  # fmt: skip
    steps = _steps(found, words, where)
    if "weights" in line and name in PRODUCTS:
        steps, words = _stored(line, steps, words, where)
    return Case(
        line=line,
        where=where,
        op=name,
        dtype=dtype,
        protocol=protocol,
        words=words,
        steps=steps,
        dims={**dims, "causal": int(words.get("causal", "false") == "true")},
        fused=words.get("impl", "") not in STAGED,
        forward=direction != "backward",
        backward=direction != "forward",
        by_card=any(size not in dims for size in found.by_card),
        measured_s=measured_s(line, where),
        older_rows=_older(line, where),
        **_place(line, name, where),
    )


def _stored(
    line: Mapping[str, Any], steps: tuple[Step, ...], words: dict[str, str], where: str
) -> tuple[tuple[Step, ...], dict[str, str]]:
    """Returns the steps with their weights in the format of the line, and the words with this format.

    The kernel is that of a serving stack: torch has none for most formats.
    """
    text = line["weights"]
    if not isinstance(text, str):
        raise InputError(f"{where}: weights", f"{said(text)} is not a format of weights", formats.ACCEPTED)
    form = formats.named(text, f"{where}: weights")
    if words.get("direction", "forward") != "forward" or words.get("impl") in (*SCALES, STAGES, "naive"):
        raise InputError(
            f"{where}: weights", "the case has a backward pass or several kernels",
            "quantised weights are accepted in the forward direction of one kernel", "Remove one of the two.",
        )  # fmt: skip
    own = {"impl": STACK} if words.get("impl") == "torch" else {}
    return quantised(steps, lambda step: form), {**words, **own, "weights": form.text}


def _place(line: Mapping[str, Any], name: str, where: str) -> dict[str, Any]:
    """Returns the system of a collective and the ranks of its group in one node, where the line gives them."""
    if name not in COLLECTIVES:
        return {}
    system, local = line.get("system", ""), line.get("ranks_per_node")
    if not isinstance(system, str):
        raise InputError(
            f"{where}: system", f"{said(system)} is not a name", "a name of 'perfmodel systems', or a path, is accepted"
        )
    if local is not None:
        checked_value("gpus", local, f"{where}: ranks_per_node")
    return {"system": system, "ranks_per_node": local}


def _older(line: Mapping[str, Any], where: str) -> bool:
    """Returns whether the line's torch version has the earlier row kernels. Without a version, the newest torch is
    assumed.
    """
    version = line.get("torch")
    if version is None:
        return False
    digits = str(version).split(".")[:2] if isinstance(version, str) else []
    if len(digits) != 2 or not all(part.isascii() and part.isdigit() for part in digits):
        raise InputError(
            f"{where}: torch", f"{said(version)} is not a version", 'a text such as "2.1" is accepted', "Correct it."
        )
    return (int(digits[0]), int(digits[1])) < BLOCKS_IN_REGISTERS


def _operation(line: Mapping[str, Any], where: str) -> str:
    """Returns the operation or composite; of an elementwise case, the function that ``kind`` names."""
    name = line.get("op")
    if isinstance(name, str) and name in SCALES:
        raise InputError(
            f"{where}: op", f"{shown(name)} is an implementation of products", LISTED,
            f'Write "op": "matmul", "impl": "{name}".',
        )  # fmt: skip
    if isinstance(name, str) and name.partition("@")[0] in PRODUCTS and "@" in name:
        op, _, form = name.partition("@")
        raise InputError(
            f"{where}: op",
            f"{shown(name)} names a format of weights",
            LISTED,
            f'Write "op": "{op}", "weights": "{form}".',
        )
    name = word(line, "op", NAMES, None, where, LISTED)
    return word(line, "kind", ELEMENTWISE_KINDS, None, where) if name == ELEMENTWISE else name


def _refuse_strangers(line: Mapping[str, Any], found: Kind, name: str, where: str) -> None:
    """Refuses keys that are not used. A key with a default value, such as a forward direction, is ignored."""
    own = PLACE if name in COLLECTIVES else ("kind",) if line["op"] == ELEMENTWISE else ()
    own = ("weights",) if name in PRODUCTS else own
    known = (*COMMON, *own, *found.words, *_window(found))
    for key, value in line.items():
        if key in known or key in WRITTEN or _repeats(line, key):
            continue
        if key in WORDS:
            if value in WORDS[key]:
                continue
            raise InputError(
                f"{where}: {key}", f"{said(value)} is given, but {name} does not accept this key",
                f"{name} accepts {', '.join(known)}", "Remove it.",
            )  # fmt: skip
        inside = ALIASES.get(key, key) in found.sizes
        raise InputError(
            where, f"{shown(key)} is not a key of a case", f"{name} accepts {', '.join(known)}",
            "Move it into shape." if inside else did_you_mean(key, known) or "Remove it.",
        )  # fmt: skip


def _check_implementation(line: Mapping[str, Any], found: Kind, name: str, where: str) -> None:
    """Refuses an implementation that the operation does not have."""
    known, value = found.words.get("impl", ()), line.get("impl")
    if "impl" in line and known and value not in known:
        raise InputError(
            f"{where}: impl", f"{said(value)} is not an implementation of {name}", f"{', '.join(known)} are accepted"
            if len(known) > 1 else f"{known[0]} is accepted", did_you_mean(value, known) if isinstance(value, str) else "",
        )  # fmt: skip


def _check_quantised(impl: str, dtype: str, where: str) -> None:
    """Refuses an implementation that quantises for a data type that needs none."""
    accepted = ("fp8",) if impl in TORCH_SCALES else NARROW
    if impl in SCALES and dtype not in accepted:
        raise InputError(
            f"{where}: impl", f"{impl} quantises the left operand, but the product is in {dtype}",
            f"it is accepted with {' and '.join(accepted)}", "Change the data type, or remove it.",
        )  # fmt: skip


def _window(found: Kind) -> tuple[str, ...]:
    return ("window",) if WINDOW in found.sizes else ()


def _repeats(line: Mapping[str, Any], key: str) -> bool:
    """Returns whether the key repeats a size of the shape, as in rows of a sweep."""
    shape = line.get("shape")
    return key in SYMBOLS and isinstance(shape, dict) and shape.get(key) == line[key]


def _windowed(line: Mapping[str, Any], dims: dict[str, Any], words: dict[str, str], where: str) -> dict[str, str]:
    """Sets the window as a size, and returns the words with the causal mask that a window needs."""
    if line.get("window") is not None:
        if WINDOW in dims:
            raise InputError(
                f"{where}: window", "the shape gives W as well", "a window is given once", "Remove one of the two."
            )
        dims[WINDOW] = size(WINDOW, line["window"], f"{where}: window")
    if WINDOW not in dims:
        return words
    if line.get("causal") in (False, "false"):
        raise InputError(
            f"{where}: causal", "false is given together with a window",
            "a window needs a causal mask", "Remove one of the two.",
        )  # fmt: skip
    return {**words, "causal": "true"}


def _steps(found: Kind, words: Mapping[str, str], where: str) -> tuple[Step, ...]:
    """Returns the operations of the kind as steps, with the activation of the line."""
    activation = words.get("activation")
    parts = GATED if activation == "swiglu" else found.steps
    replaced = {"gelu": activation} if activation and len(parts) > 1 else {}
    return tuple(
        Step(name, ops.find(replaced.get(operation, operation)), _sizes(sizes, where))
        for name, operation, sizes in parts
    )


def _sizes(text: str, where: str) -> dict[str, Expression]:
    """Reads ``D_in=D, D_out=F`` as expressions."""
    pairs = (part.partition("=") for part in text.split(", ") if part)
    return {name: expression(value, where) for name, _, value in pairs}
