"""Decoder layers in torch, whole or divided over the ranks of a tensor-parallel group as Megatron-LM divides them.

The steps are those of the packaged workload ``llama-2-7b-layer``: RMSNorm, one product for q, k and v, rotation, causal
attention, output projection, residual; RMSNorm, one product for gate and up, SiLU gate, down projection, residual. Each
rank has some heads and some columns of the gate; the output and down projections give partial sums, which an all-reduce
adds (Shoeybi et al. 2019, section 3).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

THETA = 10_000.0  # base of the rotation's angles
EPSILON = 1e-5
SEED = 1000


class Width(NamedTuple):
    """Sizes of a layer: model width, query heads, key-value heads and width of the MLP."""

    D: int
    H: int
    H_kv: int
    F: int

    @property
    def d(self) -> int:
        return self.D // self.H


class Turn(NamedTuple):
    """Cosines and sines of the rotation, one row per token of the batch."""

    cos: Any
    sin: Any


class Kernels(NamedTuple):
    """Functions that are one kernel each where torch compiles them: the rotation of heads, and the SiLU gate."""

    rotate: Callable[[Any, Any, Any], Any]
    gate: Callable[[Any], Any]


def plain_kernels(torch: Any) -> Kernels:
    """Returns the functions as torch runs them, in several kernels."""

    def rotate(x: Any, cos: Any, sin: Any) -> Any:
        first, second = x.chunk(2, -1)
        return torch.cat((first * cos - second * sin, second * cos + first * sin), -1)

    def gate(gate_up: Any) -> Any:
        gate, up = gate_up.chunk(2, -1)
        return torch.nn.functional.silu(gate) * up

    return Kernels(rotate, gate)


def compiled_kernels(torch: Any) -> Kernels:
    """Returns the functions as one compiled kernel each, for all sizes."""
    torch._dynamo.config.cache_size_limit = 64  # versions for one token, one head and equal sizes
    return Kernels(*(torch.compile(function, dynamic=True) for function in plain_kernels(torch)))


def turn(torch: Any, B: int, first: int, N: int, d: int, dtype: Any, device: Any) -> Turn:
    """Returns the rotation of N tokens of each of B sequences, from position ``first``."""
    angle = THETA ** (-torch.arange(0, d, 2, device=device, dtype=torch.float32) / d)
    turned = torch.outer(torch.arange(first, first + N, device=device, dtype=torch.float32), angle)
    rows = turned.repeat(B, 1)[:, None, :]
    return Turn(rows.cos().to(dtype), rows.sin().to(dtype))


class Layer:
    """A layer, or the part of one rank: its weights, from a seed that all ranks share.

    ``tp`` ranks divide it, and this is number ``rank`` of them. ``dist`` adds their partial sums.
    """

    def __init__(
        self, torch: Any, width: Width, number: int, dtype: Any, device: Any, *, kernels: Kernels, tp: int = 1,
        rank: int = 0, dist: Any = None,
    ) -> None:  # fmt: skip
        self.torch, self.width, self.kernels, self.dist = torch, width, kernels, dist if tp > 1 else None
        self.heads, self.groups = width.H // tp, width.H_kv // tp
        self.shares_heads = True
        source = torch.Generator(device=device)
        source.manual_seed(SEED + number)
        D, F, d = width.D, width.F, width.d

        def part(rows: int, columns: int, pieces: tuple[int, ...] = (), *, by_columns: bool = False) -> Any:
            """This rank's rows of each piece of a matrix, or its columns."""
            whole = torch.randn(rows, columns, generator=source, device=device, dtype=torch.float32)
            whole = (whole * columns**-0.5).to(dtype)
            if tp == 1:
                return whole
            if by_columns:
                return whole.chunk(tp, 1)[rank].contiguous()
            return torch.cat([piece.chunk(tp)[rank] for piece in whole.split(pieces)])

        queries, keys = width.H * d, width.H_kv * d
        self.qkv = part(queries + 2 * keys, D, (queries, keys, keys))
        self.project = part(D, queries, by_columns=True)
        self.gate_up = part(2 * F, D, (F, F))
        self.down = part(D, F, by_columns=True)
        self.norms = [torch.ones(D, dtype=dtype, device=device) for _ in range(2)]

    @property
    def weights(self) -> list[Any]:
        """All weights."""
        return [self.qkv, self.project, self.gate_up, self.down, *self.norms]

    def run(self, x: Any, turned: Turn, cache: Any = None) -> Any:
        """Returns the layer's result for x (B, N, D).

        ``cache`` are the keys and values of all S positions (B, S, 2, heads, d); the last one receives those of x.
        """
        functional = self.torch.nn.functional
        normed = functional.rms_norm(x, (self.width.D,), self.norms[0], EPSILON)
        heads = self._attention(functional, normed, turned, cache)
        x = x + self._summed(functional.linear(heads, self.project))
        normed = functional.rms_norm(x, (self.width.D,), self.norms[1], EPSILON)
        active = self.kernels.gate(functional.linear(normed, self.gate_up))
        return x + self._summed(functional.linear(active, self.down))

    def _attention(self, functional: Any, normed: Any, turned: Turn, cache: Any) -> Any:
        B, N, _ = normed.shape
        H, G, d = self.heads, self.groups, self.width.d
        flat = functional.linear(normed, self.qkv).view(B * N, H + 2 * G, d)
        rotated = self.kernels.rotate(flat[:, : H + G], *turned).view(B, N, H + G, d)
        q, k, v = rotated[:, :, :H], rotated[:, :, H:], flat.view(B, N, H + 2 * G, d)[:, :, H + G :]
        if cache is not None:
            cache[:, -1, 0].copy_(k[:, 0])
            cache[:, -1, 1].copy_(v[:, 0])
            k, v = cache[:, :, 0], cache[:, :, 1]
        q, k, v = (x.transpose(1, 2) for x in (q, k, v))
        if G < H and not self.shares_heads:
            k, v = (x.repeat_interleave(H // G, 1) for x in (k, v))
        more = {"enable_gqa": True} if G < H and self.shares_heads else {}
        out = functional.scaled_dot_product_attention(q, k, v, is_causal=cache is None, **more)
        return out.transpose(1, 2).reshape(B, N, H * d)

    def _summed(self, partial: Any) -> Any:
        if self.dist is not None:
            self.dist.all_reduce(partial)
        return partial
