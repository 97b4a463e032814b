"""README.md: what a newcomer sees first. That its commands run and print what it shows is tested in test_docs."""

from __future__ import annotations

import json
import re
import shlex
import tomllib

import pages
import pytest
from command import perfmodel

README = pages.read("README.md")
LINES = README.splitlines()


def test_it_is_short():
    assert len(LINES) <= 150


def test_its_first_screen_has_the_picture_one_command_with_its_output_and_the_tests():
    head = README.partition("\n## ")[0]
    assert "](docs/roofline-a100.png)" in head
    first, tests = pages.shown("README.md")[:2]
    assert first.line.startswith("pip install -e . && perfmodel flops ")
    assert 8 <= first.output.count("\n") <= 12
    assert tests.line == "pip install -e '.[test]' && pytest"
    assert head.index(first.line) < head.index(tests.line)


def test_its_badges_need_no_service_of_this_project():
    badges = re.findall(r"\[!\[(\w+)\]\(([^)]+)\)\]\(([^)]+)\)", README)
    assert [name for name, _, _ in badges] == ["CI", "Python", "Licence", "Docs"]
    assert all(picture.startswith("https://img.shields.io/badge/") for _, picture, _ in badges)
    assert all((pages.ROOT / target).exists() for _, _, target in badges)


def test_its_badges_agree_with_the_package():
    project = tomllib.loads((pages.ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert f"python-{project['requires-python'].removeprefix('>=')}_or_later" in README
    assert f"licence-{project['license']['text']}" in README


def test_ci_runs_the_command_that_it_gives_for_the_tests():
    install, tests = pages.shown("README.md")[1].line.split(" && ")
    script = (pages.ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert f"{install.replace('install', 'install -q')} && {tests}" in script


def test_it_names_every_command():
    from perfmodel.cli import cli

    named = {line.split()[1] for line in (*pages.named("README.md"), *pages.INLINE.findall(README))}
    assert set(cli.list_commands(None)) - named == set()


def test_it_names_every_extra_that_measures():
    extras = tomllib.loads((pages.ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"][
        "optional-dependencies"
    ]
    assert all(extra in README for extra in extras if extra.startswith("measure"))
    assert all(any("cupy" in package for package in extras[f"measure-cuda{n}"]) for n in (12, 13))


def test_it_has_the_number_of_architectures():
    from perfmodel.importers import FAMILIES

    assert f" {len(FAMILIES)} architectures " in README


def test_it_links_to_every_page_of_the_documentation():
    for index, page in (("README.md", "docs/{}"), ("docs/README.md", "{}")):
        names = {path.name for path in (pages.ROOT / "docs").glob("*.md")} - {"README.md"}
        assert {name for name in names if f"]({page.format(name)})" not in pages.read(index)} == set()


# --- ten questions of a newcomer, and where the README answers them

IN_WORDS = {
    "How do I install it?": "$ pip install -e . && perfmodel ",
    "Where does a number come from?": "| `perfmodel explain softmax --gpu t4` |",
    "How accurate is it?": "| expected time of | mean error | measured |",
    "How do I add my GPU?": "[extending](docs/extending.md) | add an operation or your GPU",
    "How do I cite it?": "To cite perfmodel, use [CITATION.cff](CITATION.cff)",
}
BY_COMMAND = {
    "How many FLOPs does a Llama-3-8B prompt of 4096 tokens need?": lambda found: (
        round(found["total"]["flops"] / 1e12) == 70
    ),
    "What bounds my softmax on a T4?": lambda found: found["total"]["bound"] == "memory",
    "Does a 70B model fit on two H100, weights in shards?": lambda found: found["verdict"]["fits"],
    "Is my kernel fast?": lambda found: 0.8 < found["cases"][0]["of_bound"] < 0.9,
    "Can I use my `config.json`?": lambda found: found["parameters"]["total"] == 8_030_261_248,
}


@pytest.mark.parametrize("question", IN_WORDS)
def test_it_answers_in_words(question):
    assert IN_WORDS[question] in README


@pytest.mark.parametrize("question", BY_COMMAND)
def test_it_answers_by_a_command(question, tmp_path):
    (line,) = re.findall(rf"^\| {re.escape(question)} \| `([^`]+)` \|$", README, re.MULTILINE)
    with pages.inside("README.md", tmp_path):
        ran = perfmodel(*shlex.split(line)[1:], "--format", "json")
    assert BY_COMMAND[question](json.loads(ran.out))
