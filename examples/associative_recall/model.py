"""A decoder-only Transformer, small enough to set its weights by hand.

Attention runs in stages, so that its pattern can be looked at: scores, causal mask, softmax, weighted sum.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import nn

Tensor = torch.Tensor


class Sizes(NamedTuple):
    """Layers, width, heads, and the inner width of a layer; 0 leaves out the inner products and all norms."""

    layers: int = 2
    width: int = 64
    heads: int = 2
    inner: int = 128


def hidden(length: int, device: torch.device | None = None) -> Tensor:
    """Returns the causal mask: row i is True where position i must not see, at every later position."""
    return torch.ones(length, length, dtype=torch.bool, device=device).triu(1)


class Attention(nn.Module):
    """Causal self-attention."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv, self.out = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width, bias=False)

    def split(self, x: Tensor) -> Tensor:
        """Returns queries, keys and values of all heads: (3, B, heads, N, d)."""
        B, N, _ = x.shape
        return self.qkv(x).view(B, N, 3, self.heads, -1).permute(2, 0, 3, 1, 4)

    def pattern(self, q: Tensor, k: Tensor) -> Tensor:
        """Returns the weights with which each position (row) attends to each position (column)."""
        scores = q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5
        return scores.masked_fill(hidden(q.shape[-2], q.device), float("-inf")).softmax(-1)

    def forward(self, x: Tensor) -> Tensor:
        """Returns the sum of values that each position gathers."""
        q, k, v = self.split(x)
        gathered = self.pattern(q, k) @ v
        return self.out(gathered.transpose(1, 2).reshape(x.shape))


class Layer(nn.Module):
    """Attention, then two products that treat each position alone. Both add to the residual stream."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        D = sizes.width
        self.attention = Attention(D, sizes.heads)
        self.norm = nn.LayerNorm(D) if sizes.inner else nn.Identity()
        self.inner = nn.Sequential(
            nn.LayerNorm(D), nn.Linear(D, sizes.inner), nn.GELU(), nn.Linear(sizes.inner, D)
        ) if sizes.inner else None  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        """Returns x with what both parts add."""
        x = x + self.attention(self.norm(x))
        return x if self.inner is None else x + self.inner(x)


class Recaller(nn.Module):
    """Embeddings of tokens and positions, layers, and the logits of the next token."""

    def __init__(self, tokens: int, length: int, sizes: Sizes) -> None:
        super().__init__()
        self.tokens, self.positions = nn.Embedding(tokens, sizes.width), nn.Embedding(length, sizes.width)
        self.layers = nn.ModuleList(Layer(sizes) for _ in range(sizes.layers))
        self.norm = nn.LayerNorm(sizes.width) if sizes.inner else nn.Identity()
        self.logits = nn.Linear(sizes.width, tokens, bias=False)

    def embedded(self, inputs: Tensor) -> Tensor:
        """Returns the residual stream before the first layer."""
        return self.tokens(inputs) + self.positions.weight[: inputs.shape[1]]

    def forward(self, inputs: Tensor) -> Tensor:
        """Returns the logits of the token after each position."""
        x = self.embedded(inputs)
        for layer in self.layers:
            x = layer(x)
        return self.logits(self.norm(x))

    def patterns(self, inputs: Tensor) -> list[Tensor]:
        """Returns the attention weights of each layer: (strings, heads, N, N)."""
        found, x = [], self.embedded(inputs)
        for layer in self.layers:
            q, k, _ = layer.attention.split(layer.norm(x))
            found.append(layer.attention.pattern(q, k))
            x = layer(x)
        return found
