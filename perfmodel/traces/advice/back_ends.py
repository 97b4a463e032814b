"""Faster kernels that exist: another back end of attention, our own row kernels, a fused optimizer."""

from __future__ import annotations

from collections.abc import Iterable

from perfmodel.aten.asking import asked
from perfmodel.runs import Depthwise, Heads, Rows, each
from perfmodel.timing.part import OWN
from perfmodel.timing.rows import ROWS
from perfmodel.traces.advice.finding import Advice, Context, measured, ms, near, operator, total
from perfmodel.traces.pricing import Priced

ATTENTION = ("flash", "cudnn", "efficient")
MASKED = ("cudnn", "efficient")  # back ends that take a mask as a tensor
BETTER = 0.9  # a kernel counts as faster below this share of the expected time
NAMES = {"flash": "FLASH_ATTENTION", "cudnn": "CUDNN_ATTENTION", "efficient": "EFFICIENT_ATTENTION"}


def attention(found: Context) -> Iterable[Advice]:
    """Attention of another back end at the same sizes."""
    kernels = [one for one in found.known if any(isinstance(fact, Heads) for fact in each(one.group.main.op.runs))]
    for impl in sorted({one.group.main.impl for one in kernels}):
        own = [one for one in kernels if one.group.main.impl == impl]
        choices = (
            MASKED if any(tensor.name == "mask" for one in own for tensor in one.group.main.op.tensors) else ATTENTION
        )
        times = {name: _with(found, own, name) for name in choices if name != impl}
        if not times or not impl:
            continue
        best = min(times, key=lambda name: times[name])
        before_s, after_s = total(own), times[best]
        if after_s < BETTER * before_s:
            yield Advice(
                f"Use the {best} back end for attention", before_s - after_s,
                f"{len(own)} attention kernels of the {impl} back end take {ms(measured(own))} (expected: {ms(before_s)}). The "
                f"{best} back end is expected to take {ms(after_s)} at the same sizes.",
                f"Run it under torch.nn.attention.sdpa_kernel(SDPBackend.{NAMES[best]}).",
                before_s, after_s, measured(own), "back end",
            )  # fmt: skip


def _with(found: Context, kernels: Iterable[Priced], impl: str) -> float:
    return sum(
        found.model.price(
            [made._replace(impl=impl) if made.impl else made for made in one.group.launched], near(one)
        ).expected_s
        for one in kernels
    )


def own_rows(found: Context) -> Iterable[Advice]:
    """The project's own kernels of whole rows and of depthwise convolutions."""
    by_operation: dict[str, list[Priced]] = {}
    for one in found.known:
        main = one.group.main
        if len(one.group.launched) == 1 and main.impl not in OWN and _has_own(main.op.runs):
            by_operation.setdefault(main.operation, []).append(one)
    for operation, own in by_operation.items():
        before_s, after_s = total(own), _replaced(found, own)
        if after_s < BETTER * before_s:
            yield Advice(
                f"Use perfmodel's {operation} kernel", before_s - after_s,
                f"{len(own)} calls of {operators(own)} take {ms(measured(own))} (expected: {ms(before_s)}). The kernel in "
                f"perfmodel/cuda reads every row once and is expected to take {ms(after_s)}.",
                f"Measure it with 'perfmodel validate', impl=ours, op={operation}, at these sizes.",
                before_s, after_s, measured(own), "own kernel",
            )  # fmt: skip


def _has_own(runs: object) -> bool:
    facts = each(runs)  # type: ignore[arg-type]
    if len(facts) != 1:
        return False
    fact = facts[0]
    rows = (
        isinstance(fact, Rows)
        and fact.function in ROWS
        and not fact.part
        and not (fact.backward and fact.function == "rmsnorm")
    )
    return rows or (isinstance(fact, Depthwise) and fact.part == "forward")


def _replaced(found: Context, kernels: Iterable[Priced]) -> float:
    return sum(
        found.model.price([made._replace(impl="ours") for made in one.group.launched], near(one)).expected_s
        for one in kernels
    )


def operators(kernels: Iterable[Priced]) -> str:
    """The operators of groups, each once."""
    return ", ".join(sorted({operator(one) for one in kernels}))


def optimizer(found: Context) -> Iterable[Advice]:
    """An optimizer in many passes over its tensors, as one fused kernel."""
    passes = [
        one for one in found.known if one.group.kernels[0].phase == "optimizer" and operator(one).startswith("_foreach")
    ]
    passes = [one for one in passes if one.group.main.operation == "foreach"]
    if len(passes) < 3:
        return
    main = max((one.group.main for one in passes), key=lambda made: int(made.sizes["params"]))
    params, item = int(main.sizes["params"]), main.sizes["act"]
    fused = asked("adam_step", main.dtype, params=params, tensors=main.sizes["tensors"], weight=item, state=item)
    before_s, after_s = total(passes), found.model.price((fused,)).expected_s
    if after_s < BETTER * before_s:
        yield Advice(
            "Use the fused optimizer", before_s - after_s,
            f"The optimizer makes {len(passes)} passes over {params:,} parameters and takes {ms(measured(passes))} (expected: "
            f"{ms(before_s)}). One fused kernel reads and writes each tensor once: {ms(after_s)}.",
            "Construct it with fused=True, such as torch.optim.AdamW(..., fused=True).",
            before_s, after_s, measured(passes), "optimizer",
        )  # fmt: skip
