"""What one rank runs: steps with divided sizes, and the collectives between them.

Tensors are followed through the steps. A tensor is ``FULL`` (each rank of the tensor-parallel group has all features),
``SHARED`` (each rank has its heads or its columns), or ``PARTIAL`` (each rank has a term of the sum). A product that
reads a full tensor divides its columns, a product that reads a shared one divides its rows (Shoeybi et al. 2019): its
result is partial, and is summed before an operation that is not linear reads it. Under sequence parallelism (Korthikanti
et al. 2022) each rank has a part of the tokens of a full tensor: an all-gather before a product and a reduce-scatter after
it take the place of the all-reduce.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from perfmodel.arithmetic import ceil_div
from perfmodel.block import Step
from perfmodel.expression import Expression
from perfmodel.patterns import ALL_GATHER, ALL_REDUCE, ALL_TO_ALL, REDUCE_SCATTER, SEND_RECV
from perfmodel.plans.plan import Plan
from perfmodel.plans.readers import PRODUCTS, Readers

FULL, SHARED, PARTIAL = "full", "shared", "partial"
EXPERTS = ("expert_linear", "expert_linear_bias")
# Operations that a partial sum may pass, because they are linear in it.
LINEAR = ("combine_experts", "add", "scale")
VOCABULARY = 128  # Megatron-LM pads the vocabulary to a multiple of 128 tp


class Exchange(NamedTuple):
    """A collective of a group of ranks, beside a step. ``byte``: the tensor that each rank gives to it.

    ``overlaps``: the library runs it at the same time as kernels of the step.
    """

    kind: str
    byte: int
    axis: str
    step: str
    backward: bool = False
    overlaps: bool = False
    times: int = 1


class Division(NamedTuple):
    """The steps of one rank with their exchanges, the sizes of the rank, and notes on uneven shapes.

    ``kept`` are the steps as the account of activations sees them: a product that gathers its input keeps its own part.
    """

    steps: tuple[Step, ...]
    kept: tuple[Step, ...]
    exchanges: tuple[Exchange, ...]
    dims: dict[str, Any]
    notes: tuple[str, ...]


def divided(steps: Sequence[Step], dims: Mapping[str, Any], plan: Plan, *, train: bool) -> Division:
    """The steps of the largest rank. ``dims`` are the sizes of the whole workload."""
    walk = _Walk(steps, dims, plan, train)
    own = tuple(walk.step(number, step) for number, step in enumerate(steps))
    kept = tuple(walk.ungathered(step) for step in own)
    return Division(own, kept, tuple(walk.exchanges), walk.dims, tuple(walk.notes))


def rank_dims(dims: Mapping[str, Any], plan: Plan) -> dict[str, Any]:
    """The sizes of one microbatch on one context-parallel rank.

    Each rank holds an early and a late chunk of the sequence. With a causal mask its N / cp queries see (N + N / cp) / 2
    keys at their end, which are exactly 1 / cp of all pairs.
    """
    own = {**dims, "B": plan.microbatch} if "B" in dims else dict(dims)
    if plan.cp > 1:
        tokens = dims["N"] // plan.cp
        own["N"] = tokens
        if dims.get("causal"):
            own.update({name: (dims["N"] + tokens) // 2 for name in ("S", "T") if dims.get(name) == dims["N"]})
    return own


class _Walk:
    def __init__(self, steps: Sequence[Step], dims: Mapping[str, Any], plan: Plan, train: bool) -> None:
        self.steps, self.plan, self.train = steps, plan, train
        self.dims = rank_dims(dims, plan)
        self.notes: dict[str, None] = {}
        self.exchanges: list[Exchange] = []
        self._sharded = self._of_rank()
        self._tokens: dict[str, Any] = {
            name: ceil_div(self.dims[name], plan.tp) for name in ("N", "N_e") if name in self.dims
        }
        self._state: dict[str, str] = {}
        self._byte: dict[str, int] = {}
        self._gathered: set[str] = set()
        self._columns: set[str] = set()
        self._readers = Readers(steps)
        self._sent = False  # whether tokens are with their experts

    def ungathered(self, step: Step) -> Step:
        """A product of columns with the tokens that its rank keeps; other steps unchanged."""
        if step.name not in self._columns or not self.plan.sequence_parallel:
            return step
        tokens = ceil_div(step.values(self.dims)["N"], self.plan.tp)
        return step._replace(sizes={**step.sizes, "N": Expression(str(tokens), step.name)})

    def _of_rank(self) -> dict[str, Any]:
        """The sizes with heads, widths and vocabulary divided; the largest rank where they do not divide."""
        tp, dims, found = self.plan.tp, self.dims, dict(self.dims)
        if tp == 1:
            return found
        for name in ("H", "F", "F_e"):
            if name in dims:
                found[name] = ceil_div(dims[name], tp)
                if dims[name] % tp:
                    self._note(f"{name} = {dims[name]:,} is divided unevenly: the largest rank has {found[name]:,}.")
        if "H_kv" in dims:
            found["H_kv"] = ceil_div(dims["H_kv"], tp)
            if dims["H_kv"] < tp:
                self._note(f"H_kv = {dims['H_kv']} is below tp {tp}: key-value heads are replicated.")
            elif dims["H_kv"] % tp:  # whole groups of query heads stay together
                found["H"] = found["H_kv"] * dims["H"] // dims["H_kv"]
                self._note(f"H_kv = {dims['H_kv']} is divided unevenly: the largest rank has {found['H_kv']} of them.")
        if "V" in dims:
            multiple = VOCABULARY * tp
            padded = ceil_div(dims["V"], multiple) * multiple
            found["V"] = padded // tp
            if padded != dims["V"]:
                self._note(f"V = {dims['V']:,} is padded to {padded:,}, a multiple of {VOCABULARY} x tp.")
        return found

    def _note(self, text: str) -> None:
        self.notes[text] = None

    def step(self, number: int, step: Step) -> Step:
        """One step on one rank. Notes the exchanges before it."""
        values = {**step.operation.defaults, **step.values(self.dims)}
        op = step.operation.function(**step.operation.checked(step.values(self.dims), step.name))
        routing = ("weights",) if step.operation.name == "combine_experts" else ()
        reads = [step.flow[t.name] for t in op.tensors
                 if t.reads and not t.spill and t.name in step.flow and t.name not in routing]  # fmt: skip
        changed, state = self._sizes(number, step, values, reads)
        if self.plan.cp > 1:
            self._ring(step, values, op)
        found = self._fixed(step, values, changed)
        made = found.operation.function(**found.operation.checked(found.values(self.dims), step.name))
        for tensor in made.tensors:
            if tensor.writes and not tensor.spill and tensor.name in step.flow:
                name = step.flow[tensor.name]
                self._state[name], self._byte[name] = state, int(tensor.size_byte)
                self._gathered.discard(name)
        return found

    def _sizes(
        self, number: int, step: Step, values: Mapping[str, Any], reads: Sequence[str]
    ) -> tuple[dict[str, Any], str]:
        """The values that differ on one rank, and the state of the results."""
        name, tp = step.operation.name, self.plan.tp
        experts = self._experts(step, values)
        states = {self._state.get(read, FULL) for read in reads}
        if PARTIAL in states and not (states == {PARTIAL} and name in LINEAR):
            self._sum(step, reads)
            states = {self._state.get(read, FULL) for read in reads}
        if tp == 1:
            return experts, FULL
        if states == {PARTIAL}:
            return experts, PARTIAL
        if name in PRODUCTS:
            return self._product(number, step, values, reads, experts, shared=SHARED in states)
        if name == "qkv":
            self._columns_of(step, reads, values, values["D"])
        if name == "output_projection" and SHARED in states:
            return self._shared(step, values), PARTIAL
        if SHARED in states or name == "qkv" or self._own_heads(step, values):
            return {**self._shared(step, values), **experts}, SHARED
        if name == "embedding" and values.get("V") == self.dims.get("V"):
            return {"V": self._sharded["V"]}, PARTIAL
        if name == "cross_entropy":
            return experts, FULL
        return self._by_tokens(step, values), FULL

    def _own_heads(self, step: Step, values: Mapping[str, Any]) -> bool:
        """Whether a step without inputs makes a number per head."""
        names = {name for size in step.sizes.values() for name in size.names}
        return bool(names & {"H", "H_kv"}) and step.operation.name in ("learned", "embedding")

    def _product(
        self,
        number: int,
        step: Step,
        values: Mapping[str, Any],
        reads: Sequence[str],
        experts: dict[str, Any],
        *,
        shared: bool,
    ) -> tuple[dict[str, Any], str]:
        key = "V" if step.operation.name == "logits" else "D_out"
        if shared:
            return {**experts, "D_in": self._divided(step, values, "D_in")}, PARTIAL
        if values[key] < self.plan.tp or not self._readers.splits(number, step):
            return {**self._by_tokens(step, values), **experts}, FULL
        self._columns_of(step, reads, values, values["D"] if key == "V" else values["D_in"])
        if key == "V" or step.name.split(".")[0] == "logits":
            self._loss(step, values)
        return {**experts, key: self._divided(step, values, key)}, SHARED

    def _columns_of(self, step: Step, reads: Sequence[str], values: Mapping[str, Any], width: int) -> None:
        """Divides the columns of a product, whose inputs all ranks need."""
        self._columns.add(step.name)
        for read in reads:
            if read not in self._gathered:
                self._gathered.add(read)
                self._gather(step, int(values["B"] * values["N"] * width * values["act"]))

    def _gather(self, step: Step, byte: int) -> None:
        """Before a product of columns. Sequence parallelism gathers the tokens, and again for the weights' gradient."""
        if not self.plan.sequence_parallel:
            self._backward(Exchange(ALL_REDUCE, byte, "tp", step.name, backward=True, overlaps=True))
            return
        part = ceil_div(byte, self.plan.tp)
        self.exchanges.append(Exchange(ALL_GATHER, part, "tp", step.name))
        self._backward(Exchange(ALL_GATHER, part, "tp", step.name, backward=True, overlaps=True))
        self._backward(Exchange(REDUCE_SCATTER, byte, "tp", step.name, backward=True, overlaps=True))

    def _sum(self, step: Step, reads: Sequence[str]) -> None:
        """Sums the partial results that a step reads."""
        for read in dict.fromkeys(reads):
            if self._state.get(read) != PARTIAL:
                continue
            byte, self._state[read] = self._byte[read], FULL
            if not self.plan.sequence_parallel:
                self.exchanges.append(Exchange(ALL_REDUCE, byte, "tp", step.name))
                continue
            self.exchanges.append(Exchange(REDUCE_SCATTER, byte, "tp", step.name))
            self._backward(Exchange(ALL_GATHER, ceil_div(byte, self.plan.tp), "tp", step.name, backward=True))

    def _loss(self, step: Step, values: Mapping[str, Any]) -> None:
        """Vocabulary-parallel loss: the maximum, the sum and the target's score of each token, in float32. Without a
        loss, the best token of each rank.
        """
        if self.train:
            self.exchanges.append(Exchange(ALL_REDUCE, 4 * values["B"] * values["N"], "tp", step.name, times=3))
        else:
            self.exchanges.append(Exchange(ALL_GATHER, 8 * values["B"] * values["N"], "tp", step.name))

    def _backward(self, exchange: Exchange) -> None:
        if self.train:
            self.exchanges.append(exchange)

    def _shared(self, step: Step, values: Mapping[str, Any]) -> dict[str, Any]:
        """The values of a step whose inputs are divided by heads or columns."""
        other = {**step.operation.defaults, **step.values(self._sharded)}
        changed = {name: value for name, value in other.items() if value != values.get(name)}
        if changed:
            return changed
        key = next((key for key in ("numel", "H", "V", "D", "cols") if key in values), None)
        if key is None:
            self._note(f"{step.name} is not divided: each rank repeats it.")
            return {}
        return {key: ceil_div(values[key], self.plan.tp)}

    def _divided(self, step: Step, values: Mapping[str, Any], key: str) -> Any:
        other = step.values(self._sharded).get(key, values[key])
        return other if other != values[key] else ceil_div(values[key], self.plan.tp)

    def _by_tokens(self, step: Step, values: Mapping[str, Any]) -> dict[str, Any]:
        """Sequence parallelism: a part of the tokens of a step that needs all features."""
        if not self.plan.sequence_parallel:
            return {}
        other = {**step.operation.defaults, **step.values({**self.dims, **self._tokens})}
        return {name: value for name, value in other.items() if value != values.get(name)}

    def _experts(self, step: Step, values: Mapping[str, Any]) -> dict[str, Any]:
        """E / ep experts, which receive as many rows as the rank sends. Notes the two all-to-all of a layer."""
        name, ep = step.operation.name, self.plan.ep
        sends = ep > 1 and (name == "combine_experts" or (name in EXPERTS and not self._sent))
        if sends:
            self._sent = name in EXPERTS
            tokens = values["B"] * (self._tokens["N"] if self.plan.sequence_parallel else values["N"])
            byte = int(tokens * values["A"] * self.dims["D"] * values["act"])
            self.exchanges.append(Exchange(ALL_TO_ALL, byte, "ep", step.name))
            self._backward(Exchange(ALL_TO_ALL, byte, "ep", step.name, backward=True))
        if ep == 1 or name not in EXPERTS:
            return {}
        return {"E": values["E"] // ep, "N": values["N"] * values["A"], "A": 1}

    def _ring(self, step: Step, values: Mapping[str, Any], op: Any) -> None:
        """Keys and values pass around the context-parallel ring, once forward, and with their gradients backward."""
        if step.operation.name != "attention" or step.crosses:
            return
        heads = self._sharded["H_kv"] if "H_kv" in self._sharded else values["H_kv"]
        byte = int(2 * values["B"] * heads * self.dims["N"] * values["d"] * values["cache"])
        steps = self.plan.cp - 1
        self.exchanges.append(Exchange(SEND_RECV, byte, "cp", step.name, overlaps=True, times=steps))
        self._backward(Exchange(SEND_RECV, 2 * byte, "cp", step.name, backward=True, overlaps=True, times=steps))

    def _fixed(self, step: Step, values: Mapping[str, Any], changed: Mapping[str, Any]) -> Step:
        """The step with the values of the rank as numbers."""
        own = {name: value for name, value in changed.items() if value != values.get(name) and isinstance(value, int)}
        if not own:
            return step
        return step._replace(sizes={**step.sizes, **{k: Expression(str(v), step.name) for k, v in own.items()}})
