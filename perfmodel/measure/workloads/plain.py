"""Programs in NumPy, used without torch: products, row operations, elementwise operations and eager attention."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any
from zlib import crc32

from perfmodel.cases import Case
from perfmodel.errors import InputError
from perfmodel.measure.program import Pairs, Program
from perfmodel.records import key

TYPES = {"fp16": "float16", "fp32": "float32", "fp64": "float64"}
IMPLEMENTATIONS = ("torch", "naive")  # one call of the library, and separate stages
EPSILON = 1e-5


def build(numpy: Any, case: Case) -> Program:
    """Returns the program of a case. Raises an error for cases that have no NumPy program."""
    op = case.op
    maker = _MAKERS.get(op) or (_elementwise if op in FUNCTIONS else None)
    if maker is None or case.dtype not in TYPES or case.words.get("direction", "forward") != "forward":
        raise InputError(
            case.where, f"NumPy has no program for {op} in {case.dtype} with these keys",
            f"{', '.join((*_MAKERS, *FUNCTIONS))}, forward, in {', '.join(TYPES)} are accepted", "Install torch.",
        )  # fmt: skip
    if case.words.get("impl", "torch") not in IMPLEMENTATIONS:
        raise InputError(
            f"{case.where}: impl", f"NumPy has no {case.words['impl']} implementation",
            f"{', '.join(IMPLEMENTATIONS)} are accepted", "Install torch.",
        )  # fmt: skip
    random = numpy.random.default_rng(crc32(key(case.line).encode()))

    def normal(*shape: int) -> Any:
        return random.standard_normal(shape, dtype="float32").astype(TYPES[case.dtype])

    inputs, function = maker(numpy, case, normal)

    def compare(out: Any) -> Pairs:
        yield op, out, function(*(x.astype("float64") for x in inputs))

    return Program(lambda: function(*inputs), compare)


Made = tuple[tuple[Any, ...], Callable[..., Any]]


def _matmul(numpy: Any, case: Case, normal: Callable[..., Any]) -> Made:
    m, k, n, batch = (case.dims[name] for name in ("m", "k", "n", "batch"))
    lead = (batch,) if batch > 1 else ()
    return (normal(*lead, m, k), normal(*lead, k, n)), numpy.matmul


def _rows(numpy: Any, x: Any) -> Any:
    """Softmax of the last axis."""
    e = numpy.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def _softmax(numpy: Any, case: Case, normal: Callable[..., Any]) -> Made:
    return (normal(case.dims["rows"], case.dims["cols"]),), lambda x: _rows(numpy, x)


def _layernorm(numpy: Any, case: Case, normal: Callable[..., Any]) -> Made:
    cols = case.dims["cols"]

    def norm(x: Any, gamma: Any, beta: Any) -> Any:
        centred = x - x.mean(-1, keepdims=True)
        return centred / numpy.sqrt((centred * centred).mean(-1, keepdims=True) + EPSILON) * gamma + beta

    return (normal(case.dims["rows"], cols), normal(cols), normal(cols)), norm


def _rmsnorm(numpy: Any, case: Case, normal: Callable[..., Any]) -> Made:
    cols = case.dims["cols"]

    def norm(x: Any, gamma: Any) -> Any:
        return x / numpy.sqrt((x * x).mean(-1, keepdims=True) + EPSILON) * gamma

    return (normal(case.dims["rows"], cols), normal(cols)), norm


def _elementwise(numpy: Any, case: Case, normal: Callable[..., Any]) -> Made:
    number, function = FUNCTIONS[case.op]
    return tuple(normal(case.dims["numel"]) for _ in range(number)), partial(function, numpy)


def _attention(numpy: Any, case: Case, normal: Callable[..., Any]) -> Made:
    B, H, H_kv, N, S, d = (case.dims[name] for name in ("B", "H", "H_kv", "N", "S", "d"))
    causal = bool(case.dims["causal"])

    def stages(q: Any, k: Any, v: Any) -> Any:
        scores = q.reshape(B, H_kv, H // H_kv * N, d) @ k.swapaxes(-1, -2) * d**-0.5
        if causal:
            hidden = numpy.triu(numpy.ones((N, S), bool), S - N + 1)
            scores = numpy.where(hidden, -numpy.inf, scores.reshape(B, H_kv, H // H_kv, N, S)).reshape(scores.shape)
        return (_rows(numpy, scores) @ v).reshape(B, H, N, d)

    return (normal(B, H, N, d), normal(B, H_kv, S, d), normal(B, H_kv, S, d)), stages


FUNCTIONS: dict[str, tuple[int, Callable[..., Any]]] = {
    "add": (2, lambda n, a, b: n.add(a, b)),
    "mul": (2, lambda n, a, b: n.multiply(a, b)),
    "relu": (1, lambda n, x: n.maximum(x, 0)),
    "exp": (1, lambda n, x: n.exp(x)),
    "tanh": (1, lambda n, x: n.tanh(x)),
}
_MAKERS: dict[str, Callable[..., Made]] = {
    "matmul": _matmul,
    "softmax": _softmax,
    "layernorm": _layernorm,
    "rmsnorm": _rmsnorm,
    "attention": _attention,
}
