"""The memory account of a workload at given sizes, for any number of plans."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from perfmodel import block
from perfmodel.arithmetic import whole_bytes
from perfmodel.footprint import inference, lines
from perfmodel.footprint.activations import Activations, activations, size_byte
from perfmodel.footprint.flow import layers
from perfmodel.footprint.lines import Line, Model, Moment, Plan
from perfmodel.op import Op
from perfmodel.units import ITEM_BYTES
from perfmodel.workload import ROLES, Workload


class Estimate(NamedTuple):
    """A figure by a published rule, or for another way to store the same data."""

    name: str
    byte: int
    formula: str
    source: str


class Training(NamedTuple):
    """The activations that a training step keeps, and the moments of its backward pass."""

    activations: Activations
    moments: tuple[Moment, ...]


class Account:
    """The memory of one GPU at the sizes ``dims`` of a phase.

    Results that do not depend on the plan are computed once.
    """

    def __init__(
        self, workload: Workload, phase: str, dims: Mapping[str, Any], fused: bool, form: str | None = None
    ) -> None:
        self.workload, self.phase, self.fused = workload, phase, fused
        self.form = workload.form_in(phase, form)
        self.dims = dict(dims)
        self.steps = workload._replace(loss=()).steps_in(phase, form)
        self._at = {"causal": 0, **self.dims}
        forward = tuple(block.wholes(workload.steps, self._at))
        held = _largest(workload.steps, self._at, Op.parameters)
        stored = None
        if workload.stores and phase != "train":
            stored = lines.Stored(block.stored_byte(forward), _largest(workload.steps, self._at, Op.stored_byte))
        self.model = Model(block.parameters(forward).total, held, self._item("weight"), stored)
        self._trained: dict[str, Training] = {}
        self._inferred: list[Line] | None = None

    def lines(self, plan: Plan) -> tuple[Line, ...]:
        """All lines of one GPU under a plan."""
        held = lines.weights(self.model, plan)
        if self.phase != "train":
            return (*held, *self._inference())
        held += lines.training_states(self.model, plan, self.workload.name)
        trained = self.trained(plan.recompute)
        return (*held, *lines.kept(trained.activations, plan), *lines.passing(trained.moments))

    def byte_per_gpu(self, plan: Plan) -> int:
        """Total bytes of one GPU under a plan."""
        return sum(line.byte_per_gpu for line in self.lines(plan))

    def windowed(self) -> bool:
        """Whether a window limits the cache of any layer at these sizes."""
        keeps = self.phase != "train" and "decode" in self.workload.phases
        return keeps and any(share.windowed for share in inference.cache(self.steps, self._at).before)

    def trained(self, recompute: str) -> Training:
        """The activations that a training step keeps under a recomputation mode."""
        if recompute not in self._trained:
            found = activations(self.steps, self._at, fused=self.fused, recompute=recompute)
            self._trained[recompute] = Training(found, tuple(lines.moments(found)))
        return self._trained[recompute]

    def estimates(self) -> tuple[Estimate, ...]:
        """Estimates by published rules and for other forms of the activations, loss, cache or state."""
        if self.phase == "train":
            return (*self._states(), *self._rules(), *self._recomputed(), *self._upcast())
        return (*self._other_caches(), *self._wide_states())

    def _item(self, symbol: str) -> int | float:
        """Bytes per element: a whole number, or 0.5."""
        item: int | float = self.dims.get(symbol, ITEM_BYTES[self.workload.dtypes[ROLES[symbol]]])
        return item

    def _inference(self) -> list[Line]:
        if self._inferred is None:
            B, keeps = self.dims.get("B", 1), "decode" in self.workload.phases
            found = inference.workspace(self.steps, self._at, fused=self.fused, keeps_cache=keeps)
            self._inferred = lines.workspace_line(found)
            if keeps:
                states = inference.states(self.steps, self._at)
                held = lines.cache_lines(inference.cache(self.steps, self._at), B)
                self._inferred = [*held, *lines.state_lines(states, self._item("cache"), B), *self._inferred]
        return self._inferred

    def _other_caches(self) -> list[Estimate]:
        """The cache of the same tokens in the other forms of the decoding step."""
        found, B = [], self.dims.get("B", 1)
        held = {inference.cache(self.steps, self._at).before}
        for form, steps in self.workload.decode.items():
            kept = inference.cache(steps, self._at)
            if kept.before and kept.before not in held:
                held.add(kept.before)
                line = lines.cache_lines(kept._replace(new=(), cross=()), B)[0]
                found.append(
                    Estimate(f"key-value cache, {form}", line.byte_per_gpu, line.formula, "--form of decoding")
                )
        return found

    def _wide_states(self) -> list[Estimate]:
        """The recurrent state with recurrences in float32, as kernels keep it for every data type."""
        item, B = self._item("cache"), self.dims.get("B", 1)
        states = inference.states(self.steps, self._at) if "decode" in self.workload.phases and item < WIDE else ()
        if not states:
            return []
        elements = {wide: sum(s.elements * s.repeat for s in states if s.recurrence is wide) for wide in (False, True)}
        formula = (
            f"{B:,} x ({elements[False]:,} values x {item} bytes + {elements[True]:,} recurrence values x {WIDE} bytes)"
        )
        byte = whole_bytes(B * (elements[False] * item + elements[True] * WIDE))
        return [
            Estimate(
                "recurrent state, recurrences in float32",
                byte,
                formula,
                "the data type that selective_scan and wkv use",
            )
        ]

    def _states(self) -> list[Estimate]:
        """Weights, gradients and Adam states together, in bytes per parameter, before any activation."""
        plan, number = Plan(), self.model.parameters
        if not number:
            return []
        held = [*lines.weights(self.model, plan), *lines.training_states(self.model, plan, self.workload.name)]
        each = " + ".join(str(line.byte_per_gpu // number) for line in held)
        byte = sum(line.byte_per_gpu for line in held)
        return [
            Estimate("training states", byte, f"({each}) bytes x {number:,} parameters", "weights, gradients, Adam")
        ]

    def _recomputed(self) -> list[Estimate]:
        """Full recomputation: the inputs of all layers, and one layer recomputed for its backward pass."""
        found = self.trained("full")
        again = max(
            (moment for moment in found.moments if moment.name.startswith("backward pass in")),
            key=lambda m: m.byte,
            default=None,
        )
        if again is None:
            return []
        kept = sum(line.byte_per_gpu for line in lines.kept(found.activations, Plan(recompute="full")))
        formula = f"{kept:,} bytes of layer inputs and of steps outside the layers + {again.byte:,} of the layer in its backward pass"
        return [Estimate("each layer recomputed", kept + again.byte, formula, "--recompute full, without the loss")]

    def _upcast(self) -> list[Estimate]:
        """A loss that converts its logits to float32: it holds two more copies of them."""
        item = self._item("act")
        number = int(size_byte(self.trained("none").activations.logits) // item)
        if not number or item >= WIDE:
            return []
        formula = f"{number:,} logits x ({item} + {WIDE} + {WIDE}) bytes: logits, log-probabilities, gradient"
        byte = whole_bytes(number * (item + 2 * WIDE))
        return [Estimate("loss in float32", byte, formula, "logits.float() before the loss")]

    def shape(self) -> Shape | None:
        """The sizes that the rules of thumb use; None for a workload that is not a decoder or encoder alone."""
        depth = sum(repeat for name, repeat, steps in layers(self.steps, self._at) if name and _attends(steps))
        if not depth or not {"B", "N", "D", "H"} <= self.dims.keys() or "N_e" in self.dims:
            return None
        return Shape(depth, *(self.dims[name] for name in ("B", "N", "D", "H")))

    def _rules(self) -> list[Estimate]:
        shape = self.shape()
        if shape is None:
            return []
        L, B, N, D, H = shape
        stream = f"{L:,} layers x {N:,} x {B:,} x {D:,}"
        whole = (34 * N * B * D + 5 * H * N * N * B) * L
        return [
            Estimate("ZeRO's rule", 24 * shape.stream, f"12 x {D:,} x {B:,} x {N:,} x {L:,} elements x 2 bytes", ZERO),
            Estimate("s b h (34 + 5 a s / h)", whole, f"{stream} x (34 + 5 x {H:,} x {N:,} / {D:,}) bytes", REDUCING),
            Estimate("34 s b h, selective", 34 * shape.stream, f"{stream} x 34 bytes", REDUCING),
            Estimate("2 s b h, full", 2 * shape.stream, f"{stream} x 2 bytes", REDUCING),
        ]


WIDE = 4  # bytes of float32
ZERO = "Rajbhandari et al. 2020 (ZeRO), section 3.2"
REDUCING = "Korthikanti et al. 2022, table 2"


class Shape(NamedTuple):
    """Layers L, sequences B, tokens N, width D and heads H."""

    L: int
    B: int
    N: int
    D: int
    H: int

    @property
    def stream(self) -> int:
        """Elements of the residual stream, summed over the layers."""
        return self.L * self.B * self.N * self.D


def _attends(steps: Sequence[block.Step]) -> bool:
    return any("attention" in step.operation.name for step in steps)


def _largest(steps: Sequence[block.Step], dims: Mapping[str, Any], figure: Callable[[Op], int]) -> int:
    """A figure of an operation, summed over the largest layer, or of the largest step outside the layers."""
    found = 0
    for name, _, running in layers(steps, dims):
        held = [figure(kernel.op) for kernel in block.kernels(running, dims)]
        found = max(found, sum(held) if name else max(held, default=0))
    return found
