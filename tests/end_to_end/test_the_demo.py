"""The demo holds in each of its forms."""

import subprocess
import sys
from pathlib import Path

import pytest

DEMO = Path(__file__).parents[2] / "demo" / "demo.py"


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("options", [[], ["--without-fuse"], ["--without-fuse", "--without-e2fsprogs"]])
def test_the_demo_holds_and_leaves_nothing(options: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, str(DEMO), *options], capture_output=True, text=True, timeout=280, check=False
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert "FAILED" not in done.stdout
