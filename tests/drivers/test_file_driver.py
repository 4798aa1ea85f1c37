"""The file driver's own promises: what lies on disk, in which order, and with which rights."""

import fcntl
import os
import stat
from pathlib import Path

import pytest

from fakes.rows import make_snapshot, make_volume
from weft.drivers.file import FileDriver
from weft.errors import ConflictError, UnavailableError
from weft.names import new_id

MIB = 2**20


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "pool"


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def partial_of(path: Path) -> Path:
    return path.with_name(f".{path.stem}.partial")


def test_volumes_and_snapshots_lie_where_their_ids_say(root: Path) -> None:
    driver = FileDriver(root)
    volume = make_volume(MIB)
    snapshot = make_snapshot(volume)
    driver.create(volume)
    driver.snapshot(snapshot)
    assert driver.path(volume) == root / "volumes" / f"{volume.id}.img"
    found = driver.snapshots(volume.id)[snapshot.id]
    assert found.path == root / "snapshots" / volume.id / f"{snapshot.id}.img"


def test_only_wefts_user_may_read_what_is_in_a_pool(root: Path) -> None:
    driver = FileDriver(root)
    volume = make_volume(MIB)
    snapshot = make_snapshot(volume)
    before = os.umask(0)
    try:
        driver.create(volume)
        driver.snapshot(snapshot)
    finally:
        os.umask(before)
    kept = driver.snapshots(volume.id)[snapshot.id].path
    assert [mode(path) for path in (driver.path(volume), kept)] == [0o600, 0o600]
    directories = [root, root / "volumes", root / "snapshots", kept.parent]
    assert [mode(path) for path in directories] == [0o700] * 4


def test_a_volume_takes_room_only_as_it_is_written(root: Path) -> None:
    driver = FileDriver(root)
    volume = make_volume(1024**4)
    driver.create(volume)
    assert driver.path(volume).stat().st_blocks == 0


def test_opening_a_pool_removes_what_a_crash_left_and_nothing_else(root: Path) -> None:
    driver = FileDriver(root)
    volume = make_volume(MIB)
    driver.create(volume)
    driver.snapshot(make_snapshot(volume))
    kept = root / "snapshots" / volume.id
    ours = [
        root / "volumes" / f".{new_id()}.partial",
        partial_of(driver.path(volume)),
        kept / f".{new_id()}.partial",
    ]
    others = [
        root / "volumes" / ".notes.partial",
        root / "volumes" / "README",
        root / "volumes" / f"{new_id()}.img.bak",
        root / "snapshots" / "README",
        root / f".{new_id()}.partial",
    ]
    abandoned = root / "snapshots" / new_id()
    abandoned.mkdir()
    for path in [*ours, *others]:
        path.touch()
    reopened = FileDriver(root)
    assert [path for path in [*ours, abandoned] if path.exists()] == []
    assert [path for path in others if not path.exists()] == []
    assert set(reopened.volumes()) == {volume.id}
    assert len(reopened.snapshots(volume.id)) == 1


def test_what_another_process_is_making_is_left_alone(root: Path) -> None:
    driver = FileDriver(root)
    volume = make_volume(MIB)
    partial = partial_of(driver.path(volume))
    with partial.open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        FileDriver(root)
        assert partial.exists()
        with pytest.raises(ConflictError, match="another process"):
            driver.create(volume)
        with pytest.raises(ConflictError, match="another process"):
            driver.delete(volume)
        assert partial.exists()
    driver.create(volume)
    assert not partial.exists()


def test_a_volume_that_appears_while_it_is_made_is_not_overwritten(root: Path) -> None:
    volume = make_volume(MIB)
    path = root / "volumes" / f"{volume.id}.img"

    def appear(step: str) -> None:
        if step == "filled partial":
            path.write_bytes(b"precious")

    driver = FileDriver(root, step=appear)
    with pytest.raises(ConflictError, match="another process"):
        driver.create(volume)
    assert path.read_bytes() == b"precious"
    assert not partial_of(path).exists()


def test_links_and_directories_are_not_taken_for_volumes(root: Path, tmp_path: Path) -> None:
    driver = FileDriver(root)
    secret = tmp_path / "secret"
    secret.write_bytes(b"not a volume")
    linked, directory, partial = make_volume(MIB), make_volume(MIB), make_volume(MIB)
    driver.path(linked).symlink_to(secret)
    driver.path(directory).mkdir()
    partial_of(driver.path(partial)).symlink_to(secret)
    assert driver.volumes() == {}
    assert driver.volume(linked.id) is None
    with pytest.raises(UnavailableError):
        driver.create(partial)
    driver.delete(linked)
    assert secret.read_bytes() == b"not a volume"


def test_a_copy_that_is_called_off_leaves_nothing(root: Path) -> None:
    volume, copy = make_volume(MIB), make_volume(MIB)
    snapshot = make_snapshot(volume)

    told: list[str] = []

    def stop(made: str, _done: int, _total: int) -> None:
        told.append(made)
        if made == copy.id:
            raise UnavailableError("weft is being stopped")

    driver = FileDriver(root, progress=stop)
    driver.create(volume)
    driver.path(volume).write_bytes(b"x" * MIB)
    driver.snapshot(snapshot)
    if not told:
        pytest.skip("this file system has reflinks, so nothing is copied")
    with pytest.raises(UnavailableError, match="being stopped"):
        driver.create(copy, snapshot)
    assert set(driver.volumes()) == {volume.id}
    assert not partial_of(driver.path(copy)).exists()


def test_a_copy_tells_how_far_it_is(root: Path) -> None:
    told: list[tuple[str, int, int]] = []
    driver = FileDriver(root, progress=lambda *progress: told.append(progress))
    volume = make_volume(64 * MIB)
    snapshot = make_snapshot(volume)
    driver.create(volume)
    with driver.path(volume).open("r+b") as file:
        os.pwrite(file.fileno(), b"x" * 20 * MIB, 8 * MIB)
    driver.snapshot(snapshot)
    if not told:
        pytest.skip("this file system has reflinks, so nothing was copied")
    assert {made for made, _, _ in told} == {snapshot.id}
    done = [bytes_done for _, bytes_done, _ in told]
    assert done == sorted(done)
    assert len(done) > 3
    assert told[0][1:] == (0, 20 * MIB)
    assert told[-1][1:] == (20 * MIB, 20 * MIB)


def test_a_pool_that_vanished_is_an_error_and_not_an_empty_pool(root: Path, tmp_path: Path) -> None:
    driver = FileDriver(root)
    volume = make_volume(MIB)
    snapshot = make_snapshot(volume)
    driver.create(volume)
    driver.snapshot(snapshot)
    root.rename(tmp_path / "elsewhere")
    for verb in (
        driver.volumes,
        driver.capacity,
        lambda: driver.volume(volume.id),
        lambda: driver.snapshots(volume.id),
        lambda: driver.create(make_volume(MIB)),
        lambda: driver.create(make_volume(MIB), snapshot),
        lambda: driver.extend(volume),
        lambda: driver.delete(volume),
        lambda: driver.snapshot(make_snapshot(volume)),
        lambda: driver.delete_snapshot(snapshot),
        lambda: driver.revert(volume, snapshot),
    ):
        with pytest.raises(UnavailableError, match="see that the directory is mounted"):
            verb()
    assert not root.exists()


def test_a_pool_whose_directory_cannot_be_written_is_refused_with_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "pool").touch()
    with pytest.raises(UnavailableError) as refused:
        FileDriver(tmp_path / "pool", pool="fast")
    assert "pool fast" in str(refused.value)
    assert str(tmp_path / "pool") in str(refused.value)
    with pytest.raises(UnavailableError, match="cannot be opened"):
        FileDriver(Path("/proc/weft"))


def test_free_is_what_a_user_without_privileges_may_write(root: Path) -> None:
    driver = FileDriver(root)
    found = os.statvfs(root)
    assert abs(driver.capacity().free - found.f_bavail * found.f_frsize) < 1024 * MIB


def test_the_capacity_is_what_the_pool_occupies_and_what_is_free(root: Path) -> None:
    driver = FileDriver(root)
    volume = make_volume()
    driver.create(volume)
    driver.path(volume).write_bytes(bytes([1]) * 8 * MIB)
    capacity = driver.capacity()
    assert 8 * MIB <= capacity.total - capacity.free < 9 * MIB


def test_extending_keeps_the_file_that_an_export_holds_open(root: Path) -> None:
    driver = FileDriver(root)
    volume = make_volume(MIB)
    driver.create(volume)
    before = driver.path(volume).stat().st_ino
    driver.extend(make_volume(2 * MIB, volume.id))
    assert driver.path(volume).stat().st_ino == before
