"""Elementwise operations: each element is read once, processed independently and written once.

The intensity is a constant: FLOPs per element divided by bytes per element, at every size. It is 1 / 6 for an addition
in fp16 and 5 / 4 for a GELU. The ridge of every card is higher, so all of them are memory-bound. Fusing one into its
neighbour saves its whole time.
"""

from __future__ import annotations

from perfmodel.arithmetic import Size
from perfmodel.mixes import (
    CLAMPED_SWIGLU,
    CLAMPED_SWIGLU_GRADIENT,
    EXPONENTIAL,
    GELU,
    GELU_GRADIENT,
    GELU_TANH,
    GELU_TANH_GRADIENT,
    GELU_TANH_TIMES_UP,
    GELU_TANH_TIMES_UP_GRADIENT,
    GELU_TIMES_UP,
    GELU_TIMES_UP_GRADIENT,
    HYPERBOLIC_TANGENT,
    QUOTIENT,
    QUOTIENT_GRADIENT,
    RELU,
    RELU_GRADIENT,
    RELU_SQUARED,
    RELU_SQUARED_GRADIENT,
    RELU_SQUARED_TIMES_UP,
    RELU_SQUARED_TIMES_UP_GRADIENT,
    RELU_TIMES_UP,
    RELU_TIMES_UP_GRADIENT,
    SCALE,
    SIGMOID,
    SIGMOID_GRADIENT,
    SIGMOID_TIMES_UP,
    SIGMOID_TIMES_UP_GRADIENT,
    SILU,
    SILU_GRADIENT,
    SILU_TIMES_UP,
    SILU_TIMES_UP_GRADIENT,
    SOFTCAP,
    SOFTCAP_GRADIENT,
    SUM,
    TANH_GRADIENT,
    TANH_TIMES_UP,
    TANH_TIMES_UP_GRADIENT,
)
from perfmodel.op import Engine, Mix, Op, Tensor, Work, each
from perfmodel.operation import Backward, Example, Operation, operation
from perfmodel.runs import Stream

GAUSSIAN = ("Hendrycks and Gimpel 2016 (GELU)",)
SWISH = ("Elfwing et al. 2017", "Ramachandran et al. 2017 (swish)")
GATED = ("Shazeer 2020 (GLU variants)",)
CALCULUS = ("Goodfellow et al. 2016, section 6.3",)


def elementwise(
    name: str,
    summary: str,
    mix: Mix,
    *,
    reads: str,
    writes: str,
    counts: tuple[int, int, str],
    sources: tuple[str, ...],
    backward: str = "",
    keeps: str = "",
    doc: str = "",
) -> Operation:
    """An elementwise operation. ``counts`` are FLOPs, bytes and explanation of its example of 10 elements."""

    def function(numel: Size, act: Size = 2) -> Op:
        return Op(
            tensors=(
                *(Tensor(tensor, (numel,), act, reads=1) for tensor in reads.split()),
                *(Tensor(tensor, (numel,), act, writes=1) for tensor in writes.split()),
            ),
            work=(Work(name, each(mix, numel), Engine.VECTOR),),
            runs=Stream(gate=reads == "gate up"),
        )

    function.__name__, function.__doc__ = name, doc
    return operation(
        summary=summary,
        example=Example({"numel": 10}, *counts),
        sources=sources,
        backward=(Backward(backward, keeps=tuple(keeps.split())),) if backward else (),
    )(function)


def gated(
    activation: str,
    formula: str,
    mix: Mix,
    gradient_mix: Mix,
    *,
    forward: tuple[int, str],
    gradient: tuple[int, str],
    doc: str = "",
) -> tuple[Operation, Operation]:
    """The operations of activation(gate) x up and its gradients. FLOPs and explanations are for 10 elements."""
    name = f"{activation}_gate"
    return (
        elementwise(
            name, f"y = {formula} x up", mix, reads="gate up", writes="y", sources=GATED, backward=f"{name}_backward",
            counts=(forward[0], 60, f"10 x ({forward[1]}); 20 elements read and 10 written, 2 bytes each"), doc=doc,
        ),
        elementwise(
            f"{name}_backward", f"gradients of {formula} x up for both", gradient_mix, reads="gate up dy",
            writes="dgate dup", sources=GATED,
            counts=(gradient[0], 100, f"10 x ({gradient[1]}); 30 elements read and 20 written, 2 bytes each"),
        ),
    )  # fmt: skip


add = elementwise(
    "add", "y = a + b", SUM, reads="a b", writes="y", sources=CALCULUS, backward="add",
    counts=(10, 60, "10 additions; 20 elements read and 10 written, 2 bytes each"),
    doc="In the backward pass, the gradients of the two uses of an input are added: the same operation.",
)  # fmt: skip
mul = elementwise(
    "mul", "y = a x b", SCALE, reads="a b", writes="y", sources=CALCULUS, backward="mul_backward",
    counts=(10, 60, "10 multiplications; 20 elements read and 10 written, 2 bytes each"),
)  # fmt: skip
mul_backward = elementwise(
    "mul_backward", "da = dy x b, db = dy x a", Mix(*SCALE.primitives, *SCALE.primitives), reads="a b dy",
    writes="da db", sources=CALCULUS, counts=(20, 100, "20 multiplications; 30 elements read and 20 written, 2 bytes each"),
)  # fmt: skip
div = elementwise(
    "div", "y = a / b", QUOTIENT, reads="a b", writes="y", sources=CALCULUS, backward="div_backward",
    counts=(10, 60, "10 divisions; 20 elements read and 10 written, 2 bytes each"),
)  # fmt: skip
div_backward = elementwise(
    "div_backward", "da = dy / b, db = -y da", QUOTIENT_GRADIENT, reads="b y dy", writes="da db", sources=CALCULUS,
    counts=(30, 100, "10 x (division, multiplication, negation); 30 elements read and 20 written, 2 bytes each"),
)  # fmt: skip
scale = elementwise(
    "scale", "y = c x, with one number c", SCALE, reads="x", writes="y", sources=CALCULUS, backward="scale",
    counts=(10, 40, "10 multiplications; 10 elements read and 10 written, 2 bytes each"),
)  # fmt: skip
exp = elementwise(
    "exp", "y = eˣ", EXPONENTIAL, reads="x", writes="y", sources=CALCULUS, backward="mul", keeps="y",
    counts=(10, 40, "10 exponentials; 10 elements read and 10 written, 2 bytes each"),
    doc="Its gradient is y x dy, a multiplication.",
)  # fmt: skip
relu = elementwise(
    "relu", "y = max(x, 0)", RELU, reads="x", writes="y", sources=CALCULUS, backward="relu_backward",
    counts=(10, 40, "10 maxima; 10 elements read and 10 written, 2 bytes each"),
)  # fmt: skip
relu_backward = elementwise(
    "relu_backward", "dx = dy where x > 0", RELU_GRADIENT, reads="x dy", writes="dx", sources=CALCULUS,
    counts=(20, 60, "10 comparisons, 10 choices; 20 elements read and 10 written, 2 bytes each"),
)  # fmt: skip
relu_squared = elementwise(
    "relu_squared", "y = max(x, 0)²", RELU_SQUARED, reads="x", writes="y", sources=CALCULUS,
    backward="relu_squared_backward",
    counts=(20, 40, "10 maxima, 10 multiplications; 10 elements read and 10 written, 2 bytes each"),
)  # fmt: skip
relu_squared_backward = elementwise(
    "relu_squared_backward", "dx = 2 max(x, 0) dy", RELU_SQUARED_GRADIENT, reads="x dy", writes="dx", sources=CALCULUS,
    counts=(30, 60, "10 x (maximum, 2 multiplications); 20 elements read and 10 written, 2 bytes each"),
)  # fmt: skip
gelu = elementwise(
    "gelu", "y = x/2 (1 + erf(x/√2))", GELU, reads="x", writes="y", sources=GAUSSIAN, backward="gelu_backward",
    counts=(50, 40, "10 x (3 multiplications, erf, addition); 10 elements read and 10 written, 2 bytes each"),
    doc="NB a GPU evaluates erf as a polynomial of some ten multiply-adds; it is counted as one primitive.",
)  # fmt: skip
gelu_backward = elementwise(
    "gelu_backward", "dx = dy (Φ(x) + x φ(x))", GELU_GRADIENT, reads="x dy", writes="dx", sources=GAUSSIAN,
    counts=(110, 60, "10 x (7 multiplications, 2 additions, erf, exp); 20 elements read and 10 written, 2 bytes each"),
)  # fmt: skip
gelu_tanh = elementwise(
    "gelu_tanh", "y = x/2 (1 + tanh(√(2/π) x (1 + 0.044715 x²)))", GELU_TANH, reads="x", writes="y",
    sources=GAUSSIAN, backward="gelu_tanh_backward",
    counts=(90, 40, "10 x (6 multiplications, 2 additions, tanh); 10 elements read and 10 written, 2 bytes each"),
)  # fmt: skip
gelu_tanh_backward = elementwise(
    "gelu_tanh_backward", "dx = dy x the derivative of the tanh form", GELU_TANH_GRADIENT, reads="x dy", writes="dx",
    sources=GAUSSIAN, counts=(180, 60, "10 x (12 multiplications, 4 additions, subtraction, tanh); 30 elements, 2 bytes each"),
)  # fmt: skip
silu = elementwise(
    "silu", "y = x / (1 + e⁻ˣ)", SILU, reads="x", writes="y", sources=SWISH, backward="silu_backward",
    counts=(40, 40, "10 x (negation, exp, addition, division); 10 elements read and 10 written, 2 bytes each"),
)  # fmt: skip
silu_backward = elementwise(
    "silu_backward", "dx = dy s (1 + x (1 - s)), s = 1 / (1 + e⁻ˣ)", SILU_GRADIENT, reads="x dy", writes="dx",
    sources=SWISH, counts=(90, 60, "10 x (4 for s, 5 more); 20 elements read and 10 written, 2 bytes each"),
)  # fmt: skip
sigmoid = elementwise(
    "sigmoid", "y = 1 / (1 + e⁻ˣ)", SIGMOID, reads="x", writes="y", sources=CALCULUS, backward="sigmoid_backward",
    counts=(40, 40, "10 x (negation, exp, addition, division); 10 elements read and 10 written, 2 bytes each"),
)  # fmt: skip
sigmoid_backward = elementwise(
    "sigmoid_backward", "dx = dy y (1 - y)", SIGMOID_GRADIENT, reads="y dy", writes="dx", sources=CALCULUS,
    counts=(30, 60, "10 x (subtraction, 2 multiplications); 20 elements read and 10 written, 2 bytes each"),
)  # fmt: skip
tanh = elementwise(
    "tanh", "y = tanh x", HYPERBOLIC_TANGENT, reads="x", writes="y", sources=CALCULUS, backward="tanh_backward",
    counts=(10, 40, "10 hyperbolic tangents; 10 elements read and 10 written, 2 bytes each"),
)  # fmt: skip
tanh_backward = elementwise(
    "tanh_backward", "dx = dy (1 - y²)", TANH_GRADIENT, reads="y dy", writes="dx", sources=CALCULUS,
    counts=(30, 60, "10 x (2 multiplications, subtraction); 20 elements read and 10 written, 2 bytes each"),
)  # fmt: skip
relu_gate, relu_gate_backward = gated(
    "relu", "max(gate, 0)", RELU_TIMES_UP, RELU_TIMES_UP_GRADIENT,
    forward=(20, "a maximum, a multiplication"),
    gradient=(50, "a maximum and a multiplication for up; a comparison, a choice and a multiplication for the gate"),
)  # fmt: skip
relu_squared_gate, relu_squared_gate_backward = gated(
    "relu_squared", "max(gate, 0)²", RELU_SQUARED_TIMES_UP, RELU_SQUARED_TIMES_UP_GRADIENT,
    forward=(30, "a maximum, 2 multiplications"),
    gradient=(50, "a maximum and r dy, once more by r for up, and by up and by 2 for the gate"),
)  # fmt: skip
gelu_gate, gelu_gate_backward = gated(
    "gelu", "GELU(gate)", GELU_TIMES_UP, GELU_TIMES_UP_GRADIENT,
    forward=(60, "5 for GELU, a multiplication"), gradient=(140, "10 multiplications, 2 additions, erf, exp"),
)  # fmt: skip
gelu_tanh_gate, gelu_tanh_gate_backward = gated(
    "gelu_tanh", "GELU(gate) by its tanh form", GELU_TANH_TIMES_UP, GELU_TANH_TIMES_UP_GRADIENT,
    forward=(100, "9 for GELU, a multiplication"), gradient=(210, "15 multiplications, 4 additions, subtraction, tanh"),
)  # fmt: skip
sigmoid_gate, sigmoid_gate_backward = gated(
    "sigmoid", "σ(gate)", SIGMOID_TIMES_UP, SIGMOID_TIMES_UP_GRADIENT,
    forward=(50, "4 for the sigmoid, a multiplication"),
    gradient=(80, "4 for s, dy s for up, and that by up and by 1 - s for the gate"),
)  # fmt: skip
silu_gate, silu_gate_backward = gated(
    "silu", "SiLU(gate)", SILU_TIMES_UP, SILU_TIMES_UP_GRADIENT, doc="The middle of a SwiGLU network.",
    forward=(50, "4 for SiLU, a multiplication"), gradient=(120, "4 for s, 8 more"),
)  # fmt: skip
tanh_gate, tanh_gate_backward = gated(
    "tanh", "tanh(gate)", TANH_TIMES_UP, TANH_TIMES_UP_GRADIENT,
    forward=(20, "tanh, a multiplication"),
    gradient=(60, "tanh, dy t for up, and dy up (1 - t²) for the gate: 3 multiplications, a subtraction"),
)  # fmt: skip
clamped_swiglu = elementwise(
    "clamped_swiglu", "y = gate σ(1.702 gate) (up + 1), gate and up clamped", CLAMPED_SWIGLU, reads="gate up",
    writes="y", sources=("gpt-oss model card 2025",), backward="clamped_swiglu_backward",
    counts=(110, 60, "10 x (3 clamps, 5 for the sigmoid, 3 for gate, up and 1); 20 elements read, 10 written, 2 bytes"),
)  # fmt: skip
clamped_swiglu_backward = elementwise(
    "clamped_swiglu_backward", "gradients of the clamped gate for both", CLAMPED_SWIGLU_GRADIENT, reads="gate up dy",
    writes="dgate dup", sources=("gpt-oss model card 2025",),
    counts=(230, 100, "10 x (9 for the clamps, 5 for the sigmoid, 9 for the products); 50 elements, 2 bytes each"),
)  # fmt: skip
softcap = elementwise(
    "softcap", "y = c tanh(x / c)", SOFTCAP, reads="x", writes="y", sources=("Gemma team 2024 (Gemma 2)",),
    backward="softcap_backward",
    counts=(30, 40, "10 x (2 multiplications, tanh); 10 elements read and 10 written, 2 bytes each"),
)  # fmt: skip
softcap_backward = elementwise(
    "softcap_backward", "dx = dy (1 - tanh²(x / c))", SOFTCAP_GRADIENT, reads="x dy", writes="dx",
    sources=("Gemma team 2024 (Gemma 2)",),
    counts=(50, 60, "10 x (3 multiplications, tanh, subtraction); 20 elements read and 10 written, 2 bytes each"),
)  # fmt: skip


@operation(
    summary="y = x + f(x): a sub-layer's output added to the residual stream",
    example=Example(
        at={"B": 1, "N": 2, "D": 3},
        flops=6,
        traffic=36,
        because="6 additions; x, f(x) and y 6 elements each, 2 bytes each",
    ),
    sources=("He et al. 2015",),
    backward=(Backward("residual"),),
    per_token=True,
)
def residual(B: Size, N: Size, D: Size, act: Size = 2) -> Op:
    """In the backward pass, the gradients of the stream and of the sub-layer are added: the same operation."""
    return add.function(B * N * D, act)
