"""The work of one rank: steps with divided sizes, and the collectives between them.

Tensors are followed through the steps. A tensor has one of three states in the tensor-parallel group. ``FULL``: each
rank has all features. ``SHARED``: each rank has its heads or its columns. ``PARTIAL``: each rank has a term of the sum.
A product that reads a full tensor divides its columns. A product that reads a shared one divides its rows (Shoeybi et
al. 2019). Its result is partial, and is summed before an operation that is not linear reads it. Under sequence
parallelism (Korthikanti et al. 2022) each rank has a part of the tokens of a full tensor. An all-gather before a product
and a reduce-scatter after it then replace the all-reduce.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil
from typing import Any, NamedTuple

from perfmodel.arithmetic import ceil_div
from perfmodel.block import Step
from perfmodel.patterns import ALL_GATHER, ALL_REDUCE, ALL_TO_ALL, REDUCE_SCATTER, SEND_RECV
from perfmodel.plans.pieces import Piece, Pieces
from perfmodel.plans.plan import Plan
from perfmodel.plans.readers import PRODUCTS
from perfmodel.routing import Rank, busiest

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

    pieces: tuple[Piece, ...]
    kept: tuple[Piece, ...]
    exchanges: tuple[Exchange, ...]
    dims: dict[str, Any]
    notes: tuple[str, ...]

    @property
    def steps(self) -> tuple[Step, ...]:
        return tuple(piece.step for piece in self.pieces)


def divided(
    steps: Sequence[Step], dims: Mapping[str, Any], plan: Plan, *, train: bool, pieces: Pieces | None = None
) -> Division:
    """The steps of the largest rank. ``dims`` are the sizes of the whole workload; ``pieces`` are shared by its plans."""
    walk = _Walk(pieces or Pieces(steps), dims, plan, train)
    own = tuple(walk.step(number, step) for number, step in enumerate(walk.pieces.steps))
    kept = tuple(walk.ungathered(piece) for piece in own)
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
    def __init__(self, pieces: Pieces, dims: Mapping[str, Any], plan: Plan, train: bool) -> None:
        self.pieces, self.plan, self.train = pieces, plan, train
        self.at = plan.microbatch, plan.cp
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
        self._sent = False  # whether tokens are with their experts

    def ungathered(self, piece: Piece) -> Piece:
        """A product of columns with the tokens that its rank keeps; other steps unchanged."""
        if piece.step.name not in self._columns or not self.plan.sequence_parallel:
            return piece
        tokens = ceil_div(piece.values["N"], self.plan.tp)
        return self.pieces.piece(
            piece.number, self.at, self.dims, (*((k, v) for k, v in piece.own if k != "N"), ("N", tokens))
        )

    def _of_rank(self) -> dict[str, Any]:
        """The sizes with heads, widths and vocabulary divided; the largest rank where they do not divide."""
        tp, dims, found = self.plan.tp, self.dims, dict(self.dims)
        if tp == 1:
            return found
        for name in ("H", "F", "F_e"):
            if name in dims:
                found[name] = ceil_div(dims[name], tp)
                if dims[name] % tp:
                    self._note(f"{name} = {dims[name]} is divided unevenly: the largest rank has {found[name]}.")
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
                self._note(f"V = {dims['V']} is padded to {padded}, a multiple of {VOCABULARY} x tp.")
        return found

    def _note(self, text: str) -> None:
        self.notes[text] = None

    def step(self, number: int, step: Step) -> Piece:
        """One step on one rank. Notes the exchanges before it."""
        whole = self.pieces.whole(number, self.at, self.dims)
        values = whole.values
        changed, state = self._sizes(number, step, values, whole.reads)
        if self.plan.cp > 1:
            self._ring(step, values)
        own = tuple((k, v) for k, v in changed.items() if v != values.get(k) and isinstance(v, (int, tuple)))
        piece = self.pieces.piece(number, self.at, self.dims, own)
        for name, byte in piece.writes:
            self._state[name], self._byte[name] = state, byte
            self._gathered.discard(name)
        return piece

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
            return self._shared(number, step, values), PARTIAL
        if SHARED in states or name == "qkv" or self._own_heads(step, values):
            return {**self._shared(number, step, values), **experts}, SHARED
        if name == "embedding" and values.get("V") == self.dims.get("V"):
            return {"V": self._sharded["V"]}, PARTIAL
        if name == "cross_entropy":
            return experts, FULL
        return self._by_tokens(number, values), FULL

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
            return {**experts, "D_in": self._divided(number, values, "D_in")}, PARTIAL
        if values[key] < self.plan.tp or not self.pieces.readers.splits(number, step):
            return {**self._by_tokens(number, values), **experts}, FULL
        self._columns_of(step, reads, values, values["D"] if key == "V" else values["D_in"])
        if key == "V" or step.name.split(".")[0] == "logits":
            self._loss(step, values)
        return {**experts, key: self._divided(number, values, key)}, SHARED

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

    def _shared(self, number: int, step: Step, values: Mapping[str, Any]) -> dict[str, Any]:
        """The values of a step whose inputs are divided by heads or columns."""
        other = self.pieces.values(number, (self.at, self.plan.tp), self._sharded)
        changed = {name: value for name, value in other.items() if value != values.get(name)}
        if changed:
            return changed
        key = next((key for key in ("numel", "H", "V", "D", "cols") if key in values), None)
        if key is None:
            self._note(f"{step.name} is not divided: each rank repeats it.")
            return {}
        return {key: ceil_div(values[key], self.plan.tp)}

    def _divided(self, number: int, values: Mapping[str, Any], key: str) -> Any:
        other = self.pieces.values(number, (self.at, self.plan.tp), self._sharded)[key]
        return other if other != values[key] else ceil_div(values[key], self.plan.tp)

    def _by_tokens(self, number: int, values: Mapping[str, Any]) -> dict[str, Any]:
        """Sequence parallelism: a part of the tokens of a step that needs all features."""
        if not self.plan.sequence_parallel:
            return {}
        other = self.pieces.values(number, (self.at, self.plan.tp, "tokens"), {**self.dims, **self._tokens})
        return {name: value for name, value in other.items() if value != values.get(name)}

    def _experts(self, step: Step, values: Mapping[str, Any]) -> dict[str, Any]:
        """E / ep experts, which receive as many rows as the rank sends, or the rows of the busiest rank. Notes the two
        all-to-all of a layer.
        """
        name, ep = step.operation.name, self.plan.ep
        if ep == 1 or not (name == "combine_experts" or name in EXPERTS):
            return {}
        rank = self._busiest(values) if self.dims.get("routing") else None
        load = rank.load if rank else 1
        if name == "combine_experts" or not self._sent:
            self._sent = name in EXPERTS
            tokens = values["B"] * (self._tokens["N"] if self.plan.sequence_parallel else values["N"])
            byte = int(tokens * values["A"] * self.dims["D"] * values["act"] * load)
            self.exchanges.append(Exchange(ALL_TO_ALL, byte, "ep", step.name))
            self._backward(Exchange(ALL_TO_ALL, byte, "ep", step.name, backward=True))
        if name not in EXPERTS:
            return {}
        own = {"E": values["E"] // ep, "N": ceil(values["N"] * values["A"] * load), "A": 1}
        return {**own, "routing": rank.shares} if rank else own

    def _busiest(self, values: Mapping[str, Any]) -> Rank:
        """The rank whose experts get most rows. It sets the pace of the group."""
        rank = busiest(self.dims["E"], values["A"], self.plan.ep, self.dims["routing"])
        self._note(f"The busiest of {self.plan.ep} ranks of experts gets {rank.load:.3g} times the mean of the rows.")
        return rank

    def _ring(self, step: Step, values: Mapping[str, Any]) -> None:
        """Keys and values pass around the context-parallel ring, once forward, and with their gradients backward."""
        if step.operation.name != "attention" or step.crosses:
            return
        heads = self._sharded["H_kv"] if "H_kv" in self._sharded else values["H_kv"]
        byte = int(2 * values["B"] * heads * self.dims["N"] * values["d"] * values["cache"])
        steps = self.plan.cp - 1
        self.exchanges.append(Exchange(SEND_RECV, byte, "cp", step.name, overlaps=True, times=steps))
        self._backward(Exchange(SEND_RECV, 2 * byte, "cp", step.name, backward=True, overlaps=True, times=steps))
