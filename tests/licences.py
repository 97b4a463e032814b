"""The licence of every dependency: docs/licences.md, generated from the metadata of the installed packages.

``python tests/licences.py`` writes the page again. A package that is not installed keeps its row. What a dependency brings is
listed for the packages that a plain installation needs.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from importlib.metadata import Distribution, PackageNotFoundError, distribution

import pages
from packaging.requirements import Requirement

PAGE = pages.ROOT / "docs" / "licences.md"
ROW = re.compile(r"^\| ([\w.-]+) \| ([^|]+) \| ([^|]+) \|$", re.MULTILINE)
HEAD = """# Licences

perfmodel has the [MIT licence](../LICENSE). These packages are its dependencies, by the part that needs them. The page is
generated from the metadata of the packages: `python tests/licences.py`.

| package | licence | needed by |
|---|---|---|
"""
# Words of a licence, and the family that they name.
FAMILIES = {
    "MIT-CMU": "HPND", "HPND": "HPND", "MIT": "MIT", "BSD": "BSD", "Apache": "Apache", "PSF": "PSF", "Python": "PSF", "MPL": "MPL",
    "Mozilla": "MPL",
}  # fmt: skip


def name(text: str) -> str:
    """The normal form of a package's name."""
    return re.sub(r"[-_.]+", "-", text).lower()


def direct() -> dict[str, str]:
    """Each direct dependency, and the part that needs it: the plain installation or an extra."""
    project = tomllib.loads((pages.ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    found = {name(Requirement(text).name): "perfmodel" for text in project["dependencies"]}
    for extra, texts in project["optional-dependencies"].items():
        for text in texts:
            found.setdefault(name(Requirement(text).name), f"extra `{extra}`")
    return found


def brought(package: str, seen: set[str]) -> Iterator[str]:
    """What an installed package brings with it."""
    try:
        texts = distribution(package).requires or []
    except PackageNotFoundError:
        return
    for need in map(Requirement, texts):
        own = name(need.name)
        if own not in seen and (need.marker is None or need.marker.evaluate({"extra": ""})):
            seen.add(own)
            yield own
            yield from brought(own, seen)


def dependencies() -> dict[str, str]:
    """Every dependency, and what needs it."""
    found = direct()
    plain = [package for package, needed in found.items() if needed == "perfmodel"]
    for package in plain:
        for own in brought(package, set(found)):
            found.setdefault(own, package)
    return found


def licence(package: Distribution) -> str:
    """The licence by the metadata: an expression, the classifiers, or the first line of the text."""
    metadata = package.metadata
    if expression := metadata.get("License-Expression"):
        return str(expression)
    classifiers = [
        text.rpartition(" :: ")[2] for text in metadata.get_all("Classifier", []) if text.startswith("License ::")
    ]
    named = [text for text in classifiers if text != "OSI Approved"]
    return " or ".join(named) or str(metadata.get("License", "")).split("\n")[0]


def families(text: str) -> set[str]:
    """The families of licences that a text names, however it writes them."""
    found = {family for word, family in FAMILIES.items() if re.search(rf"\b{word}", text)}
    return found - {"MIT"} if "HPND" in found else found


def listed() -> dict[str, tuple[str, str]]:
    """The rows of the page: package, licence and what needs it."""
    return (
        {row[0]: (row[1], row[2]) for row in ROW.findall(PAGE.read_text("utf-8")) if row[0] != "package"}
        if PAGE.exists()
        else {}
    )


def main() -> None:
    before, rows = listed(), []
    for package, needed in sorted(dependencies().items()):
        try:
            text = licence(distribution(package))
        except PackageNotFoundError:
            text = before.get(package, ("", ""))[0]
        rows.append(f"| {package} | {text} | {needed} |\n")
    PAGE.write_text(HEAD + "".join(rows), encoding="utf-8")


if __name__ == "__main__":
    main()
