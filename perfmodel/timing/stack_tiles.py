"""Known tiles of products: those of serving stacks, read from their sources, and those of quantised products of cuBLAS.

A product in fp8 whose left operand the stack has quantised runs a kernel of CUTLASS or DeepGEMM. The stack chooses its tile by
the rows and columns of the result. Experts run vLLM's Triton kernel. Its tile depends on the number of tokens, unless tiles
were measured for so many experts of this width. The products of cuBLAS with a scale for each row or block take as long as
tiles of 128 x 128 with an unsplit sum.
"""

from __future__ import annotations

from math import inf
from typing import NamedTuple

from perfmodel.arithmetic import Size
from perfmodel.timing.weights import Mechanism

_data = Mechanism("tiles")


class Sides(NamedTuple):
    """Sides of a tile, and how many a multiprocessor holds; 0 where its size decides. ``down``: tiles in a column of the result
    that share one read of the right operand (multicast); ``across``: tiles in a row that share one of the left operand. 0: the
    generation's ``sharing`` says how many multiprocessors one read serves.
    """

    tile_m: int
    tile_n: int
    resident: int = 0
    down: int = 0
    across: int = 0


Table = tuple[tuple[float, float, tuple[Sides, ...]], ...]


def _table(words: list[str]) -> Table:
    """Rows of a stack's table: ``16:1280:16x64x1`` are the tiles up to 16 rows and 1280 columns, as the fields of ``Sides``;
    ``-`` stands for any.
    """
    rows = (word.split(":") for word in words)
    return tuple((_most(first), _most(second), _sides(tiles)) for first, second, tiles in rows)


def _most(text: str) -> float:
    return inf if text == "-" else float(text)


def _sides(tiles: str) -> tuple[Sides, ...]:
    return tuple(Sides(*map(int, tile.split("x"))) for tile in tiles.split("+"))


# By generation, data type and scales of the left operand.
STACKS = {
    name: _table(_data.words(f"stack {name}"))
    for name in (
        "ada fp8 static",
        "hopper fp8 static",
        "hopper fp8 token",
        "hopper fp8 block",
        "hopper fp8 torch token",
        "hopper fp8 torch block",
    )
}
# The kernel for experts: tiles by tokens and tokens per expert; experts and inner widths with tiles measured for them.
EXPERTS = {name: _table(_data.words(f"experts {name}")) for name in ("ampere", "latest")}
TUNED = {name: _data.pairs(f"experts tuned {name}") for name in ("ampere", "hopper")}
TUNED_TILES = _sides(_data.words("experts tiles")[0])


def of_product(generation: str, dtype: str, scales: str, m: Size, n: Size) -> tuple[Sides, ...]:
    """The tiles of a stack's product of m rows and n columns; empty where they are not known."""
    for most_m, most_n, tiles in STACKS.get(f"{generation} {dtype} {scales}", ()) if scales else ():
        if m <= most_m and n <= most_n:
            return tiles
    return ()


def of_experts(generation: str, tokens: Size, experts: Size, widths: tuple[Size, ...]) -> tuple[Sides, ...]:
    """The tiles of the Triton kernel for experts. ``widths``: those of which one is the experts' inner width."""
    if any((experts, width) in TUNED.get(generation, ()) for width in widths):
        return TUNED_TILES
    rows = EXPERTS.get(generation, EXPERTS["latest"])
    return next(tiles for most, each, tiles in rows if tokens <= most and tokens <= each * experts)
