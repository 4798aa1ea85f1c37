"""The control socket answers whoever comes, nonsense included, and holds end with who took them."""

import json
import socket
from pathlib import Path

import pytest

from embedded_target.processes import make_volume
from embedded_target.workshop import HOST_A, nqn_of
from eventually import eventually
from nvme_tcp_host import RawHost
from weft.config import Config
from weft.embedded.target.control import (
    ControlClient,
    Done,
    HoldWrites,
    StatusRequest,
    TargetStatus,
    encode_line,
)
from weft.errors import ConflictError, InvalidValueError, UnavailableError
from weft.model import VolumeId
from weft.nvme.nvm import Read, Write
from weft.targets import EmbeddedTarget


def test_status_counts_exports_and_connections(
    config: Config, target: EmbeddedTarget, short_path: Path
) -> None:
    export = make_volume(short_path, HOST_A)
    target.create_export(export)
    with RawHost(config.portals()[0], nqn_of(export), HOST_A, queues=2):
        status = target.status()
        assert (status.exports, status.connections) == (1, {HOST_A: 3})
    eventually(lambda: target.status().connections == {})


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
