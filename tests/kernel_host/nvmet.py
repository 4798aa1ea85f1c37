"""The kernel's own target on this machine, driven by plain writes to configfs: what tests of the kernel's host need."""

import contextlib
import os
from pathlib import Path

from weft.connection import NvmeofConnection, NvmeofPortal
from weft.model import AddressFamily, DhChapSecrets, Transport, VolumeId
from weft.names import new_id, subsystem_nqn
from weft.run import run

MIB = 2**20

_CONFIGFS = Path("/sys/kernel/config/nvmet")
_MODULES = {Transport.TCP: "nvmet-tcp", Transport.RDMA: "nvmet-rdma", Transport.LOOP: "nvme-loop"}


def write(path: Path, text: str) -> None:
    """By one write(2): a buffered one swallows the error."""
    descriptor = os.open(path, os.O_WRONLY)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)


class Nvmet:
    """Exports of files below folder, at the portals given. stop() takes everything of its own away."""

    def __init__(self, folder: Path, portals: tuple[NvmeofPortal, ...], host_nqn: str) -> None:
        self._folder = folder
        self._host_nqn = host_nqn
        self._volumes: list[VolumeId] = []
        self._ports: dict[NvmeofPortal, Path] = {}
        run(["modprobe", "-a", "nvmet", *(_MODULES[each.transport] for each in portals)], timeout=60)
        self._host(host_nqn)
        for portal in portals:
            self._add_port(portal)

    @property
    def portals(self) -> tuple[NvmeofPortal, ...]:
        return tuple(self._ports)

    def new_volume(self, size: int = 16 * MIB, *, number_of_portals: int | None = None) -> NvmeofConnection:
        volume_id = VolumeId(new_id())
        self._volumes.append(volume_id)
        with self.backing(volume_id).open("wb") as file:
            file.truncate(size)
        subsystem = self.subsystem(volume_id)
        subsystem.mkdir()
        namespace = subsystem / "namespaces/1"
        namespace.mkdir()
        write(namespace / "device_path", str(self.backing(volume_id)))
        write(namespace / "device_uuid", volume_id)
        write(namespace / "enable", "1")
        self.allow(volume_id)
        for portal in self.portals[:number_of_portals]:
            self.link(volume_id, portal)
        return self.connection(volume_id)

    def connection(self, volume_id: VolumeId) -> NvmeofConnection:
        return NvmeofConnection(
            volume_id=volume_id,
            nqn=subsystem_nqn(volume_id),
            portals=tuple(portal for portal in self.portals if self._link(volume_id, portal).is_symlink()),
            host_nqn=self._host_nqn,
        )

    def link(self, volume_id: VolumeId, portal: NvmeofPortal) -> None:
        self._link(volume_id, portal).symlink_to(self.subsystem(volume_id))

    def unlink(self, volume_id: VolumeId, portal: NvmeofPortal) -> None:
        self._link(volume_id, portal).unlink()

    def allow(self, volume_id: VolumeId) -> None:
        (self.subsystem(volume_id) / "allowed_hosts" / self._host_nqn).symlink_to(self._host(self._host_nqn))

    def forbid(self, volume_id: VolumeId) -> None:
        (self.subsystem(volume_id) / "allowed_hosts" / self._host_nqn).unlink()

    def set_secrets(self, secrets: DhChapSecrets) -> None:
        host = self._host(self._host_nqn)
        for attribute, key in (
            ("dhchap_key", secrets.host_key),
            ("dhchap_ctrl_key", secrets.controller_key or "\0"),
        ):
            (host / attribute).chmod(0o600)
            write(host / attribute, key)

    def grow(self, volume_id: VolumeId, size: int) -> None:
        os.truncate(self.backing(volume_id), size)
        write(self.subsystem(volume_id) / "namespaces/1/revalidate_size", "1")

    def remove(self, volume_id: VolumeId) -> None:
        for portal in self.portals:
            self._link(volume_id, portal).unlink(missing_ok=True)
        subsystem = self.subsystem(volume_id)
        if subsystem.exists():
            for allowed in (subsystem / "allowed_hosts").iterdir():
                allowed.unlink()
            (subsystem / "namespaces/1").rmdir()
            subsystem.rmdir()
        self.backing(volume_id).unlink(missing_ok=True)

    def backing(self, volume_id: VolumeId) -> Path:
        return self._folder / f"{volume_id}.bytes"

    def subsystem(self, volume_id: VolumeId) -> Path:
        return _CONFIGFS / "subsystems" / subsystem_nqn(volume_id)

    def stop(self) -> None:
        for volume_id in self._volumes:
            self.remove(volume_id)
        for port in self._ports.values():
            port.rmdir()
        with contextlib.suppress(FileNotFoundError):
            (_CONFIGFS / "hosts" / self._host_nqn).rmdir()

    def _host(self, nqn: str) -> Path:
        host = _CONFIGFS / "hosts" / nqn
        host.mkdir(exist_ok=True)
        return host

    def _add_port(self, portal: NvmeofPortal) -> None:
        taken = [int(each.name) for each in (_CONFIGFS / "ports").iterdir()]
        port = _CONFIGFS / "ports" / str(max(taken, default=0) + 1)
        port.mkdir()
        write(port / "addr_trtype", portal.transport)
        if portal.transport is not Transport.LOOP:
            write(port / "addr_adrfam", "ipv6" if portal.family is AddressFamily.IPV6 else "ipv4")
            write(port / "addr_traddr", portal.address)
            write(port / "addr_trsvcid", str(portal.port))
        self._ports[portal] = port

    def _link(self, volume_id: VolumeId, portal: NvmeofPortal) -> Path:
        return self._ports[portal] / "subsystems" / subsystem_nqn(volume_id)
