"""The feed-forward network: D -> F -> D, plain or gated.

Two products of B N D F multiply-adds each (three when gated). With F = 4 D that is 16 B N D² FLOPs, against 4 B N² D of
attention: the network has more FLOPs while N < 4 D. As separate kernels, the hidden activation of B N F elements is
written and read between them.
"""

from __future__ import annotations

from perfmodel.arithmetic import Size
from perfmodel.mixes import GELU, SILU_TIMES_UP
from perfmodel.op import Engine, Kind, Op, Tensor, Work, contract, each
from perfmodel.operation import Backward, Example, operation
from perfmodel.runs import Gemm, Items, Stream


@operation(
    summary="D -> F -> D with GELU between",
    example=Example(
        at={"B": 1, "N": 2, "D": 3, "F": 4},
        flops=136,
        traffic=72,
        because="2 tokens x 12 x 2 products = 48 multiply-adds, and 8 GELUs of 5; x 6, W1 12, W2 12, y 6 elements, 2 bytes "
        "each; three kernels add 4 x 8 of hidden activations",
        unfused=136,
    ),
    sources=("Vaswani et al. 2017, section 3.3", "Hendrycks and Gimpel 2016 (GELU)"),
    apart=True,
    backward=(
        Backward("linear_input_gradient", (("D_in", "F"), ("D_out", "D"))),
        Backward("linear_weight_gradient", (("D_in", "F"), ("D_out", "D"))),
        Backward("gelu_backward", (("numel", "B * N * F"),)),
        Backward("linear_input_gradient", (("D_in", "D"), ("D_out", "F"))),
        Backward("linear_weight_gradient", (("D_in", "D"), ("D_out", "F"))),
    ),
)
def mlp(B: Size, N: Size, D: Size, F: Size, act: Size = 2, weight: Size = 2) -> Op:
    """4 B N D F FLOPs of products. NB one kernel for both is rare; the unfused bytes are the usual traffic."""
    hidden = (B, N, F)
    up = Gemm((B, N), D, F, items=Items(act, weight, act))
    down = Gemm((B, N), F, D, items=Items(act, weight, act))
    return Op(
        tensors=(
            Tensor("x", (B, N, D), act, reads=1),
            Tensor("w_up", (D, F), weight, reads=1, kind=Kind.PARAMETER),
            Tensor("hidden", hidden, act, reads=1, writes=1, spill=True, kept=True),
            Tensor("active", hidden, act, reads=1, writes=1, spill=True, kept=True),
            Tensor("w_down", (F, D), weight, reads=1, kind=Kind.PARAMETER),
            Tensor("y", (B, N, D), act, writes=1),
        ),
        work=(
            Work("up", contract(B, N, D, F), Engine.TENSOR, reads=("x", "w_up"), writes=("hidden",), runs=up),
            Work("gelu", each(GELU, B, N, F), Engine.VECTOR, reads=("hidden",), writes=("active",), runs=Stream()),
            Work("down", contract(B, N, F, D), Engine.TENSOR, reads=("active", "w_down"), writes=("y",), runs=down),
        ),
        runs=(up, down),
    )


@operation(
    summary="D -> F -> D gated: SiLU(x W_gate) x (x W_up), then W_down",
    example=Example(
        at={"B": 1, "N": 2, "D": 3, "F": 4},
        flops=184,
        traffic=96,
        because="2 tokens x 12 x 3 products = 72 multiply-adds, and 8 gates of 5; x 6, three weights of 12, y 6 elements, "
        "2 bytes each; three kernels add gate and up written and read, 4 x 8, and active 2 x 8",
        unfused=192,
    ),
    sources=("Shazeer 2020 (GLU variants)",),
    apart=True,
    backward=(
        Backward("linear_input_gradient", (("D_in", "F"), ("D_out", "D"))),
        Backward("linear_weight_gradient", (("D_in", "F"), ("D_out", "D"))),
        Backward("silu_gate_backward", (("numel", "B * N * F"),)),
        Backward("linear_input_gradient", (("D_in", "D"), ("D_out", "2 * F"))),
        Backward("linear_weight_gradient", (("D_in", "D"), ("D_out", "2 * F"))),
    ),
)
def gated_mlp(B: Size, N: Size, D: Size, F: Size, act: Size = 2, weight: Size = 2) -> Op:
    """6 B N D F FLOPs of products, with three matrices. Gate and up are one kernel of D x 2F."""
    hidden = (B, N, F)
    up = Gemm((B, N), D, (2, F), items=Items(act, weight, act))
    down = Gemm((B, N), F, D, items=Items(act, weight, act))
    return Op(
        tensors=(
            Tensor("x", (B, N, D), act, reads=1),
            Tensor("w_gate_up", (D, 2, F), weight, reads=1, kind=Kind.PARAMETER),
            Tensor("gate", hidden, act, reads=1, writes=1, spill=True, kept=True),
            Tensor("up", hidden, act, reads=1, writes=1, spill=True, kept=True),
            Tensor("active", hidden, act, reads=1, writes=1, spill=True, kept=True),
            Tensor("w_down", (F, D), weight, reads=1, kind=Kind.PARAMETER),
            Tensor("y", (B, N, D), act, writes=1),
        ),
        work=(
            Work(
                "gate_up",
                contract(B, N, D, 2, F),
                Engine.TENSOR,
                reads=("x", "w_gate_up"),
                writes=("gate", "up"),
                runs=up,
            ),
            Work(
                "silu_gate",
                each(SILU_TIMES_UP, B, N, F),
                Engine.VECTOR,
                reads=("gate", "up"),
                writes=("active",),
                runs=Stream(gate=True),
            ),
            Work("down", contract(B, N, F, D), Engine.TENSOR, reads=("active", "w_down"), writes=("y",), runs=down),
        ),
        runs=(up, down),
    )
