"""File systems of the tests' own, mounted where nobody else sees them."""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def mounted(directory: Path, options: str, *, as_user: bool) -> Iterator[Path]:
    """Mount on directory in a namespace that ends with this block; yields the way there through /proc.

    as_user: the namespace has a root of its own, so that no privileges are needed. Skips the test where it cannot
    be done.
    """
    unshare = shutil.which("unshare")
    if unshare is None:
        pytest.skip("unshare (util-linux) is not installed")
    holder = subprocess.Popen(
        [
            unshare,
            "--mount",
            *(["--user", "--map-root-user"] if as_user else []),
            "sh",
            "-c",
            f'mount {options} "$0" && echo mounted && exec cat',
            str(directory),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert holder.stdout is not None
        if holder.stdout.readline() != "mounted\n":
            _, said = holder.communicate(timeout=10)
            pytest.skip(f"a file system cannot be mounted in a namespace here: {said.strip()}")
        yield Path(f"/proc/{holder.pid}/root{directory}")
    finally:
        holder.communicate(timeout=10)
