"""An NVM subsystem: one volume's namespace, the hosts that may use it, and the controllers that they have."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from weft.embedded.dhchap import keys_of
from weft.embedded.target.controller import Controller, Controllers
from weft.embedded.target.namespace import Namespace
from weft.embedded.target.refusals import Refusals
from weft.embedded.target.responder import Responder
from weft.model import Export, VolumeId
from weft.nvme.dhchap_proof import DhChapKeys


class Subsystem:
    """Safe to use from any thread; who changes the export holds the volume's lock (SubsystemTable.changing)."""

    def __init__(self, nqn: str, export: Export, generation: int, *, allow_any_host: bool) -> None:
        self.nqn = nqn
        self.export = export
        self.generation = generation
        self.namespace: Namespace | None = None
        """None while the bytes cannot be opened."""
        self.removed = False
        self.controllers = Controllers()
        self.refusals = Refusals(export.volume_id)
        self._allow_any_host = allow_any_host
        self._admission = threading.Lock()

    @property
    def volume_id(self) -> VolumeId:
        return self.export.volume_id

    def allows(self, host_nqn: str) -> bool:
        return not self.removed and (
            self._allow_any_host or any(each.initiator == host_nqn for each in self.export.hosts)
        )

    def keys_of(self, host_nqn: str) -> DhChapKeys | None:
        """What the host must authenticate with, None if it need not."""
        secrets = next((each.secrets for each in self.export.hosts if each.initiator == host_nqn), None)
        return None if secrets is None else keys_of(secrets)

    def admit(
        self, *, host_nqn: str, hostid: bytes, kato: float, io_queues: int, admin: Responder
    ) -> Controller | None:
        """A new controller, None if the host is not allowed."""
        with self._admission:
            if not self.allows(host_nqn):
                return None
            return self.controllers.create(
                host_nqn=host_nqn, hostid=hostid, kato=kato, io_queues=io_queues, admin=admin
            )

    def change(self, export: Export, generation: int) -> None:
        """From now on no other hosts than export's are admitted."""
        with self._admission:
            self.export, self.generation = export, generation

    def close_admission(self) -> None:
        """From now on nobody is admitted."""
        with self._admission:
            self.removed = True

    def unwelcome(self) -> list[Controller]:
        """The controllers of hosts that are not allowed (any more)."""
        return [each for each in self.controllers.all() if not self.allows(each.host_nqn)]

    def notify_all(self) -> None:
        """Tell the hosts that the namespace has changed."""
        for controller in self.controllers.all():
            controller.notify()


class SubsystemTable:
    """All subsystems, by volume and by NQN, and a lock for each volume."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._by_volume: dict[VolumeId, Subsystem] = {}
        self._by_nqn: dict[str, Subsystem] = {}
        self._changing: dict[VolumeId, tuple[threading.Lock, int]] = {}

    def get(self, volume_id: VolumeId) -> Subsystem | None:
        with self._lock:
            return self._by_volume.get(volume_id)

    def by_nqn(self, nqn: str) -> Subsystem | None:
        with self._lock:
            return self._by_nqn.get(nqn)

    def all(self) -> list[Subsystem]:
        with self._lock:
            return list(self._by_volume.values())

    def add(self, subsystem: Subsystem) -> None:
        with self._lock:
            self._by_volume[subsystem.volume_id] = subsystem
            self._by_nqn[subsystem.nqn] = subsystem

    def remove(self, subsystem: Subsystem) -> None:
        with self._lock:
            del self._by_volume[subsystem.volume_id]
            del self._by_nqn[subsystem.nqn]

    @contextmanager
    def changing(self, volume_id: VolumeId) -> Iterator[None]:
        """Only one at a time changes the export of a volume."""
        with self._lock:
            lock, users = self._changing.get(volume_id, (threading.Lock(), 0))
            self._changing[volume_id] = (lock, users + 1)
        try:
            with lock:
                yield
        finally:
            with self._lock:
                _, users = self._changing[volume_id]
                if users == 1:
                    del self._changing[volume_id]
                else:
                    self._changing[volume_id] = (lock, users - 1)
