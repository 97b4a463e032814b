"""Attention back ends and their parameters.

``flash``, ``cudnn``, ``efficient``: torch's back ends, fitted on an H200 (2026-11, torch 2.11, cuDNN 9.19; 296
records). The tiles of ``flash`` and ``efficient`` are those of their published sources; cuDNN's are the ones that fit
its times, and in the gradient those that its kernel's name states. cuDNN's mask, dropout and masked decoding are fitted
on an H100 SXM (2026-11, torch 2.11; 31 kernels of whole programs, 18 others held out).

``serving``: FlashAttention as a serving stack calls it, including its planning and the storing of new keys and values.
Hopper and later use version 3 with the tiles and splitting rule of its source; older cards use its build for them.
Fitted together on an H100 SXM (SGLang 0.5, vLLM 0.24) and an A100 SXM (SGLang 0.5), bf16 (ai-dynamo/aiconfigurator
095f58a). Its share of the peak is the generation's (``hardware/families``). Blackwell's data-centre chips use TRT-LLM's kernels
instead, fitted on half of the shapes of a B200 SXM (vLLM 0.24, same source).

``paged``: FlashAttention-2 over a paged cache as vLLM calls it on Ampere and Ada, fitted on an A100 SXM (vLLM 0.14, same
source).

Serving stacks do not compute gradients; torch's kernel is assumed.
"""

from __future__ import annotations

from functools import cache

from perfmodel.timing.attention import BackEnd
from perfmodel.timing.walks import Tile

ANY = 1024  # larger than any head size
BACK = ((ANY, Tile(128, 64, 1)),)
SPLIT = ((64, Tile(64, 256, 2)), (128, Tile(64, 128, 2)), (ANY, Tile(64, 64, 2)))
FLASH = BackEnd(
    "FlashAttention-2",
    tiles=((64, Tile(128, 128, 2)), (128, Tile(128, 64, 2)), (ANY, Tile(128, 64, 1))), narrow=SPLIT,
    cuts="filled", packs="one", share=0.651, slots=6.34, start=4.23, mask=20.9, fill=1.7, tail=0.868,
    join=11.8, part=0.596, back=BACK, back_share=0.539, back_start=40.8, back_slots=0.0, cold=1.7,
)  # fmt: skip
CUDNN = BackEnd(
    "cuDNN",
    tiles=((128, Tile(128, 128, 1)), (ANY, Tile(128, 64, 1))), narrow=(),
    share=0.715, slots=5.28, start=2.42, mask=7.42, fill=1.0, tail=1.49, stream=1.01, decode=10.5, join=7.06,
    back=((ANY, Tile(64, 64, 2)),), back_share=0.64, back_start=11.4, back_slots=9.78,
    cold=7.0, power=0.816, widths=16, clears=True, added=19.5, drop=30.0, masked_stream=0.93, masked_decode=26.5,
)  # fmt: skip
EFFICIENT = BackEnd(
    "memory-efficient attention",
    tiles=((64, Tile(64, 64, 4)), (128, Tile(64, 128, 2)), (ANY, Tile(32, 128, 2))), narrow=(),
    share=0.354, slots=37.6, start=1.49, mask=16.7, fill=1.88, tail=1.11,
    back=((ANY, Tile(64, 64, 2)),), back_share=0.247, back_start=22.7, back_slots=44.8, cold=4.49,
)  # fmt: skip
# ``share`` is Hopper's here; ``back_end`` replaces it by the generation's.
SERVING = BackEnd(
    "FlashAttention-3 of a serving stack",
    tiles=((96, Tile(192, 128, 1)), (128, Tile(128, 128, 1)), (192, Tile(128, 112, 1)), (ANY, Tile(128, 80, 1))),
    narrow=((ANY, Tile(64, 128, 1)),), cuts="shared out", packs="all",
    share=0.663, slots=3.08, start=7.24, mask=15.5, fill=1.0, tail=0.725, join=12.0, part=0.295, plan=12.9, power=0.9,
    back=CUDNN.back, back_share=CUDNN.back_share, back_start=CUDNN.back_start, back_slots=CUDNN.back_slots,
)  # fmt: skip
SERVING_BEFORE = SERVING._replace(
    title="FlashAttention of a serving stack", tiles=((ANY, Tile(128, 64, 2)),), narrow=((ANY, Tile(128, 112, 1)),),
    fill=8.0, back=FLASH.back, back_share=FLASH.back_share, back_start=FLASH.back_start, back_slots=FLASH.back_slots,
)  # fmt: skip
# Blackwell's data-centre chips: TRT-LLM's kernels as FlashInfer calls them. A block holds two tiles of 128 queries of one head.
SERVING_LATEST = SERVING._replace(
    title="TRT-LLM attention of a serving stack", tiles=((ANY, Tile(256, 128, 1)),), packs="one", start=3.98, join=3.89,
    slots=2.37,
)  # fmt: skip
PAGED = FLASH._replace(
    title="FlashAttention-2 over a paged cache", tiles=SPLIT, cuts="groups", share=0.827, slots=11.9, start=7.3,
    mask=0.0, fill=2.63, tail=1.19, join=22.7, part=0.5, plan=9.87, cold=0.0,
)  # fmt: skip
NAMED = {"flash": FLASH, "cudnn": CUDNN, "efficient": EFFICIENT, "serving": SERVING, "paged": PAGED}
# The back end that torch chooses: cuDNN where it has kernels for the card, otherwise FlashAttention (Ampere and later).
OWN_CHOICE = {"hopper": "cudnn", "blackwell": "cudnn", "ampere": "flash", "ada": "flash"}
# Generations with a matrix instruction of their own. Kernels without it use Ampere's instruction, which reaches this
# share of their peak, relative to what it reaches of Ampere's (Blackwell's is carried over).
MODERN = ("hopper", "blackwell")
OLDER_INSTRUCTION = {"hopper": 0.55, "blackwell": 0.275}


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
    """Says what an unavailable back end was timed as; empty where the back end exists."""
    if impl in NAMED and impl != "efficient" and dtype in ("fp32", "tf32", "fp64"):
        return f"{impl} takes no {dtype}: its attention is timed as the memory-efficient kernel, which does"
    if impl in NAMED and impl != "efficient" and generation in ("volta", "turing"):
        return f"{impl} has no kernels for cards before Ampere: its attention is timed as if it had"
    return ""
