"""Two-dimensional convolution, pooling and interpolation by torch, channels first."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from perfmodel.measure.program import Pairs, Program
from perfmodel.measure.workloads import Bench

PLANES_CHECKED = 64
FILTERS_CHECKED = 8
CUBIC = -0.75  # torch's parameter of the cubic convolution
MODES = {1: "nearest", 4: "bilinear", 16: "bicubic"}


class Walk(NamedTuple):
    """Stride and padding along one side of an image."""

    stride: int
    padding: int

    @classmethod
    def of(cls, size: int, result: int, window: int) -> Walk:
        """The stride nearest to the ratio of the sides, and the padding that gives the result."""
        stride = max(1, round(size / result))
        return cls(stride, max(0, -(-((result - 1) * stride + window - size) // 2)))


def build(bench: Bench) -> Program:
    """The program of the operation that the case names."""
    if bench.op.startswith("conv2d"):
        return _convolution(bench)
    return _interpolation(bench) if bench.op.startswith("interpolate") else _pooling(bench)


def _walks(bench: Bench) -> tuple[Walk, Walk]:
    size = bench.shape
    down, across = (Walk.of(size[s], size[f"{s}_out"], size[f"K_{s}"]) for s in "hw")
    for side, walk in zip("hw", (down, across), strict=True):
        if (size[side] + 2 * walk.padding - size[f"K_{side}"]) // walk.stride + 1 != size[f"{side}_out"]:
            raise bench.refuse(f"no stride and padding give {side}_out", "the result of a padded stride is accepted")
    return down, across


def _convolution(bench: Bench) -> Program:
    size, torch = bench.shape, bench.torch
    down, across = _walks(bench)
    stride, padding, groups = (down.stride, across.stride), (down.padding, across.padding), size["groups"]
    kernel = (size["K_h"], size["K_w"])
    x = bench.normal(size["B"], size["C"], size["h"], size["w"])
    fan = size["C"] // groups * kernel[0] * kernel[1]
    filters = bench.normal(size["C_out"], size["C"] // groups, *kernel, scale=fan**-0.5)
    dy = bench.normal(size["B"], size["C_out"], size["h_out"], size["w_out"])
    functional, wide = torch.nn.functional, filters.double().view(groups, size["C_out"] // groups, fan)

    def patches(image: Any) -> Any:
        """The patches of an image by group: (groups, fan, pixels)."""
        return functional.unfold(image.double(), kernel, padding=padding, stride=stride).view(groups, fan, -1)

    def forward(out: Any) -> Pairs:
        yield "the convolution", out[-1].view(groups, size["C_out"] // groups, -1), wide @ patches(x[-1:])

    def input_gradient(out: Any) -> Pairs:
        spread = wide.mT @ dy[-1].double().view(groups, size["C_out"] // groups, -1)
        sides = (size["h"], size["w"])
        folded = functional.fold(spread.reshape(1, groups * fan, -1), sides, kernel, padding=padding, stride=stride)
        yield "the input's gradient", out[-1:], folded

    def weight_gradient(out: Any) -> Pairs:
        some = slice(0, min(FILTERS_CHECKED, size["C_out"] // groups))
        total = torch.zeros(groups, size["C_out"] // groups, fan, device=bench.device).double()[:, some]
        for image, gradient in zip(x.split(1), dy, strict=True):
            total = total + gradient.double().view(groups, size["C_out"] // groups, -1)[:, some] @ patches(image).mT
        yield "the filters' gradient", out.view(groups, size["C_out"] // groups, fan)[:, some], total

    if bench.op == "conv2d":
        return Program(lambda: functional.conv2d(x, filters, None, stride, padding, 1, groups), forward)
    part, compare = (0, input_gradient) if bench.op == "conv2d_input_gradient" else (1, weight_gradient)
    asked = [part == 0, part == 1, False]
    gradients = torch.ops.aten.convolution_backward

    def backward() -> Any:
        return gradients(dy, x, filters, None, stride, padding, (1, 1), False, (0, 0), groups, asked)[part]

    return Program(backward, compare)


def _pooling(bench: Bench) -> Program:
    size, torch = bench.shape, bench.torch
    down, across = _walks(bench)
    kernel = (size["K_h"], size["K_w"])
    stride, padding = (down.stride, across.stride), (down.padding, across.padding)
    x = bench.normal(size["B"], size["C"], size["h"], size["w"])
    dy = bench.normal(size["B"], size["C"], size["h_out"], size["w_out"])
    aten, pad = torch.ops.aten, (across.padding, across.padding, down.padding, down.padding)

    def shifted(image: Any, at: int) -> Any:
        """The pixel ``at`` of every window, in a padded image."""
        i, j = divmod(at, kernel[1])
        rows = slice(i, i + (size["h_out"] - 1) * stride[0] + 1, stride[0])
        return image[..., rows, slice(j, j + (size["w_out"] - 1) * stride[1] + 1, stride[1])]

    def planes(tensor: Any) -> Any:
        flat = tensor.flatten(0, 1)
        return flat[:: max(1, flat.shape[0] // PLANES_CHECKED)]

    every = range(kernel[0] * kernel[1])
    if bench.op == "max_pool2d":

        def largest(out: Any) -> Pairs:
            image = torch.nn.functional.pad(planes(x).double(), pad, value=float("-inf"))
            wanted = shifted(image, 0)
            for at in every:
                wanted = wanted.maximum(shifted(image, at))
            yield "the maximum", planes(out[0]), wanted
            found = planes(x).flatten(1).gather(1, planes(out[1]).flatten(1)).view_as(wanted)
            yield "the pixel at the place", found, wanted

        return Program(lambda: aten.max_pool2d_with_indices(x, kernel, stride, padding), largest)
    if bench.op == "max_pool2d_backward":
        _, places = aten.max_pool2d_with_indices(x, kernel, stride, padding)

        def placed(out: Any) -> Pairs:
            zeros = torch.zeros(planes(x).shape, device=bench.device).double().flatten(1)
            wanted = zeros.scatter_add_(1, planes(places).flatten(1), planes(dy).double().flatten(1))
            yield "the gradient", planes(out).flatten(1), wanted

        back = aten.max_pool2d_with_indices_backward
        return Program(lambda: back(dy, x, kernel, stride, padding, (1, 1), False, places), placed)

    def mean(out: Any) -> Pairs:
        image = torch.nn.functional.pad(planes(x).double(), pad)
        yield "the mean", planes(out), sum(shifted(image, at) for at in every) / len(every)

    def spread(out: Any) -> Pairs:
        image = torch.nn.functional.pad(torch.zeros(planes(x).shape, device=bench.device).double(), pad)
        for at in every:
            shifted(image, at).add_(planes(dy).double() / len(every))
        inside = image[..., pad[2] : pad[2] + size["h"], pad[0] : pad[0] + size["w"]]
        yield "the gradient", planes(out), inside

    if bench.op == "average_pool2d":
        return Program(lambda: aten.avg_pool2d(x, kernel, stride, padding), mean)
    return Program(lambda: aten.avg_pool2d_backward(dy, x, kernel, stride, padding, False, True, None), spread)


def _interpolation(bench: Bench) -> Program:
    """Rows and columns are weighted sums, so an image is multiplied by a matrix on each side."""
    size, torch = bench.shape, bench.torch
    if size["taps"] not in MODES:
        raise bench.refuse(f"no interpolation of {size['taps']} taps", "1, 4 and 16 taps are accepted")
    mode = MODES[size["taps"]]
    B, C, sides, results = size["B"], size["C"], (size["h"], size["w"]), (size["h_out"], size["w_out"])
    x, dy = bench.normal(B, C, *sides), bench.normal(B, C, *results)
    tall, wide = (_weights(bench, mode, *pair) for pair in zip(sides, results, strict=True))

    def planes(tensor: Any) -> Any:
        flat = tensor.flatten(0, 1)
        return flat[:: max(1, flat.shape[0] // PLANES_CHECKED)]

    def forward(out: Any) -> Pairs:
        yield "the image", planes(out), tall @ planes(x).double() @ wide.T

    def backward(out: Any) -> Pairs:
        yield "the gradient", planes(out), tall.T @ planes(dy).double() @ wide

    aten = torch.ops.aten
    run: Callable[..., Any] = getattr(aten, f"upsample_{mode}2d")
    back: Callable[..., Any] = getattr(aten, f"upsample_{mode}2d_backward")
    corners = () if mode == "nearest" else (False,)
    if bench.op == "interpolate":
        return Program(lambda: run(x, results, *corners), forward)
    return Program(lambda: back(dy, results, (B, C, *sides), *corners), backward)


def _weights(bench: Bench, mode: str, size: int, result: int) -> Any:
    """The weight of each pixel (columns) in each result (rows), along one side."""
    torch = bench.torch
    found = torch.zeros(result, size, dtype=torch.float64)
    for i in range(result):
        if mode == "nearest":
            found[i, i * size // result] = 1.0
            continue
        at = (i + 0.5) * size / result - 0.5
        if mode == "bilinear":
            at = max(0.0, at)
        low = int(at // 1)
        reach = (low, low + 1) if mode == "bilinear" else range(low - 1, low + 3)
        for pixel in reach:
            far = abs(at - pixel)
            found[i, min(size - 1, max(0, pixel))] += 1 - far if mode == "bilinear" else _cubic(far)
    return found.to(bench.device)


def _cubic(far: float) -> float:
    """The cubic convolution's weight of a pixel at a distance below 2."""
    if far <= 1:
        return (CUBIC + 2) * far**3 - (CUBIC + 3) * far**2 + 1
    return CUBIC * (far**3 - 5 * far**2 + 8 * far - 4)
