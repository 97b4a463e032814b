"""Kernels at sizes that were inferred: products, attention, and the copies of keys and values before it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import cache, lru_cache

from perfmodel.aten import launched
from perfmodel.aten.asking import compact
from perfmodel.aten.calls import Call, Launched, Operand
from perfmodel.traces.inference import Seen

Kernels = tuple[Launched, ...]
BEFORE = 16  # kernels before attention among which its copies are looked for


@lru_cache(maxsize=1 << 16)
def multiplied(dtype: str, rows: int, inner: int, width: int, summed: bool) -> Kernels:
    """The product of (rows, inner) by (inner, width), or the gradient of its weight, in which rows are summed."""
    stored = "fp32" if dtype == "tf32" else dtype
    first, middle = (inner, rows) if summed else (rows, inner)
    a, b = compact((first, middle), stored), compact((middle, width), stored)
    return tuple(each._replace(dtype=dtype) for each in launched(Call("mm", (a, b))))


def repeated(made: Sequence[Kernels]) -> list[Kernels]:
    """The kernels, with copies of all keys and values before an attention as copies of fewer heads, each several times.

    The columns of the narrow products are those of the projections to keys and values.
    """
    columns = [
        n for n, _ in Counter(int(one[0].sizes["n"]) for one in made if one and "n" in one[0].sizes).most_common()
    ]
    found = list(made)
    for place, one in enumerate(made):
        if not one or one[0].operation != "attention":
            continue
        B, H, S, d = (int(one[0].sizes[name]) for name in ("B", "H", "S", "d"))
        narrow = next((n for n in columns if n < H * d and n % d == 0 and H * d % n == 0), H * d)
        for before in range(max(0, place - BEFORE), place):
            copy = made[before]
            if narrow < H * d and copy and copy[0].operation == "copy" and copy[0].sizes["numel"] == B * H * S * d:
                found[before] = expanded(B, narrow // d, H * d // narrow, S, d, one[0].dtype)
    return found


@cache
def expanded(batch: int, heads: int, times: int, keys: int, width: int, dtype: str) -> Kernels:
    """The copy of every head of keys or values so many times."""
    target = compact((batch, heads, times, keys, width), dtype)
    strides = (heads * keys * width, keys * width, 0, width, 1)
    return launched(Call("copy_", (target, Operand(target.shape, dtype, strides))))


def attended(
    one: Seen, number: str, batch: int, heads: int, queries: int, width: int, keys: int, *, masked: bool
) -> tuple[Launched, ...]:
    """Attention at these sizes in the type of the trace's products, as cuDNN's names do not tell bf16 from fp16."""
    kind = one.dtype if one.dtype == "fp32" else number
    q, k = compact((batch, heads, queries, width), kind), compact((batch, heads, keys, width), kind)
    name = one.activity.name
    chosen = "flash" if "flash_fwd" in name or "flash_bwd" in name else "efficient" if "cutlass" in name else "cudnn"
    operator = f"_scaled_dot_product_{chosen}_attention"
    if one.family == "attention_backward":
        return launched(Call(f"{operator}_backward", (q, q, k, k, q)))
    mask = compact((batch, 1, queries, keys), kind) if masked and chosen != "flash" else None
    return launched(Call(operator, (q, k, k, mask)))
