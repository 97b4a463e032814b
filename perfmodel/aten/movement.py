"""Copies, conversions, concatenations, fills, and rows chosen by index."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from perfmodel.arithmetic import product
from perfmodel.aten.asking import asked, broadcast, compact, dimensions, result_of, together
from perfmodel.aten.calls import FLOATS, Call, Launched, Operand, Rule


def copied(source: Operand, target: Operand) -> Iterable[Launched]:
    """A copy of one tensor to another of its shape, or of a broadcast shape."""
    numel = target.numel
    if isinstance(numel, int) and numel == 0:
        return
    dtype = next((x.dtype for x in (source, target) if x.dtype in FLOATS), "fp32")
    run = together(source, target)
    found = asked(
        "copy", dtype, numel=numel, distinct=_least(source.distinct, numel), run=run, act=source.item, out=target.item
    )  # fmt: skip
    yield _with(found, dims=dimensions((target, source)), converts=_converts(source, target))


def _with(found: Launched, **facts: Any) -> Launched:
    """The kernel with more facts about how it runs."""
    assert found.op.runs is not None
    return found._replace(op=found.op._replace(runs=found.op.runs._replace(**facts)))  # type: ignore[union-attr]


def _converts(source: Operand, target: Operand) -> bool:
    """Whether a copy converts elements one by one: torch has vectorised kernels only from float32 to halves."""
    return source.dtype != target.dtype and not (source.dtype == "fp32" and target.dtype in ("fp16", "bf16"))


def _least(a: Any, b: Any) -> Any:
    return min(a, b) if isinstance(a, int) and isinstance(b, int) else a


def copy_to(call: Call) -> Iterable[Launched]:
    """copy_(target, source)."""
    if len(call.operands) > 1:
        yield from copied(call.operands[1], call.operands[0])


def copy_of(call: Call) -> Iterable[Launched]:
    """clone, contiguous and conversions: a new tensor."""
    source = call.operands[0]
    yield from copied(source, result_of(call, compact(source.shape, source.dtype)))


def split_copy(call: Call) -> Iterable[Launched]:
    """split_with_sizes_copy(x): x in several tensors of their own."""
    source = call.operands[0]
    yield from copied(source, compact(source.shape, source.dtype))


def pad(call: Call) -> Iterable[Launched]:
    """constant_pad_nd(x, pad, value): the last dimension's pads come first."""
    source, pads = call.operands[0], call.argument(1, "pad", ())
    shape = list(source.shape)
    for at, (before, after) in enumerate(zip(pads[::2], pads[1::2], strict=False), 1):
        shape[-at] = shape[-at] + before + after
    yield from copied(source, result_of(call, compact(shape, source.dtype)))


def placed(call: Call) -> Iterable[Launched]:
    """Gradient of a slice: zeros everywhere, and a copy into the slice's place."""
    source, shape = call.operands[0], call.argument(1, "input_sizes")
    result = result_of(call, compact(shape, source.dtype) if isinstance(shape, (tuple, list)) else source)
    yield asked("fill", _float(result), numel=result.numel, act=result.item)
    short = source.shape[-1] if source.shape else 1
    yield asked(
        "copy", _float(result), numel=source.numel, distinct=source.numel, run=short, act=source.item, out=result.item
    )  # fmt: skip


def repeat(call: Call) -> Iterable[Launched]:
    """A tensor repeated along its dimensions."""
    source = call.operands[0]
    times = call.argument(1, "repeats", (1,))
    counts = times if type(times) in (tuple, list) else (times if isinstance(times, int) else 1,)
    result = result_of(call, compact((product(counts) * source.numel,), source.dtype))
    yield asked(
        "copy", _float(result), numel=result.numel, distinct=source.distinct, run=source.shape[-1] if source.shape else 1,
        act=source.item, out=result.item,
    )  # fmt: skip


def cat(call: Call) -> Iterable[Launched]:
    """Concatenated tensors; the run is the piece of the smallest one."""
    parts = [x for x in call.operands if not (isinstance(x.numel, int) and x.numel == 0)]
    if not parts:
        return
    rank = len(parts[0].shape) + (call.name == "stack")
    axis = int(call.argument(1, "dim", 0)) % max(1, rank)
    runs = [product(x.shape[axis:]) if x.contiguous else x.shape[-1] for x in parts if x.shape]
    numel = sum(x.numel for x in parts)
    least = min(runs) if runs and all(isinstance(run, int) for run in runs) else (runs[0] if runs else 1)
    found = asked("concatenate", _float(parts[0]), numel=numel, run=least, act=parts[0].item)
    # An empty tensor among others rules out the kernels for contiguous ones.
    plain = all(x.contiguous for x in parts) and len(parts) == len(call.operands)
    yield _with(found, dims=0 if plain else max(2, rank), each=tuple(x.numel for x in parts))


def fill(call: Call) -> Iterable[Launched]:
    """One value everywhere, or numbers in order."""
    if not call.results and not call.operands:
        return
    target = result_of(call)
    if isinstance(target.numel, int) and target.numel == 0:
        return
    yield asked("fill", _float(target), numel=target.numel, act=target.item)


def index_select(call: Call) -> Iterable[Launched]:
    """index_select(x, dim, index): whole rows where the dimension is the first."""
    x, index = call.operands[0], call.operands[-1]
    axis = int(call.argument(1, "dim", 0)) % max(1, len(x.shape))
    outer, cols = product(x.shape[:axis]), product(x.shape[axis + 1 :])
    yield asked("gather", _float(x), rows=outer * index.numel, cols=cols, act=x.item, index=index.item)


def embedding(call: Call) -> Iterable[Launched]:
    """embedding(table, index)."""
    table, index = call.operands[:2]
    yield asked("gather", _float(table), rows=index.numel, cols=table.shape[-1], act=table.item, index=index.item)


def embedding_backward(call: Call) -> Iterable[Launched]:
    """embedding_dense_backward(dy, index, V, ...): the table's gradient, cleared first."""
    dy, index = call.operands[:2]
    V = call.argument(2, "num_weights") or (call.results[0].shape[0] if call.results else 1)
    cols = dy.shape[-1]
    yield asked(
        "embedding_backward", _float(dy), B=1, N=index.numel, D=cols, V=int(V), act=dy.item, weight=dy.item, index=index.item
    )  # fmt: skip


def gather(call: Call) -> Iterable[Launched]:
    """gather(x, dim, index), element by element."""
    x, index = call.operands[0], call.operands[-1]
    yield asked("gather", _float(x), rows=index.numel, cols=1, act=x.item, index=index.item)


def index(call: Call) -> Iterable[Launched]:
    """x[i, :, j, ...] with tensors of places: the dimensions behind the last place are contiguous."""
    x = call.operands[0]
    listed = call.argument(1, "indices", ())
    listed = (listed,) if isinstance(listed, Operand) else listed
    whole, chosen = _indexed(x, [one if isinstance(one, Operand) else None for one in listed])
    cols = product(x.shape[len(whole) :])
    rows = (
        call.results[0].numel // cols if call.results and isinstance(cols, int) and cols else product([*whole, chosen])
    )
    if isinstance(rows, int) and rows == 0:
        return
    item = next((one.item for one in listed if isinstance(one, Operand)), 8)
    yield asked("gather", _float(x), rows=rows, cols=cols, act=x.item, index=item)


def _indexed(x: Operand, places: Sequence[Operand | None]) -> tuple[list[Any], Any]:
    """Sizes of the dimensions up to the last one with places, 1 for those with places; and how many places there are.

    A mask stands for as many dimensions as it has. All of it may be chosen.
    """
    whole: list[Any] = []
    for one in places:
        count = len(one.shape) if one is not None and one.dtype in ("bool", "uint8") else 1
        whole += [1] * count if one is not None else [x.shape[len(whole)]]
    return whole, product(broadcast(one for one in places if one is not None))


def scatter(adds: bool) -> Rule:
    """scatter(x, dim, index, source), element by element, and index_add, index_copy, index_put with rows."""

    def rule(call: Call) -> Iterable[Launched]:
        target = call.operands[0]
        index = next((x for x in call.operands[1:] if x.dtype.startswith("int")), None)
        source = call.operands[-1] if len(call.operands) > 1 else target
        if not call.name.endswith("_"):
            yield from copied(target, compact(target.shape, target.dtype))
        if index is None:
            yield asked("fill", _float(target), numel=target.numel, act=target.item)
            return
        rowwise = call.name.lstrip("_").startswith("index")
        count = source.numel if source is not index else index.numel
        if rowwise:
            cols = max(1, count // max(1, index.numel)) if isinstance(count, int) else count / index.numel
        else:
            cols = 1
        rows = count // cols if isinstance(count, int) and isinstance(cols, int) else count / cols
        name = "scatter_add" if adds else "scatter"
        yield asked(name, _float(target), rows=rows, cols=cols, act=target.item, index=index.item)

    return rule


def index_put(call: Call) -> Iterable[Launched]:
    """index_put_(x, places, values, accumulate)."""
    adds = call.argument(3, "accumulate") in (True, "True")
    yield from scatter(adds)(call)


def _float(x: Operand) -> str:
    return x.dtype if x.dtype in FLOATS else "fp32"


RULES: dict[str, Rule] = {
    "copy_": copy_to,
    "copy": copy_to,
    "split_with_sizes_copy": split_copy,
    **dict.fromkeys(("clone", "contiguous", "_to_copy", "to", "flip", "roll", "alias_copy", "view_copy", "pin_memory"), copy_of),
    **dict.fromkeys(("slice_scatter", "select_scatter", "tile", "channel_shuffle", "im2col"), copy_of),
    **dict.fromkeys(("constant_pad_nd", "pad"), pad),
    **dict.fromkeys(("slice_backward", "select_backward"), placed),
    **dict.fromkeys(("diag_embed", "as_strided_scatter", "col2im", "unfold_backward"), copy_of),
    **dict.fromkeys(("repeat", "repeat_interleave"), repeat),
    **dict.fromkeys(("cat", "concat", "stack", "_cat"), cat),
    **dict.fromkeys(("fill", "fill_", "zero_", "zeros", "ones", "full", "zeros_like", "ones_like", "full_like"), fill),
    **dict.fromkeys(("new_zeros", "new_ones", "new_full", "arange", "linspace", "scalar_tensor", "eye", "one_hot"), fill),
    **dict.fromkeys(("tril_indices", "triu_indices", "zero", "range", "logspace"), fill),
    "index_select": index_select,
    "embedding": embedding,
    "embedding_dense_backward": embedding_backward,
    **dict.fromkeys(("gather", "take", "take_along_dim"), gather),
    **dict.fromkeys(("index", "masked_select"), index),
    **dict.fromkeys(("scatter", "scatter_", "index_copy", "index_copy_", "index_fill", "masked_scatter"), scatter(adds=False)),
    **dict.fromkeys(("scatter_add", "scatter_add_", "scatter_reduce", "index_add", "index_add_"), scatter(adds=True)),
    **dict.fromkeys(("index_put", "index_put_", "_index_put_impl_"), index_put),
    "_unsafe_index": index,
    "gather_backward": scatter(adds=True),
}  # fmt: skip
