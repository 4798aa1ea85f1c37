"""An attached volume is a file that any tool can use."""

import errno
import hashlib
import os
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from embedded_host.fuse_setting import Setting, needs_fuse, tool
from embedded_host.target_process import MIB, TargetProcess
from weft.connection import NvmeofConnection

pytestmark = needs_fuse


@pytest.fixture
def setting(short_path: Path, shared_target: TargetProcess) -> Iterator[Setting]:
    prepared = Setting(short_path, shared_target)
    try:
        yield prepared
    finally:
        prepared.stop()


def _attached(setting: Setting, size: int = 64 * MIB) -> tuple[NvmeofConnection, Path]:
    connection = setting.target.new_volume(size)
    return connection, setting.connector.attach(connection)


def _run(*argv: str | Path) -> str:
    done = subprocess.run(
        [str(each) for each in argv], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, f"{argv}: {done.stdout}{done.stderr}"
    return done.stdout


def test_the_file_is_its_owners_alone_and_has_the_volumes_size(setting: Setting) -> None:
    connection, path = _attached(setting)
    status = path.stat()
    assert path == setting.config.attached_dir / connection.volume_id / "volume"
    assert (status.st_size, status.st_mode & 0o777) == (64 * MIB, 0o600)
    assert [each.name for each in path.parent.iterdir()] == ["volume"]
    assert os.statvfs(path).f_blocks * os.statvfs(path).f_frsize == 64 * MIB
    (attachment,) = setting.connector.attached()
    assert (attachment.path, attachment.connection) == (path, connection)


def test_dd_writes_what_the_backing_file_then_holds(setting: Setting, short_path: Path) -> None:
    connection, path = _attached(setting)
    source = short_path / "source"
    source.write_bytes(os.urandom(9 * MIB + 123))
    _run("dd", f"if={source}", f"of={path}", "bs=1M", "conv=notrunc,fsync", "status=none")
    backing = setting.target.path(connection.volume_id).read_bytes()
    assert backing[: 9 * MIB + 123] == source.read_bytes()
    back = short_path / "back"
    _run("dd", f"if={path}", f"of={back}", "bs=64k", "status=none")
    assert back.read_bytes() == backing


def test_a_file_system_is_made_checked_and_read_with_ordinary_tools(
    setting: Setting, short_path: Path
) -> None:
    mke2fs, e2fsck, debugfs = tool("mke2fs"), tool("e2fsck"), tool("debugfs")
    tree = short_path / "tree"
    for number in range(20):
        file = tree / f"folder{number % 3}" / f"file{number}"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(os.urandom(100_000 + number))
    connection, path = _attached(setting)
    _run(mke2fs, "-q", "-F", "-t", "ext4", "-d", tree, path)
    _run(e2fsck, "-f", "-n", path)
    setting.connector.detach(connection)
    backing = setting.target.path(connection.volume_id)
    _run(e2fsck, "-f", "-n", backing)
    path = setting.connector.attach(connection)
    copy = short_path / "copy"
    _run(debugfs, "-R", f"dump folder1/file7 {copy}", path)
    assert copy.read_bytes() == (tree / "folder1" / "file7").read_bytes()


def test_what_is_written_is_at_the_target_when_write_and_fsync_return(setting: Setting) -> None:
    connection, path = _attached(setting)
    with path.open("r+b") as file:
        file.write(b"closed")
    descriptor = os.open(path, os.O_RDWR)
    try:
        os.pwrite(descriptor, b"synced", 4096)
        os.fsync(descriptor)
        backing = setting.target.path(connection.volume_id).read_bytes()
        assert (backing[:6], backing[4096:4102]) == (b"closed", b"synced")
    finally:
        os.close(descriptor)


def test_opening_for_writing_anew_does_not_shrink_it(setting: Setting) -> None:
    _, path = _attached(setting)
    path.open("r+b").close()
    with path.open("wb") as file:
        file.write(b"new")
    assert path.stat().st_size == 64 * MIB


def test_the_end_is_the_end(setting: Setting) -> None:
    _, path = _attached(setting)
    descriptor = os.open(path, os.O_RDWR)
    try:
        assert os.pwrite(descriptor, b"12345", 64 * MIB - 2) == 2
        with pytest.raises(OSError, match="No space left") as raised:
            os.pwrite(descriptor, b"x", 64 * MIB)
        assert raised.value.errno == errno.ENOSPC
        assert os.pread(descriptor, 10, 64 * MIB - 2) == b"12"
        assert os.pread(descriptor, 10, 64 * MIB) == b""
        assert os.lseek(descriptor, 0, os.SEEK_END) == 64 * MIB
        with pytest.raises(OSError, match="Invalid argument"):
            os.ftruncate(descriptor, 128 * MIB)
        os.ftruncate(descriptor, 64 * MIB)
    finally:
        os.close(descriptor)


def test_holes_give_storage_back(setting: Setting) -> None:
    connection, path = _attached(setting)
    path.open("r+b").close()
    with path.open("r+b") as file:
        file.write(b"\xff" * (32 * MIB))
    backing = setting.target.path(connection.volume_id)
    used = backing.stat().st_blocks
    _run("fallocate", "--punch-hole", "--offset", str(MIB + 5), "--length", str(30 * MIB), path)
    _run("fallocate", "--zero-range", "--keep-size", "--offset", "0", "--length", "4096", path)
    content = path.read_bytes()
    assert not any(content[:4096])
    assert content[4096 : MIB + 5].count(0xFF) == MIB + 5 - 4096
    assert not any(content[MIB + 5 : 31 * MIB + 5])
    assert content[31 * MIB + 5 : 32 * MIB].count(0xFF) == MIB - 5
    assert backing.stat().st_blocks < used / 2


def test_nothing_else_can_be_made_beside_it(setting: Setting) -> None:
    _, path = _attached(setting)
    for action in (
        lambda: path.with_name("other").write_bytes(b""),
        path.unlink,
        lambda: path.rename(path.with_name("other")),
        lambda: path.with_name("folder").mkdir(),
    ):
        with pytest.raises(OSError, match=r"not implemented|not permitted|Read-only"):
            action()


def test_growth_shows_in_the_file_without_asking(setting: Setting) -> None:
    connection, path = _attached(setting)
    descriptor = os.open(path, os.O_RDWR)
    try:
        setting.target.export(connection.volume_id, 128 * MIB)
        deadline = time.monotonic() + 5
        while os.fstat(descriptor).st_size != 128 * MIB:
            assert time.monotonic() < deadline, "growth was not seen"
            time.sleep(0.02)
        assert path.stat().st_size == 128 * MIB
        assert os.pwrite(descriptor, b"grown", 127 * MIB) == 5
        assert os.pread(descriptor, 5, 127 * MIB) == b"grown"
    finally:
        os.close(descriptor)
    assert setting.connector.extend(connection) == 128 * MIB


def test_the_file_lives_through_a_killed_target(setting: Setting) -> None:
    connection, path = _attached(setting)
    written = hashlib.sha256()
    failed: list[OSError] = []

    def write() -> None:
        try:
            with path.open("r+b", buffering=0) as file:
                for _ in range(150):
                    block = os.urandom(65536)
                    written.update(block)
                    file.write(block)
                    time.sleep(0.01)
        except OSError as error:
            failed.append(error)

    thread = threading.Thread(target=write)
    thread.start()
    for _ in range(2):
        time.sleep(0.4)
        setting.target.kill()
        time.sleep(0.2)
        setting.target.start()
    thread.join(30)
    assert not thread.is_alive()
    assert failed == []
    backing = setting.target.path(connection.volume_id).read_bytes()
    assert hashlib.sha256(backing[: 150 * 65536]).digest() == written.digest()


def test_who_has_the_file_open_may_start_programs_while_the_target_is_away(setting: Setting) -> None:
    _, path = _attached(setting)
    with path.open("r+b", buffering=0) as file:
        file.write(b"unflushed")
        setting.target.kill()
        started = time.monotonic()
        _run("true")
        assert time.monotonic() - started < 5
        setting.target.start()


def test_several_readers_and_writers_share_the_file(setting: Setting) -> None:
    _, path = _attached(setting)
    failed: list[BaseException] = []

    def work(number: int) -> None:
        try:
            descriptor = os.open(path, os.O_RDWR)
            try:
                for turn in range(50):
                    data = bytes([number + 1]) * 3000
                    offset = number * 1_000_000 + turn * 3000
                    assert os.pwrite(descriptor, data, offset) == 3000
                    assert os.pread(descriptor, 3000, offset) == data
            finally:
                os.close(descriptor)
        except BaseException as error:  # noqa: BLE001 -- the test looks at it
            failed.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failed == []
