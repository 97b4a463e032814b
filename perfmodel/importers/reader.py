"""A config read with a description: its sizes, and the kinds of its layers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from perfmodel.errors import shown
from perfmodel.importers.config import Config
from perfmodel.importers.description import Decoder, Switch

WINDOW_WORDS = {"sliding_attention": "sliding", "chunked_attention": "sliding", "full_attention": "full"}


class Layer(NamedTuple):
    """The properties in which the layers of one model differ."""

    window: str
    rotary: bool
    sparse: bool


class Reader:
    """A config and its description."""

    def __init__(self, c: Config, description: Decoder) -> None:
        self.c, self.of = c, description
        self.L = self.size("num_hidden_layers")
        self.both = bool(description.both_ways) and c.flag(description.both_ways, False)
        for key in description.refused.split():
            c.must(not c.flag(key, False), f"{key} is true", "false is accepted")
        c.ignore(*description.unread.split(), *self._overruled())

    def _overruled(self) -> Iterator[str]:
        """Keys that a list of layer kinds overrides, and sizes that no layer uses."""
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
        """The name of a size in the config."""
        return self.of.keys.get(key, key)

    def size(self, key: str) -> int:
        """A size from the config, or the architecture's default."""
        return self.given(self.name(key), also=key)

    def given(self, name: str, *, also: str = "") -> int:
        """A size by its name in the config."""
        own = self.of.own.get(name, self.of.own.get(also))
        return self.c.size(name, also=also) if own is None else self.c.size(name, own, also=also)

    def derived(self, key: str, otherwise: int) -> int:
        """A size that is ``otherwise`` where it is null in the config, or absent without a default."""
        name = self.name(key)
        null = name in self.c.document and not self.c.has(name)
        if null or (key not in self.of.own and not self.c.has(name)):
            return self.c.size(key, otherwise, derived=True) if otherwise else 0
        return self.size(key)

    def count(self, key: str) -> int:
        """A number that may be 0. It is 0 where neither the config nor the architecture gives it."""
        return self.c.count(key, int(self.of.own.get(key, 0))) if key else 0

    def on(self, switch: Switch) -> bool:
        """A constant of the architecture, or a flag of the config."""
        return switch if isinstance(switch, bool) else self.c.flag(switch, bool(self.of.own.get(switch, False)))

    def factor(self, key: str) -> bool:
        """Whether a multiplier is given and is not 1."""
        if key in self.of.own and key not in self.c.document:
            return bool(self.c.assume(key, self.of.own[key]) != 1)
        return bool(key) and self.c.multiplier(key)

    def capped(self, key: str) -> bool:
        """Whether scores are capped, by the config or by the architecture's default."""
        if key in self.of.own and key not in self.c.document:
            return bool(self.c.assume(key, self.of.own[key]))
        return self.of.softcapped and self.c.cap(key)

    # --- kinds of layers

    def window(self) -> int | None:
        w = self.of.windows
        if w is None or (w.switch and not self.on(w.switch)):
            return None
        return self.c.size_or_none(w.size, self.of.own.get(w.size))

    def chunked(self) -> bool:
        return self.of.windows is not None and "chunk" in self.of.windows.size

    def pattern(self) -> tuple[Layer, ...]:
        """The kind of each layer."""
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
        """Whether each layer rotates queries and keys."""
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
            self.c.must(known, f"{self.of.unturned} is {shown(given)}", f"a list of 0 and 1 for {L} layers is accepted")
            return tuple(map(bool, given[:L]))
        interval = self.c.size("no_rope_layer_interval", 4)
        return tuple((i + 1) % interval != 0 for i in range(L))

    def sparse(self) -> tuple[bool, ...]:
        """Whether each layer has experts instead of the network."""
        e, L = self.of.experts, self.L
        if e is None:
            return (False,) * L
        given = self.c.words("mlp_layer_types", L, ("dense", "sparse")) if e.typed else None
        if given:
            return tuple(word == "sparse" for word in given)
        if e.listed and self.c.document.get(e.listed) is not None:
            listed = self.c.numbers(e.listed, L)
            return tuple(i in listed for i in range(L))
        dense = self.c.numbers(e.plain, L) if e.plain else ()
        named = isinstance(e.first, str) and e.first
        first = self.c.first_layers(named, int(self.of.own.get(named, 0)), L) if named else int(e.first or 0)
        last = self._last(e.last)
        every = self.count(e.every) or 1
        return tuple(first <= i <= last and (i + 1) % every == 0 and i not in dense for i in range(L))

    def _last(self, key: str) -> int:
        value = self.c.document.get(key, -1) if key else -1
        known = type(value) is int and -1 <= value < self.L
        self.c.must(
            known,
            f"{key} is {shown(value)}",
            f"a layer number from 0 to {self.L - 1}, or -1 for the last layer, is accepted",
        )
        return self.L - 1 if value == -1 else int(value)


def layer_names(pattern: tuple[Layer, ...]) -> dict[Layer, str]:
    """A name for each kind of layer, from the properties in which the kinds differ."""
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
