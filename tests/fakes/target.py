"""A Target whose exports, and the hosts connected to them, are in memory."""

import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from fakes.crash import Crash, CrashPlan
from weft.connection import Connection, NvmeofConnection, NvmeofPortal
from weft.embedded.dhchap import keys_of
from weft.errors import PermissionDeniedError, UnavailableError, WeftError
from weft.model import Export, FoundExport, HostId, Refusal, Transport, VolumeId
from weft.names import check_id, subsystem_nqn

__all__ = ["Crash", "CrashPlan", "FakeTarget"]

PORTAL = NvmeofPortal(transport=Transport.TCP, address="192.0.2.1", port=4420)


@dataclass(frozen=True, slots=True)
class _Shown:
    """An export as it is: sessions are the hosts that are connected right now."""

    path: Path
    size: int
    allowed: frozenset[str] = frozenset()
    sessions: frozenset[str] = field(default=frozenset())
    bound: bool = False
    digests: Mapping[str, str] = field(default_factory=dict)


class FakeTarget:
    """Keeps exports in memory, each made in as many effects as a kernel target needs.

    Effects, for the plan: `target.subsystem` (the export exists, bound to nothing), `target.resize`,
    `target.allow` (one per host), `target.revoke` (one per host, sessions with it), `target.keys`, `target.bind`,
    `target.unbind`, `target.remove`.

    A caller that takes a live export away from hosts that it should still serve finds that in cut: the sessions
    that ended, as (volume, NQN).
    """

    def __init__(
        self, plan: CrashPlan | None = None, *, portals: tuple[NvmeofPortal, ...] = (PORTAL,)
    ) -> None:
        self.plan = plan or CrashPlan()
        self.portals = portals
        self.expected: frozenset[VolumeId] = frozenset()
        self.refused: list[Refusal] = []
        self.cut: list[tuple[VolumeId, str]] = []
        self._lock = threading.RLock()
        self._shown: dict[VolumeId, _Shown] = {}

    # -- what a test does to the world ------------------------------------------------------------------------

    def connect(self, volume_id: VolumeId, nqn: str) -> None:
        """A host connects.

        Raises UnavailableError when nothing listens for the volume, PermissionDeniedError when the host is not let
        in.
        """
        with self._lock:
            shown = self._shown.get(volume_id)
            if shown is None or not shown.bound:
                raise UnavailableError(f"nothing listens for volume {volume_id}")
            if nqn not in shown.allowed:
                raise PermissionDeniedError(f"{nqn} may not use volume {volume_id}")
            self._shown[volume_id] = replace(shown, sessions=shown.sessions | {nqn})

    def disconnect(self, volume_id: VolumeId, nqn: str) -> None:
        with self._lock:
            if volume_id in self._shown:
                shown = self._shown[volume_id]
                self._shown[volume_id] = replace(shown, sessions=shown.sessions - {nqn})

    def connected(self, volume_id: VolumeId) -> frozenset[str]:
        """The hosts that have a session with the volume."""
        with self._lock:
            return self._shown[volume_id].sessions if volume_id in self._shown else frozenset()

    def shows(self, volume_id: VolumeId) -> bool:
        """Whether any part of an export of the volume exists."""
        with self._lock:
            return volume_id in self._shown

    def forget(self) -> None:
        """The node reboots: every export is gone, as in configfs."""
        with self._lock:
            self._shown.clear()

    def unbind(self, volume_id: VolumeId) -> None:
        """The portals of an export go down, as when an address vanishes."""
        with self._lock:
            self._shown[volume_id] = replace(self._shown[volume_id], bound=False, sessions=frozenset())

    # -- the door ---------------------------------------------------------------------------------------------

    def create_export(self, export: Export) -> Mapping[HostId, Connection]:
        check_id("volume", export.volume_id)
        for host in export.hosts:
            if host.secrets is not None:
                keys_of(host.secrets, host.initiator)
        wanted = frozenset(host.initiator for host in export.hosts)
        with self._lock:
            present = self._shown.get(export.volume_id)
            if present is not None and present.path != export.path:
                self.remove_export(export.volume_id)
                present = None
            if present is None:
                with self.plan.effect("target.subsystem"):
                    self._shown[export.volume_id] = _Shown(export.path, export.size)
            self._resize(export)
            self._set_allowed(export.volume_id, wanted)
            digests = {host.initiator: host.secrets.digest for host in export.hosts if host.secrets}
            if self._shown[export.volume_id].digests != digests:
                with self.plan.effect("target.keys"):
                    self._change(export.volume_id, digests=digests)
            if not self._shown[export.volume_id].bound:
                with self.plan.effect("target.bind"):
                    self._change(export.volume_id, bound=True)
        return {
            host.host_id: NvmeofConnection(
                volume_id=export.volume_id,
                nqn=subsystem_nqn(export.volume_id),
                portals=self.portals,
                host_nqn=host.initiator,
            )
            for host in export.hosts
        }

    def remove_export(self, volume_id: VolumeId) -> None:
        check_id("volume", volume_id)
        with self._lock:
            if volume_id not in self._shown:
                return
            if self._shown[volume_id].bound:
                with self.plan.effect("target.unbind"):
                    self._end_sessions(volume_id, self._shown[volume_id].sessions)
                    self._change(volume_id, bound=False)
            with self.plan.effect("target.remove"):
                del self._shown[volume_id]

    def export(self, volume_id: VolumeId) -> FoundExport | None:
        check_id("volume", volume_id)
        with self._lock:
            shown = self._shown.get(volume_id)
            return None if shown is None else self._found(volume_id, shown)

    def exports(self) -> Mapping[VolumeId, FoundExport]:
        with self._lock:
            return {volume_id: self._found(volume_id, shown) for volume_id, shown in self._shown.items()}

    def expect(self, volume_ids: frozenset[VolumeId]) -> None:
        self.expected = volume_ids

    def awaits(self, volume_id: VolumeId) -> bool:
        return volume_id in self.expected and volume_id not in self._shown

    def restore(self, exports: Sequence[Export]) -> None:
        with self._lock:
            for export in exports:
                if export.volume_id not in self._shown:
                    with suppress(WeftError):
                        self.create_export(export)

    def refusals(self, volume_id: VolumeId) -> Sequence[Refusal]:
        return [each for each in self.refused if each.volume_id == volume_id]

    # -- helpers ----------------------------------------------------------------------------------------------

    def _resize(self, export: Export) -> None:
        if self._shown[export.volume_id].size != export.size:
            with self.plan.effect("target.resize"):
                self._change(export.volume_id, size=export.size)

    def _set_allowed(self, volume_id: VolumeId, wanted: frozenset[str]) -> None:
        for nqn in sorted(self._shown[volume_id].allowed - wanted):
            with self.plan.effect("target.revoke"):
                self._end_sessions(volume_id, frozenset({nqn}))
                self._change(volume_id, allowed=self._shown[volume_id].allowed - {nqn})
        for nqn in sorted(wanted - self._shown[volume_id].allowed):
            with self.plan.effect("target.allow"):
                self._change(volume_id, allowed=self._shown[volume_id].allowed | {nqn})

    def _end_sessions(self, volume_id: VolumeId, nqns: frozenset[str]) -> None:
        live = self._shown[volume_id].sessions & nqns
        self.cut.extend((volume_id, nqn) for nqn in sorted(live))
        self._change(volume_id, sessions=self._shown[volume_id].sessions - live)

    def _change(
        self,
        volume_id: VolumeId,
        *,
        size: int | None = None,
        allowed: frozenset[str] | None = None,
        digests: Mapping[str, str] | None = None,
        sessions: frozenset[str] | None = None,
        bound: bool | None = None,
    ) -> None:
        shown = self._shown[volume_id]
        self._shown[volume_id] = _Shown(
            path=shown.path,
            size=shown.size if size is None else size,
            allowed=shown.allowed if allowed is None else allowed,
            digests=shown.digests if digests is None else digests,
            sessions=shown.sessions if sessions is None else sessions,
            bound=shown.bound if bound is None else bound,
        )

    def _found(self, volume_id: VolumeId, shown: _Shown) -> FoundExport:
        return FoundExport(
            volume_id=volume_id,
            path=shown.path,
            size=shown.size,
            initiators=shown.allowed,
            portals=tuple(str(portal) for portal in self.portals) if shown.bound else (),
            complete=shown.bound,
            key_digests=shown.digests,
        )
