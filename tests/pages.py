"""The pages of the documentation: README.md and docs/*.md, their blocks, and the commands that they show or name.

A console block holds commands after ``$``, each with the output that it prints today or with none. A block with a file
name is a file, which the commands and the Python of its page read. A region between ``<!-- COMMAND -->`` and
``<!-- end -->`` holds what the command prints. A command that needs a package which is not installed keeps its output.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from command import Ran, perfmodel

ROOT = Path(__file__).parent.parent
PAGES = {
    path.relative_to(ROOT).as_posix(): path for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
}
# The pictures of the pages, and the commands that draw them.
SWEEP = "perfmodel sweep --config llama-2-7b-layer --gpu a100"
PICTURES = {
    "docs/roofline-a100.png": "perfmodel roofline --gpu a100 --config llama-2-7b-layer plot -o docs/roofline-a100.png",
    "docs/validate-h200.png": "perfmodel validate --from benchmarks/results/h200-full.jsonl --plot docs/validate-h200.png",
    "docs/gallery/roofline-t4.png": "perfmodel roofline --gpu t4 plot -o docs/gallery/roofline-t4.png",
    "docs/gallery/deepseek-v3-train.png": "perfmodel roofline --gpu h100 --config deepseek-v3 --phase train plot "
    "-o docs/gallery/deepseek-v3-train.png",
    "docs/gallery/three-gpus.png": "perfmodel roofline --gpu t4 --gpu a100 --gpu h200 plot "
    "-o docs/gallery/three-gpus.png",
    "docs/gallery/measured-h100.png": "perfmodel roofline --from benchmarks/results/h100-quick.jsonl plot "
    "-o docs/gallery/measured-h100.png",
    "docs/gallery/sweep-expected.png": f"{SWEEP} --gpu t4 --over N=16:8Ki:log --expected "
    "--plot docs/gallery/sweep-expected.png",
    "docs/gallery/sweep-map.png": f"{SWEEP} --over N=16:4Ki:33:log --over B=1:64:25:log "
    "--plot docs/gallery/sweep-map.png",
}
COLUMNS = "100"  # of the terminal in which every shown command runs

BLOCK = re.compile(r"^```(\w+)(?: (\S+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
REGION = re.compile(r"(?<=<!-- )(perfmodel [^\n]*)( -->\n)(.*?)(?=<!-- end -->)", re.DOTALL)
INLINE = re.compile(r"`(perfmodel [^`]*)`")
LISTS = ("gpus", "models", "ops", "symbols")  # commands without arguments
# Commands that measure this machine: they take longer, and have tests of their own.
MEASURING = ("perfmodel validate --suite", "perfmodel calibrate", "perfmodel check --cases")
# Shows the exit code of a command, below its output and its message.
CODE = '; echo "exit code $?"'


class Command(NamedTuple):
    """A line after ``$``, and what the page shows below it."""

    line: str
    output: str


def read(page: str) -> str:
    return PAGES[page].read_text(encoding="utf-8")


def blocks(page: str) -> list[tuple[str, str, str]]:
    """The fenced blocks of a page: language, file name or nothing, text."""
    return BLOCK.findall(read(page))


def commands(text: str) -> list[Command]:
    """The commands of a console block."""
    parts = re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]
    return [Command(*part.split("\n", 1)) for part in parts]


def shown(page: str) -> list[Command]:
    """Every command in the console blocks of a page."""
    return [one for language, _, text in blocks(page) if language == "console" for one in commands(text)]


def named(page: str) -> list[str]:
    """Every complete command in the running text and the tables of a page, each once."""
    found = dict.fromkeys(INLINE.findall(BLOCK.sub("", read(page))))
    return [line for line in found if _complete(line)]


def _complete(line: str) -> bool:
    """Whether a line can run as it is: it has its arguments, and no capitals where the reader writes a name."""
    _, *words = shlex.split(line)
    if any(re.fullmatch(r"[A-Z]{2,}([.:]\w+)*|\.\.\.|…", word) for word in words):
        return False
    return len(words) > 1 or words[0] in LISTS


def runs_here(line: str) -> bool:
    """Whether a test runs the line: it calls perfmodel, and does not measure this machine."""
    called = line.rpartition("&& ")[2].rpartition("| ")[2]
    return called.startswith("perfmodel ") and not called.startswith(MEASURING)


def missing(text: str) -> str:
    """The package that a command or an example needs and that this machine lacks, or nothing."""
    needed = ("torch",) if re.search(r"\btorch\b|\bcapture\(|--module |--via ", text) else ()
    needed = (*needed, "transformers") if re.search(r"\btransformers\b|--via ", text) else needed
    return next((name for name in needed if importlib.util.find_spec(name) is None), "")


def run(line: str) -> Ran:
    """Runs ``[install &&] [echo TEXT |] perfmodel ... [; echo "exit code $?"]`` inside this process."""
    if line.endswith(CODE):
        ran = run(line.removesuffix(CODE))
        return Ran(0, f"{ran.out}{ran.err}exit code {ran.code}\n", "")
    before, pipe, called = line.rpartition("&& ")[2].rpartition(" | ")
    given = "\n".join(shlex.split(before)[1:]) + "\n" if pipe else ""
    return perfmodel(*shlex.split(called)[1:], stdin=given)


def files(page: str, folder: Path) -> None:
    """Writes what the commands of a page read: its files, a model's config, the stored measurements."""
    for _, name, text in blocks(page):
        if name:
            (folder / name).write_text(text, encoding="utf-8")
    (folder / "path" / "to").mkdir(parents=True)
    shutil.copy(ROOT / "configs" / "llama-3-8b.json", folder / "path" / "to" / "config.json")
    for name in ("benchmarks", "configs", "hardware"):
        (folder / name).symlink_to(ROOT / name)
    (folder / "docs" / "gallery").mkdir(parents=True)


@contextlib.contextmanager
def inside(page: str, folder: Path) -> Iterator[None]:
    """Stands in a folder with the page's files, in a terminal of the pages' width."""
    files(page, folder)
    before, width = os.getcwd(), os.environ.get("COLUMNS")
    os.chdir(folder)
    os.environ["COLUMNS"] = COLUMNS
    try:
        yield
    finally:
        os.chdir(before)
        os.environ.pop("COLUMNS")
        if width is not None:
            os.environ["COLUMNS"] = width


def refreshed(page: str) -> str:
    """The text of a page with today's outputs; to be called inside the page's folder."""

    def block(match: re.Match[str]) -> str:
        language, _, text = match.groups()
        if language != "console":
            return match[0]
        lines = "".join(
            f"$ {one.line}\n{_output(one.line, one.output) if one.output else ''}" for one in commands(text)
        )
        return f"```console\n{lines}```"

    text = BLOCK.sub(block, read(page))
    return REGION.sub(lambda match: f"{match[1]}{match[2]}\n{_output(match[1], match[3].strip())}\n", text)


def _output(line: str, before: str) -> str:
    """What a command prints today; what the page shows if this machine cannot run it."""
    if missing(line):
        return before
    ran = run(line)
    if ran.code:
        raise SystemExit(f"{line}: {ran.err}")
    return ran.out
