"""Mixture of experts: a router sends each token to A of E feed-forward networks.

A token needs the arithmetic of A networks, but the weights that are read grow with the batch. T tokens with random
choices use E (1 - (1 - A/E)^T) distinct experts: A for one token, and nearly all E once T is a few times E / A.
Trained routers are not uniform, so real batches use somewhat fewer experts: ``routing`` states how popular each one is.
"""

from __future__ import annotations

from perfmodel.arithmetic import Size, expected_distinct, whole
from perfmodel.mixes import CHOOSE, COMBINE, ROUTE_GRADIENT, SCALE, SOFTMAX, SUM
from perfmodel.op import Engine, Kind, Op, Tensor, Work, contract, each
from perfmodel.operation import Backward, Example, Valid, operation
from perfmodel.runs import GroupedGemm, Items, Reduction, Routed, Rows, Stream

_LINEAR_BACKWARD = (Backward("expert_input_gradient"), Backward("expert_weight_gradient"))

CHOICE = Valid("A <= E", "a token cannot be sent to more experts than there are")


@operation(
    summary="the router's softmax and its choice of A of E experts",
    example=Example(
        at={"B": 1, "N": 3, "E": 4, "A": 2},
        flops=84,
        traffic=84,
        because="12 scores x (5 of the softmax, 2 comparisons); 12 scores of 2 bytes read; 6 weights of 2 bytes and 6 "
        "indices of 8 written",
    ),
    sources=("Shazeer et al. 2017", "Fedus et al. 2021 (Switch)"),
    valid=(CHOICE,),
    backward=(Backward("route_backward"),),
)
def route(B: Size, N: Size, E: Size, A: Size, act: Size = 2, index: Size = 8) -> Op:
    """The softmax over all experts, then the A largest scores, found one after another.

    Note: sorting tokens by expert is integer work and not counted.
    """
    return Op(
        tensors=(
            Tensor("scores", (B, N, E), act, reads=1),
            Tensor("probs", (B, N, E), act, kept=True),
            Tensor("chosen", (B, N, A), index, writes=1),
            Tensor("weights", (B, N, A), act, writes=1),
        ),
        work=(
            Work("softmax", each(SOFTMAX, B, N, E), Engine.VECTOR),
            Work("choice", each(CHOOSE, B, N, A, E), Engine.VECTOR),
        ),
        runs=Rows("softmax", (B, N), E, act),
    )


@operation(
    summary="gradient of the router's softmax",
    example=Example(
        at={"B": 1, "N": 3, "E": 4, "A": 2},
        flops=48,
        traffic=108,
        because="12 scores x 4; 12 probabilities read and 12 gradients written of 2 bytes, 6 weights' gradients of 2, 6 "
        "indices of 8",
    ),
    sources=("Shazeer et al. 2017, differentiated",),
    valid=(CHOICE,),
)
def route_backward(B: Size, N: Size, E: Size, A: Size, act: Size = 2, index: Size = 8) -> Op:
    """The gradient of a softmax, with incoming gradients only for the selected experts."""
    return Op(
        tensors=(
            Tensor("probs", (B, N, E), act, reads=1),
            Tensor("chosen", (B, N, A), index, reads=1),
            Tensor("dweights", (B, N, A), act, reads=1),
            Tensor("dscores", (B, N, E), act, writes=1),
        ),
        work=(Work("gradient", each(ROUTE_GRADIENT, B, N, E), Engine.VECTOR),),
        runs=Rows("softmax", (B, N), E, act, backward=True),
    )


def routed(B: Size, N: Size, D_in: Size, D_out: Size, E: Size, A: Size, act: Size, weight: Size, routing: Size) -> Op:
    """B N A rows times the weights of their experts. Only the weights of distinct experts are read."""
    distinct = expected_distinct(E, A, B * N, routing)
    return Op(
        tensors=(
            Tensor("x", (B, N, A, D_in), act, reads=1),
            Tensor("experts", (E, D_in * D_out), weight, kind=Kind.PARAMETER, used=A * D_in * D_out),
            Tensor("distinct experts", (whole(distinct * D_in * D_out),), weight, reads=1, kind=Kind.WEIGHT),
            Tensor("y", (B, N, A, D_out), act, writes=1),
        ),
        work=(Work("product", contract(B, N, A, D_in, D_out), Engine.TENSOR),),
        runs=GroupedGemm(
            (B, N, A), D_in, D_out, distinct, Items(act, weight, act), routed=Routed((B, N), E, A, routing)
        ),
    )


@operation(
    summary="a linear layer of the experts: each token times A of E weight matrices",
    example=Example(
        at={"B": 1, "N": 1, "D_in": 3, "D_out": 4, "E": 8, "A": 2},
        flops=48,
        traffic=76,
        because="2 rows x 12 multiply-adds; one token reads 2 distinct experts of 12 weights, 2 rows of 3 and writes 2 of 4: "
        "38 elements, 2 bytes each",
    ),
    sources=("Shazeer et al. 2017", "Jiang et al. 2024 (Mixtral)"),
    valid=(CHOICE,),
    backward=_LINEAR_BACKWARD,
)
def expert_linear(
    B: Size, N: Size, D_in: Size, D_out: Size, E: Size, A: Size, act: Size = 2, weight: Size = 2, routing: Size = 0
) -> Op:
    """NB the rows of a first layer are gathered A times from B N tokens. Each gathered row counts as a read."""
    return routed(B, N, D_in, D_out, E, A, act, weight, routing)


@operation(
    summary="a linear layer of the experts with biases",
    example=Example(
        at={"B": 1, "N": 1, "D_in": 3, "D_out": 4, "E": 8, "A": 2},
        flops=56,
        traffic=92,
        because="2 rows x (12 multiply-adds and 4 additions); as without bias, and 2 x 4 biases read: 46 elements, 2 bytes",
    ),
    sources=("gpt-oss model card 2025",),
    valid=(CHOICE,),
    backward=(*_LINEAR_BACKWARD, Backward("expert_bias_gradient")),
)
def expert_linear_bias(
    B: Size, N: Size, D_in: Size, D_out: Size, E: Size, A: Size, act: Size = 2, weight: Size = 2, routing: Size = 0
) -> Op:
    """Each row adds the bias of its expert."""
    bare = routed(B, N, D_in, D_out, E, A, act, weight, routing)
    distinct = whole(expected_distinct(E, A, B * N, routing) * D_out)
    biases = (
        Tensor("biases", (E, D_out), weight, kind=Kind.PARAMETER, used=A * D_out),
        Tensor("distinct biases", (distinct,), weight, reads=1, kind=Kind.WEIGHT),
    )
    adds = Work("bias", each(SUM, B, N, A, D_out), Engine.VECTOR)
    return bare._replace(tensors=(*bare.tensors, *biases), work=(*bare.work, adds))


@operation(
    summary="gradient of an expert layer's input",
    example=Example(
        at={"B": 1, "N": 1, "D_in": 3, "D_out": 4, "E": 8, "A": 2},
        flops=48,
        traffic=76,
        because="2 rows x 12 multiply-adds; 2 distinct experts of 12, 2 rows of 4 read, 2 of 3 written, 2 bytes each",
    ),
    sources=("Shazeer et al. 2017, differentiated",),
    valid=(CHOICE,),
)
def expert_input_gradient(
    B: Size, N: Size, D_in: Size, D_out: Size, E: Size, A: Size, act: Size = 2, weight: Size = 2, routing: Size = 0
) -> Op:
    """The gradient of each row times the transposed weights of its expert."""
    return Op(
        tensors=(
            Tensor("dy", (B, N, A, D_out), act, reads=1),
            Tensor(
                "distinct experts",
                (whole(expected_distinct(E, A, B * N, routing) * D_in * D_out),),
                weight,
                reads=1,
                kind=Kind.WEIGHT,
            ),
            Tensor("dx", (B, N, A, D_in), act, writes=1),
        ),
        work=(Work("product", contract(B, N, A, D_in, D_out), Engine.TENSOR),),
        runs=GroupedGemm(
            (B, N, A),
            D_out,
            D_in,
            expected_distinct(E, A, B * N, routing),
            Items(act, weight, act),
            routed=Routed((B, N), E, A, routing),
        ),
    )


@operation(
    summary="gradient of an expert layer's weights",
    example=Example(
        at={"B": 1, "N": 1, "D_in": 3, "D_out": 4, "E": 8, "A": 2},
        flops=48,
        traffic=76,
        because="2 rows x 12 multiply-adds; 2 rows of 3 and of 4 read, 2 distinct experts of 12 written, 2 bytes each",
    ),
    sources=("Shazeer et al. 2017, differentiated",),
    valid=(CHOICE,),
)
def expert_weight_gradient(
    B: Size, N: Size, D_in: Size, D_out: Size, E: Size, A: Size, act: Size = 2, weight: Size = 2, routing: Size = 0
) -> Op:
    """Only experts with tokens have a gradient."""
    return Op(
        tensors=(
            Tensor("x", (B, N, A, D_in), act, reads=1),
            Tensor("dy", (B, N, A, D_out), act, reads=1),
            Tensor("dw", (whole(expected_distinct(E, A, B * N, routing) * D_in * D_out),), weight, writes=1),
        ),
        work=(Work("product", contract(B, N, A, D_in, D_out), Engine.TENSOR),),
        runs=GroupedGemm(
            (B, N, A), D_in, D_out, expected_distinct(E, A, B * N, routing), Items(act, act, weight), summed=True
        ),
    )


@operation(
    summary="gradient of the experts' biases: each expert's sum over its rows",
    example=Example(
        at={"B": 1, "N": 1, "D_out": 4, "E": 8, "A": 2},
        flops=8,
        traffic=32,
        because="2 rows of 4 additions; 8 elements read and 2 distinct biases of 4 written, 2 bytes each",
    ),
    sources=("gpt-oss model card 2025, differentiated",),
    valid=(CHOICE,),
)
def expert_bias_gradient(
    B: Size, N: Size, D_out: Size, E: Size, A: Size, act: Size = 2, weight: Size = 2, routing: Size = 0
) -> Op:
    """One addition per element of dy."""
    return Op(
        tensors=(
            Tensor("dy", (B, N, A, D_out), act, reads=1),
            Tensor("db", (whole(expected_distinct(E, A, B * N, routing) * D_out),), weight, writes=1),
        ),
        work=(Work("sum", each(SUM, B, N, A, D_out), Engine.VECTOR),),
        runs=Reduction(1, (B, N, A), D_out, act, weight),
    )


@operation(
    summary="the experts' outputs weighted and added for each token",
    example=Example(
        at={"B": 1, "N": 3, "D": 4, "A": 2},
        flops=48,
        traffic=84,
        because="24 outputs x (multiply, add); 24 outputs and 6 weights read, 12 sums written, 2 bytes each",
    ),
    sources=("Shazeer et al. 2017",),
    backward=(Backward("combine_experts_backward"),),
)
def combine_experts(B: Size, N: Size, D: Size, A: Size, act: Size = 2) -> Op:
    """One multiply-add per element of the A outputs."""
    return Op(
        tensors=(
            Tensor("outputs", (B, N, A, D), act, reads=1),
            Tensor("weights", (B, N, A), act, reads=1),
            Tensor("y", (B, N, D), act, writes=1),
        ),
        work=(Work("combine", each(COMBINE, B, N, A, D), Engine.VECTOR),),
        runs=Stream(),
    )


@operation(
    summary="gradients of the weighted sum: of the outputs and of the weights",
    example=Example(
        at={"B": 1, "N": 3, "D": 4, "A": 2},
        flops=72,
        traffic=144,
        because="24 outputs x (multiply; multiply and add into the weight's sum); 24 outputs, 6 weights and 12 gradients "
        "read, 24 and 6 gradients written: 72 elements, 2 bytes each",
    ),
    sources=("Shazeer et al. 2017, differentiated",),
)
def combine_experts_backward(B: Size, N: Size, D: Size, A: Size, act: Size = 2) -> Op:
    """The gradient of an output is dy times its weight. The gradient of a weight is the inner product of dy and its
    output.
    """
    return Op(
        tensors=(
            Tensor("outputs", (B, N, A, D), act, reads=1),
            Tensor("weights", (B, N, A), act, reads=1),
            Tensor("dy", (B, N, D), act, reads=1),
            Tensor("doutputs", (B, N, A, D), act, writes=1),
            Tensor("dweights", (B, N, A), act, writes=1),
        ),
        work=(
            Work("outputs", each(SCALE, B, N, A, D), Engine.VECTOR),
            Work("weights", each(COMBINE, B, N, A, D), Engine.VECTOR),
        ),
        runs=Stream(),
    )
