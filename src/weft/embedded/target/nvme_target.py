"""The embedded NVMe/TCP target: exports in, hosts served."""

import logging
import os
from pathlib import Path
from typing import Final

from weft import __version__
from weft.embedded.target.backend import Backend, check_holds, open_backend
from weft.embedded.target.connect import Admission
from weft.embedded.target.connections import Connections
from weft.embedded.target.control import CONTROL_VERSION, Exported, TargetStatus
from weft.embedded.target.discovery import Discovery
from weft.embedded.target.exports import ExportRecord, ExportRecords, check_export, record_of
from weft.embedded.target.namespace import BLOCK_SIZE, Hold, Namespace
from weft.embedded.target.portals import Portals
from weft.embedded.target.settings import DEFAULT_LIMITS, Limits, TargetSettings
from weft.embedded.target.subsystem import Subsystem, SubsystemTable
from weft.errors import (
    ConflictError,
    InvalidValueError,
    NotFoundError,
    UnavailableError,
    WeftError,
)
from weft.model import Export, FoundExport, Refusal, VolumeId
from weft.names import subsystem_nqn
from weft.nvme.dhchap_proof import ANY, DhChapPolicy

_log = logging.getLogger(__name__)

MAXIMUM_HOLD_SECONDS: Final = 3600.0


class NvmeTarget:
    """Serves exports on its portals from start() to stop(). Safe to use from any thread."""

    def __init__(
        self, settings: TargetSettings, limits: Limits = DEFAULT_LIMITS, policy: DhChapPolicy = ANY
    ) -> None:
        """policy: what hosts that must authenticate may do so with."""
        self._settings = settings
        self._limits = limits
        self._roots = settings.root_paths()
        self._records = ExportRecords(Path(settings.target_dir))
        self._subsystems = SubsystemTable()
        self._discovery = Discovery(self._subsystems, lambda: self._portals.bound)
        admission = Admission(
            self._subsystems,
            self._discovery,
            open_namespace=self._open_again,
            max_io_queues=settings.max_io_queues,
            max_discovery_connections=max(1, settings.max_connections // 4),
            limits=limits,
            policy=policy,
        )
        self._connections = Connections(settings.max_connections, admission.connect, limits)
        self._portals = Portals(settings.nvmeof_portals(), self._connections.accept, self._discovery.changed)

    def start(self) -> None:
        """Restore the exports, and only then listen: a host that reconnects and does not find its subsystem gives up."""
        for record in self._records.load():
            self._restore(record)
        self._portals.start()

    def stop(self) -> None:
        """Stop to listen, let the connections finish what they are doing, and give the volumes up."""
        self._portals.stop()
        if not self._connections.stop(self._limits.teardown_seconds):
            _log.error("some connections did not end within %g s", self._limits.teardown_seconds)
            return
        for subsystem in self._subsystems.all():
            if subsystem.namespace:
                subsystem.namespace.close()

    def status(self) -> TargetStatus:
        return TargetStatus(
            pid=os.getpid(),
            version=__version__,
            control_version=CONTROL_VERSION,
            portals=self._portals.status(),
            exports=len(self._subsystems.all()),
            connections=self._connections.by_host(),
            settings=self._settings,
        )

    def create_export(self, export: Export) -> Exported:
        """Make the export exactly so; a host that is not named (any more) is cut off before this returns.

        Raises InvalidValueError, NotFoundError, ConflictError, DataError, or UnavailableError: then try again.
        """
        check_export(export)
        if export.size % BLOCK_SIZE:
            raise InvalidValueError("size", f"must be a multiple of {BLOCK_SIZE} bytes, not {export.size}")
        with self._subsystems.changing(export.volume_id):
            subsystem = self._subsystems.get(export.volume_id)
            if subsystem is not None and subsystem.removed:
                self._finish_removal(subsystem)
                subsystem = None
            if subsystem is None:
                subsystem = self._create(export)
            else:
                self._change(subsystem, export)
            return Exported(nqn=subsystem.nqn, portals=tuple(str(each) for each in self._portals.bound))

    def remove_export(self, volume_id: VolumeId) -> None:
        """Cut all hosts off and forget the export; one that is not there stays so."""
        with self._subsystems.changing(volume_id):
            subsystem = self._subsystems.get(volume_id)
            if subsystem is None:
                return
            subsystem.close_admission()
            self._records.remove(volume_id)
            self._finish_removal(subsystem)

    def exports(self, volume_id: VolumeId | None = None) -> tuple[FoundExport, ...]:
        """All exports, or that of one volume, as they are."""
        if volume_id is None:
            return tuple(self._found(each) for each in self._subsystems.all())
        subsystem = self._subsystems.get(volume_id)
        return () if subsystem is None else (self._found(subsystem),)

    def refusals(self, volume_id: VolumeId) -> tuple[Refusal, ...]:
        """Hosts that were turned away from a volume since it was exported or the process began, the last first."""
        subsystem = self._subsystems.get(volume_id)
        return () if subsystem is None else subsystem.refusals.all()

    def hold_writes(self, volume_id: VolumeId, seconds: float) -> Hold:
        """See Namespace.hold_writes. Raises NotFoundError too."""
        if not 0 < seconds <= MAXIMUM_HOLD_SECONDS:
            raise InvalidValueError("seconds", f"must be more than 0 and at most {MAXIMUM_HOLD_SECONDS:g}")
        subsystem = self._subsystems.get(volume_id)
        if subsystem is None or subsystem.namespace is None or subsystem.removed:
            raise NotFoundError(f"volume {volume_id} is not exported here")
        return subsystem.namespace.hold_writes(seconds)

    def _restore(self, record: ExportRecord) -> None:
        export = record.export()
        subsystem = self._subsystem(export, record.generation)
        try:
            subsystem.namespace = self._open_namespace(export)
        except WeftError as error:
            _log.error("volume %s is exported, but cannot be used yet: %s", export.volume_id, error)
        self._subsystems.add(subsystem)

    def _subsystem(self, export: Export, generation: int) -> Subsystem:
        nqn = subsystem_nqn(export.volume_id, self._settings.nqn_prefix)
        return Subsystem(nqn, export, generation, allow_any_host=self._settings.allow_any_host)

    def _open(self, export: Export) -> Backend:
        backend = open_backend(export.path, self._roots)
        try:
            check_holds(backend, export.size)
        except BaseException:
            backend.close()
            raise
        return backend

    def _open_namespace(self, export: Export) -> Namespace:
        return Namespace(export.volume_id, self._open(export), export.size)

    def _open_again(self, subsystem: Subsystem) -> bool:
        with self._subsystems.changing(subsystem.volume_id):
            if subsystem.namespace is None and not subsystem.removed:
                try:
                    subsystem.namespace = self._open_namespace(subsystem.export)
                except WeftError as error:
                    _log.warning("volume %s cannot be used yet: %s", subsystem.volume_id, error)
            return subsystem.namespace is not None

    def _create(self, export: Export) -> Subsystem:
        subsystem = self._subsystem(export, 1)
        namespace = self._open_namespace(export)
        try:
            self._records.save(record_of(export, subsystem.generation))
        except BaseException:
            namespace.close()
            raise
        subsystem.namespace = namespace
        self._subsystems.add(subsystem)
        self._discovery.changed()
        return subsystem

    def _change(self, subsystem: Subsystem, export: Export) -> None:
        old = subsystem.export
        if export.size < old.size:
            raise ConflictError(
                f"volume {export.volume_id} is exported with {old.size} bytes and cannot shrink to {export.size}"
            )
        fresh = self._open_if_elsewhere(subsystem, export)
        try:
            if export != old:
                self._records.save(record_of(export, subsystem.generation + 1))
                subsystem.change(export, subsystem.generation + 1)
                self._discovery.changed()
            # Before anything else changes: who is not named any more must not write to what comes now.
            self._cut_off(subsystem)
            if fresh is not None:
                _serve_from(subsystem, fresh)
        except BaseException:
            if fresh is not None:
                fresh.close()
            raise
        self._grow(subsystem)

    def _open_if_elsewhere(self, subsystem: Subsystem, export: Export) -> Backend | None:
        """The bytes at the export's path, None if they are those that are served and there are enough of them."""
        namespace = subsystem.namespace
        if namespace is None or not namespace.is_at(export.path):
            return self._open(export)
        namespace.check_holds(export.size)
        return None

    def _grow(self, subsystem: Subsystem) -> None:
        namespace = subsystem.namespace
        if namespace is not None and namespace.size < subsystem.export.size:
            namespace.size = subsystem.export.size
            subsystem.notify_all()

    def _cut_off(self, subsystem: Subsystem) -> None:
        unwelcome = subsystem.unwelcome()
        for controller in unwelcome:
            _log.info("%s is cut off from %s", controller.host_nqn, subsystem.nqn)
        if not subsystem.controllers.end(unwelcome, self._limits.teardown_seconds):
            raise UnavailableError(
                f"hosts that may no longer use volume {subsystem.volume_id} could not be cut off within"
                f" {self._limits.teardown_seconds:g} s: a read or write of theirs does not come to an end"
            )

    def _finish_removal(self, subsystem: Subsystem) -> None:
        self._cut_off(subsystem)
        if subsystem.namespace:
            subsystem.namespace.close()
        self._subsystems.remove(subsystem)
        self._discovery.changed()

    def _found(self, subsystem: Subsystem) -> FoundExport:
        namespace, bound = subsystem.namespace, self._portals.bound
        return FoundExport(
            volume_id=subsystem.volume_id,
            path=subsystem.export.path,
            size=namespace.size if namespace else subsystem.export.size,
            initiators=frozenset(each.initiator for each in subsystem.export.hosts),
            portals=tuple(str(each) for each in bound),
            complete=namespace is not None
            and not subsystem.removed
            and len(bound) == len(self._settings.portals),
            key_digests={
                each.initiator: each.secrets.digest for each in subsystem.export.hosts if each.secrets
            },
        )


def _serve_from(subsystem: Subsystem, backend: Backend) -> None:
    if subsystem.namespace is None:
        subsystem.namespace = Namespace(subsystem.volume_id, backend, subsystem.export.size)
    else:
        subsystem.namespace.replace_backend(backend)
