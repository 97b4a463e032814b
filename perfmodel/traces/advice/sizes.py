"""Sizes that fall off the fast kernels, and products that run slower than their shape allows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from perfmodel.aten import launched
from perfmodel.aten.calls import Call, Operand
from perfmodel.runs import Gemm, each
from perfmodel.traces.advice.finding import Advice, Context, call_of, many, measured, ms, near, seconds, total
from perfmodel.traces.pricing import SHAPES, Priced, named

WIDE_BYTE = 16  # alignment of rows that the fast kernels of matrix products need
PAD = 64  # elements to which a size is padded: 128 bytes of bf16
LEAST_SIZE = 64
SLOW = 1.5  # measured by expected time from which a product is far from what its shape allows


def misaligned(found: Context) -> Iterable[Advice]:
    """Sizes of products whose rows do not begin at multiples of 16 bytes: the same products, padded."""
    sizes: dict[int, list[Priced]] = {}
    for one in found.known:
        for size in _crooked(one):
            sizes.setdefault(size, []).append(one)
    for size, products in sizes.items():
        padded = -(-size // PAD) * PAD
        touched = [one for one in found.known if one in products or size in _all_sizes(one)]
        after = {id(one): _padded_s(found, one, size, padded) for one in touched}
        before_s, after_s = total(touched), sum(after.values())
        gone = total(products) - sum(after[id(one)] for one in products)
        yield Advice(
            f"Pad the size {size} to {padded}",
            before_s - after_s,
            f"{many(len(products), 'product')} cannot use the library's aligned kernels, because rows of {size:,} elements are not a multiple of "
            f"{WIDE_BYTE} bytes: {ms(measured(products))} measured. Padded, they are expected to take "
            f"{ms(total(products) - gone)}." + _longer(after_s - before_s + gone),
            f"Pad the dimension to {padded} (for a vocabulary: resize_token_embeddings(pad_to_multiple_of={PAD})), and look "
            "for kernels without 'align1' or 'align2' in their names.",
            before_s, after_s, measured(products), "misaligned",
        )  # fmt: skip


def _longer(more_s: float) -> str:
    return f" Other kernels over this size take {ms(more_s)} longer." if more_s > 1e-6 else ""


def _crooked(one: Priced) -> set[int]:
    """The sizes of a group's products that are not aligned, if the product is the slower for it."""
    call = call_of(one)
    facts = [fact for made in one.group.launched for fact in each(made.op.runs) if isinstance(fact, Gemm)]
    if call is None or not any(fact.aligned and fact.aligned < WIDE_BYTE for fact in facts):
        return set()
    steps = {size for x in call.operands for size in x.shape if type(size) is int and size >= LEAST_SIZE}
    item = min((x.item for x in call.operands), default=2)
    return {size for size in steps if size * item % WIDE_BYTE}


def _all_sizes(one: Priced) -> set[int]:
    call = call_of(one)
    return {size for x in call.operands for size in x.shape} if call else set()


def _padded_s(found: Context, one: Priced, size: int, padded: int) -> float:
    """The expected time of a group with one size replaced."""
    call = call_of(one)
    if call is None:
        return seconds(one)
    changed = call._replace(arguments=_replaced(call.arguments, size, padded))
    return found.model.price(launched(changed), near(one)).expected_s


def _replaced(value: Any, size: int, padded: int) -> Any:
    if isinstance(value, Operand):
        steps = tuple(padded * (step // size) if step and step % size == 0 else step for step in value.strides)
        return value._replace(shape=tuple(padded if one == size else one for one in value.shape), strides=steps)
    if type(value) is tuple:
        return tuple(_replaced(one, size, padded) for one in value)
    return value


def slow_products(found: Context) -> Iterable[Advice]:
    """Products that take much longer than the model expects for their shape, type and alignment."""
    shapes: dict[tuple[str, str], list[Priced]] = {}
    for one in found.known:
        product = any(isinstance(fact, Gemm) for made in one.group.launched for fact in each(made.op.runs))
        if product and one.group.source == SHAPES and one.group.measured_s > SLOW * seconds(one):
            shapes.setdefault((one.group.main.dtype, named(_shape(one.group.main.sizes))), []).append(one)
    for (dtype, shape), products in shapes.items():
        before_s, after_s = measured(products), total(products)
        kernel = max(products[0].group.kernels, key=lambda tied: tied.activity.seconds).activity.name
        yield Advice(
            f"Get the usual speed for the {dtype} product {shape}",
            before_s - after_s,
            f"{many(len(products), 'product')} took {ms(before_s)}, {before_s / after_s:.1f} times what this shape allows on this "
            f"card ({ms(after_s)}). The kernel is {kernel[:60]}.",
            "Run the product alone ('perfmodel validate'). If it is fast there, kernels of another stream, such as "
            "communication, share the device; if not, try torch.backends.cuda.preferred_blas_library('cublaslt').",
            before_s, after_s, before_s, "slow product",
        )  # fmt: skip


def _shape(sizes: Mapping[str, Any]) -> dict[str, Any]:
    """The sizes of a product without bytes per element and sizes of one."""
    return {name: size for name, size in sizes.items() if name not in ("act", "weight", "cache") and size != 1}


def larger_batch(found: Context) -> Iterable[Advice]:
    """Products that read their weights for few rows: the rows at which the bottleneck moves from memory to compute."""
    few = [(one, call) for one in found.known if (call := call_of(one)) is not None and _weight_bound(one)]
    if not few:
        return
    rows = max(_rows(call) for _, call in few)
    before_s, best = sum(seconds(one) for one, _ in few), (1, 0.0)
    for times in (2, 4, 8, 16, 32, 64, 128, 256):
        after_s = sum(_at_rows(found, one, call, _rows(call) * times) for one, call in few) / times
        if before_s - after_s <= best[1] * 1.05:
            break
        best = (times, before_s - after_s)
        if after_s * times > 1.5 * before_s:
            break
    times, saves_s = best
    yield Advice(
        f"Compute {rows * times:,} rows at once in place of {rows:,}",
        saves_s,
        f"{many(len(few), 'product')} multiply {rows:,} rows by weights and are bound by reading the weights. With {times} times the "
        f"rows, a step takes {ms((before_s - saves_s) * times)} in them in place of {ms(before_s)}, so each row takes "
        f"{ms(saves_s / max(1, rows))} less. This raises throughput, not the speed of one request.",
        "Raise the batch size and compare the time per token.",
        before_s, before_s - saves_s, measured([one for one, _ in few]), "batch",
    )  # fmt: skip


def _weight_bound(one: Priced) -> bool:
    """Whether a group is one plain product whose weight is most of its bytes."""
    facts = [fact for made in one.group.launched for fact in each(made.op.runs)]
    call = call_of(one)
    if call is None or len(facts) != 1 or not isinstance(facts[0], Gemm) or call.name not in ("mm", "addmm", "linear"):
        return False
    a, b = call.operands[-2:]
    return one.price is not None and one.price.bounds.bound == "memory" and b.numel > 8 * a.numel and _rows(call) <= 128


def _rows(call: Call) -> int:
    return int(call.operands[-2].shape[0])


def _at_rows(found: Context, one: Priced, call: Call, rows: int) -> float:
    a = call.operands[-2]
    wide = a._replace(shape=(rows, *a.shape[1:]))
    arguments = tuple(wide if value is a else value for value in call.arguments)
    return found.model.price(launched(call._replace(arguments=arguments)), near(one)).expected_s
