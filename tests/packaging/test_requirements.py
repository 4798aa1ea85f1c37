"""The pinned requirements say everything that an installation needs, and nothing about where they were made."""

import re
import tomllib
from pathlib import Path

import pytest

import weft

ROOT = Path(__file__).parents[2]
FILES = ["runtime.txt", "dev.txt", "ansible.txt"]


def pinned(file: str) -> dict[str, tuple[str, int]]:
    """Each pinned name with its version and its number of hashes."""
    text = (ROOT / "requirements" / file).read_text().replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    found = [
        re.fullmatch(r"([a-z0-9-]+)==(\S+)(?: ; [^#]*?)?((?:\s+--hash=sha256:[0-9a-f]{64})+)\s*", line)
        for line in lines
    ]
    unread = [line[:80] for line, match in zip(lines, found, strict=True) if match is None]
    assert unread == []
    return {match[1]: (match[2], match[3].count("--hash")) for match in found if match}


def normalized(requirement: str) -> str:
    name = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert name is not None
    return re.sub(r"[-_.]+", "-", name[0]).lower()


@pytest.fixture(scope="module")
def project() -> dict[str, list[str]]:
    table = tomllib.loads((ROOT / "pyproject.toml").read_text())
    return {
        "runtime.txt": table["project"]["dependencies"],
        "dev.txt": table["project"]["dependencies"]
        + table["dependency-groups"]["dev"]
        + table["build-system"]["requires"],
        "ansible.txt": table["dependency-groups"]["ansible"],
        "version": [table["project"]["version"]],
    }


@pytest.mark.parametrize("file", FILES)
def test_every_requirement_has_one_version_and_hashes(file: str) -> None:
    assert all(hashes > 0 for _, hashes in pinned(file).values())


@pytest.mark.parametrize("file", FILES)
def test_everything_that_the_project_asks_for_is_pinned(file: str, project: dict[str, list[str]]) -> None:
    assert {normalized(wanted) for wanted in project[file]} - set(pinned(file)) == set()


def test_the_tools_are_pinned_beside_the_same_runtime() -> None:
    runtime, tools = pinned("runtime.txt"), pinned("dev.txt")
    assert {name: tools.get(name) for name in runtime} == runtime


@pytest.mark.parametrize("file", FILES)
def test_no_address_and_no_path_is_written_down(file: str) -> None:
    assert (
        re.findall(
            r"\S*(?:://|--(?:index|extra-index|find-links)|\s-[a-z] |\S/\S)\S*",
            (ROOT / "requirements" / file).read_text(),
        )
        == []
    )


def test_the_version_is_the_same_wherever_it_stands(project: dict[str, list[str]]) -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text()
    newest = re.search(r"^## \[(.+?)\]", changelog, re.MULTILINE)
    assert newest is not None
    assert [weft.__version__] == project["version"] == [newest[1]]
