"""The back ends of torch's attention, as the attention's mechanism knows them.

Tiles are those of their published sources: FlashAttention 2 takes 128 queries by 64 keys at head size 128, its kernel for
split keys 64 queries by 128 keys; the memory-efficient kernel 64 queries. Shares of the engine's peak and instructions
are fitted on an H200 (2026-11, torch 2.11, cuDNN 9.19).
"""

from __future__ import annotations

from perfmodel.timing.attention import BackEnd

FLASH = BackEnd(
    queries=128, keys=64, share=0.402, score_slots=7.2, overlap=1.0, together=2, start_s=1.14e-6, tail=1.84, splits=True,
    split_queries=64, split_keys=128, merge_s=7.4e-6, fill=1.08, mask_slots=28.3, back_share=0.389, back_slots=47.7,
)  # fmt: skip
CUDNN = BackEnd(
    queries=128, keys=128, share=0.742, score_slots=13.6, overlap=1.75, together=1, start_s=0.0, tail=1.55, splits=True,
    split_queries=64, split_keys=128, merge_s=2.5e-6, fill=1.0, mask_slots=21.8, back_share=0.532, back_slots=16.0,
)  # fmt: skip
EFFICIENT = BackEnd(
    queries=64, keys=64, share=0.253, score_slots=30.5, overlap=1.0, together=2, start_s=1.33e-6, tail=3.49, splits=False,
    split_queries=64, split_keys=64, merge_s=0.0, fill=1.4, mask_slots=27.7, back_share=0.191, back_slots=100.8,
)  # fmt: skip

NAMED = {"flash": FLASH, "cudnn": CUDNN, "efficient": EFFICIENT}
# What torch itself takes: cuDNN where it has kernels made for the card, else FlashAttention, which begins with Ampere.
OWN_CHOICE = {"hopper": "cudnn", "blackwell": "cudnn", "ampere": "flash", "ada": "flash"}


def back_end(impl: str, generation: str) -> BackEnd:
    """The back end of that name; torch's own choice for any other word."""
    return NAMED.get(impl) or NAMED[OWN_CHOICE.get(generation, "efficient")]
