"""Mamba: a gated recurrence per channel instead of attention and a network; a state instead of a cache.

NB the convolution is counted over the positions that transformers' padded kernel computes, which are more than the N
that it keeps. They are N + K - 1 in a prompt and 2 in a decoding step of one token. In a step of several tokens they
are N + 2 K - 1: the tokens are padded again after the K positions of the state.
"""

from __future__ import annotations

from perfmodel.block import Step
from perfmodel.importers.config import Config
from perfmodel.importers.model import Model
from perfmodel.importers.parts import ACTIVATIONS, embed, layers, linear, norm, residual, step
from perfmodel.importers.tasks import head


def _normed(rank: int) -> list[Step]:
    """Falcon Mamba's norms without weights, of the time step and of both read-out vectors."""
    widths = {"time_step": rank, "b": "X", "c": "X"}
    return [norm(f"mixer.norm_{name}", "rmsnorm_plain", "x:parameters y:parameters", cols=str(width))
            for name, width in widths.items()]  # fmt: skip


def build(c: Config) -> Model:
    """F is the inner width and X the number of states per channel. The time step has its own rank."""
    D, L = c.size("hidden_size"), c.size("num_hidden_layers", also="n_layer")
    F = c.size("intermediate_size", c.size("expand", 2) * D, derived=True)
    rank = -(-D // 16) if c.document.get("time_step_rank") in (None, "auto") else c.size("time_step_rank")
    bias = c.flag("use_bias", False)
    act = c.choice(ACTIVATIONS, "hidden_act", default="silu")
    c.must(c.flag("use_conv_bias", True), "use_conv_bias is false", "true is accepted")
    layer = [
        norm("norm", "rmsnorm"),
        linear("mixer.in", "D", "2*F", "x:normed y:inner", bias=bias),
        step("mixer.conv", "conv1d", "u:inner out:convolved", N="N_c", D="F"),
        step("mixer.activation", act, "x:convolved y:u", numel="B*N*F"),
        linear("mixer.parameters", "F", f"{rank} + 2*X", "x:u y:parameters"),
        *(_normed(rank) if c.text("model_type") == "falcon_mamba" else ()),
        linear("mixer.time_step", rank, "F", "x:parameters y:delta", bias=True),
        step("mixer.scan", "selective_scan", "u:u delta:delta b:parameters c:parameters y:scanned", D="F"),
        step("mixer.gate", "silu_gate", "gate:inner up:scanned y:gated", numel="B*N*F"),
        linear("mixer.out", "F", "D", "x:gated y:mixed", bias=bias),
        residual("residual", "mixed"),
    ]
    return Model(
        title=f"Mamba of {L} layers and width {D}",
        sizes={
            "B": 1,
            "D": D,
            "F": F,
            "X": c.size("state_size", 16),
            "K": c.size("conv_kernel", 4),
            "V": c.size("vocab_size"),
        },
        phases={
            "prefill": {"N": 2048, "N_c": "N + K - 1"},
            "decode": {"N": 1, "S": 2048, "N_c": "N + 1 + min(N - 1, 1) * (2 * K - 2)"},
            "train": {"N": 2048, "N_c": "N + K - 1"},
        },
        steps=(*embed(), *layers("layers", L, layer), *head(c, "rmsnorm", tied=True)),
        notes=("The state has a constant size: a decoding step costs the same after any number of tokens.",),
    )
