"""Laws that hold for every operation, at random sizes."""

from __future__ import annotations

import inspect
from collections import Counter
from functools import cache
from importlib import import_module
from itertools import chain

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from many import for_each

from perfmodel import ops
from perfmodel.arithmetic import visible_pairs
from perfmodel.expression import Expression
from perfmodel.op import Engine
from perfmodel.operation import Operation
from perfmodel.symbols import SYMBOLS, TABLE

NAMES = tuple(ops.FAMILY_OF)
every_operation = for_each("name", NAMES)
few = settings(max_examples=10)

# Sizes of independent work: twice as many, twice the FLOPs.
INDEPENDENT = ("B", "rows", "numel", "batch", "params", "m", "D", "byte")
# Where more of them share something (the statistics of a channel, the root of a tensor): sizes that double together.
SHARED = {
    **dict.fromkeys(("batch_norm", "batch_norm_inference", "batch_norm_backward"), ("C",)),
    **dict.fromkeys(("adam_step", "sgd_step", "foreach", "gradient_norm"), ("params", "tensors")),
    "copy": ("numel", "distinct"),
    # All tokens share the weights, which are converted once.
    **dict.fromkeys(("linear_int4", "linear_mxfp4", "linear_nvfp4"), ("D_out",)),
}
# One scale for all elements: nothing that doubles.
WHOLE = ("quantise_tensor",)


def independent(operation):
    return SHARED.get(operation.name) or (next(symbol for symbol in INDEPENDENT if symbol in operation.arguments),)


@cache
def valid_sizes(operation):
    """Draws small sizes in the domain of an operation, including optional sizes and item sizes."""

    @st.composite
    def drawn(draw):  # noqa: PLR0912 - one line for each tie between sizes
        sizes = {}
        for name in operation.arguments:
            kind = SYMBOLS[name].kind
            if kind == "item":
                sizes[name] = draw(st.sampled_from((1, 2, 4, 8)))
            elif kind == "flag":
                sizes[name] = draw(st.integers(0, 1))
            elif kind == "routing":
                sizes[name] = draw(st.sampled_from((0, 0, 1, 1.3)))
            elif kind == "optional":
                sizes[name] = draw(st.none() | st.integers(1, 12))
            else:
                sizes[name] = draw(st.integers(1, 12))
        if "H_kv" in sizes:
            sizes["H"] *= sizes["H_kv"]
        if "D" in sizes and "H" in sizes:
            sizes["D"] *= sizes["H"]
        if sizes.get("causal") and "S" in sizes:
            sizes["S"] += sizes["N"]
        if operation.name == "rope":
            sizes["d"] *= 2
        if operation.name == "positions":
            sizes |= {"T": sizes["T"] + sizes["N"], "V": sizes["V"] + sizes["T"] + sizes["N"]}
        if "A" in sizes and "E" in sizes:
            sizes["E"] += sizes["A"]
        if "groups" in sizes:
            sizes |= {name: sizes[name] * sizes["groups"] for name in ("C", "C_out") if name in sizes}
        for part, whole in (("chosen", "cols"), ("distinct", "numel"), ("run", "numel"), ("tensors", "params")):
            if part in sizes:
                sizes[whole] += sizes[part]
        if "byte" in sizes:
            sizes["byte"] *= sizes["gpus"] * sizes["act"]
        if "tile_m" in sizes:
            sizes["M"] += (sizes["tile_m"] + sizes["tile_n"]) * sizes["tile_k"] * sizes["act"]
        elif "M" in sizes:
            sizes["M"] = sizes["M"] * 4 * sizes["d"] * sizes["act"]
        return operation.checked(sizes)

    return drawn()


def holds(name, law):
    """Tests a law at random sizes of one operation."""
    operation = ops.find(name)

    @few
    @given(valid_sizes(operation))
    def asked(sizes):
        law(operation, sizes)

    asked()


def unfused_byte(op):
    return sum(kernel.traffic_byte() for _, kernel in op.kernels()) or op.traffic_byte()


def counts(op):
    """Returns every count of an operation."""
    return [
        op.flops(), op.contraction_flops(), op.read_byte(), op.write_byte(), op.traffic_byte(), op.compulsory_byte(),
        op.parameters(), *op.primitives().values(), *op.engine_flops().values(),
        *(kernel.traffic_byte() for _, kernel in op.kernels()),
    ]  # fmt: skip


# --- one operation


LAWS = []


def law(function):
    """Adds a law that holds at all sizes: of an operation, the sizes, and the operation at these sizes."""
    LAWS.append(function)
    return function


@law
def integers_give_exact_integers(operation, sizes, op):
    assert {type(count) for count in counts(op)} == {int}


@law
def flops_are_the_sum_of_their_parts(operation, sizes, op):
    assert op.flops() == sum(op.primitives().values()) == sum(op.engine_flops().values())
    assert 0 <= op.contraction_flops() <= op.flops()
    assert set(op.engine_flops()) <= set(Engine)


@law
def traffic_is_the_sum_of_its_parts(operation, sizes, op):
    assert op.traffic_byte() == op.read_byte() + op.write_byte()
    assert op.traffic_byte() == sum(tensor.traffic_byte for tensor in op.tensors if not tensor.spill)


@law
def separate_kernels_move_at_least_what_one_moves_and_do_the_same_work(operation, sizes, op):
    kernels = [kernel for _, kernel in op.kernels()]
    assert op.traffic_byte() <= unfused_byte(op)
    again = sum(work.amount.mix.total * work.amount.times for work in op.work if work.again)
    assert not kernels or sum(kernel.flops() for kernel in kernels) == op.flops() + again
    assert not kernels or sum(kernel.contraction_flops() for kernel in kernels) == op.contraction_flops()
    assert len(kernels) != 1


@law
def traffic_is_at_least_each_input_and_output_once(operation, sizes, op):
    outer = [tensor for tensor in op.tensors if not tensor.spill]
    once = sum(t.size_byte * (bool(t.reads) + bool(t.writes)) for t in outer if t.reads or t.writes)
    assert op.compulsory_byte() == once
    # A sliding window may hide keys from all queries: they are not read at all.
    assert op.traffic_byte() >= once or sizes.get("W") is not None


@law
def twice_the_independent_work_is_twice_the_flops(operation, sizes, op):
    double = {symbol: 2 * sizes[symbol] for symbol in independent(operation)}
    twice = operation(**{**sizes, **double})
    assert twice.flops() == 2 * op.flops() - (2 if operation.name in WHOLE else 0)
    assert op.traffic_byte() <= twice.traffic_byte() <= 2 * op.traffic_byte()


@law
def nothing_shrinks_when_a_size_grows(operation, sizes, op):
    """FLOPs and compulsory bytes, for each size that may double. More on-chip memory, larger tiles, more groups or longer
    runs with one scale may reduce them, as may more ranks, or larger elements of a tensor that is given in bytes.
    """
    held = ("M", "groups", "group", "routing", *(("act", "gpus") if "byte" in sizes else ()))
    for symbol, value in sizes.items():
        kind = SYMBOLS[symbol].kind
        if kind == "flag" or value is None or symbol.startswith("tile_") or symbol in held:
            continue
        larger = {**sizes, symbol: 2 * value}
        if not all(operation.holds(rule, larger) for rule in operation.valid):
            continue
        more = operation(**larger)
        assert more.flops() >= op.flops(), symbol
        assert more.compulsory_byte() >= op.compulsory_byte(), symbol


@every_operation
def test_every_law_holds(name):
    operation = ops.find(name)

    @settings(max_examples=15)
    @given(valid_sizes(operation))
    def asked(sizes):
        op = operation(**sizes)
        for holds_for in LAWS:
            holds_for(operation, sizes, op)

    asked()


@every_operation
def test_huge_sizes_lose_no_digit(name):
    """Beyond 2^53, where a float would round."""
    if name in WHOLE:
        op = ops.find(name)(rows=10**15, cols=10**15)
        assert op.flops() == 4 * 10**30 + 2
        assert {type(count) for count in counts(op)} == {int}
        return
    operation = ops.find(name)
    symbols = independent(operation)
    unit = 48 if symbols == ("byte",) else 1  # whole elements in equal parts
    large = 10**15 // unit
    small = {"run": 1} if "run" in operation.arguments else {}  # no more than there are elements
    op, one = (
        operation(**{**operation.example.at, **small, **dict.fromkeys(symbols, unit * size)}) for size in (large, 1)
    )
    assert op.flops() == large * one.flops()
    assert {type(count) for count in counts(op)} == {int}


@pytest.mark.parametrize("name", [name for name in NAMES if "tile_m" in ops.find(name).arguments])
@few
@given(data=st.data())
def test_larger_tiles_move_less(name, data):
    operation = ops.find(name)
    sizes = data.draw(valid_sizes(operation))
    wider = {**sizes, "tile_n": 2 * sizes["tile_n"], "tile_m": 2 * sizes["tile_m"], "M": 4 * sizes["M"]}
    assert operation(**wider).traffic_byte() <= operation(**sizes).traffic_byte()
    assert operation(**wider).flops() == operation(**sizes).flops()


@pytest.mark.parametrize("name", ["flash_attention", "flash_attention_backward"])
@few
@given(data=st.data())
def test_more_on_chip_memory_moves_less_and_at_least_the_untiled_bytes(name, data):
    operation = ops.find(name)
    sizes = data.draw(valid_sizes(operation))
    assume(sizes["W"] is None)
    untiled = operation(**{**sizes, "M": sizes["M"] * (sizes["N"] + sizes["S"])})
    assert operation(**{**sizes, "M": 2 * sizes["M"]}).traffic_byte() <= operation(**sizes).traffic_byte()
    assert untiled.traffic_byte() <= operation(**sizes).traffic_byte()


@pytest.mark.parametrize("name", [name for name in NAMES if "causal" in ops.find(name).arguments])
@few
@given(data=st.data())
def test_a_mask_saves_work_and_a_window_saves_more(name, data):
    operation = ops.find(name)
    sizes = {**data.draw(valid_sizes(operation)), "causal": 1}
    if "S" in sizes:
        sizes["S"] += sizes["N"]
    window = sizes["W"] or 3
    full, causal, windowed = (
        operation(**{**sizes, "causal": c, "W": W}).contraction_flops() for c, W in ((0, None), (1, None), (1, window))
    )
    assert windowed <= causal <= full
    # A window as long as the keys hides nothing.
    assert operation(**{**sizes, "W": sizes.get("S", sizes["N"])}).contraction_flops() == causal


# --- growth


GROWTH = [
    # Operation, sizes that double together, factor of FLOPs, factor of bytes.
    ("attention", "N S", 4, 2),
    ("attention", "S", 2, None),
    ("attention", "d", None, 2),
    ("multi_head_attention", "N", 4, 2),
    ("scores", "N S", 4, None),
    ("softmax", "cols", 2, 2),
    ("matmul", "m k n", 8, 4),
    ("gemm", "m k n", 8, 4),
    ("linear", "D_in D_out", 4, None),
    ("qkv", "D H H_kv", 4, None),
    ("mlp", "F", 2, None),
    ("conv1d", "N", 2, None),
    ("conv1d", "K", 2, None),
    ("add", "numel", 2, 2),
    ("cross_entropy", "V", None, None),
    ("conv2d", "C C_out", 4, None),
    ("conv2d", "K_h K_w", 4, None),
    ("reduce_sum", "cols", 2, None),
    ("interpolate", "h_out w_out", 4, None),
    ("foreach", "reads", 2, None),
]


@for_each(("name", "symbols", "flops", "traffic"), GROWTH)
def test_counts_grow_by_the_order_of_the_textbook(name, symbols, flops, traffic):
    operation = ops.find(name)
    large = {name: value * 64 for name, value in operation.example.at.items()}
    double = {symbol: 2 * large[symbol] for symbol in symbols.split()}
    once, twice = operation(**large), operation(**{**large, **double})
    assert twice.flops() == flops * once.flops() if flops else once.flops() < twice.flops() < 2.01 * once.flops()
    assert (
        twice.traffic_byte() == traffic * once.traffic_byte() if traffic else twice.traffic_byte() > once.traffic_byte()
    )


@pytest.mark.parametrize(("name", "factor"), [("multi_head_attention", 4), ("attention", 4)])
def test_unfused_attention_moves_four_times_the_bytes_for_twice_the_tokens(name, factor):
    """The square of scores dominates: with N = S = 2^20 tokens and d = 64, its share is 4 N^2 / (4 N^2 + 4 N d)."""
    tokens = 2**20
    at = {"multi_head_attention": {"B": 1, "D": 128, "H": 2}, "attention": {"B": 1, "H": 2, "H_kv": 2, "d": 64}}[name]
    operation = ops.find(name)

    def moved(n):
        return unfused_byte(operation(**at, **{s: n for s in ("N", "S") if s in operation.arguments}))

    assert moved(2 * tokens) / moved(tokens) == pytest.approx(factor, rel=1e-4)


def test_flash_attention_moves_half_with_twice_the_memory():
    """k and v are read N / r times, and r is proportional to M. At N = S = 65536 the rest is below 1 %."""
    sizes = {"B": 1, "H": 1, "H_kv": 1, "N": 65536, "S": 65536, "d": 64}
    once, twice = (ops.find("flash_attention")(**sizes, M=M).traffic_byte() for M in (2**14, 2**15))
    assert once / twice == pytest.approx(2, rel=0.01)


# --- the backward pass


def gradients(name, sizes, fused=False):
    """Yields the operations of the backward pass at their sizes."""
    operation = ops.find(name)
    found = []
    for backward in operation.backward:
        gradient = ops.find(backward.fused if fused and backward.fused else backward.operation)
        given_sizes = {symbol: Expression(text, name)(sizes) for symbol, text in backward.sizes}
        complete = {s: value for s, value in {**sizes, **given_sizes}.items() if s in gradient.arguments}
        found.append(gradient(**complete))
    return found


# A mask and a positional table pass their gradient on unchanged. Decoding and the optimizer have no backward pass. The
# vector loops of benchmarks are not part of a model. A program has the kernels of its backward pass as calls of its own.
NO_GRADIENT = {
    *" ".join(ops.FAMILIES[family] for family in ("movement", "selection", "indexing", "reductions", "optimizer", "collectives", "quantised")).split(),
    "batch_norm_inference",
    "causal_mask", "full_mask", "learned", "attention_decode", "mla_cached_attention", "mla_latent_attention", "adam",
    "saxpy", "dot", "stream_copy", "stream_scale", "stream_add", "stream_triad",
}  # fmt: skip


def is_gradient(name):
    return name.endswith(("_backward", "_gradient", "_recompute"))


@for_each("name", [name for name in NAMES if not is_gradient(name)])
def test_every_operation_of_a_model_has_its_backward_pass(name):
    assert bool(ops.find(name).backward) == (name not in NO_GRADIENT)


@for_each("name", [name for name in NAMES if is_gradient(name)])
def test_every_gradient_belongs_to_an_operation(name):
    named = chain.from_iterable((b.operation, b.fused) for other in ops.every() for b in other.backward)
    assert name in set(named)


@for_each("name", [name for name in NAMES if ops.find(name).backward])
def test_a_backward_pass_is_complete_and_in_its_domain(name):
    def law(operation, sizes):
        for op in chain.from_iterable(gradients(name, sizes, fused) for fused in (False, True)):
            assert {type(count) for count in counts(op)} == {int}
            assert op.flops() > 0

    holds(name, law)


TWICE = (
    "linear", "linear_bias", "matmul", "gemm", "tiled_matmul", "mlp", "gated_mlp", "qkv", "output_projection",
    "logits", "attention", "multi_head_attention", "cross_attention", "scores", "weighted_values", "conv1d",
    "expert_linear", "expert_linear_bias", "conv2d",
)  # fmt: skip


@for_each("name", TWICE)
def test_the_backward_pass_is_twice_the_forward_products(name):
    """A product C = A B has two gradients of its own size, so forward and backward are three products."""

    def law(operation, sizes):
        forward = operation(**sizes).contraction_flops()
        assert sum(op.contraction_flops() for op in gradients(name, sizes)) == 2 * forward

    holds(name, law)


@pytest.mark.parametrize("name", ["attention", "multi_head_attention", "cross_attention", "flash_attention"])
def test_recomputing_attention_takes_five_products_for_two(name):
    """Seven products with the forward pass, against six from stored probabilities: 7/2 and 3 times the forward pass."""

    def law(operation, sizes):
        forward = operation(**sizes).contraction_flops()
        (op,) = gradients(name, sizes, fused=True)
        assert 2 * (forward + op.contraction_flops()) == 7 * forward

    holds(name, law)


@for_each("name", [name for name in NAMES if ops.find(name).backward])
def test_a_gradient_moves_at_least_what_comes_in_and_goes_out(name):
    """At the sizes of the forward example, a backward pass writes at least one gradient."""
    operation = ops.find(name)
    sizes = operation.checked(operation.example.at)
    inputs = [t for t in operation(**sizes).tensors if t.reads and not t.spill and t.name not in {"tokens", "targets"}]
    assert sum(op.write_byte() for op in gradients(name, sizes)) >= min(tensor.size_byte for tensor in inputs)


# --- pages


@every_operation
def test_a_page_is_complete(name):
    operation = ops.find(name)
    assert operation.name == name
    assert operation.summary.strip()
    assert operation.summary == operation.summary.strip().rstrip(".")
    assert all(source.strip() for source in operation.sources)
    assert operation.sources
    assert inspect.getdoc(inspect.getmodule(operation.function))
    assert set(operation.example.at) <= set(operation.arguments)
    assert set(operation.required) <= set(operation.example.at)
    assert all(rule.because for rule in operation.valid)


@every_operation
def test_arguments_are_letters_of_the_notation_table(name):
    operation = ops.find(name)
    assert set(operation.arguments) <= SYMBOLS.keys()
    kinds = {SYMBOLS[symbol].kind for symbol in operation.required}
    assert kinds <= {"size"}
    assert all(
        operation.defaults[symbol] is None for symbol in operation.defaults if SYMBOLS[symbol].kind == "optional"
    )


@every_operation
def test_tensors_and_works_have_names_that_agree(name):
    op = ops.find(name)(**ops.find(name).example.at)
    tensors = [tensor.name for tensor in op.tensors]
    assert len(set(tensors)) == len(tensors)
    assert len({work.name for work in op.work}) == len(op.work)
    for work in op.work:
        assert {*work.reads, *work.writes} <= set(tensors)
    if op.kernels():
        moved = {tensor.name for tensor in op.tensors if tensor.spill or tensor.traffic_byte}
        assert moved == {tensor for work in op.work for tensor in (*work.reads, *work.writes)}
        assert op.work[0].reads


def test_the_notation_table_says_each_letter_once():
    names, meanings = [symbol.name for symbol in TABLE], [symbol.meaning for symbol in TABLE]
    assert sorted(names) == sorted(set(names))
    assert sorted(meanings) == sorted(set(meanings))
    assert all(meanings)
    assert [
        symbol.name
        for symbol in TABLE
        if not (symbol.typical in (0, 1) if symbol.kind in ("flag", "routing") else symbol.typical > 0)
    ] == []


@for_each("family", ops.FAMILIES)
def test_a_familys_file_holds_no_operation_that_the_table_leaves_out(family):
    module = import_module(f"perfmodel.ops.{family}")
    pages = {value.name for value in vars(module).values() if isinstance(value, Operation)}
    assert pages == set(ops.FAMILIES[family].split())


STAGES_AT = {"B": 2, "H": 4, "H_kv": 2, "N": 3, "S": 7, "d": 6}


@pytest.mark.parametrize("masked", [{}, {"causal": 1}, {"causal": 1, "W": 4}], ids=str)
def test_attention_as_a_whole_is_the_sum_of_its_stages(masked):
    """Including the scale of the scores: one multiplication for each pair, and for each gradient derived from it."""

    def primitives(*names):
        found = Counter()
        for name in names:
            found.update(ops.find(name)(**STAGES_AT, **masked).primitives())
        return found

    pairs = 2 * 4 * visible_pairs(3, 7, masked.get("causal", 0), masked.get("W"))
    softmax = Counter({"max": pairs, "subtract": pairs, "exp": pairs, "add": pairs, "divide": pairs})
    gradient = Counter({"multiply": 2 * pairs, "add": pairs, "subtract": pairs})
    assert primitives("attention") == primitives("scores", "weighted_values") + softmax
    assert primitives("attention_backward") == primitives("scores_backward", "weighted_values_backward") + gradient
    # One kernel recomputes the scores, scales them and their gradient once, and knows the row sums.
    again = primitives("attention_backward_recompute") - primitives("attention_backward")
    sums = 2 * 4 * 3 * 6  # a multiply-add for each output
    assert again == Counter(multiply=6 * pairs - pairs + sums, add=6 * pairs - pairs + sums, subtract=pairs, exp=pairs)
