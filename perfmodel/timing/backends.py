"""The back ends of torch's attention, as the attention's mechanism knows them.

Tiles are those of their published sources: FlashAttention 2 takes 128 queries by 64 keys at head size 128, its kernel for
split keys 64 queries by 128 keys; the memory-efficient kernel 64 queries. Shares of the engine's peak and instructions
are fitted on an H200 (2026-11, torch 2.11, cuDNN 9.19).
"""

from __future__ import annotations

from functools import cache

from perfmodel.timing.attention import BackEnd

FLASH = BackEnd(
    queries=128, keys=64, share=0.804, score_slots=6.15, overlap=1.0, together=2, start_s=1.43e-6, tail=1.84,
    splits="always", split_queries=64, split_keys=128, merge_s=6.9e-6, fill=1.08, mask_slots=24.6, back_share=0.937,
    back_slots=55.3,
)  # fmt: skip
CUDNN = BackEnd(
    queries=128, keys=128, share=0.655, score_slots=13.8, overlap=3.95, together=1, start_s=1.33e-6, tail=1.6,
    splits="decoding", split_queries=64, split_keys=128, merge_s=3.1e-6, fill=1.0, mask_slots=9.9, back_share=0.545,
    back_slots=26.7,
)  # fmt: skip
EFFICIENT = BackEnd(
    queries=64, keys=64, share=0.506, score_slots=27.3, overlap=1.0, together=2, start_s=1.33e-6, tail=3.49,
    splits="never", split_queries=64, split_keys=64, merge_s=0.0, fill=1.4, mask_slots=25.0, back_share=0.424,
    back_slots=108.0,
)  # fmt: skip
# What the matrix instruction of Ampere, which these kernels were written for, reaches of a later engine's peak.
OLDER_INSTRUCTION = {"hopper": 0.5, "blackwell": 0.25}
OWN_INSTRUCTION = ("cudnn",)

NAMED = {"flash": FLASH, "cudnn": CUDNN, "efficient": EFFICIENT}
# What torch itself takes: cuDNN where it has kernels made for the card, else FlashAttention, which begins with Ampere.
OWN_CHOICE = {"hopper": "cudnn", "blackwell": "cudnn", "ampere": "flash", "ada": "flash"}


@cache
def back_end(impl: str, generation: str) -> BackEnd:
    """The back end of that name on cards of a generation; torch's own choice for any other word."""
    name = impl if impl in NAMED else OWN_CHOICE.get(generation, "efficient")
    found = NAMED[name]
    if name in OWN_INSTRUCTION:
        return found
    part = OLDER_INSTRUCTION.get(generation, 1.0)
    return found._replace(share=found.share * part, back_share=found.back_share * part)
