"""Optimizers and gradient clipping choose between their implementations as they do on a card."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from unittest.mock import patch

from torch.utils import _foreach_utils as support

_PLACES = ("torch.utils._foreach_utils", "torch.optim.optimizer", "torch.optim.swa_utils")
_LISTS = ("_get_foreach_kernels_supported_devices", "_get_fused_kernels_supported_devices")


@contextmanager
def as_on_a_card() -> Iterator[None]:
    """The meta device counts as one with multi-tensor and fused kernels."""
    with ExitStack() as stack:
        for name in _LISTS:
            with_meta = [*getattr(support, name)(), "meta"]
            for place in _PLACES:
                stack.enter_context(patch(f"{place}.{name}", lambda devices=with_meta: list(devices), create=True))
        yield
