"""The Target that has the kernel serve: nvmet, set up through configfs.

The tree in configfs is all that is remembered; after a restart of weft it is as it was, after one of the machine it is
empty, and the loop of the node makes it anew. What in it is weft's own is told by its names and by marks in it: a
subsystem has the model "weft", a port and a host have a directory of mode 0700. The rest is left alone.
"""

import logging
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Final

from weft.config import Config
from weft.connection import NvmeofConnection, NvmeofPortal
from weft.errors import ConflictError, UnavailableError, UnsupportedError, WeftError
from weft.model import Export, FoundExport, HostId, Refusal, Transport, VolumeId
from weft.names import check_id, subsystem_nqn, volume_id_of_nqn
from weft.targets.nvmet_devices import flush
from weft.targets.nvmet_exports import NvmetExports
from weft.targets.nvmet_hosts import NvmetHosts
from weft.targets.nvmet_parts import NvmetParts, NvmetStatus, kernel_parts
from weft.targets.nvmet_ports import NvmetPorts
from weft.targets.nvmet_restore import Restore
from weft.targets.nvmet_tree import SUBSYSTEMS, Subsystem, apply, read_subsystem, removal

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
        self._configfs = parts.configfs
        self._modules = parts.modules
        self._sessions = parts.sessions
        self._restore = Restore(config.target.restore_seconds)
        self._listeners = parts.listeners
        self._listen_seconds = parts.listen_seconds
        self._hosts = NvmetHosts(parts.configfs, parts.sessions, parts.probe, parts.patience)
        self._ports = NvmetPorts(
            parts.configfs,
            config.portal_options(),
            parts.gate,
            parts.modules.prepare,
            restore=self._restore,
            lost=self._wait_again,
        )
        self._exports = NvmetExports(config, parts.configfs, self._hosts, self._ports)
        self._missing: WeftError | None = UnavailableError("the kernel's target was not started")
        self._next_look = 0.0
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
        """Take everything of weft's out of nvmet, whatever target.nqn_prefix was when it was made; hosts wait until it
        is made anew. Nothing there: nothing.

        All that they wrote is on stable storage then.
        """
        own = [*self._exports.own(), *self._exports.under_other_names()]
        self._ports.find()
        self._ports.hide_all([each.nqn for each in own])
        for each in own:
            apply(self._configfs, removal(each.nqn, each))
        self._hosts.forget_unused()
        for each in own:
            if each.namespace is not None and each.namespace.device_path:
                try:
                    flush(Path(each.namespace.device_path))
                except UnavailableError as error:
                    _log.error("%s", error)

    def status(self) -> NvmetStatus:
        """What configfs tells, also of a target that is not started here.

        Raises UnavailableError when nvmet is not there.
        """
        if not self._configfs.exists(SUBSYSTEMS):
            raise UnavailableError(
                f"the kernel's target is not set up: there is no {self._configfs.root}; `weft serve` sets it up"
            )
        self._ports.find()
        return NvmetStatus(
            exports=len(self._exports.own()),
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

    def awaits(self, volume_id: VolumeId) -> bool:
        return self._restore.awaits(subsystem_nqn(volume_id, self._prefix))

    def restore(self, exports: Sequence[Export]) -> None:
        """See the door. Portals open in this call if nothing else is waited for.

        Raises UnavailableError.
        """
        self._check_ready()
        self._restore.expect_nothing_more()
        made = self._exports.make_missing(exports)
        try:
            self._restore.made(*made)
            if self._ports.listening():
                for nqn in made:
                    self._ports.show_where_open(nqn)
            if self._restore.is_over():
                self._ports.open()
        finally:
            self._wake.set()

    def create_export(self, export: Export) -> Mapping[HostId, NvmeofConnection]:
        """See the door. The connections lead to the portals that listen, or will once all volumes are restored.

        Raises InvalidValueError, NotFoundError (the path), ConflictError, UnsupportedError and UnavailableError: also
        when the export is made, but no portal listens.
        """
        self._exports.check(export)
        self._check_ready()
        self._restore.expect_nothing_more()
        nqn = subsystem_nqn(export.volume_id, self._prefix)
        with self._exports.lock(nqn):
            self._exports.make(export, nqn)
            was_over = self._restore.is_over()
            self._restore.made(nqn)
            is_over = self._restore.is_over()
            if is_over and was_over:
                self._ports.show(nqn)
            else:
                self._ports.show_where_open(nqn)
            portals = self._portals(nqn, promised=self._restore.was_expected(nqn) and not was_over)
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
        with self._exports.lock(nqn):
            live = read_subsystem(self._configfs, nqn)
            self._restore.removed(nqn)
            is_there = live is not None and live.is_ours
            if is_there:
                self._ports.hide(nqn)
            self._exports.remove(volume_id, nqn, live if is_there else None)
        self._wake.set()

    def export(self, volume_id: VolumeId) -> FoundExport | None:
        nqn = subsystem_nqn(VolumeId(check_id("volume_id", volume_id)), self._prefix)
        self._check_ready()
        with self._exports.lock(nqn):
            live = read_subsystem(self._configfs, nqn)
            return self._found(volume_id, live) if live is not None and live.is_ours else None

    def exports(self) -> Mapping[VolumeId, FoundExport]:
        self._check_ready()
        found = {}
        names = self._configfs.names(SUBSYSTEMS)
        self._exports.look_at_others(names)
        for nqn in names:
            volume_id = volume_id_of_nqn(nqn, self._prefix)
            if volume_id is not None and (export := self.export(volume_id)) is not None:
                found[volume_id] = export
        return found

    def refusals(self, volume_id: VolumeId) -> Sequence[Refusal]:
        return self._sessions.refusals(volume_id)

    # -- one export -------------------------------------------------------------------------------------------

    def _found(self, volume_id: VolumeId, live: Subsystem) -> FoundExport:
        namespace = live.namespace
        promised = self._restore.was_expected(live.nqn) and not self._restore.is_over()
        portals = self._portals(live.nqn, promised=promised)
        digests = {
            each: secrets.digest for each in live.hosts if (secrets := self._hosts.secrets(each)) is not None
        }
        path = Path(namespace.device_path) if namespace is not None else Path()
        return FoundExport(
            volume_id=volume_id,
            path=path,
            size=self._exports.size(volume_id, path) if self._exports.shows_volume(live) else 0,
            initiators=self._exports.initiators(volume_id, live),
            portals=tuple(str(each) for each in portals),
            complete=self._exports.is_right(live) and set(portals) == set(self._ports.portals),
            key_digests=digests,
        )

    def _portals(self, nqn: str, *, promised: bool) -> tuple[NvmeofPortal, ...]:
        """Those that lead to a subsystem; promised: and those that will, once all volumes are restored."""
        showing = set(self._ports.showing(nqn))
        if promised:
            showing.update(self._ports.unopened())
        return tuple(each for each in self._ports.portals if each in showing)

    def _why_closed(self) -> str:
        waiting = self._restore.waiting()
        reasons = [f"{portal}: {reason}" for portal, reason in self._ports.troubles().items()]
        return waiting or "; ".join(reasons) or "they are being opened"

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
        """Learn what is there, and mend what a crash may have left.

        Raises ConflictError when weft has exported volumes under another prefix. Nobody would find these exports any
        more: to detach their hosts would seem to be done, and leave them connected.
        """
        if strange := self._exports.under_other_names():
            raise ConflictError(
                f"this node's nvmet shows {len(strange)} volumes under another prefix than target.nqn_prefix, such as"
                f" {strange[0].nqn}: put that prefix back, or end their hosts' use of them and then these exports, by"
                " `weft target stop`"
            )
        self._restore.made(*self._exports.adopt())
        self._hosts.forget_unused()
        self._ports.find()
        self._ports.finish()

    def _keep(self) -> None:
        pause, next_try = _FIRST_RETRY_SECONDS, 0.0
        while True:
            busy = self._missing is not None or self._ports.pending()
            self._wake.wait(pause if busy else self._idle_seconds())
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
        if time.monotonic() >= self._next_look:
            self._next_look = time.monotonic() + self._listen_seconds
            self._ports.close_deaf(self._listeners.deaf(frozenset(self._ports.listening())))
        if self._restore.is_over():
            self._ports.open()

    def _idle_seconds(self) -> float | None:
        """Until there is something to do though nobody calls; None if there will be nothing."""
        until = [self._restore.seconds_left()]
        if any(each.transport is Transport.RDMA for each in self._ports.portals):
            until.append(max(0.0, self._next_look - time.monotonic()))
        return min((each for each in until if each is not None), default=None)
