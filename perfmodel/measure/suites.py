"""Built-in cases of ``validate``: ``quick``, ``full``, ``programs`` and ``quantised`` for a GPU, and a small suite for a
processor.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from random import Random
from typing import Any

from perfmodel.measure.program_cases import programs, some_programs
from perfmodel.measure.quantised_cases import quantised

Line = dict[str, Any]

SEED = 20261121

HALF = ("bf16", "fp16")
BACK_ENDS = ("flash", "cudnn", "efficient", "math")


def quick() -> list[Line]:
    """Returns a few cases of each kind."""
    return [
        *(_matmul(n, n, n, dtype=t) for n in (1024, 4096, 8192) for t in HALF),
        _matmul(2048, 2048, 2048, dtype="tf32"),
        _matmul(2048, 2048, 2048, dtype="fp32"),
        _matmul(16, 4096, 4096, dtype="bf16"),
        _matmul(512, 64, 512, batch=128, dtype="fp16"),
        *(_rows(op, 16384, 4096, impl, "fp16") for op in ROW_OPS for impl in ("torch", "ours") if (op, impl) not in NOT_OURS),
        *(_elementwise(kind, 1 << 27) for kind in ("add", "mul", "gelu", "relu")),
        *(_attention(4, 16, 16, 2048, 2048, 128, impl, causal=causal) for impl in (*BACK_ENDS, "naive") for causal in (False, True)),
        _attention(4, 32, 8, 2048, 2048, 128, "flash", causal=True, direction="forward_backward"),
        _attention(32, 32, 8, 1, 8192, 128, "flash"),
        *(_conv1d(1, 8192, 8192, 3, impl) for impl in ("fused", "naive", "torch", "torch_channels_first")),
        _part("qkv", B=4, N=2048, D=4096, H=32, H_kv=8),
        _part("mlp", B=4, N=2048, D=4096, F=16384, activation="gelu"),
        *(_part("layer", B=2, N=2048, D=4096, H=32, F=16384, direction=way) for way in ("forward", "train")),
        *(_matmul(1024, 1024, 1024, dtype="bf16", protocol=protocol) for protocol in ("warm", "eager")),
    ]  # fmt: skip


def full(seed: int = SEED) -> list[Line]:
    """Returns every kind over its range of sizes, cold and warm. Half of the shapes are round, half are random with a
    fixed seed.
    """
    random = Random(seed)
    cases = [
        *quick(), *_products(random), *_row_cases(random), *_elementwise_cases(random), *_attention_cases(random), *_decode_cases(random),
        *_conv1d_cases(random), *_layer_cases(random), *some_programs(), *masked(),
    ]  # fmt: skip
    seen: dict[str, Line] = {repr(case): case for case in cases}
    return list(seen.values())


def processor() -> list[Line]:
    """Returns cases that run on a processor in a few seconds. They fit torch and NumPy, so they name no library."""
    lines = [
        *(_matmul(n, n, n, dtype="fp32") for n in (256, 512, 1024)),
        _matmul(128, 128, 128, batch=16, dtype="fp32"),
        _rows("softmax", 4096, 1024, "torch", "fp32"),
        _rows("softmax", 512, 8192, "torch", "fp32"),
        _rows("layernorm", 4096, 1024, "torch", "fp32"),
        _rows("rmsnorm", 4096, 1024, "torch", "fp32"),
        *(_elementwise(kind, n, "fp32") for kind in ("add", "mul", "relu") for n in (1 << 20, 1 << 24)),
        _attention(1, 8, 8, 512, 512, 64, "naive", dtype="fp32"),
        _attention(1, 8, 2, 256, 256, 64, "naive", dtype="fp32", causal=True),
    ]
    return [{name: word for name, word in line.items() if (name, word) != ("impl", "torch")} for line in lines]


ROW_OPS = ("softmax", "softmax_backward", "layernorm", "layernorm_backward", "rmsnorm")
NOT_OURS = {("rmsnorm_backward", "ours")}


def _case(op: str, shape: dict[str, int], dtype: str, protocol: str, **words: Any) -> Line:
    return {"op": op, "shape": shape, "dtype": dtype, "protocol": protocol, **words}


def _matmul(m: int, k: int, n: int, batch: int = 1, dtype: str = "bf16", protocol: str = "cold") -> Line:
    return _case("matmul", {"m": m, "k": k, "n": n, "batch": batch}, dtype, protocol, impl="torch")


def _rows(op: str, rows: int, cols: int, impl: str, dtype: str, protocol: str = "cold") -> Line:
    return _case(op, {"rows": rows, "cols": cols}, dtype, protocol, impl=impl)


def _elementwise(kind: str, numel: int, dtype: str = "fp16", protocol: str = "cold") -> Line:
    return {**_case("elementwise", {"numel": numel}, dtype, protocol, impl="torch"), "kind": kind}


def _attention(
    B: int, H: int, H_kv: int, N: int, S: int, d: int, impl: str, *, dtype: str = "bf16", causal: bool = False,
    direction: str = "forward", protocol: str = "cold",
) -> Line:  # fmt: skip
    shape = {"B": B, "H": H, "H_kv": H_kv, "N": N, "S": S, "d": d}
    return _case("attention", shape, dtype, protocol, causal=causal, direction=direction, impl=impl)


def _conv1d(
    B: int, N: int, D: int, K: int, impl: str, dtype: str = "fp16", protocol: str = "cold", direction: str = "forward"
) -> Line:
    return _case("conv1d", {"B": B, "N": N, "D": D, "K": K}, dtype, protocol, impl=impl, direction=direction)


def _part(op: str, dtype: str = "bf16", **words: Any) -> Line:
    """Returns a case of a layer part. Keyword arguments with an upper-case initial are sizes."""
    sizes = {name: value for name, value in words.items() if name[0].isupper()}
    others = {name: value for name, value in words.items() if name not in sizes}
    return _case(op, sizes, dtype, "cold", impl="flash" if op == "layer" else "torch", **others)


def _near(random: Random, low: int, high: int, step: int = 1) -> int:
    """Returns a random multiple of ``step``, uniform in the logarithm between the limits."""
    drawn: float = low * (high / low) ** random.random()
    return max(step, round(drawn / step) * step)


def _products(random: Random) -> Iterator[Line]:
    for n in (256, 512, 1024, 2048, 3072, 4096, 6144, 8192):
        for dtype in ("bf16", "fp16", "tf32", "fp32"):
            if not (dtype == "fp32" and n > 4096):
                yield _matmul(n, n, n, dtype=dtype)
        yield _matmul(n, n, n, dtype="bf16", protocol="warm")
    for k, n in ((4096, 4096), (4096, 14336), (14336, 4096), (8192, 8192), (4096, 6144), (8192, 28672), (2048, 8192)):
        for m in (1, 8, 64, 256, 1024, 4096):
            yield _matmul(m, k, n)
    for n in (4096, 8192):
        yield _matmul(n, n, n, dtype="fp8")
    for i in range(50):
        m, k, n = _near(random, 16, 8192, 8), _near(random, 64, 8192, 8), _near(random, 64, 16384, 8)
        yield _matmul(m, k, n, dtype=HALF[i % 2], protocol="warm" if i % 5 == 0 else "cold")
    for i in range(16):
        m, k, n = (_near(random, 64, 3072, 8) for _ in range(3))
        yield _matmul(m, k, n, dtype=("fp32", "tf32")[i % 2])
    for i in range(6):  # sizes that are not multiples of a tile
        m, k, n = (_near(random, 100, 4000) for _ in range(3))
        yield _matmul(m, k, n, dtype=HALF[i % 2])
    for batch, n, k in (
        (16, 512, 512),
        (64, 1024, 64),
        (64, 1024, 128),
        (256, 512, 64),
        (512, 256, 64),
        (8, 2048, 2048),
        (32, 2048, 128),
    ):
        for dtype in ("bf16", "fp16"):
            yield _matmul(n, k, n, batch, dtype)
        yield _matmul(n, n, k, batch, "bf16")
    for i in range(24):
        batch = _near(random, 2, 512)
        m, k, n = (_near(random, 32, 2048 if batch < 64 else 768, 8) for _ in range(3))
        yield _matmul(m, k, n, batch, ("bf16", "fp16", "fp32")[i % 3])


def _row_cases(random: Random) -> Iterator[Line]:
    for op in (*ROW_OPS, "rmsnorm_backward"):
        for impl in ("torch", "ours"):
            if (op, impl) in NOT_OURS:
                continue
            for cols in (128, 512, 1024, 2048, 4096, 8192, 16384, 32768):
                yield _rows(op, (1 << 27) // cols, cols, impl, "fp16")
            for rows, cols in ((64, 128), (1024, 1024), (4096, 4096), (512, 16384)):
                yield _rows(op, rows, cols, impl, "fp16")
                if cols != 128:
                    yield _rows(op, rows, cols, impl, "fp16", "warm")
            for i in range(8 if impl == "torch" else 4):
                cols = _near(random, 64, 40000, (1, 8)[i % 2])
                rows = max(16, _near(random, 1 << 18, 1 << 27) // cols)
                yield _rows(op, rows, cols, impl, ("bf16", "fp32")[i // 2 % 2], "warm" if i == 3 else "cold")


def masked() -> list[Line]:
    """Returns cases of the softmax of masked attention scores, forward and backward, by our kernel and by separate ones."""
    sizes = ((64, 8, 64, 64), (16, 8, 256, 256), (4, 16, 1024, 1024), (1, 32, 2048, 2048), (1, 8, 4096, 8192))
    shapes = [dict(zip(("B", "H", "N", "S"), size, strict=True)) for size in sizes]
    both = [(shape, dtype, "cold") for shape in shapes for dtype in ("fp16", "fp32")]
    return [
        _case(op, shape, dtype, protocol, impl=impl)
        for op in ("masked_softmax", "masked_softmax_backward")
        for impl in ("fused", "naive")
        for shape, dtype, protocol in (*both, *((shape, "fp16", "warm") for shape in shapes[:3]))
    ]


def _elementwise_cases(random: Random) -> Iterator[Line]:
    for kind in ("add", "mul", "relu", "gelu", "silu", "tanh", "exp", "scale", "sigmoid", "div", "gelu_tanh"):
        for i in range(4):
            yield _elementwise(kind, _near(random, 1 << 16, 1 << 28, 8), ("fp16", "bf16", "fp32")[i % 3])
    for kind in ("gelu_backward", "silu_backward", "relu_backward"):
        yield _elementwise(kind, 1 << 26)
    for exponent in range(14, 29, 2):
        for protocol in ("cold", "warm"):
            yield _elementwise("add", 1 << exponent, "fp16", protocol)
            yield _elementwise("relu", 1 << exponent, "fp32", protocol)


def _attention_cases(random: Random) -> Iterator[Line]:
    for impl in (*BACK_ENDS, "naive"):
        most = 4096 if impl in ("math", "naive") else 16384
        for N in (512, 1024, 2048, 4096, 8192, 16384):
            if most >= N:
                B = max(1, 16384 // N)
                for causal in (False, True):
                    yield _attention(B, 16, 16, N, N, 128, impl, causal=causal)
                if N <= 8192:
                    yield _attention(B, 16, 16, N, N, 64, impl, dtype="fp16")
                    if impl != "math":
                        yield _attention(B, 16, 16, N, N, 128, impl, causal=True, direction="forward_backward")
    for impl in ("flash", "cudnn"):
        for B, H, H_kv in ((1, 32, 8), (4, 32, 8), (2, 64, 8), (8, 32, 32), (1, 12, 12)):
            for N in (1024, 4096):
                yield _attention(B, H, H_kv, N, N, 128 if H > 12 else 64, impl, causal=True)
    for i in range(20):
        d, H, N = (64, 128)[i % 2], _near(random, 4, 64, 4), _near(random, 256, 6000, (64, 1)[i % 4 == 3])
        B = max(1, _near(random, 1 << 10, 1 << 16) // N)
        impl = (*BACK_ENDS[:3], "naive")[i % 4] if N <= 4096 else "flash"
        protocol = "warm" if i % 5 == 4 else "cold"
        yield _attention(B, H, H, N, N, d, impl, causal=i % 3 == 0, protocol=protocol)


def _decode_cases(random: Random) -> Iterator[Line]:
    for B in (1, 8, 64):
        for S in (1024, 4096, 16384):
            for H_kv in (8, 32):
                if B * S * H_kv <= 1 << 24:
                    yield _attention(B, 32, H_kv, 1, S, 128, "flash")
            yield _attention(B, 32, 32, 1, S, 128, "naive")
            yield _attention(B, 32, 32, 1, S, 128, "efficient")
    for i in range(8):
        B, S = _near(random, 1, 64), _near(random, 512, 20000)
        yield _attention(B, 32, (8, 32)[i % 2], 1, S, 128, ("flash", "torch")[i // 4])


def _conv1d_cases(random: Random) -> Iterator[Line]:
    for D in (1024, 2048, 4096, 8192):
        for N in (1024, 2048, 4096, 8192):
            for B in (1, 4, 16):
                if B * N * D <= 1 << 28:
                    yield _conv1d(B, N, D, (3, 4, 7)[(B + N // 1024 + D // 1024) % 3], "fused")
    for K in (3, 4, 7):
        yield _conv1d(4, 4096, 4096, K, "fused")
        for impl in ("torch", "torch_channels_first", "naive"):
            for B, N, D in ((1, 2048, 2048), (1, 8192, 8192), (4, 4096, 2048)):
                yield _conv1d(B, N, D, K, impl)
    for B, N, D in ((1, 8192, 8192), (4, 4096, 4096), (1, 1024, 1024)):
        yield _conv1d(B, N, D, 3, "fused", direction="backward")
        yield _conv1d(B, N, D, 3, "fused", protocol="warm")
        yield _conv1d(B, N, D, 3, "torch", direction="forward_backward")
    for i in range(8):
        B, N, D = _near(random, 1, 8), _near(random, 500, 8000, (8, 1)[i % 2]), _near(random, 256, 6000, 8)
        yield _conv1d(B, N, D, 3 + i % 5, ("fused", "torch")[i // 4], ("fp16", "bf16", "fp32")[i % 3])


def _layer_cases(random: Random) -> Iterator[Line]:
    for B, N, D, H in (
        (1, 128, 4096, 32),
        (1, 512, 4096, 32),
        (1, 2048, 4096, 32),
        (4, 2048, 2048, 16),
        (8, 1024, 1024, 16),
        (1, 4096, 8192, 64),
        (16, 512, 768, 12),
    ):
        for dtype in HALF:
            yield _part("qkv", dtype, B=B, N=N, D=D, H=H, H_kv=H)
            yield _part("mlp", dtype, B=B, N=N, D=D, F=4 * D, activation="gelu")
        yield _part("mlp", B=B, N=N, D=D, F=4 * D, activation="gelu", direction="train")
        yield _part("qkv", B=B, N=N, D=D, H=H, H_kv=H, direction="train")
        if N >= 512:
            for way in ("forward", "train"):
                yield _part("layer", B=B, N=N, D=D, H=H, F=4 * D, direction=way)
    for activation in ("relu", "silu", "swiglu"):
        yield _part("mlp", B=2, N=2048, D=4096, F=11008, activation=activation)
    for i in range(8):
        D = _near(random, 512, 6144, 128)
        N, B = _near(random, 128, 4096, 64), _near(random, 1, 8)
        yield _part(("qkv", "mlp", "layer", "layer")[i % 4], HALF[i % 2], B=B, N=N, D=D, **_heads(i % 4, D))


def _heads(which: int, D: int) -> Line:
    heads = {"H": D // 64}
    return ({**heads, "H_kv": heads["H"]}, {"F": 4 * D}, {**heads, "F": 4 * D}, {**heads, "F": 4 * D})[which]


SUITES: dict[str, Callable[[], list[Line]]] = {
    "quick": quick, "full": full, "programs": programs, "masked": masked, "quantised": quantised, "processor": processor,
}  # fmt: skip
