"""Convolutions, pooling, interpolation, and normalisation over channels."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from perfmodel.arithmetic import product
from perfmodel.aten.asking import asked, compact
from perfmodel.aten.calls import Call, Launched, Operand, Rule
from perfmodel.aten.pointwise import over
from perfmodel.mixes import SUM


def _plane(shape: tuple[Any, ...]) -> tuple[Any, Any]:
    """Height and width of an image; of a signal height 1; of a volume, depth and height together."""
    if len(shape) <= 1:
        return 1, shape[0] if shape else 1
    return product(shape[:-1]), shape[-1]


def _numbers(value: Any, count: int) -> list[int]:
    """A list of numbers, one for every spatial dimension."""
    given = list(value) if isinstance(value, (tuple, list)) else [value if value is not None else 1]
    return (given * count)[:count] if len(given) < count else given[:count]


def _forward_shape(call: Call, x: Operand, w: Operand, at: int) -> tuple[Any, ...]:
    """Spatial sizes of the result of a convolution whose stride stands at this place of the schema."""
    sizes, taps = x.shape[2:], w.shape[2:]
    stride, padding, dilation = (_numbers(call.argument(at + i), len(sizes)) for i in range(3))
    if call.argument(at + 3) is True:  # transposed
        more = _numbers(call.argument(at + 4, otherwise=0), len(sizes))
        return tuple(
            (n - 1) * s - 2 * p + d * (k - 1) + m + 1
            for n, k, s, p, d, m in zip(sizes, taps, stride, padding, dilation, more, strict=True)
        )
    return tuple(
        (n + 2 * p - d * (k - 1) - 1) // s + 1
        for n, k, s, p, d in zip(sizes, taps, stride, padding, dilation, strict=True)
    )


def _sizes(x: Operand, w: Operand, out: tuple[Any, ...], groups: int, transposed: bool) -> dict[str, Any]:
    h, width = _plane(x.shape[2:])
    h_out, w_out = _plane(out)
    K_h, K_w = _plane(w.shape[2:])
    C, C_out = x.shape[1], w.shape[1] * groups if transposed else w.shape[0]
    if transposed:  # the input gradient of the convolution that goes the other way
        C, C_out, h, width, h_out, w_out = C_out, C, h_out, w_out, h, width
    return {
        "B": x.shape[0], "C": C, "C_out": C_out, "h": h, "w": width, "h_out": h_out, "w_out": w_out, "K_h": K_h, "K_w": K_w,
        "groups": groups, "act": x.item, "weight": w.item,
    }  # fmt: skip


def convolution(call: Call) -> Iterable[Launched]:
    """convolution(x, w, bias, stride, padding, dilation, transposed, output_padding, groups): the bias is added after it."""
    x, w = call.operands[:2]
    bias = call.argument(2, "bias")
    transposed = call.argument(6, "transposed") in (True, "True")
    groups = int(call.argument(8, "groups", 1) or 1)
    out = call.results[0].shape[2:] if call.results else _forward_shape(call, x, w, 3)
    sizes = _sizes(x, w, out, groups, transposed)
    yield asked("conv2d_input_gradient" if transposed else "conv2d", _type(x), **sizes)
    if isinstance(bias, Operand):
        result = compact((x.shape[0], bias.numel, *out), x.dtype)
        yield from over(
            "add", SUM, Call("add", (result, compact((bias.numel, *(1 for _ in out)), bias.dtype)), {}, (result,))
        )


def simple_convolution(call: Call) -> Iterable[Launched]:
    """conv1d, conv2d, conv3d (x, w, bias, stride, padding, dilation, groups), and cuDNN's own (x, w, padding, stride, ...)."""
    given = list(call.arguments)
    if call.name == "cudnn_convolution":
        padding, stride, dilation, groups = (call.argument(i) for i in (2, 3, 4, 5))
        given = [*given[:2], None, stride, padding, dilation, False, 0, groups]
    else:
        given = [*given[:2], call.argument(2), call.argument(3, "stride", 1), call.argument(4, "padding", 0),
                 call.argument(5, "dilation", 1), False, 0, call.argument(6, "groups", 1)]  # fmt: skip
    yield from convolution(call._replace(arguments=tuple(given), keywords={}))


def convolution_backward(call: Call) -> Iterable[Launched]:
    """convolution_backward(dy, x, w, bias_sizes, stride, padding, dilation, transposed, ..., groups, output_mask)."""
    dy, x, w = call.operands[:3]
    transposed = call.argument(7) in (True, "True")
    groups = int(call.argument(9, otherwise=1) or 1)
    wanted = call.argument(10, "output_mask", (True, True, True))
    sizes = _sizes(x, w, dy.shape[2:], groups, transposed)
    wanted = tuple(flag in (True, "True") for flag in wanted) if isinstance(wanted, (tuple, list)) else (True,) * 3
    if wanted[0]:
        yield asked("conv2d" if transposed else "conv2d_input_gradient", _type(x), **sizes)
    if wanted[1]:
        yield asked("conv2d_weight_gradient", _type(x), **sizes)
    if wanted[2]:
        yield asked(
            "reduce_sum", x.dtype, rows=1, cols=dy.shape[0] * product(dy.shape[2:]), inner=dy.shape[1], act=dy.item, out=dy.item
        )  # fmt: skip


def _type(x: Operand) -> str:
    """The data type of a convolution's arithmetic: torch lets cuDNN use tf32 for fp32."""
    return "tf32" if x.dtype == "fp32" else x.dtype


def pooling(operation: str, backward: bool = False) -> Rule:
    """The rule of a pooling (x, kernel, stride, ...) or of its gradient (dy, x, kernel, ...)."""

    def rule(call: Call) -> Iterable[Launched]:
        small, large = (
            (call.operands[0], call.operands[1]) if backward else (call.results[:1] or call.operands[:1])[0:1] * 2
        )
        x = large if backward else call.operands[0]
        dims = len(x.shape) - 2 if len(x.shape) > 3 else max(1, len(x.shape) - 2)
        taps = _numbers(call.argument(2 if backward else 1), dims)
        h, w = _plane(x.shape[2:])
        h_out, w_out = _plane(small.shape[2:])
        if "adaptive" in call.name:
            K_h, K_w = _per(h, h_out), _per(w, w_out)
        else:
            K_h, K_w = _plane(tuple(taps))
        yield asked(
            operation, x.dtype, B=x.shape[0], C=x.shape[1], h=h, w=w, h_out=h_out, w_out=w_out, K_h=K_h, K_w=K_w, act=x.item
        )  # fmt: skip

    return rule


def _per(of: Any, parts: Any) -> Any:
    return -(-of // parts)


def interpolation(taps: int, backward: bool = False) -> Rule:
    """The rule of an interpolation with so many neighbours per pixel."""

    def rule(call: Call) -> Iterable[Launched]:
        small = call.operands[0]
        result = call.results[0] if call.results else small
        x, y = (result, small) if backward else (small, result)
        h, w = _plane(x.shape[2:])
        h_out, w_out = _plane(y.shape[2:])
        name = "interpolate_backward" if backward else "interpolate"
        yield asked(
            name, x.dtype, B=x.shape[0], C=x.shape[1], h=h, w=w, h_out=h_out, w_out=w_out, taps=taps, act=x.item
        )

    return rule


def batch_norm(operation: str, training_at: int | None) -> Rule:
    """The rule of a batch normalisation (x, ...), whose training flag stands at this place."""

    def rule(call: Call) -> Iterable[Launched]:
        x = call.operands[0]
        training = training_at is None or call.argument(training_at, "training") in (True, "True")
        name = operation if training else "batch_norm_inference"
        yield asked(name, x.dtype, B=x.shape[0], C=x.shape[1], pixels=product(x.shape[2:]), act=x.item, acc=4)

    return rule


def group_norm(backward: bool) -> Rule:
    """native_group_norm(x, w, b, N, C, pixels, groups, eps), and its gradient."""

    def rule(call: Call) -> Iterable[Launched]:
        x = call.operands[0]
        numbers = [value for value in call.arguments if type(value) is int]
        groups = numbers[3] if len(numbers) > 3 else 1
        name = "group_norm_backward" if backward else "group_norm"
        yield asked(
            name, x.dtype, B=x.shape[0], C=x.shape[1], groups=groups, pixels=product(x.shape[2:]), act=x.item, acc=4
        )  # fmt: skip

    return rule


RULES: dict[str, Rule] = {
    **dict.fromkeys(("convolution", "_convolution", "convolution_overrideable"), convolution),
    **dict.fromkeys(("conv1d", "conv2d", "conv3d", "cudnn_convolution"), simple_convolution),
    "convolution_backward": convolution_backward,
    **dict.fromkeys(("max_pool2d", "max_pool2d_with_indices", "max_pool1d", "max_pool3d_with_indices"), pooling("max_pool2d")),
    **dict.fromkeys(("max_pool2d_with_indices_backward", "max_pool3d_with_indices_backward"), pooling("max_pool2d_backward", backward=True)),
    **dict.fromkeys(("avg_pool2d", "avg_pool1d", "avg_pool3d", "_adaptive_avg_pool2d", "adaptive_avg_pool2d", "adaptive_avg_pool1d"),
                    pooling("average_pool2d")),
    **dict.fromkeys(("avg_pool2d_backward", "_adaptive_avg_pool2d_backward", "avg_pool3d_backward"),
                    pooling("average_pool2d_backward", backward=True)),
    **dict.fromkeys(("upsample_nearest1d", "upsample_nearest2d", "upsample_nearest3d", "_upsample_nearest_exact2d"), interpolation(1)),
    **dict.fromkeys(("upsample_bilinear2d", "_upsample_bilinear2d_aa", "upsample_linear1d"), interpolation(4)),
    **dict.fromkeys(("upsample_bicubic2d", "_upsample_bicubic2d_aa"), interpolation(16)),
    "upsample_nearest2d_backward": interpolation(1, backward=True),
    "upsample_bilinear2d_backward": interpolation(4, backward=True),
    "upsample_bicubic2d_backward": interpolation(16, backward=True),
    "native_batch_norm": batch_norm("batch_norm", 5),
    "_native_batch_norm_legit": batch_norm("batch_norm", 5),
    "_batch_norm_with_update": batch_norm("batch_norm", None),
    "cudnn_batch_norm": batch_norm("batch_norm", 5),
    "_native_batch_norm_legit_no_training": batch_norm("batch_norm_inference", None),
    "batch_norm": batch_norm("batch_norm", 5),
    "native_batch_norm_backward": batch_norm("batch_norm_backward", None),
    "cudnn_batch_norm_backward": batch_norm("batch_norm_backward", None),
    "batch_norm_backward": batch_norm("batch_norm_backward", None),
    "native_group_norm": group_norm(backward=False),
    "native_group_norm_backward": group_norm(backward=True),
}  # fmt: skip
