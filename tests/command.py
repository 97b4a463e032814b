"""Runs the command line inside this process, and returns its output and exit code."""

from __future__ import annotations

import contextlib
import io
import re
import sys
from typing import NamedTuple

from perfmodel.__main__ import main

# where: what was found; what is accepted. What to do.
MESSAGE = re.compile(r"(?P<where>\S.*?): (?P<found>.+?); (?P<accepted>.+?)\.(?: (?P<action>[A-Z'].+[.?]))?")


class Ran(NamedTuple):
    code: int
    out: str
    err: str


def perfmodel(*arguments, stdin=""):
    """Runs ``perfmodel ARGUMENTS``. Exceptions that are not exits are raised."""
    out, err, before = io.StringIO(), io.StringIO(), (sys.argv, sys.stdin)
    sys.argv, sys.stdin = ["perfmodel", *arguments], io.TextIOWrapper(io.BytesIO(stdin.encode()), encoding="utf-8")
    code = None
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            main()
    except SystemExit as end:
        code = end.code
    finally:
        sys.argv, sys.stdin = before
    return Ran(code, out.getvalue(), err.getvalue())


def check_message(text):
    """Checks that a message is one printable line in the common form, and returns its parts."""
    assert text.endswith("\n"), text
    line = text[:-1]
    assert line.isprintable(), text
    assert len(line) < 1200, line
    found = MESSAGE.fullmatch(line)
    assert found, line
    return found


def check_refused(ran, code=(1, 2)):
    """Checks that a command failed with a one-line message and wrote nothing to stdout."""
    assert ran.code in (code if isinstance(code, tuple) else (code,)), ran
    assert ran.out == ""
    return check_message(ran.err)
