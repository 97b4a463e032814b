"""Names that a case accepts: every operation of ``perfmodel ops``, and three workloads of several operations.

An operation has its own sizes, defaults and gradients. This module adds its implementations, and the composites
``mlp``, ``layer`` and ``elementwise``. ``mlp`` is the three kernels that a library runs, as in ``perfmodel flops --op
mlp --unfused``. ``elementwise`` names its function by ``kind``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property

from perfmodel import ops
from perfmodel.operation import Operation
from perfmodel.runs import SCALES
from perfmodel.symbols import SYMBOLS

DIRECTIONS = ("forward", "backward", "forward_backward", "train")
ACTIVATIONS = ("gelu", "gelu_tanh", "relu", "silu")
ELEMENTWISE = "elementwise"
WINDOW = "W"


@dataclass(frozen=True)
class Kind:
    """The meaning of a case's name.

    ``steps`` are its operations as (name, operation, sizes). ``sizes`` are the sizes that a shape accepts. ``ties`` are
    expressions for sizes that a shape may omit. ``optional`` are sizes without a default here: windows, item sizes and
    sizes that depend on the card. ``words`` maps each key to its values, the default first.
    """

    steps: tuple[tuple[str, str, str], ...]
    sizes: tuple[str, ...]
    ties: Mapping[str, str]
    optional: frozenset[str]
    words: Mapping[str, tuple[str, ...]]

    @cached_property
    def shape(self) -> tuple[str, ...]:
        """The sizes without item sizes, as listed in messages."""
        return tuple(name for name in self.sizes if SYMBOLS[name].kind != "item")

    @cached_property
    def by_card(self) -> tuple[str, ...]:
        """The sizes that depend on the card if a shape omits them."""
        return tuple(name for name in self.sizes if SYMBOLS[name].card)

    @cached_property
    def booleans(self) -> dict[str, int]:
        """The item sizes that do not follow the data type."""
        return {name: item for operation in self.operations for name, item in operation.booleans.items()}

    @property
    def operations(self) -> list[Operation]:
        return [ops.find(operation) for _, operation, _ in self.steps]


# Implementations by operation, the default first. For row kernels, ``ours`` and ``fused`` are the same kernels of this
# project. ``naive`` runs the operation as separate kernels. ``math`` is torch's sequence of separate kernels.
_BACK_ENDS = ("torch", "flash", "cudnn", "efficient", "math", "serving", "paged", "naive")
_CONVOLUTIONS = ("fused", "naive", "torch", "torch_channels_first")
_OWN_ROWS = ("torch", "ours", "fused")
COLLECTIVES = tuple(name for name, family in ops.FAMILY_OF.items() if family == "collectives")
IMPLEMENTATIONS: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(("softmax", "softmax_backward"), _OWN_ROWS),
    **dict.fromkeys(("layernorm", "layernorm_backward", "rmsnorm"), (*_OWN_ROWS, "naive")),
    "rmsnorm_backward": ("torch", "naive"),
    **dict.fromkeys(("attention", "multi_head_attention", "cross_attention", "attention_decode"), _BACK_ENDS),
    "attention_backward": ("fused", "naive", "math"),
    **dict.fromkeys(
        ("flash_attention", "flash_attention_backward", "attention_backward_recompute"),
        ("torch", "flash", "cudnn", "efficient"),
    ),
    "conv1d": _CONVOLUTIONS,
    "conv1d_backward": _CONVOLUTIONS,
    **dict.fromkeys(("conv", "conv_backward", "scores", "weighted_values"), ("torch", "naive")),
    "qkv": ("torch", "fused", "naive"),
    **dict.fromkeys(("matmul", "linear"), ("torch", *SCALES)),
    "expert_linear": ("torch", "serving"),
    "linear_int4": ("torch", "serving", "ours"),
    **dict.fromkeys(("linear_mxfp4", "linear_nvfp4"), ("ours",)),
    **dict.fromkeys(("linear_int8", "linear_fp8"), ("torch", "serving")),
    **dict.fromkeys(("quantise_static", "quantise_token", "quantise_block"), ("ours",)),
    "quantise_tensor": ("naive", "ours"),
    **dict.fromkeys(COLLECTIVES, ("nccl", "gloo", "serving")),
}
# Operations that torch runs as one kernel.
_TORCH_NAMES = (
    "matmul gemm linear linear_bias linear_input_gradient linear_weight_gradient bias_gradient add_bias "
    "output_projection logits embedding embedding_backward dropout dropout_backward "
    "causal_mask full_mask residual mean adam saxpy dot stream_copy stream_scale stream_add stream_triad "
    "add mul div scale exp relu relu_backward gelu gelu_backward gelu_tanh gelu_tanh_backward silu silu_backward "
    "sigmoid sigmoid_backward tanh tanh_backward copy concatenate fill where masked_fill compare integer random gather scatter "
    "scatter_add reduce_sum reduce_max argmax cumulative_sum top_k sort conv2d conv2d_input_gradient conv2d_weight_gradient "
    "interpolate interpolate_backward max_pool2d max_pool2d_backward average_pool2d average_pool2d_backward batch_norm "
    "batch_norm_inference batch_norm_backward group_norm group_norm_backward log_softmax log_softmax_backward nll_loss "
    "nll_loss_backward adam_step sgd_step foreach gradient_norm"
)
_TORCH = frozenset(_TORCH_NAMES.split())
STAGED = ("stages", "naive", "math")  # the implementations that run an operation as separate kernels
# The unfused form that ``--unfused`` counts. ``naive`` adds the copies and masks of eager code.
STAGES = "stages"

# Further sizes that a shape may omit, besides those of the notation table.
_TIES: Mapping[str, Mapping[str, str]] = {"qkv": {"H": "1", "d": "D / H"}}

_MLP = (
    ("up", "linear", "D_in=D, D_out=F"),
    ("activation", "gelu", "numel=B*N*F"),
    ("down", "linear", "D_in=F, D_out=D"),
)
GATED = (
    ("gate_up", "linear", "D_in=D, D_out=2*F"),
    ("gate", "silu_gate", "numel=B*N*F"),
    ("down", "linear", "D_in=F, D_out=D"),
)
_LAYER = (
    ("attention.norm", "layernorm", "rows=B*N, cols=D"),
    ("attention.qkv", "linear", "D_in=D, D_out=(H + 2*H_kv)*d"),
    ("attention", "attention", ""),
    ("attention.project", "output_projection", ""),
    ("attention.residual", "residual", ""),
    ("mlp.norm", "layernorm", "rows=B*N, cols=D"),
    *((f"mlp.{name}", operation, sizes) for name, operation, sizes in _MLP),
    ("mlp.residual", "residual", ""),
)
_ITEMS = ("act", "weight")
_LAYER_TIES = {"H_kv": "H", "S": "N", "d": "D / H", "F": "4 * D"}


@cache
def implementations(name: str) -> tuple[str, ...]:
    """Returns the implementations of an operation or a composite, the default first; empty if it has none."""
    if name in COMPOSITES:
        return COMPOSITES[name].words["impl"]
    if name in IMPLEMENTATIONS or name in _TORCH:
        return IMPLEMENTATIONS.get(name, ("torch",))
    operation = ops.find(name)
    if getattr(operation(**operation.example.at).runs, "gate", False):
        return ("fused", "torch")  # torch runs the activation and the multiplication as two kernels
    forms = ("naive", "fused") if operation.apart else ("fused", "naive")
    return forms if splits(operation) else ()


@cache
def splits(operation: Operation, backward: bool = False) -> bool:
    """Returns whether the operation has a form of several kernels; with ``backward``, its gradients count too."""
    if operation(**operation.example.at).kernels():
        return True
    return backward and any(splits(ops.find(gradient.operation)) for gradient in operation.backward)


COMPOSITES: Mapping[str, Kind] = {
    "mlp": Kind(
        _MLP, ("B", "N", "D", "F", *_ITEMS), {"F": "4 * D"}, frozenset(_ITEMS),
        {"direction": DIRECTIONS, "impl": ("torch", "naive"), "activation": (*ACTIVATIONS, "swiglu")},
    ),
    "layer": Kind(
        _LAYER, ("B", "N", "D", "H", "H_kv", "F", "d", "S", WINDOW, *_ITEMS, "cache"), _LAYER_TIES,
        frozenset((WINDOW, *_ITEMS, "cache")),
        {"direction": DIRECTIONS, "impl": _BACK_ENDS, "causal": ("false", "true"), "activation": ACTIVATIONS},
    ),
}  # fmt: skip
# Every name that the key ``op`` accepts; names of the original cases format come first.
NAMES = tuple(
    dict.fromkeys(
        ("matmul", "softmax", "softmax_backward", "layernorm", "layernorm_backward", "rmsnorm", ELEMENTWISE, "attention",
         "conv1d", "qkv", *COMPOSITES, *ops.FAMILY_OF)
    )
)  # fmt: skip
# Values of ``kind`` in an elementwise case.
ELEMENTWISE_KINDS = tuple(
    name for name, family in ops.FAMILY_OF.items() if family == ELEMENTWISE and name != "residual"
)


@cache
def kind(name: str) -> Kind:
    """Returns the kind of an operation or a composite."""
    if name in COMPOSITES:
        return COMPOSITES[name]
    operation = ops.find(name)
    sizes = tuple(symbol for symbol in operation.arguments if SYMBOLS[symbol].kind != "flag")
    staged = (STAGES,) if splits(operation, backward=True) else ()
    words = {
        "direction": DIRECTIONS if operation.backward else (),
        "impl": (*implementations(name), *staged),
        "causal": ("false", "true") if "causal" in operation.arguments else (),
    }
    ties = _ties(operation, sizes)
    optional = {symbol for symbol in sizes if SYMBOLS[symbol].kind != "size" or SYMBOLS[symbol].card}
    return Kind(
        ((name, name, ""),), sizes, ties, frozenset(optional), {key: known for key, known in words.items() if known}
    )


def _ties(operation: Operation, sizes: tuple[str, ...]) -> dict[str, str]:
    """Returns expressions for the sizes that may be omitted: the operation's, the notation table's, or a default."""
    follows = {name: SYMBOLS[name].follows for name in sizes if SYMBOLS[name].follows and _letters(name) <= set(sizes)}
    defaults = {name: str(operation.defaults[name]) for name in sizes if operation.defaults.get(name) is not None
                and SYMBOLS[name].kind == "size"}  # fmt: skip
    return {**follows, **defaults, **_TIES.get(operation.name, {})}


def _letters(name: str) -> set[str]:
    from perfmodel.expression import expression

    return set(expression(SYMBOLS[name].follows, name).names)
