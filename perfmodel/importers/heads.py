"""Sizes that most decoders share: width, grouped heads, network, vocabulary."""

from __future__ import annotations

from perfmodel.importers.config import Config


def grouped(
    c: Config, *, width: str = "intermediate_size", head_dim: int | None = None, kv_heads: int | None = None
) -> dict[str, int | str]:
    """Heads of head_dim, which need not add up to the width; as many key-value heads as heads unless fewer are given."""
    D, H = c.size("hidden_size"), c.size("num_attention_heads")
    H_kv = c.size_or_none("num_key_value_heads", kv_heads) or H
    c.divides(H, H_kv, "each group of query heads shares one key-value head")
    if c.has("head_dim"):
        d = c.size("head_dim")
    else:
        even = head_dim or c.divides(D, H, "without head_dim the heads share the width evenly")
        d = c.size("head_dim", even, derived=head_dim is None)
    sizes: dict[str, int | str] = {"B": 1, "D": D, "H": H, "H_kv": H_kv, "d": d}
    return {**sizes, **({"F": c.size(width)} if width else {}), "V": c.size("vocab_size")}


def layer_types(c: Config, L: int, default: tuple[str, ...]) -> tuple[str, ...]:
    """Which layers look through a window: as the config lists them, else the architecture's own pattern."""
    names = {"sliding_attention": "sliding", "full_attention": "full"}
    given = c.words("layer_types", L, tuple(names))
    return tuple(names[word] for word in given) if given else default
