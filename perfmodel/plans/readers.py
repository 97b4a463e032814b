"""Who reads a product's result, and whether all readers can work on a part of its columns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from perfmodel.block import Step

PRODUCTS = ("linear", "linear_bias", "expert_linear", "expert_linear_bias", "logits")
# Kernels that prepare the input of a product.
QUANTISERS = ("quantise_static", "quantise_tensor", "quantise_token", "quantise_block")
NORMS = ("layernorm", "rmsnorm")
# Operations that need every feature of a token.
WHOLE = ("residual", "add", "combine_experts", "route", "token_shift")


class Readers:
    """The readers of each step's result."""

    def __init__(self, steps: Sequence[Step]) -> None:
        self._steps = steps
        self._splits: dict[int, bool] = {}

    def splits(self, number: int, step: Step) -> bool:
        """Whether all readers of a product's result can work on a part of its columns."""
        if number not in self._splits:
            self._splits[number] = all(self._accepts(at) for at in self._of(number, step))
        return self._splits[number]

    def _accepts(self, number: int) -> bool:
        step = self._steps[number]
        name, values = step.operation.name, step.operation.arguments
        if name in PRODUCTS or "H" in values or name in ("cross_entropy", "selective_scan", "wkv"):
            return True
        if name in WHOLE:
            return False
        after = list(self._of(number, step))
        if name in NORMS:
            return (
                bool(after)
                and not any(self._steps[at].operation.name in (*PRODUCTS, *QUANTISERS) for at in after)
                and all(map(self._accepts, after))
            )
        return all(map(self._accepts, after))

    def _of(self, number: int, step: Step) -> Iterator[int]:
        """The steps that read what a step writes, before it is written again."""
        target = step.flow.get("y") or step.flow.get("out") or next(iter([*step.flow.values()][::-1]), None)
        for at in range(number + 1, len(self._steps)):
            other = self._steps[at].flow
            outputs = {tensor for tensor in other if tensor in ("y", "out", "mixed") or tensor.endswith("_turned")}
            if any(other[tensor] == target for tensor in other if tensor not in outputs):
                yield at
            if any(other[tensor] == target for tensor in outputs) or self._steps[at].group != step.group:
                return
