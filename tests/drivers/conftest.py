"""File systems of the tests' own, mounted where nobody else sees them."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

SBIN = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])


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


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A pool's directory on a file system of 8 MiB."""
    with mounted(tmp_path, "-t tmpfs -o size=8m,mode=700 weft", as_user=True) as directory:
        yield directory / "pool"


@pytest.fixture
def reflinking(tmp_path: Path) -> Iterator[Path]:
    """A pool's directory on an XFS with reflinks."""
    mkfs = shutil.which("mkfs.xfs", path=SBIN)
    if os.geteuid() != 0 or mkfs is None:
        pytest.skip("needs root and mkfs.xfs (xfsprogs) to make a file system with reflinks")
    image = tmp_path / "xfs.img"
    with image.open("wb") as file:
        file.truncate(512 * 2**20)
    subprocess.run([mkfs, "-q", "-m", "reflink=1", str(image)], check=True, timeout=60)
    directory = tmp_path / "xfs"
    directory.mkdir()
    with mounted(directory, f"-o loop {image}", as_user=False) as found:
        yield found / "pool"
