"""Automatic mixed precision: ``torch.autocast("cuda")`` for tensors of the meta device, which torch leaves as they are.

While autocast is on, a dispatch key that no device here uses is switched on for the thread. Under this key, the
operators that torch casts on a card have a kernel that casts their arguments. Which operators those are comes from
torch's own registrations; the lists below say how. An operator that is in none of them computes in fp32.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import FunctionType
from typing import Any
from unittest.mock import patch

import torch

_KEY = "AutocastIPU"
_LOWER = frozenset((
    "_convolution", "conv1d", "conv2d", "conv3d", "conv_tbc", "conv_transpose1d", "conv_transpose2d",
    "conv_transpose3d", "convolution", "cudnn_convolution", "cudnn_convolution_transpose", "prelu", "addmm",
    "addmv", "addr", "matmul", "einsum", "mm", "mv", "linalg_vecdot", "linear", "addbmm", "baddbmm", "bmm",
    "chain_matmul", "linalg_multi_dot", "_thnn_fused_lstm_cell", "_thnn_fused_gru_cell", "lstm_cell", "gru_cell",
    "rnn_tanh_cell", "rnn_relu_cell", "_scaled_dot_product_flash_attention", "scaled_dot_product_attention",
))  # fmt: skip
_WIDEST = frozenset((
    "addcdiv", "addcmul", "atan2", "bilinear", "cross", "dot", "vdot", "grid_sampler", "index_put", "tensordot",
    "scatter_add",
))  # fmt: skip
# The result is in fp32, unless the call names a data type; the kernel reads halves.
_WITH_DTYPE = frozenset((
    "softmax", "log_softmax", "cumprod", "cumsum", "linalg_vector_norm", "linalg_matrix_norm", "sum", "prod",
))  # fmt: skip
_autocast: Any = torch.amp.autocast_mode.autocast


class Caster:
    """Casts arguments. Weights are cast once for each outermost autocast region."""

    def __init__(self) -> None:
        self._weights: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}

    def forget(self) -> None:
        """Drops the cast weights."""
        self._weights.clear()

    def cast(self, value: Any, dtype: torch.dtype) -> Any:
        """An argument with every floating-point tensor in this data type."""
        if isinstance(value, torch.Tensor):
            return self._tensor(value, dtype) if eligible(value) else value
        if isinstance(value, (list, tuple)):
            return [self.cast(item, dtype) for item in value]
        return value

    def _tensor(self, tensor: Any, dtype: torch.dtype) -> Any:
        if tensor.dtype == dtype:
            return tensor
        weight = tensor.requires_grad and tensor.is_leaf and tensor.dtype == torch.float32 and not tensor._is_view()
        if not (weight and dtype != torch.float32 and torch.is_autocast_cache_enabled()):
            return tensor.to(dtype)
        found = self._weights.get(id(tensor))
        if found is None:
            found = self._weights[id(tensor)] = tensor, tensor.to(dtype)
        return found[1]


def eligible(tensor: Any) -> bool:
    """Whether autocast touches a tensor: one of the card in floating point, but not in double precision."""
    return bool(tensor.is_meta and tensor.dtype.is_floating_point and tensor.dtype != torch.float64)


def _kernel(name: str, caster: Caster) -> Callable[..., Any]:
    """The kernel that casts for one operator, named ``softmax.int``."""
    packet, _, overload = name.partition(".")
    operator = getattr(getattr(torch.ops.aten, packet), overload or "default")
    with_dtype = packet in _WITH_DTYPE and any(x.name == "dtype" for x in operator._schema.arguments)

    def kernel(*args: Any, **kwargs: Any) -> Any:
        with _switched(off=True):
            if with_dtype:
                if eligible(args[0]) and _no_dtype(operator, args, kwargs):
                    kwargs["dtype"] = torch.float32
                return operator(*args, **kwargs)
            dtype = _target(packet, args)
            named = {key: caster.cast(x, dtype) for key, x in kwargs.items()}
            cast = [caster.cast(x, dtype) for x in reversed(args)]  # in the order of torch's compiled code: last first
            return operator(*reversed(cast), **named)

    return kernel


def _no_dtype(operator: Any, args: Any, kwargs: Any) -> bool:
    place = next(i for i, x in enumerate(operator._schema.arguments) if x.name == "dtype")
    return (args[place] if place < len(args) else kwargs.get("dtype")) is None


def _target(packet: str, args: Any) -> torch.dtype:
    lower: torch.dtype = torch.get_autocast_dtype("cuda")
    if packet in _LOWER:
        return lower
    if packet not in _WIDEST:
        return torch.float32
    given = [x for x in args if isinstance(x, torch.Tensor) and eligible(x)]
    return torch.float32 if any(x.dtype == torch.float32 for x in given) else lower


@contextmanager
def _switched(off: bool) -> Iterator[None]:
    before = torch._C._dispatch_tls_is_dispatch_key_excluded(_KEY)
    torch._C._dispatch_tls_set_dispatch_key_excluded(_KEY, off)
    try:
        yield
    finally:
        torch._C._dispatch_tls_set_dispatch_key_excluded(_KEY, before)


@contextmanager
def as_on_a_card() -> Iterator[None]:
    """``torch.autocast("cuda")`` works on the meta device while the context is open."""
    caster, prepared = Caster(), list[bool]()
    enter, leave, init = _autocast.__enter__, _autocast.__exit__, _autocast.__init__

    def entered(self: Any) -> Any:
        result = enter(self)
        switch()
        return result

    def switch() -> None:
        on = torch.is_autocast_enabled("cuda")
        if on and not prepared:  # most programs do without, and it takes a tenth of a second
            _registered(stack, caster)
            prepared.append(True)
        torch._C._dispatch_tls_set_dispatch_key_included(_KEY, on)
        torch._C._dispatch_tls_set_dispatch_key_excluded(_KEY, not on)

    def left(self: Any, *error: Any) -> Any:
        result = leave(self, *error)
        switch()
        if not torch.is_autocast_enabled("cuda"):
            caster.forget()
        return result

    def started(self: Any, device_type: str, *args: Any, **kwargs: Any) -> None:
        init(self, "cuda" if device_type == "meta" else device_type, *args, **kwargs)

    with ExitStack() as stack:
        for name, function in (("__enter__", entered), ("__exit__", left), ("__init__", started)):
            stack.enter_context(patch.object(_autocast, name, function))
        for name in ("is_autocast_enabled", "get_autocast_dtype"):
            stack.enter_context(patch.object(torch, name, _of_card(getattr(torch, name))))
        helper = getattr(sys.modules.get("transformers.utils.generic"), "maybe_autocast", None)
        if isinstance(helper, FunctionType):  # it leaves the meta device alone; models have it by many names
            stack.callback(setattr, helper, "__code__", helper.__code__)
            helper.__code__ = _maybe_autocast.__code__
        available = _of_card(torch.amp.is_autocast_available)
        for place in ("torch.amp", "torch.amp.autocast_mode"):
            stack.enter_context(patch(f"{place}.is_autocast_available", available))
        stack.enter_context(patch("torch.cuda.amp.common.amp_definitely_not_available", lambda: False))
        stack.enter_context(patch("torch.cuda.is_bf16_supported", lambda *_, **__: True))
        switch()
        stack.callback(_off)
        yield


def _maybe_autocast(device_type: str, dtype: Any = None, enabled: bool = True, cache_enabled: Any = None) -> Any:
    """Replaces the context manager with which ``transformers`` switches autocast: does nothing if it is off and stays
    off.
    """
    from contextlib import nullcontext

    import torch

    if enabled or torch.is_autocast_enabled(device_type):
        return torch.autocast(device_type, dtype=dtype, enabled=enabled, cache_enabled=cache_enabled)
    return nullcontext()


def _of_card(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *args, **kwargs: function(*("cuda" if x == "meta" else x for x in args), **kwargs)


def _off() -> None:
    torch._C._dispatch_tls_set_dispatch_key_included(_KEY, False)
    torch._C._dispatch_tls_set_dispatch_key_excluded(_KEY, True)


def _registered(stack: ExitStack, caster: Caster) -> None:
    """Registers the casting kernels, and that every other operator passes."""
    passing, casting = torch.library.Library("_", "IMPL"), torch.library.Library("aten", "IMPL")
    stack.callback(passing._destroy)
    stack.callback(casting._destroy)
    passing.fallback(torch.library.fallthrough_kernel, _KEY)
    for name in torch._C._dispatch_get_registrations_for_dispatch_key("AutocastCUDA"):
        if name.startswith("aten::") and "deprecated" not in name:
            casting.impl(name.removeprefix("aten::"), _kernel(name.removeprefix("aten::"), caster), _KEY)
