"""Reference loops: every operation in scalar arithmetic, one multiplication at a time.

The loops contain no counts. The machine that runs them counts additions, multiplications, reads and writes. Each
algorithm takes its arrays from the machine under the names of the operation's tensors.
"""

from __future__ import annotations

import math

from machine import Number


def dot(machine, pairs):
    """Sum of products, accumulated from zero."""
    total = machine.zero()
    for a, b in pairs:
        total = total + a * b
    return total


# --- products


def matmul(m, *, m_, k, n, batch=1):
    a, b, c = m.input("a", batch, m_, k), m.input("b", batch, k, n), m.output("c", batch, m_, n)
    for z, i, j in c.indices():
        c[z, i, j] = dot(m, ((a[z, i, p], b[z, p, j]) for p in range(k)))


def gemm(m, *, m_, k, n):
    a, b, c = m.input("a", m_, k), m.input("b", k, n), m.input("c", m_, n)
    for i, j in c.indices():
        total = c[i, j]
        for p in range(k):
            total = total + a[i, p] * b[p, j]
        c[i, j] = total


def tiled_matmul(m, *, m_, k, n, tile_m, tile_n, tile_k, M):
    """No part of A or B stays on chip between output tiles. M only limits the size of the slices."""
    a, b, c = m.input("a", m_, k), m.input("b", k, n), m.output("c", m_, n)
    for i0 in range(0, m_, tile_m):
        for j0 in range(0, n, tile_n):
            m.forget(a, b)
            sums = {(i, j): m.zero() for i in range(i0, min(i0 + tile_m, m_)) for j in range(j0, min(j0 + tile_n, n))}
            for p0 in range(0, k, tile_k):
                for p in range(p0, min(p0 + tile_k, k)):
                    sums = {(i, j): total + a[i, p] * b[p, j] for (i, j), total in sums.items()}
            for place, total in sums.items():
                c[place] = total


def linear(m, *, B, N, D_in, D_out):
    _linear(m, m.input("x", B, N, D_in), m.input("w", D_in, D_out), m.output("y", B, N, D_out))


def linear_bias(m, *, B, N, D_in, D_out):
    x, w, b, y = m.input("x", B, N, D_in), m.input("w", D_in, D_out), m.input("b", D_out), m.output("y", B, N, D_out)
    _linear(m, x, w, y, b)


def _linear(m, x, w, y, bias=None):
    for z, t, o in y.indices():
        total = dot(m, ((x[z, t, i], w[i, o]) for i in range(w.shape[0])))
        y[z, t, o] = total if bias is None else total + bias[o]


def linear_input_gradient(m, *, B, N, D_in, D_out):
    dy, w, dx = m.input("dy", B, N, D_out), m.input("w", D_in, D_out), m.output("dx", B, N, D_in)
    for z, t, i in dx.indices():
        dx[z, t, i] = dot(m, ((dy[z, t, o], w[i, o]) for o in range(D_out)))


def linear_weight_gradient(m, *, B, N, D_in, D_out):
    x, dy, dw = m.input("x", B, N, D_in), m.input("dy", B, N, D_out), m.output("dw", D_in, D_out)
    for i, o in dw.indices():
        dw[i, o] = dot(m, ((x[z, t, i], dy[z, t, o]) for z in range(B) for t in range(N)))


def bias_gradient(m, *, B, N, D_out):
    dy, db = m.input("dy", B, N, D_out), m.output("db", D_out)
    for o in range(D_out):
        total = m.zero()
        for z in range(B):
            for t in range(N):
                total = total + dy[z, t, o]
        db[o] = total


def qkv(m, *, B, N, D, H, H_kv, d):
    x = m.input("x", B, N, D)
    for name, heads in (("q", H), ("k", H_kv), ("v", H_kv)):
        w, y = m.input(f"w_{name}", D, heads, d), m.output(name, B, N, heads, d)
        if name != "q":
            m.next_kernel()
        for z, t, h, e in y.indices():
            y[z, t, h, e] = dot(m, ((x[z, t, i], w[i, h, e]) for i in range(D)))


def add_bias(m, *, B, N, D):
    x, b, y = m.input("x", B, N, D), m.input("b", D), m.output("y", B, N, D)
    for z, t, e in y.indices():
        y[z, t, e] = x[z, t, e] + b[e]


def output_projection(m, *, B, N, D, H, d):
    linear(m, B=B, N=N, D_in=H * d, D_out=D)


def logits(m, *, B, N, D, V):
    linear(m, B=B, N=N, D_in=D, D_out=V)


def mlp(m, *, B, N, D, F):
    x, up, down = m.input("x", B, N, D), m.input("w_up", D, F), m.input("w_down", F, D)
    hidden, active, y = m.between("hidden", B, N, F), m.between("active", B, N, F), m.output("y", B, N, D)
    _linear(m, x, up, hidden)
    m.next_kernel()
    for place in hidden.indices():
        (active[place],) = gelu(hidden[place])
    m.next_kernel()
    _linear(m, active, down, y)


def gated_mlp(m, *, B, N, D, F):
    x, both, down = m.input("x", B, N, D), m.input("w_gate_up", D, 2, F), m.input("w_down", F, D)
    gate, up, active = (m.between(name, B, N, F) for name in ("gate", "up", "active"))
    y = m.output("y", B, N, D)
    for half, result in enumerate((gate, up)):
        for z, t, f in result.indices():
            result[z, t, f] = dot(m, ((x[z, t, i], both[i, half, f]) for i in range(D)))
    m.next_kernel()
    for place in gate.indices():
        (active[place],) = silu_gate(gate[place], up[place])
    m.next_kernel()
    _linear(m, active, down, y)


# --- attention


def sees(i, j, N, S, causal, W):
    """Whether query i sees key j. The last query is aligned to the last key."""
    own = S - N + i
    return not causal or (j <= own and (W is None or own - j < W))


class Heads:
    """Which keys a query sees, and which heads share a key head."""

    def __init__(self, B, H, H_kv, N, S, causal, W):
        self.queries = [(z, h, i) for z in range(B) for h in range(H) for i in range(N)]
        self.keys = [(z, g, j) for z in range(B) for g in range(H_kv) for j in range(S)]
        self.seen = {i: [j for j in range(S) if sees(i, j, N, S, causal, W)] for i in range(N)}
        self.seeing = {j: [i for i in range(N) if j in self.seen[i]] for j in range(S)}
        self.H, self.share = H, H // H_kv

    def group(self, g):
        """The query heads that share a key head."""
        return [h for h in range(self.H) if h // self.share == g]


def score(m, q, k, query, key, share, d):
    (z, h, i), j = query, key
    return dot(m, ((q[z, h, i, e], k[z, h // share, j, e]) for e in range(d)))


def touch(*arrays):
    """Stores and reads a whole square, including masked elements."""
    for array in arrays:
        for place in array.indices():
            array[place]


def softmax_row(m, values):
    """Maximum, subtraction, exponential, sum, division."""
    largest = m.lowest()
    for value in values:
        largest = largest.maximum(value)
    powers = [(value - largest).exp() for value in values]
    total = m.zero()
    for power in powers:
        total = total + power
    return [power / total for power in powers]


def scores(m, *, B, H, H_kv, N, S, d, causal=0, W=None):
    q, k, square = m.input("q", B, H, N, d), m.input("k", B, H_kv, S, d), m.output("scores", B, H, N, S)
    heads = Heads(B, H, H_kv, N, S, causal, W)
    for z, h, i in heads.queries:
        for j in range(S):
            if j in heads.seen[i]:
                square[z, h, i, j] = score(m, q, k, (z, h, i), j, heads.share, d) * d**-0.5
            else:
                square[z, h, i, j] = -math.inf


def scores_backward(m, *, B, H, H_kv, N, S, d, causal=0, W=None):
    dscores, q, k = m.input("dscores", B, H, N, S), m.input("q", B, H, N, d), m.input("k", B, H_kv, S, d)
    heads = Heads(B, H, H_kv, N, S, causal, W)
    touch(dscores)
    scaled = m.scratch(B, H, N, S)
    _scaled(heads, dscores, scaled, d)
    _dq(m, heads, scaled, k, m.output("dq", B, H, N, d))
    m.next_kernel()
    touch(dscores)
    _scaled(heads, dscores, scaled, d)
    _dk(m, heads, scaled, q, m.output("dk", B, H_kv, S, d))


def _scaled(heads, dscores, scaled, d):
    """The scaling that the kernel of a product applies to each gradient element that it has read."""
    for z, h, i in heads.queries:
        for j in heads.seen[i]:
            scaled[z, h, i, j] = dscores[z, h, i, j] * d**-0.5


def weighted_values(m, *, B, H, H_kv, N, S, d, causal=0, W=None):
    probs, v, out = m.input("probs", B, H, N, S), m.input("v", B, H_kv, S, d), m.output("out", B, H, N, d)
    heads = Heads(B, H, H_kv, N, S, causal, W)
    touch(probs)
    _output(m, heads, probs, v, out)


def _output(m, heads, probs, v, out):
    for z, h, i in heads.queries:
        for e in range(out.shape[-1]):
            out[z, h, i, e] = dot(m, ((probs[z, h, i, j], v[z, h // heads.share, j, e]) for j in heads.seen[i]))


def weighted_values_backward(m, *, B, H, H_kv, N, S, d, causal=0, W=None):
    dout, probs, v = m.input("dout", B, H, N, d), m.input("probs", B, H, N, S), m.input("v", B, H_kv, S, d)
    heads = Heads(B, H, H_kv, N, S, causal, W)
    _dprobs(m, heads, dout, v, m.output("dprobs", B, H, N, S))
    m.next_kernel()
    touch(probs)
    _dv(m, heads, probs, dout, m.output("dv", B, H_kv, S, d))


def _dprobs(m, heads, dout, v, dprobs):
    for z, h, i in heads.queries:
        for j in range(dprobs.shape[-1]):
            pairs = ((dout[z, h, i, e], v[z, h // heads.share, j, e]) for e in range(v.shape[-1]))
            dprobs[z, h, i, j] = dot(m, pairs) if j in heads.seen[i] else 0.0


def _dv(m, heads, probs, dout, dv):
    for z, g, j in heads.keys:
        for e in range(dv.shape[-1]):
            rows = ((z, h, i) for h in heads.group(g) for i in heads.seeing[j])
            dv[z, g, j, e] = dot(m, ((probs[*row, j], dout[*row, e]) for row in rows))


def _dq(m, heads, dscores, k, dq):
    for z, h, i in heads.queries:
        for e in range(dq.shape[-1]):
            dq[z, h, i, e] = dot(m, ((dscores[z, h, i, j], k[z, h // heads.share, j, e]) for j in heads.seen[i]))


def _dk(m, heads, dscores, q, dk):
    for z, g, j in heads.keys:
        for e in range(dk.shape[-1]):
            rows = ((z, h, i) for h in heads.group(g) for i in heads.seeing[j])
            dk[z, g, j, e] = dot(m, ((dscores[*row, j], q[*row, e]) for row in rows))


def attention(m, *, B, H, H_kv, N, S, d, causal=0, W=None):
    q, (k, v) = m.input("q", B, H, N, d), _keys(m, B, H_kv, S, d)
    _attend(m, Heads(B, H, H_kv, N, S, causal, W), q, k, v)


def mla_attention(m, *, B, H, N, S, d, d_r, d_v, r, causal=0, W=None):
    """Expanded form. The latent of rank r is stored only."""
    q, k, v = m.input("q", B, H, N, d + d_r), m.input("k", B, H, S, d + d_r), m.input("v", B, H, S, d_v)
    _attend(m, Heads(B, H, H, N, S, causal, W), q, k, v)


def mla_cached_attention(m, *, B, H, N, S, d, d_r, d_v, causal=0, W=None):
    """Expanded form, with a cache of expanded keys and values."""
    mla_attention(m, B=B, H=H, N=N, S=S, d=d, d_r=d_r, d_v=d_v, r=1, causal=causal, W=W)


def mla_latent_attention(m, *, B, H, N, S, r, d_r, causal=0, W=None):
    """One key for all heads: the latent followed by a rotary part. The latent is also the value."""
    q, latent, rotary = m.input("q", B, H, N, r + d_r), m.input("latent", B, 1, S, r), m.input("rotary", B, 1, S, d_r)

    class Joined:
        def __getitem__(self, place):
            z, g, j, e = place
            return latent[z, g, j, e] if e < r else rotary[z, g, j, e - r]

    _attend(m, Heads(B, H, 1, N, S, causal, W), q, Joined(), latent)


def _attend(m, heads, q, k, v):
    (B, H, N, d), S = q.shape, v.shape[2]
    square, probs = m.between("scores", B, H, N, S), m.between("probs", B, H, N, S)
    out = m.output("out", B, H, N, v.shape[3])
    for z, h, i in heads.queries:
        for j in range(S):
            hidden = j not in heads.seen[i]
            square[z, h, i, j] = -math.inf if hidden else score(m, q, k, (z, h, i), j, heads.share, d) * d**-0.5
    m.next_kernel()
    touch(square)
    for z, h, i in heads.queries:
        row = softmax_row(m, [square[z, h, i, j] for j in heads.seen[i]])
        found = dict(zip(heads.seen[i], row, strict=True))
        for j in range(S):
            probs[z, h, i, j] = found.get(j, 0.0)
    m.next_kernel()
    touch(probs)
    _output(m, heads, probs, v, out)


def multi_head_attention(m, *, B, N, D, H, causal=0, W=None):
    attention(m, B=B, H=H, H_kv=H, N=N, S=N, d=D // H, causal=causal, W=W)


def cross_attention(m, *, B, N, S, D, H):
    attention(m, B=B, H=H, H_kv=H, N=N, S=S, d=D // H)


def attention_decode(m, *, B, H, H_kv, S, d):
    attention(m, B=B, H=H, H_kv=H_kv, N=1, S=S, d=d)


def attention_backward(m, *, B, H, H_kv, N, S, d, causal=0, W=None):
    """Backward pass from stored probabilities."""
    _from_probabilities(m, Heads(B, H, H_kv, N, S, causal, W), (B, H, N, d), *_keys(m, B, H_kv, S, d))


def mla_attention_backward(m, *, B, H, N, S, d, d_r, d_v, causal=0, W=None):
    k, v = m.input("k", B, H, S, d + d_r), m.input("v", B, H, S, d_v)
    _from_probabilities(m, Heads(B, H, H, N, S, causal, W), (B, H, N, d + d_r), k, v)


def _from_probabilities(m, heads, shape, k, v):
    """Both products with the gradient of the scores scale the elements that they read."""
    (B, H, N, d), S = shape, v.shape[2]
    q, dout = m.input("q", *shape), m.input("dout", B, H, N, v.shape[3])
    probs = _stored_probabilities(m, heads, q, k, (B, H, N, S))
    dprobs, dscores = m.between("dprobs", B, H, N, S), m.between("dscores", B, H, N, S)
    touch(probs)
    _dv(m, heads, probs, dout, m.output("dv", *v.shape))
    m.next_kernel()
    _dprobs(m, heads, dout, v, dprobs)
    m.next_kernel()
    touch(probs, dprobs)
    for z, h, i in heads.queries:
        total = dot(m, ((probs[z, h, i, j], dprobs[z, h, i, j]) for j in heads.seen[i]))
        for j in range(S):
            shown = j in heads.seen[i]
            dscores[z, h, i, j] = probs[z, h, i, j] * (dprobs[z, h, i, j] - total) if shown else 0.0
    scaled = m.scratch(B, H, N, S)
    m.next_kernel()
    touch(dscores)
    _scaled(heads, dscores, scaled, d)
    _dq(m, heads, scaled, k, m.output("dq", *q.shape))
    m.next_kernel()
    touch(dscores)
    _scaled(heads, dscores, scaled, d)
    _dk(m, heads, scaled, q, m.output("dk", *k.shape))


def _keys(m, B, H_kv, S, d):
    return m.input("k", B, H_kv, S, d), m.input("v", B, H_kv, S, d)


def _stored_probabilities(m, heads, q, k, shape):
    """The probabilities that the forward pass stored."""
    probs = m.input("probs", *shape)
    for z, h, i in heads.queries:
        row = _powers(heads, q, k, z, h, i)
        for j in range(shape[-1]):
            probs.values[z, h, i, j] = row[j] / sum(row.values()) if j in row else 0.0
    return probs


def _powers(heads, q, k, z, h, i):
    """exp(q k / sqrt(d)) of the keys that a query sees, in plain floats."""
    d = q.shape[-1]
    return {
        j: math.exp(sum(q.values[z, h, i, e] * k.values[z, h // heads.share, j, e] for e in range(d)) / math.sqrt(d))
        for j in heads.seen[i]
    }


def _stored_statistics(heads, q, k, v, out, logsumexp):
    for z, h, i in heads.queries:
        row = _powers(heads, q, k, z, h, i)
        logsumexp.values[z, h, i] = math.log(sum(row.values()))
        for e in range(v.shape[-1]):
            weighted = sum(power * v.values[z, h // heads.share, j, e] for j, power in row.items())
            out.values[z, h, i, e] = weighted / sum(row.values())


def attention_backward_recompute(m, *, B, H, H_kv, N, S, d, causal=0, W=None):
    _recomputing(m, Heads(B, H, H_kv, N, S, causal, W), (B, H, N, d), *_keys(m, B, H_kv, S, d))


def mla_attention_backward_recompute(m, *, B, H, N, S, d, d_r, d_v, causal=0, W=None):
    k, v = m.input("k", B, H, S, d + d_r), m.input("v", B, H, S, d_v)
    _recomputing(m, Heads(B, H, H, N, S, causal, W), (B, H, N, d + d_r), k, v)


def _recomputing(m, heads, shape, k, v):
    """One kernel that recomputes the probabilities from the scores and the logsumexp of each row."""
    (B, H, N, d), S, width = shape, v.shape[2], v.shape[3]
    q, logsumexp = m.input("q", *shape), m.input("logsumexp", B, H, N, item=4)
    out, dout = m.input("out", B, H, N, width), m.input("dout", B, H, N, width)
    _stored_statistics(heads, q, k, v, out, logsumexp)
    dprobs, probs, dscores = (m.scratch(B, H, N, S) for _ in range(3))
    sums = {row: dot(m, ((dout[*row, e], out[*row, e]) for e in range(width))) for row in heads.queries}
    for z, h, i in heads.queries:
        for j in heads.seen[i]:
            again = score(m, q, k, (z, h, i), j, heads.share, d)
            probs[z, h, i, j] = (again * d**-0.5 - logsumexp[z, h, i]).exp()
    _dv(m, heads, probs, dout, m.output("dv", *v.shape))
    _dprobs(m, heads, dout, v, dprobs)
    for z, h, i in heads.queries:
        for j in heads.seen[i]:
            gradient = probs[z, h, i, j] * (dprobs[z, h, i, j] - sums[z, h, i])
            dscores[z, h, i, j] = gradient * d**-0.5
    _dq(m, heads, dscores, k, m.output("dq", *q.shape))
    _dk(m, heads, dscores, q, m.output("dk", *k.shape))


def flash_attention(m, *, B, H, H_kv, N, S, d, M, causal=0, W=None):
    """A tile of queries stays on chip while the keys that it sees are loaded, r at a time."""
    q, k, v, out = m.input("q", B, H, N, d), *_keys(m, B, H_kv, S, d), m.output("out", B, H, N, d)
    heads, r = Heads(B, H, H_kv, N, S, causal, W), rows_on_chip(M, d)
    for z in range(B):
        for h in range(H):
            for first in range(0, N, r):
                tile = range(first, min(first + r, N))
                m.forget(k, v)
                state = {i: (m.lowest(), m.zero(), [m.zero()] * d) for i in tile}
                for i in tile:
                    for start in range(0, len(heads.seen[i]), r):
                        keys = heads.seen[i][start : start + r]
                        state[i] = _online(m, (q, k, v), (z, h, i), keys, state[i], heads.share)
                for i, (_, total, row) in state.items():
                    for e in range(d):
                        out[z, h, i, e] = row[e] / total


def _online(m, arrays, query, keys, state, share):
    """Adds one tile of keys to the running maximum, sum and output of a row. The sum is rescaled with the d outputs."""
    (q, k, v), (z, h, _), (largest, total, row) = arrays, query, state
    d = q.shape[-1]
    values = [score(m, q, k, query, j, share, d) * d**-0.5 for j in keys]
    earlier = largest.value
    for value in values:
        largest = largest.maximum(value)
    rescale = math.exp(earlier - largest.value)
    total = Number(m, total.value * rescale)
    row = [element * rescale for element in row]
    for j, value in zip(keys, values, strict=True):
        power = (value - largest).exp()
        total = total + power
        row = [element + power * v[z, h // share, j, e] for e, element in enumerate(row)]
    return largest, total, row


def rows_on_chip(M, d):
    """Number of rows of q, k, v and the output, of d elements of 2 bytes, that fit in on-chip memory."""
    rows = 0
    while (rows + 1) * (d + d + d + d) * 2 <= M:
        rows += 1
    return rows


def flash_attention_backward(m, *, B, H, H_kv, N, S, d, M, causal=0, W=None):
    """A tile of keys and its gradients stay on chip while the queries that see it are loaded. dq is accumulated in
    memory.

    Keys that a window masks for all queries are not read.
    """
    out, dout, q = (m.input(name, B, H, N, d) for name in ("out", "dout", "q"))
    k, v = _keys(m, B, H_kv, S, d)
    logsumexp, sums = m.input("logsumexp", B, H, N, item=4), m.output("row sums", B, H, N, item=4)
    dq, dk, dv = m.output("dq", B, H, N, d, item=4), m.output("dk", B, H_kv, S, d), m.output("dv", B, H_kv, S, d)
    heads, r = Heads(B, H, H_kv, N, S, causal, W), rows_on_chip(M, d)
    _stored_statistics(heads, q, k, v, out, logsumexp)
    for row in heads.queries:
        sums[row] = dot(m, ((dout[*row, e], out[*row, e]) for e in range(d)))
    m.forget(dout, sums, dq)
    for z in range(B):
        for g in range(H_kv):
            for first in range(0, S, r):
                tile = [j for j in range(first, min(first + r, S)) if heads.seeing[j]]
                gradients = {(j, e): (m.zero(), m.zero()) for j in tile for e in range(d)}
                touch_rows(k, z, g, tile)
                touch_rows(v, z, g, tile)
                for h in heads.group(g):
                    for i in sorted({i for j in tile for i in heads.seeing[j]}):
                        m.forget(q, dout, logsumexp, sums, dq)
                        keys = [j for j in tile if j in heads.seen[i]]
                        _visit(m, m.arrays, (z, h, i), g, keys, gradients)
                for (j, e), (key, value) in gradients.items():
                    dk[z, g, j, e], dv[z, g, j, e] = key, value


def touch_rows(array, z, g, rows):
    for j in rows:
        for e in range(array.shape[-1]):
            array[z, g, j, e]


def _visit(m, arrays, query, g, keys, gradients):
    """One query and one tile of keys: five products."""
    names = ("q", "k", "v", "dout", "dq", "logsumexp", "row sums")
    q, k, v, dout, dq, logsumexp, sums = (arrays[name] for name in names)
    z, d = query[0], q.shape[-1]
    row = [dq[*query, e] for e in range(d)]
    for j in keys:
        again = dot(m, ((q[*query, e], k[z, g, j, e]) for e in range(d)))
        prob = (again * d**-0.5 - logsumexp[query]).exp()
        dprob = dot(m, ((dout[*query, e], v[z, g, j, e]) for e in range(d)))
        gradient = prob * (dprob - sums[query]) * d**-0.5
        row = [element + gradient * k[z, g, j, e] for e, element in enumerate(row)]
        for e in range(d):
            key, value = gradients[j, e]
            gradients[j, e] = key + gradient * q[*query, e], value + prob * dout[*query, e]
    for e in range(d):
        dq[*query, e] = row[e]


# --- rows


def softmax(m, *, rows, cols):
    x, y = m.input("x", rows, cols), m.output("y", rows, cols)
    for i in range(rows):
        for j, prob in enumerate(softmax_row(m, [x[i, j] for j in range(cols)])):
            y[i, j] = prob


def softmax_backward(m, *, rows, cols):
    y, dy, dx = m.input("y", rows, cols), m.input("dy", rows, cols), m.output("dx", rows, cols)
    for i in range(rows):
        total = dot(m, ((y[i, j], dy[i, j]) for j in range(cols)))
        for j in range(cols):
            dx[i, j] = y[i, j] * (dy[i, j] - total)


FACTOR = 0.7  # by which attention scales its scores


def masked_softmax(m, *, B, H, N, S):
    """Three kernels, or one that keeps the scaled and the masked scores on chip."""
    shape = (B, H, N, S)
    scores_, mask = m.input("scores", *shape), m.input("mask", N, S)
    scaled, masked, probs = m.between("scaled", *shape), m.between("masked", *shape), m.output("probs", *shape)
    for place in scaled.indices():
        scaled[place] = scores_[place] * FACTOR
    m.next_kernel()
    for place in masked.indices():
        masked[place] = scaled[place] + mask[place[2:]]
    m.next_kernel()
    for z, h, i in ((z, h, i) for z in range(B) for h in range(H) for i in range(N)):
        for j, prob in enumerate(softmax_row(m, [masked[z, h, i, j] for j in range(S)])):
            probs[z, h, i, j] = prob


def masked_softmax_backward(m, *, B, H, N, S):
    shape = (B, H, N, S)
    probs, dprobs = m.input("probs", *shape), m.input("dprobs", *shape)
    dscaled, dscores = m.between("dscaled", *shape), m.output("dscores", *shape)
    for z, h, i in ((z, h, i) for z in range(B) for h in range(H) for i in range(N)):
        total = dot(m, ((probs[z, h, i, j], dprobs[z, h, i, j]) for j in range(S)))
        for j in range(S):
            dscaled[z, h, i, j] = probs[z, h, i, j] * (dprobs[z, h, i, j] - total)
    m.next_kernel()
    for place in dscores.indices():
        dscores[place] = dscaled[place] * FACTOR


EPSILON = 1e-5


def layernorm(m, *, rows, cols):
    """Both sums in one pass. The variance is the mean of squares minus the square of the mean."""
    x, y = m.input("x", rows, cols), m.output("y", rows, cols)
    gamma, beta = m.input("gamma", cols), m.input("beta", cols)
    for i in range(rows):
        total, squares = m.zero(), m.zero()
        for j in range(cols):
            total, squares = total + x[i, j], squares + x[i, j] * x[i, j]
        mean = total * (1 / cols)
        rstd = (squares * (1 / cols) - mean * mean + EPSILON).rsqrt()
        for j in range(cols):
            y[i, j] = (x[i, j] - mean) * rstd * gamma[j] + beta[j]


def layernorm_backward(m, *, rows, cols):
    x, dy, dx = m.input("x", rows, cols), m.input("dy", rows, cols), m.output("dx", rows, cols)
    gamma, dgamma, dbeta = m.input("gamma", cols), m.output("dgamma", cols), m.output("dbeta", cols)
    mean, rstd = m.input("mean", rows, item=4), m.input("rstd", rows, item=4)
    normal = m.scratch(rows, cols)
    for i in range(rows):
        row = [x.values[i, j] for j in range(cols)]
        mean.values[i,] = sum(row) / cols
        rstd.values[i,] = (sum((value - mean.values[i,]) ** 2 for value in row) / cols + EPSILON) ** -0.5
        gradients = []
        first = second = m.zero()
        for j in range(cols):
            normal[i, j] = (x[i, j] - mean[i]) * rstd[i]
            gradients.append(dy[i, j] * gamma[j])
            first, second = first + gradients[j], second + gradients[j] * normal[i, j]
        first, second = first * (1 / cols), second * (1 / cols)
        for j in range(cols):
            dx[i, j] = (gradients[j] - first - normal[i, j] * second) * rstd[i]
    m.next_kernel()
    if m.apart:
        for i, j in x.indices():
            normal[i, j] = (x[i, j] - mean[i]) * rstd[i]
    for j in range(cols):
        dgamma[j] = dot(m, ((dy[i, j], normal[i, j]) for i in range(rows)))
        total = m.zero()
        for i in range(rows):
            total = total + dy[i, j]
        dbeta[j] = total


def rmsnorm(m, *, rows, cols):
    x, y, gamma = m.input("x", rows, cols), m.output("y", rows, cols), m.input("gamma", cols)
    for i in range(rows):
        squares = dot(m, ((x[i, j], x[i, j]) for j in range(cols)))
        rstd = (squares * (1 / cols) + EPSILON).rsqrt()
        for j in range(cols):
            y[i, j] = x[i, j] * rstd * gamma[j]


def layernorm_unbiased(m, *, rows, cols):
    x, y, gamma = m.input("x", rows, cols), m.output("y", rows, cols), m.input("gamma", cols)
    for i in range(rows):
        mean, rstd = moments(m, x, i, cols)
        for j in range(cols):
            y[i, j] = (x[i, j] - mean) * rstd * gamma[j]


def layernorm_plain(m, *, rows, cols):
    x, y = m.input("x", rows, cols), m.output("y", rows, cols)
    for i in range(rows):
        mean, rstd = moments(m, x, i, cols)
        for j in range(cols):
            y[i, j] = (x[i, j] - mean) * rstd


def moments(m, x, i, cols):
    """Mean of a row and reciprocal of its standard deviation, in one pass."""
    total, squares = m.zero(), m.zero()
    for j in range(cols):
        total, squares = total + x[i, j], squares + x[i, j] * x[i, j]
    mean = total * (1 / cols)
    return mean, (squares * (1 / cols) - mean * mean + EPSILON).rsqrt()


def statistics(x, mean, rstd, cols):
    """Fills in the row statistics of the forward pass."""
    for (i,) in mean.indices():
        row = [x.values[i, j] for j in range(cols)]
        mean.values[i,] = sum(row) / cols
        rstd.values[i,] = (sum((value - mean.values[i,]) ** 2 for value in row) / cols + EPSILON) ** -0.5


def layernorm_unbiased_backward(m, *, rows, cols):
    x, dy, dx = m.input("x", rows, cols), m.input("dy", rows, cols), m.output("dx", rows, cols)
    gamma, dgamma = m.input("gamma", cols), m.output("dgamma", cols)
    mean, rstd = m.input("mean", rows, item=4), m.input("rstd", rows, item=4)
    statistics(x, mean, rstd, cols)
    normal = m.scratch(rows, cols)
    for i in range(rows):
        gradients = []
        first = second = m.zero()
        for j in range(cols):
            normal[i, j] = (x[i, j] - mean[i]) * rstd[i]
            gradients.append(dy[i, j] * gamma[j])
            first, second = first + gradients[j], second + gradients[j] * normal[i, j]
        first, second = first * (1 / cols), second * (1 / cols)
        for j in range(cols):
            dx[i, j] = (gradients[j] - first - normal[i, j] * second) * rstd[i]
    for j in range(cols):
        dgamma[j] = dot(m, ((dy[i, j], normal[i, j]) for i in range(rows)))


def layernorm_plain_backward(m, *, rows, cols):
    x, dy, dx = m.input("x", rows, cols), m.input("dy", rows, cols), m.output("dx", rows, cols)
    mean, rstd = m.input("mean", rows, item=4), m.input("rstd", rows, item=4)
    statistics(x, mean, rstd, cols)
    for i in range(rows):
        first = second = m.zero()
        normal = []
        for j in range(cols):
            normal.append((x[i, j] - mean[i]) * rstd[i])
            first, second = first + dy[i, j], second + dy[i, j] * normal[j]
        first, second = first * (1 / cols), second * (1 / cols)
        for j in range(cols):
            dx[i, j] = (dy[i, j] - first - normal[j] * second) * rstd[i]


def rmsnorm_plain(m, *, rows, cols):
    x, y = m.input("x", rows, cols), m.output("y", rows, cols)
    for i in range(rows):
        rstd = (dot(m, ((x[i, j], x[i, j]) for j in range(cols))) * (1 / cols) + EPSILON).rsqrt()
        for j in range(cols):
            y[i, j] = x[i, j] * rstd


def rmsnorm_plain_backward(m, *, rows, cols):
    x, dy, dx = m.input("x", rows, cols), m.input("dy", rows, cols), m.output("dx", rows, cols)
    rstd = m.input("rstd", rows, item=4)
    for i in range(rows):
        rstd.values[i,] = (sum(x.values[i, j] ** 2 for j in range(cols)) / cols + EPSILON) ** -0.5
        normal = []
        total = m.zero()
        for j in range(cols):
            normal.append(x[i, j] * rstd[i])
            total = total + dy[i, j] * normal[j]
        mean = total * (1 / cols)
        for j in range(cols):
            dx[i, j] = (dy[i, j] - normal[j] * mean) * rstd[i]


def rmsnorm_backward(m, *, rows, cols):
    x, dy, dx = m.input("x", rows, cols), m.input("dy", rows, cols), m.output("dx", rows, cols)
    gamma, dgamma, rstd = m.input("gamma", cols), m.output("dgamma", cols), m.input("rstd", rows, item=4)
    normal = m.scratch(rows, cols)
    for i in range(rows):
        rstd.values[i,] = (sum(x.values[i, j] ** 2 for j in range(cols)) / cols + EPSILON) ** -0.5
        gradients = []
        total = m.zero()
        for j in range(cols):
            normal[i, j] = x[i, j] * rstd[i]
            gradients.append(dy[i, j] * gamma[j])
            total = total + gradients[j] * normal[i, j]
        mean = total * (1 / cols)
        for j in range(cols):
            dx[i, j] = (gradients[j] - normal[i, j] * mean) * rstd[i]
    m.next_kernel()
    if m.apart:
        for i, j in x.indices():
            normal[i, j] = x[i, j] * rstd[i]
    for j in range(cols):
        dgamma[j] = dot(m, ((dy[i, j], normal[i, j]) for i in range(rows)))


# --- convolution


def conv1d(m, *, B, N, D, K):
    """Padding and convolution. In one kernel the padded signal stays on chip."""
    u, filter_, bias, out = m.input("u", B, N, D), m.input("filter", D, K), m.input("bias", D), m.output("out", B, N, D)
    padded = m.between("padded", B, K - 1 + N + K - 1, D)
    for z, t, c in padded.indices():
        padded[z, t, c] = u[z, t - (K - 1), c] if 0 <= t - (K - 1) < N else 0.0
    m.next_kernel()
    touch(padded)
    for z, t, c in out.indices():
        total = bias[c]
        for tap in range(K):
            total = total + padded[z, t + tap, c] * filter_[c, tap]
        out[z, t, c] = total


def conv1d_backward(m, *, B, N, D, K):
    """Taps over the padding are multiplied by zeros."""
    u, dout, filter_ = m.input("u", B, N, D), m.input("dout", B, N, D), m.input("filter", D, K)
    du, dfilter, dbias = m.output("du", B, N, D), m.output("dfilter", D, K), m.output("dbias", D)

    def at(array, z, t, c):
        return array[z, t, c] if 0 <= t < N else m.zero()

    for z, t, c in du.indices():
        du[z, t, c] = dot(m, ((at(dout, z, t + K - 1 - tap, c), filter_[c, tap]) for tap in range(K)))
    m.next_kernel()
    for c, tap in dfilter.indices():
        places = ((z, t) for z in range(B) for t in range(N))
        dfilter[c, tap] = dot(m, ((at(u, z, t - K + 1 + tap, c), dout[z, t, c]) for z, t in places))
    m.next_kernel()
    for c in range(D):
        total = m.zero()
        for z in range(B):
            for t in range(N):
                total = total + dout[z, t, c]
        dbias[c] = total


def conv(m, *, B, N, D_in, D_out, K, stride=1):
    """All input channels with all output channels. The first tap of the first output is over the padding."""
    x, filters, bias = m.input("x", B, N * stride, D_in), m.input("filters", D_out, D_in, K), m.input("bias", D_out)
    y = m.output("y", B, N, D_out)
    for z, t, o in y.indices():
        taps = ((tap, i) for tap in range(K) for i in range(D_in))
        total = dot(m, ((_padded(m, x, z, t * stride + tap - K // 2, i), filters[o, i, tap]) for tap, i in taps))
        y[z, t, o] = total + bias[o]


def _padded(m, array, z, t, i):
    return array[z, t, i] if 0 <= t < array.shape[1] else m.zero()


def conv_backward(m, *, B, N, D_in, D_out, K, stride=1):
    """Each output gradient goes to the taps that it came from, including those over the padding."""
    x, filters, dy = m.input("x", B, N * stride, D_in), m.input("filters", D_out, D_in, K), m.input("dy", B, N, D_out)
    dx, dfilters, dbias = m.output("dx", *x.shape), m.output("dfilters", *filters.shape), m.output("dbias", D_out)
    sums = {(z, t, i): m.zero() for z in range(B) for t in range(-K, N * stride + K) for i in range(D_in)}
    for z, t, o in dy.indices():
        for tap in range(K):
            for i in range(D_in):
                place = z, t * stride + tap - K // 2, i
                sums[place] = sums[place] + dy[z, t, o] * filters[o, i, tap]
    for place in dx.indices():
        dx[place] = sums[place]
    m.next_kernel()
    for o, i, tap in dfilters.indices():
        places = ((z, t) for z in range(B) for t in range(N))
        dfilters[o, i, tap] = dot(m, ((_padded(m, x, z, t * stride + tap - K // 2, i), dy[z, t, o]) for z, t in places))
    m.next_kernel()
    for o in range(D_out):
        total = m.zero()
        for z in range(B):
            for t in range(N):
                total = total + dy[z, t, o]
        dbias[o] = total


# --- quantised weights and activations

LARGEST = 448.0  # of an 8-bit float with 4 exponent bits


def _dequantised(m, D_in, D_out, group, item, scale, zero=None):
    """The matrix of weights on chip, each converted once: minus the zero point of its block, times the scale."""
    w, scales = m.input("w", D_in, D_out, item=item), m.input("s", -(-D_in // group), D_out, item=scale)
    zeros = m.input("z", *scales.shape, item=zero) if zero else None
    found = m.scratch(D_in, D_out)
    for i, o in w.indices():
        block = i // group, o
        found[i, o] = ((w[i, o] - zeros[block]) if zeros else w[i, o]) * scales[block]
    return found


def linear_int4(m, *, B, N, D_in, D_out, group):
    x, w = m.input("x", B, N, D_in), _dequantised(m, D_in, D_out, group, 0.5, 2, 0.5)
    _linear(m, x, w, m.output("y", B, N, D_out))


def linear_mxfp4(m, *, B, N, D_in, D_out, group):
    x, w = m.input("x", B, N, D_in), _dequantised(m, D_in, D_out, group, 0.5, 1)
    _linear(m, x, w, m.output("y", B, N, D_out))


def linear_nvfp4(m, *, B, N, D_in, D_out, group):
    x, w, t = m.input("x", B, N, D_in), _dequantised(m, D_in, D_out, group, 0.5, 1), m.input("t", 1, item=4)
    y = m.output("y", B, N, D_out)
    for z, n, o in y.indices():
        y[z, n, o] = dot(m, ((x[z, n, i], w[i, o]) for i in range(D_in))) * t[0]


def linear_int8(m, *, B, N, D_in, D_out):
    x, w, s = m.input("x", B, N, D_in), m.input("w", D_in, D_out, item=1), m.input("s", D_out)
    y = m.output("y", B, N, D_out)
    for z, n, o in y.indices():
        y[z, n, o] = dot(m, ((x[z, n, i], w[i, o]) for i in range(D_in))) * s[o]


def linear_fp8(m, *, B, N, D_in, D_out, group):
    """The sum over each run of inputs is scaled by both operands. Their product is one factor of a block of results."""
    x, w, y = m.input("x", B, N, D_in, item=1), m.input("w", D_in, D_out, item=1), m.output("y", B, N, D_out)
    runs = -(-D_in // group)
    s_x, s_w = m.input("s_x", B, N, runs, item=4), m.input("s_w", runs, -(-D_out // group), item=4)
    for z, n, o in y.indices():
        total = m.zero()
        for run in range(runs):
            inputs = range(run * group, min(D_in, (run + 1) * group))
            factor = s_x[z, n, run].value * s_w[run, o // group].value
            total = total + dot(m, ((x[z, n, i], w[i, o]) for i in inputs)) * factor
        y[z, n, o] = total


def _factor(m, x, places):
    """The reciprocal of the scale of some elements, from the largest of them. A sign costs nothing."""
    largest = m.zero()
    for place in places:
        largest = largest.maximum(abs(x[place].value))
    return Number(m, 1.0) / (largest * (1.0 / LARGEST))


def _cast(x, factor):
    return (x * factor).maximum(-LARGEST).minimum(LARGEST)


def quantise_static(m, *, rows, cols):
    x, scales, y = m.input("x", rows, cols), m.input("scales", 1, item=4), m.output("y", rows, cols, item=1)
    for place in y.indices():
        y[place] = _cast(x[place], scales[0])


def quantise_tensor(m, *, rows, cols):
    x, y, scales = m.input("x", rows, cols), m.output("y", rows, cols, item=1), m.output("scales", 1, item=4)
    scales[0] = _factor(m, x, list(x.indices()))
    m.next_kernel()
    for place in y.indices():
        y[place] = _cast(x[place], scales[0])


def quantise_token(m, *, rows, cols):
    quantise_block(m, rows=rows, cols=cols, group=cols)


def quantise_block(m, *, rows, cols, group):
    x, y = m.input("x", rows, cols), m.output("y", rows, cols, item=1)
    scales = m.output("scales", rows, -(-cols // group), item=4)
    for row, run in scales.indices():
        places = [(row, col) for col in range(run * group, min(cols, (run + 1) * group))]
        scales[row, run] = _factor(m, x, places)
        for place in places:
            y[place] = _cast(x[place], scales[row, run])


# --- experts, every token sent to all of them, so that what is chosen and what is distinct is known


def expert_linear(m, *, B, N, D_in, D_out, E, A):
    x, w, y = m.input("x", B, N, A, D_in), m.input("w", E, D_in, D_out), m.output("y", B, N, A, D_out)
    for z, t, a, o in y.indices():
        y[z, t, a, o] = dot(m, ((x[z, t, a, i], w[a, i, o]) for i in range(D_in)))


def expert_linear_bias(m, *, B, N, D_in, D_out, E, A):
    expert_linear(m, B=B, N=N, D_in=D_in, D_out=D_out, E=E, A=A)
    b, y = m.input("b", E, D_out), m.arrays["y"]
    for z, t, a, o in y.indices():
        y[z, t, a, o] = y[z, t, a, o] + b[a, o]


def expert_input_gradient(m, *, B, N, D_in, D_out, E, A):
    dy, w, dx = m.input("dy", B, N, A, D_out), m.input("w", E, D_in, D_out), m.output("dx", B, N, A, D_in)
    for z, t, a, i in dx.indices():
        dx[z, t, a, i] = dot(m, ((dy[z, t, a, o], w[a, i, o]) for o in range(D_out)))


def expert_weight_gradient(m, *, B, N, D_in, D_out, E, A):
    x, dy, dw = m.input("x", B, N, A, D_in), m.input("dy", B, N, A, D_out), m.output("dw", E, D_in, D_out)
    for a, i, o in dw.indices():
        dw[a, i, o] = dot(m, ((x[z, t, a, i], dy[z, t, a, o]) for z in range(B) for t in range(N)))


def expert_bias_gradient(m, *, B, N, D_out, E, A):
    dy, db = m.input("dy", B, N, A, D_out), m.output("db", E, D_out)
    for a, o in db.indices():
        total = m.zero()
        for z in range(B):
            for t in range(N):
                total = total + dy[z, t, a, o]
        db[a, o] = total


def route(m, *, B, N, E, A):
    """Softmax, then A times the maximum of the remaining experts. Chosen experts stay in the search with a value below
    all others.
    """
    scores_, chosen, weights = (
        m.input("scores", B, N, E),
        m.output("chosen", B, N, A, item=8),
        m.output("weights", B, N, A),
    )
    for z in range(B):
        for t in range(N):
            left = softmax_row(m, [scores_[z, t, x] for x in range(E)])
            for a in range(A):
                best, place = m.lowest(), 0
                for x in range(E):
                    if left[x] > best:
                        best, place = left[x], x
                chosen[z, t, a], weights[z, t, a], left[place] = place, best, m.lowest()


def route_backward(m, *, B, N, E, A):
    """Experts that were not chosen get a gradient of zero."""
    probs, dscores = m.input("probs", B, N, E), m.output("dscores", B, N, E)
    chosen, dweights = m.tokens("chosen", B, N, A, below=E), m.input("dweights", B, N, A)
    for z in range(B):
        for t in range(N):
            arriving = [m.zero() for _ in range(E)]
            for a in range(A):
                chosen.values[z, t, a] = (t + 2 * a) % E
                arriving[int(chosen[z, t, a].value)] = dweights[z, t, a]
            total = dot(m, ((probs[z, t, x], arriving[x]) for x in range(E)))
            for x in range(E):
                dscores[z, t, x] = probs[z, t, x] * (arriving[x] - total)


def combine_experts(m, *, B, N, D, A):
    outputs, weights, y = m.input("outputs", B, N, A, D), m.input("weights", B, N, A), m.output("y", B, N, D)
    for z, t, e in y.indices():
        y[z, t, e] = dot(m, ((outputs[z, t, a, e], weights[z, t, a]) for a in range(A)))


def combine_experts_backward(m, *, B, N, D, A):
    outputs, weights, dy = m.input("outputs", B, N, A, D), m.input("weights", B, N, A), m.input("dy", B, N, D)
    doutputs, dweights = m.output("doutputs", B, N, A, D), m.output("dweights", B, N, A)
    for z, t, a, e in doutputs.indices():
        doutputs[z, t, a, e] = dy[z, t, e] * weights[z, t, a]
    for z, t, a in dweights.indices():
        dweights[z, t, a] = dot(m, ((dy[z, t, e], outputs[z, t, a, e]) for e in range(D)))


# --- recurrences


def selective_scan(m, *, B, N, D, X):
    """softplus of the step; then for each state h = exp(step a) h + step u b; y = sum of c h, plus the skip."""
    u, delta, y = m.input("u", B, N, D), m.input("delta", B, N, D), m.output("y", B, N, D)
    b, c, a, skip = m.input("b", B, N, X), m.input("c", B, N, X), m.input("a", D, X), m.input("skip", D)
    state = m.output("state", B, D, X, item=4)
    for z, t, e in y.indices():
        step = (delta[z, t, e].exp() + 1.0).log()
        entering = step * u[z, t, e]
        for x in range(X):
            state[z, e, x] = (step * a[e, x]).exp() * state[z, e, x] + entering * b[z, t, x]
        read = dot(m, ((c[z, t, x], state[z, e, x]) for x in range(X)))
        y[z, t, e] = read + skip[e] * u[z, t, e]


def selective_scan_backward(m, *, B, N, D, X):
    """Recomputes the states on chip, then goes from the last token to the first."""
    dy, u, delta = (m.input(name, B, N, D) for name in ("dy", "u", "delta"))
    b, c, a, skip = m.input("b", B, N, X), m.input("c", B, N, X), m.input("a", D, X), m.input("skip", D)
    du, ddelta, db, dc = (m.output(f"d{name}", *m.arrays[name].shape) for name in ("u", "delta", "b", "c"))
    da, dskip = m.output("da", D, X), m.output("dskip", D)
    sums = {(array, *place): m.zero() for array in (db, dc, da, dskip) for place in array.indices()}

    def add(array, place, term):
        sums[array, *place] = sums[array, *place] + term

    for z in range(B):
        for e in range(D):
            states, kept = [[m.zero() for _ in range(X)]], []
            for t in range(N):
                power = delta[z, t, e].exp()
                above = power + 1.0
                step = above.log()
                entering = step * u[z, t, e]
                decays = [(step * a[e, x]).exp() for x in range(X)]
                states.append([decays[x] * states[t][x] + entering * b[z, t, x] for x in range(X)])
                kept.append((power, above, step, entering, decays))
            later = [m.zero() for _ in range(X)]
            for t in reversed(range(N)):
                power, above, step, entering, decays = kept[t]
                dentering, dstep = m.zero(), m.zero()
                for x in range(X):
                    add(dc, (z, t, x), dy[z, t, e] * states[t + 1][x])
                    arriving = later[x] + dy[z, t, e] * c[z, t, x]
                    add(db, (z, t, x), arriving * entering)
                    dentering = dentering + arriving * b[z, t, x]
                    later[x] = arriving * decays[x]
                    exponent = later[x] * states[t][x]
                    dstep = dstep + exponent * a[e, x]
                    add(da, (e, x), exponent * step)
                add(dskip, (e,), dy[z, t, e] * u[z, t, e])
                du[z, t, e] = dy[z, t, e] * skip[e] + dentering * step
                ddelta[z, t, e] = (dstep + dentering * u[z, t, e]) * (power / above)
    for (array, *place), total in sums.items():
        array[*place] = total


def wkv(m, *, B, N, D):
    """RWKV-4: numerator, denominator and their common exponent, per channel."""
    k, v, y = m.input("k", B, N, D), m.input("v", B, N, D), m.output("y", B, N, D)
    decay, first, state = m.input("decay", D), m.input("first", D), m.output("state", B, 3, D, item=4)
    state.values.update(((z, 2, e), -1e30) for z in range(B) for e in range(D))
    for z, t, e in y.indices():
        above, below, exponent = (state[z, i, e] for i in range(3))
        own = first[e] + k[z, t, e]
        largest = exponent.maximum(own)
        kept, new = (exponent - largest).exp(), (own - largest).exp()
        y[z, t, e] = (kept * above + new * v[z, t, e]) / (kept * below + new)
        faded = decay[e] + exponent
        largest = faded.maximum(k[z, t, e])
        kept, new = (faded - largest).exp(), (k[z, t, e] - largest).exp()
        state[z, 0, e], state[z, 1, e], state[z, 2, e] = kept * above + new * v[z, t, e], kept * below + new, largest


def wkv_backward(m, *, B, N, D):
    """Recomputes the recurrence, then goes back. The gradients of both sums have a separate common exponent."""
    k, v, dy = (m.input(name, B, N, D) for name in ("k", "v", "dy"))
    decay, first, dk, dv = m.input("decay", D), m.input("first", D), m.output("dk", B, N, D), m.output("dv", B, N, D)
    ddecay, dfirst = m.output("ddecay", D), m.output("dfirst", D)
    for e in range(D):
        of_decay, of_first = m.zero(), m.zero()
        for z in range(B):
            above, below, exponent, kept = m.zero(), m.zero(), Number(m, -1e30), []
            for t in range(N):
                own = first[e] + k[z, t, e]
                largest = exponent.maximum(own)
                old, new = (exponent - largest).exp(), (own - largest).exp()
                under = old * below + new
                y, faded = (old * above + new * v[z, t, e]) / under, decay[e] + exponent
                kept.append((above, below, largest, new, under, y, faded))
                exponent = faded.maximum(k[z, t, e])
                old, new = (faded - exponent).exp(), (k[z, t, e] - exponent).exp()
                above, below = old * above + new * v[z, t, e], old * below + new
            dabove, dbelow, power = m.zero(), m.zero(), Number(m, -1e30)
            for t in reversed(range(N)):
                above, below, largest, new, under, y, faded = kept[t]
                share = dy[z, t, e] / under
                weight = new * share
                own = (v[z, t, e] - y) * weight
                of_first = of_first + own
                passed = (k[z, t, e] + power).exp()
                through = passed * dabove
                dv[z, t, e] = weight + through
                dk[z, t, e] = own + (through * v[z, t, e] + passed * dbelow)
                of_decay = of_decay + (faded + power).exp() * (above * dabove + below * dbelow)
                moved, low = decay[e] + power, -largest
                power = moved.maximum(low)
                old, new = (moved - power).exp(), (low - power).exp() * share
                dabove, dbelow = old * dabove + new, old * dbelow - new * y
        ddecay[e], dfirst[e] = of_decay, of_first


def token_shift(m, *, B, N, D):
    x, mean, mixed = m.input("x", B, N, D), m.input("mean", D), m.output("mixed", B, N, D)
    for z, t, e in mixed.indices():
        mixed[z, t, e] = x[z, t, e] * mean[e] + _padded(m, x, z, t - 1, e) * (1.0 - mean[e])


def token_shift_backward(m, *, B, N, D):
    x, mean, dmixed = m.input("x", B, N, D), m.input("mean", D), m.input("dmixed", B, N, D)
    dx, dmean = m.output("dx", B, N, D), m.output("dmean", D)
    for z, t, e in dx.indices():
        dx[z, t, e] = dmixed[z, t, e] * mean[e] + _padded(m, dmixed, z, t + 1, e) * (1.0 - mean[e])
    for e in range(D):
        places = ((z, t) for z in range(B) for t in range(N))
        dmean[e] = dot(m, ((dmixed[z, t, e], x[z, t, e] - _padded(m, x, z, t - 1, e)) for z, t in places))


# --- pooling


def mean(m, *, B, N, D):
    x, y = m.input("x", B, N, D), m.output("y", B, D)
    for z, e in y.indices():
        total = m.zero()
        for t in range(N):
            total = total + x[z, t, e]
        y[z, e] = total * (1.0 / N)


def mean_backward(m, *, B, N, D):
    dy, dx = m.input("dy", B, D), m.output("dx", B, N, D)
    for z, e in dy.indices():
        share = dy[z, e] * (1.0 / N)
        for t in range(N):
            dx[z, t, e] = share


# --- tokens


def learned(m, *, cols, rows=1):
    table, y = m.input("table", rows, cols), m.output("y", rows, cols)
    for place in y.indices():
        y[place] = table[place]


FIRST, SECOND, RATE_OF_STEP, DECAY, STEPS, TINY = 0.9, 0.999, 1e-2, 0.1, 5, 1e-8


def adam(m, *, params):
    """The bias corrections are folded into constants that all parameters share."""
    gradient, weight = m.input("gradient", params), m.output("weight", params)
    mean, variance, master = (m.input(name, params, item=4) for name in ("mean", "variance", "master"))
    correction, step = 1 / (1 - SECOND**STEPS), RATE_OF_STEP / (1 - FIRST**STEPS)
    for i in range(params):
        variance.values[i,] = abs(variance.values[i,])
        g = gradient[i]
        mean[i] = mean[i] * FIRST + g * (1 - FIRST)
        variance[i] = variance[i] * SECOND + g * (1 - SECOND) * g
        root = (variance[i] * correction).sqrt() + TINY
        master[i] = master[i] - (mean[i] / root * step + master[i] * (RATE_OF_STEP * DECAY))
        weight[i] = master[i]


def embedding(m, *, B, N, D, V):
    tokens, table, y = m.tokens("tokens", B, N, below=V), m.input("table", V, D), m.output("y", B, N, D)
    for z in range(B):
        for t in range(N):
            m.forget(table)
            row = int(tokens[z, t].value)
            for e in range(D):
                y[z, t, e] = table[row, e]


def positions(m, *, N, T, D, V):
    """The rows up to the T-th, read by index."""
    index, table, y = m.tokens("tokens", 1, N, below=V), m.input("table", V, D), m.output("y", 1, N, D)
    for t in range(N):
        index.values[0, t] = T - N + t
        for e in range(D):
            y[0, t, e] = table[int(index[0, t].value), e]


def embedding_backward(m, *, B, N, D, V):
    tokens, dy, dtable = m.tokens("tokens", B, N, below=V), m.input("dy", B, N, D), m.output("dtable", V, D)
    for place in dtable.indices():
        dtable[place] = 0.0
    for z in range(B):
        for t in range(N):
            m.forget(dtable)
            row = int(tokens[z, t].value)
            for e in range(D):
                dtable[row, e] = dtable[row, e] + dy[z, t, e]


def cross_entropy(m, *, B, N, V):
    logit, targets = m.input("logits", B, N, V), m.tokens("targets", B, N, below=V)
    loss, logsumexp = m.output("loss", B, N, item=4), m.output("logsumexp", B, N, item=4)
    for z in range(B):
        for t in range(N):
            largest, total = m.lowest(), m.zero()
            for w in range(V):
                largest = largest.maximum(logit[z, t, w])
            for w in range(V):
                total = total + (logit[z, t, w] - largest).exp()
            log = largest + total.log()
            logsumexp[z, t] = log
            loss[z, t] = log - logit[z, t, int(targets[z, t].value)]


def cross_entropy_backward(m, *, B, N, V):
    logit, targets = m.input("logits", B, N, V), m.tokens("targets", B, N, below=V)
    logsumexp, dlogits = m.input("logsumexp", B, N, item=4), m.output("dlogits", B, N, V)
    for z in range(B):
        for t in range(N):
            logsumexp.values[z, t] = math.log(sum(math.exp(logit.values[z, t, w]) for w in range(V)))
            target = int(targets[z, t].value)
            for w in range(V):
                prob = (logit[z, t, w] - logsumexp[z, t]).exp()
                prob = prob - 1.0 if w == target else prob
                dlogits[z, t, w] = prob * (1 / (B * N))


def causal_mask(m, *, B, H, N, S):
    _mask(m, B, H, N, S, own=False)


def full_mask(m, *, B, H, N, S):
    _mask(m, B, H, N, S, own=True)


def _mask(m, B, H, N, S, own):
    scores_, masked = m.input("scores", B, H, N, S), m.output("masked", B, H, N, S)
    mask = m.input("mask", *((B, H, N, S) if own else (N, S)))
    for place in masked.indices():
        masked[place] = scores_[place] + mask[place if own else place[2:]]


def rope(m, *, B, N, H, H_kv, d):
    """Rotates pairs of neighbouring elements. The table has cosines, sines and negated sines."""
    for name, heads in (("q", H), ("k", H_kv)):
        x, y = m.input(name, B, N, heads, d), m.output(f"{name}_turned", B, N, heads, d)
        for z, t, h, e in x.indices():
            angle = t * 10000.0 ** -((e - e % 2) / d)
            other, sine = (e + 1, -math.sin(angle)) if e % 2 == 0 else (e - 1, math.sin(angle))
            y[z, t, h, e] = x[z, t, h, e] * math.cos(angle) + x[z, t, h, other] * sine


def residual(m, *, B, N, D):
    a, b, y = m.input("a", B, N, D), m.input("b", B, N, D), m.output("y", B, N, D)
    for place in y.indices():
        y[place] = a[place] + b[place]


def dropout(m, *, numel):
    """One random number per element. One byte stores whether the element was kept."""
    x, kept, y = m.input("x", numel), m.output("kept", numel, item=1), m.output("y", numel)
    for i in range(numel):
        keep = Number(m, i % 3 / 3) > 0.1
        kept[i] = float(keep)
        y[i] = x[i] * (keep / 0.9)


def dropout_backward(m, *, numel):
    dy, kept, dx = m.input("dy", numel), m.input("kept", numel, item=1), m.output("dx", numel)
    for i in range(numel):
        kept.values[i,] = float(i % 3 > 0)
        dx[i] = dy[i] * (float(kept[i]) / 0.9)


# --- vectors and elementwise functions: the tensors read, those written, and one element of them


def relu_backward(x, dy):
    return (dy.chosen(x > 0),)


def div_backward(b, y, dy):
    da = dy / b
    return da, -(y * da)


def relu_squared(x):
    positive = x.maximum(0.0)
    return (positive * positive,)


def relu_squared_backward(x, dy):
    return (x.maximum(0.0) * 2.0 * dy,)


def clamped_swiglu_backward(gate, up, dy):
    """The gradient is zero where a clamp applies."""
    low, high = gate.minimum(LIMIT), up.minimum(LIMIT).maximum(-LIMIT)
    scaled = low * 1.702
    share, shifted = Number(gate.machine, 1.0) / ((-scaled).exp() + 1.0), high + 1.0
    dgate = share * (scaled * (1.0 - share) + 1.0) * shifted * dy
    dup = low * share * dy
    inside, over = not gate > LIMIT, up > LIMIT
    return dgate.chosen(inside), dup.chosen(not over).chosen(up > -LIMIT)


def clamped_swiglu(gate, up):
    """gpt-oss: the gate is clamped above, the linear part on both sides. A minimum counts like a maximum."""
    gate, up = gate.minimum(LIMIT), up.minimum(LIMIT).maximum(-LIMIT)
    return (gate * (Number(gate.machine, 1.0) / ((-(gate * 1.702)).exp() + 1.0)) * (up + 1.0),)


LIMIT = 1.5


def gelu(x):
    return (x * 0.5 * ((x * math.sqrt(0.5)).erf() + 1.0),)


def gelu_and_slope(x):
    """Φ(x) and Φ(x) + x φ(x)."""
    share = ((x * math.sqrt(0.5)).erf() + 1.0) * 0.5
    return share, share + (x * x * -0.5).exp() * (1 / math.sqrt(2 * math.pi)) * x


def gelu_backward(x, dy):
    return (gelu_and_slope(x)[1] * dy,)


RATE, CUBE = math.sqrt(2 / math.pi), 0.044715


def gelu_tanh(x):
    return (x * 0.5 * ((x * (x * x * CUBE + 1.0) * RATE).tanh() + 1.0),)


def gelu_tanh_and_slope(x):
    """The factor of x in the tanh form, and its derivative."""
    square = x * x
    curve = (x * (square * CUBE + 1.0) * RATE).tanh()
    share = (curve + 1.0) * 0.5
    return share, share + x * 0.5 * (1.0 - curve * curve) * ((square * (3 * CUBE) + 1.0) * RATE)


def gelu_tanh_backward(x, dy):
    return (gelu_tanh_and_slope(x)[1] * dy,)


def sigmoid(x):
    return (Number(x.machine, 1.0) / ((-x).exp() + 1.0),)


def silu(x):
    return (x / ((-x).exp() + 1.0),)


def silu_backward(x, dy):
    (s,) = sigmoid(x)
    return (s * (x * (1.0 - s) + 1.0) * dy,)


def relu_gate_backward(gate, up, dy):
    return (dy * up).chosen(gate > 0), gate.maximum(0.0) * dy


def relu_squared_gate_backward(gate, up, dy):
    positive = gate.maximum(0.0)
    reached = positive * dy
    return reached * up * 2.0, reached * positive


def sigmoid_gate_backward(gate, up, dy):
    (s,) = sigmoid(gate)
    dup = s * dy
    return dup * up * (1.0 - s), dup


def tanh_gate_backward(gate, up, dy):
    t = gate.tanh()
    return dy * up * (1.0 - t * t), t * dy


def silu_gate(gate, up):
    return (silu(gate)[0] * up,)


def silu_gate_backward(gate, up, dy):
    (s,) = sigmoid(gate)
    slope = s * (gate * (1.0 - s) + 1.0)
    return slope * up * dy, gate * s * dy


def gelu_gate(gate, up):
    return (gelu(gate)[0] * up,)


def gelu_gate_backward(gate, up, dy):
    share, slope = gelu_and_slope(gate)
    return slope * up * dy, gate * share * dy


def gelu_tanh_gate(gate, up):
    return (gelu_tanh(gate)[0] * up,)


def gelu_tanh_gate_backward(gate, up, dy):
    share, slope = gelu_tanh_and_slope(gate)
    return slope * up * dy, gate * share * dy


CAP = 2.0


def softcap(x):
    return ((x * (1 / CAP)).tanh() * CAP,)


def softcap_backward(x, dy):
    curve = (x * (1 / CAP)).tanh()
    return ((1.0 - curve * curve) * dy,)


ELEMENTWISE = {
    "add": ("a b", "y", lambda a, b: (a + b,)),
    "mul": ("a b", "y", lambda a, b: (a * b,)),
    "mul_backward": ("a b dy", "da db", lambda a, b, dy: (dy * b, dy * a)),
    "div": ("a b", "y", lambda a, b: (a / b,)),
    "div_backward": ("b y dy", "da db", div_backward),
    "scale": ("x", "y", lambda x: (x * 3.0,)),
    "exp": ("x", "y", lambda x: (x.exp(),)),
    "relu": ("x", "y", lambda x: (x.maximum(0.0),)),
    "relu_backward": ("x dy", "dx", relu_backward),
    "relu_squared": ("x", "y", relu_squared),
    "relu_squared_backward": ("x dy", "dx", relu_squared_backward),
    "clamped_swiglu": ("gate up", "y", clamped_swiglu),
    "clamped_swiglu_backward": ("gate up dy", "dgate dup", clamped_swiglu_backward),
    "gelu": ("x", "y", gelu),
    "gelu_backward": ("x dy", "dx", gelu_backward),
    "gelu_tanh": ("x", "y", gelu_tanh),
    "gelu_tanh_backward": ("x dy", "dx", gelu_tanh_backward),
    "silu": ("x", "y", silu),
    "silu_backward": ("x dy", "dx", silu_backward),
    "sigmoid": ("x", "y", sigmoid),
    "sigmoid_backward": ("y dy", "dx", lambda y, dy: (dy * y * (1.0 - y),)),
    "tanh": ("x", "y", lambda x: (x.tanh(),)),
    "tanh_backward": ("y dy", "dx", lambda y, dy: (dy * (1.0 - y * y),)),
    "relu_gate": ("gate up", "y", lambda gate, up: (gate.maximum(0.0) * up,)),
    "relu_gate_backward": ("gate up dy", "dgate dup", relu_gate_backward),
    "relu_squared_gate": ("gate up", "y", lambda gate, up: (relu_squared(gate)[0] * up,)),
    "relu_squared_gate_backward": ("gate up dy", "dgate dup", relu_squared_gate_backward),
    "sigmoid_gate": ("gate up", "y", lambda gate, up: (sigmoid(gate)[0] * up,)),
    "sigmoid_gate_backward": ("gate up dy", "dgate dup", sigmoid_gate_backward),
    "tanh_gate": ("gate up", "y", lambda gate, up: (gate.tanh() * up,)),
    "tanh_gate_backward": ("gate up dy", "dgate dup", tanh_gate_backward),
    "silu_gate": ("gate up", "y", silu_gate),
    "silu_gate_backward": ("gate up dy", "dgate dup", silu_gate_backward),
    "gelu_gate": ("gate up", "y", gelu_gate),
    "gelu_gate_backward": ("gate up dy", "dgate dup", gelu_gate_backward),
    "gelu_tanh_gate": ("gate up", "y", gelu_tanh_gate),
    "gelu_tanh_gate_backward": ("gate up dy", "dgate dup", gelu_tanh_gate_backward),
    "softcap": ("x", "y", softcap),
    "softcap_backward": ("x dy", "dx", softcap_backward),
    "saxpy": ("x y", "y", lambda x, y: (x * 3.0 + y,)),
    "stream_copy": ("a", "c", lambda a: (a,)),
    "stream_scale": ("c", "b", lambda c: (c * 3.0,)),
    "stream_add": ("a b", "c", lambda a, b: (a + b,)),
    "stream_triad": ("b c", "a", lambda b, c: (c * 3.0 + b,)),
}


def elementwise(m, name, *, numel, item):
    """Reads, computes and writes every element. An output may share the array of an input."""
    reads, writes, function = ELEMENTWISE[name]
    inputs = [m.input(tensor, numel, item=item) for tensor in reads.split()]
    outputs = [m.arrays.get(t) or m.output(t, numel, item=item) for t in writes.split()]
    for i in range(numel):
        for output, value in zip(outputs, function(*(array[i] for array in inputs)), strict=True):
            output[i] = value


def vector_dot(m, *, numel):
    """The sum stays in a register, so its one element is not moved."""
    x, y, total = m.input("x", numel, item=4), m.input("y", numel, item=4), m.scratch(1)
    total[0] = dot(m, ((x[i], y[i]) for i in range(numel)))


# --- kernels of programs: movement and selection


def copy(m, *, numel, distinct, run):
    """A broadcast source, repeated. The length of the runs changes nothing that is counted."""
    x, y = m.input("x", distinct), m.output("y", numel)
    for i in range(numel):
        y[i] = x[i % distinct]


def concatenate(m, *, numel, run):
    """Two tensors, one behind the other in x. Pieces of them alternate in the result."""
    x, y = m.input("x", numel), m.output("y", numel)
    for i in range(numel):
        row, which = divmod(i // run, 2)
        y[i] = x[which * (numel // 2) + row * run + i % run]


VALUE = 0.5


def fill(m, *, numel):
    y = m.output("y", numel)
    for i in range(numel):
        y[i] = VALUE


def where(m, *, numel):
    mask, a, b = m.tokens("mask", numel, item=1, below=2), m.input("a", numel), m.input("b", numel)
    y = m.output("y", numel)
    for i in range(numel):
        first, second = a[i], b[i]
        y[i] = (first if float(mask[i]) else second).chosen(True)


def masked_fill(m, *, numel):
    mask, x, y = m.tokens("mask", numel, item=1, below=2), m.input("x", numel), m.output("y", numel)
    for i in range(numel):
        hidden, kept = float(mask[i]), x[i].chosen(True)
        y[i] = VALUE if hidden else kept


def compare(m, *, numel):
    a, b, y = m.input("a", numel), m.input("b", numel), m.output("y", numel, item=1)
    for i in range(numel):
        y[i] = float(a[i] > b[i])


def integer(m, *, numel):
    a, b = (m.tokens(name, numel, below=100) for name in ("a", "b"))
    y = m.output("y", numel, item=8)
    for i in range(numel):
        y[i] = a[i] + b[i]


WIDTH, LOW = 1.5, -0.25


def random(m, *, numel):
    """The generator's integers are on chip."""
    y, made = m.output("y", numel), m.scratch(numel)
    for i in range(numel):
        made.values[i,] = (i * 2654435761 % 4096) / 4096
        y[i] = made[i] * WIDTH + LOW


# --- rows by index


def gather(m, *, rows, cols):
    index, table, y = m.tokens("index", rows, below=rows), m.input("table", rows, cols), m.output("y", rows, cols)
    for i in range(rows):
        m.forget(table)
        row = int(index[i].value)
        for j in range(cols):
            y[i, j] = table[row, j]


def scatter(m, *, rows, cols):
    """Every second row of the table, so that no two writes meet."""
    index, x = m.tokens("index", rows, below=2 * rows), m.input("x", rows, cols)
    table = m.output("table", 2 * rows, cols)
    for i in range(rows):
        index.values[i,] = 2 * (rows - 1 - i)
        row = int(index[i].value)
        for j in range(cols):
            table[row, j] = x[i, j]


def scatter_add(m, *, rows, cols):
    index, x, table = m.tokens("index", rows, below=rows), m.input("x", rows, cols), m.input("table", rows, cols)
    for i in range(rows):
        m.forget(table)
        row = int(index[i].value)
        for j in range(cols):
            table[row, j] = table[row, j] + x[i, j]


# --- reductions and orders


def _reduced(m, rows, cols, inner, start, function, item=2):
    x, y = m.input("x", rows, cols, inner), m.output("y", rows, inner, item=item)
    for i, k in y.indices():
        found = start()
        for j in range(cols):
            found = function(found, x[i, j, k], j)
        y[i, k] = found


def reduce_sum(m, *, rows, cols, inner):
    _reduced(m, rows, cols, inner, m.zero, lambda total, value, _: total + value)


def reduce_max(m, *, rows, cols, inner):
    _reduced(m, rows, cols, inner, m.lowest, lambda largest, value, _: largest.maximum(value))


def argmax(m, *, rows, cols, inner):
    x, y = m.input("x", rows, cols, inner), m.output("y", rows, inner, item=8)
    for i, k in y.indices():
        best, place = m.lowest(), 0
        for j in range(cols):
            if x[i, j, k] > best:
                best, place = x[i, j, k], j
        y[i, k] = place


def cumulative_sum(m, *, rows, cols):
    x, y = m.input("x", rows, cols), m.output("y", rows, cols)
    for i in range(rows):
        total = m.zero()
        for j in range(cols):
            total = total + x[i, j]
            y[i, j] = total


def top_k(m, *, rows, cols, chosen):
    """Each element is compared with the smallest that is chosen, which is known."""
    x = m.input("x", rows, cols)
    values, places = m.output("values", rows, chosen), m.output("places", rows, chosen, item=8)
    for i in range(rows):
        last = Number(m, sorted((x.values[i, j] for j in range(cols)), reverse=True)[chosen - 1])
        found = [j for j in range(cols) if not last > x[i, j]]
        for k, j in enumerate(sorted(found, key=lambda j: -x.values[i, j])[:chosen]):
            values[i, k], places[i, k] = x[i, j], j


def sort(m, *, rows, cols):
    x = m.input("x", rows, cols)
    values, places = m.output("values", rows, cols), m.output("places", rows, cols, item=8)
    for i in range(rows):
        for k, j in enumerate(sorted(range(cols), key=lambda j: x.values[i, j])):
            values[i, k], places[i, k] = x[i, j], j


# --- images


def walk(size, result, window):
    """Stride and padding that give the result."""
    stride = max(1, round(size / result))
    return stride, max(0, math.ceil(((result - 1) * stride + window - size) / 2))


class Patches:
    """Which pixel is under each tap of each window. None stands for the padding."""

    def __init__(self, h, w, h_out, w_out, K_h, K_w):
        self.sides = (h, w)
        self.down, self.across = walk(h, h_out, K_h), walk(w, w_out, K_w)
        self.windows = [(i, j) for i in range(h_out) for j in range(w_out)]
        self.taps = [(a, b) for a in range(K_h) for b in range(K_w)]

    def pixel(self, window, tap):
        i, j = (
            at * stride + t - pad for at, t, (stride, pad) in zip(window, tap, (self.down, self.across), strict=True)
        )
        return (i, j) if 0 <= i < self.sides[0] and 0 <= j < self.sides[1] else None

    def value(self, m, x, z, c, window, tap):
        pixel = self.pixel(window, tap)
        return m.zero() if pixel is None else x[z, c, *pixel]


def _convolution(C, C_out, groups):
    """Pairs of output channel and its input channels, the latter as (channel, its number in the group)."""
    each, out = C // groups, C_out // groups
    return [(o, [(o // out * each + c, c) for c in range(each)]) for o in range(C_out)]


def conv2d(m, *, B, C, C_out, h, w, h_out, w_out, K_h, K_w, groups):
    x, filters = m.input("x", B, C, h, w), m.input("filters", C_out, C // groups, K_h, K_w)
    y, patches = m.output("y", B, C_out, h_out, w_out), Patches(h, w, h_out, w_out, K_h, K_w)
    for z in range(B):
        for o, channels in _convolution(C, C_out, groups):
            for window in patches.windows:
                pairs = ((channel, tap) for channel in channels for tap in patches.taps)
                y[z, o, *window] = dot(
                    m, ((patches.value(m, x, z, c, window, tap), filters[o, own, *tap]) for (c, own), tap in pairs)
                )


def conv2d_input_gradient(m, *, B, C, C_out, h, w, h_out, w_out, K_h, K_w, groups):
    dy, filters = m.input("dy", B, C_out, h_out, w_out), m.input("filters", C_out, C // groups, K_h, K_w)
    dx, patches = m.output("dx", B, C, h, w), Patches(h, w, h_out, w_out, K_h, K_w)
    sums = {place: m.zero() for place in dx.indices()}
    for z in range(B):
        for o, channels in _convolution(C, C_out, groups):
            for window in patches.windows:
                for (c, own), tap in ((channel, tap) for channel in channels for tap in patches.taps):
                    pixel = patches.pixel(window, tap)
                    place = pixel and (z, c, *pixel)
                    total = sums.get(place, m.zero()) + dy[z, o, *window] * filters[o, own, *tap]
                    if place:
                        sums[place] = total
    for place, total in sums.items():
        dx[place] = total


def conv2d_weight_gradient(m, *, B, C, C_out, h, w, h_out, w_out, K_h, K_w, groups):
    x, dy = m.input("x", B, C, h, w), m.input("dy", B, C_out, h_out, w_out)
    dfilters, patches = m.output("dfilters", C_out, C // groups, K_h, K_w), Patches(h, w, h_out, w_out, K_h, K_w)
    for o, channels in _convolution(C, C_out, groups):
        for (c, own), tap in ((channel, tap) for channel in channels for tap in patches.taps):
            places = ((z, window) for z in range(B) for window in patches.windows)
            dfilters[o, own, *tap] = dot(
                m, ((patches.value(m, x, z, c, window, tap), dy[z, o, *window]) for z, window in places)
            )


def max_pool2d(m, *, B, C, h, w, h_out, w_out, K_h, K_w):
    x, patches = m.input("x", B, C, h, w), Patches(h, w, h_out, w_out, K_h, K_w)
    y, places = m.output("y", B, C, h_out, w_out), m.output("places", B, C, h_out, w_out, item=8)
    for z, c, i, j in y.indices():
        best, place = m.lowest(), 0
        for tap in patches.taps:
            pixel = patches.pixel((i, j), tap)
            value = m.lowest() if pixel is None else x[z, c, *pixel]
            if value > best:
                best, place = value, pixel[0] * w + pixel[1]
        y[z, c, i, j], places[z, c, i, j] = best, place


def max_pool2d_backward(m, *, B, C, h, w, h_out, w_out, K_h, K_w):
    dy, places = m.input("dy", B, C, h_out, w_out), m.tokens("places", B, C, h_out, w_out, below=h * w)
    dx = m.output("dx", B, C, h, w)
    sums = {place: m.zero() for place in dx.indices()}
    for z, c, i, j in dy.indices():
        place = z, c, *divmod(int(places[z, c, i, j].value), w)
        sums[place] = sums[place] + dy[z, c, i, j]
    for place, total in sums.items():
        dx[place] = total


def average_pool2d(m, *, B, C, h, w, h_out, w_out, K_h, K_w):
    x, y = m.input("x", B, C, h, w), m.output("y", B, C, h_out, w_out)
    patches = Patches(h, w, h_out, w_out, K_h, K_w)
    for z, c, i, j in y.indices():
        total = m.zero()
        for tap in patches.taps:
            total = total + patches.value(m, x, z, c, (i, j), tap)
        y[z, c, i, j] = total * (1.0 / len(patches.taps))


def average_pool2d_backward(m, *, B, C, h, w, h_out, w_out, K_h, K_w):
    dy, dx = m.input("dy", B, C, h_out, w_out), m.output("dx", B, C, h, w)
    patches, sums = Patches(h, w, h_out, w_out, K_h, K_w), {place: m.zero() for place in dx.indices()}
    for z, c, i, j in dy.indices():
        share = dy[z, c, i, j] * (1.0 / len(patches.taps))
        for tap in patches.taps:
            pixel = patches.pixel((i, j), tap)
            place = pixel and (z, c, *pixel)
            total = sums.get(place, m.zero()) + share
            if place:
                sums[place] = total
    for place, total in sums.items():
        dx[place] = total


def _sampled(size, result, taps):
    """For each result along one side, its pixels and their weights. Pixels beyond the edge are the edge."""
    each = []
    for i in range(result):
        at = (i + 0.5) * size / result - 0.5
        if taps == 1:
            pairs = [(i * size // result, 1.0)]
        elif taps == 4:
            low = math.floor(max(0.0, at))
            pairs = [(low, 1 - max(0.0, at) + low), (low + 1, max(0.0, at) - low)]
        else:
            low = math.floor(at)
            pairs = [(low + k, _cubic(abs(at - low - k))) for k in range(-1, 3)]
        each.append([(min(size - 1, max(0, pixel)), weight) for pixel, weight in pairs])
    return each


def _cubic(far, a=-0.75):
    if far <= 1:
        return (a + 2) * far**3 - (a + 3) * far**2 + 1
    return a * (far**3 - 5 * far**2 + 8 * far - 4)


def _pixels(h, w, h_out, w_out, taps):
    down, across = _sampled(h, h_out, taps), _sampled(w, w_out, taps)
    for i in range(h_out):
        for j in range(w_out):
            yield (i, j), [((a, b), p * q) for a, p in down[i] for b, q in across[j]]


def interpolate(m, *, B, C, h, w, h_out, w_out, taps):
    x, y = m.input("x", B, C, h, w), m.output("y", B, C, h_out, w_out)
    for z in range(B):
        for c in range(C):
            for place, pairs in _pixels(h, w, h_out, w_out, taps):
                total = m.zero()
                for pixel, weight in pairs:
                    total = total + x[z, c, *pixel] * weight
                y[z, c, *place] = total


def interpolate_backward(m, *, B, C, h, w, h_out, w_out, taps):
    dy, dx = m.input("dy", B, C, h_out, w_out), m.output("dx", B, C, h, w)
    sums = {place: m.zero() for place in dx.indices()}
    for z in range(B):
        for c in range(C):
            for place, pairs in _pixels(h, w, h_out, w_out, taps):
                for pixel, weight in pairs:
                    sums[z, c, *pixel] = sums[z, c, *pixel] + dy[z, c, *place] * weight
    for place, total in sums.items():
        dx[place] = total


# --- normalisation of channels

MOMENTUM = 0.1


def _figures(m, C, *names):
    return (m.input(name, C, item=4) for name in names)


def _moments(m, values, count):
    """Mean, variance and reciprocal deviation of values that are read once."""
    total, squares = m.zero(), m.zero()
    for value in values:
        total, squares = total + value, squares + value * value
    mean = total * (1 / count)
    variance = squares * (1 / count) - mean * mean
    return mean, variance, (variance + EPSILON).rsqrt()


def batch_norm(m, *, B, C, pixels):
    x, y = m.input("x", B, C, pixels), m.output("y", B, C, pixels)
    gamma, beta, running_mean, running_var = _figures(m, C, "gamma", "beta", "running_mean", "running_var")
    kept_mean, kept_rstd = m.output("mean", C, item=4), m.output("rstd", C, item=4)
    count = B * pixels
    for c in range(C):
        places = [(z, c, p) for z in range(B) for p in range(pixels)]
        mean, variance, rstd = _moments(m, (x[place] for place in places), count)
        kept_mean[c], kept_rstd[c] = mean, rstd
        running_mean[c] = running_mean[c] * (1 - MOMENTUM) + mean * MOMENTUM
        running_var[c] = running_var[c] * (1 - MOMENTUM) + variance * (count / (count - 1)) * MOMENTUM
        for place in places:
            y[place] = (x[place] - mean) * rstd * gamma[c] + beta[c]


def batch_norm_inference(m, *, B, C, pixels):
    x, y = m.input("x", B, C, pixels), m.output("y", B, C, pixels)
    gamma, beta, mean, variance = _figures(m, C, "gamma", "beta", "mean", "variance")
    for c in range(C):
        variance.values[c,] = abs(variance.values[c,])
        rstd = (variance[c] + EPSILON).rsqrt()
        for z in range(B):
            for p in range(pixels):
                y[z, c, p] = (x[z, c, p] - mean[c]) * rstd * gamma[c] + beta[c]


def _known(x, places, mean, rstd, at):
    """Fills in the statistics of the forward pass."""
    values = [x.values[place] for place in places]
    mean.values[at] = sum(values) / len(values)
    rstd.values[at] = (sum((value - mean.values[at]) ** 2 for value in values) / len(values) + EPSILON) ** -0.5


def batch_norm_backward(m, *, B, C, pixels):
    x, dy, dx = m.input("x", B, C, pixels), m.input("dy", B, C, pixels), m.output("dx", B, C, pixels)
    gamma, mean, rstd = _figures(m, C, "gamma", "mean", "rstd")
    dgamma, dbeta = m.output("dgamma", C, item=4), m.output("dbeta", C, item=4)
    for c in range(C):
        places = [(z, c, p) for z in range(B) for p in range(pixels)]
        _known(x, places, mean, rstd, (c,))
        first = second = m.zero()
        normal = {place: (x[place] - mean[c]) * rstd[c] for place in places}
        for place in places:
            first, second = first + dy[place], second + dy[place] * normal[place]
        dbeta[c], dgamma[c] = first, second
        centre, slope, scale = first * (1 / len(places)), second * (1 / len(places)), gamma[c] * rstd[c]
        for place in places:
            dx[place] = (dy[place] - centre - normal[place] * slope) * scale


def group_norm(m, *, B, C, groups, pixels):
    x, y = m.input("x", B, C, pixels), m.output("y", B, C, pixels)
    gamma, beta = _figures(m, C, "gamma", "beta")
    kept_mean, kept_rstd = m.output("mean", B, groups, item=4), m.output("rstd", B, groups, item=4)
    each = C // groups
    for z, g in kept_mean.indices():
        places = [(z, c, p) for c in range(g * each, (g + 1) * each) for p in range(pixels)]
        mean, _, rstd = _moments(m, (x[place] for place in places), len(places))
        kept_mean[z, g], kept_rstd[z, g] = mean, rstd
        for place in places:
            y[place] = (x[place] - mean) * rstd * gamma[place[1]] + beta[place[1]]


def group_norm_backward(m, *, B, C, groups, pixels):
    x, dy, dx = m.input("x", B, C, pixels), m.input("dy", B, C, pixels), m.output("dx", B, C, pixels)
    (gamma,) = _figures(m, C, "gamma")
    mean, rstd = m.input("mean", B, groups, item=4), m.input("rstd", B, groups, item=4)
    dgamma, dbeta = m.output("dgamma", C, item=4), m.output("dbeta", C, item=4)
    sums = {name: [m.zero() for _ in range(C)] for name in ("gamma", "beta")}
    each = C // groups
    for z, g in mean.indices():
        places = [(z, c, p) for c in range(g * each, (g + 1) * each) for p in range(pixels)]
        _known(x, places, mean, rstd, (z, g))
        normal = {place: (x[place] - mean[z, g]) * rstd[z, g] for place in places}
        first = second = m.zero()
        for c in range(g * each, (g + 1) * each):
            plain = weighted = m.zero()
            for p in range(pixels):
                plain, weighted = plain + dy[z, c, p], weighted + dy[z, c, p] * normal[z, c, p]
            sums["beta"][c], sums["gamma"][c] = sums["beta"][c] + plain, sums["gamma"][c] + weighted
            first, second = first + plain * gamma[c], second + weighted * gamma[c]
        centre, slope = first * (1 / len(places)), second * (1 / len(places))
        for place in places:
            dx[place] = (dy[place] * gamma[place[1]] - centre - normal[place] * slope) * rstd[z, g]
    for c in range(C):
        dgamma[c], dbeta[c] = sums["gamma"][c], sums["beta"][c]


# --- the loss as eager code runs it, and multi-tensor kernels


def log_softmax(m, *, rows, cols):
    x, y = m.input("x", rows, cols), m.output("y", rows, cols)
    for i in range(rows):
        largest, total = m.lowest(), m.zero()
        for j in range(cols):
            largest = largest.maximum(x[i, j])
        shifted = [x[i, j] - largest for j in range(cols)]
        for value in shifted:
            total = total + value.exp()
        log = total.log()
        for j, value in enumerate(shifted):
            y[i, j] = value - log


def log_softmax_backward(m, *, rows, cols):
    y, dy, dx = m.input("y", rows, cols), m.input("dy", rows, cols), m.output("dx", rows, cols)
    for i in range(rows):
        total = m.zero()
        for j in range(cols):
            total = total + dy[i, j]
        for j in range(cols):
            dx[i, j] = dy[i, j] - y[i, j].exp() * total


def nll_loss(m, *, rows, cols):
    x, targets, loss = m.input("x", rows, cols), m.tokens("targets", rows, below=cols), m.output("loss", 1)
    total = m.zero()
    for i in range(rows):
        total = total - x[i, int(targets[i].value)]
    loss[0] = total


def nll_loss_backward(m, *, rows, cols):
    """The gradient of the sum is one."""
    targets, dx = m.tokens("targets", rows, below=cols), m.output("dx", rows, cols)
    for place in dx.indices():
        dx[place] = 0.0
    m.forget(dx)
    for i in range(rows):
        dx[i, int(targets[i].value)] = Number(m, 1.0) * -1.0


def adam_step(m, *, params, tensors):
    """The same step on the weights themselves. How they are dealt out to tensors changes no count."""
    gradient = m.input("gradient", params)
    mean, variance = (m.input(name, params, item=4) for name in ("mean", "variance"))
    weight = m.input("weight", params)
    correction, step = 1 / (1 - SECOND**STEPS), RATE_OF_STEP / (1 - FIRST**STEPS)
    for i in range(params):
        variance.values[i,] = abs(variance.values[i,])
        g = gradient[i]
        mean[i] = mean[i] * FIRST + g * (1 - FIRST)
        variance[i] = variance[i] * SECOND + g * (1 - SECOND) * g
        root = (variance[i] * correction).sqrt() + TINY
        weight[i] = weight[i] - (mean[i] / root * step + weight[i] * (RATE_OF_STEP * DECAY))


def sgd_step(m, *, params, tensors):
    gradient, momentum, weight = (m.input(name, params) for name in ("gradient", "momentum", "weight"))
    for i in range(params):
        momentum[i] = momentum[i] * FIRST + gradient[i]
        weight[i] = weight[i] - momentum[i] * RATE_OF_STEP


def foreach(m, *, params, tensors, reads):
    lists, y = m.input("lists", reads, params), m.output("y", params)
    for i in range(params):
        total = m.zero()
        for which in range(reads):
            total = total + lists[which, i]
        y[i] = total


def gradient_norm(m, *, params, tensors):
    """Elements are dealt out to the tensors in turn."""
    gradient, norms = m.input("gradient", params), m.output("norms", tensors)
    for t in range(tensors):
        squares = dot(m, ((gradient[i], gradient[i]) for i in range(t, params, tensors)))
        norms[t] = squares.sqrt()
