"""Measures training steps of a stack of decoder layers whose stages are the ranks: GPipe and 1F1B.

Microbatches pass through the stages forward, their gradients backward. The backward pass starts from a random gradient of
the last result, so there is no loss. The gradients of every stage are compared with those of the undivided stack.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from perfmodel.measure.layers import Kernels, Layer, Width, turn
from perfmodel.measure.ranks import Ranks
from perfmodel.measure.replays import sampled, wall
from perfmodel.plans.plan import GPIPE
from perfmodel.step_cases import StepCase

WARM_UP = 2
BUDGET_S, FEWEST = 0.5, 5
AGREE = {"bf16": 3e-2, "fp16": 1e-2, "fp32": 1e-4}  # largest relative difference of gradients


class Pipeline:
    """The stage of this rank, with the microbatches of a step."""

    def __init__(self, ranks: Ranks, case: StepCase, width: Width, kernels: Kernels) -> None:
        torch = ranks.torch
        self.ranks, self.case, self.width, self.kernels = ranks, case, width, kernels
        self.stages = case.plan.pp
        self.stage = ranks.rank if self.stages > 1 else 0
        self.type = ranks.type_of(case.dtype)
        own, batch = case.shape["L"] // self.stages, case.plan.microbatch or 1
        self.count = case.shape["B"] // batch
        self.layers = self._layers(range(self.stage * own, (self.stage + 1) * own))
        source = torch.Generator(device=ranks.device)
        source.manual_seed(1)
        size = (batch, case.shape["N"], width.D)
        self.inputs, self.gradients = (
            [torch.randn(size, generator=source, device=ranks.device, dtype=self.type) for _ in range(self.count)]
            for _ in range(2)
        )
        self.turned = turn(torch, batch, 0, case.shape["N"], width.d, self.type, ranks.device)
        self.weights = [weight for layer in self.layers for weight in layer.weights]
        self.optimizer = None
        if case.plan.optimizer != "none":
            self.optimizer = torch.optim.AdamW(self.weights, lr=1e-5, fused=True)

    def _layers(self, numbers: range) -> list[Layer]:
        """Layers whose weights have gradients."""
        ranks = self.ranks
        found = [Layer(ranks.torch, self.width, n, self.type, ranks.device, kernels=self.kernels) for n in numbers]
        for layer in found:
            for weight in layer.weights:
                weight.requires_grad_()
        return found

    def step(self) -> None:
        """Runs a training step. The gradients of the last step remain until the next one."""
        self.passes()
        if self.optimizer is not None:
            self.optimizer.step()

    def passes(self) -> None:
        """Runs all microbatches forward and backward.

        A stage runs as many microbatches forward as there are stages after it, with GPipe all of them. Then each forward
        pass is followed by the backward pass of the oldest microbatch (Narayanan et al. 2019).
        """
        for weight in self.weights:
            weight.grad = None
        m, waiting = self.count, deque[tuple[Any, Any]]()
        ahead = m if self.case.plan.schedule == GPIPE else min(m, self.stages - 1 - self.stage)
        for number in range(ahead):
            self._exchange(send_next=self._forward(number, self._exchange(receive_previous=True)[0], waiting))
        x = self._exchange(receive_previous=True)[0] if ahead < m else None
        for number in range(ahead, m):
            y = self._forward(number, x, waiting)
            gradient = self._exchange(send_next=y, receive_next=True)[1]
            gradient = self._backward(number - ahead, gradient, waiting)
            x = self._exchange(send_previous=gradient, receive_previous=number + 1 < m)[0]
        for number in range(m - ahead, m):
            gradient = self._exchange(receive_next=True)[1]
            self._exchange(send_previous=self._backward(number, gradient, waiting))

    def _forward(self, number: int, received: Any, waiting: deque[tuple[Any, Any]]) -> Any:
        """Runs the stage on a microbatch and returns its result without history.

        The input of the first stage has a gradient too, which the model counts.
        """
        x = (self.inputs[number] if received is None else received).detach().requires_grad_()
        y = self._run(self.layers, x)
        waiting.append((x, y))
        return y.detach()

    def _run(self, layers: list[Layer], x: Any) -> Any:
        for layer in layers:
            x = layer.run(x, self.turned)
        return x

    def _backward(self, number: int, received: Any, waiting: deque[tuple[Any, Any]]) -> Any:
        """Runs the backward pass of the oldest microbatch and returns the gradient of its input."""
        x, y = waiting.popleft()
        y.backward(self.gradients[number] if received is None else received)
        return x.grad

    def _exchange(
        self, *, send_next: Any = None, send_previous: Any = None, receive_next: bool = False, receive_previous: bool = False
    ) -> tuple[Any, Any]:  # fmt: skip
        """Sends and receives at the same time. Returns what came from the previous and from the next stage.

        The first stage has no previous one and the last no next one: None comes from there.
        """
        dist, torch, rank = self.ranks.dist, self.ranks.torch, self.ranks.rank
        before, after = self.stage > 0, self.stage < self.stages - 1
        from_previous, from_next = (
            torch.empty_like(self.inputs[0]) if wanted else None
            for wanted in (before and receive_previous, after and receive_next)
        )
        pairs = (
            (dist.isend, send_previous if before else None, rank - 1), (dist.irecv, from_previous, rank - 1),
            (dist.isend, send_next if after else None, rank + 1), (dist.irecv, from_next, rank + 1),
        )  # fmt: skip
        operations = [dist.P2POp(way, tensor, peer) for way, tensor, peer in pairs if tensor is not None]
        for work in dist.batch_isend_irecv(operations) if operations else ():
            work.wait()
        return from_previous, from_next

    def wrong(self) -> str:
        """Compares the gradients of this stage with those of the undivided stack."""
        torch = self.ranks.torch
        self.passes()
        own = len(self.layers)
        whole = self._layers(range(own * self.stages))
        for x, gradient in zip(self.inputs, self.gradients, strict=True):
            self._run(whole, x).backward(gradient)
        wanted = [weight for layer in whole[self.stage * own :][:own] for weight in layer.weights]
        most = 0.0
        for mine, other in zip(self.weights, wanted, strict=True):
            most = max(most, float(torch.norm((mine.grad - other.grad).float()) / torch.norm(other.grad.float())))
        if most <= AGREE[self.case.dtype]:
            return ""
        return f"wrong result: gradients differ by {most:.2g} from those of the undivided stack"

    def measured(self) -> dict[str, Any]:
        """Returns the time of a step and the peak memory."""
        ranks = self.ranks
        ranks.peak()
        for _ in range(WARM_UP):
            ranks.agreed(self.step)
        found = sampled(ranks, lambda n: [wall(ranks, self.step) for _ in range(n)], budget_s=BUDGET_S, fewest=FEWEST)
        return {**found.fields(), **ranks.peak()}
