"""Facts about how a kernel runs: the few sizes that determine its time, given by the operation itself.

The time model selects its mechanism by the type of the fact and reads its fields. It never infers a size from a
tensor's shape or a FLOP count. A size may be a tuple of factors, so that products of arrays or symbols are evaluated
only for a time. An operation without a fact is timed by its bytes, with a wide range.
"""

from math import ceil
from typing import Any, NamedTuple

from perfmodel import patterns
from perfmodel.arithmetic import Size, exact_div, is_one, maximum, product, visible_keys, whole

Factors = Size | tuple[Size, ...]


def number(size: Factors) -> int:
    """The product of a size's factors as an integer. Expected counts, such as distinct experts, are rounded."""
    count = product(size if isinstance(size, tuple) else (size,))
    return count if isinstance(count, int) else maximum(1, whole(count))


class Items(NamedTuple):
    """Bytes per element of the left operand, the right operand and the result of a product."""

    left: Size = 2
    right: Size = 2
    result: Size = 2


class Gemm(NamedTuple):
    """A batch of matrix products of (m, k) by (k, n).

    ``rotates``: the name of the right operand if the rotating protocol replaces it in every run, although it is no weight.
    ``aligned``: bytes to which the rows of all three matrices are aligned in memory; 0 means that the sizes decide.
    ``odd``: only the rows of the result are aligned to less than 4 bytes. ``scales``: how the left operand is quantised, a
    value of ``STACK_SCALES`` or ``BY_TORCH``. The kernel then has tiles of its own. It splits the sum along k only with one
    scale per tensor.
    ``converts``: the right operand is stored in a narrow type, and the kernel converts it to that of the left one.
    """

    m: Factors
    k: Factors
    n: Factors
    batch: Factors = 1
    items: Items = Items()
    rotates: str = ""
    aligned: int = 0
    odd: bool = False
    scales: str = ""
    converts: bool = False

    def widened(self, item: Size) -> "Gemm":
        """The same product with all operands stored in elements of ``item`` bytes."""
        return self._replace(items=Items(item, item, item))


class Routed(NamedTuple):
    """How the rows of a grouped product are distributed: ``tokens`` tokens choose A of E experts each (see ``routing``).

    ``balanced``: all experts that have rows have the same number, as in benchmarks.
    """

    tokens: Factors
    E: Size
    A: Size
    routing: Any = 0
    balanced: bool = False


class GroupedGemm(NamedTuple):
    """Matrix products of several groups: ``rows`` rows distributed over ``groups`` experts.

    In the forward pass, each group multiplies its rows by its own (k, n) matrix. With ``summed``, the rows are the
    inner dimension: each group's result is (k, n), the gradient of its matrix. ``converts`` is as in ``Gemm``. ``routed``:
    how many rows each expert gets, which decides the tiles of a serving stack; None if that is unknown.
    """

    rows: Factors
    k: Factors
    n: Factors
    groups: Factors
    items: Items = Items()
    summed: bool = False
    converts: bool = False
    routed: Routed | None = None

    def even(self) -> Gemm:
        """The batch of products in which all groups have the same number of rows, rounded up."""
        groups = number(self.groups)
        each = ceil(number(self.rows) / groups)
        if self.summed:
            return Gemm(self.k, each, self.n, groups, self.items)
        return Gemm(each, self.k, self.n, groups, self.items, converts=self.converts)


# Implementations of a product in a narrow data type, with the scales by which they quantise the left operand from half
# precision. The result is in half precision. The first four run the kernels of serving stacks. The others run kernels of this
# package and ``torch._scaled_mm`` after them, in fp8 alone.
STACK_SCALES = {"static_scale": "static", "token_scale": "token", "tensor_scale": "tensor", "block_scale": "block"}
TORCH_SCALES = {f"torch_{name}": scales for name, scales in STACK_SCALES.items()}
SCALES = {**STACK_SCALES, **TORCH_SCALES}
NARROW = ("fp8", "int8")
# Scales of a product by cuBLAS, as ``Gemm.scales`` names them. A scale of the whole matrix does not change the kernel.
BY_TORCH = {"static": "", "tensor": "", "token": "torch token", "block": "torch block"}


class Quantisation(NamedTuple):
    """Conversion of a matrix to a narrow data type before a product.

    ``scales`` says how many scales there are: ``static`` (one, given), ``token`` (one for each row), ``block`` (one for
    ``run`` elements of a row) or ``tensor`` (one for all elements). The same kernel computes the scales, except with
    ``tensor``, which needs kernels before it. ``largest`` and ``cast`` are the two parts of ``tensor``. ``scale``:
    bytes of a scale.
    """

    rows: Factors
    cols: Factors
    scales: str
    item: Size = 2
    result: Size = 1
    run: Size = 128
    scale: Size = 4


class Rows(NamedTuple):
    """A function of whole rows: softmax, log_softmax, layernorm, rmsnorm or cross_entropy.

    ``part`` names one of two separate kernels of a backward pass: ``input`` (the gradient of the rows) or ``weights``
    (sums over the rows). ``result`` are the bytes per element of the result, where they differ. ``own``: a kernel
    that torch does not have, so the time is that of this project's kernel. ``mask``: bytes of an added tensor that rows share.
    """

    function: str
    rows: Factors
    cols: Factors
    item: Size = 2
    backward: bool = False
    part: str = ""
    result: Size = None
    own: bool = False
    mask: Factors = ()

    def widened(self, item: Size) -> "Rows":
        """The same rows stored in elements of ``item`` bytes."""
        return self._replace(item=item)


class Heads(NamedTuple):
    """Attention in one kernel: B sequences of N queries in H heads over S keys in H_kv heads, of sizes d and d_v.

    ``W`` is the window, part of the causal mask as in the counts; None means no window. ``masked``: a tensor is added to
    the scores. ``dropout``: random probabilities are dropped. ``shared``: the values are the first elements of the keys.
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
    masked: bool = False
    dropout: bool = False
    shared: bool = False


class Stage(NamedTuple):
    """One kernel of unfused attention: its role, its size facts, and whether a mask hides some of its scores."""

    role: str
    kernel: Gemm | Rows
    masked: Size = 0


class Stream(NamedTuple):
    """An elementwise kernel, which moves every byte once.

    With ``gate``, eager torch launches the activation and the product as two kernels. ``lines``: cache lines beyond the
    first that a warp touches in all operands. ``converts``: a strided kernel converts elements one by one. ``special``
    names a kernel whose instructions differ from its arithmetic:

    - plain (a copy or a cast), broadcast, compare, reduce, random.
    - cast: operands of several data types are converted one by one.
    - strided: the place of every element of every operand is computed from the strides of ``dims`` dimensions.
    - copied: torch copies the operand of the result's size first and then changes the copy.
    """

    gate: bool = False
    special: str = ""
    dims: int = 0
    lines: int = 0
    converts: bool = False


class Depthwise(NamedTuple):
    """A depthwise convolution with K taps. ``part`` is forward, backward, pad or convolve."""

    B: Size
    N: Size
    D: Size
    K: Size
    item: Size = 2
    part: str = "forward"


class Copy(NamedTuple):
    """A copy of ``numel`` elements from ``distinct`` source elements, with a conversion where the item sizes differ.

    ``run``: elements that are contiguous in the source and in the result at once. ``dims``: dimensions that remain when
    neighbours that advance alike are merged, 0 where that is unknown. ``converts``: elements are converted one by one.
    """

    numel: Factors
    distinct: Factors
    run: Factors
    item: Size = 2
    result: Size = 2
    dims: int = 0
    converts: bool = False


class Concatenate(NamedTuple):
    """Tensors copied behind one another; each piece of ``run`` elements is contiguous in the result.

    ``dims``: dimensions of the tensors if one of them is not contiguous, else 0. ``each``: elements of every tensor, empty
    where that is unknown.
    """

    numel: Factors
    run: Factors
    item: Size = 2
    dims: int = 0
    each: tuple[Size, ...] = ()


class Fill(NamedTuple):
    """One value written to every element."""

    numel: Factors
    item: Size = 2


class Random(NamedTuple):
    """Random numbers by a counter-based generator."""

    numel: Factors
    item: Size = 2


class Reduction(NamedTuple):
    """One result for every position of ``outer`` and ``inner``, over the axis between them.

    Elements along the axis are ``inner`` elements apart. ``function`` is sum, max or argmax.
    """

    outer: Factors
    axis: Factors
    inner: Factors
    item: Size = 2
    result: Size = 2
    function: str = "sum"


class Cumulative(NamedTuple):
    """The running sum along each row."""

    rows: Factors
    cols: Factors
    item: Size = 2


class Sort(NamedTuple):
    """Each row sorted, with the original places."""

    rows: Factors
    cols: Factors
    item: Size = 2


class TopK(NamedTuple):
    """The ``chosen`` largest elements of each row, sorted, with their places."""

    rows: Factors
    cols: Factors
    chosen: Factors
    item: Size = 2


class Gather(NamedTuple):
    """Rows read from a table by index."""

    rows: Factors
    cols: Factors
    item: Size = 2
    index: Size = 8


class Scatter(NamedTuple):
    """Rows written to a table by index, or added to it with ``adds``. ``cleared`` elements are set to zero before.

    With ``ordered``, the indices are sorted first, so that no two threads add to the same row.
    """

    rows: Factors
    cols: Factors
    item: Size = 2
    index: Size = 8
    adds: bool = False
    cleared: Factors = 0
    ordered: bool = False


class Picked(NamedTuple):
    """One element per row, chosen by index and summed by a single block; its gradient clears the rows first."""

    rows: Factors
    cols: Factors
    item: Size = 2
    backward: bool = False


class Convolution2d(NamedTuple):
    """A two-dimensional convolution in groups of channels. ``part`` is forward, input or weight (its gradients)."""

    B: Size
    C: Size
    C_out: Size
    h: Size
    w: Size
    h_out: Size
    w_out: Size
    K_h: Size
    K_w: Size
    groups: Size = 1
    item: Size = 2
    weight: Size = 2
    part: str = "forward"

    @property
    def gemm(self) -> Gemm:
        """The product of one group's patches by its filters, or of the same sizes for a gradient."""
        positions, taps = (self.B, self.h_out, self.w_out), (exact_div(self.C, self.groups), self.K_h, self.K_w)
        each, items = exact_div(self.C_out, self.groups), Items(self.item, self.weight, self.item)
        if self.part == "input":
            return Gemm(positions, each, taps, self.groups, items)
        if self.part == "weight":
            return Gemm(taps, positions, each, self.groups, Items(self.item, self.item, self.weight))
        return Gemm(positions, taps, each, self.groups, items)


class Windows(NamedTuple):
    """Each of ``outputs`` elements computed from ``taps`` neighbours: max, average or interpolate, or a gradient."""

    function: str
    outputs: Factors
    taps: Factors
    inputs: Factors
    item: Size = 2
    backward: bool = False


class Normalised(NamedTuple):
    """Normalisation of images with statistics per channel (``groups`` None) or per group of channels.

    ``part`` is forward, inference or backward.
    """

    B: Size
    C: Size
    groups: Size
    pixels: Size
    item: Size = 2
    part: str = "forward"


class Scan(NamedTuple):
    """A recurrence: each channel runs its steps in sequence."""

    steps: Size
    channels: Factors


class Update(NamedTuple):
    """An elementwise kernel over ``params`` elements in ``tensors`` tensors, such as an optimizer step.

    ``lists``: tensors of each parameter that it touches. ``function`` is adam, sgd, foreach or norm. ``sizes``: elements of
    every tensor; empty if they are equally large.
    """

    params: Size
    tensors: Size = 1
    lists: Size = 4
    item: Size = 2
    function: str = "adam"
    sizes: tuple[int, ...] = ()


class Collective(NamedTuple):
    """A collective of ``gpus`` ranks, each of which gives a tensor of ``byte`` bytes to the call.

    ``kind`` and ``algorithm`` are those of ``patterns``. ``chosen``: the library chooses the algorithm, and the counts
    are those of ``algorithm``.
    """

    kind: str
    byte: Size
    gpus: Size
    item: Size = 2
    algorithm: str = ""
    chosen: bool = True

    def messages(self, algorithm: str = "") -> patterns.Messages:
        """What all ranks together send and add."""
        return patterns.messages(self.kind, algorithm or self.algorithm, self.byte, self.gpus, self.item)

    @property
    def sent_byte(self) -> Size:
        """Bytes that one rank sends, rounded up where the parts are unequal."""
        return patterns.of_rank(self.messages().sent, self.gpus)


Fact = (
    Gemm
    | GroupedGemm
    | Quantisation
    | Rows
    | Heads
    | Stage
    | Stream
    | Depthwise
    | Copy
    | Concatenate
    | Fill
    | Random
    | Reduction
    | Cumulative
    | Sort
    | TopK
    | Gather
    | Scatter
    | Picked
    | Convolution2d
    | Windows
    | Normalised
    | Scan
    | Update
    | Collective
)
# Kernels that run in sequence under one operation, such as both products of a fused network.
Facts = Fact | tuple[Fact, ...] | None


def each(facts: Facts) -> tuple[Fact, ...]:
    """The facts as a tuple. A fact is itself a tuple, so its type decides."""
    if facts is None:
        return ()
    return facts if type(facts) is tuple else (facts,)  # type: ignore[return-value]


class Stages(NamedTuple):
    """The kernels of unfused attention, forward and backward, each under the name of its result.

    Query heads that share a key head are one product with more rows. An eager product computes all N S scores: a mask
    hides values and saves no work.
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
    act: Size = 2
    cache: Size = 2

    @property
    def scores(self) -> Stage:
        return Stage("scores", self._by_query(self.d, self._keys), self.causal)

    @property
    def softmax(self) -> Stage:
        return Stage("softmax", Rows("softmax", (self.B, self.H, self.N), self._keys, self.act))

    @property
    def output(self) -> Stage:
        return Stage("output", self._by_query(self._keys, self.d_v))

    @property
    def dprobs(self) -> Stage:
        return Stage("dprobs", self._by_query(self.d_v, self._keys), self.causal)

    @property
    def dscores(self) -> Stage:
        rows = Rows("softmax", (self.B, self.H, self.N), self._keys, self.act, backward=True)
        return Stage("dscores", rows, self.causal)

    @property
    def dq(self) -> Stage:
        return Stage("dq", self._by_query(self._keys, self.d))

    @property
    def dk(self) -> Stage:
        return Stage("dk", self._by_key(self.d))

    @property
    def dv(self) -> Stage:
        return Stage("dv", self._by_key(self.d_v))

    @property
    def _keys(self) -> Size:
        """Keys that a product goes over: all of them, or those in the window of a single query."""
        few = visible_keys(1, self.S, self.causal, self.W)
        return few if few is self.S or is_one(self.N) else self.S

    @property
    def _group(self) -> Size:
        """Query heads per key head."""
        return exact_div(self.H, self.H_kv)

    def _by_query(self, k: Size, n: Size) -> Gemm:
        items = Items(self.act, self.cache, self.act)
        return Gemm((self.N, self._group), k, n, (self.B, self.H_kv), items)

    def _by_key(self, n: Size) -> Gemm:
        """A product that sums over the queries."""
        items = Items(self.act, self.act, self.act)
        return Gemm(self._keys, (self.N, self._group), n, (self.B, self.H_kv), items)
