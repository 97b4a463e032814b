"""Which back end torch takes for ``scaled_dot_product_attention`` on a card of the Hopper class, and its call.

The conditions are those of torch's ``sdp_utils.cpp`` (2.11, CUDA 13): back ends in order of preference, each with what it
refuses. A card of the Hopper or Blackwell class prefers cuDNN. Switches and priorities of ``torch.nn.attention.sdpa_kernel``
are obeyed.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch.nn.attention import SDPBackend

_aten = torch.ops.aten
HALVES = (torch.float16, torch.bfloat16)
_DEFAULT_ORDER = [1, 2, 0, 3, 4]  # torch's own, before it knows the card
WIDEST = 256  # largest head size of cuDNN's kernels on Hopper
_HOPPER_ORDER = [3, 1, 2, 0]


class Given(NamedTuple):
    """The arguments of ``scaled_dot_product_attention``."""

    query: Any
    key: Any
    value: Any
    mask: Any
    dropout: float
    causal: bool
    scale: float | None
    grouped: bool

    @property
    def trains(self) -> bool:
        """Whether a backward pass can follow."""
        return torch.is_grad_enabled() and any(x.requires_grad for x in (self.query, self.key, self.value))


def attention(
    query: Any, key: Any, value: Any, attn_mask: Any = None, dropout_p: float = 0.0, is_causal: bool = False, *,
    scale: float | None = None, enable_gqa: bool = False,
) -> Any:  # fmt: skip
    """``scaled_dot_product_attention`` as one call of the back end that torch takes on a card."""
    given = Given(query, key, value, attn_mask, dropout_p, is_causal, scale, enable_gqa)
    backend = chosen(given)
    if backend == SDPBackend.MATH:
        operator = _aten.scaled_dot_product_attention.default
        return operator.decompose(
            query, key, value, attn_mask, dropout_p, is_causal, scale=scale, enable_gqa=enable_gqa
        )
    return {SDPBackend.CUDNN_ATTENTION: _cudnn, SDPBackend.FLASH_ATTENTION: _flash}.get(backend, _efficient)(given)


def chosen(given: Given) -> Any:
    """The first back end of torch's order that is switched on and accepts the tensors; math if none does."""
    order = torch._C._get_sdp_priority_order()
    switches = torch.backends.cuda
    for number in _HOPPER_ORDER if list(order) == _DEFAULT_ORDER else order:
        backend = SDPBackend(number)
        if backend == SDPBackend.CUDNN_ATTENTION and switches.cudnn_sdp_enabled() and _cudnn_accepts(given):
            return backend
        if backend == SDPBackend.FLASH_ATTENTION and switches.flash_sdp_enabled() and _flash_accepts(given):
            return backend
        if (
            backend == SDPBackend.EFFICIENT_ATTENTION
            and switches.mem_efficient_sdp_enabled()
            and _efficient_accepts(given)
        ):
            return backend
        if backend == SDPBackend.MATH and switches.math_sdp_enabled():
            return backend
    return SDPBackend.MATH


def _dense(given: Given, grouped: bool, rows_of_one: bool = True) -> bool:
    """Returns whether the tensors suit every fused back end: four dimensions, one batch size, matching heads,
    contiguous elements of a head.
    """
    query, key, value, mask = given[:4]
    if not query.dim() == key.dim() == value.dim() == 4 or not query.dtype == key.dtype == value.dtype:
        return False
    if not query.shape[0] == key.shape[0] == value.shape[0] or query.shape[2] == 0 or key.shape[2] == 0:
        return False
    heads, key_heads, value_heads = query.shape[1], key.shape[1], value.shape[1]
    if given.grouped and grouped:
        if key_heads != value_heads or heads % key_heads:
            return False
    elif not heads == key_heads == value_heads:
        return False
    in_rows = all(x.stride(-1) == 1 for x in (query, key, value)) or (rows_of_one and query.shape[-1] == 1)
    return in_rows and (mask is None or mask.stride(-1) == 1)


def _cudnn_accepts(given: Given) -> bool:
    query, key, value = given[:3]
    if not _dense(given, grouped=True) or query.dtype not in HALVES or not _mask_fits(given):
        return False
    if torch.are_deterministic_algorithms_enabled():
        return False
    width, value_width = query.shape[-1], value.shape[-1]
    if width % 8 or value_width % 8 or max(width, value_width) > WIDEST:
        return False
    return bool(key.shape[2] != 1 and not (given.dropout and query.shape[2] == 1))


def _mask_fits(given: Given) -> bool:
    """Whether cuDNN takes the shape of the mask, which must not need a gradient."""
    query, key, mask = given.query, given.key, given.mask
    if mask is None:
        return True
    if mask.requires_grad or mask.dim() not in (2, 4):
        return False
    wanted = (*query.shape[:3], key.shape[2])[-mask.dim() :]
    return all(size in (1, full) for size, full in zip(mask.shape, wanted, strict=True))


def _flash_accepts(given: Given) -> bool:
    query, key, value = given[:3]
    if given.mask is not None or not _dense(given, grouped=True) or query.dtype not in HALVES:
        return False
    if not query.shape[-1] == key.shape[-1] == value.shape[-1] or query.shape[-1] > 256:
        return False
    return not given.causal or query.shape[2] == key.shape[2]


def _efficient_accepts(given: Given) -> bool:
    query, key, value = given[:3]
    if not _dense(given, grouped=False, rows_of_one=False) or query.dtype not in (*HALVES, torch.float32):
        return False
    alignment = 8 if query.dtype in HALVES else 4
    return query.shape[-1] == key.shape[-1] and not query.shape[-1] % alignment and not value.shape[-1] % alignment


def _cudnn(given: Given) -> Any:
    query, key, value, mask = given[:4]
    if mask is not None and mask.dtype == torch.bool:
        mask = _additive(mask, query.dtype)
    return _aten._scaled_dot_product_cudnn_attention(
        query, key, value, mask, given.trains, given.dropout, given.causal, False, scale=given.scale
    )[0]


def _flash(given: Given) -> Any:
    width = given.query.shape[-1]
    missing = -width % 8
    query, key, value = (torch.nn.functional.pad(x, (0, missing)) if missing else x for x in given[:3])
    scale = given.scale if given.scale is not None else width**-0.5
    out = _aten._scaled_dot_product_flash_attention(query, key, value, given.dropout, given.causal, False, scale=scale)[
        0
    ]
    return out[..., :width] if missing else out


def _efficient(given: Given) -> Any:
    query, key, value, mask = given[:4]
    if mask is not None:
        if mask.dtype == torch.bool:
            mask = _additive(mask, query.dtype)
        if any(stride % 8 for stride in mask.stride()[:-1]) or mask.stride(-1) != 1:
            width = mask.shape[-1]
            mask = torch.nn.functional.pad(mask, (0, 8 - width % 8))[..., :width]
        mask = mask.expand(*query.shape[:3], key.shape[2])
    return _aten._scaled_dot_product_efficient_attention(
        query, key, value, mask, given.trains, given.dropout, given.causal, scale=given.scale
    )[0]


def _additive(mask: Any, dtype: torch.dtype) -> Any:
    """A mask of truth values as numbers to add: two numbers and a choice, three kernels."""
    zero, least = (torch.scalar_tensor(value, dtype=dtype, device=mask.device) for value in (0.0, float("-inf")))
    return torch.where(mask, zero, least)
