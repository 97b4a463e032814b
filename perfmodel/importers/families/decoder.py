"""Decoders that a description tells apart: Llama's layer with other norms, biases, positions, windows or experts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from perfmodel.block import Step
from perfmodel.importers.config import Config
from perfmodel.importers.decoders import DECODERS, Decoder, Switch
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
from perfmodel.importers.tasks import choices, head

SOFTCAP = "the cap on attention scores, c tanh(s / c): two multiplications and a tanh per score"
SLOPES = "the position slopes (ALiBi) that are added to the scores, one addition per score"
CLIP = "the clamp of queries, keys and values (clip_qkv): two comparisons per element"
CHUNKS = (
    "NB layers with chunked attention are counted as a sliding window of one chunk: at most twice their visible pairs."
)
WINDOW_WORDS = {"sliding_attention": "sliding", "chunked_attention": "sliding", "full_attention": "full"}


class Layer(NamedTuple):
    """What tells the layers of one model apart."""

    window: str
    rotary: bool
    sparse: bool


def build(c: Config) -> Model:
    """The text part of a model that also sees is taken alone; what is left out is named."""
    kind = c.text("model_type")
    if DECODERS[kind].part and c.has(DECODERS[kind].part):
        c = c.nested(DECODERS[kind].part)
        kind = c.text("model_type", kind)
        c.must(kind in DECODERS, f"model_type '{kind}' has no description", f"one of {', '.join(DECODERS)} is accepted")
    return _Reader(c, DECODERS[kind]).model()


class _Reader:
    """A config read by a description."""

    def __init__(self, c: Config, description: Decoder) -> None:
        self.c, self.of = c, description
        self.L = self.size("num_hidden_layers")
        self.both = bool(description.both_ways) and c.flag(description.both_ways, False)
        for key in description.refused.split():
            c.must(not c.flag(key, False), f"{key} is asked for", "false is accepted")
        c.ignore(*description.unread.split(), *self._overruled())

    def _overruled(self) -> Iterator[str]:
        """Keys that say less than a list of the layers' kinds beside them, or give a size that no layer has."""
        yield self.name("intermediate_size")
        w, e = self.of.windows, self.of.experts
        if w is not None:
            yield from (w.size, w.key, f"_{w.key}", w.after, w.before)
        if self.of.unturned == "no_rope_layers":
            yield "no_rope_layer_interval"
        if e is not None:
            yield from (key for key in (e.width, e.first, e.last, e.every, e.plain) if isinstance(key, str))

    # --- reading keys

    def name(self, key: str) -> str:
        """The config's own name of a size."""
        return self.of.keys.get(key, key)

    def size(self, key: str) -> int:
        """A size that the config gives, or the architecture."""
        return self.given(self.name(key), also=key)

    def given(self, name: str, *, also: str = "") -> int:
        """A size under the config's own name."""
        own = self.of.own.get(name, self.of.own.get(also))
        return self.c.size(name, also=also) if own is None else self.c.size(name, own, also=also)

    def derived(self, key: str, otherwise: int) -> int:
        """A size that follows from others where the config sets it to null, or neither it nor the architecture has it."""
        name = self.name(key)
        null = name in self.c.document and not self.c.has(name)
        if null or (key not in self.of.own and not self.c.has(name)):
            return self.c.size(key, otherwise, derived=True) if otherwise else 0
        return self.size(key)

    def count(self, key: str) -> int:
        """A number that may be 0, and is where neither the config nor the architecture says otherwise."""
        return self.c.count(key, int(self.of.own.get(key, 0))) if key else 0

    def on(self, switch: Switch) -> bool:
        """A fixed fact of the architecture, or a flag of the config."""
        return switch if isinstance(switch, bool) else self.c.flag(switch, bool(self.of.own.get(switch, False)))

    def factor(self, key: str) -> bool:
        """Whether a multiplier is there and changes anything."""
        value = self.c.document.get(key, self.of.own.get(key)) if key else None
        return value is not None and value != 1

    def capped(self, key: str) -> bool:
        """Whether scores are capped: by the config, or by the architecture where the key is absent."""
        if key in self.of.own and key not in self.c.document:
            return bool(self.c.assume(key, self.of.own[key]))
        return self.of.softcapped and self.c.has(key)

    # --- sizes

    def model(self) -> Model:
        sizes = self.sizes()
        pattern = self.pattern()
        window = self.window()
        windowed = any(layer.window == "sliding" for layer in pattern) and not self.both
        P = self.positions()
        prompt = 2048 if P is None else min(P, 2048)
        steps: list[Step] = []
        names = _names(pattern)
        for layer, number in counted(pattern):
            steps += layers(names[layer], number, self.layer(layer, sizes))
        dense = not all(layer.sparse for layer in pattern)
        F = {"F": self.plain_width(int(sizes["D"]))} if dense else {}
        E = self.expert_sizes() if any(layer.sparse for layer in pattern) else {}
        return Model(
            title=f"{self.of.name} of {self.L} layers and width {sizes['D']}",
            sizes={**sizes, **F, "V": self.size("vocab_size"), **E, **({"W": window} if windowed and window else {})},
            phases=encoder_phases(prompt) if self.both else decoder_phases(prompt, window=windowed, positions=P),
            steps=(*self.embedding(P), *steps, *self.head()),
            notes=(CHUNKS,) if windowed and self.chunked() else (),
            not_counted=self.left_out(),
        )

    def sizes(self) -> dict[str, int | str]:
        """Width and heads; heads of a size of their own need not add up to the width."""
        D, H = self.size("hidden_size"), self.size("num_attention_heads")
        single = self.of.single_head and self.c.flag(self.of.single_head, True)
        H_kv = 1 if single else self.derived("num_key_value_heads", H)
        self.c.divides(H, H_kv, "each group of query heads shares one key-value head")
        d = self.derived("head_dim", 0) or self.c.divides(D, H, "without head_dim the heads share the width evenly")
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
        self.c.must(A <= E, f"{A} experts per token of {E}", "no more than there are is accepted")
        return {"F_e": self.given(e.width), "E": E, "A": A}

    def positions(self) -> int | None:
        return self.size("max_position_embeddings") if self.of.positions == "learned" else None

    # --- what tells layers apart

    def window(self) -> int | None:
        w = self.of.windows
        if w is None or (w.switch and not self.on(w.switch)):
            return None
        return self.c.size_or_none(w.size, self.of.own.get(w.size))

    def chunked(self) -> bool:
        return self.of.windows is not None and "chunk" in self.of.windows.size

    def pattern(self) -> tuple[Layer, ...]:
        """Each layer's kind."""
        windows = self.windows()
        rotary = self.rotary(windows)
        return tuple(map(Layer, windows, rotary, self.sparse()))

    def windows(self) -> tuple[str, ...]:
        w, L = self.of.windows, self.L
        if w is None:
            return ("full",) * L
        given = self.c.words("layer_types", L, tuple(WINDOW_WORDS))
        if self.window() is None:
            return ("full",) * L
        if given:
            return tuple(WINDOW_WORDS[word] for word in given)
        if w.unturned:
            return tuple("sliding" if turned else "full" for turned in self.rotary(("full",) * L))
        every = self.c.size(w.key, w.every, also=f"_{w.key}") if w.key else w.every
        first, last = self.count(w.after), self.count(w.before) if w.before else L

        def full(i: int) -> bool:
            return not first <= i < last or bool(every and (i + (0 if w.first else 1)) % every == 0)

        return tuple("full" if full(i) else "sliding" for i in range(L))

    def rotary(self, windows: tuple[str, ...]) -> tuple[bool, ...]:
        """Which layers turn queries and keys."""
        L = self.L
        if self.of.positions != "rotary":
            return (False,) * L
        if self.of.unturned == "full":
            return tuple(word == "sliding" or "sliding" not in windows for word in windows)
        if not self.of.unturned:
            return (True,) * L
        given = self.c.document.get(self.of.unturned)
        if given:
            known = isinstance(given, list) and len(given) >= L and all(word in (0, 1) for word in given)
            self.c.must(known, f"{self.of.unturned} is no list of 0 and 1 for {L} layers", "such a list is accepted")
            return tuple(map(bool, given[:L]))
        interval = self.c.size("no_rope_layer_interval", 4)
        return tuple((i + 1) % interval != 0 for i in range(L))

    def sparse(self) -> tuple[bool, ...]:
        """Which layers have experts in the place of the network."""
        e, L = self.of.experts, self.L
        if e is None:
            return (False,) * L
        given = self.c.words("mlp_layer_types", L, ("dense", "sparse")) if e.typed else None
        if given:
            return tuple(word == "sparse" for word in given)
        if e.listed and self.c.document.get(e.listed) is not None:
            listed = self.c.numbers(e.listed)
            return tuple(i in listed for i in range(L))
        dense = self.c.numbers(e.plain) if e.plain else ()
        first = e.first if isinstance(e.first, int) else self.count(e.first)
        last = self._last(e.last)
        every = self.count(e.every) or 1
        return tuple(first <= i <= last and (i + 1) % every == 0 and i not in dense for i in range(L))

    def _last(self, key: str) -> int:
        value = self.c.document.get(key, -1) if key else -1
        known = type(value) is int and value >= -1
        self.c.must(known, f"{key} is {value}", "the number of a layer, or -1 for the last, is accepted")
        return self.L - 1 if value == -1 else int(value)

    # --- steps

    def turned(self, d: int) -> int:
        """How many of a head's elements are turned."""
        if self.of.turned_size:
            return self.derived(self.of.turned_size, d)
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
            self.experts() if layer.sparse else self.network(source),
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
        bias, act = self.on(self.of.mlp_bias), self.activation()
        return (
            gated_mlp(self.gate(act), bias=bias, source=source) if self.of.gated else mlp(act, bias=bias, source=source)
        )

    def gate(self, act: str) -> str:
        return self.of.gate or GATES[act]

    def experts(self) -> list[Step]:
        e, gate = self.of.experts, self.gate(self.activation())
        assert e is not None
        routed = experts(gate, bias=e.bias, router_bias=e.router_bias, shared=self.shared(gate))
        if e.correction:
            routed.insert(1, step("moe.correction", "learned", cols="E"))
        return routed

    def shared(self, gate: str) -> list[Step]:
        """The network beside the routed ones, weighted by a gate of one number per token where there is one."""
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
        steps = gated_mlp(gate, name="moe.shared", width=str(width), target=target, bias=bias)
        if e.shared_gate:
            steps += [
                linear("moe.shared_gate", "D", 1, "x:normed y:shared_score"),
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


def _names(pattern: tuple[Layer, ...]) -> dict[Layer, str]:
    """A name for each kind of layer, of the words in which the kinds differ."""
    kinds = tuple(dict.fromkeys(pattern))
    differ = [len({kind[place] for kind in kinds}) > 1 for place in range(3)]
    windows = {kind.window for kind in kinds}
    if differ[0] and len(kinds) == len(windows):
        differ[1] = False
    words = {
        kind: (kind.window, "turned" if kind.rotary else "unturned", "experts" if kind.sparse else "dense")
        for kind in kinds
    }
    return {
        kind: ".".join(("layers", *(word for word, shown in zip(found, differ, strict=True) if shown)))
        for kind, found in words.items()
    }
