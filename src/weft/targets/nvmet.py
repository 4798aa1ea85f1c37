"""The Target that has the kernel serve: nvmet, set up through configfs.

The tree in configfs is all that is remembered; after a restart of weft it is as it was, after one of the machine it is
empty, and the loop of the node makes it anew. What in it is weft's own is told by its names and by marks in it: a
subsystem has the model "weft", a port and a host have a directory of mode 0700. The rest is left alone.
"""

import logging
import threading
import time
import weakref
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Final

from weft.config import Config
from weft.connection import NvmeofConnection, NvmeofPortal
from weft.embedded.dhchap import keys_of
from weft.errors import (
    ConflictError,
    DataError,
    InvalidValueError,
    UnavailableError,
    UnsupportedError,
    WeftError,
)
from weft.model import Export, FoundExport, HostId, Refusal, VolumeId
from weft.names import check_id, check_nqn, serial_number, subsystem_nqn, volume_id_of_nqn
from weft.targets.nvmet_devices import Device, DeviceClaims, devices_of, look_at
from weft.targets.nvmet_hosts import NvmetHosts
from weft.targets.nvmet_parts import NvmetParts, NvmetStatus, kernel_parts
from weft.targets.nvmet_ports import NvmetPorts
from weft.targets.nvmet_restore import Restore
from weft.targets.nvmet_tree import (
    MODEL,
    Namespace,
    Subsystem,
    apply,
    namespace_path,
    read_subsystem,
    removal,
    subsystem_difference,
    subsystem_path,
)

_log = logging.getLogger(__name__)

_FIRST_RETRY_SECONDS: Final = 0.5
_LONGEST_RETRY_SECONDS: Final = 5.0


class NvmetTarget:
    """Exports by the kernel. Safe to use from any thread, between start() and stop().

    Every verb raises UnavailableError, ConfigfsError among them, when the kernel refuses a change.
    """

    def __init__(self, config: Config, parts: NvmetParts | None = None) -> None:
        parts = parts if parts is not None else kernel_parts(config)
        self._prefix = config.target.nqn_prefix
        self._qid_max = config.target.max_io_queues
        self._any_host = config.target.allow_any_host
        self._configfs = parts.configfs
        self._modules = parts.modules
        self._sessions = parts.sessions
        self._restore = Restore(config.target.restore_seconds)
        self._devices = DeviceClaims()
        self._hosts = NvmetHosts(parts.configfs, parts.sessions, parts.probe, parts.patience)
        self._ports = NvmetPorts(
            parts.configfs,
            config.portal_options(),
            parts.gate,
            parts.modules.prepare,
            ready=self._restore.ready,
            lost=self._wait_again,
        )
        self._sizes: dict[VolumeId, int] = {}
        self._initiators: dict[VolumeId, frozenset[str]] = {}
        self._locks: weakref.WeakValueDictionary[str, threading.RLock] = weakref.WeakValueDictionary()
        self._locks_lock = threading.Lock()
        self._missing: WeftError | None = UnavailableError("the kernel's target was not started")
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    # -- between start and stop -------------------------------------------------------------------------------

    def start(self) -> None:
        """Take up what configfs has of weft's. What cannot be had yet is tried again in the background."""
        self._sessions.start()
        self._try_to_prepare()
        self._thread = threading.Thread(target=self._keep, name="nvmet")
        self._thread.start()

    def stop(self) -> None:
        """End the retrying; the kernel goes on serving."""
        self._stopping.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        self._sessions.stop()
        self._configfs.unlock()

    def stop_target(self) -> None:
        """Take everything of weft's out of nvmet; hosts wait until it is made anew. Nothing there: nothing."""
        own = self._own()
        self._ports.find()
        self._ports.hide_all([each.nqn for each in own])
        for each in own:
            apply(self._configfs, removal(each.nqn, each))
        self._hosts.forget_unused()

    def status(self) -> NvmetStatus:
        """What configfs tells, also of a target that is not started here.

        Raises UnavailableError when nvmet is not there.
        """
        if not self._configfs.exists("subsystems"):
            raise UnavailableError(
                f"the kernel's target is not set up: there is no {self._configfs.root}; `weft serve` sets it up"
            )
        self._ports.find()
        return NvmetStatus(
            exports=len(self._own()),
            portals=self._ports.portals,
            listening=frozenset(self._ports.listening()),
        )

    def troubles(self) -> Sequence[str]:
        if self._missing is not None:
            return [f"the kernel's target cannot serve yet: {self._missing}"]
        found = [
            f"portal {portal} cannot be opened yet: {reason}; it is tried again"
            for portal, reason in self._ports.troubles().items()
        ]
        if waiting := self._restore.waiting():
            found.append(waiting)
        return [*found, *self._ports.notes()]

    def hold_writes(self, volume_id: VolumeId, seconds: float) -> AbstractContextManager[None] | None:  # noqa: ARG002
        """None when the volume is not exported; the kernel cannot hold writes of one that is."""
        if self.export(volume_id) is None:
            return None
        raise UnsupportedError(
            f"volume {volume_id} is attached, and the kernel's target cannot hold its hosts' writes; detach it first,"
            " or keep such volumes in an LVM pool, whose snapshots need no hold"
        )

    # -- the door ---------------------------------------------------------------------------------------------

    def expect(self, volume_ids: frozenset[VolumeId]) -> None:
        self._restore.expect(
            {subsystem_nqn(each, self._prefix) for each in volume_ids},
            open_already=set(self._ports.listening()) == set(self._ports.portals),
        )
        self._wake.set()

    def create_export(self, export: Export) -> Mapping[HostId, NvmeofConnection]:
        """See the door. The connections lead to the portals that listen, or will once all volumes are restored.

        Raises InvalidValueError, NotFoundError (the path), ConflictError, UnsupportedError and UnavailableError: also
        when the export is made, but no portal listens.
        """
        self._check(export)
        self._check_ready()
        nqn = subsystem_nqn(export.volume_id, self._prefix)
        with self._lock(nqn):
            self._make(export, nqn)
            was_over = self._restore.is_over()
            was_expected = self._restore.made(nqn)
            is_over = self._restore.is_over()
            if is_over and was_over:
                self._ports.show(nqn)
            else:
                self._ports.show_where_open(nqn)
            portals = self._portals(nqn, promised=was_expected and not was_over)
        if (is_over and not was_over) or self._ports.pending():
            self._wake.set()
        if not portals:
            raise UnavailableError(f"no portal is open for volume {export.volume_id}: {self._why_closed()}")
        return {
            host.host_id: NvmeofConnection(
                volume_id=export.volume_id, nqn=nqn, portals=portals, host_nqn=host.initiator
            )
            for host in export.hosts
        }

    def remove_export(self, volume_id: VolumeId) -> None:
        nqn = subsystem_nqn(VolumeId(check_id("volume_id", volume_id)), self._prefix)
        self._check_ready()
        with self._lock(nqn):
            live = read_subsystem(self._configfs, nqn)
            self._restore.removed(nqn)
            if live is not None and live.is_ours:
                self._ports.hide(nqn)
                apply(self._configfs, removal(nqn, live))
                self._hosts.forget(live.hosts)
            self._devices.release(nqn)
            self._sizes.pop(volume_id, None)
            self._initiators.pop(volume_id, None)
        self._wake.set()

    def export(self, volume_id: VolumeId) -> FoundExport | None:
        nqn = subsystem_nqn(VolumeId(check_id("volume_id", volume_id)), self._prefix)
        self._check_ready()
        with self._lock(nqn):
            live = read_subsystem(self._configfs, nqn)
            return self._found(volume_id, live) if live is not None and live.is_ours else None

    def exports(self) -> Mapping[VolumeId, FoundExport]:
        self._check_ready()
        found = {}
        names = self._configfs.names("subsystems")
        self._look_at_others(names)
        for nqn in names:
            volume_id = volume_id_of_nqn(nqn, self._prefix)
            if volume_id is not None and (export := self.export(volume_id)) is not None:
                found[volume_id] = export
        return found

    def refusals(self, volume_id: VolumeId) -> Sequence[Refusal]:
        return self._sessions.refusals(volume_id)

    # -- one export -------------------------------------------------------------------------------------------

    def _make(self, export: Export, nqn: str) -> None:
        live = read_subsystem(self._configfs, nqn)
        if live is not None and not live.is_ours:
            raise ConflictError(
                f"subsystem {nqn} of this node's nvmet was not made by weft; remove it there, or choose another"
                " target.nqn_prefix"
            )
        wanted = self._wanted(export, nqn)
        shown = live is not None and self._ports.is_shown(nqn)
        if live is not None and not wanted.allow_any_host:
            if live.allow_any_host:
                self._hosts.close(export.hosts, wanted, live)
            portals = self._ports.showing(nqn)
            self._hosts.revoke(nqn, live, wanted.hosts, portals, self._qid_max, shown=shown)
        self._make_namespace(export, wanted, live, shown=shown)
        self._hosts.admit(export.hosts, wanted, live)
        self._initiators[export.volume_id] = frozenset(each.initiator for each in export.hosts)

    def _make_namespace(
        self, export: Export, wanted: Subsystem, live: Subsystem | None, *, shown: bool
    ) -> None:
        operations = subsystem_difference(wanted, live, shown=shown)
        is_there = live is not None and live.namespace == wanted.namespace
        device = None if is_there else _of_size(export)
        if device is not None:
            self._claim(device, wanted.nqn)
        apply(self._configfs, operations)
        if device is not None:
            self._sizes[export.volume_id] = device.size
        elif export.size > self._size(export.volume_id, export.path):
            _of_size(export)
            self._announce(export.volume_id, export.path)

    def _wanted(self, export: Export, nqn: str) -> Subsystem:
        return Subsystem(
            nqn=nqn,
            model=MODEL,
            serial=serial_number(export.volume_id),
            qid_max=self._qid_max,
            allow_any_host=self._any_host,
            namespace=Namespace(device_path=str(export.path), uuid=export.volume_id, nguid=export.volume_id),
            hosts=frozenset() if self._any_host else frozenset(each.initiator for each in export.hosts),
        )

    def _found(self, volume_id: VolumeId, live: Subsystem) -> FoundExport:
        namespace = live.namespace
        promised = self._restore.was_expected(live.nqn) and not self._restore.is_over()
        portals = self._portals(live.nqn, promised=promised)
        is_right = namespace is not None and namespace.enabled and namespace.uuid == volume_id
        initiators = self._initiators.get(volume_id, frozenset()) if live.allow_any_host else live.hosts
        digests = {
            each: secrets.digest for each in live.hosts if (secrets := self._hosts.secrets(each)) is not None
        }
        path = Path(namespace.device_path) if namespace is not None else Path()
        return FoundExport(
            volume_id=volume_id,
            path=path,
            size=self._size(volume_id, path) if is_right else 0,
            initiators=initiators,
            portals=tuple(str(each) for each in portals),
            complete=is_right
            and live.model == MODEL
            and live.allow_any_host == self._any_host
            and not self._hosts.is_revoking(live.nqn)
            and set(portals) == set(self._ports.portals),
            key_digests=digests,
        )

    def _portals(self, nqn: str, *, promised: bool) -> tuple[NvmeofPortal, ...]:
        """Those that lead to a subsystem; promised: and those that will, once all volumes are restored."""
        showing = set(self._ports.showing(nqn))
        if promised:
            showing.update(self._ports.unopened())
        return tuple(each for each in self._ports.portals if each in showing)

    def _size(self, volume_id: VolumeId, path: Path) -> int:
        """As hosts see it: what nvmet was last told of, or is told of now where that is not known."""
        if volume_id not in self._sizes:
            try:
                self._announce(volume_id, path)
            except WeftError as error:
                _log.warning("the size of the export of volume %s is not known: %s", volume_id, error)
                return 0
        return self._sizes[volume_id]

    def _announce(self, volume_id: VolumeId, path: Path) -> None:
        size = look_at(path).size
        nqn = subsystem_nqn(volume_id, self._prefix)
        self._configfs.write(f"{namespace_path(nqn)}/revalidate_size", "1")
        self._sizes[volume_id] = size

    def _check(self, export: Export) -> None:
        check_id("volume_id", export.volume_id)
        if not export.path.is_absolute():
            raise InvalidValueError("path", f"{export.path} is not absolute")
        for host in export.hosts:
            check_nqn("hosts", host.initiator)
            if host.secrets is not None:
                keys_of(host.secrets, host.initiator)
                if self._any_host:
                    raise UnsupportedError(
                        "target.allow_any_host lets every host in without a key, so hosts cannot have DH-HMAC-CHAP"
                        " keys; take one of them away"
                    )

    def _why_closed(self) -> str:
        waiting = self._restore.waiting()
        reasons = [f"{portal}: {reason}" for portal, reason in self._ports.troubles().items()]
        return waiting or "; ".join(reasons) or "they are being opened"

    def _claim(self, device: Device, nqn: str) -> None:
        try:
            self._devices.claim(device, nqn)
        except ConflictError:
            # What others show may have changed since they were last looked at.
            self._look_at_others(self._configfs.names("subsystems"))
            self._devices.claim(device, nqn)

    def _look_at_others(self, names: Sequence[str]) -> None:
        """Learn which devices the subsystems of these that are not weft's show."""
        self._devices.learn_others(
            {
                device.identity: nqn
                for nqn in names
                if not self._is_own(nqn)
                for device in devices_of(self._configfs, nqn)
            }
        )

    def _is_own(self, nqn: str) -> bool:
        is_named_so = volume_id_of_nqn(nqn, self._prefix) is not None
        return is_named_so and self._configfs.read(f"{subsystem_path(nqn)}/attr_model") == MODEL

    # -- what the thread does ---------------------------------------------------------------------------------

    def _check_ready(self) -> None:
        if self._missing is not None:
            raise UnavailableError(f"the kernel's target cannot serve yet: {self._missing}") from None

    def _wait_again(self, nqns: Sequence[str]) -> None:
        _log.error(
            "somebody has taken %d exports out of nvmet; portals wait until they are made anew", len(nqns)
        )
        self._restore.lost(nqns)
        self._wake.set()

    def _try_to_prepare(self) -> None:
        try:
            self._modules.prepare(())
            self._configfs.lock()  # of two with different stores each would end the other's exports
            self._adopt()
        except WeftError as error:
            if str(error) != str(self._missing):
                _log.error("the kernel's target cannot serve yet: %s", error)
            self._missing = error
        else:
            self._restore.start_waiting()
            self._missing = None

    def _adopt(self) -> None:
        """Learn what is there, and mend what a crash may have left."""
        self._look_at_others(self._configfs.names("subsystems"))
        for live in self._own():
            for device in devices_of(self._configfs, live.nqn):
                self._adopt_device(device, live.nqn)
            if live.namespace is not None and live.namespace.enabled:
                self._restore.made(live.nqn)
        self._hosts.forget_unused()
        self._ports.find()
        self._ports.finish()

    def _adopt_device(self, device: Device, nqn: str) -> None:
        try:
            self._devices.claim(device, nqn)
        except ConflictError as error:
            _log.error("two subsystems show one device, so hosts may destroy each other's data: %s", error)

    def _own(self) -> list[Subsystem]:
        """The subsystems that weft made."""
        return [
            live
            for nqn in self._configfs.names("subsystems")
            if volume_id_of_nqn(nqn, self._prefix) is not None
            and (live := read_subsystem(self._configfs, nqn)) is not None
            and live.model == MODEL
        ]

    def _keep(self) -> None:
        pause, next_try = _FIRST_RETRY_SECONDS, 0.0
        while True:
            busy = self._missing is not None or self._ports.pending()
            self._wake.wait(pause if busy else self._restore.seconds_left())
            self._wake.clear()
            if self._stopping.wait(max(0.0, next_try - time.monotonic()) if busy else 0):
                return
            try:
                self._keep_once()
            except Exception:  # noqa: BLE001 -- the loop goes on whatever it meets
                _log.exception("the kernel's target met a bug; it goes on")
            pause = min(pause * 2, _LONGEST_RETRY_SECONDS) if busy else _FIRST_RETRY_SECONDS
            next_try = time.monotonic() + pause

    def _keep_once(self) -> None:
        if self._missing is not None:
            self._try_to_prepare()
        if self._missing is not None:
            return
        self._restore.give_up_when_due()
        if self._restore.is_over():
            self._ports.open()

    def _lock(self, nqn: str) -> threading.RLock:
        with self._locks_lock:
            lock = self._locks.get(nqn)
            if lock is None:
                lock = self._locks[nqn] = threading.RLock()
            return lock


def _of_size(export: Export) -> Device:
    """The device of an export. Raises DataError when it has fewer bytes than the volume."""
    device = look_at(export.path)
    if device.size < export.size:
        raise DataError(f"{export.path} has {device.size} bytes, fewer than the {export.size} of the volume")
    return device
