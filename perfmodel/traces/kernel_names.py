"""The information in the name of a kernel: its family, its operator, its data type and the size of its tiles.

A table of patterns. The names are those that the CUDA libraries, torch, Inductor (Triton) and NCCL give their kernels.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

from perfmodel.errors import printable

COMMUNICATION = "communication"

# Families by pattern; the first that matches counts.
_FAMILIES: tuple[tuple[str, str], ...] = (
    (COMMUNICATION, r"^nccl(Dev)?Kernel|^nccl|^rccl|cross_device_reduce|one_shot_all_reduce|two_shot_all_reduce|^mscclKernel"
                    r"|^nvshmem|multimem_all"),
    ("copy", r"^Memcpy "),
    ("fill", r"^Memset "),
    ("fused", r"^triton_(poi|red|per|tem|mix|foreach)_"),
    ("attention_backward", r"sdpa.*bprop|flash_bwd|fmha_cutlassB|FlashAttnBwd|fmha.*(bwd|dgrad)|compute_dot_do_o|convert_dq"
                           r"|flex_attention_backward"),
    ("attention", r"sdpa.*fprop|flash_fwd|flash::|fmha|FlashAttn|flex_attention|paged_attention|attention_kernel|BatchDecode"
                  r"|BatchPrefill|xqa_kernel"),
    ("convolution", r"fprop|dgrad|wgrad|ImplicitGemmConvolution|conv_depthwise|convolve|[Ww]inograd|cudnn.*conv|conv2d|conv1d"
                    r"|implicit_convolve"),
    ("layout", r"nchwToNhwc|nhwcToNchw|nchwAddPadding|nhwcAddPadding"),
    ("random", r"distribution_|philox|dropout_kernel"),
    ("optimizer", r"multi_tensor_apply_kernel|FusedOptimizer|FusedAdam|adam"),
    ("product", r"nvjet|gemm|GEMM|cutlass.*Kernel2|gemv|GemmUniversal|cublas|splitKreduce|dot_kernel|matmul|wmma|tensorop"),
    ("softmax", r"[Ss]oft_?[Mm]ax"),
    ("norm", r"layer_norm|LayerNorm|rms_?norm|RMSNorm|RowwiseMoments|GammaBeta|batch_norm|bn_fw|bn_bw|group_norm|GroupNorm"
             r"|ComputeFusedParams|BatchNorm|bnorm"),
    ("loss", r"nll_loss|cross_entropy"),
    ("embedding_backward", r"embedding_backward|compute_grad_weight|sum_and_scatter|krn_partial|num_of_partial|partials_per"
                           r"|partial_segment"),
    ("concatenation", r"CatArrayBatchedCopy"),
    ("sort", r"radix|Radix|[Ss]ort|topk|TopK|bitonic|merge_sort"),
    ("gather", r"gather|indexSelect|index_elementwise|index_copy|indexing_backward|scatter|indexFunc|index_kernel|take_"),
    ("scan", r"[Ss]can|cumsum"),
    ("reduction", r"reduce_kernel|DeviceReduce|reduce_1Block|splitKreduce|[Hh]istogram"),
    ("pool", r"pool|upsample|interpolate"),
    ("elementwise", r"elementwise|_kernel_with_index|unrolled|tril|triu"),
)  # fmt: skip
_COMPILED = tuple((family, re.compile(pattern)) for family, pattern in _FAMILIES)

_TYPES: tuple[tuple[str, str], ...] = (
    ("bf16", r"c10::BFloat16|bfloat16|_bf16|bf16bf16|nvjet_sm\d+_[a-z]*t[a-z]*t_"), ("fp16", r"c10::Half|__half|_f16_|f16f16|_h\w*h_|half_t"),
    ("fp8", r"e4m3|e5m2|Float8"), ("tf32", r"tf32|_s1688gemm_f|tensorop_s1688"),
    ("fp64", r"\bdouble\b|dgemm|f64"), ("fp32", r"\bfloat\b|sgemm|f32"), ("int64", r"\blong\b"), ("int32", r"\bint\b"),
)  # fmt: skip
_COMPILED_TYPES = tuple((dtype, re.compile(pattern)) for dtype, pattern in _TYPES)


@lru_cache(maxsize=100_000)
def family(name: str) -> str:
    """Returns the family of a kernel; ``other`` if no pattern matches."""
    return next((found for found, pattern in _COMPILED if pattern.search(name)), "other")


def is_communication(name: str) -> bool:
    """Whether a kernel exchanges data between GPUs."""
    return family(name) == COMMUNICATION


@lru_cache(maxsize=100_000)
def short(name: str, limit: int = 72) -> str:
    """A name for a table: without namespaces, arguments and most template parameters."""
    text = printable(name)
    text = re.sub(
        r"\(anonymous namespace\)::|at::native::|at::cuda::|c10::|void |at_cuda_detail::|cub::detail::|cuda::", "", text
    )
    text = re.sub(r"(?<=[\w>])\((?!anonymous).*$", "", text)
    functor = _functor(text)
    head = text.split("<", 1)[0]
    text = f"{head}<{functor}>" if functor else head
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _functor(text: str) -> str:
    """The function that an elementwise or a reducing kernel applies."""
    found = re.findall(
        r"(\w+Functor\w*|\w+_kernel_(?:cuda|impl)\w*|\w+KernelImpl|\w+CUDAKernel\w*|\w+_functor|CUDAFunctor\w*|MeanOps|launch_\w+|\w+Ops)",
        text.split("<", 1)[1] if "<" in text else "",
    )  # fmt: skip
    wrappers = ("BinaryFunctor", "AUnaryFunctor", "BUnaryFunctor", "UnaryOpFunctor", "gpu_kernel_impl")
    plain = [one for one in found if one not in wrappers]
    return str((plain or found or [""])[0])


class Tile(NamedTuple):
    """Rows and columns of the result that one thread block computes."""

    rows: int
    cols: int


_TILE = (
    re.compile(r"nvjet_sm\d+_\w+?_(\d+)x(\d+)_"), re.compile(r"tilesize(\d+)x(\d+)"), re.compile(r"gemm\w*?_(\d+)x(\d+)_"),
)  # fmt: skip


def tile(name: str) -> Tile | None:
    """The tile of a matrix product, in the order of the name (column-major libraries name columns first)."""
    found = next((match for pattern in _TILE if (match := pattern.search(name))), None)
    return Tile(int(found[1]), int(found[2])) if found else None


@lru_cache(maxsize=100_000)
def dtype(name: str) -> str:
    """The type of the numbers that a kernel computes with, or an empty text."""
    letters = re.match(r"nvjet_sm\d+_([a-z])([a-z])([a-z])_", name)
    if letters:
        return {"t": "bf16", "h": "fp16", "s": "fp32", "d": "fp64", "q": "fp8", "o": "fp8"}.get(letters[1], "")
    return next((found for found, pattern in _COMPILED_TYPES if pattern.search(name)), "")


# Operators by the function that an elementwise kernel applies.
_FUNCTIONS: tuple[tuple[str, str], ...] = (
    ("mul", r"MulFunctor"), ("div", r"DivFunctor|div_true"), ("add", r"CUDAFunctor_add|AddFunctor|CUDAFunctorOnSelf_add|CUDAFunctorOnOther_add"),
    ("sub", r"sub_functor|CUDAFunctor_sub"), ("fill_", r"FillFunctor"), ("gelu_backward", r"GeluBackward"), ("gelu", r"GeluCUDA"),
    ("silu_backward", r"silu_backward"), ("silu", r"silu_kernel"), ("tanh_backward", r"tanh_backward"), ("tanh", r"tanh_kernel"),
    ("sigmoid_backward", r"sigmoid_backward"), ("sigmoid", r"sigmoid_kernel"), ("pow", r"pow_tensor|PowFunctor"), ("rsqrt", r"rsqrt"),
    ("sqrt", r"sqrt"), ("neg", r"neg_kernel"), ("exp", r"exp_kernel"), ("log", r"log_kernel"), ("sin", r"sin_kernel"), ("cos", r"cos_kernel"),
    ("reciprocal", r"reciprocal"), ("threshold_backward", r"threshold"), ("clamp", r"clamp"), ("abs", r"abs_kernel"),
    ("masked_fill_", r"masked_fill"), ("native_dropout_backward", r"masked_scale"), ("where", r"where_kernel"),
    ("addcmul", r"addcmul"), ("addcdiv", r"addcdiv"), ("lerp", r"lerp"), ("eq", r"compare|CompareEq|CompareFunctor"),
    ("bitwise_and", r"Bitwise|bitwise|logical"), ("copy_", r"copy_kernel|direct_copy|CopyFunctor"), ("arange", r"arange"),
    ("tril", r"tril|triu"), ("relu", r"relu"), ("native_dropout", r"fused_dropout"), ("maximum", r"[mM]ax"), ("minimum", r"[mM]in"),
)  # fmt: skip
_COMPILED_FUNCTIONS = tuple((operator, re.compile(pattern)) for operator, pattern in _FUNCTIONS)


@lru_cache(maxsize=100_000)
def function(name: str) -> str:
    """The operator of torch that an elementwise kernel computes, or an empty text."""
    return next((found for found, pattern in _COMPILED_FUNCTIONS if pattern.search(name)), "")


_LAYOUT = re.compile(r"nvjet_\w+_([TN])([TN])[TN]$|gemm\w*?_([tn])([tn])_|_([tn])([tn])_n_tilesize")


def layout(name: str) -> str:
    """Returns the layout of a product's operands, in cuBLAS's letters: ``NT`` is the gradient of a weight."""
    found = _LAYOUT.search(name)
    return "".join(letter for letter in found.groups() if letter).upper() if found else ""


def attention_tile(name: str) -> int:
    """The head size that an attention kernel is built for, 0 where its name does not tell."""
    found = re.search(
        r"_\d+x\d+x(\d+)_\d+x\d+x\d+_cga|(?:Flash_fwd|Flash_bwd)_kernel_traits<(\d+)|cutlass[FB]_\w+?_k(\d+)", name
    )
    return next((int(text) for text in found.groups() if text), 0) if found else 0
