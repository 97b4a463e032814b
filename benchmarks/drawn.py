"""Cases of kernels at random sizes, for judging the model on shapes that nobody chose: python benchmarks/drawn.py SEED COUNT

Prints COUNT cases as JSON lines, the same for the same seed: perfmodel validate --suite FILE measures them. Sizes are drawn
evenly in their logarithm, up to bytes and FLOPs that a card of 40 GB measures in a moment.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from math import exp, log
from random import Random
from typing import Any

HALF = ("fp16", "bf16")
KINDS = ("add", "mul", "div", "scale", "gelu", "gelu_tanh", "silu", "relu", "tanh", "sigmoid", "exp")
ROWS = ("softmax", "softmax_backward", "layernorm", "layernorm_backward", "rmsnorm")
SHARES = {"matmul": 38, "rows": 24, "elementwise": 16, "attention": 12, "conv1d": 4, "block": 6}  # of 100 cases
MOST_BYTE, MOST_FLOPS = 1.5e9, 4e12


class Drawn:
    """Cases of one seed."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)

    def cases(self, count: int) -> Iterator[dict[str, Any]]:
        """Yields so many cases, of the kinds in their shares."""
        for _ in range(count):
            kind = self.random.choices(list(SHARES), list(SHARES.values()))[0]
            yield getattr(self, f"_{kind}")()

    def _size(self, low: int, high: int, step: int = 1) -> int:
        """A size between both, evenly in its logarithm, as a multiple of ``step``."""
        return max(step, round(exp(self.random.uniform(log(low), log(high))) / step) * step)

    def _protocol(self) -> str:
        return self.random.choice(("cold", "cold", "cold", "warm"))

    def _matmul(self) -> dict[str, Any]:
        dtype = self.random.choice((*HALF, *HALF, "fp32", "tf32"))
        step = self.random.choice((1, 8, 8, 8, 64, 128)) if dtype in HALF else 8
        batch = 1 if self.random.random() < 0.65 else self._size(2, 512)
        while True:
            m, k, n = (self._size(32, 16384 if batch == 1 else 2048, step) for _ in range(3))
            flops, byte = 2.0 * batch * m * k * n, 4.0 * batch * (m * k + k * n + m * n)
            if flops < MOST_FLOPS / (8 if dtype == "fp32" else 1) and byte < MOST_BYTE:
                return self._case("matmul", {"m": m, "k": k, "n": n, "batch": batch}, dtype, "torch")

    def _rows(self) -> dict[str, Any]:
        op, dtype = self.random.choice(ROWS), self.random.choice((*HALF, "fp32"))
        impl = self.random.choice(("torch", "torch", "ours"))
        while True:
            rows, cols = self._size(32, 1 << 20), self._size(64, 1 << 15)
            if 1e5 < 4.0 * rows * cols < MOST_BYTE / 2:
                return self._case(op, {"rows": rows, "cols": cols}, dtype, impl)

    def _elementwise(self) -> dict[str, Any]:
        dtype = self.random.choice((*HALF, "fp32"))
        shape = {"numel": self._size(1 << 16, 1 << 28, 8)}
        return {**self._case("elementwise", shape, dtype, "torch"), "kind": self.random.choice(KINDS)}

    def _attention(self) -> dict[str, Any]:
        impl = self.random.choice(("flash", "flash", "cudnn", "efficient", "naive"))
        while True:
            heads, d = self.random.choice((4, 8, 12, 16, 32, 48)), self.random.choice((64, 128))
            B, N = self._size(1, 128), self._size(128, 8192)
            if B * heads * N * N * d < MOST_FLOPS / 8 and B * heads * N * (4 * d + (N if impl == "naive" else 0)) < 2e9:
                break
        causal = impl != "naive" and self.random.random() < 0.5
        shape = {"B": B, "H": heads, "H_kv": heads, "N": N, "S": N, "d": d}
        case = self._case("attention", shape, self.random.choice(HALF), impl)
        return {**case, "causal": causal, "direction": "forward"}

    def _conv1d(self) -> dict[str, Any]:
        while True:
            shape = {"B": self._size(1, 8), "N": self._size(256, 16384), "D": self._size(128, 8192, 64)}
            if shape["B"] * shape["N"] * shape["D"] < 2e8:
                break
        return self._case("conv1d", {**shape, "K": self.random.randint(2, 8)}, self.random.choice(HALF), "fused")

    def _block(self) -> dict[str, Any]:
        op, D, B = self.random.choice(("mlp", "qkv", "layer")), self._size(512, 4096, 128), self._size(1, 8)
        shape = {"B": B, "N": self._size(64, 2048, 8), "D": D}
        if op != "qkv":
            shape["F"] = 4 * D
        if op == "layer":
            shape["H"] = D // 64
        case = self._case(op, shape, self.random.choice(HALF), "flash" if op == "layer" else "torch")
        return {**case, "direction": "forward"} if op == "layer" else case

    def _case(self, op: str, shape: dict[str, int], dtype: str, impl: str) -> dict[str, Any]:
        return {"op": op, "shape": shape, "dtype": dtype, "impl": impl, "protocol": self._protocol()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("seed", type=int)
    parser.add_argument("count", type=int)
    options = parser.parse_args()
    for case in Drawn(options.seed).cases(options.count):
        print(json.dumps(case))


if __name__ == "__main__":
    main()
