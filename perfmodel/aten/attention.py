"""Attention by one of torch's fused kernels, and its gradient."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from perfmodel.aten.asking import asked
from perfmodel.aten.calls import Call, Launched, Operand, Rule
from perfmodel.mixes import SUM
from perfmodel.op import Engine, Tensor, Work, each
from perfmodel.runs import Heads


def _sizes(q: Operand, k: Operand) -> dict[str, Any]:
    """Sizes of q (B, H, N, d) and k (B, H_kv, S, d)."""
    B, H, N, d = q.shape
    return {"B": B, "H": H, "H_kv": k.shape[1], "N": N, "S": k.shape[2], "d": d}


def forward(impl: str, causal_at: int, mask_at: int | None, dropout_at: int) -> Rule:
    """The rule of a back end whose causal flag, mask and dropout stand at these places of the schema."""

    def rule(call: Call) -> Iterable[Launched]:
        q, k, v = call.operands[:3]
        causal = _flag(call.argument(causal_at, "is_causal"))
        mask = call.argument(mask_at, "attn_bias") if mask_at is not None else None
        found = _attention(q, k, v, impl, causal, mask if isinstance(mask, Operand) else None)
        yield _with(found, dropout=_drops(call.argument(dropout_at, "dropout_p")))

    return rule


def _attention(q: Operand, k: Operand, v: Operand, impl: str, causal: bool, mask: Operand | None) -> Launched:
    sizes = _sizes(q, k) | {"causal": int(causal and _whole(q, k)), "act": q.item, "cache": k.item}
    if k.shape[-1] != v.shape[-1]:
        sizes = sizes | {"d": (q.shape[-1] + v.shape[-1] + 1) // 2}  # both products together count the same
    rows = q.numel // q.shape[-1] if isinstance(q.numel, int) else q.shape[0] * q.shape[1] * q.shape[2]
    found = asked("attention", q.dtype, impl, scratch_byte=4 * rows, **sizes)
    if mask is None:
        return found
    B, H, N, S = sizes["B"], sizes["H"], sizes["N"], sizes["S"]
    tensors = (*found.op.tensors, Tensor("mask", (mask.distinct,), mask.item, reads=1))
    work = (*found.op.work, Work("mask", each(SUM, B, H, N, S), Engine.VECTOR))
    return _with(found._replace(op=found.op._replace(tensors=tensors, work=work)), masked=True)


def _with(found: Launched, **facts: bool) -> Launched:
    """The kernel with more facts of its attention."""
    fact = found.op.runs
    return found._replace(op=found.op._replace(runs=fact._replace(**facts))) if isinstance(fact, Heads) else found


def _drops(value: Any) -> bool:
    """Whether a probability of dropout is above zero."""
    return isinstance(value, (int, float)) and value > 0


def _whole(q: Operand, k: Operand) -> bool:
    """Whether the causal mask of the counts, which ends at the last key, holds for these sizes."""
    return not (isinstance(q.shape[2], int) and isinstance(k.shape[2], int)) or q.shape[2] <= k.shape[2]


def backward(impl: str, causal_at: int, dropout_at: int, mask_at: int | None) -> Rule:
    """The rule of a back end's gradient: dout, q, k, v come first."""

    def rule(call: Call) -> Iterable[Launched]:
        q, k = call.operands[1:3]
        causal = _flag(call.argument(causal_at, "is_causal"))
        sizes = _sizes(q, k) | {"causal": int(causal), "act": q.item, "cache": k.item}
        # Gradients of q are summed in float32 first.
        found = asked("attention_backward_recompute", q.dtype, impl, scratch_byte=4 * q.numel, **sizes)
        mask = call.argument(mask_at, "attn_bias") if mask_at is not None else None
        masked = isinstance(mask, Operand) and bool(mask.shape)
        yield _with(found, masked=masked, dropout=_drops(call.argument(dropout_at, "dropout_p")))

    return rule


def _flag(value: Any) -> bool:
    return bool(value) and value not in ("False", "false", "0")


def flex(call: Call) -> Iterable[Launched]:
    """flex_attention without a mask that is known: all pairs."""
    q, k, v = call.operands[:3]
    yield _attention(q, k, v, "flash", False, None)


FLASH, EFFICIENT, CUDNN = (
    "_scaled_dot_product_flash_attention", "_scaled_dot_product_efficient_attention", "_scaled_dot_product_cudnn_attention",
)  # fmt: skip
RULES: dict[str, Rule] = {
    FLASH: forward("flash", 4, None, 3),
    EFFICIENT: forward("efficient", 6, 3, 5),
    CUDNN: forward("cudnn", 6, 3, 5),
    "scaled_dot_product_attention": forward("cudnn", 5, 3, 4),
    f"{FLASH}_backward": backward("flash", 11, 10, None),
    f"{EFFICIENT}_backward": backward("efficient", 11, 9, 4),
    f"{CUDNN}_backward": backward("cudnn", 14, 13, 8),
    "flex_attention": flex,
    "flex_attention_backward": backward("flash", 99, 99, None),
}
