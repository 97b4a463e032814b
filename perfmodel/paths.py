"""Where the files that travel with the package lie: a path as given, the working tree, then the packaged copies."""

from __future__ import annotations

from pathlib import Path

from perfmodel.errors import InputError, did_you_mean, shown

PACKAGED = Path(__file__).parent / "data"
if not PACKAGED.is_dir():
    PACKAGED = Path(__file__).parent.parent

SHORT_NAMES = "short-names.yaml"


def folders(kind: str) -> tuple[Path, ...]:
    """Where files of a kind (hardware, configs) lie: the working tree first, then the packaged copies."""
    return Path(kind), PACKAGED / kind


def files(kind: str) -> dict[str, Path]:
    """Every file of a kind by its name."""
    found: dict[str, Path] = {}
    for folder in folders(kind):
        for path in sorted(folder.glob("*.yaml")):
            if path.name != SHORT_NAMES and not path.name.endswith(".measured.yaml"):
                found.setdefault(path.stem, path)
    return dict(sorted(found.items()))


def find(kind: str, name: str) -> Path:
    """A name or a path as the file it means."""
    path = Path(name)
    if path.suffix in (".yaml", ".yml", ".json") or len(path.parts) > 1:
        return path
    for folder in folders(kind):
        candidate = folder / f"{name}.yaml"
        try:
            if candidate.is_file():
                return candidate
        except (OSError, ValueError):
            break
    listing = "gpus" if kind == "hardware" else "models"
    known = files(kind)
    raise InputError(
        f"{listing[:-1]} {shown(name)}",
        "there is no file of that name",
        f"a path, or a name that 'perfmodel {listing}' lists, is accepted",
        did_you_mean(name, known),
    )
