"""The man page weft(1)."""

import shutil
import subprocess
from pathlib import Path

import pytest

from weft.cli.man import page

PAGE = Path(__file__).parents[2] / "docs" / "weft.1"


def test_the_page_that_is_packaged_says_what_the_commands_say() -> None:
    """Else: python -m weft.cli.man >docs/weft.1."""
    assert PAGE.read_text() == page()


def test_every_command_is_on_it() -> None:
    for line in (r".SS weft attach [OPTIONS] VOLUME", r".SS weft volume create [OPTIONS] NAME"):
        assert line in page().replace(r"\-", "-").splitlines()


@pytest.mark.skipif(shutil.which("groff") is None, reason="no groff here")
def test_man_can_read_it() -> None:
    done = subprocess.run(
        ["groff", "-man", "-ww", "-Tutf8", "-z", PAGE],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
