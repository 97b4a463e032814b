"""The test suite: every test draws the same examples every time."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from hypothesis import settings
from many import for_each

FILES = sorted(Path(__file__).parent.glob("*.py"))


def test_examples_are_the_same_every_time():
    assert settings.default.derandomize
    assert settings.default.database is None
    assert settings(max_examples=3).derandomize  # what a test sets adds to the profile


@for_each("file", [file for file in FILES if file.stem != "conftest"])
def test_no_file_draws_examples_in_its_own_way(file):
    """conftest.py has the only profile. Only there are ``derandomize``, ``database`` and a seed set."""
    text = file.read_text("utf-8")
    if not re.search("derandomize|database|load_profile|register_profile", text):
        return  # need not be parsed
    nodes = list(ast.walk(ast.parse(text)))
    words = {node.arg for node in nodes if isinstance(node, ast.keyword)}
    calls = {node.attr for node in nodes if isinstance(node, ast.Attribute)}
    assert words & {"derandomize", "database"} == set()
    assert calls & {"load_profile", "register_profile"} == set()
