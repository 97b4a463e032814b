"""All operations by name. The file of a family is imported when one of its operations is first used."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from importlib import import_module

from perfmodel.errors import InputError, did_you_mean, shown
from perfmodel.operation import Operation

FAMILIES = {
    "attention": (
        "attention multi_head_attention cross_attention attention_decode scores weighted_values "
        "scores_backward weighted_values_backward"
    ),
    "attention_backward": "attention_backward attention_backward_recompute",
    "flash": "flash_attention flash_attention_backward",
    "softmax": "softmax softmax_backward masked_softmax masked_softmax_backward causal_mask full_mask dropout dropout_backward",
    "linear": (
        "linear linear_bias linear_input_gradient linear_weight_gradient bias_gradient add_bias learned qkv output_projection logits"
    ),
    "mlp": "mlp gated_mlp",
    "moe": (
        "route route_backward expert_linear expert_linear_bias expert_input_gradient expert_weight_gradient expert_bias_gradient "
        "combine_experts combine_experts_backward"
    ),
    "latent": "mla_attention mla_cached_attention mla_latent_attention mla_attention_backward mla_attention_backward_recompute",
    "recurrent": ("selective_scan selective_scan_backward wkv wkv_backward token_shift token_shift_backward"),
    "optimizer": "adam adam_step sgd_step foreach gradient_norm",
    "norm": (
        "layernorm layernorm_backward rmsnorm rmsnorm_backward layernorm_unbiased layernorm_unbiased_backward layernorm_plain "
        "layernorm_plain_backward rmsnorm_plain rmsnorm_plain_backward"
    ),
    "elementwise": (
        "add mul mul_backward div div_backward scale exp relu relu_backward relu_squared relu_squared_backward gelu gelu_backward gelu_tanh gelu_tanh_backward "
        "silu silu_backward sigmoid sigmoid_backward tanh tanh_backward silu_gate silu_gate_backward "
        "relu_gate relu_gate_backward relu_squared_gate relu_squared_gate_backward sigmoid_gate sigmoid_gate_backward tanh_gate tanh_gate_backward "
        "gelu_gate gelu_gate_backward gelu_tanh_gate gelu_tanh_gate_backward clamped_swiglu clamped_swiglu_backward "
        "softcap softcap_backward residual"
    ),
    "pooling": "mean mean_backward",
    "rope": "rope",
    "embedding": "embedding positions embedding_backward",
    "loss": ("cross_entropy cross_entropy_backward log_softmax log_softmax_backward nll_loss nll_loss_backward"),
    "conv1d": "conv1d conv1d_backward conv conv_backward",
    "matmul": "matmul gemm tiled_matmul",
    "quantised": (
        "linear_int4 linear_int8 linear_mxfp4 linear_nvfp4 linear_fp8 quantise_static quantise_tensor quantise_token "
        "quantise_block"
    ),
    "movement": "copy concatenate fill",
    "selection": "where masked_fill compare integer random",
    "indexing": "gather scatter scatter_add",
    "reductions": "reduce_sum reduce_max argmax cumulative_sum top_k sort",
    "images": "conv2d conv2d_input_gradient conv2d_weight_gradient interpolate interpolate_backward",
    "windows": "max_pool2d max_pool2d_backward average_pool2d average_pool2d_backward",
    "channels": "batch_norm batch_norm_inference batch_norm_backward group_norm group_norm_backward",
    "collectives": (
        "all_reduce all_reduce_tree all_reduce_one_shot all_reduce_two_shot all_reduce_in_network reduce_scatter all_gather "
        "all_to_all broadcast send_recv"
    ),
    "blas": "saxpy dot stream_copy stream_scale stream_add stream_triad",
}

FAMILY_OF = {name: family for family, names in FAMILIES.items() for name in names.split()}


def find(name: str, where: str = "operation") -> Operation:
    """The operation of that name. ``where`` begins the message if there is none."""
    if name not in FAMILY_OF:
        raise InputError(
            where, f"there is no operation {shown(name)}", "a name of 'perfmodel ops' is accepted",
            did_you_mean(name, FAMILY_OF),
        )  # fmt: skip
    return _found(name)


@cache
def _found(name: str) -> Operation:
    found: Operation = getattr(import_module(f"perfmodel.ops.{FAMILY_OF[name]}"), name)
    return found


def every() -> Iterator[Operation]:
    """All operations, in the order of the table."""
    return map(find, FAMILY_OF)
