"""Linear layers with quantised weights by torch, and the kernels of this package that quantise activations.

The reference is the product of the dequantised weights in float64. It checks the arithmetic of the kernel, not the
accuracy of the format. Activations of an 8-bit product are quantised before the run: the product alone is measured.
"""

from __future__ import annotations

from typing import Any

from perfmodel.measure.program import Pairs, Program
from perfmodel.measure.workloads import Bench
from perfmodel.measure.workloads.products import BLOCK, BLOCKS_ACCEPTED, in_blocks

ROWS_CHECKED = 64
INNER_TILES = 8  # tiles along the input that torch's layout of 4-bit weights keeps together
GROUPS = (32, 64, 128, 256)
TIE = 1e-4  # distances of two neighbours that agree so nearly are equal in float32
FP4 = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)  # by exponent of two bits and mantissa of one
LARGEST = 448.0  # of an 8-bit float of 4 exponent bits


def build(bench: Bench) -> Program:
    """The program of the operation that the case names."""
    if bench.impl == "serving":
        raise bench.refuse(
            "serving stands for the kernel of a serving stack, which this package does not run", "torch is accepted"
        )
    return _PROGRAMS[bench.op](bench)


def _some(rows: int) -> slice:
    return slice(None, None, max(1, rows // ROWS_CHECKED))


def _sizes(bench: Bench) -> tuple[int, int, int]:
    """Tokens, inputs and outputs of a linear layer."""
    return bench.shape["B"] * bench.shape["N"], bench.shape["D_in"], bench.shape["D_out"]


def _against(x: Any, w: Any) -> Any:
    """Compares some rows with x w, for the weights (D_in, D_out) in float64."""
    part = _some(x.shape[0])

    def compare(out: Any) -> Pairs:
        yield "the product", out[part], x[part].double() @ w

    return compare


def _int4(bench: Bench) -> Program:
    """torch's product of bfloat16 with 4-bit weights: (q - 8) scale + zero, scales and zeros of 2 bytes."""
    if bench.impl == "ours":
        return _unpacked(bench)
    torch, (rows, D_in, D_out), group = bench.torch, _sizes(bench), bench.shape["group"]
    if bench.case.dtype != "bf16" or group not in GROUPS or D_in % max(group, 128) or D_out % 64:
        raise bench.refuse(
            "torch has no such 4-bit product",
            f"bf16, groups of {', '.join(map(str, GROUPS))}, inputs in multiples of 128 and outputs in multiples of 64 are accepted",
        )
    if (bench.shape.get("zero", 0.5), bench.shape.get("scale", 2)) != (2, 2):
        raise bench.refuse("torch's zero points have 2 bytes", '"zero": 2 and "scale": 2 in shape are accepted')
    x, blocks = bench.normal(rows, D_in), D_in // group
    q = bench.indices(D_out * D_in, 16).view(D_out, D_in).to(torch.int32)
    scales, zeros = (bench.normal(blocks, D_out, scale=D_in**-0.5 / by) for by in (8, 4))
    both = torch.stack((scales, zeros), -1).contiguous()
    w = (q.double().T - 8) * _spread(scales, group) + _spread(zeros, group)
    if bench.device == "cpu":
        packed = torch.ops.aten._convert_weight_to_int4pack_for_cpu(q, INNER_TILES)
        return Program(lambda: torch.ops.aten._weight_int4pack_mm_for_cpu(x, packed, group, both), _against(x, w))
    pairs = (q[:, ::2] << 4 | q[:, 1::2]).to(torch.uint8)
    packed = torch.ops.aten._convert_weight_to_int4pack(pairs, INNER_TILES)
    return Program(lambda: torch.ops.aten._weight_int4pack_mm(x, packed, group, both), _against(x, w))


def _spread(scales: Any, group: int) -> Any:
    """One value for each weight: (D_in / group, D_out) to (D_in, D_out), in float64."""
    return scales.double().repeat_interleave(group, 0)


def _int8(bench: Bench) -> Program:
    """torch's product with 8-bit weights and one scale for each column."""
    torch, (rows, D_in, D_out) = bench.torch, _sizes(bench)
    if bench.case.dtype not in ("bf16", "fp16"):
        raise bench.refuse("torch has no such 8-bit product", "bf16 and fp16 are accepted")
    x = bench.normal(rows, D_in)
    q = (bench.indices(D_out * D_in, 255).view(D_out, D_in) - 127).to(torch.int8)
    scales = (bench.normal(D_out).abs() + 0.5) * D_in**-0.5 / 64
    w = q.double().T * scales.double()
    return Program(lambda: torch.ops.aten._weight_int8pack_mm(x, q, scales), _against(x, w))


def _fp8(bench: Bench) -> Program:
    """torch's product of 8-bit floats: runs of 128 of both operands, weights in blocks of 128 x 128."""
    torch, (rows, D_in, D_out) = bench.torch, _sizes(bench)
    group = bench.shape["group"]
    if bench.device != "cuda" or bench.case.dtype != "bf16" or group != BLOCK or not in_blocks(rows, D_in, D_out):
        raise bench.refuse(
            "torch has no such product of 8-bit floats",
            f"bf16, groups of 128, {BLOCKS_ACCEPTED.removesuffix(' are accepted')} on a GPU are accepted",
        )
    kind = torch.float8_e4m3fn
    x, w = (bench.normal(lines, D_in).float().to(kind) for lines in (rows, D_out))
    s_x = (bench.normal(D_in // BLOCK, rows).float().abs() + 0.5).t()  # outer-dimension major, as cuBLAS reads it
    s_w = (bench.normal(D_out // BLOCK, D_in // BLOCK).float().abs() + 0.5) * D_in**-0.5
    wide = s_x.double().repeat_interleave(BLOCK, 1)
    both = s_w.double().repeat_interleave(BLOCK, 0).repeat_interleave(BLOCK, 1)
    part = _some(rows)

    def compare(out: Any) -> Pairs:
        yield "the product", out[part], (x[part].double() * wide[part]) @ (w.double() * both).T

    return Program(
        lambda: torch._scaled_mm(x, w.t(), s_x, s_w.t(), out_dtype=torch.bfloat16, use_fast_accum=False), compare
    )


def _unpacked(bench: Bench) -> Program:
    """A kernel of this package for few rows. Bits are random; scales keep the results near one."""
    torch, (rows, D_in, D_out), group = bench.torch, _sizes(bench), bench.shape["group"]
    if bench.device != "cuda":
        raise bench.refuse("the CUDA kernels need a GPU", "a GPU is accepted")
    from perfmodel.measure.kernels import unpack

    blocks = D_in // group
    if (
        rows > unpack.MOST_ROWS
        or D_in % max(group, unpack.ACCESS)
        or blocks % 2
        or bench.case.dtype not in ("bf16", "fp16")
    ):
        raise bench.refuse(
            "the kernel converts for few rows",
            f"bf16 and fp16, up to {unpack.MOST_ROWS} rows and an even number of groups are accepted",
        )
    bits = bench.indices(D_out * D_in // 2, 256).view(D_out, D_in // 2).to(torch.uint8)
    packed, w = unpacked_weights(bench, bits, blocks)
    x = bench.normal(rows, D_in)
    return Program(lambda: unpack.product(x, packed), _against(x, w.T))


def unpacked_weights(bench: Bench, bits: Any, blocks: int) -> tuple[Any, Any]:
    """Returns the packed weights for the kernel and the weights (D_out, D_in) in float64."""
    from perfmodel.measure.kernels.unpack import Packed

    torch, D_out, group, size = bench.torch, bits.shape[0], bench.shape["group"], bits.shape[1] * 2
    halves = torch.stack((bits & 15, bits >> 4), -1).flatten(1).long()
    if bench.op == "linear_int4":
        scales = (bench.normal(D_out, blocks).abs() + 0.5) * size**-0.5 / 4
        zeros = bench.indices(D_out * blocks // 2, 256).view(D_out, blocks // 2).to(torch.uint8)
        each = torch.stack((zeros & 15, zeros >> 4), -1).flatten(1)
        wide = (halves - each.repeat_interleave(group, 1)).double() * scales.double().repeat_interleave(group, 1)
        return Packed(bench.op, group, bits, scales, zeros), wide
    values = torch.tensor([sign * value for sign in (1, -1) for value in FP4], dtype=torch.float64, device=bits.device)
    if bench.op == "linear_mxfp4":
        scales = (118 + bench.indices(D_out * blocks, 5).view(D_out, blocks)).to(torch.uint8)
        wide = values[halves] * (2.0 ** (scales.double() - 127)).repeat_interleave(group, 1)
        return Packed(bench.op, group, bits, scales), wide
    scales = (40 + bench.indices(D_out * blocks, 16).view(D_out, blocks)).to(torch.uint8)
    wide = values[halves] * scales.view(torch.float8_e4m3fn).double().repeat_interleave(group, 1)
    return Packed(bench.op, group, bits, scales, whole=0.125), wide * 0.125


def _quantise(bench: Bench) -> Program:
    """Kernels of this package. The reference divides by the scale and rounds to the nearest 8-bit float."""
    if bench.device != "cuda":
        raise bench.refuse("the CUDA kernels need a GPU", "a GPU is accepted")
    from perfmodel.measure.kernels import quantise

    torch, rows, cols = bench.torch, bench.shape["rows"], bench.shape["cols"]
    kind = bench.op.removeprefix("quantise_")
    x, part = bench.normal(rows, cols), _some(rows)
    factor = torch.full((1,), 100.0, device=bench.device)
    run = bench.shape["group"] if kind == "block" else cols
    kernels: dict[str, Any] = {
        "static": lambda: quantise.quantise_static(x, factor),
        "tensor": lambda: quantise.quantise_tensor(x),
        "token": lambda: quantise.quantise_token(x),
        "block": lambda: quantise.quantise_block(x, run),
    }

    def compare(found: Any) -> Pairs:
        wide = x[part].double()
        if kind == "static":
            scale = 1.0 / factor.double().expand(wide.shape[0], 1)
        elif kind == "tensor":
            scale = (x.abs().max().double() / LARGEST).expand(wide.shape[0], 1)
        else:
            scale = wide.unflatten(1, (-1, run)).abs().amax(-1) / LARGEST
        out = found if kind == "static" else found[0]
        every = scale.repeat_interleave(cols // scale.shape[1], 1)
        got = out.view(torch.float8_e4m3fn)[part].double()
        yield "the 8-bit floats", got, nearest(torch, (wide / every).clamp(-LARGEST, LARGEST), got)
        if kind != "static":
            given = found[1].double()
            yield (
                "the scales",
                given[part] if kind in ("token", "block") else given,
                scale if kind != "tensor" else scale[0],
            )

    return Program(kernels[kind], compare)


def nearest(torch: Any, exact: Any, got: Any) -> Any:
    """The nearest 8-bit float of each exact value; of two that are equally near, the given one."""
    rounded = exact.float().to(torch.float8_e4m3fn).double()
    as_near = (got - exact).abs() <= (rounded - exact).abs() * (1 + TIE)
    return torch.where(as_near, got, rounded)


def _experts(bench: Bench) -> Program:
    """torch's grouped product: rows sorted by expert, each times the matrix of its expert. Tokens choose as ``routing``
    says.
    """
    torch, (tokens, D_in, D_out) = bench.torch, _sizes(bench)
    E, A = bench.shape["E"], bench.shape["A"]
    if bench.case.dtype != "bf16" or D_in % 8 or D_out % 8:
        raise bench.refuse("torch has no such grouped product", "bf16 and widths in multiples of 8 are accepted")
    counts = rows_of_experts(E, A, tokens, bench.shape.get("routing", 0))
    ends = torch.tensor(counts, device=bench.device).cumsum(0).to(torch.int32)
    x = bench.normal(tokens * A, D_in)
    w = bench.normal(E, D_out, D_in, scale=D_in**-0.5)

    def compare(out: Any) -> Pairs:
        start = 0
        for expert, count in enumerate(counts):
            if count and expert in (0, E // 2, max(i for i, own in enumerate(counts) if own)):
                own = slice(start, start + min(count, ROWS_CHECKED))
                yield "the product of an expert", out[own], x[own].double() @ w[expert].double().T
            start += count

    return Program(lambda: torch._grouped_mm(x, w.transpose(-2, -1), offs=ends), compare)


def rows_of_experts(E: int, A: int, tokens: int, routing: Any) -> list[int]:
    """Returns rows of each expert in one batch, drawn with a fixed seed: each token's choices by systematic sampling."""
    from random import Random

    from perfmodel.routing import shares

    random, own = Random(20261126), shares(E, A, routing)
    order, counts = list(range(E)), [0] * E
    for _ in range(tokens):
        random.shuffle(order)
        mark, reached, chosen = random.random(), 0.0, 0
        for expert in order:
            reached += own[expert]
            if reached > mark + chosen and chosen < A:
                counts[expert] += 1
                chosen += 1
        if chosen < A:  # shares add up to A but for rounding
            counts[order[-1]] += A - chosen
    return counts


_PROGRAMS = {
    "linear_int4": _int4,
    "linear_int8": _int8,
    **dict.fromkeys(("linear_mxfp4", "linear_nvfp4"), _unpacked),
    "linear_fp8": _fp8,
    "expert_linear": _experts,
    **{f"quantise_{kind}": _quantise for kind in ("static", "tensor", "token", "block")},
}
