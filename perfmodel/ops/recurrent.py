"""The recurrences of Mamba and RWKV: a state per channel that every token updates, instead of attention over tokens.

Their work grows with N alone and their state does not grow at all. They are elementwise but for the read-out of
Mamba's state, a product over its X numbers, and they are memory-bound when the state stays on chip.
"""

from __future__ import annotations

from perfmodel.arithmetic import Size
from perfmodel.mixes import (
    SCAN,
    SCAN_CHANNEL,
    SCAN_CHANNEL_GRADIENT,
    SCAN_GRADIENT,
    TOKEN_SHIFT,
    TOKEN_SHIFT_GRADIENT,
    WKV,
    WKV_GRADIENT,
)
from perfmodel.op import Engine, Kind, Op, Tensor, Work, contract, each
from perfmodel.operation import Backward, Example, operation
from perfmodel.runs import Scan, Stream

MAMBA = ("Gu and Dao 2023 (Mamba), section 3.2",)
RWKV = ("Peng et al. 2023 (RWKV), section 3",)


@operation(
    summary="Mamba's selective scan: h = exp(Δ a) h + Δ b u, y = c h + skip x u",
    example=Example(
        at={"B": 1, "N": 2, "D": 3, "X": 4},
        flops=204,
        traffic=194,
        because="24 states x (5 of the update, 2 of the read-out) and 6 channels x 6; u, Δ and y 6 elements each, b and c 8 "
        "each, a 12, skip 3: 49 of 2 bytes; the state of 12 read and written in float32: 96",
    ),
    sources=MAMBA,
    backward=(Backward("selective_scan_backward"),),
)
def selective_scan(B: Size, N: Size, D: Size, X: Size, act: Size = 2, acc: Size = 4, weight: Size = 2) -> Op:
    """D channels of X states each. The state stays on chip over the N tokens; it is read and left once."""
    return Op(
        tensors=(
            Tensor("u", (B, N, D), act, reads=1),
            Tensor("delta", (B, N, D), act, reads=1),
            Tensor("b", (B, N, X), act, reads=1),
            Tensor("c", (B, N, X), act, reads=1),
            Tensor("a", (D, X), weight, reads=1, kind=Kind.PARAMETER),
            Tensor("skip", (D,), weight, reads=1, kind=Kind.PARAMETER),
            Tensor("state", (B, D, X), acc, reads=1, writes=1),
            Tensor("y", (B, N, D), act, writes=1),
        ),
        work=(
            Work("update", each(SCAN, B, N, D, X), Engine.VECTOR),
            Work("read-out", contract(B, N, D, X), Engine.VECTOR),
            Work("channels", each(SCAN_CHANNEL, B, N, D), Engine.VECTOR),
        ),
        runs=Scan(N, (B, D)),
    )


@operation(
    summary="gradients of the selective scan, the states recomputed",
    example=Example(
        at={"B": 1, "N": 2, "D": 3, "X": 4},
        flops=534,
        traffic=184,
        because="24 states x (15, and 4 for the read-out's two gradients) and 6 channels x 13; dy, u, Δ, du, dΔ 6 elements each, b, c, "
        "db, dc 8 each, a and da 12 each, skip and dskip 3 each: 92, 2 bytes each",
    ),
    sources=MAMBA,
)
def selective_scan_backward(B: Size, N: Size, D: Size, X: Size, act: Size = 2, acc: Size = 4, weight: Size = 2) -> Op:
    """Runs the scan again and then backwards; reads what the forward pass read, and writes a gradient of each."""
    reads = {"dy": (B, N, D), "u": (B, N, D), "delta": (B, N, D), "b": (B, N, X), "c": (B, N, X)}
    writes = {"du": (B, N, D), "ddelta": (B, N, D), "db": (B, N, X), "dc": (B, N, X)}
    return Op(
        tensors=(
            *(Tensor(name, shape, act, reads=1) for name, shape in reads.items()),
            Tensor("a", (D, X), weight, reads=1),
            Tensor("skip", (D,), weight, reads=1),
            *(Tensor(name, shape, act, writes=1) for name, shape in writes.items()),
            Tensor("da", (D, X), weight, writes=1),
            Tensor("dskip", (D,), weight, writes=1),
        ),
        work=(
            Work("states again and back", each(SCAN_GRADIENT, B, N, D, X), Engine.VECTOR),
            Work("read-out", contract(2, B, N, D, X), Engine.VECTOR),
            Work("channels", each(SCAN_CHANNEL_GRADIENT, B, N, D), Engine.VECTOR),
        ),
        runs=Scan(N, (B, D)),
    )


@operation(
    summary="RWKV's recurrence: a decaying weighted mean of the values",
    example=Example(
        at={"B": 1, "N": 2, "D": 3},
        flops=138,
        traffic=120,
        because="6 channels x 23; k, v, y 6 elements each, decay and first 3 each, 2 bytes each: 48; 9 states read and "
        "written in float32: 72",
    ),
    sources=RWKV,
    backward=(Backward("wkv_backward"),),
)
def wkv(B: Size, N: Size, D: Size, act: Size = 2, acc: Size = 4, weight: Size = 2) -> Op:
    """Numerator, denominator and the running maximum of the exponents are the state of each channel."""
    return Op(
        tensors=(
            Tensor("k", (B, N, D), act, reads=1),
            Tensor("v", (B, N, D), act, reads=1),
            Tensor("decay", (D,), weight, reads=1, kind=Kind.PARAMETER),
            Tensor("first", (D,), weight, reads=1, kind=Kind.PARAMETER),
            Tensor("state", (B, 3, D), acc, reads=1, writes=1),
            Tensor("y", (B, N, D), act, writes=1),
        ),
        work=(Work("recurrence", each(WKV, B, N, D), Engine.VECTOR),),
        runs=Scan(N, (B, D)),
    )


@operation(
    summary="gradients of RWKV's recurrence",
    example=Example(
        at={"B": 1, "N": 2, "D": 3},
        flops=336,
        traffic=84,
        because="6 channels x 56, of which 23 are the recurrence again; k, v, dy read and dk, dv written, 6 elements each: 30; decay and first read, their "
        "gradients written, 3 each: 12; 2 bytes each",
    ),
    sources=RWKV,
)
def wkv_backward(B: Size, N: Size, D: Size, act: Size = 2, weight: Size = 2) -> Op:
    """The recurrence again, and then backwards. NB what a token needs of the states before it is held to stay on chip."""
    return Op(
        tensors=(
            *(Tensor(name, (B, N, D), act, reads=1) for name in ("k", "v", "dy")),
            *(Tensor(name, (D,), weight, reads=1) for name in ("decay", "first")),
            *(Tensor(name, (B, N, D), act, writes=1) for name in ("dk", "dv")),
            *(Tensor(name, (D,), weight, writes=1) for name in ("ddecay", "dfirst")),
        ),
        work=(Work("recurrence and back", each(WKV_GRADIENT, B, N, D), Engine.VECTOR),),
        runs=Scan(N, (B, D)),
    )


@operation(
    summary="RWKV's token shift: a learned mean of a token and the one before it",
    example=Example(
        at={"B": 1, "N": 2, "D": 3},
        flops=24,
        traffic=30,
        because="6 elements x 4; x read and mixed written, 6 each, 3 weights: 15 elements, 2 bytes each",
    ),
    sources=RWKV,
    backward=(Backward("token_shift_backward"),),
)
def token_shift(B: Size, N: Size, D: Size, act: Size = 2, weight: Size = 2) -> Op:
    """x m + x_before (1 - m), one learned m per channel."""
    return Op(
        tensors=(
            Tensor("x", (B, N, D), act, reads=1),
            Tensor("mean", (D,), weight, reads=1, kind=Kind.PARAMETER),
            Tensor("mixed", (B, N, D), act, writes=1),
        ),
        work=(Work("mix", each(TOKEN_SHIFT, B, N, D), Engine.VECTOR),),
        runs=Stream(),
    )


@operation(
    summary="gradients of the token shift",
    example=Example(
        at={"B": 1, "N": 2, "D": 3},
        flops=42,
        traffic=48,
        because="6 elements x 7; x and dmixed read, dx written, 6 each, 3 weights read and 3 gradients written: 24 elements, "
        "2 bytes each",
    ),
    sources=RWKV,
)
def token_shift_backward(B: Size, N: Size, D: Size, act: Size = 2, weight: Size = 2) -> Op:
    """Each input gets its own share and that of the token after it."""
    return Op(
        tensors=(
            Tensor("x", (B, N, D), act, reads=1),
            Tensor("dmixed", (B, N, D), act, reads=1),
            Tensor("mean", (D,), weight, reads=1),
            Tensor("dx", (B, N, D), act, writes=1),
            Tensor("dmean", (D,), weight, writes=1),
        ),
        work=(Work("mix", each(TOKEN_SHIFT_GRADIENT, B, N, D), Engine.VECTOR),),
        runs=Stream(),
    )
