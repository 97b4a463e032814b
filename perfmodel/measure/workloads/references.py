"""References in float64: arithmetic, exp and erf. No other function of a measured program is used, so that an error in
one cannot hide in its reference. Gradients are written out, never differentiated automatically.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

CHUNK = 1 << 24  # scores that are held at once


def softmax(scores: Any) -> Any:
    """The softmax of rows."""
    e = (scores - scores.amax(-1, keepdim=True)).exp()
    return e / e.sum(-1, keepdim=True)


class Normalised(NamedTuple):
    """Rows with mean 0 and variance 1, and the reciprocal of their standard deviation."""

    rows: Any
    scale: Any

    def back(self, dh: Any) -> Any:
        """The gradient of the input, from that of the rows."""
        centred = dh - dh.mean(-1, keepdim=True)
        return (centred - self.rows * (dh * self.rows).mean(-1, keepdim=True)) * self.scale


def normalised(x: Any, epsilon: float) -> Normalised:
    """Layer normalisation without gamma and beta."""
    centred = x - x.mean(-1, keepdim=True)
    scale = ((centred * centred).mean(-1, keepdim=True) + epsilon) ** -0.5
    return Normalised(centred * scale, scale)


def probabilities(torch: Any, q: Any, k: Any, rows: Any, first: int | None) -> Any:
    """The attention of some queries to all keys of one head. With a causal mask, query i sees the keys up to i +
    ``first``; None is no mask.
    """
    scores = q @ k.T * q.shape[-1] ** -0.5
    if first is not None:
        keys = torch.arange(k.shape[0], device=k.device)
        scores = scores.masked_fill(keys[None] > rows[:, None] + first, float("-inf"))
    return softmax(scores)


def _chunks(torch: Any, q: Any, k: Any) -> Iterator[Any]:
    """The numbers of the queries, some at a time."""
    size = max(1, CHUNK // k.shape[0])
    for start in range(0, q.shape[0], size):
        yield torch.arange(start, min(start + size, q.shape[0]), device=q.device)


def attention(torch: Any, q: Any, k: Any, v: Any, first: int | None) -> Any:
    """The attention of one head: q (N, d) over k and v (S, d)."""
    return torch.cat([probabilities(torch, q[rows], k, rows, first) @ v for rows in _chunks(torch, q, k)])


def attention_back(torch: Any, q: Any, k: Any, v: Any, dout: Any, first: int | None) -> tuple[Any, Any, Any]:
    """The gradients of q, k and v of one head: dp = dout vᵀ, ds = p (dp - Σ p dp), dq = ds k / √d, dk = dsᵀ q / √d."""
    scale = q.shape[-1] ** -0.5
    dq, dk, dv = torch.zeros_like(q), torch.zeros_like(k), torch.zeros_like(v)
    for rows in _chunks(torch, q, k):
        p, g = probabilities(torch, q[rows], k, rows, first), dout[rows]
        dp = g @ v.T
        ds = p * (dp - (p * dp).sum(-1, keepdim=True)) * scale
        dq[rows] = ds @ k
        dk += ds.T @ q[rows]
        dv += p.T @ g
    return dq, dk, dv


class Layer(NamedTuple):
    """A pre-norm layer of one sequence: x + project(attention(qkv(norm x))), then x + down(f(up(norm x))).

    ``heads`` are the numbers of query heads and of key heads; ``activation`` and ``slope`` are f and its gradient.
    """

    torch: Any
    heads: tuple[int, int]
    first: int | None
    epsilon: float
    activation: Any
    slope: Any

    def forward(self, x: Any, weights: Sequence[Any]) -> tuple[Any, tuple[Any, ...]]:
        """The output (N, D), and what the gradient needs."""
        qkv, project, up, down, g1, b1, g2, b2 = weights
        one = normalised(x, self.epsilon)
        q, k, v = self._split((one.rows * g1 + b1) @ qkv.T)
        mixed = self.torch.cat(
            [attention(self.torch, q[:, h], k[:, j], v[:, j], self.first) for h, j in self._pairs()], -1
        )
        middle = x + mixed @ project.T
        two = normalised(middle, self.epsilon)
        hidden = (two.rows * g2 + b2) @ up.T
        return middle + self.activation(self.torch, hidden) @ down.T, (one, q, k, v, two, hidden)

    def back(self, held: tuple[Any, ...], weights: Sequence[Any], dout: Any) -> Any:
        """The gradient of the input."""
        qkv, project, up, down, g1, _, g2, _ = weights
        one, q, k, v, two, hidden = held
        dhidden = self.slope(self.torch, hidden, dout @ down)
        dmiddle = dout + two.back(dhidden @ up * g2)
        dmixed = (dmiddle @ project).view(q.shape)
        dq, dk, dv = (self.torch.zeros_like(part) for part in (q, k, v))
        for h, j in self._pairs():
            dq[:, h], more_k, more_v = attention_back(self.torch, q[:, h], k[:, j], v[:, j], dmixed[:, h], self.first)
            dk[:, j] += more_k
            dv[:, j] += more_v
        drows = self.torch.cat([dq, dk, dv], 1).flatten(1)
        return dmiddle + one.back(drows @ qkv * g1)

    def _pairs(self) -> list[tuple[int, int]]:
        """Every query head with its key head."""
        H, H_kv = self.heads
        return [(h, h // (H // H_kv)) for h in range(H)]

    def _split(self, rows: Any) -> Any:
        H, H_kv = self.heads
        return rows.view(rows.shape[0], H + 2 * H_kv, -1).split((H, H_kv, H_kv), 1)
