"""An encoder-decoder Transformer as in Vaswani et al. 2017, with the norm before each part and the row functions by name.

With the default sizes it has 60.5 million parameters, 18 softmaxes and 32 LayerNorms. It has no dropout, so that the losses
of two runs differ by rounding alone.
"""

from __future__ import annotations

from math import log, sqrt
from typing import NamedTuple

import torch
from torch import nn
from torch.nn.functional import cross_entropy, relu

from examples.fused_training import rows

Tensor = torch.Tensor


class Sizes(NamedTuple):
    """Sizes of the model: vocabulary, width, heads, inner width, layers of encoder and of decoder each."""

    vocabulary: int = 32000
    width: int = 512
    heads: int = 8
    inner: int = 2048
    layers: int = 6


BASE = Sizes()


class Softmax(nn.Module):
    """The softmax of scaled and masked scores."""

    def __init__(self, way: str, head: int) -> None:
        super().__init__()
        self.way, self.scale = way, 1 / sqrt(head)

    def forward(self, scores: Tensor, mask: Tensor | None) -> Tensor:
        """Returns the probabilities of every query."""
        return rows.softmax(self.way, scores, mask, self.scale)


class Norm(nn.Module):
    """A LayerNorm."""

    def __init__(self, way: str, width: int) -> None:
        super().__init__()
        self.way = way
        self.gamma, self.beta = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        """Returns the normalised rows."""
        return rows.layer_norm(self.way, x, self.gamma, self.beta)


class Attention(nn.Module):
    """Attention of x over y by separate stages: its scores are stored, as the row functions are the subject."""

    def __init__(self, way: str, sizes: Sizes) -> None:
        super().__init__()
        self.heads, width = sizes.heads, sizes.width
        self.query, self.keys_values = nn.Linear(width, width), nn.Linear(width, 2 * width)
        self.softmax, self.out = Softmax(way, width // sizes.heads), nn.Linear(width, width)

    def forward(self, x: Tensor, y: Tensor, mask: Tensor | None = None) -> Tensor:
        """Returns one vector for each position of x."""
        B, N, D = x.shape
        q = self.query(x).view(B, N, self.heads, -1).transpose(1, 2)
        k, v = self.keys_values(y).view(B, y.shape[1], 2, self.heads, -1).permute(2, 0, 3, 1, 4)
        probs = self.softmax(q @ k.transpose(-2, -1), mask)
        return self.out((probs @ v).transpose(1, 2).reshape(B, N, D))


class Inner(nn.Module):
    """The two products of each layer that treat every position alone."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(sizes.width, sizes.inner), nn.Linear(sizes.inner, sizes.width)

    def forward(self, x: Tensor) -> Tensor:
        """Returns the inner product's output."""
        return self.down(relu(self.up(x)))


class Layer(nn.Module):
    """A layer of the encoder, or of the decoder if ``crossed``."""

    def __init__(self, way: str, sizes: Sizes, *, crossed: bool) -> None:
        super().__init__()
        self.norm, self.attention = Norm(way, sizes.width), Attention(way, sizes)
        self.crossed = crossed
        if crossed:
            self.cross_norm, self.cross = Norm(way, sizes.width), Attention(way, sizes)
        self.inner_norm, self.inner = Norm(way, sizes.width), Inner(sizes)

    def forward(self, x: Tensor, memory: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        """Returns x with the output of each part added."""
        y = self.norm(x)
        x = x + self.attention(y, y, mask)
        if memory is not None:
            x = x + self.cross(self.cross_norm(x), memory)
        return x + self.inner(self.inner_norm(x))


class Translator(nn.Module):
    """The whole model. The embedding is also the matrix of the logits."""

    def __init__(self, way: str, sizes: Sizes = BASE, longest: int = 512) -> None:
        super().__init__()
        self.embedding = nn.Embedding(sizes.vocabulary, sizes.width)
        self.encoder = nn.ModuleList(Layer(way, sizes, crossed=False) for _ in range(sizes.layers))
        self.decoder = nn.ModuleList(Layer(way, sizes, crossed=True) for _ in range(sizes.layers))
        self.encoder_norm, self.decoder_norm = Norm(way, sizes.width), Norm(way, sizes.width)
        self.register_buffer("positions", sinusoids(longest, sizes.width), persistent=False)
        self.register_buffer("future", torch.full((longest, longest), float("-inf")).triu(1), persistent=False)
        nn.init.normal_(self.embedding.weight, std=0.02)

    def embedded(self, tokens: Tensor) -> Tensor:
        """Returns the vectors of tokens, with their positions added."""
        width = self.embedding.embedding_dim
        return self.embedding(tokens) * sqrt(width) + self.positions[: tokens.shape[1]]

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        """Returns the logits of the token after each token of the target."""
        memory = self.embedded(source)
        for layer in self.encoder:
            memory = layer(memory)
        memory = self.encoder_norm(memory)
        x, N = self.embedded(target), target.shape[1]
        hidden = self.future[:N, :N].contiguous()
        for layer in self.decoder:
            x = layer(x, memory, hidden)
        return self.decoder_norm(x) @ self.embedding.weight.T

    def loss(self, source: Tensor, target: Tensor, wanted: Tensor) -> Tensor:
        """Returns the mean cross-entropy over all positions."""
        logits = self(source, target)
        return cross_entropy(logits.view(-1, logits.shape[-1]).float(), wanted.reshape(-1))


def sinusoids(longest: int, width: int) -> Tensor:
    """Returns one vector for each position: sines and cosines of geometric wavelengths."""
    at = torch.arange(longest)[:, None] * torch.exp(torch.arange(0, width, 2) * (-log(10000.0) / width))
    return torch.stack((at.sin(), at.cos()), -1).view(longest, width)
