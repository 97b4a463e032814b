"""Runs at the start of each chapter's kernel: ``!perfmodel ...`` inside the process, in a terminal of 100 columns.

A chapter contains what a reader types into a notebook. Here a command costs no new process, and one that fails stops the
build. The folder has links to the checkout's data, as a reader has who stands in it.
"""

import os
import shlex
import sys
from pathlib import Path

from IPython import get_ipython
from IPython.display import SVG  # noqa: F401 - for the chapters

for _name in ("benchmarks", "configs", "docs", "hardware"):
    _link = Path(_name)
    if not _link.exists():
        _link.symlink_to(Path(os.environ["PERFMODEL_BOOK_ROOT"]) / _name)
os.environ |= {"COLUMNS": "100", "NO_COLOR": "1"}


def _system(line: str) -> None:
    words = shlex.split(line.replace("\\\n", " "))
    if words[:1] != ["perfmodel"]:
        raise ValueError(f"a chapter runs perfmodel alone, not {line!r}")
    from perfmodel.__main__ import main

    before, sys.argv = sys.argv, words
    code: object = None
    try:
        main()
    except SystemExit as end:
        code = end.code
    finally:
        sys.argv = before
    if code:
        raise RuntimeError(f"{line}: exit code {code}")


get_ipython().system = _system
