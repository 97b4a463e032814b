"""Self-contained HTML documents: one file with its style, its scripts and its data, which opens without a network.

``document`` wraps sections in the common page: a light and a dark theme, a sheet that scrolls on a narrow screen, tables
that sort. A page adds scripts of its own, which read the data as ``pageData``.
"""

from __future__ import annotations

import os.path
from collections.abc import Iterable
from html import escape as _escape
from typing import Any

from perfmodel.errors import printable
from perfmodel.strictjson import dumped

_HERE = os.path.dirname(__file__)
# Nothing is loaded from anywhere: the browser itself enforces it.
POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data: blob:"


def document(
    title: str, body: Iterable[str], data: Any = None, scripts: Iterable[str] = (), styles: Iterable[str] = (),
    program: str = "",
) -> str:  # fmt: skip
    """Returns the page. ``body`` is HTML; ``data`` is what its scripts read; scripts and styles are paths, ``program`` is a
    script that is generated.
    """
    code = "\n".join([*([ended(program)] if program else []), *map(read, (os.path.join(_HERE, "page.js"), *scripts))])
    look = "\n".join(read(path) for path in (os.path.join(_HERE, "page.css"), *styles))
    given = dumped(data if data is not None else {}).replace("<", "\\u003c")  # no text can end the script element
    inside = "\n".join(body)
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<meta name="generator" content="perfmodel">\n'
        f"<title>{escape(title)}</title>\n<style>\n{look}</style>\n</head>\n<body>\n"
        f"{inside}\n"
        f'<script type="application/json" id="page-data">{given}</script>\n<script>\n{code}</script>\n</body>\n</html>\n'
    )


def ended(script: str) -> str:
    """Returns a script in which nothing ends the script element."""
    return script.replace("</", "<\\/")


def read(path: str) -> str:
    """Returns a style sheet or a script of the package."""
    with open(path, encoding="utf-8") as file:
        return file.read()


def escape(text: object) -> str:
    """Returns text for HTML, on one line and without characters that change how it is read."""
    return _escape(printable(str(text)))


def section(heading: str, body: str, intro: str = "", ident: str = "") -> str:
    """Returns one part of the page under its heading."""
    name = f' id="{ident}"' if ident else ""
    words = f'<p class="intro">{intro}</p>' if intro else ""
    return f'<section class="card"{name}><h2>{escape(heading)}</h2>{words}\n{body}\n</section>'


def roofline(intro: str) -> str:
    """Returns the part in which ``roofline.js`` draws kernels as dots, and the line that describes the chosen one."""
    body = (
        "<div id='roofline' class='column'><div class='chart'></div>"
        "<div class='picked' aria-live='polite'>Choose a dot with the pointer, or with the Tab and arrow keys.</div></div>"
    )
    return section("Roofline", body, intro)
