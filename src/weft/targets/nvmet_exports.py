"""Exports as subsystems of nvmet: made, looked at, mended and taken away, whoever leads hosts to them."""

import logging
import threading
import weakref
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from weft.config import Config
from weft.embedded.dhchap import keys_of
from weft.errors import ConflictError, DataError, InvalidValueError, UnsupportedError, WeftError
from weft.model import Export, ExportHost, VolumeId
from weft.names import check_id, check_nqn, subsystem_nqn, volume_id_of_nqn
from weft.targets.configfs import Configfs
from weft.targets.nvmet_devices import Device, DeviceClaims, devices_of, look_at
from weft.targets.nvmet_hosts import NvmetHosts
from weft.targets.nvmet_ports import NvmetPorts
from weft.targets.nvmet_tree import (
    MODEL,
    SUBSYSTEMS,
    Subsystem,
    apply,
    enable_namespace,
    let_everyone_in,
    make_subsystem,
    namespace_path,
    read_subsystem,
    removal,
    subsystem_difference,
    subsystem_path,
    wanted_subsystem,
)

_log = logging.getLogger(__name__)


class NvmetExports:
    """Safe to use from any thread, as long as nobody else works on the same subsystem: see lock()."""

    def __init__(self, config: Config, configfs: Configfs, hosts: NvmetHosts, ports: NvmetPorts) -> None:
        self._prefix = config.target.nqn_prefix
        self._qid_max = config.target.max_io_queues
        self._any_host = config.target.allow_any_host
        self._configfs = configfs
        self._hosts = hosts
        self._ports = ports
        self._devices = DeviceClaims()
        self._sizes: dict[VolumeId, int] = {}
        self._initiators: dict[VolumeId, frozenset[str]] = {}
        self._locks: weakref.WeakValueDictionary[str, threading.RLock] = weakref.WeakValueDictionary()
        self._locks_lock = threading.Lock()

    def lock(self, nqn: str) -> threading.RLock:
        """To be held around whatever is done with a subsystem."""
        with self._locks_lock:
            lock = self._locks.get(nqn)
            if lock is None:
                lock = self._locks[nqn] = threading.RLock()
            return lock

    # -- one export -------------------------------------------------------------------------------------------

    def check(self, export: Export) -> None:
        """Raises InvalidValueError and UnsupportedError for what nvmet cannot show."""
        check_id("volume_id", export.volume_id)
        if not export.path.is_absolute():
            raise InvalidValueError("path", f"{export.path} is not absolute")
        for host in export.hosts:
            self._check_host(host)

    def make(self, export: Export, nqn: str) -> None:
        """Make the subsystem of an export, or make it right."""
        live = read_subsystem(self._configfs, nqn)
        if live is None:
            with self._configfs.opened() as configfs:
                self._make_first(configfs, export, nqn)
            return
        if not live.is_ours:
            raise ConflictError(
                f"subsystem {nqn} of this node's nvmet was not made by weft; remove it there, or choose another"
                " target.nqn_prefix"
            )
        hosts = None if self._any_host else [each.initiator for each in export.hosts]
        wanted = wanted_subsystem(nqn, export.volume_id, str(export.path), self._qid_max, hosts)
        shown = self._ports.is_shown(nqn)
        if not wanted.allow_any_host:
            if live.allow_any_host:
                self._hosts.close(export.hosts, wanted, live)
            portals = self._ports.showing(nqn)
            self._hosts.revoke(nqn, live, wanted.hosts, portals, self._qid_max, shown=shown)
        if shown:
            self._mend(export, wanted, live, shown=True)
            self._hosts.admit(export.hosts, wanted, live)
        else:  # an enabled namespace says that all is there, see adopt()
            self._hosts.admit(export.hosts, wanted, live)
            self._mend(export, wanted, live, shown=False)
        self._remember_hosts(export)

    def make_missing(self, exports: Sequence[Export]) -> list[str]:
        """Make the subsystems of those exports of which there is nothing; the NQNs of those that are whole now.

        What fails is left to make(), which mends it or tells why not. The caller sees to it that nobody else works on
        these exports meanwhile.
        """
        there = frozenset(self._configfs.names(SUBSYSTEMS))
        made: list[str] = []
        with self._configfs.opened() as configfs:
            for export in exports:
                nqn = subsystem_nqn(export.volume_id, self._prefix)
                if nqn in there:
                    continue
                try:
                    self.check(export)
                    self._make_first(configfs, export, nqn)
                except WeftError as error:
                    _log.info("the export of volume %s is not restored at once: %s", export.volume_id, error)
                else:
                    made.append(nqn)
        return made

    def remove(self, volume_id: VolumeId, nqn: str, live: Subsystem | None) -> None:
        """Take a subsystem away that no portal leads to any more, and what is known of it."""
        if live is not None:
            apply(self._configfs, removal(nqn, live))
            self._hosts.forget(live.hosts)
        self._devices.release(nqn)
        self._sizes.pop(volume_id, None)
        self._initiators.pop(volume_id, None)

    def shows_volume(self, live: Subsystem) -> bool:
        namespace = live.namespace
        return (
            namespace is not None
            and namespace.enabled
            and namespace.uuid == volume_id_of_nqn(live.nqn, self._prefix)
        )

    def is_right(self, live: Subsystem) -> bool:
        """Whether a subsystem is as make() leaves it, whoever is let in."""
        return (
            self.shows_volume(live)
            and live.model == MODEL
            and live.allow_any_host == self._any_host
            and not self._hosts.is_revoking(live.nqn)
        )

    def initiators(self, volume_id: VolumeId, live: Subsystem) -> frozenset[str]:
        """The hosts that are meant to use a subsystem."""
        return self._initiators.get(volume_id, frozenset()) if live.allow_any_host else live.hosts

    def size(self, volume_id: VolumeId, path: Path) -> int:
        """As hosts see it: what nvmet was last told of, or is told of now where that is not known."""
        if volume_id not in self._sizes:
            try:
                self._announce(volume_id, path)
            except WeftError as error:
                _log.warning("the size of the export of volume %s is not known: %s", volume_id, error)
                return 0
        return self._sizes[volume_id]

    # -- all of them ------------------------------------------------------------------------------------------

    def own(self) -> list[Subsystem]:
        """The subsystems that weft made, and would call so today."""
        return self._made_by_weft(self._is_named_so)

    def under_other_names(self) -> list[Subsystem]:
        """Those that it made while the configuration had another prefix."""
        return self._made_by_weft(lambda nqn: not self._is_named_so(nqn))

    def adopt(self) -> list[str]:
        """Learn which devices are shown by whom; the NQNs of weft's own subsystems that show theirs."""
        self.look_at_others(self._configfs.names(SUBSYSTEMS))
        showing = []
        for live in self.own():
            for device in devices_of(self._configfs, live.nqn):
                self._adopt_device(device, live.nqn)
            if live.namespace is not None and live.namespace.enabled:
                showing.append(live.nqn)
        return showing

    def look_at_others(self, names: Collection[str]) -> None:
        """Learn which devices the subsystems of these that are not weft's show."""
        self._devices.learn_others(
            {
                device.identity: nqn
                for nqn in names
                if not self._is_own(nqn)
                for device in devices_of(self._configfs, nqn)
            }
        )

    # -- how --------------------------------------------------------------------------------------------------

    def _make_first(self, configfs: Configfs, export: Export, nqn: str) -> None:
        device = _of_size(export)
        self._claim(device, nqn)
        make_subsystem(configfs, nqn, export.volume_id, str(export.path), self._qid_max)
        self._sizes[export.volume_id] = device.size
        if self._any_host:
            let_everyone_in(configfs, nqn)
            self._remember_hosts(export)
        else:
            self._hosts.admit_first(configfs, export.hosts, nqn)
        enable_namespace(configfs, nqn)

    def _mend(self, export: Export, wanted: Subsystem, live: Subsystem, *, shown: bool) -> None:
        operations = subsystem_difference(wanted, live, shown=shown)
        device = None if live.namespace == wanted.namespace else _of_size(export)
        if device is not None:
            self._claim(device, wanted.nqn)
        apply(self._configfs, operations)
        if device is not None:
            self._sizes[export.volume_id] = device.size
        elif export.size > self.size(export.volume_id, export.path):
            _of_size(export)
            self._announce(export.volume_id, export.path)

    def _remember_hosts(self, export: Export) -> None:
        """Where any host is let in, so that the subsystem has no list."""
        self._initiators[export.volume_id] = frozenset(each.initiator for each in export.hosts)

    def _check_host(self, host: ExportHost) -> None:
        check_nqn("hosts", host.initiator)
        if host.secrets is None:
            return
        keys_of(host.secrets, host.initiator)
        if self._any_host:
            raise UnsupportedError(
                "target.allow_any_host lets every host in without a key, so hosts cannot have DH-HMAC-CHAP keys; take"
                " one of them away"
            )

    def _announce(self, volume_id: VolumeId, path: Path) -> None:
        size = look_at(path).size
        nqn = subsystem_nqn(volume_id, self._prefix)
        self._configfs.write(f"{namespace_path(nqn)}/revalidate_size", "1")
        self._sizes[volume_id] = size

    def _claim(self, device: Device, nqn: str) -> None:
        try:
            self._devices.claim(device, nqn)
        except ConflictError:
            # What others show may have changed since they were last looked at.
            self.look_at_others(self._configfs.names(SUBSYSTEMS))
            self._devices.claim(device, nqn)

    def _adopt_device(self, device: Device, nqn: str) -> None:
        try:
            self._devices.claim(device, nqn)
        except ConflictError as error:
            _log.error("two subsystems show one device, so hosts may destroy each other's data: %s", error)

    def _made_by_weft(self, are_wanted: Callable[[str], bool]) -> list[Subsystem]:
        return [
            live
            for nqn in filter(are_wanted, self._configfs.names(SUBSYSTEMS))
            if self._has_weft_model(nqn) and (live := read_subsystem(self._configfs, nqn)) is not None
        ]

    def _is_own(self, nqn: str) -> bool:
        return self._is_named_so(nqn) and self._has_weft_model(nqn)

    def _is_named_so(self, nqn: str) -> bool:
        return volume_id_of_nqn(nqn, self._prefix) is not None

    def _has_weft_model(self, nqn: str) -> bool:
        return self._configfs.read(f"{subsystem_path(nqn)}/attr_model") == MODEL


def _of_size(export: Export) -> Device:
    """The device of an export. Raises DataError when it has fewer bytes than the volume."""
    device = look_at(export.path)
    if device.size < export.size:
        raise DataError(f"{export.path} has {device.size} bytes, fewer than the {export.size} of the volume")
    return device
