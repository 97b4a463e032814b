"""Layer normalisation and its root-mean-square variant, forward and backward.

LayerNorm takes the mean and the variance of each row in one pass, as mean of x and mean of x² (variance = mean of x²
less the square of the mean), and then scales and shifts. A row that stays on chip is read once and written once:
about 7 FLOPs for 4 bytes in fp16, memory-bound on every card.
"""

from __future__ import annotations

from perfmodel.arithmetic import Size
from perfmodel.mixes import (
    LAYERNORM,
    LAYERNORM_AGAIN,
    LAYERNORM_GRADIENT,
    LAYERNORM_GRADIENT_ROW,
    LAYERNORM_PARAMETER_GRADIENT,
    LAYERNORM_PLAIN,
    LAYERNORM_PLAIN_GRADIENT,
    LAYERNORM_ROW,
    LAYERNORM_UNBIASED,
    LAYERNORM_UNBIASED_PARAMETER_GRADIENT,
    RMSNORM,
    RMSNORM_AGAIN,
    RMSNORM_GRADIENT,
    RMSNORM_GRADIENT_ROW,
    RMSNORM_PARAMETER_GRADIENT,
    RMSNORM_PLAIN,
    RMSNORM_PLAIN_GRADIENT,
    RMSNORM_ROW,
)
from perfmodel.op import Engine, Kind, Mix, Op, Tensor, Work, each
from perfmodel.operation import Backward, Example, operation
from perfmodel.runs import Rows


@operation(
    summary="(x - mean) / sqrt(variance + ε) x γ + β, by rows",
    example=Example(
        at={"rows": 3, "cols": 4},
        flops=102,
        traffic=64,
        because="12 elements x 7, 3 rows x 6; x and y 12 elements each, γ and β 4 each, 2 bytes each",
    ),
    sources=("Ba et al. 2016",),
    backward=(Backward("layernorm_backward"),),
)
def layernorm(rows: Size, cols: Size, act: Size = 2, weight: Size = 2, acc: Size = 4) -> Op:
    """Both reductions in one pass. In training the mean and 1/σ of each row are written for the gradients."""
    return Op(
        tensors=(
            Tensor("x", (rows, cols), act, reads=1),
            Tensor("gamma", (cols,), weight, reads=1, kind=Kind.PARAMETER),
            Tensor("beta", (cols,), weight, reads=1, kind=Kind.PARAMETER),
            Tensor("y", (rows, cols), act, writes=1),
            Tensor("mean", (rows,), acc, kept=True),
            Tensor("rstd", (rows,), acc, kept=True),
        ),
        work=(
            Work("elements", each(LAYERNORM, rows, cols), Engine.VECTOR),
            Work("rows", each(LAYERNORM_ROW, rows), Engine.VECTOR),
        ),
        runs=Rows("layernorm", rows, cols, act),
    )


@operation(
    summary="gradients of a LayerNorm: of its input, and of γ and β",
    example=Example(
        at={"rows": 3, "cols": 4},
        flops=162,
        traffic=120,
        because="12 elements x (10 + 3), 3 rows x 2; x, dy, dx 12 elements each and γ, dγ, dβ 4 each, 2 bytes: 96; mean "
        "and 1/σ of 3 rows, 4 bytes: 24; a second kernel for dγ and dβ reads x, dy and the statistics again: 72 more",
        unfused=192,
    ),
    sources=("Ba et al. 2016, differentiated",),
)
def layernorm_backward(rows: Size, cols: Size, act: Size = 2, weight: Size = 2, acc: Size = 4) -> Op:
    """dx needs two sums along each row, dγ and dβ two down each column; fused, x and dy are read once for all four.

    Run apart, as eager frameworks run it, the kernel of dγ and dβ knows neither x̂ nor what the first kernel made of it,
    so it computes x̂ again from x, mean and 1/σ: 2 FLOPs per element more.
    """
    statistics = ("x", "dy", "mean", "rstd")
    return Op(
        tensors=(
            Tensor("x", (rows, cols), act, reads=1),
            Tensor("dy", (rows, cols), act, reads=1),
            Tensor("gamma", (cols,), weight, reads=1),
            Tensor("mean", (rows,), acc, reads=1),
            Tensor("rstd", (rows,), acc, reads=1),
            Tensor("dx", (rows, cols), act, writes=1),
            Tensor("dgamma", (cols,), weight, writes=1),
            Tensor("dbeta", (cols,), weight, writes=1),
        ),
        work=(
            Work("dx", each(LAYERNORM_GRADIENT, rows, cols), Engine.VECTOR,
                 reads=(*statistics, "gamma"), writes=("dx",), runs=Rows("layernorm", rows, cols, act, backward=True, part="input")),
            Work("row means", each(LAYERNORM_GRADIENT_ROW, rows), Engine.VECTOR),
            Work("dgamma_dbeta", each(LAYERNORM_PARAMETER_GRADIENT, rows, cols), Engine.VECTOR,
                 reads=statistics, writes=("dgamma", "dbeta"), runs=Rows("layernorm", rows, cols, act, backward=True, part="weights")),
            Work("normalised again", each(LAYERNORM_AGAIN, rows, cols), Engine.VECTOR, again=True),
        ),
        runs=Rows("layernorm", rows, cols, act, backward=True),
    )  # fmt: skip


@operation(
    summary="x / sqrt(mean of x² + ε) x γ, by rows",
    example=Example(
        at={"rows": 3, "cols": 4},
        flops=57,
        traffic=56,
        because="12 elements x 4, 3 rows x 3; x and y 12 elements each, γ 4, 2 bytes each",
    ),
    sources=("Zhang and Sennrich 2019",),
    backward=(Backward("rmsnorm_backward"),),
)
def rmsnorm(rows: Size, cols: Size, act: Size = 2, weight: Size = 2, acc: Size = 4) -> Op:
    """One reduction and no shift: 4 FLOPs per element. In training 1/rms of each row is written for the gradients."""
    return Op(
        tensors=(
            Tensor("x", (rows, cols), act, reads=1),
            Tensor("gamma", (cols,), weight, reads=1, kind=Kind.PARAMETER),
            Tensor("y", (rows, cols), act, writes=1),
            Tensor("rstd", (rows,), acc, kept=True),
        ),
        work=(
            Work("elements", each(RMSNORM, rows, cols), Engine.VECTOR),
            Work("rows", each(RMSNORM_ROW, rows), Engine.VECTOR),
        ),
        runs=Rows("rmsnorm", rows, cols, act),
    )


@operation(
    summary="gradients of an RMSNorm: of its input, and of γ",
    example=Example(
        at={"rows": 3, "cols": 4},
        flops=111,
        traffic=100,
        because="12 elements x (7 + 2), 3 rows x 1; x, dy, dx 12 elements each and γ, dγ 4 each, 2 bytes: 88; 1/rms of 3 "
        "rows, 4 bytes: 12; a second kernel for dγ reads x, dy and 1/rms again: 60 more",
        unfused=160,
    ),
    sources=("Zhang and Sennrich 2019, differentiated",),
)
def rmsnorm_backward(rows: Size, cols: Size, act: Size = 2, weight: Size = 2, acc: Size = 4) -> Op:
    """One sum along each row for dx, one down each column for dγ; run apart, the second kernel computes x̂ again."""
    return Op(
        tensors=(
            Tensor("x", (rows, cols), act, reads=1),
            Tensor("dy", (rows, cols), act, reads=1),
            Tensor("gamma", (cols,), weight, reads=1),
            Tensor("rstd", (rows,), acc, reads=1),
            Tensor("dx", (rows, cols), act, writes=1),
            Tensor("dgamma", (cols,), weight, writes=1),
        ),
        work=(
            Work("dx", each(RMSNORM_GRADIENT, rows, cols), Engine.VECTOR,
                 reads=("x", "dy", "rstd", "gamma"), writes=("dx",), runs=Rows("rmsnorm", rows, cols, act, backward=True, part="input")),
            Work("row means", each(RMSNORM_GRADIENT_ROW, rows), Engine.VECTOR),
            Work("dgamma", each(RMSNORM_PARAMETER_GRADIENT, rows, cols), Engine.VECTOR,
                 reads=("x", "dy", "rstd"), writes=("dgamma",), runs=Rows("rmsnorm", rows, cols, act, backward=True, part="weights")),
            Work("normalised again", each(RMSNORM_AGAIN, rows, cols), Engine.VECTOR, again=True),
        ),
        runs=Rows("rmsnorm", rows, cols, act, backward=True),
    )  # fmt: skip


# --- without shift, without weights

NO_SHIFT = ("Ba et al. 2016", "Cohere 2024 (Command R)")
NO_WEIGHTS = ("Ba et al. 2016", "Groeneveld et al. 2024 (OLMo)")


def _without(whole: Op, names: str, mix: Mix) -> Op:
    """A norm's forward pass without some of its parameters: fewer tensors, and another mix for each element."""
    elements, *others = whole.work
    lighter = elements._replace(amount=each(mix, *elements.amount.dims))
    return whole._replace(
        tensors=tuple(tensor for tensor in whole.tensors if tensor.name not in names.split()), work=(lighter, *others)
    )


@operation(
    summary="(x - mean) / sqrt(variance + ε) x γ, by rows",
    example=Example(
        at={"rows": 3, "cols": 4},
        flops=90,
        traffic=56,
        because="12 elements x 6, 3 rows x 6; x and y 12 elements each, γ 4, 2 bytes each",
    ),
    sources=NO_SHIFT,
    backward=(Backward("layernorm_unbiased_backward"),),
)
def layernorm_unbiased(rows: Size, cols: Size, act: Size = 2, weight: Size = 2) -> Op:
    """A LayerNorm without the shift β."""
    return _without(layernorm.function(rows, cols, act, weight), "beta", LAYERNORM_UNBIASED)


@operation(
    summary="gradients of a LayerNorm without shift: of its input, and of γ",
    example=Example(
        at={"rows": 3, "cols": 4},
        flops=150,
        traffic=112,
        because="12 elements x (10 + 2), 3 rows x 2; x, dy, dx 12 elements each and γ, dγ 4 each, 2 bytes: 88; mean and 1/σ of 3 "
        "rows, 4 bytes: 24",
    ),
    sources=("Ba et al. 2016, differentiated",),
)
def layernorm_unbiased_backward(rows: Size, cols: Size, act: Size = 2, weight: Size = 2, acc: Size = 4) -> Op:
    """As of a LayerNorm, without the column sums of dy; counted as one kernel."""
    whole = layernorm_backward.function(rows, cols, act, weight, acc)
    sums = each(LAYERNORM_UNBIASED_PARAMETER_GRADIENT, rows, cols)
    return whole._replace(
        tensors=tuple(tensor for tensor in whole.tensors if tensor.name != "dbeta"),
        work=(
            Work("dx", each(LAYERNORM_GRADIENT, rows, cols), Engine.VECTOR),
            Work("row means", each(LAYERNORM_GRADIENT_ROW, rows), Engine.VECTOR),
            Work("dgamma", sums, Engine.VECTOR),
        ),
    )


@operation(
    summary="(x - mean) / sqrt(variance + ε), by rows",
    example=Example(
        at={"rows": 3, "cols": 4},
        flops=78,
        traffic=48,
        because="12 elements x 5, 3 rows x 6; x and y 12 elements each, 2 bytes each",
    ),
    sources=NO_WEIGHTS,
    backward=(Backward("layernorm_plain_backward"),),
)
def layernorm_plain(rows: Size, cols: Size, act: Size = 2) -> Op:
    """A LayerNorm without γ and β: it has no parameters."""
    return _without(layernorm.function(rows, cols, act), "gamma beta", LAYERNORM_PLAIN)


@operation(
    summary="gradient of a LayerNorm without weights",
    example=Example(
        at={"rows": 3, "cols": 4},
        flops=114,
        traffic=96,
        because="12 elements x 9, 3 rows x 2; x, dy, dx 12 elements each, 2 bytes: 72; mean and 1/σ of 3 rows, 4 bytes: 24",
    ),
    sources=("Ba et al. 2016, differentiated",),
)
def layernorm_plain_backward(rows: Size, cols: Size, act: Size = 2, acc: Size = 4) -> Op:
    """The gradient of the input alone."""
    return Op(
        tensors=(
            Tensor("x", (rows, cols), act, reads=1),
            Tensor("dy", (rows, cols), act, reads=1),
            Tensor("mean", (rows,), acc, reads=1),
            Tensor("rstd", (rows,), acc, reads=1),
            Tensor("dx", (rows, cols), act, writes=1),
        ),
        work=(
            Work("dx", each(LAYERNORM_PLAIN_GRADIENT, rows, cols), Engine.VECTOR),
            Work("row means", each(LAYERNORM_GRADIENT_ROW, rows), Engine.VECTOR),
        ),
        runs=Rows("layernorm", rows, cols, act, backward=True, part="input"),
    )


@operation(
    summary="x / sqrt(mean of x² + ε), by rows",
    example=Example(
        at={"rows": 3, "cols": 4},
        flops=45,
        traffic=48,
        because="12 elements x 3, 3 rows x 3; x and y 12 elements each, 2 bytes each",
    ),
    sources=("Zhang and Sennrich 2019",),
    backward=(Backward("rmsnorm_plain_backward"),),
)
def rmsnorm_plain(rows: Size, cols: Size, act: Size = 2) -> Op:
    """An RMSNorm without γ: it has no parameters."""
    return _without(rmsnorm.function(rows, cols, act), "gamma", RMSNORM_PLAIN)


@operation(
    summary="gradient of an RMSNorm without weights",
    example=Example(
        at={"rows": 3, "cols": 4},
        flops=75,
        traffic=84,
        because="12 elements x 6, 3 rows x 1; x, dy, dx 12 elements each, 2 bytes: 72; 1/rms of 3 rows, 4 bytes: 12",
    ),
    sources=("Zhang and Sennrich 2019, differentiated",),
)
def rmsnorm_plain_backward(rows: Size, cols: Size, act: Size = 2, acc: Size = 4) -> Op:
    """The gradient of the input alone."""
    return Op(
        tensors=(
            Tensor("x", (rows, cols), act, reads=1),
            Tensor("dy", (rows, cols), act, reads=1),
            Tensor("rstd", (rows,), acc, reads=1),
            Tensor("dx", (rows, cols), act, writes=1),
        ),
        work=(
            Work("dx", each(RMSNORM_PLAIN_GRADIENT, rows, cols), Engine.VECTOR),
            Work("row means", each(RMSNORM_GRADIENT_ROW, rows), Engine.VECTOR),
        ),
        runs=Rows("rmsnorm", rows, cols, act, backward=True, part="input"),
    )
