"""Decoders that a description specifies: Llama's layer with other norms, biases, positions, windows or experts."""

from __future__ import annotations

from perfmodel.block import Step
from perfmodel.importers.config import Config
from perfmodel.importers.decoders import DECODERS
from perfmodel.importers.encoder import encoder_phases
from perfmodel.importers.model import Model
from perfmodel.importers.parts import (
    ACTIVATIONS,
    GATES,
    attention,
    block,
    both_ways,
    counted,
    decoder_phases,
    embed,
    experts,
    gated_mlp,
    layers,
    linear,
    mlp,
    norm,
    step,
)
from perfmodel.importers.reader import Layer, Reader, layer_names
from perfmodel.importers.tasks import choices, head

SOFTCAP = "the cap on attention scores, c tanh(s / c): two multiplications and a tanh per score"
SLOPES = "the ALiBi position biases that are added to the scores, one addition per score"
CLIP = "the clamp of queries, keys and values (clip_qkv): two comparisons per element"
CHUNKS = (
    "NB chunked attention is counted as a sliding window of one chunk, which has at most twice as many visible pairs."
)


def build(c: Config) -> Model:
    """The text model. Other parts of a multimodal model are listed as not counted."""
    kind = c.text("model_type")
    whole = DECODERS[kind]
    if whole.part and c.has(whole.part):
        c = c.nested(whole.part)
        kind = c.text("model_type", kind)
        c.must(kind in DECODERS, f"model_type '{kind}' is not supported", f"one of {', '.join(DECODERS)} is accepted")
    return _Builder(c, DECODERS[kind]._replace(tied=whole.tied)).model()


class _Builder(Reader):
    """The steps of a model from its config and description."""

    # --- sizes

    def model(self) -> Model:
        """The whole model."""
        sizes, pattern, P = self.sizes(), self.pattern(), self.positions()
        windowed = any(layer.window == "sliding" for layer in pattern) and not self.both
        prompt = 2048 if P is None else min(P, 2048)
        W = {"W": self.window() or 0} if windowed else {}
        return Model(
            title=f"{self.of.name} of {self.L} layers and width {sizes['D']}",
            sizes={**sizes, **self.networks(pattern, int(sizes["D"])), "V": self.size("vocab_size"), **W},
            phases=encoder_phases(prompt) if self.both else decoder_phases(prompt, window=windowed, positions=P),
            steps=(*self.embedding(P), *self.layers(pattern, sizes), *self.head()),
            notes=(CHUNKS,) if windowed and self.chunked() else (),
            not_counted=self.left_out(),
        )

    def layers(self, pattern: tuple[Layer, ...], sizes: dict[str, int | str]) -> list[Step]:
        """The layers of each kind, in the order of the first layer of each kind."""
        names = layer_names(pattern)
        found: list[Step] = []
        for layer, number in counted(pattern):
            found += layers(names[layer], number, self.layer(layer, sizes))
        return found

    def networks(self, pattern: tuple[Layer, ...], D: int) -> dict[str, int | str]:
        """Widths of the plain network and of the experts, where layers have them."""
        plain = {} if all(layer.sparse for layer in pattern) else {"F": self.plain_width(D)}
        return {**plain, **(self.expert_sizes() if any(layer.sparse for layer in pattern) else {})}

    def sizes(self) -> dict[str, int | str]:
        """Width and heads. With a separate head size, the heads need not add up to the width."""
        D, H = self.size("hidden_size"), self.size("num_attention_heads")
        single = bool(self.of.single_head) and self.c.flag(self.of.single_head, True)
        grouped = not self.of.single_head  # a model with the flag has one key-value head or as many as query heads
        H_kv = 1 if single else self.derived("num_key_value_heads", H) if grouped else H
        self.c.divides(H, H_kv, "each group of query heads shares one key-value head")
        d = (
            self.derived("head_dim", 0)
            or (D // H if self.of.uneven else 0)
            or self.c.divides(D, H, "without head_dim the heads share the width evenly")
        )
        self.c.must(H * d == D or not self.of.square, f"{H} heads of {d} do not add up to the width {D}",
                    "heads that add up to it are accepted")  # fmt: skip
        return {"B": 1, "D": D, "H": H, "H_kv": H_kv, "d": d}

    def plain_width(self, D: int) -> int:
        if self.of.widening:
            return self.derived("intermediate_size", self.of.widening * D)
        return self.size("intermediate_size")

    def expert_sizes(self) -> dict[str, int | str]:
        e = self.of.experts
        assert e is not None
        other = "num_local_experts" if e.number == "num_experts" else "num_experts"
        E, A = self.given(e.number, also=other), self.given(e.chosen)
        self.c.must(A <= E, f"{A} of {E} experts per token", "at most all experts are accepted")
        return {"F_e": self.given(e.width), "E": E, "A": A}

    def positions(self) -> int | None:
        return self.size("max_position_embeddings") if self.of.positions == "learned" else None

    # --- steps

    def turned(self, d: int) -> int:
        """The number of elements of a head that are rotated."""
        if self.of.turned_size:
            size = self.derived(self.of.turned_size, d)
            key = self.of.turned_size
            self.c.must(size <= d, f"{key} is {size}", f"at most {d}, the size of a head, is accepted")
            return size
        if self.of.turned == 1 and not self.of.turned_key:
            return d
        return int(d * self.c.rotary_share(self.of.turned, also=self.of.turned_key))

    def layer(self, layer: Layer, sizes: dict[str, int | str]) -> list[Step]:
        of = self.of
        before, after = self.on(of.before), self.on(of.after)
        parallel = self.on(of.parallel)
        source = "normed" if before else "stream"
        turned = self.turned(int(sizes["d"])) if layer.rotary else 0
        qk_norm = of.qk_norm if self.on(of.qk_normed) and (layer.rotary or not of.qk_turned_only) else ""
        attended = attention(
            qkv_bias=self.on(of.qkv_bias),
            out_bias=self.on(of.out_bias),
            rotary=str(turned) if turned else "",
            qk_norm=qk_norm,
            qk_width=of.qk_width,
            windowed=layer.window == "sliding" and not self.both,
            source=source,
            sinks=of.sinks,
        )
        return block(
            both_ways(attended) if self.both else attended,
            self.experts(source) if layer.sparse else self.network(source),
            kind=of.norm,
            second_norm=not (parallel and of.one_norm),
            parallel=parallel,
            before=before,
            after=after,
            outer=of.outer,
            scaled=self.factor(of.residual_factor),
        )

    def activation(self) -> str:
        keys = (self.name("hidden_act"), "hidden_act")
        words = {**ACTIVATIONS, **self.of.activations}
        return self.c.choice(words, *dict.fromkeys(keys), default=self.of.activation)

    def network(self, source: str) -> list[Step]:
        bias = self.on(self.of.mlp_bias)
        if self.of.gated:
            return gated_mlp(self.gate(), bias=bias, source=source)
        return mlp(self.activation(), bias=bias, source=source)

    def gate(self) -> str:
        return self.of.gate or GATES[self.activation()]

    def experts(self, source: str) -> list[Step]:
        e, gate = self.of.experts, self.gate()
        assert e is not None
        routed = experts(gate, bias=e.bias, router_bias=e.router_bias, shared=self.shared(gate, source), source=source)
        if e.correction:
            routed.insert(1, step("moe.correction", "learned", cols="E"))
        return routed

    def shared(self, gate: str, source: str) -> list[Step]:
        """The shared network beside the routed ones, with a gate of one number per token where the model has one."""
        e = self.of.experts
        assert e is not None
        if e.shared_width:
            width = self.count(e.shared_width)
        else:
            number = e.shared if isinstance(e.shared, int) else self.count(e.shared)
            width = number * self.given(e.width)
        if not width:
            return []
        target = "shared_plain" if e.shared_gate else "shared"
        bias = self.on(self.of.mlp_bias) and not e.bias
        steps = gated_mlp(gate, name="moe.shared", width=str(width), target=target, bias=bias, source=source)
        if e.shared_gate:
            steps += [
                linear("moe.shared_gate", "D", 1, f"x:{source} y:shared_score"),
                step("moe.shared_sigmoid", "sigmoid", "x:shared_score y:shared_weight", numel="B*N"),
                step("moe.shared_scale", "scale", "x:shared_plain y:shared", numel="B*N*D"),
            ]
        return steps

    def embedding(self, P: int | None) -> list[Step]:
        of = self.of
        scaled = of.embedding_scaled if isinstance(of.embedding_scaled, bool) else self._scaled(of.embedding_scaled)
        scale = [step("embed.scale", "scale", "x:stream y:stream", numel="B*N*D")] if scaled else []
        normed = [norm("embed.norm", of.norm, "x:stream y:stream")] if of.embedding_norm else []
        return [*embed(P, offset=of.offset), *scale, *normed]

    def _scaled(self, key: str) -> bool:
        return self.on(key) if isinstance(self.c.document.get(key, self.of.own.get(key)), bool) else self.factor(key)

    def head(self) -> list[Step]:
        of = self.of
        kind = "" if of.outer else of.norm
        return head(
            self.c,
            kind,
            tied=of.tied,
            bias=self.on(of.head_bias),
            softcap=self.capped("final_logit_softcapping"),
            scaled=self.factor(of.logit_factor),
            more={"DoubleHeadsModel": lambda: choices(self.c, kind)} if of.choices else None,
        )

    def left_out(self) -> tuple[str, ...]:
        of = self.of
        return (
            *((SOFTCAP,) if self.capped("attn_logit_softcapping") else ()),
            *((SLOPES,) if of.positions == "slopes" else ()),
            *((CLIP,) if self.c.has("clip_qkv") else ()),
        )
