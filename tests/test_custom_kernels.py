"""Custom kernels: what the decorator reads of arguments, what it refuses, captures without a run, names in traces."""

from __future__ import annotations

from typing import NamedTuple

import pytest
from many import for_each

import perfmodel
from perfmodel import InputError, UsageError, kernels
from perfmodel.aten.calls import Operand
from perfmodel.kernels.reading import Reading


class Array(NamedTuple):
    """An array of torch or CuPy as far as it matters here."""

    shape: tuple[int, ...]
    dtype: str = "torch.float16"

    def new_empty(self, shape):
        return Array(tuple(shape), self.dtype)


@pytest.fixture
def heard():
    """Calls that reach the listener, which lets nothing run."""
    found = []
    kernels.listener = lambda *call: found.append(call)
    yield found
    kernels.listener = None


@pytest.fixture(autouse=True)
def _registered(monkeypatch):
    monkeypatch.setattr(kernels, "registered", {})


def softmax(ran=None, **options):
    @perfmodel.kernel(op="softmax", **{"rows": "x.shape[0]", "cols": "x.shape[1]", **options})
    def softmax_kernel(x, scale=2):
        """Softmax of rows."""
        if ran is not None:
            ran.append((x, scale))
        return "ran"

    return softmax_kernel


def launched(function, *args, **keywords):
    described = function.perfmodel
    arguments = described.bound(args, keywords)
    tensors = {name: value for name, value in arguments.items() if hasattr(value, "shape")}
    return described.launched(described.read(arguments), tensors)


# --- the function stays as it is


def test_a_decorated_function_behaves_as_before():
    ran = []
    function = softmax(ran)
    assert function(Array((8, 16)), scale=3) == "ran"
    assert ran == [(Array((8, 16)), 3)]
    assert (function.__name__, function.__doc__) == ("softmax_kernel", "Softmax of rows.")
    with pytest.raises(TypeError, match="unexpected keyword"):
        function(Array((8, 16)), shift=1)
    assert function("no array") == "ran"  # nothing is read without a listener


def test_it_has_the_counts_of_its_operation():
    """5 FLOP for a score; 8 x 16 scores of 2 bytes, read and written."""
    found = launched(softmax(), Array((8, 16)))
    assert (found.operation, found.sizes, found.dtype) == ("softmax", {"rows": 8, "cols": 16}, "fp16")
    assert (found.op.flops(), found.op.traffic_byte()) == (5 * 128, 2 * 128 * 2)
    assert launched(softmax(), Array((8, 16), "torch.float32")).op.traffic_byte() == 2 * 128 * 4


def test_sizes_may_be_expressions_of_arguments_and_of_sizes_before_them():
    @perfmodel.kernel(
        op="attention", B="q.shape[0]", H="q.shape[1]", N="q.shape[-2]", S="k.numel() // (B * k.shape[1] * q.shape[3])",
        H_KV="k.shape[1]", d="q.shape[3]", causal="is_causal",
    )  # fmt: skip
    def attend(q, k, v, is_causal=True):
        return q

    q, k = Array((2, 8, 100, 64), "torch.bfloat16"), Array((2, 4, 128, 64), "torch.bfloat16")
    found = launched(attend, q, k, k)
    assert found.sizes == {"B": 2, "H": 8, "N": 100, "S": 128, "H_kv": 4, "d": 64, "causal": 1}
    assert found.op == perfmodel.find("attention")(B=2, H=8, N=100, S=128, H_kv=4, d=64, causal=1)
    described = attend.perfmodel
    line = described.case(described.read(described.bound((q, k, k), {})), {"q": q})
    assert line == {
        "op": "attention", "shape": {"B": 2, "H": 8, "N": 100, "S": 128, "H_kv": 4, "d": 64}, "dtype": "bf16", "causal": True,
    }  # fmt: skip
    assert perfmodel.predict(line, "a100").cases[0].total.flops == found.op.flops()


def test_sizes_that_follow_from_others_may_be_left_out():
    @perfmodel.kernel(op="attention", B=1, H="q.shape[0]", N="q.shape[1]", d="q.shape[2]")
    def attend(q):
        return q

    found = launched(attend, Array((8, 100, 64)))
    assert found.op == perfmodel.find("attention")(B=1, H=8, N=100, S=100, H_kv=8, d=64)


def test_an_elementwise_kernel_names_its_function():
    @perfmodel.kernel(op="elementwise", kind="gelu", numel="x.numel()")
    def own_gelu(x):
        return x

    assert launched(own_gelu, Array((3, 5))).op.flops() == 15 * 5  # 3 multiply, erf, add


def test_formulas_of_ones_own():
    """A product of 2 x 3 and 3 x 4 with an int8 weight: 48 FLOP; 6 x 2 + 12 x 1 bytes read, 8 x 2 written."""

    @perfmodel.kernel(
        m="x.shape[0]", k="x.shape[1]", n="w.shape[1]", flops="2*m*k*n", reads="x.nbytes + w.nbytes", writes="m*n*x.itemsize",
        engine="tensor",
    )  # fmt: skip
    def dequantised(x, w):
        return x

    found = launched(dequantised, Array((2, 3)), Array((3, 4), "torch.int8"))
    assert (found.operation, found.sizes, found.dtype) == ("dequantised", {"m": 2, "k": 3, "n": 4}, "fp16")
    assert found.op.flops() == found.op.contraction_flops() == found.op.engine_flops()["tensor"] == 48
    assert (found.op.read_byte(), found.op.write_byte()) == (24, 16)


def test_a_copy_has_bytes_alone():
    @perfmodel.kernel(reads="x.nbytes", writes="max(x.nbytes, least)")
    def copy(x, least):
        return x

    found = launched(copy, Array((10,)), 7)
    assert (found.op.flops(), found.op.read_byte(), found.op.write_byte()) == (0, 20, 20)


@pytest.mark.parametrize(
    ("option", "expected"), [(None, "bf16"), ("x.dtype", "bf16"), ("w.dtype", "int8"), ("fp8", "fp8")]
)
def test_the_data_type(option, expected):
    """By default that of the first floating-point tensor."""
    function = perfmodel.kernel(op="softmax", rows="x.shape[0]", cols="x.shape[1]", dtype=option)(lambda i, w, x: x)
    x, w, index = Array((2, 3), "torch.bfloat16"), Array((3, 4), "torch.int8"), Array((2,), "torch.int64")
    assert launched(function, index, w, x).dtype == expected


def test_operands_of_a_program_and_of_numpy_are_arrays_too():
    numpy = pytest.importorskip("numpy")
    for x in (Operand((8, 16), "fp16", (16, 1)), numpy.empty((8, 16), "float16")):
        assert launched(softmax(), x).op.traffic_byte() == 2 * 128 * 2


def test_the_symbolic_sizes_of_torch_stay_symbols():
    class SymInt:
        node = "N"

        def __index__(self):
            raise AssertionError("it would be fixed to one value")

        def __rmul__(self, other):
            return f"{other} N"

    n = SymInt()
    assert Reading("2 * x.shape[0]", "here")({"x": Array((n, 3))}) == Reading("2 * n", "here")({"n": n}) == "2 N"


# --- what is refused

ROWS = {"rows": "x.shape[0]", "cols": "x.shape[1]"}
CODE = [
    "__import__('os').system('true')", "x.__class__", "x.shape", "x.shape[rows]", "x.shape[True]", "x.shape[0:1]", "x.shape[0][0]",
    "x.data_ptr()", "x.numel(1)", "x.storage().nbytes", "x[0]", "[1][0]", "(lambda: 1)()", "1 if x else 2", "x.shape[0] ** 9",
    "open('x')", "'a' * 9", "1.5 * cols", "x.shape[0] << 9", "x.shape[0] and 1", "", "x.shape[", "x.shape[0]\n", "f'{x}'", "9" * 30,
    "max(1, 2, 3)", "x.shape[0] if 1 else 0", "x.nbytes.real", "-x.shape[0]", "1 < 2", "x := 3", "*x", "x.shape[0]" + "+ 1" * 100,
]  # fmt: skip


@for_each("text", CODE)
def test_no_code_is_accepted_or_run(text):
    with pytest.raises(InputError, match=r"cannot be read from the arguments; x.shape\[0\], x.numel\(\),"):
        softmax(rows=text)


REFUSED = [
    ({}, "kernel f: neither op nor flops, reads and writes are given; an operation or formulas of one's own are"),
    ({"op": "softmax", "flops": "1", **ROWS}, "kernel f: op and flops are given;"),
    ({"op": "softmax", "engine": "tensor", **ROWS}, "kernel f: op and engine are given;"),
    ({"flops": "1", "reads": "1"}, "kernel f: writes is missing;"),
    ({"op": "softmx", **ROWS}, "kernel f: there is no operation 'softmx'; a name of 'perfmodel ops' is accepted."),
    ({"op": "softmax", "rows": "x.shape[0]"}, "kernel f: 'cols' is missing; softmax needs rows, cols. Add cols="),
    ({"op": "softmax", **ROWS, "n": "1"}, "kernel f: 'n' is not a size of softmax; its sizes are rows, cols, act."),
    ({"op": "softmax", "rows": "y.shape[0]", "cols": 1}, "kernel f: rows: 'y' is not an argument; x, n are accepted."),
    ({"op": "softmax", "rows": "cols", "cols": "n"}, "kernel f: rows: 'cols' is not an argument;"),
    ({"op": "elementwise", "numel": "n"}, "kernel f: kind: None is given with elementwise;"),
    ({"op": "softmax", "kind": "gelu", **ROWS}, "kernel f: kind: 'gelu' is given with softmax;"),
    ({"op": "softmax", **ROWS, "impl": "flash"}, "kernel f: impl: 'flash' is not an implementation of softmax; torch, ours"),
    ({"op": "softmax", **ROWS, "dtype": "half"}, "dtype 'half': it is not a data type;"),
    ({"op": "softmax", **ROWS, "dtype": "y.dtype"}, "kernel f: dtype: 'y' is not an argument;"),
    ({"op": "softmax", **ROWS, "returns": "like"}, "kernel f: returns: 'like' is not an argument;"),
    ({"op": "softmax", **ROWS, "returns": "likes x"}, "kernel f: returns: 'likes x' is not a result;"),
    ({"op": "softmax", **ROWS, "returns": "(z, 1) like x"}, "kernel f: returns: 'z' is not an argument;"),
    ({"reads": "1", "writes": "1", "engine": "tensors"}, "kernel f: engine: 'tensors' is not known; one of tensor,"),
]  # fmt: skip


@for_each(("options", "told"), REFUSED)
def test_a_wrong_description_is_refused_where_it_stands(options, told):
    def f(x, n):
        return x

    with pytest.raises((InputError, UsageError)) as caught:
        perfmodel.kernel(**options)(f)
    assert str(caught.value).startswith(told)


def test_a_function_whose_parameters_are_unknown_is_refused():
    with pytest.raises(InputError, match="the parameters of the function cannot be read"):
        perfmodel.kernel(op="softmax", rows=1, cols=1)(max)


@for_each(
    ("text", "argument", "told"),
    [
        ("x.shape[2]", Array((2, 3)), "x has 2 dimensions; shape[2] needs more."),
        ("x.shape[0]", 5, "x is 5; a tensor is accepted."),
        ("x.shape[0]", None, "x is None; a tensor is accepted."),
        ("x", Array((2, 3)), "x is Array("),
        ("x", 1.5, "x is 1.5; a whole number is accepted."),
        ("x.nbytes", Array((2, 3), "torch.quint8"), "the data type 'quint8' is not known;"),
        ("4 // x", 0, "'4 // x' divides by zero;"),
    ],
)
def test_an_argument_without_the_size_is_refused(text, argument, told):
    with pytest.raises(InputError) as caught:
        Reading(text, "kernel f: rows")({"x": argument})
    assert str(caught.value).startswith(f"kernel f: rows: {told}")


def test_sizes_outside_the_domain_of_the_operation_are_refused():
    with pytest.raises(InputError, match="rows: 0 is out of range"):
        launched(softmax(), Array((0, 16)))
    copy = perfmodel.kernel(reads="n - 5", writes="0")(lambda n: n)
    with pytest.raises(InputError, match=r"reads: n - 5 is -2; 0 or more is accepted"):
        launched(copy, 3)


# --- captures


def test_in_a_capture_nothing_runs_and_the_result_is_like_the_first_tensor(heard):
    ran = []
    function = softmax(ran)
    x = Array((8, 16))
    assert function(x) == Array((8, 16))
    assert ran == []
    ((described, sizes, tensors),) = heard
    assert described is function.perfmodel
    assert (sizes, tensors) == ({"rows": 8, "cols": 16}, {"x": x})
    assert described.launched(sizes, tensors).op.flops() == 5 * 128


def test_a_listener_may_let_the_function_run():
    kernels.listener = lambda *_: True
    try:
        assert softmax()(Array((8, 16))) == "ran"
    finally:
        kernels.listener = None


@pytest.mark.parametrize(
    ("returns", "expected"),
    [
        (None, Array((2, 3))),
        ("none", None),
        ("w", Array((3, 4), "torch.int8")),
        ("like w", Array((3, 4), "torch.int8")),
        ("(x.shape[0], w.shape[1]) like x", Array((2, 4))),
        ("(rows, max(cols, 9), 1) like x; w", (Array((2, 9, 1)), Array((3, 4), "torch.int8"))),
    ],
)
def test_what_a_call_returns_in_a_capture(heard, returns, expected):
    function = perfmodel.kernel(op="softmax", **ROWS, returns=returns)(lambda x, w: 1 / 0)
    assert function(Array((2, 3)), Array((3, 4), "torch.int8")) == expected


def test_without_a_tensor_there_is_no_result(heard):
    assert perfmodel.kernel(reads="n", writes="n")(lambda n: 1 / 0)(4) is None
    with pytest.raises(InputError, match="returns: n is 4; a tensor is accepted"):
        perfmodel.kernel(reads="n", writes="n", returns="like n")(lambda n: 1 / 0)(4)


class Triton:
    """A function of Triton as far as it matters here: launched with a grid, its Python function inside."""

    def __init__(self, fn):
        self.fn, self.launches = fn, []

    def __getitem__(self, grid):
        return lambda *args, **keywords: self.launches.append((grid, args, keywords))


def triton_kernel():
    def add_kernel(x, y, out, n, BLOCK):
        """Never called by Python."""

    return perfmodel.kernel(op="add", numel="n")(Triton(add_kernel))


def test_a_function_of_triton_is_launched_with_its_grid():
    function = triton_kernel()
    x = Array((100,))
    assert function[(4,)](x, x, x, 100, BLOCK=32) is None
    assert function.launches == [((4,), (x, x, x, 100), {"BLOCK": 32})]
    assert function.perfmodel.name == "add_kernel"


def test_a_function_of_triton_in_a_capture_returns_nothing(heard):
    function = triton_kernel()
    x = Array((100,))
    assert function[(4,)](x, x, x, 100, BLOCK=32, num_warps=4) is None
    assert function.launches == []
    ((described, sizes, tensors),) = heard
    assert (sizes, list(tensors)) == ({"numel": 100}, ["x", "y", "out"])
    assert described.launched(sizes, tensors).op.traffic_byte() == 3 * 100 * 2


# --- names in a trace


@pytest.mark.parametrize(
    "name",
    [
        "softmax_kernel",
        "softmax_kernel_0d1d2de",
        "void softmax_kernel<float, 4>(float const*, float*, int)",
        "void mine::(anonymous namespace)::softmax_kernel<c10::Half>(c10::Half*)",
        "mine::softmax_kernel(float*)",
    ],
)
def test_a_kernel_is_found_by_its_name_in_a_trace(name):
    described = softmax().perfmodel
    assert kernels.find(name) is described


@pytest.mark.parametrize(
    "name", ["softmax_kernel_backward", "my_softmax_kernel", "softmax", "", "void f<softmax_kernel>()"]
)
def test_other_kernels_are_not_found(name):
    softmax()
    assert kernels.find(name) is None


def test_a_launcher_names_the_kernels_that_it_launches():
    function = softmax(name=("forward_kernel", "forward_kernel_long"))
    assert function.perfmodel.name == "forward_kernel"
    assert kernels.find("forward_kernel_long") is kernels.find("forward_kernel") is function.perfmodel
    assert kernels.find("softmax_kernel") is None
