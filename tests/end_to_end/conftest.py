"""weft as a user runs it: real processes, in a directory of their own."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from weft_under_demo import WeftUnderDemo


@pytest.fixture
def weft() -> Iterator[WeftUnderDemo]:
    """A running weft; nothing of it may be left when the test is over."""
    directory = Path(tempfile.mkdtemp(prefix="weft-e2e-"))
    installation = WeftUnderDemo(directory)
    try:
        installation.start()
        yield installation
    finally:
        installation.stop()
        left = installation.end_what_is_left()
        shutil.rmtree(directory, ignore_errors=True)
    assert left == []


@pytest.fixture
def weft_with_fuse(weft: WeftUnderDemo) -> WeftUnderDemo:
    reason = weft.status()["attaching"]["reason"]
    if reason:
        pytest.skip(f"no FUSE for user {os.geteuid()} here: {reason}")
    return weft
