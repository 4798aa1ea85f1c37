"""A connector in memory and ordinary files: what a caller of the Connector door may be tested with."""

import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from weft.connection import Connection
from weft.errors import ConflictError, NotFoundError
from weft.model import HostIdentity, Initiator, Protocol, VolumeId
from weft.names import check_id, new_id
from weft.ports import AttachedVolume


@dataclass(frozen=True, slots=True)
class FakeAttachedVolume:
    volume_id: VolumeId
    path: Path
    connection: Connection


class FakeConnector:
    """Shows the bytes that backing finds as a link to them. in_use: volumes whose file somebody has open."""

    def __init__(self, directory: Path, nqn: str, backing: Callable[[VolumeId], Path]) -> None:
        self.in_use: set[VolumeId] = set()
        self._directory = directory
        self._nqn = nqn
        self._backing = backing
        self._lock = threading.Lock()
        self._id = new_id()
        self._attached: dict[VolumeId, FakeAttachedVolume] = {}

    def initiator(self) -> Initiator:
        return Initiator(port_name=self._nqn, protocol=Protocol.NVMEOF)

    def identity(self) -> HostIdentity:
        return HostIdentity(nqn=self._nqn, id=self._id)

    def missing(self) -> str | None:
        return None

    def attached(self) -> list[AttachedVolume]:
        return list(self._attached.values())

    def abandoned(self) -> list[AttachedVolume]:
        return []

    def attach(self, connection: Connection) -> Path:
        path = self._path(connection)
        backing = self._backing(connection.volume_id)
        if not backing.exists():
            raise NotFoundError(f"there is no {connection.nqn}")
        with self._lock:
            path.parent.mkdir(parents=True, exist_ok=True)
            if not path.is_symlink():
                path.symlink_to(backing)
            self._attached[connection.volume_id] = FakeAttachedVolume(connection.volume_id, path, connection)
        return path

    def extend(self, connection: Connection) -> int:
        path = self._path(connection)
        if not path.is_symlink():
            raise NotFoundError(f"volume {connection.volume_id} is not attached to this host")
        return path.stat().st_size

    def detach(self, connection: Connection, *, force: bool = False) -> None:
        path = self._path(connection)
        if connection.volume_id in self.in_use and not force:
            raise ConflictError(f"{path} is in use by {os.getpid()}")
        with self._lock:
            path.unlink(missing_ok=True)
            self._attached.pop(connection.volume_id, None)

    def _path(self, connection: Connection) -> Path:
        return self._directory / check_id("volumeId", connection.volume_id)
