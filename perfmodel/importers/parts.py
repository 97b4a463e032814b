"""The parts that families are built of: steps for norms, projections, attention and feed-forward networks.

Every part is a list of steps whose sizes are expressions of the model's own: B sequences of N tokens, width D, H
heads. The stream of a layer is the tensor ``stream``; each part says what it reads and writes, so that what passes
between steps can be told from what enters and leaves the model.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

from perfmodel import ops
from perfmodel.block import Step
from perfmodel.expression import Expression

Kind = TypeVar("Kind")

# Hugging Face's names of activations, as the operations here call them.
ACTIVATIONS = {
    "gelu": "gelu", "gelu_new": "gelu_tanh", "gelu_fast": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_python": "gelu", "gelu_accurate": "gelu_tanh", "relu": "relu", "relu2": "relu_squared", "sigmoid": "sigmoid",
    "silu": "silu", "swish": "silu", "tanh": "tanh",
}  # fmt: skip
# The operation of each activation where it is the gate of a network.
GATES = {activation: f"{activation}_gate" for activation in ACTIVATIONS.values()}


def step(name: str, operation: str, flow: str = "", *, windowed: bool = False, cached: bool = True, tied: bool = False,
         data: tuple[str, ...] = (), **sizes: Any) -> Step:  # fmt: skip
    """One step; ``flow`` is 'x:stream y:normed', sizes are whole numbers or expressions.

    ``data`` names tensors that come from outside, such as pixels: nobody needs their gradient.
    """
    return Step(
        name=name,
        operation=ops.find(operation),
        sizes={key: Expression(str(value), name) for key, value in sizes.items()},
        flow=dict(pair.split(":") for pair in flow.split()),
        windowed=windowed,
        cached=cached,
        tied=tied,
        data=data,
    )


def layers(name: str, repeat: int, steps: Iterable[Step]) -> list[Step]:
    """Steps that repeat together, their names after the group's."""
    prefix = f"{name}."
    times = Expression(str(repeat), name)
    return [s._replace(name=prefix + s.name, repeat=times, group=prefix) for s in steps]


def norm(name: str, kind: str, flow: str = "x:stream y:normed", rows: str = "B*N", cols: str = "D") -> Step:
    """A LayerNorm or RMSNorm over the width."""
    return step(name, kind, flow, rows=rows, cols=cols)


def linear(
    name: str, D_in: Any, D_out: Any, flow: str, *, bias: bool = False, tied: bool = False, **sizes: Any
) -> Step:
    """A linear layer with or without bias."""
    return step(name, "linear_bias" if bias else "linear", flow, tied=tied, D_in=D_in, D_out=D_out, **sizes)


def residual(name: str, branch: str, **sizes: Any) -> Step:
    """The stream takes up a branch."""
    return step(name, "residual", f"a:stream b:{branch} y:stream", **sizes)


def attention_core(
    name: str, *, keys: str, windowed: bool = False, cached: bool = True, flow: str = "", **sizes: Any
) -> Step:
    """Scores, softmax and values: ``keys`` is the symbol of how many are attended to."""
    flow = flow or "q:q k:k v:v out:heads"
    return step(name, "attention", flow, windowed=windowed, cached=cached, S=keys, **sizes)


def attention(
    *,
    qkv_bias: bool = False,
    out_bias: bool = False,
    rotary: str = "",
    qk_norm: str = "",
    qk_width: bool = False,
    windowed: bool = False,
    source: str = "normed",
    sinks: bool = False,
) -> list[Step]:
    """Self-attention from the normed stream to ``attended``.

    ``rotary`` is the number of a head's elements that are turned (none: no rotary positions), ``qk_norm`` a norm of
    each head's queries and keys, or with ``qk_width`` of all heads' together, ``sinks`` one learned score per head that joins every softmax.
    """
    steps = [
        linear("attention.q", "D", "H*d", f"x:{source} y:q", bias=qkv_bias),
        linear("attention.k", "D", "H_kv*d", f"x:{source} y:k", bias=qkv_bias),
        linear("attention.v", "D", "H_kv*d", f"x:{source} y:v", bias=qkv_bias),
    ]
    if qk_norm:
        for part, heads in (("q", "H"), ("k", "H_kv")):
            rows, cols = ("B*N", f"{heads}*d") if qk_width else (f"B*N*{heads}", "d")
            steps.append(norm(f"attention.{part}_norm", qk_norm, f"x:{part} y:{part}", rows, cols))
    if rotary:
        steps.append(step("attention.rope", "rope", "q:q k:k q_turned:q k_turned:k", d=rotary))
    if sinks:
        steps.append(step("attention.sinks", "learned", cols="H"))
    steps.append(attention_core("attention", keys="T_w" if windowed else "T", windowed=windowed))
    steps.append(linear("attention.project", "H*d", "D", "x:heads y:attended", bias=out_bias))
    return steps


def both_ways(steps: Iterable[Step]) -> list[Step]:
    """Attention of an encoder: every token sees all others, and no keys are kept for later ones."""
    return [s._replace(cached=False, unmasked=True) for s in steps]


def mlp(activation: str, *, bias: bool = False, width: str = "F", source: str = "normed") -> list[Step]:
    """D -> F -> D with an activation between, to ``fed``."""
    return [
        linear("mlp.up", "D", width, f"x:{source} y:hidden", bias=bias),
        step("mlp.activation", activation, "x:hidden y:active", numel=f"B*N*{width}"),
        linear("mlp.down", width, "D", "x:active y:fed", bias=bias),
    ]


def gated_mlp(gate: str, *, bias: bool = False, width: str = "F", source: str = "normed", name: str = "mlp",
              target: str = "fed") -> list[Step]:  # fmt: skip
    """D -> F -> D gated: three matrices; gate and up are one product of D x 2F."""
    return [
        linear(f"{name}.gate_up", "D", f"2*{width}", f"x:{source} y:gate_up", bias=bias),
        step(f"{name}.gate", gate, "gate:gate_up up:gate_up y:active", numel=f"B*N*{width}"),
        linear(f"{name}.down", width, "D", f"x:active y:{target}", bias=bias),
    ]


def experts(
    gate: str, *, bias: bool = False, router_bias: bool = False, shared: Sequence[Step] = (), source: str = "normed"
) -> list[Step]:
    """A router, A of E gated networks of width F_e for each token, and the shared network beside them, to ``fed``."""
    kind = "expert_linear_bias" if bias else "expert_linear"
    target = "routed" if shared else "fed"
    steps = [
        linear("moe.router", "D", "E", f"x:{source} y:router_scores", bias=router_bias),
        step("moe.route", "route", "scores:router_scores weights:router_weights"),
        step("moe.gate_up", kind, f"x:{source} y:gate_up", D_in="D", D_out="2*F_e"),
        step("moe.gate", gate, "gate:gate_up up:gate_up y:active", numel="B*N*A*F_e"),
        step("moe.down", kind, "x:active y:outputs", D_in="F_e", D_out="D"),
        step("moe.combine", "combine_experts", f"outputs:outputs weights:router_weights y:{target}"),
    ]
    if shared:
        steps += [*shared, step("moe.add", "add", "a:routed b:shared y:fed", numel="B*N*D")]
    return steps


def block(
    attended: Sequence[Step], fed: Sequence[Step], *, kind: str, second_norm: bool = True, parallel: bool = False,
    before: bool = True, after: bool = False, outer: bool = False, scaled: bool = False,
) -> list[Step]:  # fmt: skip
    """A decoder layer of both parts.

    ``before``: each part reads the stream through a norm; ``after``: its result is normed before it joins the stream;
    ``outer``: the stream is normed once the part has joined. ``parallel``: both parts read the stream at once, through
    one norm or two. ``scaled``: each result is multiplied by a constant.
    """

    def part(name: str, steps: Sequence[Step], result: str, *, normed: bool) -> list[Step]:
        found = [*([norm(f"{name}.norm", kind)] if normed else []), *steps]
        if after:
            found.append(norm(f"{name}.norm_after", kind, f"x:{result} y:{result}_normed"))
        if scaled:
            branch = _branch(result, after)
            found.append(step(f"{name}.scale", "scale", f"x:{branch} y:{branch}", numel="B*N*D"))
        return found

    def joined(name: str, result: str) -> list[Step]:
        normed = [norm(f"{name}.norm", kind, "x:stream y:stream")] if outer else []
        return [residual(f"{name}.residual", _branch(result, after)), *normed]

    first = part("attention", attended, "attended", normed=before)
    network = fed[0].name.partition(".")[0]  # mlp or moe
    second = part(network, fed, "fed", normed=before and second_norm)
    join = joined("attention", "attended")
    return [*first, *(second + join if parallel else join + second), *joined(network, "fed")]


def _branch(result: str, normed: bool) -> str:
    return f"{result}_normed" if normed else result


def embed(
    positions: int | None = None, *, types: int | None = None, kind: str = "", width: str = "D", offset: int = 0
) -> list[Step]:
    """Token rows, and learned positions, token types and a norm where the model has them, to ``stream``.

    ``offset`` is the number of rows that a table of positions has before the first.
    """
    parts = ["tokens"]
    steps = [step("embed.tokens", "embedding", "y:stream" if positions is None else "y:tokens", D=width)]
    if positions is not None:
        # NB the step after a full cache is counted, as whoever asks for one expects, though no position is left for it.
        steps.append(
            step(
                "embed.positions",
                "positions",
                "y:positions",
                D=width,
                V=positions + offset,
                T=f"S + {offset}" if offset else "S",
            )
        )
        parts.append("positions")
    if types is not None:
        steps.append(step("embed.types", "embedding", "y:types", D=width, V=types))
        parts.append("types")
    for number, part in enumerate(parts[1:], 1):
        first, last = ("tokens" if number == 1 else "embedded"), number == len(parts) - 1
        steps.append(
            step(
                f"embed.add_{part}",
                "add",
                f"a:{first} b:{part} y:{'stream' if last else 'embedded'}",
                numel=f"B*N*{width}",
            )
        )
    if kind:
        steps.append(norm("embed.norm", kind, "x:stream y:stream", cols=width))
    return steps


def decoder_phases(prompt: int, window: bool = False, positions: int | None = None) -> dict[str, dict[str, int | str]]:
    """Prompt, one token over a cache, and training: T keys are attended to, T_w within a window.

    In a prompt S counts the keys, N of them unless a chunk follows earlier ones; in decoding S are the tokens cached
    already, and the new one attends to itself as well: of ``positions`` learned ones the last is its own.
    """
    cached = prompt if positions is None else max(1, min(prompt, positions - 1))
    prefill: dict[str, int | str] = {"N": prompt, "S": "N", "T": "S"}
    decode: dict[str, int | str] = {"N": 1, "S": cached, "T": "S + N"}
    if window:
        # The first query of a chunk sees W keys, and each of the others one more: those before them are dropped.
        prefill["T_w"] = "min(S, W + N - 1)"
        decode["T_w"] = "min(S + N, W + N - 1)"
    return {"prefill": prefill, "decode": decode, "train": dict(prefill)}


def counted(pattern: Sequence[Kind]) -> list[tuple[Kind, int]]:
    """How many layers there are of each kind, in the order in which the kinds first stand."""
    return [(kind, pattern.count(kind)) for kind in dict.fromkeys(pattern)]
