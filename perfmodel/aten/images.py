"""Convolutions, pooling, interpolation, and normalisation over channels."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from perfmodel.arithmetic import ceil_div, product
from perfmodel.aten.asking import asked, compact
from perfmodel.aten.calls import Call, Launched, Operand, Rule
from perfmodel.aten.pointwise import over
from perfmodel.mixes import SUM


def _plane(shape: Sequence[Any]) -> tuple[Any, Any]:
    """Height and width of an image; of a signal height 1; of a volume, depth and height together."""
    return product(shape[:-1]), shape[-1] if shape else 1


def _numbers(value: Any, count: int, otherwise: int = 1) -> list[Any]:
    """One number for every spatial dimension: a list, one number for all, or ``otherwise``."""
    given = list(value) if type(value) in (tuple, list) else [value]
    given = [otherwise if one is None else one for one in given or [None]]
    return given if len(given) == count else given[:1] * count


def _windows(shape: Sequence[Any], taps: Sequence[Any], stride: Any, padding: Any, dilation: Any) -> tuple[Any, ...]:
    """Spatial sizes of the result of a convolution or a pooling."""
    count = len(shape)
    pads = [d * (k - 1) // 2 for d, k in zip(_numbers(dilation, count), taps, strict=True)]
    if padding == "valid":
        pads = [0] * count
    elif padding != "same":
        pads = _numbers(padding, count, 0)
    return tuple(
        (n + 2 * p - d * (k - 1) - 1) // s + 1
        for n, k, s, p, d in zip(shape, taps, _numbers(stride, count), pads, _numbers(dilation, count), strict=True)
    )


def _forward_shape(call: Call, x: Operand, w: Operand) -> tuple[Any, ...]:
    """Spatial sizes of the result of a convolution."""
    sizes, taps = x.shape[2:], w.shape[2:]
    stride, padding, dilation, transposed, more = (call.argument(place) for place in range(3, 8))
    if not _yes(transposed):
        return _windows(sizes, taps, stride, padding, dilation)
    stride, dilation = _numbers(stride, len(sizes)), _numbers(dilation, len(sizes))
    padding, more = _numbers(padding, len(sizes), 0), _numbers(more, len(sizes), 0)
    return tuple(
        (n - 1) * s - 2 * p + d * (k - 1) + m + 1
        for n, k, s, p, d, m in zip(sizes, taps, stride, padding, dilation, more, strict=True)
    )


def _yes(flag: Any) -> bool:
    """A flag of a call. In a profiler trace it is a text."""
    return flag in (True, "True", "true")


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
    transposed = _yes(call.argument(6, "transposed"))
    groups = int(call.argument(8, "groups", 1) or 1)
    out = call.results[0].shape[2:] if call.results else _forward_shape(call, x, w)
    sizes = _sizes(x, w, out, groups, transposed)
    yield asked("conv2d_input_gradient" if transposed else "conv2d", _type(x), **sizes)
    if isinstance(bias, Operand):
        result = compact((x.shape[0], bias.numel, *out), x.dtype)
        yield from over(
            "add", SUM, Call("add", (result, compact((bias.numel, *(1 for _ in out)), bias.dtype)), {}, (result,))
        )


def simple_convolution(call: Call) -> Iterable[Launched]:
    """conv1d, conv2d, conv3d (x, w, bias, stride, padding, dilation, groups), and cuDNN's own (x, w, padding, stride, ...)."""
    if call.name == "cudnn_convolution":
        bias, (padding, stride, dilation, groups) = None, (call.argument(place) for place in range(2, 6))
    else:
        bias, stride, padding = call.argument(2, "bias"), call.argument(3, "stride", 1), call.argument(4, "padding", 0)
        dilation, groups = call.argument(5, "dilation", 1), call.argument(6, "groups", 1)
    arguments = (*call.operands[:2], bias, stride, padding, dilation, False, 0, groups)
    yield from convolution(call._replace(arguments=arguments, keywords={}))


def convolution_backward(call: Call) -> Iterable[Launched]:
    """convolution_backward(dy, x, w, bias_sizes, stride, padding, dilation, transposed, ..., groups, output_mask)."""
    dy, x, w = call.operands[:3]
    transposed = _yes(call.argument(7))
    groups = int(call.argument(9, otherwise=1) or 1)
    wanted = call.argument(10, "output_mask", (True, True, True))
    sizes = _sizes(x, w, dy.shape[2:], groups, transposed)
    wanted = tuple(map(_yes, wanted)) if isinstance(wanted, (tuple, list)) else (True,) * 3
    if wanted[0]:
        yield asked("conv2d" if transposed else "conv2d_input_gradient", _type(x), **sizes)
    if wanted[1]:
        yield asked("conv2d_weight_gradient", _type(x), **sizes)
    if wanted[2]:
        yield asked(
            "reduce_sum", x.dtype, rows=1, cols=dy.shape[0] * product(dy.shape[2:]), inner=dy.shape[1], act=dy.item, out=dy.item
        )  # fmt: skip


def _type(x: Operand) -> str:
    """The data type of a convolution's arithmetic: by default torch lets cuDNN use tf32 for fp32."""
    return "tf32" if x.dtype == "fp32" else x.dtype


def pooling(operation: str) -> Rule:
    """The rule of a pooling (x, kernel, stride, padding, dilation)."""

    def rule(call: Call) -> Iterable[Launched]:
        x = call.operands[0]
        spatial, kernel = x.shape[2:], _numbers(call.argument(1), len(x.shape[2:]))
        if call.results:
            out = call.results[0].shape[2:]
        elif _adaptive(call):
            out = tuple(kernel)
        else:
            dilation = call.argument(4, "dilation", 1) if operation.startswith("max") else 1
            out = _windows(
                spatial, kernel, call.argument(2, "stride") or kernel, call.argument(3, "padding", 0), dilation
            )
        yield _pooled(operation, x, out, None if _adaptive(call) else kernel)

    return rule


def pooling_backward(operation: str) -> Rule:
    """The rule of a pooling's gradient (dy, x, kernel, ...)."""

    def rule(call: Call) -> Iterable[Launched]:
        dy, x = call.operands[:2]
        kernel = None if _adaptive(call) else _numbers(call.argument(2), len(x.shape[2:]))
        yield _pooled(operation, x, dy.shape[2:], kernel)

    return rule


def _adaptive(call: Call) -> bool:
    return "adaptive" in call.name


def _pooled(operation: str, x: Operand, out: Sequence[Any], kernel: Sequence[Any] | None) -> Launched:
    """A pooling to a result of these sizes. Without a kernel, the windows share the image evenly."""
    (h, w), (h_out, w_out) = _plane(x.shape[2:]), _plane(out)
    K_h, K_w = _plane(kernel) if kernel else (ceil_div(h, h_out), ceil_div(w, w_out))
    sizes = {"h": h, "w": w, "h_out": h_out, "w_out": w_out, "K_h": K_h, "K_w": K_w}
    return asked(operation, x.dtype, B=x.shape[0], C=x.shape[1], **sizes, act=x.item)


def interpolation(taps: int) -> Rule:
    """The rule of an interpolation (x, output_size, ...) with so many neighbours per pixel."""

    def rule(call: Call) -> Iterable[Launched]:
        x = call.operands[0]
        yield _interpolated("interpolate", x, x.shape[2:], _result_sizes(call, 1), taps)

    return rule


def interpolation_backward(taps: int) -> Rule:
    """The rule of an interpolation's gradient (dy, output_size, input_size, ...)."""

    def rule(call: Call) -> Iterable[Launched]:
        dy = call.operands[0]
        yield _interpolated("interpolate_backward", dy, _result_sizes(call, 2), dy.shape[2:], taps)

    return rule


def _result_sizes(call: Call, place: int) -> Sequence[Any]:
    """Spatial sizes of the result: recorded, or the last ones of the argument at a place."""
    x, given = call.operands[0], call.argument(place)
    if call.results:
        return call.results[0].shape[2:]
    return given[-len(x.shape[2:]) :] if type(given) in (tuple, list) and given else x.shape[2:]


def _interpolated(name: str, x: Operand, small: Sequence[Any], large: Sequence[Any], taps: int) -> Launched:
    (h, w), (h_out, w_out) = _plane(small), _plane(large)
    sizes = {"h": h, "w": w, "h_out": h_out, "w_out": w_out, "taps": taps}
    return asked(name, x.dtype, B=x.shape[0], C=x.shape[1], **sizes, act=x.item)


def batch_norm(operation: str) -> Rule:
    """The rule of a batch normalisation (x, ...). Its first flag says whether it is training."""

    def rule(call: Call) -> Iterable[Launched]:
        x = call.operands[0]
        given = (*call.arguments, *call.keywords.values())
        flags = [flag for flag in given if type(flag) is bool or flag in ("True", "False", "true", "false")]
        name = operation if operation != "batch_norm" or not flags or _yes(flags[0]) else "batch_norm_inference"
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
    **dict.fromkeys(("max_pool2d_with_indices_backward", "max_pool3d_with_indices_backward"), pooling_backward("max_pool2d_backward")),
    **dict.fromkeys(("avg_pool2d", "avg_pool1d", "avg_pool3d", "_adaptive_avg_pool2d", "adaptive_avg_pool2d", "adaptive_avg_pool1d"),
                    pooling("average_pool2d")),
    **dict.fromkeys(("avg_pool2d_backward", "_adaptive_avg_pool2d_backward", "avg_pool3d_backward"),
                    pooling_backward("average_pool2d_backward")),
    **dict.fromkeys(("upsample_nearest1d", "upsample_nearest2d", "upsample_nearest3d", "_upsample_nearest_exact2d"), interpolation(1)),
    **dict.fromkeys(("upsample_bilinear2d", "_upsample_bilinear2d_aa", "upsample_linear1d"), interpolation(4)),
    **dict.fromkeys(("upsample_bicubic2d", "_upsample_bicubic2d_aa"), interpolation(16)),
    "upsample_nearest2d_backward": interpolation_backward(1),
    "upsample_bilinear2d_backward": interpolation_backward(4),
    "upsample_bicubic2d_backward": interpolation_backward(16),
    "native_batch_norm": batch_norm("batch_norm"),
    "_native_batch_norm_legit": batch_norm("batch_norm"),
    "_batch_norm_with_update": batch_norm("batch_norm"),
    "cudnn_batch_norm": batch_norm("batch_norm"),
    "_native_batch_norm_legit_no_training": batch_norm("batch_norm_inference"),
    "batch_norm": batch_norm("batch_norm"),
    "native_batch_norm_backward": batch_norm("batch_norm_backward"),
    "cudnn_batch_norm_backward": batch_norm("batch_norm_backward"),
    "batch_norm_backward": batch_norm("batch_norm_backward"),
    "native_group_norm": group_norm(backward=False),
    "native_group_norm_backward": group_norm(backward=True),
}  # fmt: skip
