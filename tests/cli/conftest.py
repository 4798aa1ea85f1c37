"""The command line, and worlds for it to talk to."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from api.world import World, make_config, make_world
from cli.runner import Cli


@pytest.fixture
def world(short_path: Path) -> Iterator[World]:
    with make_world(make_config(short_path)) as made:
        yield made


@pytest.fixture
def still_world(short_path: Path) -> Iterator[World]:
    """A world without a node: what is asked for stays undone."""
    with make_world(make_config(short_path), with_node=False) as made:
        yield made


@pytest.fixture
def cli(short_path: Path) -> Cli:
    """For the world of this test, if it has one; nobody answers otherwise."""
    config = short_path / "weft.toml"
    config.write_text(
        f'data_dir = "{short_path / "data"}"\nruntime_dir = "{short_path / "run"}"\n', encoding="utf-8"
    )
    return Cli(config)
