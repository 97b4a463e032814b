"""CUDA kernels of this package as Python functions on torch or CuPy arrays.

    from perfmodel.measure import kernels
    out = kernels.conv1d(u, filter, bias)        # u (B, N, D), on the card; fp16, bf16 or fp32

Contiguous arrays are not copied. Kernels run on the current stream of the array's library, and are compiled for the
current device at their first call.
"""

from perfmodel.measure.kernels.conv1d import conv1d, conv1d_backward, conv1d_two_kernels
from perfmodel.measure.kernels.norm import layernorm, layernorm_backward, rmsnorm
from perfmodel.measure.kernels.softmax import softmax, softmax_backward

__all__ = [
    "conv1d",
    "conv1d_backward",
    "conv1d_two_kernels",
    "layernorm",
    "layernorm_backward",
    "rmsnorm",
    "softmax",
    "softmax_backward",
]
