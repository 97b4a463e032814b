"""The operations in scalar arithmetic, one multiplication at a time: what the package's counts are held to.

Nothing here counts: loops run, and the machine they run on sees what is added, multiplied, read and written. Each
algorithm takes its arrays from the machine under the names of the operation's tensors.
"""

from __future__ import annotations

import math

from machine import Number


def dot(machine, pairs):
    """A sum of products, accumulated from zero."""
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
    """Nothing of A or B stays on chip from one output tile to the next; M says only that the slices fit."""
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
    """Whether query i sees key j, the last query standing at the last key."""
    own = S - N + i
    return not causal or (j <= own and (W is None or own - j < W))


class Heads:
    """Which keys a query sees and which heads share a key."""

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
    """A square is stored and read whole, hidden entries included."""
    for array in arrays:
        for place in array.indices():
            array[place]


def softmax_row(m, values):
    """max, subtract, exponential, sum, divide."""
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
    """What a product's kernel does to each element of a gradient that it has read."""
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
    """Expanded: the latent of rank r is only kept."""
    q, k, v = m.input("q", B, H, N, d + d_r), m.input("k", B, H, S, d + d_r), m.input("v", B, H, S, d_v)
    _attend(m, Heads(B, H, H, N, S, causal, W), q, k, v)


def mla_cached_attention(m, *, B, H, N, S, d, d_r, d_v, causal=0, W=None):
    """As expanded, from a cache of what was expanded before."""
    mla_attention(m, B=B, H=H, N=N, S=S, d=d, d_r=d_r, d_v=d_v, r=1, causal=causal, W=W)


def mla_latent_attention(m, *, B, H, N, S, r, d_r, causal=0, W=None):
    """One key for all heads, a latent with a rotary part behind it; the latent is the value too."""
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
    """From stored probabilities."""
    _from_probabilities(m, Heads(B, H, H_kv, N, S, causal, W), (B, H, N, d), *_keys(m, B, H_kv, S, d))


def mla_attention_backward(m, *, B, H, N, S, d, d_r, d_v, causal=0, W=None):
    k, v = m.input("k", B, H, S, d + d_r), m.input("v", B, H, S, d_v)
    _from_probabilities(m, Heads(B, H, H, N, S, causal, W), (B, H, N, d + d_r), k, v)


def _from_probabilities(m, heads, shape, k, v):
    """Each product with the scores' gradient scales what it has read."""
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
    """What the forward pass left in memory."""
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
    """One kernel: the probabilities again from the scores and each row's logarithm of the sum."""
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
    """Tiles of queries stay on chip, the keys that they see stream past each: every row meets its own r at a time."""
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
    """One tile of keys into a row's running maximum, sum and output; the rescaled sum is one number of d + 1."""
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
    """How many rows of q, k, v and the output, of d elements of 2 bytes, fit side by side."""
    rows = 0
    while (rows + 1) * (d + d + d + d) * 2 <= M:
        rows += 1
    return rows


def flash_attention_backward(m, *, B, H, H_kv, N, S, d, M, causal=0, W=None):
    """Tiles of keys stay on chip with their gradients; the queries that see them stream past, and dq is added to.

    Keys that a window hides from all queries are left alone.
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
    """One query meets a tile of keys: five products."""
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


EPSILON = 1e-5


def layernorm(m, *, rows, cols):
    """Both sums in one pass; the variance is the mean of the squares less the square of the mean."""
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
    """The mean of a row and one over its deviation, in one pass."""
    total, squares = m.zero(), m.zero()
    for j in range(cols):
        total, squares = total + x[i, j], squares + x[i, j] * x[i, j]
    mean = total * (1 / cols)
    return mean, (squares * (1 / cols) - mean * mean + EPSILON).rsqrt()


def statistics(x, mean, rstd, cols):
    """Fills in what the forward pass kept of each row."""
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
    """Padding and convolution; as one kernel the padded signal stays on chip."""
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
    """Taps that reach into the padding meet zeros and are multiplied all the same."""
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
    """All channels with all; the first tap of the first output lies on the padding."""
    x, filters, bias = m.input("x", B, N * stride, D_in), m.input("filters", D_out, D_in, K), m.input("bias", D_out)
    y = m.output("y", B, N, D_out)
    for z, t, o in y.indices():
        taps = ((tap, i) for tap in range(K) for i in range(D_in))
        total = dot(m, ((_padded(m, x, z, t * stride + tap - K // 2, i), filters[o, i, tap]) for tap, i in taps))
        y[z, t, o] = total + bias[o]


def _padded(m, array, z, t, i):
    return array[z, t, i] if 0 <= t < array.shape[1] else m.zero()


def conv_backward(m, *, B, N, D_in, D_out, K, stride=1):
    """Each output's gradient goes back to the taps that it came from, those on the padding included."""
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
    """Softmax, then A times the largest that is left; what was taken stays in the search, below all others."""
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
    """A gradient of zero arrives at the experts that were not chosen."""
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
    """softplus of the step; then state by state h = exp(step a) h + step u b, and y = sum of c h, and the skip."""
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
    """The states again, kept on chip, and then from the last token to the first."""
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
    """RWKV-4: numerator, denominator and the exponent that both are relative to, per channel."""
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
    """The recurrence again; then back, the gradients of both sums relative to an exponent of their own."""
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
    """The corrections are folded into numbers that all parameters share."""
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
    """The rows that end at the T-th, by their index."""
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
    """Pairs of neighbours turned by an angle; the table holds cosines, sines and negated sines."""
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
    """A random number of its own for each element; one byte says whether it was kept."""
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
    """Where a clamp holds, nothing goes back."""
    low, high = gate.minimum(LIMIT), up.minimum(LIMIT).maximum(-LIMIT)
    scaled = low * 1.702
    share, shifted = Number(gate.machine, 1.0) / ((-scaled).exp() + 1.0), high + 1.0
    dgate = share * (scaled * (1.0 - share) + 1.0) * shifted * dy
    dup = low * share * dy
    inside, over = not gate > LIMIT, up > LIMIT
    return dgate.chosen(inside), dup.chosen(not over).chosen(up > -LIMIT)


def clamped_swiglu(gate, up):
    """gpt-oss: the gate clamped above, the linear part on both sides; a minimum counts like a maximum."""
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
    """The factor of x in the tanh form, and the form's derivative."""
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
    """Every element read, worked on and written; an output may be an input's own array."""
    reads, writes, function = ELEMENTWISE[name]
    inputs = [m.input(tensor, numel, item=item) for tensor in reads.split()]
    outputs = [m.arrays.get(t) or m.output(t, numel, item=item) for t in writes.split()]
    for i in range(numel):
        for output, value in zip(outputs, function(*(array[i] for array in inputs)), strict=True):
            output[i] = value


def vector_dot(m, *, numel):
    """The sum stays in a register: its one element is not moved."""
    x, y, total = m.input("x", numel, item=4), m.input("y", numel, item=4), m.scratch(1)
    total[0] = dot(m, ((x[i], y[i]) for i in range(numel)))
