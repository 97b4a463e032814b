"""The book: each chapter's cells run, no output is typed by hand, and each question has a page and a command."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import pages
import pytest
from many import for_each

import perfmodel

CHAPTERS = {path.stem: path for path in sorted((pages.ROOT / "docs" / "book").glob("*.md"))}
EXECUTED = {**CHAPTERS, "conformance": pages.ROOT / "docs" / "reference" / "conformance.md"}
CELL = re.compile(r"^```\{code-cell\}\n(.*?)^```$", re.MULTILINE | re.DOTALL)
COMMAND = re.compile(r"^!(perfmodel .*)$", re.MULTILINE)


def cells(chapter):
    found = CELL.findall(EXECUTED[chapter].read_text(encoding="utf-8"))
    return [re.sub(r"^:tags: .*\n", "", cell) for cell in found]


def picture(name):
    """Stands for ``IPython.display.SVG``, which a chapter shows a picture with."""
    assert Path(name).stat().st_size > 1000, name


def command(line):
    ran = pages.run(line)
    assert ran.code == 0, ran.err
    assert ran.out


def in_this_process(words, **_):
    """Stands for ``subprocess.run``, with which a chapter runs ``python -m perfmodel``."""
    assert words[:3] == [sys.executable, "-m", "perfmodel"]
    ran = pages.perfmodel(*words[3:])
    return SimpleNamespace(returncode=ran.code, stdout=ran.out, stderr=ran.err)


@pytest.mark.parametrize("chapter", EXECUTED)
def test_the_cells_of_a_chapter_run(chapter, tmp_path, monkeypatch):
    """The build of the site runs them as a notebook. Here a command is a call, and a picture a file."""
    (tmp_path / "docs").symlink_to(pages.ROOT / "docs")
    for name in ("benchmarks", "configs", "hardware"):
        (tmp_path / name).symlink_to(pages.ROOT / name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", pages.COLUMNS)
    monkeypatch.setattr(subprocess, "run", in_this_process)
    if chapter == "09-associative-recall" and find_spec("torch"):
        import trained

        monkeypatch.setattr(trained.train, "train", trained.once)
    space = {"SVG": picture, "__name__": chapter, "run_command": command}
    for cell in cells(chapter):
        for package in re.findall(r"^import (torch|transformers)$", cell, re.MULTILINE):
            pytest.importorskip(package)
        exec(COMMAND.sub(lambda line: f"run_command({line[1]!r})", cell), space)


@for_each("chapter", CHAPTERS)
def test_a_chapter_has_cells_and_no_output_typed_by_hand(chapter):
    text = CHAPTERS[chapter].read_text(encoding="utf-8")
    assert text.startswith("---\nfile_format: mystnb\nkernelspec: {name: python3}\n---\n")
    assert len(cells(chapter)) >= 5
    assert "```console" not in text
    assert re.findall(r"^# .+", CELL.sub("", text), re.MULTILINE)


def test_the_page_of_functions_has_every_name_of_the_package():
    text = (pages.ROOT / "docs" / "reference" / "api.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^\.\. auto\w+:: (\w+)$", text, re.MULTILINE)) == set(perfmodel.__all__)


# --- every question of the founding material

QUESTION = re.compile(
    r"^\| (?P<question>[^|]+) \| \[(?P<label>[^\]]+)\]\(book/(?P<chapter>[\w-]+)\.md#(?P<part>[^)]+)\) \| `(?P<command>[^`]+)` \|$"
)
LINES = [line for line in pages.read("docs/questions.md").splitlines() if line.startswith("| ")]
QUESTIONS = [found.groupdict() for found in map(QUESTION.match, LINES) if found]


def slug(heading):
    """The anchor that GitHub and MyST give a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def test_every_line_of_the_table_is_a_question_with_a_page_and_a_command():
    assert len(QUESTIONS) == len([line for line in LINES if not line.startswith("| question |")]) >= 45
    assert len({row["question"] for row in QUESTIONS}) == len(QUESTIONS)


@for_each("row", QUESTIONS)
def test_the_page_of_a_question_shows_its_command(row):
    """The command runs with its chapter, above, and when the site is built."""
    text = CHAPTERS[row["chapter"]].read_text(encoding="utf-8")
    headings = {slug(heading) for heading in re.findall(r"^#+ (.+)$", CELL.sub("", text), re.MULTILINE)}
    assert row["part"] in headings
    assert f"\n!{row['command']}\n" in text


def test_every_numbered_question_has_a_line():
    """A label is "2.1 b, c" for two questions, and "2.2" for all of a section."""
    headings = (
        re.findall(r"^### Question (\d\.\d) (\w):? ", path.read_text("utf-8"), re.MULTILINE)
        for path in CHAPTERS.values()
    )
    numbered = {found for chapter in headings for found in chapter}
    labels = [row["label"].partition(" ") for row in QUESTIONS]
    answered = {(section, letter) for section, _, letters in labels for letter in letters.split(", ")}
    whole = {section for section, _, letters in labels if not letters}
    assert len(numbered) >= 25
    assert {(section, letter) for section, letter in numbered - answered if section not in whole} == set()
