"""Recurrent layers as the one call of cuDNN that they are on a card, for all layers and steps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

_aten = torch.ops.aten
_ACCEPTED = (torch.float16, torch.float32, torch.float64)
_MODES = {"rnn_relu": 0, "rnn_tanh": 1, "lstm": 2, "gru": 3}


def _whole(name: str) -> Callable[..., Any]:
    """A recurrent layer over a batch of sequences of one length."""
    operator = getattr(_aten, name).input

    def layer(x: Any, state: Any, weights: Any, has_biases: bool, layers: int, dropout: float, train: bool, both: bool, batch_first: bool) -> Any:  # fmt: skip
        if x.dtype not in _ACCEPTED:
            return operator.decompose(x, state, weights, has_biases, layers, dropout, train, both, batch_first)
        return _call(name, x, state, weights, has_biases, layers, dropout, train, both, batch_first, [])

    return layer


def _packed(name: str) -> Callable[..., Any]:
    """A recurrent layer over packed sequences; their lengths are known to the host."""
    operator = getattr(_aten, name).data

    def layer(x: Any, sizes: Any, state: Any, weights: Any, has_biases: bool, layers: int, dropout: float, train: bool, both: bool) -> Any:  # fmt: skip
        if x.dtype not in _ACCEPTED or sizes.is_meta:
            return operator.decompose(x, sizes, state, weights, has_biases, layers, dropout, train, both)
        return _call(name, x, state, weights, has_biases, layers, dropout, train, both, False, sizes.tolist())

    return layer


def _call(
    name: str, x: Any, state: Any, weights: Any, has_biases: bool, layers: int, dropout: float, train: bool, both: bool,
    batch_first: bool, sizes: list[int],
) -> Any:  # fmt: skip
    hidden, cell = state if name == "lstm" else (state, None)
    width = (hidden if cell is None else cell).shape[2]
    projected = hidden.shape[2] if hidden.shape[2] != width else 0
    stride = (4 if has_biases else 2) + bool(projected)
    buffer = weights[0].detach().reshape(-1)  # on a card all weights lie in one buffer
    found = _aten._cudnn_rnn(
        x, weights, stride, buffer, hidden, cell, _MODES[name], width, projected, layers, batch_first, dropout, train, both, sizes, None
    )  # fmt: skip
    return (found[0], found[1], found[2]) if name == "lstm" else (found[0], found[1])


RECURRENT: dict[str, Callable[..., Any]] = {
    **{f"{name}.input": _whole(name) for name in _MODES},
    **{f"{name}.data": _packed(name) for name in _MODES},
}


def results(*args: Any) -> Any:
    """The results of the kernel, which has the batch in the middle whatever the order of the input is."""
    found = _aten._cudnn_rnn.default(*args)
    return (_inner_batch(found[0]), *found[1:]) if args[10] else found


def gradients(
    x: Any, weights: Any, stride: int, buffer: Any, hidden: Any, cell: Any, *rest: Any
) -> tuple[Any, Any, Any, list[Any]]:
    """The results of the backward kernel: gradients of the input, and of state and weights if they are wanted."""
    batch_first, wanted = rest[8], rest[-1]
    states = [
        torch.empty_like(y) if keep and y is not None else None
        for keep, y in zip(wanted[1:3], (hidden, cell), strict=True)
    ]
    of_x = _inner_batch(torch.empty_like(x)) if batch_first else torch.empty_like(x)
    return of_x, *states, [torch.empty_like(y) for y in weights] if wanted[3] else []


def _inner_batch(x: Any) -> Any:
    """A tensor of this shape whose first two dimensions lie in memory in the other order."""
    return x.new_empty((x.shape[1], x.shape[0], x.shape[2])).transpose(0, 1)
