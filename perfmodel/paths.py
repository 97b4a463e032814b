"""Where cards, models and readings are looked for: a path as given, the working tree, the user's folder, the packaged copies."""

import os
import sys
from collections.abc import Iterable
from typing import NamedTuple

from perfmodel.errors import InputError, did_you_mean, shown

_HERE = os.path.dirname(__file__)
PACKAGED = os.path.join(_HERE, "data") if os.path.isdir(os.path.join(_HERE, "data")) else os.path.dirname(_HERE)

ENDINGS = (".yaml", ".yml", ".json", ".jsonl")


class Kind(NamedTuple):
    """Files of a kind: their folder, their endings, what a message calls one and which names it accepts."""

    folder: str
    endings: tuple[str, ...]
    noun: str
    names: str


KINDS = {
    "hardware": Kind("hardware", (".yaml",), "gpu", "a name that 'perfmodel gpus' lists"),
    "configs": Kind("configs", (".yaml", ".json"), "model", "a name that 'perfmodel models' lists"),
    "cases": Kind("configs", (".jsonl",), "cases", "the name of a file that is shipped"),
}
SHORT_NAMES = "short-names.yaml"
MEASURED = ".measured.yaml"


def user_folder(kind: str) -> str:
    """Returns the user's own folder for files of a kind, which may not exist yet."""
    return os.path.join(_user_data(), KINDS[kind].folder)


def _user_data() -> str:
    if sys.platform == "linux":  # the rule of the XDG specification; loading platformdirs for it takes 8 ms
        base = os.environ.get("XDG_DATA_HOME", "").strip() or os.path.expanduser("~/.local/share")
        return os.path.join(base, "perfmodel")
    from platformdirs import user_data_dir

    return user_data_dir("perfmodel", appauthor=False)


def folders(kind: str) -> tuple[str, ...]:
    """Where files of a kind lie: the working tree first, then the user's folder, then the packaged copies."""
    folder = KINDS[kind].folder
    return folder, user_folder(kind), os.path.join(PACKAGED, folder)


def readings(card: str, file: str = "") -> str | None:
    """Returns the file of a card's readings: beside the card's own file if that was given by path, the user's, the packaged."""
    known = folders("hardware")
    beside = [os.path.dirname(file)] if file and os.path.dirname(file) not in known else []
    paths = (os.path.join(folder, card + MEASURED) for folder in (*beside, user_folder("hardware"), *known))
    return next((path for path in paths if os.path.isfile(path)), None)


def files(kind: str) -> dict[str, str]:
    """Every file of a kind by its name."""
    found: dict[str, str] = {}
    for folder in folders(kind):
        for name in sorted(os.listdir(folder)) if os.path.isdir(folder) else ():
            if name.endswith(KINDS[kind].endings) and name != SHORT_NAMES and not name.endswith(MEASURED):
                found.setdefault(stem(name), os.path.join(folder, name))
    return dict(sorted(found.items()))


def stem(path: str) -> str:
    """The name of a file without folder and ending."""
    return os.path.splitext(os.path.basename(path))[0]


def is_name(text: str) -> bool:
    """Whether it is a bare name, to be looked for, rather than a path."""
    return not text.endswith(ENDINGS) and os.path.basename(text) == text


def named(kind: str, name: str) -> str | None:
    """The file of that bare name, in the first folder that has it."""
    paths = (os.path.join(folder, f"{name}{ending}") for folder in folders(kind) for ending in KINDS[kind].endings)
    return next((path for path in paths if "\0" not in path and os.path.isfile(path)), None)


def find(kind: str, name: str, others: Iterable[str] = ()) -> str:
    """A name or a path as the file it means; ``others`` are names that the caller knows besides those of files."""
    if not is_name(name):
        return name
    path = named(kind, name)
    if path is None:
        raise InputError(
            f"{KINDS[kind].noun} {shown(name)}",
            "there is no file of that name",
            f"a path, or {KINDS[kind].names}, is accepted",
            did_you_mean(name, (*files(kind), *others)),
        )
    return path
