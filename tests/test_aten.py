"""What torch's operators launch: every rule at hand-worked sizes, memory layouts, and counts compared with torch's own."""

from __future__ import annotations

import itertools
from functools import partial
from math import prod

import pytest
from many import for_each

from perfmodel.aten import is_known, launched, rules
from perfmodel.aten.asking import asked, compact, together
from perfmodel.aten.calls import Call, Operand
from perfmodel.aten.pointwise import MIXES
from perfmodel.aten.training import FOREACH, RANDOM
from perfmodel.aten.views import VIEWS
from perfmodel.programs.summary import HIDDEN


def t(*shape, dtype="bf16", strides=None, storage=0):
    """A tensor, contiguous unless it has strides."""
    whole = compact(shape, dtype)
    return whole._replace(strides=strides or whole.strides, storage=storage)


def f32(*shape, **options):
    return t(*shape, dtype="fp32", **options)


def i64(*shape, **options):
    return t(*shape, dtype="int64", **options)


def call(name, *arguments, results=(), **keywords):
    return Call(name, arguments, keywords, results if type(results) is tuple else (results,))


def shown(found):
    """The kernels with the sizes that a table shows."""
    return [
        (one.operation, {name: value for name, value in one.sizes.items() if name not in HIDDEN})
        for one in launched(found)
    ]


def kernel(found):
    (one,) = launched(found)
    return one


def moved(found):
    """Bytes read and written by all kernels of a call."""
    kernels = launched(found)
    return sum(one.op.read_byte() for one in kernels), sum(one.op.write_byte() for one in kernels)


# --- every rule: a call, and each kernel that it launches with its sizes

X, Y = t(6, 4), t(4, 10)
ROWS = {"rows": 6, "cols": 4}
WHOLE = {"rows": 1, "cols": 24, "inner": 1}
LAST = {"rows": 6, "cols": 4, "inner": 1}
PRODUCT = {"m": 6, "k": 4, "n": 10, "batch": 1}
Q, KV = t(2, 8, 16, 32), t(2, 4, 20, 32)
HEADS = {"B": 2, "H": 8, "H_kv": 4, "N": 16, "S": 20, "d": 32}
IMAGE, FILTER = t(2, 4, 8, 6), t(5, 4, 3, 3)
CONVOLVED = {"B": 2, "C": 4, "C_out": 5, "h": 8, "w": 6, "h_out": 6, "w_out": 4, "K_h": 3, "K_w": 3, "groups": 1}
POOLED = {"B": 2, "C": 4, "h": 8, "w": 6, "h_out": 4, "w_out": 3, "K_h": 2, "K_w": 2}
LARGER = {"B": 2, "C": 4, "h": 8, "w": 6, "h_out": 16, "w_out": 12}
CHANNELS = {"B": 2, "C": 4, "pixels": 48}
ELEMENTS = {"numel": 24}
COPIED = {"numel": 24, "distinct": 24, "run": 24}
LIST = (t(6, 4), t(3))  # 24 + 3 elements in 2 tensors


def attention(name, *options):
    return call(name, Q, KV, KV, *options)


def attention_gradient(name):
    return call(f"{name}_backward", Q, Q, KV, KV, Q)


FLASH, EFFICIENT, CUDNN = (f"_scaled_dot_product_{name}_attention" for name in ("flash", "efficient", "cudnn"))
CALLS = {
    # products
    "mm": (call("mm", X, Y), ("matmul", PRODUCT)),
    "_int_mm": (call("_int_mm", t(6, 4, dtype="int8"), t(4, 10, dtype="int8")), ("matmul", PRODUCT)),
    "_scaled_mm": (call("_scaled_mm", t(6, 4, dtype="fp8"), t(4, 10, dtype="fp8"), f32(), f32()), ("matmul", PRODUCT)),
    "addmm": (call("addmm", t(10), X, Y), ("linear_bias", {"B": 1, "N": 6, "D_in": 4, "D_out": 10})),
    "_addmm_activation": (call("_addmm_activation", t(6, 10), X, Y), ("gemm", {"m": 6, "k": 4, "n": 10})),
    "bmm": (call("bmm", t(3, 6, 4), t(3, 4, 10)), ("matmul", PRODUCT | {"batch": 3})),
    "baddbmm": (call("baddbmm", t(3, 6, 10), t(3, 6, 4), t(3, 4, 10)), ("matmul", PRODUCT | {"batch": 3})),
    "mv": (call("mv", X, t(4)), ("matmul", PRODUCT | {"n": 1})),
    "addmv": (call("addmv", t(6), X, t(4)), ("matmul", PRODUCT | {"n": 1})),
    "dot": (call("dot", t(24), t(24)), ("dot", ELEMENTS)),
    "vdot": (call("vdot", t(24), t(24)), ("dot", ELEMENTS)),
    "linear": (call("linear", t(2, 3, 4), t(10, 4)), ("linear", {"B": 1, "N": 6, "D_in": 4, "D_out": 10})),
    "_grouped_mm": (
        call("_grouped_mm", t(12, 4), t(3, 4, 10), t(3, dtype="int32")),
        ("expert_linear", {"B": 1, "N": 12, "D_in": 4, "D_out": 10, "E": 3, "A": 1}),
    ),
    "_scaled_grouped_mm": (
        call("_scaled_grouped_mm", t(4, 12), t(12, 10), t(3, dtype="int32")),
        ("expert_weight_gradient", {"B": 1, "N": 12, "D_in": 4, "D_out": 10, "E": 3, "A": 1}),
    ),
    # attention
    FLASH: (attention(FLASH, 0.0, False), ("attention", HEADS | {"causal": 0})),
    EFFICIENT: (attention(EFFICIENT, None, False, 0.0, True), ("attention", HEADS | {"causal": 1})),
    CUDNN: (attention(CUDNN, None, False, 0.0, True), ("attention", HEADS | {"causal": 1})),
    "scaled_dot_product_attention": (
        attention("scaled_dot_product_attention", None, 0.0, True), ("attention", HEADS | {"causal": 1})
    ),
    f"{FLASH}_backward": (attention_gradient(FLASH), ("attention_backward_recompute", HEADS | {"causal": 0})),
    f"{EFFICIENT}_backward": (attention_gradient(EFFICIENT), ("attention_backward_recompute", HEADS | {"causal": 0})),
    f"{CUDNN}_backward": (attention_gradient(CUDNN), ("attention_backward_recompute", HEADS | {"causal": 0})),
    "flex_attention": (attention("flex_attention"), ("attention", HEADS | {"causal": 0})),
    "flex_attention_backward": (
        attention_gradient("flex_attention"), ("attention_backward_recompute", HEADS | {"causal": 0})
    ),
    # rows
    "_softmax": (call("_softmax", X, -1, False), ("softmax", ROWS)),
    "softmax": (call("softmax", X, 0), ("softmax", {"rows": 4, "cols": 6})),
    "_safe_softmax": (
        call("_safe_softmax", X, -1), ("softmax", ROWS), ("isneginf", ELEMENTS), ("reduce_sum", LAST), ("where", ELEMENTS)
    ),
    "_log_softmax": (call("_log_softmax", X, -1, False), ("log_softmax", ROWS)),
    "log_softmax": (call("log_softmax", X, 1), ("log_softmax", ROWS)),
    "_softmax_backward_data": (call("_softmax_backward_data", X, X, -1, "bf16"), ("softmax_backward", ROWS)),
    "_log_softmax_backward_data": (
        call("_log_softmax_backward_data", X, X, -1, "bf16"), ("log_softmax_backward", ROWS)
    ),
    "native_layer_norm": (call("native_layer_norm", X, (4,), t(4), t(4), 1e-5), ("layernorm", ROWS)),
    "layer_norm": (call("layer_norm", X, (4,), None, None, 1e-5), ("layernorm_plain", ROWS)),
    "native_layer_norm_backward": (
        call("native_layer_norm_backward", X, X, (4,), f32(6), f32(6), t(4), t(4), (True, True, True)),
        ("layernorm_backward", ROWS),
    ),
    "_fused_rms_norm": (call("_fused_rms_norm", X, (4,), t(4), 1e-6), ("rmsnorm", ROWS)),
    "rms_norm": (call("rms_norm", X, (4,), None, 1e-6), ("rmsnorm_plain", ROWS)),
    "_fused_rms_norm_backward": (
        call("_fused_rms_norm_backward", X, X, (4,), f32(6), t(4), (True, True)), ("rmsnorm_backward", ROWS)
    ),
    # copies
    "copy_": (call("copy_", X, X), ("copy", COPIED)),
    "copy": (call("copy", X, X), ("copy", COPIED)),
    "constant_pad_nd": (
        call("constant_pad_nd", X, (0, 2, 1, 0), 0.0), ("copy", {"numel": 7 * 6, "distinct": 24, "run": 6})
    ),
    "pad": (call("pad", X, (0, 2)), ("copy", {"numel": 6 * 6, "distinct": 24, "run": 6})),
    "slice_backward": (
        call("slice_backward", X, (8, 4), 0, 0, 6, 1),
        ("fill", {"numel": 32}), ("copy", {"numel": 24, "distinct": 24, "run": 4}),
    ),
    "select_backward": (
        call("select_backward", t(6), (6, 4), 1, 0),
        ("fill", ELEMENTS), ("copy", {"numel": 6, "distinct": 6, "run": 6}),
    ),
    "repeat": (call("repeat", X, (2, 1)), ("copy", {"numel": 48, "distinct": 24, "run": 4})),
    "repeat_interleave": (call("repeat_interleave", X, 3, 0), ("copy", {"numel": 72, "distinct": 24, "run": 4})),
    "split_with_sizes_copy": (
        call("split_with_sizes_copy", X, (2, 4)), ("copy", {"numel": 24, "distinct": 24, "run": 24})
    ),
    # X has 24 elements of 2 bytes; 3 ranks give it to a collective
    **{
        kind: (call(kind, X, gpus=3), (kind, {"byte": 48, "gpus": 3}))
        for kind in ("all_gather", "all_reduce", "broadcast", "reduce_scatter")
    },
    "cat": (call("cat", (X, t(6, 2)), 1), ("concatenate", {"numel": 36, "run": 2})),
    "concat": (call("concat", (X, t(2, 4)), 0), ("concatenate", {"numel": 32, "run": 8})),
    "_cat": (call("_cat", (X, X), -1), ("concatenate", {"numel": 48, "run": 4})),
    "stack": (call("stack", (X, X), 1), ("concatenate", {"numel": 48, "run": 4})),
    # rows by index
    "index_select": (call("index_select", X, 0, i64(3)), ("gather", {"rows": 3, "cols": 4})),
    "embedding": (call("embedding", t(100, 4), i64(2, 3)), ("gather", {"rows": 6, "cols": 4})),
    "embedding_dense_backward": (
        call("embedding_dense_backward", t(2, 3, 4), i64(2, 3), 100, -1, False),
        ("embedding_backward", {"B": 1, "N": 6, "D": 4, "V": 100}),
    ),
    "gather": (call("gather", X, 1, i64(6, 2)), ("gather", {"rows": 12, "cols": 1})),
    "take": (call("take", X, i64(5)), ("gather", {"rows": 5, "cols": 1})),
    "take_along_dim": (call("take_along_dim", X, i64(6, 1), 1), ("gather", {"rows": 6, "cols": 1})),
    "index": (call("index", t(5, 6, 4), (None, i64(3))), ("gather", {"rows": 15, "cols": 4})),
    "_unsafe_index": (call("_unsafe_index", X, (i64(3, 1), i64(2))), ("gather", {"rows": 6, "cols": 1})),
    "masked_select": (call("masked_select", X, t(6, 4, dtype="bool")), ("gather", {"rows": 24, "cols": 1})),
    "scatter_": (call("scatter_", X, 1, i64(6, 2), t(6, 2)), ("scatter", {"rows": 12, "cols": 1})),
    "scatter": (
        call("scatter", X, 1, i64(6, 2), 1.0), ("copy", COPIED), ("scatter", {"rows": 12, "cols": 1})
    ),
    "index_copy_": (call("index_copy_", X, 0, i64(3), t(3, 4)), ("scatter", {"rows": 3, "cols": 4})),
    "index_copy": (
        call("index_copy", X, 0, i64(3), t(3, 4)), ("copy", COPIED), ("scatter", {"rows": 3, "cols": 4})
    ),
    "index_fill": (call("index_fill", X, 0, i64(3), 0.0), ("copy", COPIED), ("scatter", {"rows": 3, "cols": 1})),
    "masked_scatter": (
        call("masked_scatter", X, t(6, 4, dtype="bool"), t(24)), ("copy", COPIED), ("fill", ELEMENTS)
    ),
    "scatter_add_": (call("scatter_add_", X, 1, i64(6, 2), t(6, 2)), ("scatter_add", {"rows": 12, "cols": 1})),
    "scatter_add": (
        call("scatter_add", X, 1, i64(6, 2), t(6, 2)), ("copy", COPIED), ("scatter_add", {"rows": 12, "cols": 1})
    ),
    "scatter_reduce": (
        call("scatter_reduce", X, 1, i64(6, 2), t(6, 2), "sum"), ("copy", COPIED),
        ("scatter_add", {"rows": 12, "cols": 1}),
    ),
    "index_add_": (call("index_add_", X, 0, i64(3), t(3, 4)), ("scatter_add", {"rows": 3, "cols": 4})),
    "index_add": (
        call("index_add", X, 0, i64(3), t(3, 4)), ("copy", COPIED), ("scatter_add", {"rows": 3, "cols": 4})
    ),
    "index_put_": (call("index_put_", X, (i64(3),), t(3, 4)), ("scatter", {"rows": 3, "cols": 4})),
    "_index_put_impl_": (
        call("_index_put_impl_", X, (i64(3),), t(3, 4), True), ("scatter_add", {"rows": 3, "cols": 4})
    ),
    "index_put": (
        call("index_put", X, (i64(3),), t(3, 4)), ("copy", COPIED), ("scatter", {"rows": 3, "cols": 4})
    ),
    "gather_backward": (
        call("gather_backward", X, 1, i64(6, 2), t(6, 2)), ("copy", COPIED), ("scatter_add", {"rows": 12, "cols": 1})
    ),
    # reductions
    "norm": (call("norm", X, 2), ("reduce_sum", WHOLE)),
    "linalg_vector_norm": (call("linalg_vector_norm", X, 2.0, (-1,)), ("reduce_sum", LAST)),
    "amax": (call("amax", X, (-1,)), ("reduce_max", LAST)),
    "amin": (call("amin", X, (0,)), ("reduce_max", {"rows": 1, "cols": 6, "inner": 4})),
    "max": (call("max", X), ("reduce_max", WHOLE)),
    "min": (call("min", X, 1), ("argmax", LAST)),
    "aminmax": (call("aminmax", X), ("reduce_max", WHOLE)),
    "argmax": (call("argmax", X, -1), ("argmax", LAST)),
    "argmin": (call("argmin", X), ("argmax", WHOLE)),
    **{
        name: (call(name, X, 0), ("cumulative_sum", {"rows": 4, "cols": 6}))
        for name in ("cumsum", "cumprod", "logcumsumexp", "cummax", "cummin")
    },
    "sort": (call("sort", X, -1, False), ("sort", ROWS)),
    "argsort": (call("argsort", X, 0), ("sort", {"rows": 4, "cols": 6})),
    "msort": (call("msort", X), ("sort", {"rows": 4, "cols": 6})),
    "unique_dim": (call("unique_dim", X, 0), ("sort", {"rows": 4, "cols": 6})),
    **{
        name: (call(name, X, True), ("sort", {"rows": 1, "cols": 24}))
        for name in ("unique", "_unique2", "unique_consecutive")
    },
    "nonzero": (call("nonzero", t(6, 4, dtype="bool")), ("cumulative_sum", {"rows": 1, "cols": 24})),
    "bincount": (call("bincount", i64(24), None, 8), ("scatter_add", {"rows": 24, "cols": 1})),
    "histc": (call("histc", f32(24), 8, 0, 8), ("scatter_add", {"rows": 24, "cols": 1})),
    "topk": (call("topk", X, 2, -1), ("top_k", ROWS | {"chosen": 2})),
    # images: a result of (8 - 3 + 1) x (6 - 3 + 1) pixels
    **{
        name: (call(name, IMAGE, FILTER, None, (1, 1), (0, 0), (1, 1), False, (0, 0), 1), ("conv2d", CONVOLVED))
        for name in ("convolution", "_convolution", "convolution_overrideable")
    },
    "conv2d": (call("conv2d", IMAGE, FILTER, None, 2, 1), ("conv2d", CONVOLVED | {"h_out": 4, "w_out": 3})),
    "conv1d": (
        call("conv1d", t(2, 4, 8), t(5, 4, 3)),
        ("conv2d", CONVOLVED | {"h": 1, "w": 8, "h_out": 1, "w_out": 6, "K_h": 1}),
    ),
    "conv3d": (
        call("conv3d", t(2, 4, 7, 8, 6), t(5, 4, 3, 3, 3), None, 1, 1),
        ("conv2d", CONVOLVED | {"h": 56, "h_out": 56, "w_out": 6, "K_h": 9}),
    ),
    "cudnn_convolution": (
        call("cudnn_convolution", IMAGE, FILTER, (0, 0), (1, 1), (1, 1), 1, False, False, True), ("conv2d", CONVOLVED)
    ),
    "convolution_backward": (
        call(
            "convolution_backward", t(2, 5, 6, 4), IMAGE, FILTER, (5,), (1, 1), (0, 0), (1, 1), False, (0, 0), 1,
            (True, True, True),
        ),
        ("conv2d_input_gradient", CONVOLVED), ("conv2d_weight_gradient", CONVOLVED),
        ("reduce_sum", {"rows": 1, "cols": 2 * 6 * 4, "inner": 5}),
    ),
    "max_pool2d": (call("max_pool2d", IMAGE, (2, 2)), ("max_pool2d", POOLED)),
    "max_pool2d_with_indices": (call("max_pool2d_with_indices", IMAGE, (2, 2), (2, 2)), ("max_pool2d", POOLED)),
    "max_pool1d": (
        call("max_pool1d", t(2, 4, 8), 2), ("max_pool2d", POOLED | {"h": 1, "w": 8, "h_out": 1, "w_out": 4, "K_h": 1})
    ),
    "max_pool3d_with_indices": (
        call("max_pool3d_with_indices", t(2, 4, 2, 8, 6), 2), ("max_pool2d", POOLED | {"h": 16, "K_h": 4})
    ),
    "max_pool2d_with_indices_backward": (
        call("max_pool2d_with_indices_backward", t(2, 4, 4, 3), IMAGE, (2, 2)), ("max_pool2d_backward", POOLED)
    ),
    "max_pool3d_with_indices_backward": (
        call("max_pool3d_with_indices_backward", t(2, 4, 1, 4, 3), t(2, 4, 2, 8, 6), 2),
        ("max_pool2d_backward", POOLED | {"h": 16, "K_h": 4}),
    ),
    "avg_pool2d": (call("avg_pool2d", IMAGE, (2, 2)), ("average_pool2d", POOLED)),
    "avg_pool1d": (
        call("avg_pool1d", t(2, 4, 8), 2), ("average_pool2d", POOLED | {"h": 1, "w": 8, "h_out": 1, "w_out": 4, "K_h": 1})
    ),
    "avg_pool3d": (call("avg_pool3d", t(2, 4, 2, 8, 6), 2), ("average_pool2d", POOLED | {"h": 16, "K_h": 4})),
    **{
        name: (call(name, IMAGE, (4, 3)), ("average_pool2d", POOLED))
        for name in ("_adaptive_avg_pool2d", "adaptive_avg_pool2d")
    },
    "adaptive_avg_pool1d": (
        call("adaptive_avg_pool1d", t(2, 4, 8), 4),
        ("average_pool2d", POOLED | {"h": 1, "w": 8, "h_out": 1, "w_out": 4, "K_h": 1}),
    ),
    "avg_pool2d_backward": (
        call("avg_pool2d_backward", t(2, 4, 4, 3), IMAGE, (2, 2)), ("average_pool2d_backward", POOLED)
    ),
    "_adaptive_avg_pool2d_backward": (
        call("_adaptive_avg_pool2d_backward", t(2, 4, 4, 3), IMAGE), ("average_pool2d_backward", POOLED)
    ),
    "avg_pool3d_backward": (
        call("avg_pool3d_backward", t(2, 4, 1, 4, 3), t(2, 4, 2, 8, 6), 2),
        ("average_pool2d_backward", POOLED | {"h": 16, "K_h": 4}),
    ),
    **{
        name: (call(name, IMAGE, (16, 12)), ("interpolate", LARGER | {"taps": taps}))
        for name, taps in {
            "upsample_nearest2d": 1, "_upsample_nearest_exact2d": 1, "upsample_bilinear2d": 4, "_upsample_bilinear2d_aa": 4,
            "upsample_bicubic2d": 16, "_upsample_bicubic2d_aa": 16,
        }.items()
    },
    "upsample_nearest1d": (
        call("upsample_nearest1d", t(2, 4, 8), (16,)),
        ("interpolate", LARGER | {"h": 1, "w": 8, "h_out": 1, "w_out": 16, "taps": 1}),
    ),
    "upsample_linear1d": (
        call("upsample_linear1d", t(2, 4, 8), (16,), False),
        ("interpolate", LARGER | {"h": 1, "w": 8, "h_out": 1, "w_out": 16, "taps": 4}),
    ),
    "upsample_nearest3d": (
        call("upsample_nearest3d", t(2, 4, 2, 4, 6), (4, 4, 12)), ("interpolate", LARGER | {"taps": 1})
    ),
    **{
        name: (call(name, t(2, 4, 16, 12), (16, 12), (2, 4, 8, 6)), ("interpolate_backward", LARGER | {"taps": taps}))
        for name, taps in {
            "upsample_nearest2d_backward": 1, "upsample_bilinear2d_backward": 4, "upsample_bicubic2d_backward": 16,
        }.items()
    },
    **{
        name: (call(name, IMAGE, t(4), t(4), f32(4), f32(4), True, 0.1, 1e-5), ("batch_norm", CHANNELS))
        for name in ("native_batch_norm", "_native_batch_norm_legit", "cudnn_batch_norm", "batch_norm")
    },
    "_batch_norm_with_update": (
        call("_batch_norm_with_update", IMAGE, t(4), t(4), f32(4), f32(4), 0.1, 1e-5), ("batch_norm", CHANNELS)
    ),
    "_native_batch_norm_legit_no_training": (
        call("_native_batch_norm_legit_no_training", IMAGE, t(4), t(4), f32(4), f32(4), 0.1, 1e-5),
        ("batch_norm_inference", CHANNELS),
    ),
    **{
        name: (call(name, IMAGE, IMAGE, t(4), f32(4), f32(4)), ("batch_norm_backward", CHANNELS))
        for name in ("native_batch_norm_backward", "cudnn_batch_norm_backward", "batch_norm_backward")
    },
    "native_group_norm": (
        call("native_group_norm", IMAGE, t(4), t(4), 2, 4, 48, 2, 1e-5), ("group_norm", CHANNELS | {"groups": 2})
    ),
    "native_group_norm_backward": (
        call("native_group_norm_backward", IMAGE, IMAGE, f32(2, 2), f32(2, 2), t(4), 2, 4, 48, 2, (True, True, True)),
        ("group_norm_backward", CHANNELS | {"groups": 2}),
    ),
    # losses and optimizers
    "nll_loss_forward": (call("nll_loss_forward", X, i64(6), None, 1, -100), ("nll_loss", ROWS)),
    "nll_loss": (call("nll_loss", t(4), i64()), ("nll_loss", {"rows": 1, "cols": 4})),
    "nll_loss2d_forward": (
        call("nll_loss2d_forward", t(2, 4, 3, 5), i64(2, 3, 5)), ("nll_loss", {"rows": 2 * 3 * 5, "cols": 4})
    ),
    "nll_loss_backward": (call("nll_loss_backward", t(), X, i64(6)), ("nll_loss_backward", ROWS)),
    "nll_loss2d_backward": (
        call("nll_loss2d_backward", t(), t(2, 4, 3, 5), i64(2, 3, 5)), ("nll_loss_backward", {"rows": 30, "cols": 4})
    ),
    **{
        name: (call(name, LIST, LIST, LIST, LIST), ("adam_step", {"params": 27, "tensors": 2}))
        for name in ("_fused_adamw_", "_fused_adam_", "_fused_adamw", "_fused_adam", "_fused_adagrad_")
    },
    "_fused_sgd_": (call("_fused_sgd_", LIST, LIST, LIST), ("sgd_step", {"params": 27, "tensors": 2})),
    **{
        f"_foreach_{name}{ending}": (
            call(f"_foreach_{name}{ending}", LIST, LIST), ("foreach", {"params": 27, "tensors": 2, "reads": 2})
        )
        for name in FOREACH for ending in ("", "_")
    },
    **{
        f"_foreach_copy{ending}": (
            call(f"_foreach_copy{ending}", LIST, LIST), ("foreach", {"params": 27, "tensors": 2, "reads": 1})
        )
        for ending in ("", "_")
    },
    **{f"_foreach_zero{ending}": (call(f"_foreach_zero{ending}", LIST), ("fill", {"numel": 27})) for ending in ("", "_")},
    **{
        f"_foreach_norm{ending}": (
            call(f"_foreach_norm{ending}", LIST, 2), ("gradient_norm", {"params": 27, "tensors": 2})
        )
        for ending in ("", "_")
    },
    "_amp_foreach_non_finite_check_and_unscale_": (
        call("_amp_foreach_non_finite_check_and_unscale_", LIST, f32(1), f32(1)),
        ("foreach", {"params": 27, "tensors": 2, "reads": 1}),
    ),
    # kernels of a compiler and of a user
    "fused": (
        Call("fused", (X,), {"calls": (call("exp", X), call("neg", X))}, (X,)), ("fused", {"numel": 24, "calls": 2})
    ),
    "padded": (
        Call("padded", (), {"call": call("mm", t(16, 7), t(7, 16))}),
        ("copy", {"numel": 112, "distinct": 112, "run": 112}), ("matmul", {"m": 16, "k": 7, "n": 16, "batch": 1}),
    ),
    "custom_kernel": (
        Call("custom_kernel", (X,), {"launched": asked("copy", "bf16", numel=24, distinct=24, run=24)}), ("copy", COPIED)
    ),
    "native_dropout": (call("native_dropout", X, 0.1, True), ("dropout", ELEMENTS)),
    "_fused_dropout": (call("_fused_dropout", X, 0.9), ("dropout", ELEMENTS)),
    "glu": (call("glu", t(6, 8), -1), ("glu", ELEMENTS)),
}  # fmt: skip
# Families of one shape: the calls are all alike.
SAME_COPY = [
    "clone",
    "contiguous",
    "_to_copy",
    "to",
    "flip",
    "roll",
    "alias_copy",
    "view_copy",
    "pin_memory",
    "slice_scatter",
    "select_scatter",
    "tile",
    "channel_shuffle",
    "im2col",
    "diag_embed",
    "as_strided_scatter",
    "col2im",
    "unfold_backward",
]
FILLS = [
    "fill",
    "fill_",
    "zero_",
    "zeros",
    "ones",
    "full",
    "zeros_like",
    "ones_like",
    "full_like",
    "new_zeros",
    "new_ones",
    "new_full",
    "arange",
    "linspace",
    "scalar_tensor",
    "eye",
    "one_hot",
    "tril_indices",
    "triu_indices",
    "zero",
    "range",
    "logspace",
]
SUMS = [
    "sum",
    "mean",
    "prod",
    "nansum",
    "logsumexp",
    "any",
    "all",
    "count_nonzero",
    "var",
    "std",
    "var_mean",
    "std_mean",
    "trace",
]
# Primitive operations of one element, and how many tensors are read.
POINTWISE = {
    1: ["neg", "exp", "exp2", "expm1", "log", "log1p", "log2", "log10", "sqrt", "rsqrt", "tanh", "sin", "cos", "tan", "atan", "asin", "acos", "sinh", "cosh", "erf", "erfc", "erfinv", "square", "reciprocal", "relu", "clamp_min", "clamp_max", "clip", "abs", "sign", "sgn", "floor", "ceil", "round", "trunc", "frac", "nan_to_num", "isinf", "isnan", "isneginf", "isposinf", "isfinite", "logical_not", "signbit", "bitwise_not", "tril", "triu", "masked_fill"],
    2: ["clamp"], 3: ["leaky_relu", "hardtanh", "relu6", "threshold", "softplus", "logit"], 4: [
        "silu", "sigmoid", "log_sigmoid_forward", "elu", "hardsigmoid"
    ], 5: ["mish", "hardswish", "gelu"],
}  # fmt: skip
BINARY = {
    1: ["add", "rsub", "__radd__", "__add__", "sub", "subtract", "mul", "multiply", "__mul__", "div", "divide", "true_divide", "floor_divide", "remainder", "fmod", "atan2", "maximum", "minimum", "fmax", "fmin", "eq", "ne", "lt", "le", "gt", "ge", "logical_and", "logical_or", "logical_xor", "bitwise_and", "bitwise_or", "bitwise_xor", "__and__", "__or__", "bitwise_left_shift", "bitwise_right_shift", "__lshift__", "__rshift__", "native_dropout_backward"],
    0: ["complex"], 2: ["mse_loss", "threshold_backward", "hardtanh_backward"],
    3: ["prelu", "_prelu_kernel", "leaky_relu_backward", "tanh_backward", "sigmoid_backward", "pow"],
    4: ["hypot", "polar", "softplus_backward", "elu_backward", "log_sigmoid_backward"],
    7: ["hardswish_backward"], 8: ["glu_backward"], 9: ["silu_backward"], 11: ["gelu_backward"], 12: ["mish_backward"],
}  # fmt: skip
TERNARY = {1: ["where"], 3: ["addcmul", "addcdiv", "lerp", "mse_loss_backward"]}
ELEMENTWISE = [
    (name, flops, reads)
    for reads, table in ((1, POINTWISE), (2, BINARY), (3, TERNARY)) for flops, names in table.items() for name in names
]  # fmt: skip


@for_each("name", CALLS)
def test_a_rule_gives_the_kernels_and_sizes_of_its_example(name):
    example, *expected = CALLS[name]
    assert example.name == name
    assert [(operation, dict(sizes)) for operation, sizes in shown(example)] == expected
    assert all(one.known for one in launched(example))


@for_each("name", SAME_COPY)
def test_copies_read_and_write_the_tensor(name):
    assert shown(call(name, X, results=X)) == [("copy", COPIED)]
    assert moved(call(name, X)) == (48, 48)  # 24 elements of two bytes


@for_each("name", FILLS)
def test_fills_write_their_result(name):
    assert shown(call(name, X, results=X)) == [("fill", ELEMENTS)]
    assert moved(call(name, 6, results=i64(6))) == (0, 48)


@for_each("name", SUMS)
def test_sums_read_the_tensor_and_write_each_result(name):
    assert shown(call(name, X, (-1,), results=t(6))) == [("reduce_sum", LAST)]
    assert kernel(call(name, X, results=t())).op.flops() == 24


@for_each("name", RANDOM)
def test_random_numbers_write_their_result(name):
    assert shown(call(name, X, results=X)) == [("random", ELEMENTS)]
    assert moved(call(name, X)) == (0, 48)


@for_each(("name", "flops", "reads"), ELEMENTWISE)
def test_an_elementwise_call_reads_its_operands_and_writes_its_result(name, flops, reads):
    found = kernel(call(name, *[X] * reads, results=X))
    assert (found.sizes, found.op.flops()) == ({"numel": 24}, 24 * flops)
    assert (found.op.read_byte(), found.op.write_byte()) == (48 * reads, 48)


def test_every_rule_has_an_example():
    tested = {*CALLS, *SAME_COPY, *FILLS, *SUMS, *RANDOM, *(name for name, *_ in ELEMENTWISE)}
    assert set(rules()) - tested == set()
    assert tested - set(rules()) == set()


# --- operators that launch nothing, and those that are unknown


@for_each("name", sorted(VIEWS))
def test_views_launch_nothing(name):
    assert launched(call(name, X, results=X)) == ()
    assert is_known(name)


def test_an_unknown_operator_is_priced_by_its_bytes_and_marked():
    found = kernel(call("fft_r2c", f32(6, 4), (1,), 0, True, results=t(6, 3, dtype="complex64")))
    assert (found.known, found.operation, found.dtype) == (False, "fft_r2c", "fp32")
    assert (found.op.read_byte(), found.op.write_byte()) == (96, 144)  # 24 of 4 bytes, 18 of 8
    assert (found.op.flops(), found.op.runs) == (0, None)
    assert not is_known("fft_r2c")
    assert launched(call("searchsorted", f32(8), f32(3)))[0].known is False


def test_an_operator_without_tensors_launches_nothing():
    assert launched(call("manual_seed", 3)) == ()
    assert launched(call("cat", ())) == ()
    assert launched(call("_fused_adamw_", (), (), ())) == ()
    assert launched(call("_foreach_add_", (), 1)) == ()


EMPTY = [
    call("add", t(0, 4), t(0, 4)), call("add_", t(0, 4), 1.0), call("relu", t(0)), call("gelu", t(3, 0)),
    call("clone", t(0, 4)), call("copy_", t(0), t(0)), call("cat", (t(0), t(0, 4))), call("fill_", t(0), 0),
    call("zeros", (0,), results=t(0)), call("sum", t(0, 4)), call("index", t(5, 4), (i64(0),)),
    call("index", t(5, 4), (i64(0),), results=t(0, 4)), call("normal_", t(0)), call("fft_r2c", t(0), results=t(0)),
    call("_foreach_mul_", (t(0), t(0)), 2.0), call("masked_fill_", t(0, 4), t(0, 4, dtype="bool"), 0.0),
]  # fmt: skip


@for_each("one", EMPTY)
def test_empty_tensors_launch_nothing(one):
    assert launched(one) == ()


def test_an_empty_part_of_a_concatenation_counts_nothing():
    assert shown(call("cat", (t(0), X, X), 0)) == [("concatenate", {"numel": 48, "run": 24})]


# --- how tensors lie in memory


def test_a_repeated_dimension_is_read_once():
    wide = t(2, 3, 4, strides=(4, 0, 1))  # 8 elements, each 3 times
    assert (wide.numel, wide.distinct, wide.byte, wide.dense, wide.contiguous) == (24, 8, 16, False, False)
    assert moved(call("clone", wide)) == (16, 48)
    assert moved(call("add", wide, t(2, 3, 4))) == (16 + 48, 48)
    assert kernel(call("clone", wide)).sizes["distinct"] == 8


@for_each(
    ("source", "target", "run"),
    [
        (t(6, 4), t(6, 4), 24),
        (t(6, 4, strides=(1, 6)), t(6, 4), 1),  # transposed
        (t(6, 4, strides=(1, 6)), t(6, 4, strides=(1, 6)), 24),  # both transposed
        (t(6, 4, strides=(8, 1)), t(6, 4), 4),  # the left half of rows of 8
        (t(2, 3, 4, strides=(4, 8, 1)), t(2, 3, 4), 4),  # two dimensions exchanged, the last in place
        (t(4), t(6, 4), 4),  # a row for every row
        (t(6, 1), t(6, 4), 1),  # one element for every row
        (t(1, 4), t(1, 4), 4),
        (t(2, 3, 4, strides=(12, 0, 1)), t(2, 3, 4), 4),
    ],
)
def test_the_run_is_what_lies_together_in_both_tensors(source, target, run):
    assert together(source, target) == run
    assert kernel(call("copy_", target, source)).sizes["run"] == run


def test_tensors_that_lie_unlike_the_result_are_not_vectorised():
    special = lambda *operands, results=X: kernel(call("add", *operands, results=results)).op.runs.special  # noqa: E731
    assert special(X, X) == ""
    assert special(X, 2.0) == ""
    crossed = t(6, 4, strides=(1, 6))
    assert special(crossed, crossed, results=crossed) == ""  # all alike
    assert special(X, crossed) == "strided"
    assert special(X, t(4)) == "strided"
    assert special(X, t(6, 4, strides=(8, 1))) == "strided"
    assert special(X, t(dtype="fp64")) == ""  # a number of the host is an argument of the kernel
    assert special(X, t(storage=7)) == "strided"  # one on the card is read by every thread


@for_each(
    ("a", "b", "aligned"),
    [
        (t(16, 64), t(64, 32), 16),
        (t(16, 64), t(64, 50257), 2),  # rows of 50257 elements of two bytes
        (t(16, 64), t(64, 50257, strides=(1, 64)), 2),  # the result's rows still are
        (t(16, 65), t(65, 32), 2),
        (t(16, 66), t(66, 32), 4),  # 132 bytes
        (t(16, 66, strides=(72, 1)), t(66, 32), 16),  # a slice of wider rows
        (f32(16, 65), f32(65, 32), 4),
        (t(16, 64), t(64, 32, strides=(1, 64)), 16),
    ],
)
def test_rows_of_a_product_are_aligned_as_they_lie(a, b, aligned):
    assert kernel(call("mm", a, b)).op.runs.aligned == aligned


@for_each(
    ("x", "over", "expected"),
    [
        (t(2, 3, 4), (2,), (6, 4, 1)),
        (t(2, 3, 4), (1,), (2, 3, 4)),
        (t(2, 3, 4), (0,), (1, 2, 12)),
        (t(2, 3, 4), (0, 1), (1, 6, 4)),
        (t(2, 3, 4), (0, 2), (3, 8, 1)),
        (t(2, 3, 4), (-1, 0, 1), (1, 24, 1)),
        (t(6, 4, strides=(1, 6)), (1,), (1, 4, 6)),  # columns in memory
        (t(6, 4, strides=(1, 6)), (0,), (4, 6, 1)),  # rows in memory
        (t(6, 4, strides=(0, 1)), (0,), (4, 6, 1)),  # one row, summed 6 times
        (t(1, 3, 4), (0,), (1, 1, 12)),
        (t(2, 3, 4, strides=(4, 8, 1)), (1,), (1, 3, 8)),
    ],
)
def test_a_reduction_is_taken_as_the_tensor_lies(x, over, expected):
    sizes = kernel(call("sum", x, over)).sizes
    assert (sizes["rows"], sizes["cols"], sizes["inner"]) == expected


def test_reductions_write_what_they_return():
    assert moved(call("max", X, 1)) == (48, 6 * (2 + 8))  # values and places
    assert moved(call("max", X)) == (48, 2)
    assert moved(call("var_mean", X, (1,))) == moved(call("var_mean", X, (1,), results=(t(6), t(6)))) == (48, 24)
    assert moved(call("any", t(6, 4, dtype="bool"), 1)) == (24, 6)
    assert moved(call("sum", t(6, 4, dtype="bool"), 1)) == (24, 48)
    assert moved(call("count_nonzero", X)) == (48, 8)
    assert moved(call("sum", X, (1,), dtype="fp32", results=f32(6))) == (48, 24)
    assert moved(call("max", X, X))[0] == 48  # of two tensors: no dimension is named


def test_a_running_sum_of_flags_converts_them_first():
    mask = t(6, 4, dtype="bool")
    assert shown(call("cumsum", mask, -1)) == [("copy", COPIED), ("cumulative_sum", ROWS)]
    assert moved(call("cumsum", mask, -1)) == (
        24 + 192,
        192 + 192,
    )  # 24 bytes to 24 numbers of 8 bytes, read and written
    assert shown(call("cumsum", i64(6, 4), -1)) == [("cumulative_sum", ROWS)]


@for_each(
    ("x", "places", "expected"),
    [
        (t(5, 6, 4), (i64(3),), (3, 24)),
        (t(5, 6, 4), (i64(3), i64(3)), (3, 4)),
        (t(5, 6, 4), (None, None, i64(2)), (60, 1)),
        (t(5, 6, 4), (t(5, 6, dtype="bool"),), (30, 4)),  # a mask of two dimensions
        (t(5, 6, 4), (t(5, dtype="bool"), None), (30, 4)),
        (t(5, 6, 4), (i64(3, 1), None, i64(2)), (36, 1)),
    ],
)
def test_rows_chosen_by_index_end_at_the_last_place(x, places, expected):
    sizes = kernel(call("index", x, places)).sizes
    assert (sizes["rows"], sizes["cols"]) == expected


@for_each(("exponent", "flops", "engine"), [
        (2, 1, "vector"), (2.0, 1, "vector"), ("2", 1, "vector"), (3, 2, "vector"), (0.5, 1, "special"),
        (-0.5, 1, "special"), (-1, 1, "special"), (1.7, 3, "special"), (f32(), 3, "special"),
    ])  # fmt: skip
def test_powers_have_short_forms(exponent, flops, engine):
    op = kernel(call("pow", f32(6, 4), exponent, results=f32(6, 4))).op
    assert op.flops() == 24 * flops
    assert {str(kind) for kind in op.engine_flops()} >= {engine}
    assert kernel(call("pow_", f32(6, 4), exponent)).op.flops() == 24 * flops


def test_gelu_has_two_forms():
    assert kernel(call("gelu", X)).op.flops() == 5 * 24  # 3 products, erf, a sum
    assert kernel(call("gelu", X, approximate="tanh")).op.flops() == 9 * 24
    assert kernel(call("gelu_backward", X, X, "tanh")).op.flops() == 18 * 24


def test_batch_norm_reads_its_flag_wherever_it_stands():
    statistics = lambda *rest: kernel(call("_native_batch_norm_legit", IMAGE, t(4), t(4), *rest)).operation  # noqa: E731
    assert statistics(f32(4), f32(4), False, 0.1, 1e-5) == "batch_norm_inference"
    assert statistics(f32(4), f32(4), "True", 0.1, 1e-5) == "batch_norm"
    assert statistics(True, 0.1, 1e-5) == "batch_norm"  # the overload without running statistics


def test_a_convolution_adds_its_bias_afterwards():
    bias = call("convolution", IMAGE, FILTER, t(5), (1, 1), (0, 0), (1, 1), False, (0, 0), 1)
    assert shown(bias) == [("conv2d", CONVOLVED), ("add", {"numel": 2 * 5 * 6 * 4})]
    assert launched(bias)[0].dtype == "bf16"
    assert kernel(call("conv2d", f32(2, 4, 8, 6), f32(5, 4, 3, 3))).dtype == "tf32"  # torch's default for cuDNN


@pytest.mark.parametrize(
    ("options", "size"),
    [
        ((None, 1, "same"), (8, 6)), ((None, 1, "valid"), (6, 4)), ((None, 2, 1), (4, 3)), ((None, (2, 1), (0, 1)), (3, 6)),
        ((None, 1, 2, 2), (8, 6)),
    ],
    ids=str,
)  # fmt: skip
def test_a_convolution_without_a_result_has_the_size_that_torch_gives(options, size):
    sizes = kernel(call("conv2d", IMAGE, FILTER, *options)).sizes
    assert (sizes["h_out"], sizes["w_out"]) == size


def test_attention_with_a_mask_reads_it_once_for_all_heads():
    plain = attention(CUDNN, None, False, 0.0, False)
    masked = attention(CUDNN, t(2, 8, 16, 20, strides=(320, 0, 20, 1)), False, 0.0, False)
    assert moved(masked)[0] - moved(plain)[0] == 2 * 16 * 20 * 2


# --- the same counts however a call is recorded


IN_PLACE = [
    name for name, *_ in ELEMENTWISE
    if not name.startswith("__") and not name.endswith(("_backward", "_forward")) and name not in ("complex", "polar", "prelu")
]  # fmt: skip


@for_each("name", [*IN_PLACE, "fill", "zero", "bernoulli", "normal", "_foreach_add", "_fused_adamw"])
def test_a_call_in_place_has_the_counts_of_one_that_is_not(name):
    operands = (LIST, LIST, LIST, LIST) if name.startswith("_f") else (f32(6, 4),) * 3
    (new,), (old,) = launched(call(name, *operands)), launched(call(f"{name}_", *operands))
    if name in ("eq", "ne", "lt", "le", "gt", "ge") or name.startswith(("is", "logical", "signbit")):
        assert (new.op.write_byte(), old.op.write_byte()) == (24, 24)  # NB in place a comparison is stored as fp32
        return
    assert (new.op.read_byte(), new.op.write_byte()) == (old.op.read_byte(), old.op.write_byte())
    assert (new.op.flops(), new.dtype) == (old.op.flops(), old.dtype)
    if not name.startswith("_foreach"):  # which passes the addresses of one more list
        assert new.op.runs == old.op.runs


WIDE = t(6, 4, dtype="int64")
RECORDED = {
    "add": (call("add", X, t(4)), X), "mul": (call("mul", f32(6, 4), X), f32(6, 4)), "where": (call("where", t(6, 4, dtype="bool"), X, X), X),
    "eq": (call("eq", X, 0), t(6, 4, dtype="bool")), "glu": (call("glu", t(6, 8), -1), X), "complex": (call("complex", f32(6, 4), f32(6, 4)), t(6, 4, dtype="complex64")),
    "exp": (call("exp", t(6, 4, strides=(1, 6))), t(6, 4, strides=(1, 6))), "sum": (call("sum", X, (0,)), t(4)), "max": (call("max", X, 1), (t(6), i64(6))),
    "any": (call("any", t(6, 4, dtype="bool")), t(dtype="bool")), "argmax": (call("argmax", X, 1), i64(6)), "cumsum": (call("cumsum", t(6, 4, dtype="bool"), 1), WIDE),
    "aminmax": (call("aminmax", X), (t(), t())), "clone": (call("clone", X), X), "cat": (call("cat", (X, X), 1), t(6, 8)), "stack": (call("stack", (X, X)), t(2, 6, 4)),
    "repeat": (call("repeat", X, (2, 3)), t(12, 12)), "constant_pad_nd": (call("constant_pad_nd", X, (1, 1)), t(6, 6)),
    "slice_backward": (call("slice_backward", X, (9, 4), 0, 0, 6, 1), t(9, 4)), "index": (call("index", X, (i64(3),)), t(3, 4)),
    "embedding": (call("embedding", t(9, 4), i64(5)), t(5, 4)), "gather": (call("gather", X, 1, i64(6, 2)), t(6, 2)),
    "embedding_dense_backward": (call("embedding_dense_backward", X, i64(6), 9, -1, False), t(9, 4)),
    "mm": (call("mm", X, Y), t(6, 10)), "addmm": (call("addmm", t(10), X, Y), t(6, 10)), "_softmax": (call("_softmax", X, 1, False), X),
    "native_layer_norm": (call("native_layer_norm", X, (4,), t(4), t(4), 1e-5), (X, f32(6, 1), f32(6, 1))),
    "convolution": (CALLS["convolution"][0], t(2, 5, 6, 4)), "max_pool2d_with_indices": (CALLS["max_pool2d_with_indices"][0], (t(2, 4, 4, 3), i64(2, 4, 4, 3))),
    "_adaptive_avg_pool2d": (CALLS["_adaptive_avg_pool2d"][0], t(2, 4, 4, 3)), "upsample_nearest2d": (CALLS["upsample_nearest2d"][0], t(2, 4, 16, 12)),
    "upsample_bilinear2d_backward": (CALLS["upsample_bilinear2d_backward"][0], IMAGE), "native_dropout": (call("native_dropout", X, 0.1, True), (X, t(6, 4, dtype="bool"))),
    "nll_loss_forward": (CALLS["nll_loss_forward"][0], (t(), t())), "topk": (CALLS["topk"][0], (t(6, 2), i64(6, 2))), "sort": (CALLS["sort"][0], (X, i64(6, 4))),
    "bernoulli_": (call("bernoulli_", X), X), "zeros_like": (call("zeros_like", X), X), FLASH: (CALLS[FLASH][0], Q),
}  # fmt: skip


@for_each("name", RECORDED)
def test_a_call_without_results_has_the_kernels_of_one_with_results(name):
    """A profiler trace has no results."""
    one, results = RECORDED[name]
    whole = one._replace(results=results if type(results) is tuple else (results,))
    assert [(k.operation, k.sizes, k.op, k.dtype) for k in launched(one)] == [
        (k.operation, k.sizes, k.op, k.dtype) for k in launched(whole)
    ]


def test_the_number_of_results_of_a_comparison_in_a_trace_is_of_flags():
    assert moved(call("lt", f32(6, 4), 0.5)) == (96, 24)


# --- torch's own counts


def torch_calls():
    """Small calls of torch with random sizes: a name and a function of no arguments."""
    import random

    import torch

    draw = random.Random(5)
    size = lambda: draw.randint(2, 9)  # noqa: E731
    new = lambda *shape: torch.empty(*shape, device="meta", requires_grad=True)  # noqa: E731
    functional = torch.nn.functional
    for _ in range(2):
        B, m, k, n = size(), size(), size(), size()
        yield "mm", partial(torch.mm, new(m, k), new(k, n))
        yield "addmm", partial(torch.addmm, new(n), new(m, k), new(k, n))
        yield "bmm", partial(torch.bmm, new(B, m, k), new(B, k, n))
        yield "baddbmm", partial(torch.baddbmm, new(B, m, n), new(B, m, k), new(B, k, n))
        groups, C, C_out = draw.choice((1, 2)), 2 * size(), 2 * size()
        for dims, transposed in itertools.product((1, 2, 3), (False, True)):
            name = f"conv{'_transpose' * transposed}{dims}d"
            channels = (C, C_out // groups) if transposed else (C_out, C // groups)
            image = new(B, C, *(draw.randint(6, 9) for _ in range(dims)))
            taps = new(*channels, *(draw.randint(1, 3) for _ in range(dims)))
            options = {"stride": draw.randint(1, 2), "padding": draw.randint(0, 1), "groups": groups}
            yield name, partial(getattr(functional, name), image, taps, **options)


def counts(run):
    """FLOPs of products: by torch's counter, and of the captured calls; forward alone, and with gradients."""
    from torch.utils.flop_counter import FlopCounterMode

    from perfmodel import capture

    for target in (run, lambda: run().sum().backward()):
        with FlopCounterMode(display=False) as mode:
            target()
        steps = capture(target).steps
        yield mode.get_total_flops(), sum(int(one.op.contraction_flops()) for s in steps for one in launched(s.call))


def test_products_of_small_calls_equal_torch_s_counter():
    pytest.importorskip("torch", reason="torch's counter is the reference")
    for name, run in torch_calls():
        for counted, found in counts(run):
            assert found == counted > 0, name


@pytest.mark.parametrize("kind", ["flash", "efficient", "cudnn"])
@pytest.mark.parametrize(("B", "H", "N", "S", "d"), [(1, 2, 16, 16, 8), (2, 3, 32, 48, 64)])
def test_products_of_attention_equal_torch_s_counter(kind, B, H, N, S, d):
    """torch's registered formulas are called directly: the back ends themselves need a card."""
    pytest.importorskip("torch", reason="torch's counter is the reference")
    from torch.utils import flop_counter

    q, k = t(B, H, N, d), t(B, H, S, d)
    name = f"_scaled_dot_product_{kind}_attention"
    forward = sum(one.op.contraction_flops() for one in launched(call(name, q, k, k)))
    assert forward == flop_counter.sdpa_flop_count(q.shape, k.shape, k.shape)
    backward = sum(one.op.contraction_flops() for one in launched(call(f"{name}_backward", q, q, k, k, q)))
    assert backward == flop_counter.sdpa_backward_flop_count(q.shape, q.shape, k.shape, k.shape)


TRAFFIC = (
    "x + y", "x * 2", "x.half()", "x.t().contiguous()", "x.expand(3, 8, 6).clone()", "torch.exp(x.t())", "x.sum()",
    "x.sum(0)", "x.mean(-1, keepdim=True)", "x.amax(1)", "x.max(1)", "x.argmax(0)", "x > 0", "torch.where(x > 0, x, y)",
    "torch.cat((x, y), 1)", "x.float()", "x.var(1)", "torch.aminmax(x)", "x.clamp(0, 1)", "x.masked_fill(x > 0, 0.0)",
    "x.add_(y)", "x.copy_(y)", "x.zero_()", "torch.zeros(3, 4, device='meta')", "(x > 0).any(1)", "torch.tanh(x).square()",
    "torch.stack((x, y), -1)", "x.t() + y[:6, :1]",
)  # fmt: skip


@for_each("text", TRAFFIC)
def test_traffic_is_the_bytes_of_inputs_and_outputs(text):
    """Bytes by torch's own sizes of what each call gets and returns: an input's storage where it is repeated."""
    torch = pytest.importorskip("torch", reason="torch runs the calls")
    from perfmodel import capture

    x, y = (torch.empty(8, 6, dtype=torch.bfloat16, device="meta") for _ in range(2))
    program = capture(lambda x, y: eval(text, {"torch": torch, "x": x, "y": y}), x, y)
    read = written = 0
    for step in program.steps:
        one = step.call
        results = {result.storage for result in one.results}
        overwritten = one.name in ("copy_", "zero_")
        reads = one.operands[overwritten:]
        read += sum(prod(n for n, s in zip(o.shape, o.strides, strict=True) if s or n == 1) * o.item for o in reads)
        written += sum(prod(o.shape) * o.item for o in (one.results or one.operands[:1]))
        assert results or one.operands
    assert written > 0
    kernels = [k for step in program.steps for k in launched(step.call)]
    assert sum(k.op.read_byte() for k in kernels) == read
    assert sum(k.op.write_byte() for k in kernels) == written


def test_every_mix_is_tested():
    assert set(MIXES) <= {name for name, *_ in ELEMENTWISE} | {"glu"}
    assert isinstance(X, Operand)
