"""``flex_attention`` as one call, with its backward pass as another: on a card it is one compiled kernel each.

The kernels have no overload of their own in torch. Their calls are named ``flex_attention`` (query, key, value) and
``flex_attention_backward`` (gradient, query, key, value, result, logarithms of the sums). Keywords are the scale and the
share of the pairs of blocks that the mask leaves, 1 where it is not known.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import torch

from perfmodel.capture.dispatch import Recorder

_MODULE = "torch.nn.attention.flex_attention"


@contextmanager
def as_on_a_card(recorder: Recorder) -> Iterator[None]:
    """Calls are recorded while the context is open. A program that has not loaded the function cannot call it."""
    module = sys.modules.get(_MODULE)
    with ExitStack() as stack:
        if module is not None:
            for name, value in (
                ("_FLEX_ATTENTION_DISABLE_COMPILE_DEBUG", True),
                ("_validate_device", lambda *_: None),
                ("flex_attention_hop", lambda *given, **named: _flex(recorder, *given, **named)),
            ):
                stack.enter_context(patch.object(module, name, value, create=True))
        if "torch._dynamo" in sys.modules:
            stack.enter_context(torch.compiler.set_stance("force_eager"))
        yield


def _flex(recorder: Recorder, query: Any, key: Any, value: Any, score: Any, blocks: Any, scale: float, *_: Any, **__: Any) -> Any:  # fmt: skip
    """The result, the logarithm of the sums, and the maximal scores of flex attention."""
    out, logs = Flex.apply(query, key, value, recorder, blocks, scale)
    return out, logs, torch.empty_like(logs)


class Flex(torch.autograd.Function):  # type: ignore[misc]
    """Records the forward and the backward kernel."""

    @staticmethod
    def forward(ctx: Any, query: Any, key: Any, value: Any, recorder: Recorder, blocks: Any, scale: float) -> Any:
        out = torch.empty_like(query[..., :1].expand(*query.shape[:-1], value.shape[-1]))
        logs = torch.empty(query.shape[:-1], dtype=torch.float32, device="meta")
        ctx.save_for_backward(query, key, value, out, logs)
        ctx.recorder, ctx.rest = recorder, {"scale": scale, "share": _share(recorder, blocks)}
        recorder.state("flex_attention", (query, key, value), ctx.rest, (out, logs))
        ctx.mark_non_differentiable(logs)
        ctx.set_materialize_grads(False)
        return out, logs

    @staticmethod
    def backward(ctx: Any, grad: Any, _: Any) -> Any:
        query, key, value, out, logs = ctx.saved_tensors
        grads = tuple(torch.empty_like(x) for x in (query, key, value))
        ctx.recorder.state("flex_attention_backward", (grad, query, key, value, out, logs), ctx.rest, grads)
        return *grads, None, None, None


def _share(recorder: Recorder, blocks: Any) -> float:
    """The share of the pairs of blocks that are computed. ``blocks`` is a BlockMask as a tuple, its two lengths first."""
    partial, full, indices = blocks[2], blocks[4], blocks[3]
    computed = 0
    for counts in (x for x in (partial, full) if x is not None):
        real = recorder.values.of(counts)
        if real is None:
            return 1.0
        computed += int(real.sum())
    return float(computed / (indices.shape[-1] * partial.numel()))
