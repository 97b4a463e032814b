"""The masked softmax and the LayerNorm in three ways: primitive operations, torch's own, and our kernels with gradients.

``naive`` composes both from primitive operations, one kernel each, as a small framework does. ``torch`` scales and masks
in kernels of their own and calls torch's softmax and layer_norm. ``fused`` calls the kernels of ``perfmodel/cuda``, each
of which reads every row once. On a processor ``fused`` computes the same formulas by torch, so its gradients can be
checked without a GPU.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.autograd.function import once_differentiable
from torch.nn.functional import layer_norm as torch_layer_norm

import perfmodel

WAYS = ("naive", "torch", "fused")
EPSILON = 1e-5

Tensor = torch.Tensor


# --- primitive operations


def naive_softmax(scores: Tensor, mask: Tensor | None, scale: float) -> Tensor:
    """Seven kernels with a mask, six without one."""
    x = scores * scale
    if mask is not None:
        x = x + mask
    powers = (x - x.amax(-1, keepdim=True)).exp()
    return powers / powers.sum(-1, keepdim=True)


def naive_layer_norm(x: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
    """Nine kernels, three of them over one value of each row."""
    centred = x - x.mean(-1, keepdim=True)
    variance = (centred * centred).mean(-1, keepdim=True)
    return centred * (variance + EPSILON).rsqrt() * gamma + beta


# --- torch's own


def torch_softmax(scores: Tensor, mask: Tensor | None, scale: float) -> Tensor:
    """Three kernels: scale, mask, softmax."""
    x = scores * scale
    return torch.softmax(x if mask is None else x + mask, -1)


# --- our kernels

ROWS = {"rows": "x.numel() // x.shape[-1]", "cols": "x.shape[-1]"}
SCORES = {"B": "x.shape[0]", "H": "x.shape[1]", "N": "x.shape[2]", "S": "x.shape[3]"}


@perfmodel.kernel(op="masked_softmax", impl="fused", name="softmax_forward", **SCORES)
def masked_softmax_forward(x: Tensor, mask: Tensor, scale: float) -> Tensor:
    """Returns softmax(scale x + mask) in one kernel."""
    if x.is_cuda:
        from perfmodel.measure import kernels

        return kernels.softmax(x, mask, scale)
    return torch.softmax(x * scale + mask, -1)


@perfmodel.kernel(op="softmax", impl="ours", **ROWS)
def scaled_softmax_forward(x: Tensor, scale: float) -> Tensor:
    """Returns softmax(scale x) in one kernel."""
    if x.is_cuda:
        from perfmodel.measure import kernels

        return kernels.softmax(x, scale=scale)
    return torch.softmax(x * scale, -1)


@perfmodel.kernel(op="masked_softmax_backward", impl="fused", name="softmax_backward", **SCORES)
def softmax_backward(x: Tensor, dy: Tensor, scale: float) -> Tensor:
    """Returns the gradient of the scores, from the probabilities x. The mask is a constant, so both forms share it."""
    if x.is_cuda:
        from perfmodel.measure import kernels

        return kernels.softmax_backward(x, dy, scale)
    return scale * x * (dy - (x * dy).sum(-1, keepdim=True))


@perfmodel.kernel(
    op="layernorm", impl="ours", name="layernorm_forward", returns="like x; (rows) like x; (rows) like x", **ROWS
)
def layernorm_forward(x: Tensor, gamma: Tensor, beta: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Returns the normalised rows, and mean and 1/σ of every row."""
    if x.is_cuda:
        from perfmodel.measure import kernels

        return kernels.layernorm(x, gamma, beta, EPSILON, keep=True)
    rows = x.reshape(-1, x.shape[-1])
    mean = rows.mean(-1)
    rstd = (rows.var(-1, correction=0) + EPSILON).rsqrt()
    return torch_layer_norm(x, gamma.shape, gamma, beta, EPSILON), mean, rstd


@perfmodel.kernel(
    op="layernorm_backward",
    impl="ours",
    name="layernorm_backward",
    returns="like x; like gamma; like gamma",
    **ROWS,
)
def layernorm_backward(
    x: Tensor, dy: Tensor, gamma: Tensor, mean: Tensor, rstd: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Returns the gradients of the input, gamma and beta."""
    if x.is_cuda:
        from perfmodel.measure import kernels

        return kernels.layernorm_backward(dy, x, gamma, mean, rstd)
    hat = (x.reshape(-1, x.shape[-1]) - mean[:, None]) * rstd[:, None]
    up = dy.reshape(hat.shape)
    g = up * gamma
    dx = (g - g.mean(-1, keepdim=True) - hat * (g * hat).mean(-1, keepdim=True)) * rstd[:, None]
    return dx.view(x.shape), (up * hat).sum(0), up.sum(0)


class FusedSoftmax(torch.autograd.Function):
    """softmax(scale x + mask) that keeps its result for the gradient, and neither the scaled nor the masked scores."""

    @staticmethod
    def forward(ctx: Any, scores: Tensor, mask: Tensor | None, scale: float) -> Tensor:
        """Runs one kernel."""
        probs = scaled_softmax_forward(scores, scale) if mask is None else masked_softmax_forward(scores, mask, scale)
        ctx.save_for_backward(probs)
        ctx.scale = scale
        return probs

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dprobs: Tensor) -> tuple[Tensor, None, None]:
        """Runs one kernel."""
        (probs,) = ctx.saved_tensors
        return softmax_backward(probs, dprobs, ctx.scale), None, None


class FusedLayerNorm(torch.autograd.Function):
    """LayerNorm that keeps its input and two numbers for each row."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
        """Runs one kernel."""
        y, mean, rstd = layernorm_forward(x, gamma, beta)
        ctx.save_for_backward(x, gamma, mean, rstd)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Runs two kernels: the gradients of rows with partial sums of those of the weights, and the last sums."""
        x, gamma, mean, rstd = ctx.saved_tensors
        return layernorm_backward(x, dy, gamma, mean, rstd)


# --- by name


def softmax(way: str, scores: Tensor, mask: Tensor | None, scale: float) -> Tensor:
    """Returns softmax(scale scores + mask) along the last axis."""
    if way == "fused":
        return FusedSoftmax.apply(scores, mask, scale)
    return naive_softmax(scores, mask, scale) if way == "naive" else torch_softmax(scores, mask, scale)


def layer_norm(way: str, x: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
    """Returns the LayerNorm along the last axis."""
    if way == "fused":
        return FusedLayerNorm.apply(x, gamma, beta)
    if way == "naive":
        return naive_layer_norm(x, gamma, beta)
    return torch_layer_norm(x, gamma.shape, gamma, beta, EPSILON)
