"""Search paths of GPU files, models and readings: folders that were asked for, the user's folder, the packaged copies.

The current folder is never searched. A file there is read if its path is given, or if its folder is: with ``--hardware``
or in ``PERFMODEL_PATH``. Files that were found by name outside the package are reported, so that an answer can say so.
"""

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import NamedTuple

from perfmodel.errors import InputError, did_you_mean, printable, shown

_HERE = os.path.dirname(__file__)
PACKAGED = os.path.join(_HERE, "data") if os.path.isdir(os.path.join(_HERE, "data")) else os.path.dirname(_HERE)

ENDINGS = (".yaml", ".yml", ".json", ".jsonl")


class Kind(NamedTuple):
    """A kind of file: its folder, its extensions, and the words for messages."""

    folder: str
    endings: tuple[str, ...]
    noun: str
    names: str


KINDS = {
    "hardware": Kind("hardware", (".yaml",), "gpu", "a name that 'perfmodel gpus' lists"),
    "configs": Kind("configs", (".yaml", ".json"), "model", "a name that 'perfmodel models' lists"),
    "cases": Kind("configs", (".jsonl",), "cases", "the name of a packaged file"),
}
SHORT_NAMES = "short-names.yaml"
MEASURED = ".measured.yaml"
VARIABLE = "PERFMODEL_PATH"

Listener = Callable[[str, str], None]
_asked: ContextVar[tuple[str, ...]] = ContextVar("asked", default=())  # folders of --hardware
_listener: ContextVar[Listener | None] = ContextVar("listener", default=None)


@contextmanager
def hardware_folder(folder: str) -> Iterator[None]:
    """Searches this folder first for GPU files and readings: ``--hardware``."""
    before = _asked.set((_existing(folder, "--hardware"), *_asked.get()))
    try:
        yield
    finally:
        _asked.reset(before)


@contextmanager
def reporting(listener: Listener) -> Iterator[None]:
    """Calls the listener with the name and the path of every file that is found by name outside the package."""
    before = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(before)


def report(name: str, path: str) -> None:
    """Tells the listener that a name stands for this file, unless the file is a shipped one."""
    listener = _listener.get()
    if listener is not None and not shipped(path):
        listener(name, path)


def shipped(path: str) -> bool:
    """Returns whether a file is part of the package."""
    return any(path.startswith(os.path.join(PACKAGED, kind.folder) + os.sep) for kind in KINDS.values())


def label(path: str) -> str:
    """Returns a path as answers show it; that of a shipped file is relative to the package."""
    return os.path.relpath(path, PACKAGED).replace(os.sep, "/") if shipped(path) else printable(path)


def _existing(folder: str, where: str) -> str:
    if not os.path.isdir(folder):
        raise InputError(
            where, f"there is no folder {shown(folder, 300)}", "an existing folder is accepted", "Check the path."
        )
    return folder


def user_folder(kind: str) -> str:
    """Returns the user's folder for a kind of file. It may not exist."""
    return os.path.join(_user_data(), KINDS[kind].folder)


def _user_data() -> str:
    if sys.platform == "linux":  # XDG base directory; importing platformdirs takes 8 ms
        base = os.environ.get("XDG_DATA_HOME", "").strip() or os.path.expanduser("~/.local/share")
        return os.path.join(base, "perfmodel")
    from platformdirs import user_data_dir

    return user_data_dir("perfmodel", appauthor=False)


def folders(kind: str) -> tuple[str, ...]:
    """Returns the folders of a kind in search order: those that were asked for, the user's folder, the packaged copies.

    ``PERFMODEL_PATH`` lists folders that contain ``hardware`` or ``configs``, as the package and the user's folder do.
    """
    folder = KINDS[kind].folder
    listed = [part for part in os.environ.get(VARIABLE, "").split(os.pathsep) if part]
    named = [os.path.join(_existing(part, VARIABLE), folder) for part in listed]
    own = _asked.get() if kind == "hardware" else ()
    return *own, *named, user_folder(kind), os.path.join(PACKAGED, folder)


def readings(card: str, file: str = "") -> str | None:
    """Returns the path of a card's readings, or None. Searches the folders that were asked for, beside a GPU file that
    was given by path, the user's folder, and the packaged copies.
    """
    *asked, own, packaged = folders("hardware")
    beside = [os.path.dirname(file)] if file and os.path.dirname(file) != packaged else []
    paths = (os.path.join(folder, card + MEASURED) for folder in (*asked, *beside, own, packaged))
    return next((path for path in paths if os.path.isfile(path)), None)


def files(kind: str) -> dict[str, str]:
    """Returns the path of every file of a kind by its name."""
    found: dict[str, str] = {}
    for folder in folders(kind):
        for name in sorted(os.listdir(folder)) if os.path.isdir(folder) else ():
            if name.endswith(KINDS[kind].endings) and name != SHORT_NAMES and not name.endswith(MEASURED):
                found.setdefault(stem(name), os.path.join(folder, name))
    return dict(sorted(found.items()))


def stem(path: str) -> str:
    """Returns the file name without folder and extension."""
    return os.path.splitext(os.path.basename(path))[0]


def is_name(text: str) -> bool:
    """Whether the text is a name to search for, not a path."""
    return not text.endswith(ENDINGS) and os.path.basename(text) == text


def named(kind: str, name: str) -> str | None:
    """Returns the path of a name in the first folder that has it, or None."""
    paths = (os.path.join(folder, f"{name}{ending}") for folder in folders(kind) for ending in KINDS[kind].endings)
    return next((path for path in paths if "\0" not in path and os.path.isfile(path)), None)


def find(kind: str, name: str, others: Iterable[str] = ()) -> str:
    """Returns the path of a name or path. ``others`` are further known names, used for suggestions."""
    if not is_name(name):
        return name
    path = named(kind, name)
    if path is None:
        raise InputError(
            f"{KINDS[kind].noun} {shown(name)}",
            "no file has this name",
            f"a path, or {KINDS[kind].names}, is accepted",
            _here(kind, name) or did_you_mean(name, (*files(kind), *others)),
        )
    report(name, path)
    return path


def _here(kind: str, name: str) -> str:
    """Returns the advice for a file of this name in the current folder, which is not searched."""
    wanted = KINDS[kind]
    inside = (os.path.join(folder, name + ending) for folder in (".", wanted.folder) for ending in wanted.endings)
    path = next((path for path in inside if "\0" not in path and os.path.isfile(path)), None)
    return f"To use the file in the current folder, write {shown(path, 300)[1:-1]}." if path else ""


def cases(name: str) -> str:
    """Returns the path of a file of cases. A name without folder and ending is first a packaged file, then a path."""
    return name if not is_name(name) or (named("cases", name) is None and os.path.exists(name)) else find("cases", name)
