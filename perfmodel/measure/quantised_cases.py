"""Built-in cases of ``validate --suite quantised``: quantised weights and activations, experts, and latent attention."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import Any

Line = dict[str, Any]

SEED = 20261126
# Inputs and outputs of the linear layers of Llama 3 8B and of Qwen 2.5 14B.
WIDTHS = ((4096, 6144), (4096, 4096), (4096, 28672), (14336, 4096), (5120, 13824))
ROWS = (1, 8, 16, 64, 256, 2048)
# Experts per layer, experts per token, width of the model and of an expert: Mixtral 8x7B, Qwen3 30B A3B, DeepSeek V3 reduced.
EXPERTS = ((8, 2, 4096, 14336), (128, 8, 2048, 768), (64, 6, 7168, 2048))
SCALES = ("torch_static_scale", "torch_token_scale", "torch_tensor_scale", "torch_block_scale")
STEP = 4  # rows of a product of 8-bit floats in blocks are a multiple of it


def quantised(seed: int = SEED) -> list[Line]:
    """Returns all cases; shapes of models, and some at random with a fixed seed."""
    random = Random(seed)
    lines = [*_weights(random), *_products(), *_quantisers(random), *_experts(), *_latent()]
    return list({repr(line): line for line in lines}.values())


def _case(op: str, shape: Line, dtype: str = "bf16", protocol: str = "cold", **words: Any) -> Line:
    return {"op": op, "shape": shape, "dtype": dtype, "protocol": protocol, **words}


def _linear(op: str, rows: int, D_in: int, D_out: int, protocol: str = "cold") -> Line:
    rows = -(-rows // STEP) * STEP if op == "linear_fp8" else rows
    more = {"group": 128, "zero": 2} if op == "linear_int4" else {}
    return _case(op, {"B": 1, "N": rows, "D_in": D_in, "D_out": D_out, **more}, protocol=protocol, impl="torch")


def _weights(random: Random) -> Iterator[Line]:
    for op in ("linear_int4", "linear_int8", "linear_fp8"):
        for D_in, D_out in WIDTHS:
            for rows in ROWS:
                yield _linear(op, rows, D_in, D_out)
        yield _linear(op, 16, 4096, 4096, "warm")
        for _ in range(6):
            yield _linear(op, random.randint(1, 512), 512 * random.randint(2, 16), 256 * random.randint(4, 48))
    for op, group in (("linear_int4", 128), ("linear_mxfp4", 32), ("linear_nvfp4", 16)):
        for D_in, D_out in WIDTHS:
            for rows in (1, 4, 8):
                yield _case(op, {"B": 1, "N": rows, "D_in": D_in, "D_out": D_out, "group": group}, impl="ours")
    for group in (32, 64, 256):
        shape = {"B": 1, "N": 16, "D_in": 4096, "D_out": 14336, "group": group, "zero": 2}
        yield _case("linear_int4", shape, impl="torch")


def _products() -> Iterator[Line]:
    """Products of 8-bit floats with the quantisation before them."""
    for impl in SCALES:
        for m in (16, 256, 4096):
            for k, n in ((4096, 4096), (4096, 28672)):
                yield _case("matmul", {"m": m, "k": k, "n": n}, "fp8", impl=impl)


def _quantisers(random: Random) -> Iterator[Line]:
    for kind in ("static", "tensor", "token", "block"):
        for rows, cols in ((1, 4096), (64, 8192), (2048, 4096), (8192, 8192), (16384, 14336)):
            yield _case(f"quantise_{kind}", {"rows": rows, "cols": cols}, impl="ours")
        yield _case(f"quantise_{kind}", {"rows": 2048, "cols": 4096}, protocol="warm", impl="ours")
        for _ in range(3):
            shape = {"rows": random.randint(16, 30000), "cols": 128 * random.randint(4, 96)}
            yield _case(f"quantise_{kind}", shape, ("fp16", "bf16")[random.randint(0, 1)], impl="ours")


def _experts() -> Iterator[Line]:
    """Grouped products of both layers of an expert, with uniform and with skewed choices."""
    for E, A, D, F in EXPERTS:
        for tokens in (1, 16, 128, 2048):
            for routing in (0, 1.0):
                for D_in, D_out in ((D, 2 * F), (F, D)):
                    shape = {"B": 1, "N": tokens, "D_in": D_in, "D_out": D_out, "E": E, "A": A, "routing": routing}
                    yield _case("expert_linear", shape, impl="torch")


def _latent() -> Iterator[Line]:
    """DeepSeek's heads: prompts over expanded keys, decoding over the latent."""
    for H in (16, 128):
        for N in (512, 1024, 2048):
            shape = {"B": 1, "H": H, "N": N, "S": N, "d": 128, "d_r": 64, "d_v": 128, "r": 512}
            yield _case("mla_attention", shape, impl="naive", causal=True)
            yield _case("mla_attention", shape, impl="fused", causal=True)
        for B in (1, 16, 64):
            for S in (1024, 8192):
                shape = {"B": B, "H": H, "N": 1, "S": S, "r": 512, "d_r": 64}
                yield _case("mla_latent_attention", shape, impl="naive")
