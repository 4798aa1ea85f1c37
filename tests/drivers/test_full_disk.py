"""A full disk gives a sentence and leaves no half-made volume: tried on a real, small file system."""

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fakes.mounting import mounted
from fakes.rows import make_snapshot, make_volume
from weft.drivers.file import FileDriver
from weft.errors import NoSpaceError
from weft.model import Volume

MIB = 2**20


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A pool's directory on a file system of 8 MiB."""
    with mounted(tmp_path, "-t tmpfs -o size=8m,mode=700 weft", as_user=True) as directory:
        yield directory / "pool"


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def write(driver: FileDriver, volume: Volume, length: int) -> None:
    with driver.path(volume).open("r+b") as file:
        os.pwrite(file.fileno(), b"x" * length, 0)


def files(root: Path) -> set[str]:
    return {path.name for path in root.rglob("*") if path.is_file()}


def test_a_snapshot_that_cannot_fit_is_refused_before_anything_is_written(small: Path) -> None:
    driver = FileDriver(small, pool="tiny")
    volume = make_volume(64 * MIB)
    driver.create(volume)
    write(driver, volume, 5 * MIB)
    with pytest.raises(NoSpaceError) as refused:
        driver.snapshot(make_snapshot(volume))
    assert "pool tiny" in str(refused.value)
    assert str(5 * MIB) in str(refused.value)
    assert files(small) == {f"{volume.id}.img"}
    assert list((small / "snapshots").iterdir()) == []


def test_a_disk_that_fills_up_during_a_copy_leaves_nothing_of_it(small: Path) -> None:
    others = small / "others"

    def fill(made: str, _done: int, _total: int) -> None:
        if made == copy.id:
            others.write_bytes(bytes(int(3.5 * MIB)))

    driver = FileDriver(small, pool="tiny", progress=fill)
    volume, copy = make_volume(64 * MIB), make_volume(64 * MIB)
    snapshot = make_snapshot(volume)
    driver.create(volume)
    write(driver, volume, 2 * MIB)
    driver.snapshot(snapshot)
    with pytest.raises(NoSpaceError, match=r"pool tiny.*No space left"):
        driver.create(copy, snapshot)
    assert set(driver.volumes()) == {volume.id}
    assert files(small) == {f"{volume.id}.img", f"{snapshot.id}.img", "others"}
    others.unlink()
    FileDriver(small).create(copy, snapshot)
    assert driver.path(copy).read_bytes()[: 2 * MIB] == b"x" * 2 * MIB


def test_a_disk_that_fills_up_during_a_revert_leaves_the_volume_as_it_was(small: Path) -> None:
    driver = FileDriver(small)
    volume = make_volume(64 * MIB)
    snapshot = make_snapshot(volume)
    driver.create(volume)
    write(driver, volume, 3 * MIB)
    driver.snapshot(snapshot)
    with driver.path(volume).open("r+b") as file:
        os.pwrite(file.fileno(), b"new", 0)
    with pytest.raises(NoSpaceError):
        driver.revert(volume, snapshot)
    assert driver.path(volume).read_bytes()[:4] == b"newx"
    assert files(small) == {f"{volume.id}.img", f"{snapshot.id}.img"}


def test_a_full_pool_can_be_opened_and_room_made_in_it(small: Path) -> None:
    driver = FileDriver(small)
    volume = make_volume(64 * MIB)
    driver.create(volume)
    room = driver.capacity().free
    with driver.path(volume).open("r+b", buffering=0) as file:
        assert file.write(bytes(64 * MIB)) == room
    reopened = FileDriver(small)
    assert reopened.capacity().free == 0
    reopened.delete(volume)
    assert reopened.capacity().free == room


def test_a_volume_larger_than_a_file_may_be_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    driver = FileDriver(tmp_path / "pool", pool="tiny")
    small, large = make_volume(MIB), make_volume(64 * MIB)
    driver.create(small)
    with largest_file(16 * MIB):
        with pytest.raises(NoSpaceError, match=f"pool tiny.*{64 * MIB}"):
            driver.create(large)
        with pytest.raises(NoSpaceError, match=f"pool tiny.*{64 * MIB}"):
            driver.extend(make_volume(64 * MIB, small.id))
    assert files(tmp_path / "pool") == {f"{small.id}.img"}
    assert driver.path(small).stat().st_size == MIB
