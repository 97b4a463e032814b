"""Functions of whole rows: softmax, logarithmic softmax, normalisations, and their gradients."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from perfmodel.arithmetic import product
from perfmodel.aten.asking import asked, compact, result_of
from perfmodel.aten.calls import Call, Launched, Operand, Rule


def softmax(name: str) -> Rule:
    """The rule of a softmax (x, dim, half_to_float)."""

    def rule(call: Call) -> Iterable[Launched]:
        x = call.operands[0]
        if not x.shape:
            return
        axis = int(call.argument(1, "dim", -1)) % len(x.shape)
        rows, cols = product(size for at, size in enumerate(x.shape) if at != axis), x.shape[axis]
        if name == "softmax":
            yield asked(name, x.dtype, rows=rows, cols=cols, act=x.item)
        else:
            yield asked(name, x.dtype, rows=rows, cols=cols, act=x.item, out=result_of(call, x).item)

    return rule


def safe_softmax(call: Call) -> Iterable[Launched]:
    """A softmax whose rows of minus infinity become zero: three more kernels find those rows and choose."""
    from perfmodel.aten import launched

    x = call.operands[0]
    y = result_of(call, x)
    yield from softmax("softmax")(call)
    axis = int(call.argument(1, "dim", -1)) % len(x.shape)
    hidden = x._replace(dtype="bool", storage=0)
    row = compact([1 if at == axis else size for at, size in enumerate(x.shape)], "bool")
    yield from launched(Call("isneginf", (x,), results=(hidden,)))
    yield from launched(Call("all", (hidden, axis), results=(row,)))
    yield from launched(Call("where", (row, compact((), x.dtype), y), results=(y,)))


def softmax_backward(name: str) -> Rule:
    """The rule of a softmax's gradient (dy, y, dim, input_dtype)."""

    def rule(call: Call) -> Iterable[Launched]:
        dy = call.operands[0]
        axis = int(call.argument(2, "dim", -1)) % len(dy.shape)
        rows, cols = product(size for at, size in enumerate(dy.shape) if at != axis), dy.shape[axis]
        if name == "softmax_backward":
            yield asked(name, dy.dtype, rows=rows, cols=cols, act=dy.item)
        else:
            yield asked(name, dy.dtype, rows=rows, cols=cols, act=dy.item, out=result_of(call, dy).item)

    return rule


def _normal_rows(x: Operand, shape: Any) -> tuple[Any, Any]:
    """Rows and columns of a normalisation over the last dimensions."""
    count = len(shape) if isinstance(shape, (tuple, list)) else 1
    return product(x.shape[: len(x.shape) - count]), product(x.shape[len(x.shape) - count :])


def layer_norm(call: Call) -> Iterable[Launched]:
    """(x, normalized_shape, weight, bias, eps)."""
    x = call.operands[0]
    rows, cols = _normal_rows(x, call.argument(1, "normalized_shape", (1,)))
    weights = len(call.operands) - 1
    name = ("layernorm_plain", "layernorm_unbiased", "layernorm")[min(2, weights)]
    yield _norm(name, x, rows, cols)


def rms_norm(call: Call) -> Iterable[Launched]:
    """(x, normalized_shape, weight, eps)."""
    x = call.operands[0]
    rows, cols = _normal_rows(x, call.argument(1, "normalized_shape", (1,)))
    yield _norm("rmsnorm" if len(call.operands) > 1 else "rmsnorm_plain", x, rows, cols)


def _norm(name: str, x: Operand, rows: Any, cols: Any) -> Launched:
    sizes = {"rows": rows, "cols": cols, "act": x.item}
    if "_plain" not in name:
        sizes["weight"] = x.item
    return asked(name, x.dtype, **sizes)


def layer_norm_backward(call: Call) -> Iterable[Launched]:
    """(dy, x, normalized_shape, mean, rstd, weight, bias, output_mask)."""
    dy = call.operands[0]
    rows, cols = _normal_rows(dy, call.argument(2, "normalized_shape", (1,)))
    weight, bias = call.argument(5, "weight"), call.argument(6, "bias")
    name = "layernorm" if isinstance(bias, Operand) else "layernorm_unbiased"
    yield _norm(f"{name if isinstance(weight, Operand) else 'layernorm_plain'}_backward", dy, rows, cols)


def rms_norm_backward(call: Call) -> Iterable[Launched]:
    """(dy, x, normalized_shape, rstd, weight, output_mask)."""
    dy = call.operands[0]
    rows, cols = _normal_rows(dy, call.argument(2, "normalized_shape", (1,)))
    name = "rmsnorm_backward" if isinstance(call.argument(4, "weight"), Operand) else "rmsnorm_plain_backward"
    yield _norm(name, dy, rows, cols)


RULES: Mapping[str, Rule] = {
    "_softmax": softmax("softmax"),
    "softmax": softmax("softmax"),
    "_safe_softmax": safe_softmax,
    "_log_softmax": softmax("log_softmax"),
    "log_softmax": softmax("log_softmax"),
    "_softmax_backward_data": softmax_backward("softmax_backward"),
    "_log_softmax_backward_data": softmax_backward("log_softmax_backward"),
    "native_layer_norm": layer_norm,
    "layer_norm": layer_norm,
    "native_layer_norm_backward": layer_norm_backward,
    "_fused_rms_norm": rms_norm,
    "rms_norm": rms_norm,
    "_fused_rms_norm_backward": rms_norm_backward,
}
