"""Which mechanism an operation's kernel runs by: from its tensors and work to the parts that a library launches."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import ceil
from typing import TYPE_CHECKING

from perfmodel.op import Engine, Kind, Op, Tensor, Work
from perfmodel.timing import instructions, parameters, stages, tiles, torch_rows
from perfmodel.timing.blocks import Launch, elementwise
from perfmodel.timing.blocks import body as launched_body
from perfmodel.timing.card import Card
from perfmodel.timing.part import Part
from perfmodel.timing.rows import Row
from perfmodel.timing.terms import Body
from perfmodel.units import ITEM_BYTES

if TYPE_CHECKING:
    from perfmodel.timing.walks import Heads

OWN = ("ours", "fused")
WITH_OWN_GRADIENT = ("softmax_backward", "layernorm_backward")
ROWS = ("softmax", "layernorm", "rmsnorm")
PRODUCT = 10.0  # instructions of a product of two elements, with their access


def parts(card: Card, name: str, op: Op, dtype: str, impl: str) -> tuple[Part, ...]:
    """The launches of one kernel of the model, in order."""
    if impl in stages.EAGER and name in stages.STAGES:
        own_type = "fp32" if impl == "math" else dtype
        item = ITEM_BYTES[own_type]
        before, after = stages.around(card, name, op, item, impl)
        alone = stages.single(card, name, op, item, own_type)
        return (*before, *((alone,) if alone else _stage(card, op, own_type, item)), *after)
    if name in _BY_NAME:
        return _BY_NAME[name](card, name, op, dtype, impl)
    contractions = [work for work in op.work if work.amount.contraction]
    if len(contractions) > 1 and any(t.name == "q" and t.reads for t in op.tensors):
        return _attention(card, name, op, dtype, impl)
    if contractions and contractions[0].engine is Engine.TENSOR:
        return _products(card, op, dtype, contractions)
    if name == "pad" and impl == "naive":
        return _padding(card, op)
    if name == "convolve" and impl == "naive":
        return _convolution(card, name, op, dtype, impl)
    if op.work and op.work[0].name == "softmax":
        return _rows(card, "softmax", op, dtype, impl)
    if op.work and op.work[0].name == "softmax gradient":
        return _rows_backward(card, "softmax_backward", op, dtype, impl)
    return (_stream(card, op),)


def _stage(card: Card, op: Op, dtype: str, item: int) -> tuple[Part, ...]:
    """A stage of eager attention in the type that it runs in."""
    wide = op._replace(tensors=tuple(tensor._replace(item=item) for tensor in op.tensors))
    return parts(card, "", wide, dtype, "torch")


def _written(op: Op) -> Tensor:
    """The result: what is written, the largest of it."""
    return max((t for t in op.tensors if t.writes and not t.spill), key=lambda t: t.elements)


def _byte(op: Op) -> tuple[int, int]:
    """Bytes of all outer tensors, and of the weights among them."""
    outer = [t for t in op.tensors if not t.spill]
    fresh = sum(t.read_byte for t in outer if t.kind is Kind.PARAMETER or t.kind is Kind.WEIGHT)
    return sum(t.read_byte + t.write_byte for t in outer), fresh


def _stream(card: Card, op: Op) -> Part:
    """An elementwise kernel: bytes once in and out, instructions in their shadow."""
    read, write = op.read_byte(), op.write_byte()
    byte, fresh = _byte(op)
    elements = max((t.elements for t in op.tensors if not t.spill and (t.reads or t.writes)), default=0)
    lanes = instructions.of_op(op, elements)
    return Part(lambda found: elementwise(card, read, write, lanes, found), byte, fresh)


def _gated(card: Card, name: str, op: Op, dtype: str, impl: str) -> tuple[Part, ...]:
    """A gate and what it lets through: two halves of every row, by a kernel that was made for both. Torch launches the
    activation and the product apart."""
    if impl != "torch":
        return (_stream(card, op),)
    half = _written(op).write_byte
    elements = _written(op).elements
    lanes = max(0.0, instructions.of_op(op, elements) - PRODUCT * elements)
    return (
        Part(lambda found: elementwise(card, half, half, lanes, found, "activation"), 2 * half),
        Part(lambda found: elementwise(card, 2 * half, half, PRODUCT * elements, found, "product"), 3 * half),
    )


def _products(card: Card, op: Op, dtype: str, contractions: list[Work]) -> tuple[Part, ...]:
    """Matrix products: those that read one tensor into several results are one of all their columns."""
    byte, fresh = _byte(op)
    sizes = _sizes(op, contractions)

    def body(found: float) -> Body:
        bodies = [tiles.body(card, m, k, n, batch, item, dtype, found=found) for m, k, n, batch, item in sizes]
        if len(bodies) == 1:
            return bodies[0]
        terms = tuple(term for each in bodies for term in each.terms)
        return Body(sum(each.seconds for each in bodies), terms, "tiles", bodies[0].choice)

    return (Part(body, byte, fresh),)


def _sizes(op: Op, contractions: list[Work]) -> list[tuple[int, int, int, int, int]]:
    """m, k, n, batch and bytes per element of each product."""
    read = [t for t in op.tensors if t.reads and not t.spill and len(t.shape) > 1]
    first = read[0] if read else op.tensors[0]
    if len(contractions) == 1:
        out = _written(op)
        count = contractions[0].amount.times
        n = int(out.shape[-1])
        experts = next((t for t in op.tensors if t.name == "distinct experts"), None)
        if experts is not None:
            *_, k, n = contractions[0].amount.dims
            batch = max(1, experts.elements // max(1, k * n))
            return [(max(1, ceil(count / (k * n * batch))), int(k), int(n), batch, first.item)]
        flat = len(out.shape) <= 2 or any(len(t.shape) <= 2 for t in read)
        batch = 1
        if not flat:
            batch = min(_lead(t) for t in (*read, out))
        m = max(1, out.elements // (n * batch))
        last = int(first.shape[-1])
        # A causal mask counts fewer pairs than the product goes through.
        masked = len(out.shape) == 4 and count <= out.elements * last < 3 * count
        k = last if masked else max(1, round(count / out.elements))
        return [(m, k, n, batch, first.item)]
    together = len({work.reads[0] for work in contractions if work.reads}) == 1 and all(
        work.reads for work in contractions
    )
    if together:
        k = int(first.shape[-1])
        m = max(1, first.elements // k)
        total = sum(work.amount.times for work in contractions)
        return [(m, k, max(1, total // (m * k)), 1, first.item)]
    found = []
    for work in contractions:
        *_, k, n = work.amount.dims
        found.append((max(1, work.amount.times // (int(k) * int(n))), int(k), int(n), 1, first.item))
    return found


def _lead(tensor: Tensor) -> int:
    count = 1
    for size in tensor.shape[:-2]:
        count *= int(size)
    return count


def _row(op: Op) -> Row:
    shape = op.tensors[0].shape
    cols = int(shape[-1])
    return Row(max(1, op.tensors[0].elements // cols), cols, op.tensors[0].item)


def _rows(card: Card, name: str, op: Op, dtype: str, impl: str) -> tuple[Part, ...]:
    """Softmax and normalisation, forward."""
    row = _row(op)
    if impl in OWN:
        from perfmodel.timing import own_rows

        return own_rows.forward(card, f"{name}_forward", row)
    if name == "softmax":
        return _launched(card, (torch_rows.softmax(row, card.before),))
    return _launched(card, torch_rows.norm(row, name == "rmsnorm", card.before))


def _launched(card: Card, launches: tuple[Launch, ...]) -> tuple[Part, ...]:
    """Launches as parts of a sequence."""
    return tuple(
        Part(partial(launched_body, card, launch), int(launch.read_byte + launch.write_byte)) for launch in launches
    )


def _rows_backward(card: Card, name: str, op: Op, dtype: str, impl: str) -> tuple[Part, ...]:
    """Their gradients."""
    row = _row(op)
    byte = 3 * row.byte
    if impl in OWN and name in WITH_OWN_GRADIENT:
        from perfmodel.timing import own_rows

        return own_rows.norm_backward(card, row) if name == "layernorm_backward" else own_rows.forward(card, name, row)
    if name == "softmax_backward":
        lanes = PRODUCT * row.rows * row.cols
        product = Part(lambda found: elementwise(card, 2 * row.byte, row.byte, lanes, found, "y dy"), byte)
        return (product, *_launched(card, (torch_rows.softmax_backward(row),)))
    rms = name == "rmsnorm_backward"
    own_row = torch_rows.norm_backward(row, rms)
    return _launched(card, (own_row, *torch_rows.weights(row, rms, card.multiprocessors)))


def _heads(op: Op) -> Heads:
    from perfmodel.timing.walks import Heads

    by_name = {tensor.name: tensor for tensor in op.tensors}
    q, k = by_name["q"], by_name.get("k") or by_name["latent"]
    v = by_name.get("v", k)
    B, H, N, width = (int(size) for size in q.shape)
    H_kv, S = int(k.shape[1]), int(k.shape[2])
    scored = next(work for work in op.work if work.amount.contraction)
    pairs = scored.amount.dims[2]
    causal = N > 1 and pairs < N * S
    # Fewer pairs than the triangle holds are those of a window.
    window = ceil(pairs / N) if causal and pairs < N * (S - (N - 1) / 2) else 0
    return Heads(B * H, B * H_kv, N, S, width, int(v.shape[-1]), causal, window)


def _attention(card: Card, name: str, op: Op, dtype: str, impl: str) -> tuple[Part, ...]:
    from perfmodel.timing import attention, backends

    size = _heads(op)
    how = backends.back_end(impl, dtype, parameters.generation(card.gpu), card.attention)
    item = op.tensors[0].item
    byte, _ = _byte(op)
    if "backward" in name:
        return (Part(lambda found: attention.backward(card, how, size, item, dtype), byte),)
    return (Part(lambda found: attention.forward(card, how, size, item, dtype, found), byte),)


def _convolution(card: Card, name: str, op: Op, dtype: str, impl: str) -> tuple[Part, ...]:
    B, N, D = (
        (int(size) for size in _written(op).shape) if name == "convolve" else (int(s) for s in op.tensors[0].shape)
    )
    K = int(op.tensor("filter").shape[1])
    item = op.tensors[0].item
    byte, _ = _byte(op)
    from perfmodel.timing import convolution

    back = name == "conv1d_backward"
    if impl in ("torch", "torch_channels_first"):
        run = convolution.torch_backward if back else convolution.by_torch
        return (Part(lambda found: run(card, B, N, D, K, item, dtype, turned=impl == "torch"), byte),)
    own = convolution.own_backward if back else convolution.own
    return (Part(lambda found: own(card, B, N, D, K, item, found), byte),)


def _padding(card: Card, op: Op) -> tuple[Part, ...]:
    from perfmodel.timing import convolution

    B, N, D = (int(size) for size in op.tensors[0].shape)
    rows_ = int(_written(op).shape[1])
    byte, _ = _byte(op)
    item = op.tensors[0].item
    return (Part(lambda found: convolution.pad(card, B, N, rows_, D, item, found), byte),)


_BY_NAME: dict[str, Callable[[Card, str, Op, str, str], tuple[Part, ...]]] = {
    **dict.fromkeys(ROWS, _rows),
    "silu_gate": _gated,
    **{f"{name}_backward": _rows_backward for name in ROWS},
    "conv1d": _convolution,
    "conv1d_backward": _convolution,
}
