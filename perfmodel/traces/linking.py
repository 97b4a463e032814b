"""Ties every kernel to its launch, to the operator that launched it, and to the operator whose formula it has.

The innermost operator around a launch is the profiler's external id, or else the one that runs in the launch's thread at
its time. Formulas belong to operators further out: ``aten::softmax`` rather than the fill inside it. An operator that only
chooses among others, such as ``aten::to``, leaves the formula to the one that it chooses.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from perfmodel import aten
from perfmodel.aten.calls import Call, Launched
from perfmodel.errors import PerfmodelError
from perfmodel.traces import calls
from perfmodel.traces.events import Activity, Launch, Range, Trace
from perfmodel.traces.kernel_names import COMMUNICATION, family
from perfmodel.traces.nesting import OPTIMIZER, Nesting, Place

# Operators that only choose another one, which has the strides and the back end.
CHOOSERS = frozenset(
    (
        "scaled_dot_product_attention", "linear", "to", "_to_copy", "contiguous", "clone", "reshape", "flatten", "einsum", "matmul",
        "zeros", "ones", "zeros_like", "ones_like", "full", "full_like", "empty_like", "item", "stack", "repeat",
        "conv1d", "conv2d", "conv3d", "convolution", "_convolution", "cross_entropy_loss", "chunk", "expand", "pad",
        "constant_pad_nd",
    )
)  # fmt: skip
GRAPH = "GraphLaunch"


class Tied(NamedTuple):
    """A kernel with the launch and the operator that it belongs to.

    ``operator`` is the innermost operator around the launch and ``owner`` the place of the one whose formula it has.
    ``graph``: it runs in a CUDA graph, so that its operator is unknown.
    """

    activity: Activity
    launch: Launch | None
    operator: Range | None = None
    owner: Place | None = None
    module: str = ""
    phase: str = "forward"
    named: str = ""
    graph: bool = False


class Formulas:
    """The kernels that operators launch, by their rules. Equal calls are looked up once."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, int, str], tuple[Call, tuple[Launched, ...]] | None] = {}

    def of(self, operator: Range, hint: str = "") -> tuple[Call, tuple[Launched, ...]] | None:
        """The operator's call and what it launches; None without shapes."""
        key = (operator.name, id(operator.signature), hint)
        if key not in self._known:
            self._known[key] = self._of(operator, hint)
        return self._known[key]

    def _of(self, operator: Range, hint: str) -> tuple[Call, tuple[Launched, ...]] | None:
        found = calls.call(operator, hint)
        if found is None or not aten.is_known(found.name):
            return None
        try:
            return found, aten.launched(found)
        except (PerfmodelError, IndexError, TypeError, ValueError, KeyError, ZeroDivisionError, AttributeError):
            return None  # the trace lacks an argument that the rule reads


def link(trace: Trace, nesting: Nesting, activities: Sequence[Activity], formulas: Formulas) -> list[Tied]:
    """Ties each of these kernels, in order."""
    linker = _Linker(trace, nesting, formulas)
    return [linker.tied(one) for one in activities]


class _Linker:
    def __init__(self, trace: Trace, nesting: Nesting, formulas: Formulas) -> None:
        self.trace, self.nesting, self.formulas = trace, nesting, formulas
        self._owners: dict[tuple[Place, str], Place | None] = {}
        self._around: dict[Place, tuple[str, str]] = {}

    def tied(self, one: Activity) -> Tied:
        launch = self.trace.launches.get(one.correlation)
        place = self._place(one, launch)
        if launch is None and place is None:
            return Tied(one, None)
        graph = launch is not None and GRAPH in launch.name
        operator = self.nesting.operator(place) if place else None
        thread = place.thread if place else launch.thread if launch else 0
        time_s = launch.start_s if launch else operator.start_s if operator else 0.0
        names = self.nesting.names(thread, time_s)
        module, phase = self._module(place, thread, time_s, names)
        owner = None if graph or family(one.name) == COMMUNICATION or place is None else self._owner(place, one.name)
        return Tied(one, launch, operator, owner, module, phase, names[0] if names else "", graph)

    def _place(self, one: Activity, launch: Launch | None) -> Place | None:
        found = self.nesting.numbered(one.number) if one.number >= 0 else None
        if found is None and launch is not None:
            found = self.nesting.at(launch.thread, launch.start_s)
        return found

    def _module(self, place: Place | None, thread: int, time_s: float, names: Iterable[str]) -> tuple[str, str]:
        """The path of the modules, that of the forward operator for a backward one; and the phase."""
        if any(name.startswith(OPTIMIZER) for name in names):
            return "", "optimizer"
        if place is None:
            return self.nesting.module(thread, time_s), "forward"
        if place not in self._around:
            node = self.nesting.node(place)
            created = self.nesting.created(node) if node else place
            start_s = self.nesting.operator(created).start_s if created else 0.0
            module = self.nesting.module(created.thread, start_s) if created else ""
            self._around[place] = module, "backward" if node else "forward"
        return self._around[place]

    def _owner(self, place: Place, kernel: str) -> Place | None:
        hint = calls.item_hint(kernel)
        if (place, hint) not in self._owners:
            self._owners[place, hint] = self._found(place, hint)
        return self._owners[place, hint]

    def _found(self, place: Place, hint: str) -> Place | None:
        """The outermost operator that has a rule and is no chooser; else the innermost one with shapes."""
        around = list(self.nesting.around(place))
        for one in reversed(around):
            operator = self.nesting.operator(one)
            if operator.name.startswith("triton_") and operator.signature is not None:
                return one
            found = self.formulas.of(operator, hint)
            if found and found[0].name not in CHOOSERS and any(kernel.known for kernel in found[1]):
                return one
        return next((one for one in around if self._shaped(one)), None)

    def _shaped(self, place: Place) -> bool:
        operator = self.nesting.operator(place)
        return operator.signature is not None and operator.name.startswith(calls.NAMESPACE)
