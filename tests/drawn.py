"""Cases of every operation with sizes drawn by a seed, for tests and benchmarks of many cases at once."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from typing import Any

from perfmodel import ops
from perfmodel.cases import PROTOCOLS, case
from perfmodel.errors import InputError
from perfmodel.symbols import SYMBOLS
from perfmodel.vocabulary import COLLECTIVES, COMPOSITES, ELEMENTWISE, ELEMENTWISE_KINDS, NAMES, kind

DTYPES = ("fp16", "bf16", "fp32")
# Largest sizes by symbol; the others are at most OTHERWISE.
MOST = {"B": 32, "batch": 32, "H": 32, "H_kv": 32, "d": 256, "E": 64, "A": 8, "K": 7, "K_h": 7, "K_w": 7, "L": 8, "C": 512,
        "C_out": 512, "h": 64, "w": 64, "tile_m": 128, "tile_n": 128, "tile_k": 64}  # fmt: skip
OTHERWISE = 8192
ATTEMPTS = 40


def size(draw: random.Random, name: str) -> int:
    """A size: a power of two, a multiple of 8, or any number."""
    most = MOST.get(name, OTHERWISE)
    value = int(2 ** draw.uniform(0, most.bit_length() - 1))
    way = draw.random()
    return 1 << (value.bit_length() - 1) if way < 0.4 else max(1, value // 8 * 8) if way < 0.6 else value


def line(draw: random.Random, name: str, **more: Any) -> dict[str, Any] | None:
    """A case of the operation at sizes that it accepts; None where none were found."""
    found = kind(name)
    kinds = {"op": ELEMENTWISE, "kind": name} if name in ELEMENTWISE_KINDS else {"op": name}
    words = {key: draw.choice(values) for key, values in found.words.items()}
    for _ in range(ATTEMPTS):
        shape = {symbol: size(draw, symbol) for symbol in found.shape if symbol not in found.optional}
        if name not in COMPOSITES and draw.random() < 0.5:  # one size of the worked example, so that the others agree
            shape = {**ops.find(name).example.at, **({symbol: shape[symbol] for symbol in draw.sample(list(shape), 1)})}
            shape = {symbol: value for symbol, value in shape.items() if symbol in found.shape}
        told = {
            **kinds,
            "shape": shape,
            "dtype": draw.choice(DTYPES),
            "protocol": draw.choice(PROTOCOLS),
            **words,
            **more,
        }
        try:
            case(told)
        except InputError:
            words.pop("causal", None)
            continue
        return told
    return None


NAMED = tuple(name for name in (*NAMES, *ELEMENTWISE_KINDS) if name != ELEMENTWISE and name not in COLLECTIVES)


def lines(seed: int, count: int, names: tuple[str, ...] = NAMED) -> Iterator[str]:
    """So many distinct cases, in turn of every operation, as lines of JSON."""
    draw, known = random.Random(seed), set()
    while len(known) < count:
        for name in dict.fromkeys(names):
            told = line(draw, name)
            text = json.dumps(told)
            if told is not None and text not in known and len(known) < count:
                known.add(text)
                yield text


__all__ = ["NAMED", "SYMBOLS", "line", "lines"]
