"""RWKV 4: a decaying mean of values in the place of attention, token shifts, a gated network; a state, no cache."""

from __future__ import annotations

from perfmodel.block import Step
from perfmodel.importers.config import Config
from perfmodel.importers.model import Model
from perfmodel.importers.parts import embed, layers, linear, norm, residual, step
from perfmodel.importers.tasks import head


def build(c: Config) -> Model:
    """attention_hidden_size is the width of the recurrence; the first layer norms the embedding once more."""
    D, L = c.size("hidden_size"), c.size("num_hidden_layers")
    A = c.size("attention_hidden_size", D, derived=True)
    layer = [*_mixing(A), *_network()]
    return Model(
        title=f"RWKV of {L} layers and width {D}",
        sizes={"B": 1, "D": D, "F": c.size("intermediate_size", 4 * D, derived=True), "V": c.size("vocab_size")},
        phases={"prefill": {"N": 1024}, "decode": {"N": 1, "S": 1024}, "train": {"N": 1024}},
        steps=(
            *embed(kind="layernorm"),
            *layers("layers", L, layer),
            *head(c, "layernorm", tied=False),
        ),
        notes=("The state is of constant size: a decoding step costs the same after any number of tokens.",),
    )


def _shift(name: str, target: str) -> Step:
    return step(name, "token_shift", f"x:normed mixed:{target}")


def _mixing(A: int) -> list[Step]:
    return [
        norm("mixing.norm", "layernorm"),
        *(_shift(f"mixing.shift_{part}", f"{part}_in") for part in "kvr"),
        *(linear(f"mixing.{part}", "D", A, f"x:{part}_in y:{part}") for part in "kvr"),
        step("mixing.sigmoid", "sigmoid", "x:r y:r_gate", numel=f"B*N*{A}"),
        step("mixing.wkv", "wkv", "k:k v:v y:wkv", D=A),
        step("mixing.gate", "mul", "a:r_gate b:wkv y:gated", numel=f"B*N*{A}"),
        linear("mixing.out", A, "D", "x:gated y:mixed"),
        residual("mixing.residual", "mixed"),
    ]


def _network() -> list[Step]:
    return [
        norm("mlp.norm", "layernorm"),
        *(_shift(f"mlp.shift_{part}", f"{part}_in") for part in "kr"),
        linear("mlp.k", "D", "F", "x:k_in y:hidden"),
        step("mlp.relu_squared", "relu_squared", "x:hidden y:active", numel="B*N*F"),
        linear("mlp.v", "F", "D", "x:active y:fed_plain"),
        linear("mlp.r", "D", "D", "x:r_in y:r"),
        step("mlp.sigmoid", "sigmoid", "x:r y:r_gate", numel="B*N*D"),
        step("mlp.gate", "mul", "a:r_gate b:fed_plain y:fed", numel="B*N*D"),
        residual("mlp.residual", "fed"),
    ]
