"""Attaching and detaching leave either a working file or nothing, whatever happens in between."""

import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from embedded_host.fuse_setting import Setting, needs_fuse
from embedded_host.target_process import MIB, TargetProcess, free_port, new_identity, tcp_portal
from weft.config import ConfigFile, check_config
from weft.connection import NvmeofConnection, to_data
from weft.connectors import open_connector
from weft.connectors.nvmeof_user import NvmeofUserConnector
from weft.embedded.host.attachment import AttachmentFiles
from weft.errors import (
    ConflictError,
    InvalidValueError,
    NotFoundError,
    PermissionDeniedError,
    UnavailableError,
    UnsupportedError,
)
from weft.model import VolumeId

pytestmark = needs_fuse


@pytest.fixture
def setting(short_path: Path, shared_target: TargetProcess) -> Iterator[Setting]:
    prepared = Setting(short_path, shared_target)
    try:
        yield prepared
        prepared.assert_nothing_is_left()
    finally:
        prepared.stop()


def _files(setting: Setting, connection: NvmeofConnection) -> AttachmentFiles:
    return AttachmentFiles(setting.config.attached_dir, connection.volume_id)


def _process_id(setting: Setting, connection: NvmeofConnection) -> int:
    (pid,) = [
        each.process.pid
        for each in setting.connector.attached()
        if each.connection.volume_id == connection.volume_id
    ]
    return pid


def _together(actions: list[Callable[[], object]]) -> list[object]:
    results: list[object] = [None] * len(actions)

    def run(index: int) -> None:
        try:
            results[index] = actions[index]()
        except Exception as error:  # noqa: BLE001 -- the test looks at it
            results[index] = error

    threads = [threading.Thread(target=run, args=(index,)) for index in range(len(actions))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(90)
    return results


def test_the_same_volume_attached_from_many_sides_is_attached_once(setting: Setting) -> None:
    connection = setting.target.new_volume()
    connectors = [NvmeofUserConnector(setting.config) for _ in range(4)]
    paths = _together([lambda each=each: each.attach(connection) for each in connectors])  # type: ignore[misc]
    assert paths == [_files(setting, connection).path] * 4
    assert len(setting.connector.attached()) == 1
    assert _together([lambda each=each: each.detach(connection) for each in connectors]) == [None] * 4  # type: ignore[misc]


def test_several_volumes_are_attached_side_by_side(setting: Setting) -> None:
    connections = [setting.target.new_volume() for _ in range(4)]
    paths = _together([lambda each=each: setting.connector.attach(each) for each in connections])  # type: ignore[misc]
    for number, path in enumerate(paths):
        assert isinstance(path, Path), path
        with path.open("r+b") as file:
            file.write(bytes([number]) * 100)
    for number, connection in enumerate(connections):
        assert setting.target.path(connection.volume_id).read_bytes()[:100] == bytes([number]) * 100
    setting.connector.detach(connections[0])
    assert len(setting.connector.attached()) == 3
    for connection in connections:
        setting.connector.detach(connection)


def test_detach_while_another_volume_is_written_disturbs_nobody(setting: Setting) -> None:
    first, second = setting.target.new_volume(), setting.target.new_volume()
    setting.connector.attach(first)
    with setting.connector.attach(second).open("r+b", buffering=0) as file:
        file.write(b"before")
        setting.connector.detach(first)
        file.write(b"after")
    setting.connector.detach(second)


def test_a_file_in_use_stays_attached_and_the_error_names_who_uses_it(setting: Setting) -> None:
    connection = setting.target.new_volume()
    path = setting.connector.attach(connection)
    with path.open("r+b") as file:
        with pytest.raises(ConflictError, match=rf"\({os.getpid()}\)"):
            setting.connector.detach(connection)
        file.write(b"still there")
    setting.connector.detach(connection)
    assert setting.target.path(connection.volume_id).read_bytes()[:11] == b"still there"


def test_a_file_in_use_is_taken_away_by_force(setting: Setting) -> None:
    connection = setting.target.new_volume()
    path = setting.connector.attach(connection)
    descriptor = os.open(path, os.O_RDWR)
    try:
        os.pwrite(descriptor, b"written", 0)
        setting.connector.detach(connection, force=True)
        with pytest.raises(OSError):  # noqa: PT011 -- which one depends on the kernel
            os.pread(descriptor, 1, MIB)
    finally:
        with contextlib.suppress(OSError):  # it is not connected any more
            os.close(descriptor)
    assert setting.target.path(connection.volume_id).read_bytes()[:7] == b"written"


def test_detach_leaves_nothing_at_the_target_either(setting: Setting) -> None:
    connection = setting.target.new_volume()
    setting.connector.attach(connection)
    setting.connector.detach(connection)
    setting.connector.detach(connection)
    with pytest.raises(NotFoundError, match="not attached"):
        setting.connector.extend(connection)


def test_a_killed_process_is_cleaned_up_by_detach(setting: Setting) -> None:
    connection = setting.target.new_volume()
    setting.connector.attach(connection)
    os.kill(_process_id(setting, connection), signal.SIGKILL)
    setting.connector.detach(connection)


def test_a_killed_process_is_replaced_by_attach(setting: Setting) -> None:
    connection = setting.target.new_volume()
    path = setting.connector.attach(connection)
    with path.open("r+b") as file:
        file.write(b"kept")
    os.kill(_process_id(setting, connection), signal.SIGKILL)
    time.sleep(0.1)
    assert setting.connector.attach(connection) == path
    assert path.read_bytes()[:4] == b"kept"
    setting.connector.detach(connection)


def test_another_process_may_detach(setting: Setting, short_path: Path) -> None:
    connection = setting.target.new_volume()
    program = (
        "import json, sys; from pathlib import Path\n"
        "sys.path.insert(0, sys.argv[1])\n"
        "from embedded_host.fuse_setting import host_config\n"
        "from weft.connection import from_data\n"
        "from weft.connectors.nvmeof_user import NvmeofUserConnector\n"
        "connector = NvmeofUserConnector(host_config(Path(sys.argv[2])))\n"
        "print(connector.attach(from_data(json.loads(sys.argv[3]))))\n"
    )
    tests = Path(__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-c", program, str(tests), str(short_path), json.dumps(to_data(connection))],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    path = Path(done.stdout.strip())
    assert path.stat().st_size == 16 * MIB
    setting.connector.detach(connection)


def test_a_damaged_record_hides_nothing_from_detach(setting: Setting) -> None:
    connection = setting.target.new_volume()
    setting.connector.attach(connection)
    record = _files(setting, connection).record
    record.write_text(record.read_text()[:40])
    assert setting.connector.attached() == []
    setting.connector.detach(connection)


def test_a_lost_record_hides_nothing_from_attach(setting: Setting) -> None:
    connection = setting.target.new_volume()
    path = setting.connector.attach(connection)
    _files(setting, connection).record.unlink()
    assert setting.connector.attach(connection) == path
    assert path.stat().st_size == 16 * MIB
    setting.connector.detach(connection)


def test_a_mount_taken_away_by_hand_takes_everything_with_it(setting: Setting) -> None:
    connection = setting.target.new_volume()
    path = setting.connector.attach(connection)
    subprocess.run(["fusermount3", "-u", str(path.parent)], check=True, timeout=10)
    files = _files(setting, connection)
    deadline = time.monotonic() + 10
    while files.leftovers():
        assert time.monotonic() < deadline, "the process left something behind"
        time.sleep(0.05)
    setting.connector.detach(connection)


def test_a_terminated_process_flushes_and_unmounts(setting: Setting) -> None:
    connection = setting.target.new_volume()
    path = setting.connector.attach(connection)
    with path.open("r+b") as file:
        file.write(b"bytes")
    os.kill(_process_id(setting, connection), signal.SIGTERM)
    deadline = time.monotonic() + 10
    while _files(setting, connection).leftovers():
        assert time.monotonic() < deadline, "the process left something behind"
        time.sleep(0.05)
    assert setting.target.path(connection.volume_id).read_bytes()[:5] == b"bytes"
    setting.connector.detach(connection)


def test_a_dead_target_keeps_unflushed_bytes_attached_until_force(setting: Setting) -> None:
    connection = setting.target.new_volume()
    path = setting.connector.attach(connection)
    setting.target.kill()
    detached = threading.Event()

    def write() -> None:
        try:
            with path.open("r+b", buffering=0) as file:
                file.write(b"never")
        except OSError:
            pass
        detached.set()

    thread = threading.Thread(target=write)
    thread.start()
    time.sleep(0.3)
    with pytest.raises(ConflictError):
        setting.connector.detach(connection)
    started = time.monotonic()
    setting.connector.detach(connection, force=True)
    assert time.monotonic() - started < 20
    thread.join(10)
    assert detached.is_set()


def test_an_idle_volume_detaches_from_a_dead_target(setting: Setting) -> None:
    connection = setting.target.new_volume()
    setting.connector.attach(connection)
    setting.target.kill()
    setting.connector.detach(connection)


@pytest.mark.parametrize("what", ["refused", "unreachable", "unknown"])
def test_a_failed_attach_says_why_and_leaves_nothing(setting: Setting, what: str) -> None:
    connection = setting.target.new_volume()
    expected: type[Exception] | tuple[type[Exception], ...]
    if what == "refused":
        setting.target.export(connection.volume_id, 16 * MIB, hosts=(new_identity().nqn,))
        expected, words = PermissionDeniedError, setting.connector.identity().nqn
    elif what == "unreachable":
        connection = dataclasses.replace(connection, portals=(tcp_portal(free_port()),))
        expected, words = UnavailableError, str(connection.portals[0])
    else:
        setting.target.remove(connection.volume_id)
        expected, words = (NotFoundError, PermissionDeniedError), connection.nqn
    started = time.monotonic()
    with pytest.raises(expected, match=words):
        setting.connector.attach(connection)
    assert time.monotonic() - started < 10


def test_the_same_volume_under_another_name_is_a_conflict(setting: Setting) -> None:
    connection = setting.target.new_volume()
    setting.connector.attach(connection)
    other = dataclasses.replace(connection, nqn=f"nqn.2019-01.com.example:{connection.volume_id}")
    with pytest.raises(ConflictError, match="detach it first"):
        setting.connector.attach(other)
    setting.connector.detach(connection)


def test_a_volume_id_that_is_no_uuid_never_becomes_a_path(setting: Setting) -> None:
    connection = dataclasses.replace(setting.target.new_volume(), volume_id=VolumeId("../../x"))
    for verb in (setting.connector.attach, setting.connector.detach, setting.connector.extend):
        with pytest.raises(InvalidValueError, match="volumeId"):
            verb(connection)


def test_a_deep_runtime_directory_is_no_obstacle(short_path: Path, shared_target: TargetProcess) -> None:
    setting = Setting(short_path, shared_target)
    try:
        connection = setting.target.new_volume()
        deep = short_path / ("d" * 60) / "run"
        files = AttachmentFiles(deep / "attached", connection.volume_id)
        assert len(str(files.socket)) > 107
        config = dataclasses.replace(setting.config, runtime_dir=deep)
        connector = NvmeofUserConnector(config)
        assert connector.attach(connection).stat().st_size == 16 * MIB
        connector.detach(connection)
    finally:
        setting.stop()


def test_an_unknown_protocol_is_refused_by_name(tmp_path: Path) -> None:
    config = check_config(ConfigFile(data_dir=str(tmp_path), runtime_dir="/tmp/weft"))
    with pytest.raises(UnsupportedError, match="floppy"):
        open_connector("floppy", config)
