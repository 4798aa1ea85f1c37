"""Worlds to call an API in."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from api.world import World, make_config, make_world


@pytest.fixture
def world(short_path: Path) -> Iterator[World]:
    with make_world(make_config(short_path)) as made:
        yield made


@pytest.fixture
def still_world(short_path: Path) -> Iterator[World]:
    """A world without a node: what is asked for is written down and stays undone."""
    with make_world(make_config(short_path), with_node=False) as made:
        yield made


@pytest.fixture(scope="module")
def module_path() -> Iterator[Path]:
    """As short_path, for a world that a module's tests share."""
    with tempfile.TemporaryDirectory(prefix="weft-", dir="/tmp") as folder:
        yield Path(folder)


@pytest.fixture(scope="module")
def empty_world(module_path: Path) -> Iterator[World]:
    """A still world for tests that leave nothing behind."""
    with make_world(make_config(module_path / "empty"), with_node=False) as made:
        yield made
