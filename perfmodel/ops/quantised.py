"""Linear layers with quantised weights, and the kernels that quantise activations.

A weight of b bytes that is read once for 2 B N FLOPs gives an intensity of 2 B N / b: with 4 bits, four times that of half
precision at the same batch. Weight-only products run at the matrix rate of half precision, so they turn compute-bound at
a quarter of the batch. The scales add to the bytes: one of 2 bytes for 128 weights of half a byte is 3 %, a zero point
of half a byte another 0.8 %; one of 1 byte for 16 weights is 12.5 %.
"""

from __future__ import annotations

from perfmodel.arithmetic import Size, ceil_div
from perfmodel.formats import FORMATS, Format, product_op
from perfmodel.mixes import MAGNITUDE, QUANTISE, SCALE_OF_LARGEST
from perfmodel.op import Engine, Kind, Op, Tensor, Work, contract, each
from perfmodel.operation import Example, operation
from perfmodel.runs import Gemm, Items, Quantisation

_SIZES = {"B": 1, "N": 2, "D_in": 8, "D_out": 4}


def _linear(form: Format, B: Size, N: Size, D_in: Size, D_out: Size, act: Size) -> Op:
    """A linear layer with its weights in a format."""
    op = Op(
        tensors=(
            Tensor("x", (B, N, D_in), act, reads=1),
            Tensor("w", (D_in, D_out), form.item, reads=1, kind=Kind.PARAMETER),
            Tensor("y", (B, N, D_out), act, writes=1),
        ),
        work=(Work("product", contract(B, N, D_in, D_out), Engine.TENSOR),),
        runs=Gemm((B, N), D_in, D_out, items=Items(act, form.item, act)),
    )
    return product_op(op, form)


@operation(
    summary="y = x (W - z) s: 4-bit weights in groups with scales and zero points (AWQ, GPTQ)",
    example=Example(
        at={**_SIZES, "group": 4},
        flops=192,
        traffic=84,
        because="2 tokens x 8 x 4 = 64 multiply-adds; 32 weights x (subtract, multiply); x 16 and y 8 elements of 2 bytes: 48; "
        "W 32 weights of 1/2: 16; 2 groups x 4 columns: 8 scales of 2 bytes, 16, and 8 zero points of 1/2, 4",
    ),
    sources=("Frantar et al. 2022 (GPTQ)", "Lin et al. 2023 (AWQ)"),
    per_token=True,
)
def linear_int4(
    B: Size, N: Size, D_in: Size, D_out: Size, group: Size = 128, act: Size = 2, scale: Size = 2, zero: Size = 0.5
) -> Op:
    """NB GPTQ also stores a group index of 4 bytes for each input; a kernel reads it where inputs were reordered."""
    return _linear(FORMATS["awq"]._replace(group=group, scale=scale, zero=zero), B, N, D_in, D_out, act)


@operation(
    summary="y = (x W) s: 8-bit weights, one scale for each column",
    example=Example(
        at=_SIZES,
        flops=136,
        traffic=88,
        because="64 multiply-adds, 8 results times their column's scale; x 16 and y 8 elements of 2 bytes: 48; W 32 bytes; 4 "
        "scales of 2 bytes",
    ),
    sources=("Dettmers et al. 2022 (LLM.int8())",),
    per_token=True,
)
def linear_int8(B: Size, N: Size, D_in: Size, D_out: Size, act: Size = 2, scale: Size = 2) -> Op:
    """The kernel converts integers to half precision without arithmetic that is counted; the scale follows the sum."""
    return _linear(FORMATS["int8"]._replace(scale=scale), B, N, D_in, D_out, act)


@operation(
    summary="y = x (W s): 4-bit floats with an 8-bit power of two for 32 weights (MXFP4)",
    example=Example(
        at={**_SIZES, "D_in": 40},
        flops=800,
        traffic=264,
        because="2 x 40 x 4 = 320 multiply-adds, 160 weights x a multiplication; x 80 and y 8 elements of 2 bytes: 176; W 160 "
        "weights of 1/2: 80; 2 blocks of a column (32 and 8 weights) x 4 columns: 8 scales of 1 byte",
    ),
    sources=("OCP Microscaling Formats (MX) Specification 1.0, 2023", "gpt-oss model card 2025"),
    per_token=True,
)
def linear_mxfp4(B: Size, N: Size, D_in: Size, D_out: Size, group: Size = 32, act: Size = 2) -> Op:
    """A scale is an exponent, so the multiplication is an addition to the exponent of the weight."""
    return _linear(FORMATS["mxfp4"]._replace(group=group), B, N, D_in, D_out, act)


@operation(
    summary="y = x (W s) t: 4-bit floats with an 8-bit scale for 16 weights and one for the matrix (NVFP4)",
    example=Example(
        at={**_SIZES, "D_in": 32},
        flops=648,
        traffic=220,
        because="2 x 32 x 4 = 256 multiply-adds, 128 weights x a multiplication, 8 results times t; x 64 and y 8 elements of 2 "
        "bytes: 144; W 128 weights of 1/2: 64; 2 blocks x 4 columns: 8 scales of 1 byte; t 4 bytes",
    ),
    sources=("NVIDIA 2025, Introducing NVFP4",),
    per_token=True,
)
def linear_nvfp4(B: Size, N: Size, D_in: Size, D_out: Size, group: Size = 16, act: Size = 2) -> Op:
    """Weights only: the matrix instruction reads half precision."""
    return _linear(FORMATS["nvfp4"]._replace(group=group), B, N, D_in, D_out, act)


@operation(
    summary="y = x W in 8-bit floats: weights with a scale for each square block, activations for each run",
    example=Example(
        at={"B": 1, "N": 2, "D_in": 6, "D_out": 5, "group": 4},
        flops=160,
        traffic=94,
        because="2 x 6 x 5 = 60 multiply-adds, 10 results x 2 blocks x (multiply, add) = 40; x 12 and W 30 bytes; 2 tokens x 2 "
        "runs: 4 scales of 4 bytes; 2 x 2 blocks: 4 scales of 4 bytes; y 10 elements of 2 bytes",
    ),
    sources=("DeepSeek-AI 2024 (DeepSeek-V3), section 3.3.2",),
    per_token=True,
)
def linear_fp8(B: Size, N: Size, D_in: Size, D_out: Size, group: Size = 128, act: Size = 2) -> Op:
    """The sum over each run of inputs is scaled and added in float32. ``quantise_block`` makes x from half precision."""
    return _linear(FORMATS["fp8-block"]._replace(group=group, columns=group, run=group), B, N, D_in, D_out, act)


def _quantise(
    rows: Size, cols: Size, scales: tuple[Size, ...], run: Size, act: Size, packed: Size, scale: Size, kind: str
) -> Op:
    """Largest magnitude, scale and cast; without the first two where the scale is given."""
    given = kind == "static"
    found = (
        Work("largest magnitude", each(MAGNITUDE, rows, cols), Engine.VECTOR),
        Work("scales", each(SCALE_OF_LARGEST, *scales), Engine.VECTOR),
    )
    return Op(
        tensors=(
            Tensor("x", (rows, cols), act, reads=1),
            Tensor("y", (rows, cols), packed, writes=1),
            Tensor("scales", scales, scale, reads=int(given), writes=int(not given)),
        ),
        work=(*(() if given else found), Work("cast", each(QUANTISE, rows, cols), Engine.VECTOR)),
        runs=Quantisation(rows, cols, kind, act, packed, run, scale),
    )


@operation(
    summary="y = x / s in a narrow type, with a known scale",
    example=Example(
        at={"rows": 2, "cols": 6},
        flops=36,
        traffic=40,
        because="12 elements x (multiply, two limits); 12 of 2 bytes read, 12 of 1 byte written, a scale of 4 bytes read",
    ),
    sources=("Micikevicius et al. 2022 (FP8 formats)",),
)
def quantise_static(rows: Size, cols: Size, act: Size = 2, packed: Size = 1, scale: Size = 4) -> Op:
    """The scale was found before, on calibration data."""
    return _quantise(rows, cols, (1,), 0, act, packed, scale, "static")


@operation(
    summary="y = x / s in a narrow type, with one scale for the whole matrix",
    example=Example(
        at={"rows": 2, "cols": 6},
        flops=50,
        traffic=40,
        because="12 elements x (maximum, multiply, two limits), 2 for the scale; 12 of 2 bytes read, 12 of 1 byte and a scale of 4 "
        "written; unfused, x and the scale are read by the second kernel: 28 more",
        unfused=68,
    ),
    sources=("Micikevicius et al. 2022 (FP8 formats)",),
    apart=True,
)
def quantise_tensor(rows: Size, cols: Size, act: Size = 2, packed: Size = 1, scale: Size = 4) -> Op:
    """The scale is known after every element was read. Libraries read the matrix again, in a second kernel."""
    whole = _quantise(rows, cols, (1,), 0, act, packed, scale, "tensor")
    largest, scales, cast = whole.work
    first, second = (Quantisation(rows, cols, kind, act, packed, 0, scale) for kind in ("largest", "cast"))
    work = (
        largest._replace(reads=("x",), writes=("scales",), runs=first),
        scales,
        cast._replace(reads=("x", "scales"), writes=("y",), runs=second),
    )
    return whole._replace(work=work)


@operation(
    summary="y = x / s in a narrow type, with one scale for each row",
    example=Example(
        at={"rows": 2, "cols": 6},
        flops=52,
        traffic=44,
        because="12 elements x (maximum, multiply, two limits), 2 scales x 2; 12 of 2 bytes read, 12 of 1 byte and 2 scales of 4 "
        "written",
    ),
    sources=("Yao et al. 2022 (ZeroQuant)", "Xiao et al. 2022 (SmoothQuant)"),
)
def quantise_token(rows: Size, cols: Size, act: Size = 2, packed: Size = 1, scale: Size = 4) -> Op:
    """A block keeps its row on chip, so the row is read once."""
    return _quantise(rows, cols, (rows, 1), cols, act, packed, scale, "token")


@operation(
    summary="y = x / s in a narrow type, with one scale for each run of a row",
    example=Example(
        at={"rows": 2, "cols": 6, "group": 4},
        flops=56,
        traffic=52,
        because="12 elements x (maximum, multiply, two limits), 4 scales x 2; 12 of 2 bytes read, 12 of 1 byte and 2 x 2 scales of "
        "4 written",
    ),
    sources=("DeepSeek-AI 2024 (DeepSeek-V3), section 3.3.2",),
)
def quantise_block(rows: Size, cols: Size, group: Size = 128, act: Size = 2, packed: Size = 1, scale: Size = 4) -> Op:
    """Runs of 128 for fp8 of 128-blocks, of 32 for MX formats, of 16 for NVFP4."""
    return _quantise(rows, cols, (rows, ceil_div(cols, group)), group, act, packed, scale, "block")
