"""Parts of a Transformer layer by torch: linear layers, the QKV projection, the MLP, the whole layer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from perfmodel.measure.program import Pairs, Program
from perfmodel.measure.workloads import Bench
from perfmodel.measure.workloads.attention import attend
from perfmodel.measure.workloads.elementwise import REFERENCES
from perfmodel.measure.workloads.references import Layer
from perfmodel.runs import NARROW

ROWS_CHECKED = 64
EPSILON = 1e-5
LARGEST_GRADIENT = {"cpu": 1 << 33, "cuda": 1 << 38}  # tokens x width x inner width


def build(bench: Bench) -> Program:
    """The part that the case names. Weights are scaled so that values stay close to one."""
    return {"qkv": _qkv, "mlp": _mlp, "layer": _layer}.get(bench.op, _linear)(bench)


def _weight(bench: Bench, rows: int, cols: int) -> Any:
    return bench.normal(rows, cols, scale=cols**-0.5)


def _program(
    bench: Bench,
    forward: Callable[..., Any],
    given: Sequence[Any],
    compare: Callable[[Any], Pairs],
    gradients: Callable[[Sequence[Any], Any], Pairs],
) -> Program:
    """The forward pass, or forward and backward with the gradients of all inputs. ``gradients`` compares them, given
    that of the output. All inputs but the first are weights.
    """
    if bench.direction == "forward":
        return Program(lambda: forward(*given), compare, tuple(given[1:]))
    if bench.direction == "backward":
        raise bench.refuse(
            "no program measures the backward pass alone", "forward, forward_backward and train are accepted"
        )
    held = [t.requires_grad_() for t in given]
    seed = forward(*held)
    dout = bench.normal(*seed.shape)
    del seed

    def both() -> Any:
        out = forward(*held)
        return out, *bench.torch.autograd.grad(out, held, dout)

    def compared(found: Any) -> Pairs:
        with bench.torch.no_grad():
            yield from compare(found[0].detach())
            yield from gradients(found[1:], dout)

    return Program(both, compared)


def _of_product(x: Any, w: Any) -> Callable[[Sequence[Any], Any], Pairs]:
    """Compares the gradients of x wᵀ + bias: dout w, doutᵀ x and the sum of dout."""

    def gradients(found: Sequence[Any], dout: Any) -> Pairs:
        rows, columns = _some(x.shape[0]), _some(w.shape[0])
        yield "the input's gradient", found[0][rows], dout[rows].double() @ w.double()
        yield "the weights' gradient", found[1][columns], dout[:, columns].double().T @ x.double()
        for bias in found[2:]:
            yield "the bias's gradient", bias, dout.double().sum(0)

    return gradients


def _some(rows: int) -> slice:
    return slice(None, None, max(1, rows // ROWS_CHECKED))


def _linear(bench: Bench) -> Program:
    """One linear layer over all tokens, with a bias for ``linear_bias``."""
    size, functional = bench.shape, bench.torch.nn.functional
    if bench.case.dtype in NARROW:
        raise bench.refuse(f"no program measures {bench.op} in {bench.case.dtype}", "matmul is accepted")
    inner, outer = {
        "output_projection": lambda: (size["H"] * size["d"], size["D"]),
        "logits": lambda: (size["D"], size["V"]),
    }.get(bench.op, lambda: (size["D_in"], size["D_out"]))()
    x, w = bench.normal(size["B"] * size["N"], inner), _weight(bench, outer, inner)
    bias = (bench.normal(outer),) if bench.op == "linear_bias" else ()
    part = _some(x.shape[0])

    def compare(out: Any) -> Pairs:
        yield "the product", out[part], x[part].double() @ w.double().T + sum(b.double() for b in bias)

    return _program(bench, functional.linear, (x, w, *bias), compare, _of_product(x, w))


def _qkv(bench: Bench) -> Program:
    """One product for all columns, or with ``naive`` one each for queries, keys and values."""
    size, functional = bench.shape, bench.torch.nn.functional
    x = bench.normal(size["B"] * size["N"], size["D"])
    widths = [size["H"] * size["d"], size["H_kv"] * size["d"], size["H_kv"] * size["d"]]
    w = _weight(bench, sum(widths), size["D"])
    part = _some(x.shape[0])

    def apart(x: Any, w: Any) -> Any:
        return bench.torch.cat([functional.linear(x, one) for one in w.split(widths)], -1)

    def compare(out: Any) -> Pairs:
        yield "the projections", out[part], x[part].double() @ w.double().T

    return _program(bench, apart if bench.impl == "naive" else functional.linear, (x, w), compare, _of_product(x, w))


def _activation(bench: Bench) -> Callable[[Any], Any]:
    functional = bench.torch.nn.functional
    name = bench.case.words["activation"]
    known: dict[str, Callable[[Any], Any]] = {
        "gelu": functional.gelu,
        "gelu_tanh": lambda x: functional.gelu(x, approximate="tanh"),
        "relu": functional.relu,
        "silu": functional.silu,
    }
    if name not in known:
        raise bench.refuse(f"no program measures {bench.op} with {name}", f"{', '.join(known)} are accepted")
    return known[name]


def _mlp(bench: Bench) -> Program:
    size, functional = bench.shape, bench.torch.nn.functional
    D, F = size["D"], size["F"]
    gated = bench.case.words["activation"] == "swiglu"
    x = bench.normal(size["B"] * size["N"], D)
    up, down = _weight(bench, 2 * F if gated else F, D), _weight(bench, D, F)
    activation = None if gated else _activation(bench)

    def forward(x: Any, up: Any, down: Any) -> Any:
        hidden = functional.linear(x, up)
        if activation is not None:
            return functional.linear(activation(hidden), down)
        gate, value = hidden.chunk(2, -1)
        return functional.linear(functional.silu(gate) * value, down)

    part = _some(x.shape[0])
    name = "silu" if gated else bench.case.words["activation"]
    value, slope = (partial(REFERENCES[key], bench.torch) for key in (name, f"{name}_backward"))

    def hidden() -> Any:
        return x[part].double() @ up.double().T

    def compare(out: Any) -> Pairs:
        h = hidden()
        yield "the MLP", out[part], (value(h[:, :F]) * h[:, F:] if gated else value(h)) @ down.double().T

    def gradients(found: Sequence[Any], dout: Any) -> Pairs:
        """That of the input. Those of the weights need every row in float64 and are not compared."""
        h, back = hidden(), dout[part].double() @ down.double()
        inner = slope(h[:, :F], back * h[:, F:]) if gated else slope(h, back)
        inner = bench.torch.cat([inner, back * value(h[:, :F])], -1) if gated else inner
        yield "the input's gradient", found[0][part], inner @ up.double()

    return _program(bench, forward, (x, up, down), compare, gradients)


def _layer(bench: Bench) -> Program:
    """Pre-norm: x + project(attention(qkv(norm x))), then x + down(activation(up(norm x)))."""
    size, functional = bench.shape, bench.torch.nn.functional
    B, N, D, H, H_kv, d, F = (size[key] for key in ("B", "N", "D", "H", "H_kv", "d", "F"))
    activation, core = _activation(bench), attend(bench, H // H_kv)
    x = bench.normal(B, N, D)
    weights = (
        _weight(bench, (H + 2 * H_kv) * d, D), _weight(bench, D, H * d), _weight(bench, F, D), _weight(bench, D, F),
        *(bench.normal(D) for _ in range(4)),
    )  # fmt: skip

    def around(inner: Callable[[Any, Any, Any], Any]) -> Callable[..., Any]:
        def forward(x: Any, qkv: Any, project: Any, up: Any, down: Any, g1: Any, b1: Any, g2: Any, b2: Any) -> Any:
            rows = functional.linear(functional.layer_norm(x, (D,), g1, b1, EPSILON), qkv)
            q, k, v = rows.view(B, N, H + 2 * H_kv, d).transpose(1, 2).split((H, H_kv, H_kv), 1)
            mixed = inner(q, k, v).transpose(1, 2).reshape(B, N, H * d)
            x = x + functional.linear(mixed, project)
            hidden = functional.linear(functional.layer_norm(x, (D,), g2, b2, EPSILON), up)
            return x + functional.linear(activation(hidden), down)

        return forward

    name = bench.case.words["activation"]
    first = None if not bench.causal else 0
    reference = Layer(bench.torch, (H, H_kv), first, EPSILON, REFERENCES[name], REFERENCES[f"{name}_backward"])

    def compare(out: Any) -> Pairs:
        """Compares the first and the last sequence."""
        wide = [t.double() for t in weights]
        for b in {0, B - 1}:
            yield "the layer", out[b], reference.forward(x[b].double(), wide)[0]

    def gradients(found: Sequence[Any], dout: Any) -> Pairs:
        """That of the input, where float64 takes at most some seconds. Those of the weights are not compared."""
        if N * D * max(t.shape[-1] for t in weights) > LARGEST_GRADIENT[bench.device]:
            return
        wide = [t.double() for t in weights]
        for b in {0, B - 1}:
            _, held = reference.forward(x[b].double(), wide)
            yield "the input's gradient", found[0][b], reference.back(held, wide, dout[b].double())

    return _program(bench, around(core), (x, *weights), compare, gradients)
