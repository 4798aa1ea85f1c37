"""Waiting for what other threads and processes do."""

import time
from collections.abc import Callable


def eventually(holds: Callable[[], bool], what: str = "it", *, seconds: float = 10.0) -> None:
    """Return once it holds, and fail the test when that takes longer than seconds."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"{what} did not come true within {seconds:g} s"
        time.sleep(0.005)
