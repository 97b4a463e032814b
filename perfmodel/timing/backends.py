"""The back ends of attention, as its mechanism knows them."""

from __future__ import annotations

from functools import cache

from perfmodel.timing.attention import BackEnd, Tile
from perfmodel.timing.card import Fused

ANY = 1024
TWO_BACK = ((ANY, Tile(128, 64, 1)),)
TWO_SPLIT = ((64, Tile(64, 256, 2)), (128, Tile(64, 128, 2)), (ANY, Tile(64, 64, 2)))
FLASH = BackEnd(
    "FlashAttention-2",
    tiles=((64, Tile(128, 128, 2)), (128, Tile(128, 64, 2)), (ANY, Tile(128, 64, 1))), narrow=TWO_SPLIT,
    cuts="filled", packs="one", share=0.653, slots=6.34, start=4.25, mask=20.9, fill=1.69, tail=0.871,
    join=11.8, part=0.597, back=TWO_BACK, back_share=0.539, back_start=40.8, back_slots=0.0, cold=1.71,
)  # fmt: skip
CUDNN = BackEnd(
    "cuDNN",
    tiles=((128, Tile(128, 128, 1)), (ANY, Tile(128, 64, 1))), narrow=(),
    share=0.715, slots=5.28, start=2.42, mask=7.42, fill=1.0, tail=1.49, stream=1.0, decode=17.9,
    back=((64, Tile(128, 128, 2)), (ANY, Tile(128, 64, 1))), back_share=0.603, back_start=18.2, back_slots=11.7,
    cold=8.54, power=0.816, widths=16,
)  # fmt: skip
EFFICIENT = BackEnd(
    "memory-efficient attention",
    tiles=((64, Tile(64, 64, 4)), (128, Tile(64, 128, 2)), (ANY, Tile(32, 128, 2))), narrow=(),
    share=0.354, slots=37.6, start=1.49, mask=16.7, fill=1.88, tail=1.11,
    back=((ANY, Tile(64, 64, 2)),), back_share=0.247, back_start=22.7, back_slots=42.9, cold=4.49,
)  # fmt: skip
THREE_BACK = TWO_BACK
# By a serving stack: FlashAttention-3 on Hopper and later, and its build for the cards before.
SERVING = BackEnd(
    "FlashAttention-3 of a serving stack",
    tiles=((96, Tile(192, 128, 1)), (128, Tile(128, 128, 1)), (192, Tile(128, 112, 1)), (ANY, Tile(128, 80, 1))),
    narrow=((ANY, Tile(64, 128, 1)),), cuts="shared out", packs="all",
    share=0.655, slots=2.66, start=7.1, mask=15.7, fill=1.0, tail=0.783, join=8.17, part=0.156, plan=12.8,
    back=TWO_BACK, back_share=0.6191, back_start=15.28, back_slots=2.1, power=0.9,
)  # fmt: skip
SERVING_BEFORE = SERVING._replace(
    title="FlashAttention of a serving stack",
    tiles=((ANY, Tile(128, 64, 2)),), narrow=((ANY, Tile(128, 112, 1)),), fill=8.0, back_share=0.5957,
)  # fmt: skip
PAGED = FLASH._replace(
    title="FlashAttention-2 over a paged cache", tiles=TWO_SPLIT, cuts="groups", share=0.827, slots=11.85, start=7.3, mask=0.0,
    fill=2.63, tail=1.19, join=22.7, part=0.5, plan=9.87, cold=0.0,
)  # fmt: skip
NAMED = {"flash": FLASH, "cudnn": CUDNN, "efficient": EFFICIENT, "serving": SERVING, "paged": PAGED}
STACKS = ("serving", "paged")
# Made for the matrix instruction of each generation; the others know that of Ampere alone.
OWN_INSTRUCTION = ("cudnn", "serving")
# What torch itself takes: cuDNN where it has kernels made for the card, else FlashAttention, which begins with Ampere.
OWN_CHOICE = {"hopper": "cudnn", "blackwell": "cudnn", "ampere": "flash", "ada": "flash"}
MODERN = ("hopper", "blackwell")


@cache
def back_end(impl: str, dtype: str, generation: str, known: Fused) -> BackEnd:
    """The back end of that name on cards of a generation; torch's own choice for any other word."""
    name = impl if impl in NAMED else OWN_CHOICE.get(generation, "efficient")
    if name == "flash" and impl == "flash":
        name = known.flash
    if dtype in ("fp32", "tf32", "fp64") and name not in STACKS:
        name = "efficient"  # the one fused kernel that takes it
    if name == "serving":
        found = SERVING if generation in MODERN else SERVING_BEFORE
        return found._replace(share=known.serving, join=known.join, part=known.part)
    found = NAMED[name]
    if name == "cudnn":
        return found if generation in MODERN else found._replace(share=known.serving)
    return found._replace(share=found.share * known.older, back_share=found.back_share * known.older)
