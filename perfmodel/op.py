"""An operation as data: a function from sizes to the tensors it moves and the work it does.

Called with integers it returns exact counts, with NumPy arrays a sweep, with symbols a formula.

Traffic: a fused operation reads and writes each tensor as often as its ``reads`` and ``writes`` say. A tensor marked
``spill`` exists only between the kernels of the unfused form; the fused form does not move it. Work: a ``Work`` with
named operands starts a kernel of the unfused form, and the works after it without operands belong to that kernel.
"""

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Any, NamedTuple

from perfmodel.arithmetic import Size, is_zero, product, stored_byte, sum_of_products, total
from perfmodel.errors import InputError, near_or_known
from perfmodel.runs import Facts
from perfmodel.runs import each as each_fact


class Engine(StrEnum):
    """The part of a multiprocessor that executes a piece of work."""

    TENSOR = "tensor"
    VECTOR = "vector"
    SPECIAL = "special"


class Kind(StrEnum):
    """The role of a tensor in a model: activation, trained parameter, weights held by another tensor, cache, or scales
    and zero points that are stored with quantised parameters.
    """

    ACTIVATION = "activation"
    PARAMETER = "parameter"
    WEIGHT = "weight"
    CACHE = "cache"
    SCALE = "scale"


# Roles of tensors that stay in memory from step to step and that no kernel of a forward pass writes.
WEIGHTS = (Kind.PARAMETER, Kind.WEIGHT, Kind.SCALE)


class Primitive(NamedTuple):
    """One scalar operation, and the engine it needs if that differs from the engine of its work."""

    name: str
    engine: Engine | None = None


MULTIPLY, ADD, SUBTRACT = Primitive("multiply"), Primitive("add"), Primitive("subtract")
MAX, COMPARE, NEGATE = Primitive("max"), Primitive("compare"), Primitive("negate")
SELECT, ERF = Primitive("select"), Primitive("erf")
EXP, LOG = Primitive("exp", Engine.SPECIAL), Primitive("log", Engine.SPECIAL)
TANH, RSQRT = Primitive("tanh", Engine.SPECIAL), Primitive("rsqrt", Engine.SPECIAL)
SQRT, DIVIDE = Primitive("sqrt", Engine.SPECIAL), Primitive("divide", Engine.SPECIAL)
# A division by a number that the whole row shares is a multiplication by its reciprocal, so it stays on the work's
# engine.
DIVIDE_BY_SHARED = Primitive("divide")


class Mix:
    """How many of each primitive one element takes."""

    def __init__(self, *primitives: Primitive | tuple[int, Primitive]) -> None:
        pairs = [(1, p) if isinstance(p, Primitive) else p for p in primitives]
        self.primitives = tuple(pairs)
        self.total = sum(number for number, _ in pairs)
        self._by_engine: dict[Engine, tuple[tuple[Engine, int], ...]] = {}

    def by_engine(self, engine: Engine) -> tuple[tuple[Engine, int], ...]:
        """Counts regrouped by engine."""
        if engine not in self._by_engine:
            totals: dict[Engine, int] = {}
            for number, primitive in self.primitives:
                on = primitive.engine or engine
                totals[on] = totals.get(on, 0) + number
            self._by_engine[engine] = tuple(totals.items())
        return self._by_engine[engine]


MULTIPLY_ADD = Mix(MULTIPLY, ADD)


class Count(NamedTuple):
    """A mix of primitives, once for every index combination. A contraction is a matrix product or a convolution."""

    mix: Mix
    dims: tuple[Size, ...]
    contraction: bool = False

    @property
    def times(self) -> Size:
        return product(self.dims)


def contract(*dims: Size) -> Count:
    """One multiply-add for every index combination. This is the only line of the project that counts it as two FLOPs."""
    return Count(MULTIPLY_ADD, dims, contraction=True)


def each(mix: Mix, *dims: Size) -> Count:
    """The mix once for every index combination."""
    return Count(mix, dims)


class Tensor(NamedTuple):
    """A tensor, its bytes per element, and how often the fused operation reads and writes it.

    ``read_elements`` and ``write_elements`` replace elements times trips where a kernel touches parts of a tensor
    unequally often. A tensor that has these values but no trips is scratch memory of the operation. ``used``: the elements that
    one token needs, if it does not need all (the experts that it is sent to). ``kept``: the gradients of the operation
    read it, and only the forward pass of a training step writes it (see ``Op.keeping``).
    """

    name: str
    shape: tuple[Size, ...]
    item: Size
    reads: Size = 0
    writes: Size = 0
    spill: bool = False
    kind: Kind = Kind.ACTIVATION
    read_elements: Size = None
    write_elements: Size = None
    used: Size = None
    kept: bool = False

    @property
    def elements(self) -> Size:
        return product(self.shape)

    @property
    def size_byte(self) -> Size:
        """Bytes that the tensor occupies."""
        return stored_byte(self.elements, self.item)

    @property
    def read_byte(self) -> Size:
        if self.read_elements is not None:
            return stored_byte(self.read_elements, self.item)
        return 0 if is_zero(self.reads) else self.size_byte * self.reads

    @property
    def write_byte(self) -> Size:
        if self.write_elements is not None:
            return stored_byte(self.write_elements, self.item)
        return 0 if is_zero(self.writes) else self.size_byte * self.writes

    @property
    def traffic_byte(self) -> Size:
        return sum_of_products(self.traffic_terms())

    def traffic_terms(self) -> tuple[tuple[Size, ...], ...]:
        """The tensor's traffic as products to be summed."""
        if self.read_elements is None and self.write_elements is None and type(self.item) is not float:
            return ((self.reads + self.writes, self.item, *self.shape),)
        return (self.read_byte,), (self.write_byte,)

    @property
    def compulsory_byte(self) -> Size:
        """Each outer input and output once."""
        trips = 0 if self.spill else (not is_zero(self.reads)) + (not is_zero(self.writes))
        return self.size_byte * trips if trips else 0


class Work(NamedTuple):
    """A named piece of work on an engine. With operands named, it starts a kernel of the unfused form.

    Work with ``again`` is recomputed only in the unfused form. ``runs`` says how the kernel that it starts runs (see
    ``runs.py``).
    """

    name: str
    amount: Count
    engine: Engine
    reads: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()
    again: bool = False
    runs: Facts = None


class Op(NamedTuple):
    """What an operation moves and does at given sizes. ``runs`` says how it runs as one kernel (see ``runs.py``).

    ``computes``: the data type of its products where it is not that of the activations, as in a product of fp8.
    """

    tensors: tuple[Tensor, ...]
    work: tuple[Work, ...]
    runs: Facts = None
    computes: str = ""

    @property
    def done(self) -> tuple[Work, ...]:
        """The work of one fused kernel."""
        return tuple(work for work in self.work if not work.again) if any(w.again for w in self.work) else self.work

    def flops(self) -> Size:
        """Every primitive counted as one."""
        return total(self.flops_by_kind().values())

    def contraction_flops(self) -> Size:
        """FLOPs of matrix products and convolutions alone."""
        return total(_by_kind(work for work in self.done if work.amount.contraction).values())

    def primitives(self) -> dict[str, Size]:
        """Counts by primitive; other counting conventions regroup them."""
        counts: dict[str, Size] = {}
        for work in self.done:
            for number, primitive in work.amount.mix.primitives:
                counts[primitive.name] = counts.get(primitive.name, 0) + number * work.amount.times
        return counts

    def engine_flops(self) -> dict[Engine, Size]:
        """Counts by the engine that executes them."""
        return by_engine(self.flops_by_kind())

    def flops_by_kind(self) -> dict[tuple[Engine, bool], Size]:
        """Counts by engine and by whether they belong to a contraction; the other counts regroup these."""
        return _by_kind(self.done)

    def read_byte(self) -> Size:
        return total(tensor.read_byte for tensor in self.tensors if not tensor.spill)

    def write_byte(self) -> Size:
        return total(tensor.write_byte for tensor in self.tensors if not tensor.spill)

    def traffic_byte(self) -> Size:
        """Bytes that one fused kernel moves, including re-reads."""
        moved = (term for tensor in self.tensors if not tensor.spill for term in tensor.traffic_terms())
        return sum_of_products(moved)

    def compulsory_byte(self) -> Size:
        """Each outer input and output once."""
        return total(tensor.compulsory_byte for tensor in self.tensors)

    def parameters(self) -> Size:
        """Trained numbers that the operation holds."""
        return total(tensor.elements for tensor in self.tensors if tensor.kind is Kind.PARAMETER)

    def stored_byte(self) -> Size:
        """Bytes of the parameters, with the scales of quantised ones."""
        return total(tensor.size_byte for tensor in self.tensors if tensor.kind in (Kind.PARAMETER, Kind.SCALE))

    def active_parameters(self) -> Size:
        """Trained numbers that one token needs."""
        held = [tensor for tensor in self.tensors if tensor.kind is Kind.PARAMETER]
        return total(tensor.elements if tensor.used is None else tensor.used for tensor in held)

    def tensor(self, name: str) -> Tensor:
        return next(tensor for tensor in self.tensors if tensor.name == name)

    def keeping(self) -> "Op":
        """The same as one kernel of a training step: it also writes, once, what its gradients will read.

        These are statistics, such as the log of a row's sum, and inner tensors that stay on chip otherwise. As separate
        kernels the operation writes its inner tensors in any case.
        """
        if not any(tensor.kept for tensor in self.tensors):
            return self
        tensors = (t._replace(reads=0, writes=1, spill=False) if t.kept else t for t in self.tensors)
        return self._replace(tensors=tuple(tensors))

    def kernels(self) -> "tuple[tuple[str, Op], ...]":
        """The unfused form: one kernel for each work with named operands; empty if the operation is one kernel."""
        starts = [i for i, work in enumerate(self.work) if work.reads or work.writes]
        if len(starts) < 2:
            return ()
        ends = [*starts[1:], len(self.work)]
        return tuple(
            (self.work[i].name, Op(self._operands(self.work[i]), _standalone(self.work[i:end]), self.work[i].runs))
            for i, end in zip(starts, ends, strict=True)
        )

    def _operands(self, work: Work) -> tuple[Tensor, ...]:
        """The tensors of one kernel. A trip count above one belongs to the only kernel that touches the tensor."""
        tensors = []
        for name in dict.fromkeys((*work.reads, *work.writes)):
            tensor = self.tensor(name)
            alone = sum(name in (*other.reads, *other.writes) for other in self.work) == 1
            tensors.append(
                tensor._replace(
                    reads=(tensor.reads if alone else 1) if name in work.reads else 0,
                    writes=(tensor.writes if alone else 1) if name in work.writes else 0,
                    read_elements=tensor.read_elements if alone else None,
                    write_elements=tensor.write_elements if alone else None,
                    spill=False,
                )
            )
        return tuple(tensors)


def _by_kind(works: Iterable[Work]) -> dict[tuple[Engine, bool], Size]:
    """Counts by engine and by whether they belong to a contraction."""
    terms: dict[tuple[Engine, bool], list[tuple[Size, ...]]] = {}
    for work in works:
        mix, dims, contraction = work.amount
        for engine, number in mix.by_engine(work.engine):
            terms.setdefault((engine, contraction), []).append((number, *dims))
    return {kind: sum_of_products(products) for kind, products in terms.items()}


def _standalone(works: tuple[Work, ...]) -> tuple[Work, ...]:
    """The work of a kernel that runs on its own, recomputation included."""
    return tuple(work._replace(again=False) if work.again else work for work in works)


def by_engine(flops: Mapping[Any, Size]) -> dict[Engine, Size]:
    """Counts regrouped by engine."""
    counts: dict[Engine, Size] = {}
    for (engine, *_), count in flops.items():
        counts[engine] = counts[engine] + count if engine in counts else count
    return counts


def fuse(first: Op, second: Op, on_chip: Iterable[str]) -> Op:
    """Returns two operations as one kernel. Tensors named in ``on_chip``, written by the first and read by the second,
    spill.

    Tensors of the same name must have the same shape. A tensor that both read is read once.
    """
    on_chip = set(on_chip)
    merged = {tensor.name: tensor for tensor in first.tensors}
    for tensor in second.tensors:
        earlier = merged.get(tensor.name)
        if earlier is None:
            merged[tensor.name] = tensor
            continue
        if earlier.shape != tensor.shape:
            raise InputError(
                f"fuse: tensor '{tensor.name}'",
                f"the first operation has shape {earlier.shape} and the second {tensor.shape}",
                "tensors of one name must have one shape",
                "Rename the tensor, or choose sizes that agree.",
            )
        reads = max(earlier.reads, tensor.reads) if not earlier.writes else tensor.reads
        merged[tensor.name] = earlier._replace(reads=reads, writes=max(earlier.writes, tensor.writes))
    for name in on_chip:
        if name not in merged or not first_writes_second_reads(first, second, name):
            raise InputError(
                f"fuse: tensor '{name}'",
                "it is not written by the first operation and read by the second",
                "only such a tensor can stay on chip",
                near_or_known(name, merged),
            )
        merged[name] = merged[name]._replace(spill=True)
    facts = (*each_fact(first.runs), *each_fact(second.runs))
    return Op(tuple(merged.values()), (*_with_operands(first), *_with_operands(second)), facts or None)


def first_writes_second_reads(first: Op, second: Op, name: str) -> bool:
    """Whether the first operation writes the tensor and the second reads it."""
    return any(t.name == name and t.writes for t in first.tensors) and any(
        t.name == name and t.reads for t in second.tensors
    )


def _with_operands(op: Op) -> tuple[Work, ...]:
    """The works of an operation; the first names all operands if none names any."""
    if any(work.reads or work.writes for work in op.work):
        return op.work
    reads = tuple(t.name for t in op.tensors if t.reads)
    writes = tuple(t.name for t in op.tensors if t.writes)
    return (op.work[0]._replace(reads=reads, writes=writes, runs=op.runs), *op.work[1:])
