"""Depthwise one-dimensional convolution: every channel has its own filter of K taps.

The signal u (B, N, D) is padded with K - 1 zeros on each side and the first N outputs are kept. An output depends on
the K inputs up to its own position: out[l] = bias + sum over k of f[k] u[l - K + 1 + k]. That is K multiplications, K -
1 additions and the bias: 2 K FLOPs per output. Channels are independent, so there is no matrix product for tensor
cores. With 2 K FLOPs per 4 bytes in fp16, the convolution is memory-bound for K up to several dozen.
"""

from __future__ import annotations

from perfmodel.arithmetic import Size
from perfmodel.mixes import NOTHING, SUM
from perfmodel.op import Engine, Kind, Op, Tensor, Work, contract, each
from perfmodel.operation import Backward, Example, operation
from perfmodel.runs import Depthwise, Gemm, Items, Reduction


@operation(
    summary="causal depthwise convolution, as one kernel or as padding and convolution",
    example=Example(
        at={"B": 1, "N": 4, "D": 2, "K": 3},
        flops=48,
        traffic=48,
        because="8 outputs x 2 x 3 taps; u and out 8 elements each, filter 6, bias 2, 2 bytes each; the padded signal of "
        "(4 + 4) x 2 = 16 elements, written and read, adds 64",
        unfused=112,
    ),
    sources=("the causal convolution of Poli et al. 2023 (Hyena)", "Fu et al. 2023 (FlashFFTConv)"),
    backward=(Backward("conv1d_backward"),),
)
def conv1d(B: Size, N: Size, D: Size, K: Size, act: Size = 2, weight: Size = 2) -> Op:
    """One kernel skips the padding. Two kernels write the padded signal and read it again.

    Fusing the padding into the convolution halves the bytes. Two kernels move four signals: u is read, the padded signal
    is written and read, and the output is written. One kernel moves two: positions outside the signal are zero and are
    not read. For B = 1, N = D = 8192, K = 3 in fp16 that is 537,067,520 bytes against 268,500,992. The FLOPs are
    402,653,184 in both forms. Both are memory-bound, so the minimum time halves as well.

    Tiling keeps the K - 1 shared inputs of neighbouring outputs on chip. Without reuse an output reads K inputs: K + 1
    elements per output instead of 2, or 536,936,448 bytes of the example for K = 3. A tile of T positions reads T + K - 1
    inputs, so the inputs are read 1 + (K - 1) / T times: 1.0156 times for T = 128. A thread that walks along a strip of
    positions keeps the last K inputs in registers and needs no shared memory. A tile changes no FLOPs, only repeated
    reads, most of which L2 serves.

    Parallelising changes neither bytes nor FLOPs: all B N D outputs are independent. It supplies the accesses in flight
    that hide the latency of memory. The example has 67,108,864 outputs. A T4 holds 40,960 threads at once, so one thread
    per output makes 1,638 rounds. Neighbouring threads take neighbouring channels, so that a warp of 32 threads reads 64
    contiguous bytes in fp16, or 512 if each thread takes eight channels. A thread per channel alone would give 8,192
    threads, a fifth of what a T4 holds, so the positions are divided into strips as well. Small B N D leaves
    multiprocessors idle.
    """
    return Op(
        tensors=(
            Tensor("u", (B, N, D), act, reads=1),
            Tensor("padded", (B, N + 2 * (K - 1), D), act, reads=1, writes=1, spill=True),
            Tensor("filter", (D, K), weight, reads=1, kind=Kind.PARAMETER),
            Tensor("bias", (D,), weight, reads=1, kind=Kind.PARAMETER),
            Tensor("out", (B, N, D), act, writes=1),
        ),
        work=(
            Work(
                "pad",
                each(NOTHING, B, N, D),
                Engine.VECTOR,
                reads=("u",),
                writes=("padded",),
                runs=Depthwise(B, N, D, K, act, "pad"),
            ),
            Work(
                "convolve",
                contract(B, N, D, K),
                Engine.VECTOR,
                reads=("padded", "filter", "bias"),
                writes=("out",),
                runs=Depthwise(B, N, D, K, act, "convolve"),
            ),
        ),
        runs=Depthwise(B, N, D, K, act),
    )


@operation(
    summary="gradients of the depthwise convolution: of its input, filter and bias",
    example=Example(
        at={"B": 1, "N": 4, "D": 2, "K": 3},
        flops=104,
        traffic=76,
        because="8 positions x 2 x 3 taps for the input, as many for the filter, 8 additions for the bias; u, dout, du 8 "
        "elements each, filter and dfilter 6 each, dbias 2, 2 bytes each; as three kernels dout is read twice more: 32",
        unfused=108,
    ),
    sources=("Dumoulin and Visin 2016 (convolution arithmetic)",),
)
def conv1d_backward(B: Size, N: Size, D: Size, K: Size, act: Size = 2, weight: Size = 2) -> Op:
    """du convolves dout with the reversed filter; df and db sum over all positions. One kernel reads dout once."""
    return Op(
        tensors=(
            Tensor("u", (B, N, D), act, reads=1),
            Tensor("dout", (B, N, D), act, reads=1),
            Tensor("filter", (D, K), weight, reads=1),
            Tensor("du", (B, N, D), act, writes=1),
            Tensor("dfilter", (D, K), weight, writes=1),
            Tensor("dbias", (D,), weight, writes=1),
        ),
        work=(
            Work(
                "input",
                contract(B, N, D, K),
                Engine.VECTOR,
                reads=("dout", "filter"),
                writes=("du",),
                runs=Depthwise(B, N, D, K, act, "convolve"),
            ),
            Work(
                "filter",
                contract(B, N, D, K),
                Engine.VECTOR,
                reads=("u", "dout"),
                writes=("dfilter",),
                runs=Reduction(1, (B, N), (D, K), act, act),
            ),
            Work(
                "bias",
                each(SUM, B, N, D),
                Engine.VECTOR,
                reads=("dout",),
                writes=("dbias",),
                runs=Reduction(1, (B, N), D, act, act),
            ),
        ),
        runs=Depthwise(B, N, D, K, act, "backward"),
    )


@operation(
    summary="full convolution over all channels, with bias: N outputs of K taps",
    example=Example(
        at={"B": 1, "N": 4, "D_in": 2, "D_out": 3, "K": 3},
        flops=156,
        traffic=82,
        because="12 outputs x 6 multiply-adds and a bias; x 8, filters 18, bias 3, y 12 elements, 2 bytes each",
    ),
    sources=("Radford et al. 2022 (Whisper), section 2.2", "Dumoulin and Visin 2016"),
    backward=(Backward("conv_backward"),),
)
def conv(B: Size, N: Size, D_in: Size, D_out: Size, K: Size, stride: Size = 1, act: Size = 2, weight: Size = 2) -> Op:
    """A matrix product of D_in K by D_out for every output, on tensor cores. The input has N x stride positions."""
    return Op(
        tensors=(
            Tensor("x", (B, N * stride, D_in), act, reads=1),
            Tensor("filters", (D_out, D_in, K), weight, reads=1, kind=Kind.PARAMETER),
            Tensor("bias", (D_out,), weight, reads=1, kind=Kind.PARAMETER),
            Tensor("y", (B, N, D_out), act, writes=1),
        ),
        work=(
            Work("convolve", contract(B, N, D_in, D_out, K), Engine.TENSOR),
            Work("bias", each(SUM, B, N, D_out), Engine.VECTOR),
        ),
        runs=Gemm((B, N), (D_in, K), D_out, items=Items(act, weight, act)),
    )


@operation(
    summary="gradients of the full convolution: of its input, filters and bias",
    example=Example(
        at={"B": 1, "N": 4, "D_in": 2, "D_out": 3, "K": 3},
        flops=300,
        traffic=134,
        because="72 multiply-adds for the input, as many for the filters, 12 additions; x, dx 8, dy 12, filters and their "
        "gradient 18, bias gradient 3 elements, 2 bytes each; as three kernels dy is read twice more: 48",
        unfused=182,
    ),
    sources=("Dumoulin and Visin 2016",),
)
def conv_backward(
    B: Size, N: Size, D_in: Size, D_out: Size, K: Size, stride: Size = 1, act: Size = 2, weight: Size = 2
) -> Op:
    """Twice the multiply-adds of the forward pass."""
    inputs, filters, outputs = (B, N * stride, D_in), (D_out, D_in, K), (B, N, D_out)
    return Op(
        tensors=(
            Tensor("x", inputs, act, reads=1),
            Tensor("dy", outputs, act, reads=1),
            Tensor("filters", filters, weight, reads=1),
            Tensor("dx", inputs, act, writes=1),
            Tensor("dfilters", filters, weight, writes=1),
            Tensor("dbias", (D_out,), weight, writes=1),
        ),
        work=(
            Work(
                "input",
                contract(B, N, D_in, D_out, K),
                Engine.TENSOR,
                reads=("dy", "filters"),
                writes=("dx",),
                runs=Gemm((B, N), D_out, (D_in, K), items=Items(act, weight, act)),
            ),
            Work(
                "filters",
                contract(B, N, D_in, D_out, K),
                Engine.TENSOR,
                reads=("x", "dy"),
                writes=("dfilters",),
                runs=Gemm(D_out, (B, N), (D_in, K), items=Items(act, act, weight)),
            ),
            Work(
                "bias",
                each(SUM, B, N, D_out),
                Engine.VECTOR,
                reads=("dy",),
                writes=("dbias",),
                runs=Reduction(1, (B, N), D_out, act, act),
            ),
        ),
        runs=(
            Gemm((B, N), D_out, (D_in, K), items=Items(act, weight, act)),
            Gemm(D_out, (B, N), (D_in, K), items=Items(act, act, weight)),
        ),
    )
