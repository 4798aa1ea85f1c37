"""The command line, and worlds for it to talk to."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from api.world import World, make_config, make_world
from cli.installation import Installation
from cli.runner import Cli, make_cli


@pytest.fixture
def world(short_path: Path) -> Iterator[World]:
    with make_world(make_config(short_path)) as made:
        yield made


@pytest.fixture
def still_world(short_path: Path) -> Iterator[World]:
    """A world without a node: what is asked for stays undone."""
    with make_world(make_config(short_path), with_node=False) as made:
        yield made


@pytest.fixture(scope="module")
def untouched() -> Iterator[tuple[World, Cli]]:
    """A world for many tests that leave it as it is, and the command line that reaches it."""
    with (
        tempfile.TemporaryDirectory(prefix="weft-", dir="/tmp") as folder,
        make_world(make_config(Path(folder))) as made,
    ):
        yield made, make_cli(Path(folder))


@pytest.fixture
def cli(short_path: Path) -> Cli:
    """For the world of this test, if it has one; nobody answers otherwise."""
    return make_cli(short_path)


@pytest.fixture(scope="module")
def installation() -> Iterator[Installation]:
    """For this machine alone."""
    with tempfile.TemporaryDirectory(prefix="weft-", dir="/tmp") as folder:
        made = Installation(Path(folder))
        try:
            yield made
        finally:
            made.stop("--target")
