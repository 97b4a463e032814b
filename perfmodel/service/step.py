"""The exact cost of one step of a serving stack: prompt chunks and decoding sequences in one batch.

All tokens of a step go through the weights together, once. Attention, and recurrent states, work on each sequence apart: a
chunk of ``tokens`` new tokens attends to itself and to its ``prefix`` in the cache. A decoding sequence is a chunk of one
token over its context, and a speculative verification is a chunk of g + 1 tokens. Logits are computed for the positions
that a token is sampled from.

Counts are those of the model's operations. Times are those of a serving stack's kernels: products that read the same
tensor run as one (q, k and v). An addition to the residual stream runs in the kernel of the next normalisation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any, NamedTuple

from perfmodel import block, ops
from perfmodel.block import Kernel, Step
from perfmodel.errors import InputError
from perfmodel.expression import Expression
from perfmodel.footprint.flow import times
from perfmodel.footprint.inference import STATES
from perfmodel.plans.division import Exchange, divided
from perfmodel.plans.plan import Plan, checked, shape_of
from perfmodel.plans.readers import NORMS
from perfmodel.service.pricing import StackPrices
from perfmodel.timing.terms import Term
from perfmodel.workload import Workload, is_logits

LINEAR = ("linear", "linear_bias")


class Chunk(NamedTuple):
    """A number of sequences with ``tokens`` new tokens each, over ``prefix`` cached ones.

    ``sampled``: positions of each sequence whose logits are computed; 0 for a chunk that does not end its prompt.
    """

    tokens: int
    prefix: int = 0
    sequences: int = 1
    sampled: int = 1

    @property
    def cached(self) -> bool:
        return self.prefix > 0


class StepCost(NamedTuple):
    """The cost of one step on one rank. ``terms`` add up to ``expected_s``; the lower bound is from data sheets alone."""

    tokens: int
    flops: int
    contraction_flops: int
    traffic_byte: int
    lower_s: float
    expected_s: float
    terms: tuple[Term, ...]


class _Run(NamedTuple):
    """A kernel of a step with its repeats; ``joined``: part of the kernel after it."""

    kernel: Kernel
    repeat: int
    joined: bool = False


class Stepper:
    """Costs of steps of a model on ``tp`` GPUs; equal steps are priced once."""

    def __init__(
        self, workload: Workload, prices: StackPrices, tp: int = 1, form: str | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> None:  # fmt: skip
        generates = "decode" in workload.phases and any(map(is_logits, workload.steps))
        if not generates or any(step.crosses for step in workload.steps):
            raise InputError(
                f"serve: {workload.name}", "it is not a decoder that generates tokens",
                "a decoder-only model with logits is accepted", "Choose another --config.",
            )  # fmt: skip
        self.workload, self.prices, self.tp, self.form = workload, prices, tp, form
        self.settings = {"causal": 1, **(settings or {})} if "causal" in workload.settable() else dict(settings or {})
        self._costs: dict[Any, StepCost] = {}

    def cost(self, chunks: Sequence[Chunk]) -> StepCost:
        """The cost of a step of these chunks."""
        together = merged(chunks)
        if together not in self._costs:
            self._costs[together] = self._priced(together)
        return self._costs[together]

    def dims(self, chunk: Chunk) -> dict[str, Any]:
        """The sizes of a chunk: those of a prompt, or of decoding over a cache."""
        sizes = {"B": chunk.sequences, "N": chunk.tokens, **({"S": chunk.prefix} if chunk.cached else {})}
        given = {name: value for name, value in self.settings.items() if name != "causal"}
        found = self.workload.dims("decode" if chunk.cached else "prefill", {**given, **sizes})
        return {"causal": self.settings.get("causal", 0), **found}

    def kernels(self, chunks: Sequence[Chunk], *, stack: bool = False) -> tuple[list[_Run], tuple[Exchange, ...]]:
        """The kernels of a step on one rank, and its collectives; with ``stack``, as a serving stack joins them."""
        whole = self._dims(chunks)
        first = [chunk for chunk in chunks if not chunk.cached]
        cached = [chunk for chunk in chunks if chunk.cached]
        lists = [(self.workload.steps_in("decode", self.form), cached)] if cached else []
        if first and not (cached and not self.workload.decode):
            lists.insert(0, (self.workload.steps, first))
        elif first:
            lists = [(self.workload.steps, [*first, *cached])]
        positions = sum(chunk.sequences * chunk.sampled for chunk in chunks)
        done, runs, exchanges = set[tuple[str, str]](), list[_Run](), tuple[Exchange, ...]()
        for number, (steps, own) in enumerate(lists):
            asked = [one for step in steps if (one := _sampled(step, positions)) is not None]
            division = divided(asked, whole, self.plan(whole), train=False)
            exchanges = division.exchanges if number == 0 else exchanges
            mine = [s for s in division.steps if _apart(s) or (s.name, s.operation.name) not in done]
            done.update((s.name, s.operation.name) for s in mine)
            runs += self._runs(_joined(mine, whole) if stack else mine, whole, own, stack=stack)
        return runs, exchanges

    def plan(self, dims: Mapping[str, Any]) -> Plan:
        latent = any(step.operation.name.startswith("mla") for step in self.workload.steps)
        layers = max((times(step, dims) for step in self.workload.steps), default=1)
        return checked(
            Plan(tp=self.tp, microbatch=dims["B"]),
            shape_of(dims, layers, "decode", latent),
            f"serve: {self.workload.name}",
        )

    def _dims(self, chunks: Sequence[Chunk]) -> dict[str, Any]:
        """The sizes for steps that treat all tokens alike. With several chunks, each token counts as a sequence."""
        if len(chunks) == 1:
            return self.dims(chunks[0])
        longest = max(chunk.prefix + chunk.tokens for chunk in chunks)
        return self.dims(Chunk(1, longest - 1, sum(chunk.tokens * chunk.sequences for chunk in chunks)))

    def _runs(
        self, steps: Sequence[Step], whole: Mapping[str, Any], chunks: Sequence[Chunk], *, stack: bool
    ) -> list[_Run]:
        found: list[_Run] = []
        for _, together in groupby(steps, key=lambda step: (step.group, times(step, whole))):
            layer = tuple(together)
            for number, step in enumerate(layer):
                after = layer[(number + 1) % len(layer)] if step.group else None
                joined = (
                    stack and step.operation.name == "residual" and after is not None and after.operation.name in NORMS
                )
                sizes = [self.dims(chunk) for chunk in chunks] if _apart(step) else [whole]
                for dims in sizes:
                    own = block.kernels((step,), dims, fused=self.workload.fused)
                    found += [_Run(kernel, int(kernel.repeat), joined) for kernel in own]
        return found

    def _priced(self, chunks: tuple[Chunk, ...]) -> StepCost:
        plain, exchanges = self.kernels(chunks)
        kernels = [run.kernel for run in plain]
        flops = sum(sum(k.op.flops_by_kind().values()) * k.repeat for k in kernels)
        products = sum(k.op.contraction_flops() * k.repeat for k in kernels)
        traffic = sum(k.op.traffic_byte() * k.repeat for k in kernels)
        lower_s = sum(cost.lower_s * k.repeat for k, cost in zip(kernels, self.prices.sequence(kernels), strict=True))
        terms, talk_lower_s = self._terms(chunks, {run.kernel.step.name: run.repeat for run in plain}, exchanges)
        return StepCost(
            sum(chunk.tokens * chunk.sequences for chunk in chunks), flops, products, traffic, max(lower_s, talk_lower_s),
            max(sum(term.seconds for term in terms), lower_s), terms,
        )  # fmt: skip

    def _terms(
        self, chunks: tuple[Chunk, ...], repeats: Mapping[str, int], exchanges: Sequence[Exchange]
    ) -> tuple[tuple[Term, ...], float]:
        """The terms of the expected time, and the lower bound of communication."""
        runs, _ = self.kernels(chunks, stack=True)
        costs = self.prices.sequence([run.kernel for run in runs])
        seconds = {"weights and other kernels": 0.0, "attention and states": 0.0}
        for run, cost in zip(runs, costs, strict=True):
            own_s = max(cost.lower_s, cost.expected_s - (self.prices.between_s if run.joined else 0.0))
            seconds[list(seconds)[_apart(run.kernel.step)]] += own_s * run.repeat
        plan, talk_lower_s, talk_s = Plan(tp=self.tp), 0.0, 0.0
        for exchange in exchanges:
            lower_s, expected_s = self.prices.exchange(exchange, plan)
            times_run = repeats.get(exchange.step, 1)
            talk_lower_s, talk_s = talk_lower_s + lower_s * times_run, talk_s + expected_s * times_run
        around = {
            "tensor parallelism": talk_s, "sampling": self._sampling_s(chunks), "launch": self.prices.launch_s,
            "host between steps": self.prices.host_gap_s,
        }  # fmt: skip
        return tuple(Term(name, value) for name, value in {**seconds, **around}.items() if value), talk_lower_s

    def _sampling_s(self, chunks: tuple[Chunk, ...]) -> float:
        """A softmax over the words in fp32, and the choice of one word."""
        rows, words = sum(chunk.sequences * chunk.sampled for chunk in chunks), self._dims(chunks).get("V", 0)
        if not rows or not words:
            return 0.0
        dims = {"rows": rows, "cols": words, "inner": 1, "act": 4, "out": 4}
        steps = [Step(f"sampling.{name}", ops.find(name)) for name in ("softmax", "argmax")]
        return sum(cost.expected_s for cost in self.prices.sequence(tuple(block.kernels(steps, dims))))


def merged(chunks: Sequence[Chunk]) -> tuple[Chunk, ...]:
    """Chunks with equal sizes, counted together, in a fixed order."""
    counts: dict[Chunk, int] = {}
    for chunk in chunks:
        if min(chunk.tokens, chunk.sequences) < 1 or min(chunk.prefix, chunk.sampled) < 0:
            raise InputError(
                "serve: step", f"{chunk} is no part of a step", "positive numbers of tokens and sequences are accepted"
            )
        counts[chunk._replace(sequences=0)] = counts.get(chunk._replace(sequences=0), 0) + chunk.sequences
    if not counts:
        raise InputError("serve: step", "it has no sequence", "at least one chunk or decoding sequence is accepted")
    return tuple(sorted(chunk._replace(sequences=count) for chunk, count in counts.items()))


def _apart(step: Step) -> bool:
    """Whether the work of a step depends on the tokens of each sequence, as in attention and recurrences."""
    return step.operation.name in STATES or "S" in step.operation.arguments


def _sampled(step: Step, positions: int) -> Step | None:
    """A logits step for the sampled positions of all sequences, None without any; other steps unchanged."""
    if not is_logits(step):
        return step
    if not positions:
        return None
    sizes = {name: size.fixed("N", positions).fixed("B", 1) for name, size in step.sizes.items()}
    known = {"B": 1, "N": positions}
    own = {name: Expression(str(value), step.name) for name, value in known.items() if name in step.operation.arguments}
    return step._replace(sizes={**sizes, **own})


def _joined(steps: Sequence[Step], dims: Mapping[str, Any]) -> list[Step]:
    """Steps with neighbouring products of one tensor as a single product of all their columns."""
    found: list[Step] = []
    for key, together in groupby(steps, key=_product):
        own = list(together)
        if key is None or len(own) == 1:
            found += own
            continue
        columns = sum(step.values(dims)["D_out"] for step in own)
        found.append(own[0]._replace(sizes={**own[0].sizes, "D_out": Expression(str(columns), own[0].name)}))
    return found


def _product(step: Step) -> Any:
    if step.operation.name not in LINEAR or is_logits(step):
        return None
    return step.operation.name, step.group, step.flow.get("x"), step.tied
