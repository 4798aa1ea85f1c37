"""The record of an attachment, its lock, and knowing the process that it names."""

import dataclasses
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from embedded_host.target_process import new_identity, tcp_portal
from weft.connection import NvmeofConnection
from weft.embedded.host import VolumeOptions
from weft.embedded.host.attachment import AttachmentFiles
from weft.embedded.host.process import ProcessIdentity, find_process, users_below
from weft.errors import DataError, UnavailableError
from weft.model import VolumeId
from weft.names import new_id, subsystem_nqn


@pytest.fixture
def files(tmp_path: Path) -> AttachmentFiles:
    return AttachmentFiles(tmp_path / "attached", VolumeId(new_id()))


def _write(files: AttachmentFiles) -> NvmeofConnection:
    identity = new_identity()
    connection = NvmeofConnection(
        volume_id=files.volume_id,
        nqn=subsystem_nqn(files.volume_id),
        portals=(tcp_portal(4420), tcp_portal(4421)),
        host_nqn=identity.nqn,
    )
    process = ProcessIdentity.of(os.getpid())
    assert process is not None
    files.directory.mkdir(parents=True, exist_ok=True)
    files.write(connection, identity, VolumeOptions(), process, allow_other=False)
    return connection


def test_a_record_is_read_as_it_was_written_and_is_its_owners_alone(files: AttachmentFiles) -> None:
    connection = _write(files)
    found = files.read()
    assert found is not None
    assert (found.connection, found.options, found.path) == (connection, VolumeOptions(), files.path)
    assert found.process.alive()
    assert files.record.stat().st_mode & 0o777 == 0o600
    assert [each.name for each in files.directory.iterdir()] == [files.record.name]


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", "\x00", '{"connection": {}}'])
def test_a_damaged_record_is_an_error_that_names_it(files: AttachmentFiles, text: str) -> None:
    _write(files)
    files.record.write_text(text)
    with pytest.raises(DataError, match=str(files.record)):
        files.read()


def test_a_record_of_another_volume_is_damaged(files: AttachmentFiles) -> None:
    _write(files)
    other = dataclasses.replace(files, volume_id=VolumeId(new_id()))
    files.record.rename(other.record)
    with pytest.raises(DataError, match="about volume"):
        other.read()
    assert files.read() is None


def test_the_lock_lets_in_one_at_a_time_and_leaves_no_file(files: AttachmentFiles) -> None:
    inside, most = 0, 0
    guard = threading.Lock()

    def enter() -> None:
        nonlocal inside, most
        for _ in range(20):
            with files.locked(30):
                with guard:
                    inside += 1
                    most = max(most, inside)
                time.sleep(0.0005)
                with guard:
                    inside -= 1

    threads = [threading.Thread(target=enter) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert most == 1
    assert list(files.directory.iterdir()) == []


def test_a_lock_that_is_held_is_waited_for_only_so_long(files: AttachmentFiles) -> None:
    with files.locked(1), pytest.raises(UnavailableError, match=files.volume_id), files.locked(0.1):
        pass


def test_a_process_is_not_taken_for_another_one_with_its_number() -> None:
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)", "known", "by this"])
    try:
        identity = ProcessIdentity.of(process.pid)
        assert identity is not None
        assert identity.alive()
        for imposter in (
            dataclasses.replace(identity, started=identity.started + 1),
            dataclasses.replace(identity, boot="another boot"),
        ):
            assert not imposter.alive()
            imposter.send(signal.SIGKILL)
        time.sleep(0.05)
        assert identity.alive()
        assert find_process("known", "by this") == identity
        assert find_process("known", "by that") is None
        with pytest.raises(UnavailableError, match=str(process.pid)):
            identity.wait(0.05)
        identity.send(signal.SIGKILL)
        identity.wait(10)  # a zombie counts as ended
        assert ProcessIdentity.of(process.pid) is None
    finally:
        process.kill()
        process.wait(10)


def test_who_has_a_file_open_is_named(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"")
    assert users_below(tmp_path) == []
    with file.open("rb"):
        (user,) = users_below(tmp_path)
    assert user.endswith(f"({os.getpid()})")


def test_a_half_written_record_is_in_nobodys_way_and_goes_with_the_rest(files: AttachmentFiles) -> None:
    files.directory.mkdir()
    half = files.record.with_name(files.record.name + ".new")
    half.write_bytes(b'{"connection"')
    _write(files)
    assert files.read() is not None
    half.write_bytes(b'{"connection"')
    files.remove()
    assert list(files.directory.iterdir()) == []
