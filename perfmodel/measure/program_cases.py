"""Cases of the kernels that programs launch beside those of a config: the suite ``programs`` of ``validate``.

Each operation runs at sizes from a bare launch to several times L2, in three data types, cold and warm. Half of the
shapes are round, half are random with a fixed seed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from random import Random
from typing import Any

Line = dict[str, Any]

SEED = 20261126
TYPES = ("bf16", "fp16", "fp32")


def programs(seed: int = SEED) -> list[Line]:
    """Returns the cases in the order of the operations; those of one operation alternate between small and large."""
    random = Random(seed)
    families = (_movement, _selection, _indexing, _reductions, _orders, _images, _channels, _training)
    lines = [line for family in families for line in family(random)]
    return list({repr(line): line for line in lines}.values())


def some_programs() -> list[Line]:
    """Returns one large case of most operations, for the suite ``full``."""
    found: dict[str, Line] = {}
    for line in programs():
        if line["protocol"] == "cold":
            found[line["op"]] = line
    return list(found.values())


def _case(op: str, dtype: str, shape: dict[str, int], protocol: str = "cold") -> Line:
    return {"op": op, "shape": shape, "dtype": dtype, "protocol": protocol, "impl": "torch"}


def _near(random: Random, low: int, high: int, step: int = 1) -> int:
    """Returns a random multiple of ``step``, uniform in the logarithm between the limits."""
    drawn: float = low * (high / low) ** random.random()
    return max(step, round(drawn / step) * step)


def _each(op: str, shapes: Iterable[dict[str, int]], warm: int = 4, types: tuple[str, ...] = TYPES) -> Iterator[Line]:
    """Returns one case per shape, with the data types in turn, every ``warm``-th with a warm L2."""
    for i, shape in enumerate(shapes):
        yield _case(op, types[i % len(types)], shape, "warm" if i % warm == warm - 1 else "cold")


def _movement(random: Random) -> Iterator[Line]:
    for exponent in (12, 18, 22, 26):
        yield _case("copy", "bf16" if exponent % 4 else "fp32", {"numel": 1 << exponent})
        yield _case("copy", "fp32", {"numel": 1 << exponent, "out": 2}, "warm" if exponent == 18 else "cold")
    yield _case("copy", "bf16", {"numel": _near(random, 1 << 20, 1 << 26, 8), "out": 4})
    repeated = (
        {"numel": heads * groups * keys * 128, "distinct": heads * keys * 128, "run": keys * 128}
        for heads, groups, keys in ((8, 4, 64), (8, 4, 1024), (32, 2, 4096), (4, 8, 8192), (64, 7, 515), (2, 16, 300))
    )
    yield from _each("copy", repeated)
    turned = (
        {"numel": tokens * heads * d, "distinct": tokens * heads * d, "run": d}
        for tokens, heads, d in (
            (32, 8, 64),
            (512, 32, 128),
            (4096, 32, 128),
            (16384, 16, 64),
            (3000, 12, 64),
            (8192, 64, 32),
        )
    )
    yield from _each("copy", turned)
    for i, (rows, cols) in enumerate(((64, 64), (1024, 1024), (4096, 4096), (8192, 4096), (1000, 3000))):
        numel = rows * cols
        yield _case("copy", TYPES[i % 3], {"numel": numel, "distinct": numel, "run": 1}, "warm" if i == 1 else "cold")
    yield _case("copy", "bf16", {"numel": 1 << 24, "distinct": 1 << 24, "run": 8})
    yield _case("copy", "fp32", {"numel": 1 << 24, "distinct": 1 << 24, "run": 128, "out": 2})
    joined = (
        {"numel": 2 * rows * run, "run": run}
        for rows, run in (
            (64, 64),
            (4096, 64),
            (262144, 64),
            (1, 1 << 22),
            (32, 1 << 20),
            (131072, 100),
            (50000, 33),
            (7, 123457),
        )
    )
    yield from _each("concatenate", joined)
    yield from _each("fill", ({"numel": n} for n in (1 << 10, 1 << 19, 1 << 23, 1 << 27)))
    # A replay of a graph with random numbers sets the generator's state first: two short kernels more.
    yield from _each("random", ({"numel": n} for n in (1 << 24, 1 << 25, 1 << 27, _near(random, 1 << 24, 1 << 27))))


def _selection(random: Random) -> Iterator[Line]:
    for op in ("where", "masked_fill", "compare", "integer"):
        numels = (1 << 12, 1 << 20, 1 << 25, _near(random, 1 << 21, 1 << 26, 8))
        yield from _each(op, ({"numel": n} for n in numels))
    biased = ({"B": 1, "N": n, "D": d} for n, d in ((8, 768), (2048, 2048), (8192, 4096), (5000, 1000)))
    yield from _each("add_bias", biased)
    hidden = ({"B": b, "H": 16, "N": n, "S": n} for b, n in ((1, 64), (1, 1024), (2, 2048), (3, 900)))
    yield from _each("causal_mask", hidden)


def _indexing(random: Random) -> Iterator[Line]:
    shapes = [
        {"rows": rows, "cols": cols}
        for rows, cols in (
            (16, 4096),
            (2048, 1024),
            (8192, 4096),
            (1 << 19, 64),
            (4096, 1),
            (1 << 22, 1),
            (1 << 25, 1),
            (3000, 1001),
        )
    ]
    yield from _each("gather", shapes)
    yield _case("gather", "bf16", {"rows": 1 << 16, "cols": _near(random, 100, 1000, 8)})
    for op in ("scatter", "scatter_add"):
        yield from _each(op, [shapes[i] for i in (0, 1, 2, 3, 5, 6, 7)])
    for i, (tokens, width) in enumerate(((512, 1024), (2048, 4096), (3000, 768))):
        yield _case("embedding_backward", TYPES[i], {"B": 1, "N": tokens, "D": width, "V": 32000})


def _reductions(random: Random) -> Iterator[Line]:
    along = [
        {"rows": rows, "cols": cols}
        for rows, cols in (
            (8, 64),
            (16, 4096),
            (16384, 4096),
            (1 << 20, 64),
            (1, 1 << 20),
            (1, 1 << 26),
            (4096, 50257),
            (1 << 17, 300),
        )
    ]
    down = [
        {"rows": rows, "cols": cols, "inner": inner}
        for rows, cols, inner in (
            (1, 64, 64),
            (1, 2048, 1024),
            (1, 16384, 4096),
            (64, 256, 1024),
            (8, 1000, 999),
            (4096, 4, 2048),
        )
    ]
    yield from _each("reduce_sum", along)
    yield from _each("reduce_sum", down)
    yield _case("reduce_sum", "bf16", {"rows": _near(random, 100, 10000), "cols": _near(random, 1000, 20000), "out": 4})
    yield from _each("reduce_max", [along[1], along[2], along[4], down[2]])
    yield from _each("argmax", [along[i] for i in (0, 2, 4, 6)], types=("bf16", "fp32"))
    yield from _each("argmax", ({"rows": 1, "cols": 128256}, {"rows": 64, "cols": 128256}, down[2]))
    running = ((1, 1 << 12), (1, 1 << 25), (8, 50257), (4096, 64), (16384, 4096), (512, 8192), (64, 128256))
    yield from _each("cumulative_sum", ({"rows": rows, "cols": cols} for rows, cols in running), types=("fp32",))


def _orders(random: Random) -> Iterator[Line]:
    largest = (
        (1, 128256, 50),
        (16, 128256, 50),
        (64, 50257, 50),
        (1024, 50257, 4),
        (4096, 64, 8),
        (32768, 256, 8),
        (8, 4096, 1),
        (512, 2000, 100),
    )
    yield from _each("top_k", ({"rows": rows, "cols": cols, "chosen": k} for rows, cols, k in largest))
    sorted_ = ((1, 128256), (1, 1 << 23), (16, 128256), (64, 50257), (1024, 20000), (4096, 64), (16384, 1024), (32, 16))
    yield from _each("sort", ({"rows": rows, "cols": cols} for rows, cols in sorted_))
    yield _case("sort", "bf16", {"rows": _near(random, 200, 2000), "cols": _near(random, 100, 4000)})


def _image(B: int, C: int, side: int, result: int, **others: int) -> dict[str, int]:
    return {"B": B, "C": C, "h": side, "w": side, "h_out": result, "w_out": result, **others}


def _filtered(B: int, C: int, C_out: int, side: int, result: int, window: int, groups: int = 1) -> dict[str, int]:
    return _image(B, C, side, result, C_out=C_out, K_h=window, K_w=window, groups=groups)


def _images(random: Random) -> Iterator[Line]:
    shapes = [
        _filtered(1, 3, 64, 224, 112, 7),
        _filtered(32, 64, 64, 56, 56, 3),
        _filtered(32, 256, 256, 14, 14, 3),
        _filtered(32, 256, 1024, 14, 14, 1),
        _filtered(64, 128, 256, 28, 14, 3),
        _filtered(8, 3, 768, 224, 14, 16),
        _filtered(2, 512, 512, 64, 64, 3),
        _filtered(16, 96, 96, 56, 56, 7, 96),
        _filtered(16, 128, 128, 28, 28, 3, 32),
        _filtered(_near(random, 2, 32), _near(random, 32, 256, 8), _near(random, 32, 256, 8), 32, 32, 3),
    ]
    yield from _each("conv2d", shapes, types=("bf16", "fp16"))
    yield from _each("conv2d", [shapes[i] for i in (0, 1, 3, 4)], types=("fp32",))
    for op in ("conv2d_input_gradient", "conv2d_weight_gradient"):
        yield from _each(op, [shapes[i] for i in (1, 2, 4, 6)], types=("bf16", "fp16"))
    pooled = [
        _image(1, 16, 28, 14, K_h=2, K_w=2), _image(32, 64, 112, 56, K_h=3, K_w=3), _image(16, 192, 56, 28, K_h=2, K_w=2),
        _image(8, 256, 28, 28, K_h=3, K_w=3),
    ]  # fmt: skip
    for op in ("max_pool2d", "max_pool2d_backward", "average_pool2d", "average_pool2d_backward"):
        yield from _each(op, pooled)
    for taps in (1, 4, 16):
        resized = [
            _image(1, 3, 224, 336, taps=taps),
            _image(8, 256, 32, 64, taps=taps),
            _image(2, 64, 128, 256, taps=taps),
        ]
        yield from _each("interpolate", resized, warm=9)
        yield from _each(
            "interpolate_backward", resized[1:] if taps < 16 else resized[:1], warm=9, types=("fp32", "bf16")
        )


def _channels(random: Random) -> Iterator[Line]:
    whole = [
        {"B": B, "C": C, "pixels": p}
        for B, C, p in ((1, 16, 64), (32, 64, 12544), (32, 256, 3136), (32, 2048, 49), (7, 100, 961))
    ]
    for op in ("batch_norm", "batch_norm_inference", "batch_norm_backward"):
        yield from _each(op, whole, types=("bf16", "fp32"))
    grouped = (
        {"B": B, "C": C, "groups": 32, "pixels": p}
        for B, C, p in ((1, 64, 64), (2, 320, 4096), (8, 512, 4096), (2, 1280, 256), (4, 128, 65536))
    )
    for i, shape in enumerate(grouped):
        dtype = TYPES[i % 3]
        yield _case("group_norm", dtype, shape)
        yield _case("group_norm_backward", dtype, shape, "warm" if shape["pixels"] == 256 else "cold")


def _training(random: Random) -> Iterator[Line]:
    rows = [(16, 1000), (512, 50257), (4096, 50257), (4096, 32000), (8192, 128), (2048, 128256), (1000, 3001)]
    for op in ("log_softmax", "log_softmax_backward"):
        yield from _each(op, ({"rows": r, "cols": c} for r, c in rows))
    yield _case("log_softmax", "bf16", {"rows": 2048, "cols": 32000, "out": 4})
    for op in ("nll_loss", "nll_loss_backward"):
        yield from _each(
            op, ({"rows": r, "cols": c} for r, c in (rows[0], rows[2], (16384, 1000), (65536, 128), (777, 5000)))
        )
    sizes = [(1 << 14, 4), (1 << 22, 64), (1 << 25, 148), (124439808, 148), (50_000_000, 600)]
    for i, (params, tensors) in enumerate(sizes):
        shape = {"params": params, "tensors": tensors}
        yield _case("adam_step", TYPES[i % 3], {**shape, "state": 4 if i % 3 == 2 else 2}, "warm" if i == 1 else "cold")
        yield _case("foreach", TYPES[(i + 1) % 3], {**shape, "reads": 1 + i % 3})
        yield _case("gradient_norm", TYPES[i % 3], shape, "warm" if i == 1 else "cold")
        if i % 2 == 0:
            yield _case("sgd_step", TYPES[(i + 2) % 3], shape)
    yield _case("foreach", "bf16", {"params": _near(random, 1 << 20, 1 << 26), "tensors": 300, "reads": 2})
