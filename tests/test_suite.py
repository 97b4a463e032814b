"""The suite itself: the same examples every time, whichever test draws them."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from hypothesis import settings

FILES = sorted(Path(__file__).parent.glob("*.py"))


def test_examples_are_the_same_every_time():
    assert settings.default.derandomize
    assert settings.default.database is None
    assert settings(max_examples=3).derandomize  # what a test sets adds to the profile


@pytest.mark.parametrize("file", [file for file in FILES if file.stem != "conftest"], ids=lambda file: file.stem)
def test_no_file_draws_examples_in_its_own_way(file):
    """One profile stands in conftest.py; ``derandomize``, ``database`` and a seed are set there alone."""
    words = {node.arg for node in ast.walk(ast.parse(file.read_text("utf-8"))) if isinstance(node, ast.keyword)}
    calls = {node.attr for node in ast.walk(ast.parse(file.read_text("utf-8"))) if isinstance(node, ast.Attribute)}
    assert words & {"derandomize", "database"} == set()
    assert calls & {"load_profile", "register_profile"} == set()
