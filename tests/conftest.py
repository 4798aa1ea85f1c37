"""What every test may use: profiles of hypothesis, and a folder short enough for unix sockets."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# Deadlines measure the machine, not weft: two busy cores make any example slow once in a while.
settings.register_profile("fast", max_examples=50, deadline=None, print_blob=True)
settings.register_profile(
    "thorough",
    max_examples=2000,
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("fast")  # --hypothesis-profile=thorough comes later and wins


@pytest.fixture
def short_path() -> Iterator[Path]:
    """An empty folder, removed afterwards, whose path leaves room for socket names: sun_path ends after 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="weft-", dir="/tmp") as folder:
        yield Path(folder)
