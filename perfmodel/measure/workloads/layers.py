"""Parts of a Transformer layer by torch: linear layers, the QKV projection, the MLP, the whole layer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from perfmodel.measure.program import Pairs, Program
from perfmodel.measure.workloads import Bench
from perfmodel.measure.workloads.attention import attend
from perfmodel.measure.workloads.elementwise import REFERENCES

ROWS_CHECKED = 64
EPSILON = 1e-5
HALF_ONLY = ("flash", "cudnn", "efficient")  # backends without float64 kernels


def build(bench: Bench) -> Program:
    """The part that the case names. Weights are scaled so that values stay close to one."""
    return {"qkv": _qkv, "mlp": _mlp, "layer": _layer}.get(bench.op, _linear)(bench)


def _weight(bench: Bench, rows: int, cols: int) -> Any:
    return bench.normal(rows, cols, scale=cols**-0.5)


def _program(
    bench: Bench, forward: Callable[..., Any], given: Sequence[Any], compare: Callable[[Any], Pairs]
) -> Program:
    """The forward pass, or forward and backward with the gradients of all inputs. The gradients of weights are not
    compared.
    """
    if bench.direction == "forward":
        return Program(lambda: forward(*given), compare)
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
        yield from _slope(bench, forward, held, found[1], dout)

    return Program(both, compared)


def _slope(bench: Bench, forward: Callable[..., Any], held: Sequence[Any], dx: Any, dout: Any) -> Pairs:
    """Compares the gradient of the input with that of the same function in float64, if the size is small enough."""
    if held[0].numel() * max(t.shape[-1] for t in held) > 1 << 33 or bench.impl in HALF_ONLY:
        return
    wide = [t.detach().double().requires_grad_() for t in held]
    yield "the input's gradient", dx, bench.torch.autograd.grad(forward(*wide), wide[0], dout.double())[0]


def _some(rows: int) -> slice:
    return slice(None, None, max(1, rows // ROWS_CHECKED))


def _linear(bench: Bench) -> Program:
    """One linear layer over all tokens, with a bias for ``linear_bias``."""
    size, functional = bench.shape, bench.torch.nn.functional
    inner, outer = {
        "output_projection": lambda: (size["H"] * size["d"], size["D"]),
        "logits": lambda: (size["D"], size["V"]),
    }.get(bench.op, lambda: (size["D_in"], size["D_out"]))()
    x, w = bench.normal(size["B"] * size["N"], inner), _weight(bench, outer, inner)
    bias = (bench.normal(outer),) if bench.op == "linear_bias" else ()
    part = _some(x.shape[0])

    def compare(out: Any) -> Pairs:
        yield "the product", out[part], x[part].double() @ w.double().T + sum(b.double() for b in bias)

    return _program(bench, functional.linear, (x, w, *bias), compare)


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

    return _program(bench, apart if bench.impl == "naive" else functional.linear, (x, w), compare)


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

    def compare(out: Any) -> Pairs:
        wide, first, second = (tensor.detach().double() for tensor in (x[part], up, down))
        yield "the MLP", out[part], reference(wide @ first.T) @ second.T

    def reference(hidden: Any) -> Any:
        if not gated:
            return REFERENCES[bench.case.words["activation"]](bench.torch, hidden)
        return REFERENCES["silu"](bench.torch, hidden[:, :F]) * hidden[:, F:]

    return _program(bench, forward, (x, up, down), compare)


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

    def compare(out: Any) -> Pairs:
        """Compares with the same layer in float32: float64 attention would store the N x N scores of every head."""
        torch = bench.torch
        causal = bench.causal

        def plain(q: Any, k: Any, v: Any) -> Any:
            sdpa = functional.scaled_dot_product_attention
            return sdpa(q, k, v, is_causal=causal, enable_gqa=H_kv < H)

        with torch.no_grad():
            wide = [t.detach().float() for t in (x, *weights)]
            yield "the layer", out, around(plain)(*wide)

    return _program(bench, around(core), (x, *weights), compare)
