"""The book: each chapter's cells run, no output is typed by hand, and each question has a page and a command."""

from __future__ import annotations

import re
from pathlib import Path

import pages
import pytest

import perfmodel

CHAPTERS = {path.stem: path for path in sorted((pages.ROOT / "docs" / "book").glob("*.md"))}
CELL = re.compile(r"^```\{code-cell\}\n(.*?)^```$", re.MULTILINE | re.DOTALL)
COMMAND = re.compile(r"^!(perfmodel .*)$", re.MULTILINE)


def cells(chapter):
    return CELL.findall(CHAPTERS[chapter].read_text(encoding="utf-8"))


def picture(name):
    """Stands for ``IPython.display.SVG``, which a chapter shows a picture with."""
    assert Path(name).stat().st_size > 1000, name


def command(line):
    ran = pages.run(line)
    assert ran.code == 0, ran.err
    assert ran.out


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_the_cells_of_a_chapter_run(chapter, tmp_path, monkeypatch):
    """The build of the site runs them as a notebook. Here a command is a call, and a picture a file."""
    (tmp_path / "docs").symlink_to(pages.ROOT / "docs")
    for name in ("benchmarks", "configs", "hardware"):
        (tmp_path / name).symlink_to(pages.ROOT / name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", pages.COLUMNS)
    space = {"SVG": picture, "__name__": chapter, "run_command": command}
    for cell in cells(chapter):
        if missing := pages.missing(cell):
            pytest.skip(f"{missing} is not installed")
        exec(COMMAND.sub(lambda line: f"run_command({line[1]!r})", cell), space)


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_a_chapter_has_cells_and_no_output_typed_by_hand(chapter):
    text = CHAPTERS[chapter].read_text(encoding="utf-8")
    assert text.startswith("---\nfile_format: mystnb\nkernelspec: {name: python3}\n---\n")
    assert len(cells(chapter)) >= 5
    assert "```console" not in text
    assert re.findall(r"^# .+", CELL.sub("", text), re.MULTILINE)


def test_the_page_of_functions_has_every_name_of_the_package():
    text = (pages.ROOT / "docs" / "reference" / "api.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^\.\. auto\w+:: (\w+)$", text, re.MULTILINE)) == set(perfmodel.__all__)
