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


def softmax_row(m, values, factor=1.0):
    """max, subtract, exponential, sum, divide."""
    largest = m.lowest()
    for value in values:
        largest = largest.maximum(value)
    powers = [(value - largest).exp(factor) for value in values]
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
    """The factor 1/sqrt(d) is folded into the exponential."""
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
            square[z, h, i, j] = -math.inf if hidden else score(m, q, k, (z, h, i), j, heads.share, d)
    m.next_kernel()
    touch(square)
    for z, h, i in heads.queries:
        row = softmax_row(m, [square[z, h, i, j] for j in heads.seen[i]], d**-0.5)
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
    """From stored probabilities; 1/sqrt(d) is folded into the store of the softmax's gradient."""
    dout, q, k, v = m.input("dout", B, H, N, d), m.input("q", B, H, N, d), *_keys(m, B, H_kv, S, d)
    heads = Heads(B, H, H_kv, N, S, causal, W)
    probs = _stored_probabilities(m, heads, q, k, (B, H, N, S))
    dprobs, dscores = m.between("dprobs", B, H, N, S), m.between("dscores", B, H, N, S)
    touch(probs)
    _dv(m, heads, probs, dout, m.output("dv", B, H_kv, S, d))
    m.next_kernel()
    _dprobs(m, heads, dout, v, dprobs)
    m.next_kernel()
    touch(probs, dprobs)
    for z, h, i in heads.queries:
        total = dot(m, ((probs[z, h, i, j], dprobs[z, h, i, j]) for j in heads.seen[i]))
        for j in range(S):
            shown = j in heads.seen[i]
            gradient = probs[z, h, i, j] * (dprobs[z, h, i, j] - total) if shown else 0.0
            dscores[z, h, i, j] = float(gradient) * d**-0.5
    m.next_kernel()
    touch(dscores)
    _dq(m, heads, dscores, k, m.output("dq", B, H, N, d))
    m.next_kernel()
    touch(dscores)
    _dk(m, heads, dscores, q, m.output("dk", B, H_kv, S, d))


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


def _stored_statistics(m, heads, q, k, v, out, logsumexp):
    for z, h, i in heads.queries:
        row = _powers(heads, q, k, z, h, i)
        logsumexp.values[z, h, i] = math.log(sum(row.values()))
        for e in range(q.shape[-1]):
            weighted = sum(power * v.values[z, h // heads.share, j, e] for j, power in row.items())
            out.values[z, h, i, e] = weighted / sum(row.values())


def attention_backward_recompute(m, *, B, H, H_kv, N, S, d, causal=0, W=None):
    """One kernel: the probabilities again from the scores and each row's logarithm of the sum."""
    out, dout, q = (m.input(name, B, H, N, d) for name in ("out", "dout", "q"))
    k, v = _keys(m, B, H_kv, S, d)
    logsumexp = m.input("logsumexp", B, H, N, item=4)
    heads = Heads(B, H, H_kv, N, S, causal, W)
    _stored_statistics(m, heads, q, k, v, out, logsumexp)
    dprobs, probs, dscores = (m.scratch(B, H, N, S) for _ in range(3))
    sums = {row: dot(m, ((dout[*row, e], out[*row, e]) for e in range(d))) for row in heads.queries}
    for z, h, i in heads.queries:
        for j in heads.seen[i]:
            again = score(m, q, k, (z, h, i), j, heads.share, d)
            probs[z, h, i, j] = (_prescaled(again, d) - logsumexp[z, h, i]).exp()
    _dv(m, heads, probs, dout, m.output("dv", B, H_kv, S, d))
    _dprobs(m, heads, dout, v, dprobs)
    for z, h, i in heads.queries:
        for j in heads.seen[i]:
            gradient = probs[z, h, i, j] * (dprobs[z, h, i, j] - sums[z, h, i])
            dscores[z, h, i, j] = float(gradient) * d**-0.5
    _dq(m, heads, dscores, k, m.output("dq", B, H, N, d))
    _dk(m, heads, dscores, q, m.output("dk", B, H_kv, S, d))


def _prescaled(number, d):
    """1/sqrt(d) folded into the fused multiply-add that subtracts: no operation of its own."""
    return Number(number.machine, number.value * d**-0.5)


def flash_attention(m, *, B, H, H_kv, N, S, d, M, causal=0, W=None):
    """Tiles of queries stay on chip, tiles of the keys that they see stream past each."""
    q, k, v, out = m.input("q", B, H, N, d), *_keys(m, B, H_kv, S, d), m.output("out", B, H, N, d)
    heads, r = Heads(B, H, H_kv, N, S, causal, W), rows_on_chip(M, d)
    for z in range(B):
        for h in range(H):
            for first in range(0, N, r):
                tile = range(first, min(first + r, N))
                m.forget(k, v)
                state = {i: (m.lowest(), m.zero(), [m.zero()] * d) for i in tile}
                for start in range(0, S, r):
                    for i in tile:
                        keys = [j for j in range(start, min(start + r, S)) if j in heads.seen[i]]
                        if keys:
                            state[i] = _online(m, (q, k, v), (z, h, i), keys, state[i], heads.share)
                for i, (_, total, row) in state.items():
                    for e in range(d):
                        out[z, h, i, e] = row[e] / total


def _online(m, arrays, query, keys, state, share):
    """One tile of keys into a row's running maximum, sum and output; the rescaled sum is one number of d + 1."""
    (q, k, v), (z, h, _), (largest, total, row) = arrays, query, state
    d = q.shape[-1]
    values = [_prescaled(score(m, q, k, query, j, share, d), d) for j in keys]
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
    """Tiles of keys stay on chip with their gradients; the queries that see them stream past, and dq is added to."""
    out, dout, q = (m.input(name, B, H, N, d) for name in ("out", "dout", "q"))
    k, v = _keys(m, B, H_kv, S, d)
    logsumexp, sums = m.input("logsumexp", B, H, N, item=4), m.output("row sums", B, H, N, item=4)
    dq, dk, dv = m.output("dq", B, H, N, d, item=4), m.output("dk", B, H_kv, S, d), m.output("dv", B, H_kv, S, d)
    heads, r = Heads(B, H, H_kv, N, S, causal, W), rows_on_chip(M, d)
    _stored_statistics(m, heads, q, k, v, out, logsumexp)
    for row in heads.queries:
        sums[row] = dot(m, ((dout[*row, e], out[*row, e]) for e in range(d)))
    m.forget(dout, sums, dq)
    for z in range(B):
        for g in range(H_kv):
            for first in range(0, S, r):
                tile = range(first, min(first + r, S))
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
        prob = (_prescaled(again, d) - logsumexp[query]).exp()
        dprob = dot(m, ((dout[*query, e], v[z, g, j, e]) for e in range(d)))
        gradient = _prescaled(prob * (dprob - sums[query]), d)
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
    touch(x, mean, rstd)
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
    touch(x, rstd)
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


# --- tokens


def embedding(m, *, B, N, D, V):
    tokens, table, y = m.tokens("tokens", B, N, below=V), m.input("table", V, D), m.output("y", B, N, D)
    for z in range(B):
        for t in range(N):
            m.forget(table)
            row = int(tokens[z, t].value)
            for e in range(D):
                y[z, t, e] = table[row, e]


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


def combine_experts(m, *, B, N, D, A):
    outputs, weights, y = m.input("outputs", B, N, A, D), m.input("weights", B, N, A), m.output("y", B, N, D)
    for z, t, e in y.indices():
        y[z, t, e] = dot(m, ((outputs[z, t, a, e], weights[z, t, a]) for a in range(A)))


# --- vectors and elementwise functions: the tensors read, those written, and one element of them


def relu_backward(x, dy):
    return (dy.chosen(x > 0),)


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
    "scale": ("x", "y", lambda x: (x * 3.0,)),
    "exp": ("x", "y", lambda x: (x.exp(),)),
    "relu": ("x", "y", lambda x: (x.maximum(0.0),)),
    "relu_backward": ("x dy", "dx", relu_backward),
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
