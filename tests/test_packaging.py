"""A release: one version, a changelog, a citation."""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import licences
import pytest
import yaml
from command import perfmodel as command
from many import for_each

import perfmodel

ROOT = Path(__file__).parent.parent
VERSION = re.compile(r"\d+\.\d+\.\d+((a|b|rc)\d+)?")


def project():
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def test_the_version_stands_in_one_place():
    assert VERSION.fullmatch(perfmodel.__version__)
    assert command("--version").out == f"perfmodel, version {perfmodel.__version__}\n"
    page = project()
    assert "version" not in page["project"]
    assert "version" in page["project"]["dynamic"]
    assert (ROOT / page["tool"]["hatch"]["version"]["path"]).samefile(perfmodel.__file__)


def test_the_build_reads_that_version():
    hatchling = pytest.importorskip("hatchling.metadata.core", reason="hatchling is not installed")
    from hatchling.plugin.manager import PluginManager

    metadata = hatchling.ProjectMetadata(str(ROOT), PluginManager(), project())
    assert metadata.version == perfmodel.__version__


def test_the_changelog_has_this_version_and_what_comes_next():
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    headings = re.findall(r"^## \[(.+?)\]", text, re.MULTILINE)
    assert headings[0] == "Unreleased"
    assert perfmodel.__version__ in headings
    assert set(re.findall(r"^### (.+)$", text, re.MULTILINE)) <= {
        "Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"
    }  # fmt: skip


def test_the_citation_agrees_with_the_package():
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    page = project()["project"]
    assert {"cff-version", "message", "title", "authors"} <= cited.keys()
    assert (cited["title"], cited["license"]) == (page["name"], page["license"]["text"])
    assert cited["abstract"] == page["description"]
    assert "version" not in cited  # the version is stated in one place only


def test_links_between_the_pages_lead_somewhere():
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]
    assert len(pages) >= 6
    for page in pages:
        for target in re.findall(r"\]\((?!https?://)([^)#]+)\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), (page.name, target)


def test_the_wheel_has_the_parameters_of_kernels():
    included = project()["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]
    assert included["hardware"] == "perfmodel/data/hardware"
    for folder in ("capabilities", "families", "hosts", "kernels", "links", "meanings"):
        assert list((ROOT / "hardware" / folder).glob("*.yaml")), folder


# --- licences

LISTED = licences.listed()


def test_every_direct_dependency_has_a_licence_on_the_page():
    assert len(LISTED) >= 30
    for package, needed in licences.direct().items():
        assert LISTED[package][1] == needed
    assert all(licences.families(text) for text, _ in LISTED.values())
    assert "GPL" not in " ".join(text for text, _ in LISTED.values())


@for_each("package", LISTED)
def test_the_page_states_the_licence_of_the_metadata(package):
    """If this fails after a change of a dependency: ``python tests/licences.py``."""
    try:
        found = licences.licence(distribution(package))
    except PackageNotFoundError:
        pytest.skip(f"{package} is not installed")
    assert not found or licences.families(found) == licences.families(LISTED[package][0])


def test_the_page_has_what_a_plain_installation_brings():
    plain = {package for package, needed in licences.direct().items() if needed == "perfmodel"}
    brought = {own for package in plain for own in licences.brought(package, set())}
    assert len(brought) >= 8
    assert brought - set(LISTED) == set()
