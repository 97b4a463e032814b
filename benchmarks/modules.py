"""Modules of serving stacks, as the kernels that they launched: experts and latent attention of vLLM.

Both were measured by the collector of ai-dynamo/aiconfigurator (095f58a). It builds vLLM's module of latent attention without
a compiler. Norms and rotation then run as PyTorch's own operators, about thirty kernels, and nothing stores the new keys: the
collector gives no slots of the cache. All its weights and inputs are constants.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

Line = dict[str, Any]
SERVED = {"protocol": "warm"}


class Found(NamedTuple):
    """A group, and the lines of cases one after another. ``even``: every expert got the same number of rows. ``constant``: all
    operands were constants, which draw so little power that the limit does not matter.
    """

    group: str
    lines: tuple[Line, ...]
    even: bool = False
    constant: bool = False


# --- experts

# Experts without a gate, by width and inner width: Nemotron's, whose activation is a squared ReLU.
UNGATED = ((2048, 5120), (2688, 1856))
# Rows of each expert, on average, below which a power law leaves experts without rows: a group of its own.
VISITED = 32
FEW_ROWS = "experts bf16, few rows"
# Bounds of the power law, and of the law where a batch has fewer rows than experts.
LEAST, MOST_OF_TOKENS, SPARSE = 1.0, 0.8, (0.01, 2.0)


def popularity(E: int, A: int, T: int, exponent: float) -> list[float]:
    """Relative rows of each expert, as the source draws them: quantiles of a bounded power law.

    The source draws a number for each expert from a density proportional to x to the power of -exponent (``sample_power_law``
    of its collector), and scales all of them to the rows of the batch. The draws themselves are not published.
    """
    low, high = (LEAST, MOST_OF_TOKENS * T) if T * A > E else SPARSE
    power = 1.0 - exponent
    return [((high**power - low**power) * (i + 0.5) / E + low**power) ** (1.0 / power) for i in range(E)]


def experts(name: str, row: Mapping[str, Any], at: str, stack: str) -> Found | None:
    """Experts that all lie on one GPU, with the routing of the source."""
    T, D, A, E = (int(row[key]) for key in ("num_tokens", "hidden_size", "topk", "num_experts"))
    F = int(row["inter_size"]) // int(row["moe_tp_size"])
    even = row["distribution"] == "balanced"
    if row["moe_dtype"] != "bfloat16" or int(row["moe_ep_size"]) > 1:
        return None
    group = "experts bf16" if even or T * A >= VISITED * E else FEW_ROWS
    routed = {} if even else {"routing": popularity(E, A, T, float(row["distribution"].rpartition("_")[2]))}
    # The older stack has no kernel without a gate.
    gated = at != "h100_sxm" or (D, int(row["inter_size"])) not in UNGATED
    common = {"dtype": "bf16", **SERVED}
    linear: Line = {"op": "expert_linear", "impl": "serving", **common}
    between: Line = {"op": "silu_gate", "shape": {"numel": T * A * F}, "impl": "fused", **common}
    if not gated:
        between = {"op": "elementwise", "kind": "relu", "shape": {"numel": T * A * F}, "impl": "torch", **common}
    lines = (
        {**linear, "shape": {"B": 1, "N": T, "D_in": D, "D_out": (1 + gated) * F, "E": E, "A": A, **routed}},
        between,
        {**linear, "shape": {"B": 1, "N": T, "D_in": F, "D_out": D, "E": E, "A": A, **routed}},
        {"op": "combine_experts", "shape": {"B": 1, "N": T, "D": D, "A": A}, **common},
    )
    return Found(group, lines, even=even)


# --- latent attention

LATENT = "latent attention"
# Sizes of DeepSeek-V3: width, ranks of queries and of keys and values, head sizes.
WIDTH, QUERY_RANK, RANK, ROTARY, PLAIN = 7168, 1536, 512, 64, 128
HALF, WIDE = {"dtype": "bf16", **SERVED}, {"dtype": "fp32", **SERVED}


def latent(name: str, row: Mapping[str, Any], at: str, stack: str) -> Found | None:
    """A whole module: projections, norms, rotation and attention. Attention has its plan from outside."""
    decode = "generation" in name
    if (
        "fp8" in row["kv_cache_dtype"]
        or "fp8" in row["gemm_type"]
        or (not decode and row["kernel_source"] != "FLASH_ATTN")
    ):
        return None
    B, N, H = int(row["batch_size"]), int(row["isl"]), int(row["num_heads"])
    rows, heads = B * N, {"B": B, "H": H, "N": N, "r": RANK, "d_r": ROTARY}

    def linear(inner: int, outer: int) -> Line:
        return {"op": "linear", "shape": {"B": B, "N": N, "D_in": inner, "D_out": outer}, "impl": "torch", **HALF}

    def absorbed(inner: int, outer: int) -> Line:
        return {"op": "matmul", "shape": {"batch": H, "m": rows, "k": inner, "n": outer}, "impl": "torch", **HALF}

    first = (
        linear(WIDTH, QUERY_RANK + RANK + ROTARY), *_norm(rows, QUERY_RANK), linear(QUERY_RANK, H * (PLAIN + ROTARY)),
        *_norm(rows, RANK), *_rotation(rows, H),
    )  # fmt: skip
    if decode:
        attention: Line = {"op": "mla_latent_attention", "shape": {**heads, "S": int(row["step"]) + 1}, **HALF}
        middle = (absorbed(PLAIN, RANK), attention, absorbed(RANK, PLAIN))
    else:
        attention = {
            "op": "mla_attention",
            "shape": {**heads, "S": N, "d": PLAIN, "d_v": PLAIN},
            "causal": True,
            **HALF,
        }
        keys = (_copy(rows * H * PLAIN, run=PLAIN), _copy(rows * H * ROTARY, run=ROTARY, distinct=rows * ROTARY))
        middle = (linear(RANK, 2 * H * PLAIN), *keys, attention, _copy(rows * H * PLAIN))
    group = f"{LATENT} {'decode' if decode else 'prompt'} bf16"
    return Found(group, (*first, *middle, linear(H * PLAIN, WIDTH)), constant=True)


def _copy(numel: int, run: int = 0, distinct: int = 0, dtype: Line = HALF, out: int = 2) -> Line:
    shape = {"numel": numel, "distinct": distinct or numel, "run": run or numel, "out": out}
    return {"op": "copy", "shape": shape, **dtype}


def _each(kind: str, numel: int, dtype: Line = HALF) -> Line:
    return {"op": "elementwise", "kind": kind, "shape": {"numel": numel}, **dtype}


def _norm(rows: int, cols: int) -> Iterator[Line]:
    """RMSNorm as operators: to fp32, square, mean, epsilon, root, product, to bf16, weight."""
    numel = rows * cols
    yield _copy(numel, run=cols, out=4)
    yield _each("scale", numel, WIDE)
    yield {"op": "reduce_sum", "shape": {"rows": rows, "cols": cols, "inner": 1}, **WIDE}
    yield from (_each("scale", rows, WIDE), _each("scale", rows, WIDE))
    yield _each("scale", numel, WIDE)
    yield _copy(numel, dtype=WIDE)
    yield _each("scale", numel)


def _rotation(rows: int, heads: int) -> Iterator[Line]:
    """Rotation as operators: the table by position, cosines and sines for pairs, queries, keys, and queries back in place."""
    table = rows * ROTARY
    yield {"op": "gather", "shape": {"rows": rows, "cols": ROTARY}, **HALF}
    yield from (_copy(table, run=1, distinct=table // 2),) * 2
    yield from (*_turned(table * heads), *_turned(table))
    yield _copy(table * heads, run=ROTARY)


def _turned(numel: int) -> Iterator[Line]:
    """Elements times cosines; their pairs turned (one negated, both joined) times sines; the sum."""
    yield _each("mul", numel)
    yield _copy(numel // 2, run=1)
    yield {"op": "concatenate", "shape": {"numel": numel, "run": 1}, **HALF}
    yield _each("mul", numel)
    yield _each("add", numel)
