"""Chains of elementwise kernels and reductions that would run as one kernel, without the tensors between them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Any, NamedTuple

from perfmodel.aten.calls import Launched
from perfmodel.op import Op, Tensor, Work
from perfmodel.runs import Copy, Reduction, Rows, Stream, each
from perfmodel.traces.advice.finding import Advice, Context, many, measured, ms, near, operator, total
from perfmodel.traces.pricing import Priced
from perfmodel.units import scaled

LONGEST = 64  # kernels of a chain
SHOWN = 6  # operators of a chain that are named
FUSIBLE = (Stream, Rows, Reduction, Copy)
TENSOR_BYTE = 1 << 16  # smaller tensors do not matter


class Tensors(NamedTuple):
    """The tensors of a kernel that are read and written, each as its elements and bytes per element."""

    reads: tuple[tuple[int, Any], ...]
    writes: tuple[tuple[int, Any], ...]


def chains(found: Context) -> Iterable[Advice]:
    """Chains with the same operators together, each priced as one kernel."""
    training = any(one.group.kernels[0].phase == "backward" for one in found.priced)
    by_operators: dict[tuple[str, ...], list[list[Priced]]] = {}
    for chain in _chains(found.priced):
        by_operators.setdefault(tuple(map(operator, chain)), []).append(chain)
    for names, same in by_operators.items():
        before_s = sum(map(total, same))
        after_s = sum(
            _fused(found, chain, keeps=training and chain[0].group.kernels[0].phase == "forward") for chain in same
        )
        saved = sum(_between(chain) for chain in same)
        took_s = sum(map(measured, same))
        words = " + ".join(names[:SHOWN]) + (f" + {len(names) - SHOWN} more" if len(names) > SHOWN else "")
        kept = (
            " Results that the backward pass reads are still written."
            if training and same[0][0].group.kernels[0].phase == "forward"
            else ""
        )
        took = f"{ms(took_s)} (expected: {ms(before_s)})"
        verbs = f"take {took} and move" if len(same) > 1 else f"takes {took} and moves"
        yield Advice(
            f"Fuse {words}", before_s - after_s,
            f"{many(len(same), 'chain')} of {len(names)} kernels {verbs} {scaled(saved, 'B', 3)} "
            f"of tensors that only the next kernel reads. One kernel per chain: {ms(after_s)}.{kept}",
            "Compile the function around them with torch.compile, and look for triton_ kernels in the new trace.",
            before_s, after_s, took_s, "fusion",
        )  # fmt: skip


def _chains(priced: Sequence[Priced]) -> Iterable[list[Priced]]:
    """Runs of kernels each of which reads a tensor that the kernel before it wrote."""
    chain: list[Priced] = []
    for one in priced:
        if chain and (not _fusible(one) or len(chain) >= LONGEST or not _reads(chain[-1], one)):
            if _computes(chain):
                yield chain
            chain = []
        if _fusible(one):
            chain.append(one)
    if _computes(chain):
        yield chain


def _computes(chain: Sequence[Priced]) -> bool:
    """Whether it is a chain in which some kernel does more than copy."""
    return len(chain) > 1 and any(one.group.main.operation not in ("copy", "fill", "concatenate") for one in chain)


def _fusible(one: Priced) -> bool:
    """Whether a group is one elementwise kernel or one reduction of whole rows."""
    if one.price is None or len(one.group.launched) != 1:
        return False
    main = one.group.main
    facts = each(main.op.runs)
    if not main.known or len(facts) != 1 or not isinstance(facts[0], FUSIBLE) or main.operation == "fused":
        return False
    return main.operation != "fill" or sum(count * item for count, item in _tensors(main).writes) >= TENSOR_BYTE


def _tensors(made: Launched) -> Tensors:
    return _of(id(made.op), made.op)


@lru_cache(maxsize=1 << 16)
def _of(number: int, op: Op) -> Tensors:
    outer = [tensor for tensor in op.tensors if not tensor.spill]
    reads = tuple((int(tensor.elements), tensor.item) for tensor in outer if tensor.reads)
    return Tensors(reads, tuple((int(tensor.elements), tensor.item) for tensor in outer if tensor.writes))


def _reads(first: Priced, second: Priced) -> bool:
    """Whether the second kernel may read what the first one wrote: a tensor of the same size."""
    written = set(_tensors(first.group.main).writes)
    return bool(written & set(_tensors(second.group.main).reads))


def _between(chain: Sequence[Priced]) -> float:
    """Bytes of the tensors between the kernels of a chain, each written once and read once."""
    return sum(2 * _shared(a, b) for a, b in pairwise(chain))


def _shared(first: Priced, second: Priced) -> float:
    reads = set(_tensors(second.group.main).reads)
    return max(
        (count * float(item) for count, item in _tensors(first.group.main).writes if (count, item) in reads),
        default=0.0,
    )


def _fused(found: Context, chain: Sequence[Priced], keeps: bool) -> float:
    """The expected time of a chain as one kernel. Each kernel finds on chip the one tensor that the kernel before wrote;
    every other tensor that it reads is counted, also where it may be the same as another one.
    """
    reads: list[tuple[int, Any]] = []
    written: list[tuple[int, Any]] = []
    before: set[tuple[int, Any]] = set()
    for one in chain:
        tensors = _tensors(one.group.main)
        outside = list(tensors.reads)
        inside = next((tensor for tensor in outside if tensor in before), None)
        if inside is not None:
            outside.remove(inside)
        reads += outside
        written += tensors.writes
        before = set(tensors.writes)
    last = _tensors(chain[-1].group.main).writes
    op = Op(
        (
            *(Tensor(f"x{i}", (count,), item, reads=1) for i, (count, item) in enumerate(reads)),
            *(Tensor(f"y{i}", (count,), item, writes=1) for i, (count, item) in enumerate(written if keeps else last)),
        ),
        tuple(Work(f"{i}", work.amount, work.engine) for i, work in enumerate(_works(chain))),
        Stream(),
    )
    made = Launched("fused", {}, op, chain[0].group.main.dtype)
    return found.model.price((made,), near(chain[-1])).expected_s


def _works(chain: Sequence[Priced]) -> list[Work]:
    return [work for one in chain for work in one.group.main.op.work]
