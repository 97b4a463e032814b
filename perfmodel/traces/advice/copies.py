"""Copies that need not be: heads of keys and values repeated for a group of queries, layouts turned for a convolution."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise

from perfmodel.aten.asking import asked
from perfmodel.runs import Heads, each
from perfmodel.traces.advice.finding import Advice, Context, call_of, many, measured, ms, near, operator, total
from perfmodel.traces.kernel_names import family
from perfmodel.traces.pricing import Priced

BEFORE = 16  # groups before attention among which its copies are looked for


def grouped_heads(found: Context) -> Iterable[Advice]:
    """Keys and values that are copied once per query head before attention reads them."""
    copies: list[Priced] = []
    attended: list[tuple[Priced, int]] = []
    priced = found.priced
    for place, one in enumerate(priced):
        fact = _heads(one)
        if fact is None:
            continue
        near = [x for x in priced[max(0, place - BEFORE) : place] if _copies(x, fact)]
        times = max(map(_times, near), default=1)
        if times > 1 and fact.H_kv == fact.H and int(fact.H) % times == 0:
            copies += near
            attended.append((one, times))
    if not copies:
        return
    before_s = total(copies) + total([one for one, _ in attended])
    after_s = sum(_grouped(found, one, times) for one, times in attended)
    fact = _heads(attended[0][0])
    times = attended[0][1]
    assert fact is not None
    yield Advice(
        "Do not copy the keys and values of grouped heads", before_s - after_s,
        f"{many(len(copies), 'copy')} repeat each of {int(fact.H) // times} key heads {times} times before attention and take "
        f"{ms(measured(copies))} (expected: {ms(total(copies))}). Attention that reads the {int(fact.H) // times} heads as they "
        f"are needs no copy and reads less: {ms(after_s)} in place of {ms(before_s)} with the copies.",
        "Pass the keys and values unrepeated, with scaled_dot_product_attention(..., enable_gqa=True), or use an attention "
        "kernel that knows grouped heads (FlashAttention, FlexAttention).",
        before_s, after_s, measured(copies) + measured([one for one, _ in attended]), "copy",
    )  # fmt: skip


def _heads(one: Priced) -> Heads | None:
    if one.price is None or not one.group.known:
        return None
    return next((fact for fact in each(one.group.main.op.runs) if isinstance(fact, Heads) and not fact.backward), None)


def _times(copy: Priced) -> int:
    """How often a copy repeats each element."""
    sizes = copy.group.main.sizes
    return int(sizes["numel"]) // max(1, int(sizes["distinct"]))


def _copies(one: Priced, fact: Heads) -> bool:
    """Whether a group copies all keys or values of this attention."""
    if one.price is None or not one.group.known or one.group.main.operation != "copy":
        return False
    return int(one.group.main.sizes["numel"]) == int(fact.B) * int(fact.H) * int(fact.S) * int(fact.d)


def _grouped(found: Context, one: Priced, times: int) -> float:
    """The expected time of attention over the heads before they were repeated."""
    main = one.group.main
    sizes = dict(main.sizes) | {"H_kv": int(main.sizes["H"]) // times}
    made = asked(main.operation, main.dtype, main.impl, **sizes)
    return found.model.price([made if each is main else each for each in one.group.launched], near(one)).expected_s


def layouts(found: Context) -> Iterable[Advice]:
    """Kernels that turn images from channels first to channels last and back around a convolution."""
    turned_s, kernels = 0.0, 0
    for one in found.priced:
        for tied in one.group.kernels:
            if family(tied.activity.name) == "layout":
                turned_s, kernels = turned_s + tied.activity.seconds, kernels + 1
    convolutions = [one for one in found.known if "convolution" in operator(one) or "conv" in one.group.main.operation]
    if not kernels or not convolutions:
        return
    bytes_s = sum(_turning(found, one) for one in convolutions if _has_layout(one))
    yield Advice(
        "Keep images in channels-last order", min(turned_s, bytes_s) if bytes_s else turned_s,
        f"{many(kernels, 'kernel')} turn images between channels-first and channels-last order around {many(len(convolutions), 'convolution')} "
        f"and take {ms(turned_s)}. In channels-last order the convolution reads them as they are.",
        "Convert the model and its input once: model.to(memory_format=torch.channels_last).",
        bytes_s or turned_s, 0.0, turned_s, "copy",
    )  # fmt: skip


def _has_layout(one: Priced) -> bool:
    return any(family(tied.activity.name) == "layout" for tied in one.group.kernels)


def _turning(found: Context, one: Priced) -> float:
    """The expected time of copies of a convolution's tensors, by their bytes."""
    call = call_of(one)
    if call is None:
        return 0.0
    made = [
        asked("copy", x.dtype, numel=x.numel, distinct=x.numel, run=1, act=x.item, out=x.item)
        for x in call.operands[:2]
        if x.numel
    ]
    return found.model.price(made).expected_s if made else 0.0


def strided(found: Context) -> Iterable[Advice]:
    """Copies that only reorder a tensor before a product or attention, which could read it in its order."""
    wanted = _followed(found, [one for one in found.priced if _reorders(one)])
    if not wanted:
        return
    before_s = total(wanted)
    yield Advice(
        "Read tensors in the order in which they lie", before_s,
        f"{many(len(wanted), 'copy')} only reorder a tensor for the product or attention after them and take {ms(measured(wanted))} "
        f"(expected: {ms(before_s)}). Those kernels read rows with any stride.",
        "Leave out .contiguous() and reshape before them, or transpose the weight once.",
        before_s, 0.0, measured(wanted), "copy",
    )  # fmt: skip


def _reorders(one: Priced) -> bool:
    if one.price is None or not one.group.known or one.group.main.operation != "copy":
        return False
    sizes = one.group.main.sizes
    return sizes["act"] == sizes["out"] and sizes["numel"] == sizes["distinct"] and int(sizes["run"]) * int(sizes["act"]) >= 16 and (
        sizes["run"] != sizes["numel"]
    )  # fmt: skip


def _followed(found: Context, copies: Sequence[Priced]) -> list[Priced]:
    """The copies whose next kernel is a product or attention that reads a tensor of their size."""
    marked = {id(one) for one in copies}
    wanted = []
    for one, after in pairwise(found.priced):
        call = call_of(after)
        if (
            id(one) not in marked
            or call is None
            or not after.group.known
            or not after.group.main.op.contraction_flops()
        ):
            continue
        if any(x.numel == one.group.main.sizes["numel"] for x in call.operands):
            wanted.append(one)
    return wanted
