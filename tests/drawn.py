"""Cases of every operation with sizes drawn by a seed, for tests and benchmarks of many cases at once."""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import islice
from typing import Any

from perfmodel import ops
from perfmodel.cases import PROTOCOLS, case
from perfmodel.errors import InputError
from perfmodel.vocabulary import COLLECTIVES, COMPOSITES, ELEMENTWISE, ELEMENTWISE_KINDS, NAMES, kind

DTYPES = ("fp16", "bf16", "fp32")
# Largest sizes by symbol; the others are at most OTHERWISE.
MOST = {"B": 32, "batch": 32, "H": 32, "H_kv": 32, "d": 256, "E": 64, "A": 8, "K": 7, "K_h": 7, "K_w": 7, "L": 8, "C": 512,
        "C_out": 512, "h": 64, "w": 64, "tile_m": 128, "tile_n": 128, "tile_k": 64}  # fmt: skip
OTHERWISE = 8192
ATTEMPTS = 60
NAMED = tuple(
    dict.fromkeys(name for name in (*NAMES, *ELEMENTWISE_KINDS) if name != ELEMENTWISE and name not in COLLECTIVES)
)


def size(draw: random.Random, name: str) -> int:
    """A size: a power of two, a multiple of 8, or any number."""
    most = MOST.get(name, OTHERWISE)
    value = int(2 ** draw.uniform(0, most.bit_length() - 1))
    way = draw.random()
    return 1 << (value.bit_length() - 1) if way < 0.4 else max(1, value // 8 * 8) if way < 0.6 else value


def choices(draw: random.Random, name: str) -> dict[str, Any]:
    """A data type, a protocol, and the words that the operation accepts."""
    words = {key: draw.choice(values) for key, values in kind(name).words.items()}
    return {"dtype": draw.choice(DTYPES), "protocol": draw.choice(PROTOCOLS), **words}


def line(draw: random.Random, name: str, how: dict[str, Any]) -> dict[str, Any] | None:
    """A case of the operation at sizes that it accepts; None where none were found."""
    found = kind(name)
    named = {"op": ELEMENTWISE, "kind": name} if name in ELEMENTWISE_KINDS else {"op": name}
    for _ in range(ATTEMPTS):
        shape = {symbol: size(draw, symbol) for symbol in found.shape if symbol not in found.optional}
        if name not in COMPOSITES and draw.random() < 0.6:  # some sizes of the worked example, so that they agree
            kept = draw.sample(list(shape), max(1, len(shape) // 2))
            shape = {**ops.find(name).example.at, **{symbol: shape[symbol] for symbol in kept}}
            shape = {symbol: value for symbol, value in shape.items() if symbol in found.shape}
        told = {**named, "shape": shape, **how}
        try:
            for step in (read := case(told)).steps:
                step.operation.checked(
                    {
                        **{key: value for key, value in read.dims.items() if key in step.operation.arguments},
                        **step.values(read.dims),
                    }
                )
        except InputError:
            continue
        return told
    return None


def alike(draw: random.Random, name: str, count: int) -> Iterator[dict[str, Any]]:
    """Cases of an operation that differ in their sizes alone."""
    for _ in range(ATTEMPTS):
        how = choices(draw, name)
        first = line(draw, name, how)
        if first is not None:
            yield first
            others = filter(None, (line(draw, name, how) for _ in range(ATTEMPTS * count)))
            yield from islice(others, count - 1)
            return
