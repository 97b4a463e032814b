"""Where the files that travel with the package lie: a path as given, the working tree, then the packaged copies."""

from __future__ import annotations

import os.path

from perfmodel.errors import InputError, did_you_mean, shown

_HERE = os.path.dirname(__file__)
PACKAGED = os.path.join(_HERE, "data") if os.path.isdir(os.path.join(_HERE, "data")) else os.path.dirname(_HERE)

ENDINGS = (".yaml", ".yml", ".json")
KINDS = {"hardware": (".yaml",), "configs": (".yaml", ".json")}
SHORT_NAMES = "short-names.yaml"
MEASURED = ".measured.yaml"


def folders(kind: str) -> tuple[str, ...]:
    """Where files of a kind (hardware, configs) lie: the working tree first, then the packaged copies."""
    return kind, os.path.join(PACKAGED, kind)


def files(kind: str) -> dict[str, str]:
    """Every file of a kind by its name."""
    found: dict[str, str] = {}
    for folder in folders(kind):
        for name in sorted(os.listdir(folder)) if os.path.isdir(folder) else ():
            if name.endswith(KINDS[kind]) and name != SHORT_NAMES and not name.endswith(MEASURED):
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
    paths = (os.path.join(folder, f"{name}{ending}") for folder in folders(kind) for ending in KINDS[kind])
    return next((path for path in paths if "\0" not in path and os.path.isfile(path)), None)


def find(kind: str, name: str) -> str:
    """A name or a path as the file it means."""
    if not is_name(name):
        return name
    path = named(kind, name)
    if path is None:
        listing = "gpus" if kind == "hardware" else "models"
        raise InputError(
            f"{listing[:-1]} {shown(name)}",
            "there is no file of that name",
            f"a path, or a name that 'perfmodel {listing}' lists, is accepted",
            did_you_mean(name, files(kind)),
        )
    return path
