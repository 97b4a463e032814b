"""Steps and kernels of a block. A model is a list of steps: operations with sizes, repeats and connecting tensors.

A step gives each argument of its operation as an expression of the workload's sizes. Its ``flow`` maps the operation's
tensors to tensors of the block. It separates inputs and outputs of the block from tensors between its steps.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from perfmodel import ops
from perfmodel.arithmetic import is_zero, whole_bytes
from perfmodel.arithmetic import stored_byte as byte_of
from perfmodel.expression import Expression
from perfmodel.op import Kind, Op
from perfmodel.operation import Backward, Operation, checked_value
from perfmodel.runs import each as each_fact


class Step(NamedTuple):
    """One operation of a block, with its sizes, its repeats and its place in the data flow.

    - ``sizes``: arguments of the operation as expressions of the block's sizes.
    - ``repeat``: how many times the step runs; ``group`` is shared by the steps that repeat together.
    - ``flow``: the block's name for each tensor of the operation.
    - ``kernels``: ``together`` (one kernel), ``apart`` (one kernel per stage), or ``either``, as the caller chooses.
    - ``tied``: the weights belong to another step.
    - ``windowed``: the window W applies. ``forgets``: the cache drops keys outside the window.
    - ``cached``: keys and values are kept for later tokens. ``crosses``: they come from an encoder.
    - ``unmasked``: the causal mask does not apply.
    - ``data``: tensors that are input data, whose gradient is not computed.
    """

    name: str
    operation: Operation
    sizes: Mapping[str, Expression] = {}
    repeat: Expression | None = None
    flow: Mapping[str, str] = {}
    kernels: str = "either"
    group: str = ""
    tied: bool = False
    windowed: bool = True
    cached: bool = True
    unmasked: bool = False
    crosses: bool = False
    forgets: bool = True
    data: tuple[str, ...] = ()

    def values(self, dims: Mapping[str, Any]) -> dict[str, Any]:
        """The operation's arguments: the step's own sizes, then the block's sizes of the same name."""
        found: dict[str, Any] = {}
        for name in self.operation.arguments:
            if name in self.sizes:
                found[name] = self.sizes[name](dims)
            elif name in dims and not (name == "W" and not self.windowed):
                found[name] = dims[name]
        if self.unmasked and "causal" in self.operation.arguments:
            found["causal"] = 0
        return found


class Kernel(NamedTuple):
    """A kernel that runs: its name, its operation, its repeats and its work.

    ``dtype`` is its data type where that differs from the workload's.
    """

    name: str
    operation: str
    repeat: Any
    op: Op
    step: Step
    forward: bool = True
    dtype: str = ""


# A replacement for ``Operation.checked``: completes and checks the sizes of an operation.
Check = Callable[[Operation, dict[str, Any], str], dict[str, Any]]


def kernels(
    steps: Iterable[Step],
    dims: Mapping[str, Any],
    *,
    fused: bool = True,
    backward: bool = False,
    optimizer: bool = False,
    checked: bool | Check = True,
) -> Iterator[Kernel]:
    """All kernels in execution order: forward steps, their gradients in reverse order, the optimizer step.

    With ``backward``, the forward kernels also write the tensors that the gradients read.
    """
    steps = tuple(steps)
    forward = tuple(wholes(steps, dims, checked=checked))
    return running(forward, steps, dims, fused=fused, backward=backward, optimizer=optimizer, checked=checked)


def wholes(steps: Iterable[Step], dims: Mapping[str, Any], *, checked: bool | Check = True) -> Iterator[Kernel]:
    """All forward steps, each as one kernel and evaluated once."""
    for step in steps:
        values, repeat = _evaluated(step.operation, step.values(dims), step.name, checked), _repeat(step, dims, checked)
        yield Kernel(step.name, step.operation.name, repeat, step.operation.function(**values), step)


def running(
    forward: Iterable[Kernel],
    steps: tuple[Step, ...],
    dims: Mapping[str, Any],
    *,
    fused: bool = True,
    backward: bool = False,
    optimizer: bool = False,
    checked: bool | Check = True,
) -> Iterator[Kernel]:
    """The kernels that run, given the evaluated forward steps."""
    held: Any = 0
    for kernel in forward:
        step, op = kernel.step, kernel.op
        own = op.parameters() if optimizer and not step.tied else 0
        held = held if is_zero(own) else held + own * kernel.repeat
        yield from _split(step.name, step.operation, op, kernel.repeat, step, fused, forward=True, keeps=backward)
    for step in reversed(steps) if backward else ():
        for gradient, operation, op in _gradients(step, dims, fused, checked):
            name = f"{step.name}.backward"
            if len(step.operation.backward) > 1:
                name += f".{gradient.operation.removesuffix('_backward')}"
            yield from _split(name, operation, op, _repeat(step, dims, checked), step, fused, forward=False)
    if optimizer and not is_zero(held):
        yield update(held, dims, checked)


def update(held: Any, dims: Mapping[str, Any], checked: bool | Check = True) -> Kernel:
    """The optimizer step over all parameters."""
    step = Step("optimizer", ops.find("adam"))
    values = _evaluated(step.operation, {**step.values(dims), "params": held}, step.name, checked)
    return Kernel(step.name, step.operation.name, 1, step.operation.function(**values), step, forward=False)


class Gradient(NamedTuple):
    """A gradient operation: the rule that it comes from, the whole operation, and the kernels that it runs as."""

    backward: Backward
    op: Op
    kernels: tuple[Op, ...]


def gradients(step: Step, dims: Mapping[str, Any], *, fused: bool = True) -> Iterator[Gradient]:
    """The gradient operations of a step in execution order."""
    for gradient, _, op in _gradients(step, dims, fused, True):
        parts = op.kernels() if _apart(step, fused) else ()
        yield Gradient(gradient, op, tuple(part for _, part in parts) or (op,))


def _gradients(
    step: Step, dims: Mapping[str, Any], fused: bool, checked: bool | Check
) -> Iterator[tuple[Backward, Operation, Op]]:
    """Gradient ops use the forward sizes unless ``Backward`` overrides them."""
    forward = {**step.operation.defaults, **step.values(dims)}
    for gradient in step.operation.backward:
        operation = ops.find(gradient.fused if gradient.fused and not _apart(step, fused) else gradient.operation)
        given = {name: Expression(text, step.name)(forward) for name, text in gradient.sizes}
        values = {name: value for name, value in {**forward, **given}.items() if name in operation.arguments}
        op = _asked(operation.function(**_evaluated(operation, values, step.name, checked)), step.data)
        if op is not None:
            yield gradient, operation, op


def _asked(op: Op, data: tuple[str, ...]) -> Op | None:
    """A gradient operation without the gradients of data; None where no other gradient remains.

    Work without operands belongs to the work before it. Work that writes two gradients at once is kept whole.
    """
    dead = {f"d{name}" for name in data}
    if not dead or {tensor.name for tensor in op.tensors if tensor.writes} <= dead:
        return None if dead else op
    left, dropped = [], False
    for work in op.work:
        if work.reads or work.writes:
            dropped = bool(work.writes) and dead.issuperset(work.writes)
        if not dropped:
            left.append(work)
    if len(left) == len(op.work):
        return op
    touched = {name for work in left for name in (*work.reads, *work.writes)}
    tensors = tuple(tensor for tensor in op.tensors if tensor.name in touched)
    facts = tuple(fact for work in left if work.amount.contraction for fact in each_fact(work.runs))
    return Op(tensors, tuple(left), (facts[0] if len(facts) == 1 else facts) or op.runs)


def _evaluated(operation: Operation, values: dict[str, Any], where: str, checked: bool | Check) -> dict[str, Any]:
    if checked is True:
        return operation.checked(values, where)
    return checked(operation, values, where) if checked else {**operation.defaults, **values}


def _repeat(step: Step, dims: Mapping[str, Any], checked: bool | Check) -> Any:
    repeat = step.repeat(dims) if step.repeat else 1
    return checked_value("L", repeat, f"{step.name}: repeat") if checked is True else repeat


def _apart(step: Step, fused: bool) -> bool:
    """Whether the step runs as separate kernels."""
    return step.kernels == "apart" or (step.kernels == "either" and not fused)


def _split(
    name: str, operation: Operation, op: Op, repeat: Any, step: Step, fused: bool, forward: bool, keeps: bool = False
) -> Iterator[Kernel]:
    parts = op.kernels() if _apart(step, fused) else ()
    if not parts:
        yield Kernel(name, operation.name, repeat, op.keeping() if keeps else op, step, forward)
    for part, kernel in parts:
        yield Kernel(f"{name}.{part}", part, repeat, kernel, step, forward)


class Parameters(NamedTuple):
    """Parameters of a block: in total, active per token, and in embedding tables."""

    total: int
    active: int
    embedding: int


def parameters(forward: Iterable[Kernel]) -> Parameters:
    """Parameter counts over all repeats. Tied weights are counted once."""
    count = active = embedding = 0
    for kernel in forward:
        if not kernel.step.tied:
            held = kernel.op.parameters() * kernel.repeat
            count += held
            active += kernel.op.active_parameters() * kernel.repeat
            embedding += held if kernel.operation in ("embedding", "positions") else 0
    return Parameters(count, active, embedding)


def stored_byte(forward: Iterable[Kernel]) -> int:
    """Bytes of all weights with their scales and zero points, over all repeats. Tied weights are counted once."""
    held = (kernel.op.stored_byte() * kernel.repeat for kernel in forward if not kernel.step.tied)
    return int(whole_bytes(sum(held)))


def cache_byte_per_token(forward: Iterable[Kernel]) -> int:
    """Bytes of keys and values that one token of one sequence adds to the cache, over all repeats."""
    found = 0
    for kernel in forward:
        for tensor in kernel.op.tensors:
            if tensor.kind is Kind.CACHE and kernel.step.cached:
                batch, heads, _, width = tensor.shape
                found += byte_of(heads * width, tensor.item) * kernel.repeat if batch else 0
    return found
