"""Operators that torch takes apart in another way on a card than on the meta device: here they do as on a card.

While a capture runs, the replacements are registered with torch's dispatcher for tensors of the meta device. They apply
wherever an operator is called.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from perfmodel.capture.attention import HALVES, attention
from perfmodel.capture.recurrent import RECURRENT, gradients, results

_aten = torch.ops.aten


def dropout(x: Any, p: float, train: bool) -> Any:
    """One kernel that also writes the mask, for the backward pass."""
    if not train or p == 0 or not x.numel():
        return x
    return _aten.native_dropout(x, p, train)[0] if p < 1 else _aten.dropout.default.decompose(x, p, train)


def softmax(x: Any, dim: int, dtype: torch.dtype | None = None) -> Any:
    """A softmax of fp16 with results in fp32 needs no conversion before it; one of bf16 does."""
    if dtype == torch.float32 and x.dtype == torch.float16:
        return _aten._softmax(x, dim, True)
    return _aten._softmax(x if dtype is None else x.to(dtype), dim, False)


def safe_softmax(x: Any, dim: int, dtype: torch.dtype | None = None) -> Any:
    """A softmax whose rows without any finite number are zeros."""
    found = softmax(x, dim, dtype)
    hidden = _aten.all.dim(_aten.isneginf(x), dim, True)
    return _aten.where.self(hidden, _aten.zeros([], dtype=found.dtype, device=found.device), found)


def log_softmax(x: Any, dim: int, dtype: torch.dtype | None = None) -> Any:
    """As ``softmax``."""
    if dtype == torch.float32 and x.dtype == torch.float16:
        return _aten._log_softmax(x, dim, True)
    return _aten._log_softmax(x if dtype is None else x.to(dtype), dim, False)


def rms_norm(x: Any, shape: Any, weight: Any = None, eps: float | None = None) -> Any:
    """One kernel, if the weight has the data type of the input."""
    if weight is not None and weight.dtype != x.dtype:
        return _aten.rms_norm.default.decompose(x, shape, weight, eps)
    return _aten._fused_rms_norm(x, shape, weight, eps)[0]


def fused_rms_norm(x: Any, shape: Any, weight: Any, eps: float | None) -> Any:
    """The fused kernel with its gradient."""
    return RmsNorm.apply(x, tuple(shape), weight, eps)


class RmsNorm(torch.autograd.Function):  # type: ignore[misc]
    """The fused kernel and its backward kernel: torch's own gradient of it is that of its parts."""

    @staticmethod
    def forward(ctx: Any, x: Any, shape: Any, weight: Any, eps: Any) -> Any:
        with torch._C._AutoDispatchBelowAutograd():
            out, rstd = _aten._fused_rms_norm(x, shape, weight, eps)
        ctx.save_for_backward(x, weight, rstd)
        ctx.mark_non_differentiable(rstd)
        ctx.set_materialize_grads(False)
        ctx.shape = shape
        return out, rstd

    @staticmethod
    def backward(ctx: Any, grad: Any, _: Any) -> Any:
        x, weight, rstd = ctx.saved_tensors
        wanted = [ctx.needs_input_grad[0], weight is not None and ctx.needs_input_grad[2]]
        with torch._C._AutoDispatchBelowAutograd():
            of_x, of_weight = _aten._fused_rms_norm_backward(grad, x, ctx.shape, rstd, weight, wanted)
        return of_x, None, of_weight, None


def one_hot(indices: Any, num_classes: int = -1) -> Any:
    """Zeros, and a one scattered into every row."""
    if num_classes < 0:
        num_classes = int(indices.max().item()) + 1
    zeros = torch.zeros((*indices.shape, num_classes), dtype=indices.dtype, device=indices.device)
    return zeros.scatter_(-1, indices.unsqueeze(-1), 1)


# Operators with kernels of their own on the host, which a card runs as several.
PARTS: dict[str, Callable[..., Any]] = {"_safe_softmax": safe_softmax}

OVERRIDES: dict[str, Callable[..., Any]] = {
    "scaled_dot_product_attention": attention,
    "dropout": dropout,
    "softmax.int": softmax,
    "log_softmax.int": log_softmax,
    "rms_norm": rms_norm,
    "_fused_rms_norm": fused_rms_norm,
    "one_hot": one_hot,
    **RECURRENT,
}


def _rms_norm_results(x: Any, shape: Any, weight: Any, eps: Any) -> tuple[Any, Any]:
    """The results of the fused kernel: the normalized tensor, and the reciprocal root of each row in fp32."""
    rows = x.shape[: x.dim() - len(shape)]
    kept = torch.float32 if x.dtype in HALVES else x.dtype
    return torch.empty_like(x), torch.empty((*rows, *(1 for _ in shape)), dtype=kept, device="meta")


def _rms_norm_gradients(grad: Any, x: Any, shape: Any, rstd: Any, weight: Any, wanted: Any) -> tuple[Any, Any]:
    """The gradients of input and weight, those that are wanted."""
    return torch.empty_like(x) if wanted[0] else None, torch.empty_like(weight) if wanted[1] else None


def _convolution(*args: Any) -> Any:
    """cuDNN's result has its channels last if those of the input or the weight are."""
    result = _aten.convolution.default(*args)
    last = torch.channels_last if result.dim() == 4 else torch.channels_last_3d if result.dim() == 5 else None
    if last and any(x.is_contiguous(memory_format=last) and not x.is_contiguous() for x in args[:2]):
        return torch.empty_like(result, memory_format=last)
    return result


# Operators without a form on the meta device, or with another than on a card, by what makes their results.
SHAPES: dict[str, Callable[..., Any]] = {
    "_fused_rms_norm": _rms_norm_results,
    "_fused_rms_norm_backward": _rms_norm_gradients,
    "_cudnn_rnn": results,
    "_cudnn_rnn_backward": gradients,
    "convolution": _convolution,
}


@contextmanager
def registered() -> Iterator[None]:
    """The replacements are in force while the context is open."""
    library = torch.library.Library("aten", "IMPL")
    try:
        for name, function in OVERRIDES.items():
            library.impl(name, function, "AutogradMeta")
        yield
    finally:
        library._destroy()
