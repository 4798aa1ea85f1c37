from collections.abc import Iterator
from pathlib import Path

import pytest

from control.control_plane import ControlPlane
from weft.store.sqlite import SqliteStore


@pytest.fixture
def plane(tmp_path: Path) -> Iterator[ControlPlane]:
    """A control plane over a real database."""
    store = SqliteStore(tmp_path / "weft.db")
    yield ControlPlane(store)
    store.close()


@pytest.fixture
def memory() -> ControlPlane:
    """A control plane whose store crashes at effects too."""
    return ControlPlane()
