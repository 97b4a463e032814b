"""Pages outside ``docs/``: links to them lead to the pages of the site that include them."""

from __future__ import annotations

from typing import Any

# A path as the pages link to it, and the page of the site.
PLACES = {
    "](../benchmarks/README.md": "](reference/accuracy.md",
    "](../../benchmarks/README.md": "](../reference/accuracy.md",
    "](../docs/": "](../",
    "](../README.md#how-far-to-trust-it": "](reference/accuracy.md",
    "](README.md": "](index.md",
}


def _read(app: Any, page: str, source: list[str]) -> None:
    for path, place in PLACES.items():
        source[0] = source[0].replace(path, place)


def _included(app: Any, path: Any, page: str, source: list[str]) -> None:
    _read(app, page, source)


def setup(app: Any) -> dict[str, bool]:
    """Rewrites the links of each page as it is read."""
    app.connect("source-read", _read)
    app.connect("include-read", _included)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
