"""Linear layers: activations (B, N, D_in) times a weight matrix (D_in, D_out), shared by all tokens.

Every token is multiplied by every weight: B N D_in D_out multiply-adds. The weights move once for any number of tokens,
so the intensity grows with B N. One token reads a 2-byte weight for 2 FLOPs, 1 FLOP per byte.
"""

from __future__ import annotations

from perfmodel.arithmetic import Size
from perfmodel.mixes import NOTHING, SUM
from perfmodel.op import Engine, Kind, Op, Tensor, Work, contract, each
from perfmodel.operation import Backward, Example, operation
from perfmodel.runs import Gemm, Items, Reduction, Stream


def gradients(D_in: str, D_out: str) -> tuple[Backward, ...]:
    """The two products of a linear layer's backward pass, for widths given as expressions."""
    sizes = (("D_in", D_in), ("D_out", D_out))
    return Backward("linear_input_gradient", sizes), Backward("linear_weight_gradient", sizes)


@operation(
    summary="y = x W: a linear layer without bias",
    example=Example(
        at={"B": 1, "N": 2, "D_in": 3, "D_out": 4},
        flops=48,
        traffic=52,
        because="2 tokens x 3 x 4 = 24 multiply-adds; x 6, W 12, y 8 elements, 2 bytes each",
    ),
    sources=("Kaplan et al. 2020, section 2.1",),
    backward=gradients("D_in", "D_out"),
    per_token=True,
)
def linear(B: Size, N: Size, D_in: Size, D_out: Size, act: Size = 2, weight: Size = 2) -> Op:
    """2 B N D_in D_out FLOPs forward, and twice that backward."""
    return Op(
        tensors=(
            Tensor("x", (B, N, D_in), act, reads=1),
            Tensor("w", (D_in, D_out), weight, reads=1, kind=Kind.PARAMETER),
            Tensor("y", (B, N, D_out), act, writes=1),
        ),
        work=(Work("product", contract(B, N, D_in, D_out), Engine.TENSOR),),
        runs=Gemm((B, N), D_in, D_out, items=Items(act, weight, act)),
    )


@operation(
    summary="y = x W + b: a linear layer with bias",
    example=Example(
        at={"B": 1, "N": 2, "D_in": 3, "D_out": 4},
        flops=56,
        traffic=60,
        because="24 multiply-adds and 8 additions of the bias; x 6, W 12, b 4, y 8 elements, 2 bytes each",
    ),
    sources=("Radford et al. 2019 (GPT-2)",),
    backward=(*gradients("D_in", "D_out"), Backward("bias_gradient")),
    per_token=True,
)
def linear_bias(B: Size, N: Size, D_in: Size, D_out: Size, act: Size = 2, weight: Size = 2) -> Op:
    """The bias is added on chip, one addition per output."""
    bare = linear.function(B, N, D_in, D_out, act, weight)
    return Op(
        tensors=(*bare.tensors, Tensor("b", (D_out,), weight, reads=1, kind=Kind.PARAMETER)),
        work=(*bare.work, Work("bias", each(SUM, B, N, D_out), Engine.VECTOR)),
        runs=bare.runs,
    )


@operation(
    summary="dx = dy Wᵀ",
    example=Example(
        at={"B": 1, "N": 2, "D_in": 3, "D_out": 4},
        flops=48,
        traffic=52,
        because="2 tokens x 4 x 3 = 24 multiply-adds; dy 8, W 12, dx 6 elements, 2 bytes each",
    ),
    sources=("Goodfellow et al. 2016, section 6.5",),
)
def linear_input_gradient(B: Size, N: Size, D_in: Size, D_out: Size, act: Size = 2, weight: Size = 2) -> Op:
    """The product with the transposed weight: FLOPs and bytes of the forward pass."""
    return Op(
        tensors=(
            Tensor("dy", (B, N, D_out), act, reads=1),
            Tensor("w", (D_in, D_out), weight, reads=1, kind=Kind.WEIGHT),
            Tensor("dx", (B, N, D_in), act, writes=1),
        ),
        work=(Work("product", contract(B, N, D_in, D_out), Engine.TENSOR),),
        runs=Gemm((B, N), D_out, D_in, items=Items(act, weight, act)),
    )


@operation(
    summary="dW = xᵀ dy, summed over all tokens",
    example=Example(
        at={"B": 1, "N": 2, "D_in": 3, "D_out": 4},
        flops=48,
        traffic=52,
        because="3 x 2 tokens x 4 = 24 multiply-adds; x 6, dy 8, dW 12 elements, 2 bytes each",
    ),
    sources=("Goodfellow et al. 2016, section 6.5",),
)
def linear_weight_gradient(B: Size, N: Size, D_in: Size, D_out: Size, act: Size = 2, weight: Size = 2) -> Op:
    """A product whose inner dimension is the number of tokens."""
    return Op(
        tensors=(
            Tensor("x", (B, N, D_in), act, reads=1),
            Tensor("dy", (B, N, D_out), act, reads=1),
            Tensor("dw", (D_in, D_out), weight, writes=1),
        ),
        work=(Work("product", contract(B, N, D_in, D_out), Engine.TENSOR),),
        runs=Gemm(D_in, (B, N), D_out, items=Items(act, act, weight)),
    )


@operation(
    summary="db: the gradient of a bias, summed over all tokens",
    example=Example(
        at={"B": 1, "N": 2, "D_out": 4},
        flops=8,
        traffic=24,
        because="8 additions; dy 8, db 4 elements, 2 bytes each",
    ),
    sources=("Goodfellow et al. 2016, section 6.5",),
)
def bias_gradient(B: Size, N: Size, D_out: Size, act: Size = 2, weight: Size = 2) -> Op:
    """One addition per element of dy."""
    return Op(
        tensors=(Tensor("dy", (B, N, D_out), act, reads=1), Tensor("db", (D_out,), weight, writes=1)),
        work=(Work("sum", each(SUM, B, N, D_out), Engine.VECTOR),),
        runs=Reduction(1, (B, N), D_out, act, weight),
    )


@operation(
    summary="y = x + b: a separate bias",
    example=Example(
        at={"B": 1, "N": 2, "D": 3},
        flops=6,
        traffic=30,
        because="6 additions; x and y 6 elements each, b 3, 2 bytes each",
    ),
    sources=("Devlin et al. 2018 (BERT), the bias of the word head",),
    backward=(Backward("bias_gradient", (("D_out", "D"),)),),
    per_token=True,
)
def add_bias(B: Size, N: Size, D: Size, act: Size = 2, weight: Size = 2) -> Op:
    """A separate bias, for a product whose matrix is an embedding's but whose bias is not."""
    return Op(
        tensors=(
            Tensor("x", (B, N, D), act, reads=1),
            Tensor("b", (D,), weight, reads=1, kind=Kind.PARAMETER),
            Tensor("y", (B, N, D), act, writes=1),
        ),
        work=(Work("bias", each(SUM, B, N, D), Engine.VECTOR),),
        runs=Stream(special="strided", dims=2),
    )


@operation(
    summary="a learned vector or table, read without arithmetic",
    example=Example(
        at={"cols": 3},
        flops=0,
        traffic=12,
        because="no arithmetic; 3 elements read and 3 written, 2 bytes each",
    ),
    sources=("Dosovitskiy et al. 2020 (ViT), the class token",),
)
def learned(cols: Size, rows: Size = 1, act: Size = 2, weight: Size = 2) -> Op:
    """Class tokens, position tables and attention sinks: parameters outside any product."""
    return Op(
        tensors=(
            Tensor("table", (rows, cols), weight, reads=1, kind=Kind.PARAMETER),
            Tensor("y", (rows, cols), act, writes=1),
        ),
        work=(Work("read", each(NOTHING, rows, cols), Engine.VECTOR),),
        runs=Stream(),
    )


@operation(
    summary="queries, keys and values of every token, as one kernel or three",
    example=Example(
        at={"B": 1, "N": 2, "D": 4, "H": 2, "H_kv": 1, "d": 2},
        flops=128,
        traffic=112,
        because="2 tokens x 4 x (4 + 2 + 2) = 64 multiply-adds; x 8, weights 32, q 8, k 4, v 4: 56 elements, 2 bytes; "
        "three kernels read x twice more: 72",
        unfused=144,
    ),
    sources=("Vaswani et al. 2017, section 3.2.2", "Ainslie et al. 2023 (grouped queries)"),
    backward=gradients("D", "(H + 2 * H_kv) * d"),
    per_token=True,
)
def qkv(B: Size, N: Size, D: Size, H: Size, H_kv: Size, d: Size, act: Size = 2, weight: Size = 2) -> Op:
    """With H_kv = H and D = H d: 6 B N D² FLOPs. Bytes are b (4 B N D + 3 D²) fused and 3 b (2 B N D + D²) as three
    kernels.
    """
    heads, items = {"q": H, "k": H_kv, "v": H_kv}, Items(act, weight, act)
    return Op(
        tensors=(
            Tensor("x", (B, N, D), act, reads=1),
            *(Tensor(f"w_{name}", (D, h, d), weight, reads=1, kind=Kind.PARAMETER) for name, h in heads.items()),
            *(Tensor(name, (B, N, h, d), act, writes=1) for name, h in heads.items()),
        ),
        work=tuple(
            Work(
                name,
                contract(B, N, D, h, d),
                Engine.TENSOR,
                reads=("x", f"w_{name}"),
                writes=(name,),
                runs=Gemm((B, N), D, (h, d), items=items),
            )
            for name, h in heads.items()
        ),
        runs=Gemm((B, N), D, (H + 2 * H_kv, d), items=items),
    )


@operation(
    summary="W_O: projection of the heads' outputs to the model width",
    example=Example(
        at={"B": 1, "N": 2, "D": 4, "H": 2, "d": 3},
        flops=96,
        traffic=88,
        because="2 tokens x 6 x 4 = 48 multiply-adds; heads 12, W_O 24, y 8 elements, 2 bytes each",
    ),
    sources=("Vaswani et al. 2017, section 3.2.2",),
    backward=gradients("H * d", "D"),
    per_token=True,
)
def output_projection(B: Size, N: Size, D: Size, H: Size, d: Size, act: Size = 2, weight: Size = 2) -> Op:
    """2 B N D² FLOPs where D = H d. The sum of the heads may differ from the model width."""
    return linear.function(B, N, H * d, D, act, weight)


@operation(
    summary="logits: a score of every token for each word of the vocabulary",
    example=Example(
        at={"B": 1, "N": 2, "D": 3, "V": 5},
        flops=60,
        traffic=62,
        because="2 tokens x 3 x 5 = 30 multiply-adds; x 6, W 15, logits 10 elements, 2 bytes each",
    ),
    sources=("Radford et al. 2019 (GPT-2)",),
    backward=gradients("D", "V"),
    per_token=True,
)
def logits(B: Size, N: Size, D: Size, V: Size, act: Size = 2, weight: Size = 2) -> Op:
    """Scores for every position of a prompt. Set N = 1 for the last position alone."""
    return linear.function(B, N, D, V, act, weight)
