"""Launch overheads: the time before the first byte of a kernel and after its last.

The replay of a CUDA graph has a launch time of its own, longer where the kernel's code must come from memory too
(``cold``). Between two kernels of a graph there is a gap, which is about 2 us shorter. A run that is one of many in a
graph (``rotating``) has a shorter launch than a replay. A kernel then fills its pipeline (``ramp``): addresses, a first
access without other work at the same time, and the end of the blocks. The ramp is counted in latencies of the memory
that the first access reads.

Launched by the host (``eager``), a kernel starts when the host has launched it. The host's time depends on the kind of
call: a Python module, a number beside a tensor (``wrapped``), a product. While a kernel runs, the host prepares the
next launch.
"""

from __future__ import annotations

from perfmodel.arithmetic import Size, maximum, minimum, where
from perfmodel.block import Kernel
from perfmodel.op import Op
from perfmodel.runs import Gemm, GroupedGemm, Rows
from perfmodel.timing.card import Card
from perfmodel.timing.weights import Mechanism

RAMP = Mechanism("launch").weight("ramp")
# Calls of matrix products: the library's own preparation leaves less of the host's time to hide (``product``).
PRODUCTS = ("linear", "batch")
# Elementwise calls that go through a Python module, or take a number beside a tensor.
WRAPPED = ("relu", "gelu", "gelu_tanh", "silu", "sigmoid", "scale")


def ramp_s(card: Card, far: Size) -> Size:
    """Returns the time to fill the pipeline of a kernel; ``far``: its first access goes to memory."""
    return RAMP * where(far, card.dram_latency_s, card.l2_latency_s)


def gap_s(card: Card, protocol: str, before_s: Size) -> Size:
    """Returns the gap between two launches. Under eager, the host adds to it if the previous kernel is shorter than a
    launch.
    """
    if protocol != "eager" or not before_s:
        return card.node_s
    return maximum(card.node_s, card.host_s.get("between", card.host_s["any"]) - before_s)


def first_launch_s(card: Card, protocol: str, call: str, running_s: Size) -> Size:
    """Returns the overhead of the first launch. Under eager, the host returns while the kernel runs. A launch takes at
    least as long as a replay.
    """
    if protocol != "eager":
        return {"cold": card.cold_s, "rotating": card.graph_s}.get(protocol, card.warm_s)
    host_s = card.host_s.get(call, card.host_s["any"])
    behind_s = card.host_s.get("product", card.host_hidden_s) if call in PRODUCTS else card.host_hidden_s
    return maximum(card.warm_s, host_s - minimum(behind_s, running_s))


def host_call(kernel: Kernel) -> str:
    """Returns the kind of call that the host makes for a kernel, which determines its launch time."""
    kind = _fact_call(kernel.op)
    return kind or ("wrapped" if kernel.operation in WRAPPED else kernel.operation)


def _fact_call(op: Op) -> str:
    if isinstance(op.runs, Rows) and not op.runs.backward:
        return "softmax" if op.runs.function in ("softmax", "log_softmax") else "layernorm"
    if isinstance(op.runs, Gemm):
        return "batch" if op.runs.batch != 1 else "linear"
    return "linear" if isinstance(op.runs, GroupedGemm) else ""
