"""Time in which the device waits: for launches of the host, for other ranks, for communication."""

from __future__ import annotations

from collections.abc import Iterable

from perfmodel.traces.advice.finding import Advice, Context, many, ms
from perfmodel.traces.spans import WAITS


def launches(found: Context) -> Iterable[Advice]:
    """Launches that come too late: the same kernels replayed from a CUDA graph."""
    spans = found.spans
    kernels = sum(len(one.group.kernels) for one in found.priced if not one.group.kernels[0].graph)
    if not spans.idle_host_s or not kernels:
        return
    profiler_s = min(spans.idle_host_s, spans.recording_s if spans.profiler_s is None else spans.profiler_s)
    before_s = spans.idle_host_s - profiler_s + spans.idle_other_s
    after_s = min(before_s, kernels * found.model.card.node_s)
    doing = ", ".join(f"{name} {ms(value)}" for name, value in list(spans.host_in.items())[:3])
    guess = "about " if spans.profiler_s is None else ""
    other = f" Launched kernels wait another {ms(spans.idle_other_s)}." if spans.idle_other_s else ""
    unsaid = " Give the time without the profiler with --unprofiled to replace this estimate." if guess else ""
    yield Advice(
        "Launch the step as a CUDA graph",
        before_s - after_s,
        f"The device waits {ms(spans.idle_host_s)} for the host, in {many(sum(one.host for one in spans.idle), 'gap')}; {guess}"
        f"{ms(profiler_s)} of it is the profiler's.{unsaid} The host is in {doing}.{other} A replayed graph of {many(kernels, 'kernel')} "
        f"has gaps of {ms(after_s)} altogether.",
        "Capture it with torch.cuda.graph or torch.compile(mode='reduce-overhead'). Inputs must keep their memory, and the "
        "step must not read results on the host." + _synchronising(spans.host_in),
        before_s, after_s, spans.idle_host_s, "host",
    )  # fmt: skip


def _synchronising(host_in: object) -> str:
    waits = [name for name in host_in if str(name).startswith(WAITS)] if isinstance(host_in, dict) else []
    return f" The host now waits in {', '.join(name.removeprefix(WAITS) for name in waits)}." if waits else ""


def ranks(waiting_s: float, exposed_s: float, lower_s: float, last: int | None) -> Iterable[Advice]:
    """Suggests overlap for communication that is exposed and exceeds the time that the links need."""
    if exposed_s <= 0.0:
        return
    waits_s = min(waiting_s, exposed_s)
    if waits_s > 0.0 and last is not None:
        yield Advice(
            f"Let rank {last} arrive earlier at its collectives", waits_s,
            f"This rank waits {ms(waiting_s)} in collectives for rank {last}, {ms(waits_s)} of it with nothing else to run.",
            "Compare the spans of the ranks: the last one has more work, a slower host or a slower card.",
            exposed_s, exposed_s - waits_s, exposed_s, "straggler",
        )  # fmt: skip
    rest_s = exposed_s - waits_s
    if rest_s > 0.0:
        yield Advice(
            "Overlap the communication with kernels", max(0.0, rest_s - 0.0),
            f"{ms(rest_s)} of communication runs without a kernel at the same time. The links need {ms(lower_s)} for all of it.",
            "Start it earlier (smaller buckets, bucket_cap_mb), or overlap it with kernels of another stream.",
            rest_s, 0.0, rest_s, "communication",
        )  # fmt: skip
