"""Our own CUDA kernels, for whoever wants to use or read them: each takes torch or CuPy arrays and returns one.

    from perfmodel.measure import kernels
    out = kernels.conv1d(u, filter, bias)        # u (B, N, D), on the card; fp16, bf16 or fp32

Nothing is copied, the current stream is used, and a kernel is compiled for the card at hand when it is first called.
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
