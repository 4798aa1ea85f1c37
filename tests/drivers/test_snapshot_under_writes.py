"""A snapshot is one moment of the volume, also while hosts write to it."""

import os
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

import pytest

from fakes.rows import make_snapshot, make_volume
from weft.drivers.file import FileDriver
from weft.errors import ConflictError, UnavailableError
from weft.model import Volume, VolumeId

MIB = 2**20
SIZE = 48 * MIB


class Target:
    """Lets one writer at a time through to a volume, and holds it back when asked."""

    def __init__(self) -> None:
        self.gate = threading.Lock()
        self.held: list[tuple[VolumeId, float]] = []

    @contextmanager
    def hold_writes(self, volume_id: VolumeId, seconds: float) -> Iterator[None]:
        with self.gate:
            self.held.append((volume_id, seconds))
            yield


class Writer(threading.Thread):
    """Counts, writing each number to the volume's end and only then to its beginning."""

    def __init__(self, path: Path, target: Target) -> None:
        super().__init__()
        self._path = path
        self._target = target
        self._ended = threading.Event()
        self.count = 0

    def run(self) -> None:
        with self._path.open("r+b") as file:
            while not self._ended.is_set():
                self.count += 1
                for offset in (SIZE - 8, 0):
                    with self._target.gate:
                        os.pwrite(file.fileno(), struct.pack("<Q", self.count), offset)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self.join()


def made(driver: FileDriver) -> Volume:
    """A volume with data all over, so that copying it takes a while."""
    volume = make_volume(SIZE)
    driver.create(volume)
    driver.path(volume).write_bytes(bytes(range(256)) * (SIZE // 256))
    with driver.path(volume).open("r+b") as file:
        os.pwrite(file.fileno(), bytes(8), 0)
        os.pwrite(file.fileno(), bytes(8), SIZE - 8)
    return volume


def nothing_is_left(root: Path, volume: Volume) -> bool:
    return [path.name for path in root.rglob("*") if path.is_file()] == [f"{volume.id}.img"] and not any(
        (root / "snapshots").iterdir()
    )


def reflinks(directory: Path) -> bool:
    told: list[object] = []
    driver = FileDriver(directory, progress=lambda *progress: told.append(progress))
    driver.snapshot(make_snapshot(made(driver)))
    return not told


@pytest.fixture
def root(tmp_path: Path) -> Path:
    if reflinks(tmp_path / "probe"):
        pytest.skip("this file system has reflinks, so writes need not be held")
    return tmp_path / "pool"


def test_a_snapshot_never_shows_a_later_write_without_the_earlier_ones(tmp_path: Path) -> None:
    target = Target()
    driver = FileDriver(tmp_path / "pool", hold_writes=target.hold_writes)
    volume = made(driver)
    with Writer(driver.path(volume), target) as writer:
        for _ in range(5):
            snapshot = make_snapshot(volume)
            before = writer.count
            driver.snapshot(snapshot)
            kept = driver.snapshots(volume.id)[snapshot.id].path
            with kept.open("rb") as file:
                (first,) = struct.unpack("<Q", os.pread(file.fileno(), 8, 0))
                (last,) = struct.unpack("<Q", os.pread(file.fileno(), 8, SIZE - 8))
            assert first <= last <= first + 1
            assert last >= before - 1
            driver.delete_snapshot(snapshot)
    assert writer.count > 10


def test_writes_are_held_for_the_volume_and_the_time_that_were_configured(root: Path) -> None:
    target = Target()
    driver = FileDriver(root, hold_writes=target.hold_writes, hold_seconds=7.5)
    volume = made(driver)
    snapshot = make_snapshot(volume)
    driver.snapshot(snapshot)
    driver.snapshot(snapshot)
    driver.create(make_volume(SIZE), snapshot)
    driver.revert(volume, snapshot)
    assert target.held == [(volume.id, 7.5)]


def test_a_copy_that_takes_longer_than_the_hold_is_abandoned_and_says_what_to_do(root: Path) -> None:
    target = Target()
    driver = FileDriver(
        root,
        hold_writes=target.hold_writes,
        hold_seconds=0.05,
        progress=lambda _made, _done, _total: time.sleep(0.02),
    )
    volume = made(driver)
    with pytest.raises(ConflictError, match=r"Detach.*target\.snapshot_hold_seconds.*reflinks") as refused:
        driver.snapshot(make_snapshot(volume))
    assert volume.id in str(refused.value)
    assert nothing_is_left(root, volume)
    assert not target.gate.locked()


def test_a_hold_that_did_not_last_makes_no_snapshot(root: Path) -> None:
    @contextmanager
    def lost(_volume_id: VolumeId, _seconds: float) -> Iterator[None]:
        yield
        raise UnavailableError("the target was restarted while it held the volume's writes")

    driver = FileDriver(root, hold_writes=lost)
    volume = made(driver)
    with pytest.raises(UnavailableError, match="restarted"):
        driver.snapshot(make_snapshot(volume))
    assert nothing_is_left(root, volume)


def test_a_hold_whose_time_ran_out_is_not_an_error_that_trying_again_would_help(root: Path) -> None:
    @contextmanager
    def expires(_volume_id: VolumeId, seconds: float) -> Iterator[None]:
        yield
        time.sleep(seconds)
        raise UnavailableError("the hold ended after its time")

    driver = FileDriver(root, hold_writes=expires, hold_seconds=1.0)
    volume = made(driver)
    with pytest.raises(ConflictError, match=r"target\.snapshot_hold_seconds"):
        driver.snapshot(make_snapshot(volume))
    assert nothing_is_left(root, volume)


def test_a_target_that_cannot_hold_writes_makes_no_snapshot(root: Path) -> None:
    def refuses(_volume_id: VolumeId, _seconds: float) -> None:
        raise UnavailableError("the target does not answer")

    driver = FileDriver(root, hold_writes=refuses)
    volume = made(driver)
    with pytest.raises(UnavailableError, match="does not answer"):
        driver.snapshot(make_snapshot(volume))
    assert nothing_is_left(root, volume)


def test_a_volume_that_nobody_can_write_to_is_copied_without_a_time_limit(root: Path) -> None:
    driver = FileDriver(
        root,
        hold_writes=lambda _volume_id, _seconds: None,
        hold_seconds=0.01,
        progress=lambda _made, _done, _total: time.sleep(0.01),
    )
    volume = made(driver)
    snapshot = make_snapshot(volume)
    driver.snapshot(snapshot)
    assert set(driver.snapshots(volume.id)) == {snapshot.id}
