"""FlashAttention: the same attention with the keys and values streamed past tiles of queries that stay on chip.

On-chip memory of M bytes holds a tile of r rows each of q, the output, k and v: r = M / (4 d b) for b bytes an
element. Each of the ceil(N / r) query tiles reads the keys and values that it sees once, so that k and v move
N / r times and the traffic is of order N S d / r = 4 N S d² b / M elements: quadratic in N and falling as 1 / M.

NB this is the traffic of the algorithm between the on-chip memory and what feeds it. On a card whose L2 holds k and
v of the heads in flight, the re-reads end there and device memory sees the compulsory bytes alone.
"""

from __future__ import annotations

from perfmodel.arithmetic import Size, ceil_div, exact_div, floor_div, maximum, minimum, visible_keys, visible_pairs
from perfmodel.mixes import NORMALISE, ONLINE_SOFTMAX, SCALE, SOFTMAX_AGAIN, SOFTMAX_GRADIENT_WITH_SUM
from perfmodel.op import MULTIPLY_ADD, Engine, Kind, Op, Tensor, Work, contract, each
from perfmodel.operation import GROUPED, PROMPT, Backward, Example, Valid, operation
from perfmodel.runs import Heads

FITS = Valid("4 * d * act <= M", "a row each of q, k, v and the output must fit on chip, so 4 d b may not exceed M")


def rows_of_a_tile(M: Size, d: Size, act: Size) -> Size:
    """Four tiles of r rows of d elements share the on-chip memory."""
    return floor_div(M, 4 * d * act)


def keys_read(N: Size, S: Size, r: Size, causal: Size, W: Size) -> Size:
    """Rows of k that all query tiles of one head read.

    Without a mask each of the t = ceil(N / r) tiles reads all S. Under a causal mask tile i ends at query (i + 1) r
    and reads the keys up to it, S - N + (i + 1) r; the last, cut short, reads S. A window hides the keys more than
    W - 1 before the tile's first query, which never shows while S <= W.
    """
    tiles = ceil_div(N, r)
    if not causal:
        return tiles * S
    rows = tiles * S - exact_div(r * tiles * (tiles - 1), 2) - (tiles - 1) * (N - r * tiles)
    if W is None:
        return rows
    # Tile i starts at key S - N + i r and skips max(0, S - N + i r + 1 - W) keys: an arithmetic series over the
    # tiles that skip any, the first of which is f.
    start = S - N + 1 - W
    f = ceil_div(maximum(0, -start), r)
    f = f - maximum(0, f - tiles)
    number = tiles - f
    return rows - number * start - exact_div(r * number * (f + tiles - 1), 2)


def rescalings(N: Size, S: Size, r: Size, causal: Size, W: Size) -> Size:
    """How often the rows of one head are rescaled: a row of k keys ceil(k / r) times.

    Without a mask each of the N rows sees S keys. Under a causal mask the rows see S - N + 1 to S keys, and with a
    window those that would see more than W see W.
    """
    if not causal:
        return N * ceil_div(S, r)
    before = S - N
    if W is None:
        return _ceilings(S, r) - _ceilings(before, r)
    full = maximum(0, S - W) - maximum(0, before - W)
    return _ceilings(minimum(S, W), r) - _ceilings(minimum(before, W), r) + full * ceil_div(W, r)


def _ceilings(n: Size, r: Size) -> Size:
    """The sum of ceil(k / r) for k from 1 to n: with t = ceil(n / r) it is n t less r for each full t below the last."""
    t = ceil_div(n, r)
    return n * t - exact_div(r * t * (t - 1), 2)


def queries_read(N: Size, S: Size, r: Size, causal: Size, W: Size) -> Size:
    """Rows of q that all key tiles of one head read in the backward pass: the mirror of ``keys_read``.

    The tile of keys j r to (j + 1) r is not seen by the queries before it (once j r passes S - N) nor, under a
    window, by those more than W - 1 after its last key.
    """
    tiles = ceil_div(S, r)
    if not causal:
        return tiles * N
    f = floor_div(S - N, r) + 1
    number = tiles - f
    rows = tiles * N + number * (S - N) - exact_div(r * number * (f + tiles - 1), 2)
    if W is None:
        return rows
    return rows - _passed(S - W + 1, r) + _passed(S - W + 1 - N, r)


def _passed(a: Size, r: Size) -> Size:
    """The sum of a - (j + 1) r over the whole tiles that end before a."""
    g = floor_div(maximum(0, a - 1), r)
    return g * a - exact_div(r * g * (g + 1), 2)


@operation(
    summary="attention in one kernel, k and v re-read once per query tile",
    example=Example(
        at={"B": 1, "H": 2, "H_kv": 1, "N": 6, "S": 8, "d": 8, "M": 128},
        flops=4032,
        traffic=1920,
        because="a tile has 128 / (4 x 8 x 2) = 2 rows, so 3 query tiles read 3 x 8 rows of k; 2 heads x (48 pairs x "
        "(16 + 1 + 4 + 16) + 6 x 4 rescaled rows of 8 + 48 divisions); q and out 96 elements each, k and v 384 each, 2 bytes",
    ),
    sources=("Dao et al. 2022, theorem 2 and algorithm 1", "Dao 2023, algorithm 1"),
    valid=(GROUPED, PROMPT, FITS),
    backward=(Backward("flash_attention_backward"),),
)
def flash_attention(B: Size, H: Size, H_kv: Size, N: Size, S: Size, d: Size, M: Size, causal: Size = 0,
                    W: Size = None, act: Size = 2, cache: Size = 2, acc: Size = 4) -> Op:  # fmt: skip
    """Queries in tiles of r = M / (4 d b) rows; a row's running output is rescaled once for every r keys that it meets."""
    keys = visible_keys(N, S, causal, W)
    r = rows_of_a_tile(M, d, act)
    pairs, rows = visible_pairs(N, S, causal, W), keys_read(N, S, r, causal, W)
    return Op(
        tensors=(
            Tensor("q", (B, H, N, d), act, reads=1),
            Tensor("k", (B, H_kv, keys, d), cache, reads=1, read_elements=B * H * rows * d, kind=Kind.CACHE),
            Tensor("v", (B, H_kv, keys, d), cache, reads=1, read_elements=B * H * rows * d, kind=Kind.CACHE),
            Tensor("out", (B, H, N, d), act, writes=1),
            Tensor("logsumexp", (B, H, N), acc, kept=True),
        ),
        work=(
            Work("scores", contract(B, H, pairs, d), Engine.TENSOR),
            Work("scale", each(SCALE, B, H, pairs), Engine.VECTOR),
            Work("online softmax", each(ONLINE_SOFTMAX, B, H, pairs), Engine.VECTOR),
            Work("output", contract(B, H, pairs, d), Engine.TENSOR),
            Work("rescale", each(SCALE, B, H, rescalings(N, S, r, causal, W), d), Engine.VECTOR),
            Work("normalise", each(NORMALISE, B, H, N, d), Engine.VECTOR),
        ),
        runs=Heads(B, H, H_kv, N, S, d, d, causal, W, act, cache),
    )


@operation(
    summary="gradients in one kernel, queries streamed past tiles of keys and the scores recomputed",
    example=Example(
        at={"B": 1, "H": 2, "H_kv": 1, "N": 6, "S": 8, "d": 8, "M": 128},
        flops=8448,
        traffic=5936,
        because="tiles of 2 rows, so 4 key tiles read 4 x 6 rows of q per head; 2 heads x 48 pairs x (5 x 16 + 3 + 3), 96 "
        "outputs x 2; of 2 bytes: q 384, dout 384 and 96, out 96, k, v, dk, dv 64 each: 1216 elements; of 4 bytes: dq "
        "384 read and written, logsumexp 48, row sums 48 read and 12 written: 876",
    ),
    sources=("Dao et al. 2022, algorithm 4", "Dao 2023, algorithm 2"),
    valid=(GROUPED, PROMPT, FITS),
)
def flash_attention_backward(B: Size, H: Size, H_kv: Size, N: Size, S: Size, d: Size, M: Size, causal: Size = 0,
                             W: Size = None, act: Size = 2, cache: Size = 2, acc: Size = 4) -> Op:  # fmt: skip
    """Key tiles of r = M / (4 d b) rows hold k, v, dk and dv; q and dO stream past each and dq is added to in memory."""
    keys = visible_keys(N, S, causal, W)
    r = rows_of_a_tile(M, d, act)
    pairs, rows = visible_pairs(N, S, causal, W), queries_read(N, S, r, causal, W)
    product, streamed = contract(B, H, pairs, d), B * H * rows
    query, key = (B, H, N, d), (B, H_kv, keys, d)
    return Op(
        tensors=(
            Tensor("out", query, act, reads=1),
            Tensor("dout", query, act, reads=1, read_elements=(streamed + B * H * N) * d),
            Tensor("q", query, act, reads=1, read_elements=streamed * d),
            Tensor("k", key, cache, reads=1),
            Tensor("v", key, cache, reads=1),
            Tensor("logsumexp", (B, H, N), acc, reads=1, read_elements=streamed),
            Tensor("row sums", (B, H, N), acc, read_elements=streamed, write_elements=B * H * N),
            Tensor("dq", query, acc, writes=1, read_elements=streamed * d, write_elements=streamed * d),
            Tensor("dk", key, act, writes=1),
            Tensor("dv", key, act, writes=1),
        ),
        work=(
            Work("row sums of dout·out", each(MULTIPLY_ADD, B, H, N, d), Engine.VECTOR),
            Work("scores again", product, Engine.TENSOR),
            Work("scale again", each(SCALE, B, H, pairs), Engine.VECTOR),
            Work("probabilities again", each(SOFTMAX_AGAIN, B, H, pairs), Engine.VECTOR),
            Work("dv", product, Engine.TENSOR),
            Work("dprobs", product, Engine.TENSOR),
            Work("softmax gradient", each(SOFTMAX_GRADIENT_WITH_SUM, B, H, pairs), Engine.VECTOR),
            Work("scale", each(SCALE, B, H, pairs), Engine.VECTOR),
            Work("dq", product, Engine.TENSOR),
            Work("dk", product, Engine.TENSOR),
        ),
        runs=Heads(B, H, H_kv, N, S, d, d, causal, W, act, cache, backward=True),
    )
