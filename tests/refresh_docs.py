"""Rewrites the outputs that README.md and docs/*.md show, and the JSON schemas: ``python tests/refresh_docs.py``, with
``--pictures`` those too.

Run it after a change of anything that is printed, and read the difference before it is committed.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

os.environ["XDG_DATA_HOME"] = tempfile.mkdtemp(
    prefix="perfmodel-docs-"
)  # readings of this machine would change the times

import pages
import schemas


def main() -> None:
    for page, path in pages.PAGES.items():
        with tempfile.TemporaryDirectory() as folder, pages.inside(page, Path(folder)):
            text = pages.refreshed(page)
        if text != pages.read(page):
            path.write_text(text, encoding="utf-8")
            print(f"rewritten: {page}")
    with tempfile.TemporaryDirectory() as folder:
        for name in schemas.COMMANDS:
            schemas.path(name).write_text(schemas.text(name, Path(folder)), encoding="utf-8")
    if "--pictures" in sys.argv[1:]:
        os.chdir(pages.ROOT)
        for picture, line in pages.PICTURES.items():
            ran = pages.run(line)
            print(f"drawn: {picture}" if not ran.code else f"{line}: {ran.err}")


if __name__ == "__main__":
    main()
