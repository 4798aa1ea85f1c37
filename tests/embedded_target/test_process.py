"""The target's process: started, adopted, killed, restored, stopped; and what it keeps on disk."""

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from embedded_target.processes import configure, eventually, make_volume, reconnect
from embedded_target.workshop import HOST_A, HOST_B, MIB, free_portal, nqn_of
from nvme_tcp_host import LostError, RawConnection, RawHost
from weft.config import Config
from weft.embedded.target.control import (
    ControlClient,
    Done,
    HoldWrites,
    StatusRequest,
    TargetStatus,
    encode_line,
)
from weft.embedded.target.settings import encode_settings, settings_of
from weft.errors import ConflictError, InvalidValueError, UnavailableError, UnsupportedError
from weft.model import Protocol, VolumeId
from weft.names import new_id
from weft.nvme.nvm import Read, Write
from weft.nvme.status import StatusCode
from weft.targets import EmbeddedTarget, TargetKeeper, open_target


@pytest.fixture
def config(short_path: Path) -> Config:
    return configure(short_path, (free_portal(), free_portal("::1")))


@pytest.fixture
def target(config: Config) -> Iterator[EmbeddedTarget]:
    target = EmbeddedTarget(config)
    target.ensure_running().close()
    yield target
    target.stop_target()


def kill(target: EmbeddedTarget) -> int:
    pid = target.status().pid
    os.kill(pid, signal.SIGKILL)
    return pid


def run_process(config: Config) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "weft.embedded.target_process", encode_settings(settings_of(config))],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_a_killed_target_is_back_at_once_with_everything_that_it_exported(
    config: Config, target: EmbeddedTarget, short_path: Path
) -> None:
    keeper = TargetKeeper(target)
    keeper.start()
    try:
        portal = config.portals()[0]
        export = make_volume(short_path, HOST_A)
        other = make_volume(short_path, HOST_B)
        connections = target.create_export(export)
        target.create_export(other)
        host = RawHost(portal, nqn_of(export), HOST_A)
        namespace, found = host.namespace(), target.exports()
        assert host.io[0].call(Write(nsid=1, slba=0, blocks=1), data=b"k" * 512).status.ok

        killed = kill(target)
        began = time.monotonic()
        host.admin.wait_until_lost()
        with reconnect(portal, export, HOST_A) as again:
            took = time.monotonic() - began
            assert again.namespace() == namespace
            assert again.io[0].read(Read(nsid=1, slba=0, blocks=1), 512) == b"k" * 512
        assert target.status().pid != killed
        assert target.exports() == found
        assert target.create_export(export) == connections
        refused = RawConnection(portal).open()
        assert refused.connect(nqn_of(export), HOST_B).status.code == StatusCode.CONNECT_INVALID_HOST
        refused.close()
        host.close()
        assert took < 5
    finally:
        keeper.stop()


def test_io_goes_on_after_the_target_was_killed_again_and_again(
    config: Config, target: EmbeddedTarget, short_path: Path
) -> None:
    """No acknowledged write is lost, though every connection is."""
    keeper = TargetKeeper(target)
    keeper.start()
    try:
        export = make_volume(short_path, HOST_A)
        target.create_export(export)
        host = reconnect(config.portals()[0], export, HOST_A)
        acknowledged: dict[int, bytes] = {}
        for round_number in range(3):
            killer = threading.Timer(0.1, kill, (target,))
            killer.start()
            try:
                while True:
                    slba = len(acknowledged) % 4096
                    data = os.urandom(512)
                    if host.io[0].call(Write(nsid=1, slba=slba, blocks=1), data=data).status.ok:
                        acknowledged[slba] = data
            except (LostError, OSError):
                killer.join()
            host.close()
            host = reconnect(config.portals()[0], export, HOST_A)
            assert round_number < 3
        lost = len(acknowledged) % 4096
        content = export.path.read_bytes()
        assert acknowledged
        assert all(
            content[slba * 512 : slba * 512 + 512] == data
            for slba, data in acknowledged.items()
            if slba != lost
        )
        host.close()
    finally:
        keeper.stop()


def test_the_one_that_runs_is_adopted(config: Config, target: EmbeddedTarget) -> None:
    second = EmbeddedTarget(config)
    keeper = TargetKeeper(second)
    keeper.start()
    keeper.stop()
    assert second.status().pid == target.status().pid


def test_one_that_runs_with_another_configuration_is_started_anew_with_its_exports(
    config: Config, target: EmbeddedTarget, short_path: Path
) -> None:
    export = make_volume(short_path, HOST_A)
    target.create_export(export)
    before = target.status()
    changed = EmbeddedTarget(replace(config, target=msgspec.structs.replace(config.target, max_io_queues=3)))
    keeper = TargetKeeper(changed)
    keeper.start()
    keeper.stop()
    after = changed.status()
    assert after.pid != before.pid
    assert after.portals == before.portals
    assert set(changed.exports()) == {export.volume_id}
    changed.stop_target()


def test_only_one_target_serves_a_directory(config: Config, target: EmbeddedTarget) -> None:
    refused = run_process(config)
    assert refused.returncode == 1
    assert "another target runs" in refused.stderr
    assert target.status().exports == 0


def test_sigterm_ends_the_process_well_and_its_exports_are_there_again(
    config: Config, target: EmbeddedTarget, short_path: Path
) -> None:
    export = make_volume(short_path, HOST_A)
    target.create_export(export)
    host = RawHost(config.portals()[0], nqn_of(export), HOST_A)
    assert target._daemon is not None
    os.kill(target.status().pid, signal.SIGTERM)
    assert target._daemon.wait(10) == 0
    host.admin.wait_until_lost()
    host.close()
    assert not config.target_socket.exists()
    target.ensure_running().close()
    assert set(target.exports()) == {export.volume_id}


def test_settings_that_make_no_sense_end_it_with_a_sentence() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "weft.embedded.target_process", '{"target_dir": 5}'],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("settings: ")
    assert "Traceback" not in done.stderr


def test_only_its_owner_reaches_the_socket_and_the_records(
    config: Config, target: EmbeddedTarget, short_path: Path
) -> None:
    export = make_volume(short_path, HOST_A)
    target.create_export(export)
    record = config.target_dir / "exports" / f"{export.volume_id}.json"
    assert stat.S_IMODE(config.target_socket.stat().st_mode) == 0o600
    assert stat.S_IMODE(record.stat().st_mode) == 0o600
    assert json.loads(record.read_bytes())["generation"] == 1


def test_a_damaged_record_is_kept_aside_and_the_others_are_restored(
    config: Config, target: EmbeddedTarget, short_path: Path
) -> None:
    whole, cut = make_volume(short_path, HOST_A), make_volume(short_path, HOST_A)
    target.create_export(whole)
    target.create_export(cut)
    target.stop_target()
    records = config.target_dir / "exports"
    record = records / f"{cut.volume_id}.json"
    content = record.read_bytes()
    record.write_bytes(content[: len(content) // 2])
    leftovers = {
        f"{whole.volume_id}.json.new": content[:10],
        f"{new_id()}.json": content,
        "nonsense": b"\xff\x00",
        f"{new_id()}.json.new": b"",
    }
    for name, leftover in leftovers.items():
        (records / name).write_bytes(leftover)

    target.ensure_running().close()
    assert set(target.exports()) == {whole.volume_id}
    assert {each.name for each in records.iterdir()} == {f"{whole.volume_id}.json"}
    damaged = {name for name in leftovers if not name.endswith(".new")}  # the others were never records
    assert {each.name for each in (config.target_dir / "damaged").iterdir()} == {*damaged, record.name}
    target.create_export(cut)
    assert set(target.exports()) == {whole.volume_id, cut.volume_id}


def test_a_volume_whose_file_is_missing_stays_exported_and_hosts_may_come_again(
    config: Config, target: EmbeddedTarget, short_path: Path
) -> None:
    export = make_volume(short_path, HOST_A)
    target.create_export(export)
    target.stop_target()
    hidden = export.path.rename(short_path / "hidden")
    target.ensure_running().close()
    found = target.export(export.volume_id)
    assert found is not None
    assert not found.complete
    with RawConnection(config.portals()[0]).open() as connection:
        answer = connection.connect(nqn_of(export), HOST_A)
        assert (answer.status.code, answer.status.dnr) == (StatusCode.CONNECT_CONTROLLER_BUSY, False)
        hidden.rename(export.path)
        assert connection.connect(nqn_of(export), HOST_A).status.ok
    again = target.export(export.volume_id)
    assert again is not None
    assert again.complete


def test_a_portal_that_is_taken_is_said_to_be_unbound_and_bound_later(short_path: Path) -> None:
    free, taken = free_portal(), free_portal()
    config = configure(short_path, (free, taken))
    target = EmbeddedTarget(config)
    with socket.create_server((taken.address, taken.port)):
        target.ensure_running().close()
        try:
            export = make_volume(short_path, HOST_A)
            (connection,) = target.create_export(export).values()
            assert connection.portals == (free,)
            found = target.export(export.volume_id)
            assert found is not None
            assert (found.complete, found.portals) == (False, (str(free),))
            status = target.status().portals
            assert [(each.bound, each.reason) for each in status] == [
                (True, ""),
                (False, "Address already in use"),
            ]
        except BaseException:
            target.stop_target()
            raise
    try:
        eventually(lambda: all(each.bound for each in target.status().portals))
        with RawHost(taken, nqn_of(export), HOST_A) as host:
            assert host.namespace().nsze * 512 == 4 * MIB
    finally:
        target.stop_target()


def test_an_export_without_any_bound_portal_says_why(short_path: Path) -> None:
    taken = free_portal()
    target = EmbeddedTarget(configure(short_path, (taken,)))
    with socket.create_server((taken.address, taken.port)):
        target.ensure_running().close()
        try:
            with pytest.raises(UnavailableError, match="Address already in use"):
                target.create_export(make_volume(short_path, HOST_A))
        finally:
            target.stop_target()


def test_status_counts_exports_and_connections(
    config: Config, target: EmbeddedTarget, short_path: Path
) -> None:
    export = make_volume(short_path, HOST_A)
    target.create_export(export)
    with RawHost(config.portals()[0], nqn_of(export), HOST_A, queues=2):
        status = target.status()
        assert (status.exports, status.connections) == (1, {HOST_A: 3})
    eventually(lambda: target.status().connections == {})


def test_the_open_files_limit_is_raised_as_far_as_it_goes(target: EmbeddedTarget) -> None:
    limits = Path(f"/proc/{target.status().pid}/limits").read_text(encoding="ascii")
    (line,) = [each for each in limits.splitlines() if each.startswith("Max open files")]
    soft, hard = line.split()[3:5]
    assert soft == hard


def test_hosts_that_come_and_go_leave_nothing_behind(
    config: Config, target: EmbeddedTarget, short_path: Path
) -> None:
    export = make_volume(short_path, HOST_A)
    target.create_export(export)
    process = Path(f"/proc/{target.status().pid}")

    def counts() -> tuple[int, int]:
        return len(list((process / "fd").iterdir())), len(list((process / "task").iterdir()))

    with ControlClient(config.target_socket) as control:
        control.call(StatusRequest(), TargetStatus)
        before = counts()
        for _ in range(30):
            RawHost(config.portals()[0], nqn_of(export), HOST_A, queues=2).close()
        eventually(lambda: all(now <= was for now, was in zip(counts(), before, strict=True)))


def test_writes_can_be_held_from_another_process(
    config: Config, target: EmbeddedTarget, short_path: Path
) -> None:
    export = make_volume(short_path, HOST_A)
    assert target.hold_writes(export.volume_id, 5) is None
    target.create_export(export)
    with RawHost(config.portals()[0], nqn_of(export), HOST_A) as host:
        held = target.hold_writes(export.volume_id, 20)
        assert held is not None
        with held:
            cid = host.io[0].submit(Write(nsid=1, slba=0, blocks=1), data=b"h" * 512)
            host.io[0].read(Read(nsid=1, slba=0, blocks=1), 512)
            assert cid not in host.io[0].completed
        assert host.io[0].wait(cid).status.ok

        short = target.hold_writes(export.volume_id, 0.1)
        assert short is not None
        with pytest.raises(UnavailableError, match="not enough"), short:
            assert host.io[0].call(Write(nsid=1, slba=0, blocks=1), data=b"h" * 512).status.ok


def test_a_hold_ends_with_the_connection_that_took_it(
    config: Config, target: EmbeddedTarget, short_path: Path
) -> None:
    export = make_volume(short_path, HOST_A)
    target.create_export(export)
    with RawHost(config.portals()[0], nqn_of(export), HOST_A) as host:
        holder = ControlClient(config.target_socket)
        holder.call(HoldWrites(export.volume_id, 60), Done)
        with pytest.raises(ConflictError), ControlClient(config.target_socket) as second:
            second.call(HoldWrites(export.volume_id, 60), Done)
        cid = host.io[0].submit(Write(nsid=1, slba=0, blocks=1), data=b"h" * 512)
        host.io[0].read(Read(nsid=1, slba=0, blocks=1), 512)
        assert cid not in host.io[0].completed
        holder.close()
        assert host.io[0].wait(cid).status.ok


@pytest.mark.parametrize("line", [b"nonsense\n", b'{"type":"unknown"}\n', b"\xff\xfe\n", b"[]\n"])
def test_nonsense_on_the_control_socket_is_answered_with_an_error(
    config: Config, target: EmbeddedTarget, line: bytes
) -> None:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(config.target_socket))
        connection.sendall(line + encode_line(StatusRequest()))
        with connection.makefile("rb") as lines:
            assert json.loads(lines.readline())["kind"] == "invalidValue"
            assert json.loads(lines.readline())["pid"] == target.status().pid


def test_errors_keep_their_kind_over_the_control_socket(target: EmbeddedTarget) -> None:
    with pytest.raises(InvalidValueError, match="volume_id"):
        target.export(VolumeId("../../etc/passwd"))
    with pytest.raises(InvalidValueError, match="volume_id"):
        target.remove_export(VolumeId("*"))


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (
            encode_line(
                TargetStatus(pid=1, version="9.9", control_version=999, portals=(), exports=0, connections={})
            ),
            r"weft 9\.9\) cannot be controlled",
        ),
        (b'{"type":"hello"}\n', "answers in a way that weft .* does not know .*weft target stop"),
    ],
)
def test_a_target_of_another_kind_is_not_taken(short_path: Path, answer: bytes, said: str) -> None:
    config = configure(short_path)
    config.runtime_dir.mkdir()
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(config.target_socket))
        listening.listen()

        def converse() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(answer)

        thread = threading.Thread(target=converse)
        thread.start()
        with pytest.raises(UnsupportedError, match=said):
            EmbeddedTarget(config).ensure_running()
        thread.join()


def test_a_socket_left_behind_is_no_obstacle_and_a_live_one_is_respected(short_path: Path) -> None:
    config = configure(short_path)
    config.runtime_dir.mkdir()
    with socket.socket(socket.AF_UNIX) as left_behind:
        left_behind.bind(str(config.target_socket))
    target = EmbeddedTarget(config)
    target.ensure_running().close()
    target.stop_target()

    with socket.socket(socket.AF_UNIX) as somebody:
        somebody.bind(str(config.target_socket))
        somebody.listen()
        refused = run_process(config)
    assert refused.returncode == 1
    assert "another target answers" in refused.stderr


def test_a_target_that_cannot_start_says_why(config: Config, target: EmbeddedTarget) -> None:
    """As when the runtime directory went with the session of a user whose target still runs."""
    config.target_socket.rename(config.target_socket.with_name("moved"))
    try:
        with pytest.raises(UnavailableError, match=r"with exit code 1: another target runs on .*target\b"):
            EmbeddedTarget(config).ensure_running()
    finally:
        config.target_socket.with_name("moved").rename(config.target_socket)
    assert target.status().exports == 0


def test_protocols_that_no_target_serves_are_refused_by_name(config: Config) -> None:
    with pytest.raises(UnsupportedError, match="iscsi"):
        open_target(Protocol.ISCSI, config)


def test_a_target_that_does_not_run_is_unavailable_and_stopping_it_is_done(short_path: Path) -> None:
    target = EmbeddedTarget(configure(short_path))
    target.stop_target()
    with pytest.raises(UnavailableError, match="does not answer"):
        target.exports()
