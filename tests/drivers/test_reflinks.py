"""Where the file system can share blocks, a copy is made at once and takes no room."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from fakes.mounting import mounted
from fakes.rows import make_snapshot, make_volume
from weft.drivers.file import FileDriver
from weft.errors import UnavailableError
from weft.model import VolumeId

MIB = 2**20
SBIN = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])


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


def never_copies(_made: str, _done: int, _total: int) -> None:
    pytest.fail("bytes were copied")


def never_holds(_volume_id: VolumeId, _seconds: float) -> None:
    raise UnavailableError("writes were held")


def test_snapshots_copies_and_reverts_share_their_blocks_and_hold_no_writes(reflinking: Path) -> None:
    driver = FileDriver(reflinking, hold_writes=never_holds, progress=never_copies)
    volume, copy = make_volume(256 * MIB), make_volume(512 * MIB)
    snapshot = make_snapshot(volume)
    driver.create(volume)
    old, new = os.urandom(100 * MIB), os.urandom(MIB)
    with driver.path(volume).open("r+b") as file:
        os.pwrite(file.fileno(), old, 0)
        os.fsync(file.fileno())
    free = driver.capacity().free
    driver.snapshot(snapshot)
    with driver.path(volume).open("r+b") as file:
        os.pwrite(file.fileno(), new, 0)
    driver.create(copy, snapshot)
    driver.revert(volume, snapshot)
    for path, size in ((driver.path(volume), 256 * MIB), (driver.path(copy), 512 * MIB)):
        with path.open("rb") as file:
            assert os.pread(file.fileno(), 101 * MIB, 0) == old + bytes(MIB)
        assert path.stat().st_size == size
    assert free - driver.capacity().free < 10 * MIB
