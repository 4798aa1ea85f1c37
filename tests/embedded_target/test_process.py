"""The target's process: started, adopted, killed, stopped."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from embedded_target.processes import configure, make_volume, reconnect
from embedded_target.workshop import HOST_A, HOST_B, nqn_of
from nvme_tcp_host import LostError, RawConnection, RawHost
from weft.config import Config
from weft.embedded.target.control import TargetStatus, encode_line
from weft.embedded.target.settings import encode_settings, settings_of
from weft.errors import UnavailableError, UnsupportedError
from weft.model import Protocol
from weft.nvme.nvm import Read, Write
from weft.nvme.status import StatusCode
from weft.targets import EmbeddedTarget, TargetKeeper, open_target


def kill(target: EmbeddedTarget) -> int:
    pid = target.status().pid
    os.kill(pid, signal.SIGKILL)
    return pid


def processes_of(config: Config) -> list[int]:
    """The target's processes of this configuration that there are."""
    commands = {int(each.parent.name): each for each in Path("/proc").glob("[0-9]*/cmdline")}
    return [pid for pid, command in commands.items() if _names(command, str(config.target_dir))]


def _names(command: Path, directory: str) -> bool:
    try:
        words = command.read_text(errors="replace")
    except OSError:  # it has ended
        return False
    return "weft.embedded.target_process" in words and directory in words


def run_process(config: Config) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "weft.embedded.target_process", encode_settings(settings_of(config))],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_a_process_that_is_slow_to_come_up_is_waited_for_and_no_second_one_started(config: Config) -> None:
    target = EmbeddedTarget(config, start_seconds=0)
    waited_for: list[int] = []
    deadline = time.monotonic() + 30
    try:
        while time.monotonic() < deadline:
            try:
                target.ensure_running().close()
                break
            except UnavailableError as slow:
                waited_for.append(int(str(slow).split()[1]))
        assert set(waited_for) == {target.status().pid}
        assert processes_of(config) == waited_for[:1]
    finally:
        target.stop_target()


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


def test_the_open_files_limit_is_raised_as_far_as_it_goes(target: EmbeddedTarget) -> None:
    limits = Path(f"/proc/{target.status().pid}/limits").read_text(encoding="ascii")
    (line,) = [each for each in limits.splitlines() if each.startswith("Max open files")]
    soft, hard = line.split()[3:5]
    assert soft == hard


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
