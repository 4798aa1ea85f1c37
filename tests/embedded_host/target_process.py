"""The embedded target as a user runs it: a process of its own, exporting files of one folder."""

import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from weft.connection import NvmeofConnection, NvmeofPortal
from weft.embedded.target.control import ControlClient, CreateExport, Done, Exported, RemoveExport
from weft.embedded.target.settings import TargetSettings, encode_settings
from weft.errors import UnavailableError
from weft.model import DhChapSecrets, Export, ExportHost, HostId, HostIdentity, Transport, VolumeId
from weft.names import DEFAULT_NQN_PREFIX, host_nqn, new_id, subsystem_nqn

MIB = 2**20


def new_identity() -> HostIdentity:
    host_id = new_id()
    return HostIdentity(nqn=host_nqn(host_id), id=host_id)


def free_port() -> int:
    """None of those that the kernel gives to outgoing connections.

    From those a host that connects again and again to a target that is not there would once get its own port, and be
    connected to itself.
    """
    while True:
        port = random.randrange(15000, 32000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port


def tcp_portal(port: int) -> NvmeofPortal:
    return NvmeofPortal(transport=Transport.TCP, address="127.0.0.1", port=port)


class TargetProcess:
    """Runs the target; kill() and start() at will, always on the same ports and folder. identity: who is let in."""

    def __init__(self, folder: Path, identity: HostIdentity, *, portals: int = 1) -> None:
        self.folder = folder
        self.identity = identity
        self.ports = [free_port() for _ in range(portals)]
        self.pool = folder / "pool"
        self.pool.mkdir()
        self._socket = folder / "target.sock"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        settings = TargetSettings(
            target_dir=str(self.folder / "exports"),
            socket=str(self._socket),
            portals=tuple(f"127.0.0.1:{port}" for port in self.ports),
            roots=(str(self.pool),),
            nqn_prefix=DEFAULT_NQN_PREFIX,
        )
        with (self.folder / "target.log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "weft.embedded.target_process", encode_settings(settings)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        with ControlClient(self._socket, connect_within=20):
            pass

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait(10)

    def pause(self) -> None:
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def reset(self) -> None:
        """As it was when it was new, for the next test."""
        assert self._process is not None
        self.go_on()
        if self._process.poll() is not None:
            self.start()
        for path in self.pool.iterdir():
            self.remove(VolumeId(path.name))
            path.unlink()

    def stop(self) -> None:
        if self._process is None:
            return
        self._process.send_signal(signal.SIGCONT)
        self._process.terminate()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(10)
            raise

    def new_volume(self, size: int = 16 * MIB, secrets: DhChapSecrets | None = None) -> NvmeofConnection:
        """Make a file of zeroes and export it to the identity, which with secrets must authenticate."""
        volume_id = VolumeId(new_id())
        with self.path(volume_id).open("wb") as file:
            file.truncate(size)
        return self.export(volume_id, size, secrets=secrets)

    def path(self, volume_id: VolumeId) -> Path:
        return self.pool / volume_id

    def export(
        self,
        volume_id: VolumeId,
        size: int,
        hosts: tuple[str, ...] | None = None,
        secrets: DhChapSecrets | None = None,
    ) -> NvmeofConnection:
        if self.path(volume_id).stat().st_size < size:
            os.truncate(self.path(volume_id), size)
        nqns = (self.identity.nqn,) if hosts is None else hosts
        export = Export(
            volume_id=volume_id,
            path=self.path(volume_id),
            size=size,
            hosts=tuple(ExportHost(host_id=HostId(new_id()), initiator=nqn, secrets=secrets) for nqn in nqns),
        )
        with ControlClient(self._socket, connect_within=5) as control:
            control.call(CreateExport(export), Exported)
        return replace(self.connection(volume_id), secrets=secrets)

    def remove(self, volume_id: VolumeId) -> None:
        with ControlClient(self._socket, connect_within=5) as control:
            control.call(RemoveExport(volume_id), Done)

    def connection(self, volume_id: VolumeId) -> NvmeofConnection:
        return NvmeofConnection(
            volume_id=volume_id,
            nqn=subsystem_nqn(volume_id),
            portals=tuple(tcp_portal(port) for port in self.ports),
            host_nqn=self.identity.nqn,
        )


@pytest.fixture(scope="session")
def shared_target() -> Iterator[TargetProcess]:
    """One process for many tests: to start it takes longer than most of them."""
    with tempfile.TemporaryDirectory(prefix="weft-", dir="/tmp") as folder:
        process = TargetProcess(Path(folder), new_identity())
        process.start()
        try:
            yield process
        finally:
            process.stop()


__all__ = [
    "MIB",
    "TargetProcess",
    "UnavailableError",
    "free_port",
    "new_identity",
    "shared_target",
    "tcp_portal",
]
