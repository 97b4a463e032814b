"""How a kernel runs: the few sizes that decide its time, stated by the operation itself.

The time model dispatches on the type of these facts and reads their fields. It never infers a size from a tensor's shape
or a count of FLOPs. A size may be a tuple of factors, so that arrays and symbols are not multiplied out until a time is
asked for. An operation without a fact is priced by its bytes, with a wide range.
"""

from math import ceil
from typing import NamedTuple

from perfmodel.arithmetic import Size, exact_div, product

Factors = Size | tuple[Size, ...]


def number(size: Factors) -> int:
    """The product of a size's factors as an integer; an expected count, such as that of distinct experts, is rounded."""
    count = product(size if isinstance(size, tuple) else (size,))
    return count if isinstance(count, int) else max(1, round(count))


class Items(NamedTuple):
    """Bytes per element of a product's left operand, right operand and result."""

    left: Size = 2
    right: Size = 2
    result: Size = 2


class Gemm(NamedTuple):
    """A batch of matrix products (m, k) by (k, n)."""

    m: Factors
    k: Factors
    n: Factors
    batch: Factors = 1
    items: Items = Items()

    def widened(self, item: Size) -> "Gemm":
        """The same product with every operand stored in elements of this size."""
        return self._replace(items=Items(item, item, item))


class GroupedGemm(NamedTuple):
    """Products that share their rows out: ``rows`` rows over ``groups`` experts.

    Forward, each group multiplies its rows by its own (k, n) matrix. With ``summed`` the rows are the inner dimension:
    each group's result is (k, n), the gradient of its matrix.
    """

    rows: Factors
    k: Factors
    n: Factors
    groups: Factors
    items: Items = Items()
    summed: bool = False

    def even(self) -> Gemm:
        """The batch of products in which every group has the same number of rows, rounded up."""
        groups = number(self.groups)
        each = ceil(number(self.rows) / groups)
        if self.summed:
            return Gemm(self.k, each, self.n, groups, self.items)
        return Gemm(each, self.k, self.n, groups, self.items)


class Rows(NamedTuple):
    """A function of whole rows: ``function`` is softmax, layernorm, rmsnorm or cross_entropy.

    ``part`` names one of the two kernels of a backward pass that runs apart: ``input`` (the gradient of the rows) or
    ``weights`` (sums down the columns).
    """

    function: str
    rows: Factors
    cols: Factors
    item: Size = 2
    backward: bool = False
    part: str = ""

    def widened(self, item: Size) -> "Rows":
        """The same rows stored in elements of this size."""
        return self._replace(item=item)


class Heads(NamedTuple):
    """Attention in one kernel: B sequences of N queries in H heads over S keys in H_kv heads, of sizes d and d_v.

    ``W`` is the window (None: no window); it is part of the causal mask, as in the counts.
    """

    B: Size
    H: Size
    H_kv: Size
    N: Size
    S: Size
    d: Size
    d_v: Size
    causal: Size = 0
    W: Size = None
    item: Size = 2
    cache: Size = 2
    backward: bool = False


class Stage(NamedTuple):
    """A kernel of attention that runs stage by stage: its role, how it runs, and whether a mask hides scores."""

    role: str
    kernel: Gemm | Rows
    masked: Size = 0


class Stream(NamedTuple):
    """An elementwise kernel: every byte once.

    ``gate``: eager torch launches the activation and the product apart. ``special`` names a kernel whose instructions are
    not those of its arithmetic: plain (a copy or a cast), broadcast, compare or reduce.
    """

    gate: bool = False
    special: str = ""


class Depthwise(NamedTuple):
    """A depthwise convolution of K taps; ``part`` is forward, backward, pad or convolve."""

    B: Size
    N: Size
    D: Size
    K: Size
    item: Size = 2
    part: str = "forward"


class Reduction(NamedTuple):
    """Sums down the columns of a matrix."""

    rows: Factors
    cols: Factors


class Gather(NamedTuple):
    """Rows picked from a table by index."""

    rows: Factors
    cols: Factors


class Scatter(NamedTuple):
    """Rows added to a table by index."""

    rows: Factors
    cols: Factors


class Scan(NamedTuple):
    """A recurrence: every channel takes its steps one after another."""

    steps: Size
    channels: Factors


class Update(NamedTuple):
    """An optimizer's step over all trained numbers."""

    params: Size


Fact = Gemm | GroupedGemm | Rows | Heads | Stage | Stream | Depthwise | Reduction | Gather | Scatter | Scan | Update
# Kernels that run one after another under one operation, such as both products of a fused network.
Facts = Fact | tuple[Fact, ...] | None


def each(facts: Facts) -> tuple[Fact, ...]:
    """The facts one by one. A fact is a tuple itself, so its type decides."""
    if facts is None:
        return ()
    return facts if type(facts) is tuple else (facts,)  # type: ignore[return-value]


class Stages(NamedTuple):
    """The kernels of attention that runs stage by stage, forward and backward, each under the name of its result.

    Query heads that share a key head are one product with more rows. An eager product goes over all N S scores: a mask
    hides their values and saves no work.
    """

    B: Size
    H: Size
    H_kv: Size
    N: Size
    S: Size
    d: Size
    d_v: Size
    causal: Size = 0
    act: Size = 2
    cache: Size = 2

    @property
    def scores(self) -> Stage:
        return Stage("scores", self._by_query(self.d, self.S), self.causal)

    @property
    def softmax(self) -> Stage:
        return Stage("softmax", Rows("softmax", (self.B, self.H, self.N), self.S, self.act))

    @property
    def output(self) -> Stage:
        return Stage("output", self._by_query(self.S, self.d_v))

    @property
    def dprobs(self) -> Stage:
        return Stage("dprobs", self._by_query(self.d_v, self.S), self.causal)

    @property
    def dscores(self) -> Stage:
        rows = Rows("softmax", (self.B, self.H, self.N), self.S, self.act, backward=True)
        return Stage("dscores", rows, self.causal)

    @property
    def dq(self) -> Stage:
        return Stage("dq", self._by_query(self.S, self.d))

    @property
    def dk(self) -> Stage:
        return Stage("dk", self._by_key(self.d))

    @property
    def dv(self) -> Stage:
        return Stage("dv", self._by_key(self.d_v))

    @property
    def _group(self) -> Size:
        """Query heads of a key head."""
        return exact_div(self.H, self.H_kv)

    def _by_query(self, k: Size, n: Size) -> Gemm:
        items = Items(self.act, self.cache, self.act)
        return Gemm((self.N, self._group), k, n, (self.B, self.H_kv), items)

    def _by_key(self, n: Size) -> Gemm:
        """A product that sums over the queries."""
        items = Items(self.act, self.act, self.act)
        return Gemm(self.S, (self.N, self._group), n, (self.B, self.H_kv), items)
