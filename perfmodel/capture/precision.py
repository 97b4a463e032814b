"""The type in which torch multiplies float32 tensors: float32, or TF32 where the program allows it."""

from __future__ import annotations

from typing import Any

import torch

from perfmodel.aten import images, products

_PRODUCTS = frozenset(products.RULES)
_CONVOLUTIONS = frozenset(
    name for name, rule in images.RULES.items() if rule in (images.convolution, images.simple_convolution, images.convolution_backward)
)  # fmt: skip


def of_call(name: str) -> str:
    """Returns the setting that holds for an operator now: ``fp32`` or ``tf32``, empty for operators without products."""
    if name in _PRODUCTS:
        return _chosen(torch.backends.cuda.matmul)
    return _chosen(getattr(torch.backends.cudnn, "conv", torch.backends.cudnn)) if name in _CONVOLUTIONS else ""


def _chosen(setting: Any) -> str:
    """The setting of one library. torch before 2.9 has ``allow_tf32`` alone."""
    found = getattr(setting, "fp32_precision", None)
    allowed = setting.allow_tf32 if found is None else found == "tf32"
    return "tf32" if allowed else "fp32"
