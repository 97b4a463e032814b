"""A model's config, read strictly: sizes are integers and flags true or false. Assumed values are reported."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from perfmodel.errors import InputError, did_you_mean, said, shown
from perfmodel.importers.keys import UNCOUNTED, unread
from perfmodel.units import CAP, ITEM_BYTES, MULTIPLIER, SHARE, checked_size

_REQUIRED = object()
# Keys of the number of layers, which are listed one by one, and the largest accepted number.
LAYERS = frozenset(
    ("num_hidden_layers", "n_layer", "n_layers", "num_layers", "num_decoder_layers", "encoder_layers", "decoder_layers")
)
# The data types of torch, by the names that a config gives them.
TORCH_DTYPES = {
    "float64": "fp64", "float32": "fp32", "float": "fp32", "float16": "fp16", "half": "fp16", "bfloat16": "bf16",
    "float8_e4m3fn": "fp8", "float8_e5m2": "fp8", "int8": "int8",
}  # fmt: skip
DEFAULT_DTYPE = "fp16"
MOST_LAYERS = 10_000


class Asked(Mapping[str, Any]):
    """A dictionary that records which keys were read."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self.keys_asked: set[str] = set()
        self._document = document

    def __getitem__(self, key: str) -> Any:
        self.keys_asked.add(key)
        if self._document.get(key) is None and key not in self._document:
            raise KeyError(key)
        return self._document.get(key)

    def __contains__(self, key: object) -> bool:
        self.keys_asked.add(str(key))
        return key in self._document

    def __iter__(self) -> Iterator[str]:
        return iter(self._document)

    def unasked(self) -> dict[str, Any]:
        """The entries that were not read."""
        return {key: self._document[key] for key in self._document if key not in self.keys_asked}

    def __len__(self) -> int:
        return len(self._document)


class Config:
    """A config and its location. Every error names the key and the location."""

    def __init__(self, document: Mapping[str, Any], where: str) -> None:
        self.document = Asked(document)
        self.where = where
        self.notes: list[str] = []
        self.assumed: dict[str, Any] = {}
        self.parts: list[Config] = []
        self.whole = self
        self.turns_part = False

    def nested(self, key: str) -> Config:
        """The config of one part of a model. Its notes are added to the whole config's."""
        value = self.document.get(key)
        if not isinstance(value, dict):
            raise self._wrong(key, value, "an object is accepted", f'Add "{key}": {{…}}.')
        inner = Config(value, f"{self.where}: {key}")
        inner.notes, inner.assumed = self.notes, self.assumed
        inner.whole = self.whole
        self.parts.append(inner)
        return inner

    def has(self, key: str) -> bool:
        """Whether the key is present and not null."""
        return self.document.get(key) is not None

    def ignore(self, *keys: str) -> None:
        """Mark keys as read that never change a count."""
        for key in keys:
            self.document.get(key)

    def size(self, key: str, default: Any = _REQUIRED, *, also: str = "", derived: bool = False) -> int:
        """An integer of at least 1; ``also`` is another name of the key.

        ``default`` is the architecture's value for configs without the key. A note reports it, unless it is ``derived``
        from given sizes.
        """
        found = key if self.has(key) or not (also and self.has(also)) else also
        value = self.document.get(found)
        if value is None:
            if default is _REQUIRED:
                raise InputError(
                    self.where, f"'{key}' is {'null' if key in self.document else 'missing'}",
                    "this model_type requires it", self._near(key) or f'Add "{key}": a whole number.',
                )  # fmt: skip
            return int(default) if derived else int(self.assume(key, default))
        size = checked_size(value, f"{self.where}: {found}")
        if found in LAYERS and size > MOST_LAYERS:
            raise self._wrong(found, value, f"at most {MOST_LAYERS:,} layers are accepted")
        return size

    def size_or_none(self, key: str, default: int | None = None) -> int | None:
        """An integer, or None where the key is null; the architecture's default where it is absent."""
        if key not in self.document:
            return default if default is None else self.size(key, default)
        return self.size(key) if self.has(key) else None

    def assumptions(self) -> tuple[str, ...]:
        """The note that lists the defaults that were assumed."""
        told = ", ".join(f"{key} = {said(value)}" for key, value in self.assumed.items())
        return (f"Not in the config; the default of this model_type is used: {told}.",) if told else ()

    def assume(self, key: str, value: Any) -> Any:
        """A default that is not in the config. It is reported if it adds something to the model."""
        if value not in (False, 0, None):
            self.assumed[key] = value
        return value

    def flag(self, key: str, default: bool) -> bool:
        """true or false."""
        value = self.document.get(key)
        if value is None:
            return bool(self.assume(key, default))
        if not isinstance(value, bool):
            raise self._wrong(key, value, "true or false is accepted")
        return value

    def text(self, key: str, default: Any = _REQUIRED) -> str:
        """A string."""
        value = self.document.get(key)
        if value is None and default is not _REQUIRED:
            return str(self.assume(key, default) or "")
        if not isinstance(value, str):
            raise self._wrong(key, value, "a string is accepted", f'Add "{key}".')
        return value

    def choice(self, choices: Mapping[str, str], *keys: str, default: str) -> str:
        """The meaning of one of the known words, from the first of the keys that is present."""
        key = next((key for key in keys if self.has(key)), keys[0])
        word = self.text(key, default)
        if word not in choices:
            raise InputError(
                f"{self.where}: {key}", f"{shown(word)} is not supported", f"one of {', '.join(choices)} is accepted",
                did_you_mean(word, choices),
            )  # fmt: skip
        return choices[word]

    def words(self, key: str, length: int, choices: tuple[str, ...]) -> tuple[str, ...] | None:
        """A list of known words, one for each layer; None where the key is absent."""
        value = self.document.get(key)
        if value is None:
            return None
        if not isinstance(value, list) or not all(isinstance(word, str) and word in choices for word in value):
            raise self._wrong(key, value, f"a list of {' and '.join(choices)} is accepted")
        if len(value) != length:
            raise self._wrong(key, f"{len(value)} entries", f"{length}, one for each layer, are accepted")
        return tuple(value)

    def numbers(self, key: str, layers: int) -> tuple[int, ...]:
        """A list of numbers of the layers; empty where the key is absent."""
        value = self.document.get(key)
        if value is None:
            return ()
        if not isinstance(value, list) or not all(type(item) is int and 0 <= item < layers for item in value):
            raise self._wrong(key, value, f"a list of layer numbers from 0 to {layers - 1} is accepted")
        return tuple(value)

    def first_layers(self, key: str, default: int, layers: int) -> int:
        """A number of first layers, at most all of them. The architecture's default may exceed a small model."""
        given = self.count(key, default)
        if self.has(key) and given > layers:
            raise self._wrong(key, given, f"at most {layers}, the number of layers, is accepted")
        return min(layers, given)

    def cap(self, key: str) -> bool:
        """Whether the key has a cap of scores."""
        if not self.has(key):
            return False
        CAP.checked(self.document.get(key), f"{self.where}: {key}")
        return True

    def multiplier(self, key: str) -> bool:
        """Whether the key has a multiplier other than 1."""
        return self.has(key) and bool(MULTIPLIER.checked(self.document.get(key), f"{self.where}: {key}") != 1)

    def dtype(self) -> str:
        """The data type in which the model is stored: that of the config, of one of its parts, or fp16."""
        for config in (self, *self.parts):
            for key in ("dtype", "torch_dtype"):
                name = config.document.get(key)
                if name is None or name == "auto":
                    continue
                bare = name.removeprefix("torch.") if isinstance(name, str) else ""
                if bare not in TORCH_DTYPES and bare not in ITEM_BYTES:
                    raise config._wrong(key, name, f"one of {', '.join(TORCH_DTYPES)} is accepted")
                known = TORCH_DTYPES.get(bare, bare)
                self.notes.append(f"Data type {known}: the config gives {key} {shown(name)}.")
                return known
        return DEFAULT_DTYPE

    def count(self, key: str, default: int) -> int:
        """An integer of at least 0, where null means 0; the architecture's default where the key is absent."""
        if key not in self.document:
            return int(self.assume(key, default))
        value = self.document[key]
        return 0 if value is None or (type(value) is int and value == 0) else self.size(key)

    def share(self, key: str, default: float) -> float:
        """A number from 0 to 1."""
        value = self.document.get(key)
        value = (default if default == 1 else self.assume(key, default)) if value is None else value
        if not SHARE.admits(value):
            raise self._wrong(key, value, "a number from 0 to 1 is accepted")
        return float(value)

    def rotary_share(self, default: float, also: str = "") -> float:
        """The fraction of each head that is rotated: a key, an older name of it, or a value in ``rope_parameters``.

        Kinds of layers may have separate parameters there. Their fractions must be equal.
        """
        self.turns_part = True
        key = "partial_rotary_factor"
        own = next((name for name in (key, also) if name and self.has(name)), "")
        if own:
            return self.share(own, default)
        found = set(self._rotary_shares())
        if len(found) > 1:
            raise self._wrong("rope_parameters", sorted(found), f"one {key} for all layers is accepted")
        return found.pop() if found else self.share(key, default)

    def _rotary_shares(self) -> Iterator[float]:
        """The fractions in the rotary parameters, for each kind of layer."""
        for name in ("rope_parameters", "rope_scaling"):
            given = self.document.get(name)
            tables = [given, *given.values()] if isinstance(given, dict) else []
            for table in tables:
                if isinstance(table, dict) and table.get("partial_rotary_factor") is not None:
                    yield Config(table, f"{self.where}: {name}").share("partial_rotary_factor", 1.0)

    def labels(self) -> int:
        """The number of classes of a classifier, from its labels or their number; 2 by default."""
        named = self.document.get("id2label")
        if isinstance(named, dict) and named:
            return len(named)
        return self.size("num_labels", 2, derived=True)

    def divides(self, whole: int, part: int, because: str) -> int:
        """A quotient that must be an integer."""
        if whole % part:
            raise InputError(self.where, f"{whole} is not divisible by {part}", because, "Correct one of the two.")
        return whole // part

    def must(self, holds: bool, found: str, accepted: str, action: str = "") -> None:
        """Raise unless the condition holds, for configs that are contradictory or not supported."""
        if not holds:
            raise InputError(self.where, found, accepted, action)

    def refuse_remote_code(self) -> None:
        """Add a note where the config names its own code: the published architecture is counted."""
        if "auto_map" in self.document:
            self.notes.append("auto_map names custom code: the published architecture of this model_type is counted.")

    def not_counted(self, kind: str) -> tuple[str, ...]:
        """Features of the config that are not counted, after the family has read the keys that it knows."""
        known = [what for key, what in UNCOUNTED.items() if self.document.get(key)]
        strangers = unread(self.document.unasked(), kind)
        for key in strangers:
            self._refuse_slip(key)
        found = [_stranger(key, value) for key, value in strangers.items()]
        if not self.turns_part:
            parts = (share for share in self._rotary_shares() if share != 1)
            found += [_stranger("partial_rotary_factor", share) for share in parts]
        return (*known, *found, *(what for part in self.parts for what in part.not_counted(kind)))

    def _refuse_slip(self, key: str) -> None:
        """Raise where an unknown key is nearly the same as a key that the family did not find."""
        from difflib import get_close_matches

        missing = [asked for asked in self.document.keys_asked if not self.has(asked)]
        near = get_close_matches(key, missing, n=1, cutoff=0.85)
        if near:
            raise InputError(
                f"{self.where}: {shown(key)[1:-1]}", "this model_type has no such key",
                "keys of its published configs are accepted", f"Did you mean '{near[0]}'?",
            )  # fmt: skip

    def own_name(self) -> str:
        """The name of the model in its config, without the folders of a path."""
        name = self.document.get("_name_or_path")
        return name.strip().rstrip("/").rsplit("/", 1)[-1] if isinstance(name, str) else ""

    def longest(self) -> int | None:
        """The positions that the model supports, where its config gives them."""
        own = self.size_or_none("max_position_embeddings")
        return next((found for part in self.parts if (found := part.longest())), None) if own is None else own

    def _near(self, key: str) -> str:
        """A suggestion of a similar key, where there is one."""
        from difflib import get_close_matches

        others = [k for k in self.document if isinstance(k, str) and k != key]
        return did_you_mean(key, others) if get_close_matches(key, others, n=1, cutoff=0.8) else ""

    def _wrong(self, key: str, value: Any, accepted: str, action: str = "Correct it.") -> InputError:
        missing = "it is null" if key in self.document else "it is missing"
        found = missing if value is None else f"found {shown(value)}"
        return InputError(f"{self.where}: {key}", found, accepted, action)


def _stranger(key: str, value: Any) -> str:
    what = "part" if isinstance(value, dict) else "key"
    held = "" if isinstance(value, (dict, list)) else f" = {said(value)}"
    return f"the config {what} {shown(key)[1:-1]}{held}, which is not known here and may change the counts"
