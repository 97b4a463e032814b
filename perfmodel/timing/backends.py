"""Attention back ends and their parameters.

``flash``, ``cudnn``, ``efficient``: torch's back ends. The tiles of ``flash`` and ``efficient`` are those of their
published sources. cuDNN's are the ones that fit its times, and in the gradient those that its kernel's name states.

``serving``: FlashAttention as a serving stack calls it, including its planning and the storing of new keys and values.
Hopper and later use version 3 with the tiles and splitting rule of its source; older cards use its build for them. Its
share of the peak is the generation's (``hardware/families``). Blackwell's data-centre chips use TRT-LLM's kernels
instead.

``paged``: FlashAttention-2 over a paged cache as vLLM calls it on Ampere and Ada.

``hardware/kernels/backends.yaml`` states the measurements that each figure was fitted to.

Serving stacks do not compute gradients; torch's kernel is assumed.
"""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

from perfmodel.timing.walks import Tile
from perfmodel.timing.weights import Mechanism

_data = Mechanism("backends")


class BackEnd(NamedTuple):
    """How a library's attention kernel works.

    ``tiles``: tiles by the largest head size that uses them; ``narrow``: tiles where the keys are split. ``share``:
    share of the engine's peak that its products reach. ``slots``: vector instructions per pair besides the exponential.
    ``start``: first loads and last stores of a block, in memory latencies. ``mask``: vector instructions per pair of a
    step that the mask crosses. ``spilled``: bytes per thread that the kernel for masked tiles that are not full spills to
    memory in addition, by head size. ``spill``: instructions per pair of a crossed step for each of these bytes.
    ``fill``: exponent of the rate that few blocks reach on a multiprocessor. ``tail``: weight of (longest - mean) block
    time. ``queue``: weight of the longest block's instead, 0 if ``tail`` counts. ``cuts``: rule by which keys are split. ``packs``: whether the heads of a
    group share a tile: for one query, for all, or not. ``join``, ``part``: the joining kernel, fixed and per part, in
    latencies. ``stream``: share of the read rate of a decoding kernel; ``decode``: its start in latencies. ``plan``:
    planning before each call, in thousand clocks. ``back``, ``back_share``, ``back_start``, ``back_slots``: the same of
    the gradient kernel. ``cold``: code fetched from memory, in latencies. ``power``: factor of the rate that the power
    limit allows. ``widths``: step of head sizes that have kernels. ``clears``: whether counters are cleared first.
    ``added``, ``drop``: vector instructions per pair of a mask and of dropout. ``masked_stream``, ``masked_decode``:
    ``stream`` and ``decode`` of the decoding kernel that takes a mask. ``short``: tiles of prompts of few queries.
    ``wide``: factor of ``share`` for heads of more than 256 elements.
    """

    title: str
    tiles: tuple[tuple[int, Tile], ...]
    narrow: tuple[tuple[int, Tile], ...]
    share: float
    slots: float
    start: float
    mask: float
    fill: float
    tail: float
    back: tuple[tuple[int, Tile], ...]
    back_share: float
    back_start: float
    back_slots: float
    cuts: str = ""
    packs: str = ""
    join: float = 0.0
    part: float = 0.0
    stream: float = 0.0
    decode: float = 0.0
    plan: float = 0.0
    cold: float = 0.0
    power: float = 1.0
    widths: float = 32
    clears: bool = False
    added: float = 0.0
    drop: float = 0.0
    masked_stream: float = 0.0
    masked_decode: float = 0.0
    spilled: tuple[tuple[int, int], ...] = ()
    spill: float = 0.0
    queue: float = 0.0
    short: tuple[tuple[int, Tile], ...] = ()
    wide: float = 1.0


def _stated(name: str) -> dict[str, Any]:
    """The weights of a back end by the fields of ``BackEnd``."""
    return {field.replace(" ", "_"): value for field, value in _data.group(name).items()}


def _tiles(name: str) -> tuple[tuple[int, Tile], ...]:
    """Tiles by the largest head size that uses them: ``64:128x128x2`` is one of 128 queries and 128 keys, of which a
    multiprocessor holds two. The largest size is beyond any head's.
    """
    found = (text.split(":") for text in _data.words(name))
    return tuple((int(width), Tile(*map(int, tile.split("x")))) for width, tile in found)


FLASH = BackEnd(
    "FlashAttention-2", tiles=_tiles("tiles flash"), narrow=_tiles("narrow flash"), back=_tiles("back flash"),
    cuts="filled", packs="one", back_slots=0.0, spilled=_data.pairs("spilled flash"), **_stated("flash"),
)  # fmt: skip
CUDNN = BackEnd(
    "cuDNN", tiles=_tiles("tiles cudnn"), narrow=(), back=_tiles("back cudnn"), clears=True,
    widths=_data.weight("widths cudnn"), **_stated("cudnn"),
)  # fmt: skip
EFFICIENT = BackEnd(
    "memory-efficient attention", tiles=_tiles("tiles efficient"), narrow=(), back=_tiles("back efficient"),
    **_stated("efficient"),
)  # fmt: skip
# ``share`` is the generation's: ``back_end`` sets it.
SERVING = BackEnd(
    "FlashAttention-3 of a serving stack", tiles=_tiles("tiles serving"), narrow=_tiles("narrow serving"),
    cuts="shared out", packs="all", share=0.0, fill=CUDNN.fill, back=CUDNN.back, back_share=CUDNN.back_share, back_start=CUDNN.back_start,
    back_slots=CUDNN.back_slots, **_stated("serving"),
)  # fmt: skip
SERVING_BEFORE = SERVING._replace(
    title="FlashAttention of a serving stack", tiles=_tiles("tiles older serving"),
    narrow=_tiles("narrow older serving"), back=FLASH.back, back_share=FLASH.back_share, back_start=FLASH.back_start,
    back_slots=FLASH.back_slots, **_stated("older serving"),
)  # fmt: skip
# Blackwell's data-centre chips: TRT-LLM's kernels as FlashInfer calls them. A block holds two tiles of 128 queries of one head.
SERVING_LATEST = SERVING._replace(
    title="TRT-LLM attention of a serving stack", tiles=_tiles("tiles latest serving"), short=_tiles("short latest serving"),
    packs="one", **_stated("latest serving"),
)  # fmt: skip
PAGED = FLASH._replace(
    title="FlashAttention-2 over a paged cache", tiles=FLASH.narrow, cuts="groups", mask=0.0, spilled=(), queue=0.0, cold=0.0, **_stated("paged"),
)  # fmt: skip
NAMED = {"flash": FLASH, "cudnn": CUDNN, "efficient": EFFICIENT, "serving": SERVING, "paged": PAGED}
# The back end that torch chooses: cuDNN where it has kernels for the card, otherwise FlashAttention (Ampere and later).
OWN_CHOICE = {"hopper": "cudnn", "blackwell": "cudnn", "ampere": "flash", "ada": "flash"}
# Generations with a matrix instruction of their own. Kernels without it use Ampere's instruction, which reaches this
# share of their peak, relative to what it reaches of Ampere's (Blackwell's is carried over).
MODERN = ("hopper", "blackwell")
OLDER_INSTRUCTION = _data.group("older instruction")


@cache
def back_end(impl: str, dtype: str, generation: str, serving_share: float) -> BackEnd:
    """Returns the back end of that name on a generation; for any other word, torch's own choice."""
    name = impl if impl in NAMED else OWN_CHOICE.get(generation, "efficient")
    if dtype in ("fp32", "tf32", "fp64"):
        name = "efficient"  # the only fused kernel that accepts it
    if name == "serving":
        found = {"hopper": SERVING, "blackwell": SERVING_LATEST}.get(generation, SERVING_BEFORE)
        return found._replace(share=serving_share)
    found = NAMED[name]
    if name == "cudnn":
        return found if generation in MODERN else found._replace(share=serving_share)
    older = OLDER_INSTRUCTION.get(generation, 1.0)
    return found._replace(share=found.share * older, back_share=found.back_share * older)


def stand_in(impl: str, dtype: str, generation: str) -> str:
    """Returns a note that names the back end whose time replaces an unavailable one; empty where the back end exists."""
    if impl in NAMED and impl != "efficient" and dtype in ("fp32", "tf32", "fp64"):
        return f"{impl} takes no {dtype}: its attention is timed as the memory-efficient kernel, which does"
    if impl in NAMED and impl != "efficient" and generation in ("volta", "turing"):
        return f"{impl} has no kernels for cards before Ampere: its attention is timed as if it had"
    return ""
