"""The kernel's NVMe host: a volume becomes a block device such as /dev/nvme0n1, over tcp, rdma or loop."""

import contextlib
import logging
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from weft.config import Config
from weft.connection import ANY_HOST, NvmeofConnection
from weft.connectors.block_device import BlockDevice
from weft.connectors.fabrics import Fabrics
from weft.connectors.growth import follow_growth
from weft.connectors.kernel_host import why_not_kernel
from weft.connectors.kernel_paths import KernelPaths, require_one_identity
from weft.connectors.portal_choice import choose_portals, spoken_transports
from weft.connectors.records import Records
from weft.connectors.sysfs import Controller, Namespace, Sysfs, one_device, wait_for
from weft.embedded.host.identity import load_identity, publish_identity
from weft.errors import (
    ConflictError,
    NotFoundError,
    PermissionDeniedError,
    UnavailableError,
    UnsupportedError,
    WeftError,
)
from weft.model import HostIdentity, Initiator, Protocol, VolumeId
from weft.names import check_id, volume_id_of_nqn

_log = logging.getLogger(__name__)

_LOCK_TIMEOUT: Final = 90.0
_DEVICE_TIMEOUT: Final = 15.0
_LIVE_TIMEOUT: Final = 10.0
_FLUSH_TIMEOUT: Final = 30.0
_HURRIED_FLUSH_TIMEOUT: Final = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelAttachment:
    """A volume that the kernel has attached. path: its block device; controllers: the paths that lead to it."""

    connection: NvmeofConnection
    path: Path
    controllers: tuple[Controller, ...]

    @property
    def volume_id(self) -> VolumeId:
        return self.connection.volume_id


class NvmeofConnector:
    """Attaches volumes through /dev/nvme-fabrics and sysfs, for root. Safe beside other processes."""

    def __init__(
        self,
        config: Config,
        *,
        root: Path = Path("/"),
        sysfs: Sysfs | None = None,
        fabrics: Fabrics | None = None,
    ) -> None:
        """root: below it the kernel's files are looked at; sysfs and fabrics: in their place."""
        self._config = config
        self._root = root
        self._sysfs = sysfs or Sysfs(root)
        self._paths = KernelPaths(self._sysfs, fabrics or Fabrics(root))
        self._records = Records(config.attached_dir)
        self._identity: HostIdentity | None = None

    def initiator(self) -> Initiator:
        """This host's NQN. Raises DataError or InvalidValueError when its identity is damaged."""
        return Initiator(port_name=self.identity().nqn, protocol=Protocol.NVMEOF)

    def identity(self) -> HostIdentity:
        """This host's NQN and identifier; made once if there were none."""
        if self._identity is None:
            self._identity = load_identity(self._config, self._root / "etc/nvme")
        return self._identity

    def missing(self) -> str | None:
        """Why attach cannot work here, as a clause for a person, or None if nothing is in the way."""
        return why_not_kernel(self._config, self._root)

    def attached(self) -> Sequence[KernelAttachment]:
        """What the kernel has attached for this host and shows as a device, whoever told it to."""
        return [each for each in self._survey() if self._sysfs.node(each.path.name) is not None]

    def abandoned(self) -> Sequence[KernelAttachment]:
        """What was attached and has no device any more: given up by the kernel, or half made."""
        return [each for each in self._survey() if self._sysfs.node(each.path.name) is None]

    def attach(self, connection: NvmeofConnection) -> Path:
        """Connect by every portal that this host can speak to, and return the block device.

        The best portal comes first, and with native multipath the others become paths of the same device. One of
        these that cannot be reached is left out: attaching again adds the paths that are missing. It also puts new
        keys into force. A volume that is attached keeps its device.

        Raises PermissionDeniedError when the target does not let this host in, UnavailableError when no portal can be
        reached or no device appears, UnsupportedError when this host can speak none of the portals, ConflictError when
        the kernel knows this host by another identity, or had the volume attached before this host got the one that it
        has. After an error nothing new is left behind.
        """
        check_id("volumeId", connection.volume_id)
        identity = self.identity()
        _require_own(connection, identity)
        portals = choose_portals(
            connection, spoken_transports(connection, self._root), self._config.host.transport
        )
        with self._records.locked(connection.volume_id, _LOCK_TIMEOUT):
            recorded = self._records.read(connection.volume_id)
            self._require_as_recorded(connection, recorded)
            require_one_identity(self._sysfs.controllers(), identity)
            if not self._config.host.nqn:
                publish_identity(identity, self._root / "etc/nvme")
            was_attached = bool(self._namespaces(connection))
            self._records.write(replace(connection, host_nqn=identity.nqn))
            try:
                self._paths.add(connection, portals, identity, self._config.host)
                node = self._wait_for_device(connection)
                self._end_replaced(connection)
            except BaseException:
                if not was_attached:
                    self._undo(connection, recorded)
                raise
            return node

    def extend(self, connection: NvmeofConnection) -> int:
        """Have the device and all its paths be as large as the target says; returns that size, in bytes.

        Raises NotFoundError when the volume is not attached, UnavailableError when the target answers by no path or a
        path does not follow in time. A path that does not answer, or is being reconnected, follows when it is back.
        """
        check_id("volumeId", connection.volume_id)
        return follow_growth(self._sysfs, connection.volume_id, lambda: self._namespaces(connection))

    def detach(self, connection: NvmeofConnection, *, force: bool = False) -> None:
        """Flush, disconnect every path, and wait until the device is gone; nothing if the volume is not attached.

        Raises ConflictError naming what uses the device, or a connection by another host NQN that shows it on this
        machine too, and UnavailableError when the target does not take what was written: the volume is attached then as
        before. force: take it away even so; what was not flushed is lost, and another host NQN's connection stays.
        """
        check_id("volumeId", connection.volume_id)
        if not self._controllers(connection) and self._records.read(connection.volume_id) is None:
            self._require_not_shown_otherwise(connection)
            return
        with self._records.locked(connection.volume_id, _LOCK_TIMEOUT):
            recorded = self._records.read(connection.volume_id)
            # What is recorded counts too, and first: the target's prefix or this host's NQN may have changed since the
            # attach, and with the old NQN its connections are somebody else's.
            for each in (recorded, connection):
                if each is not None:
                    self._disconnect(each, force=force)
            self._records.remove(connection.volume_id)

    def update_secrets(self, connection: NvmeofConnection) -> None:
        """Have the connection's keys used on every path while I/O goes on: attach does that to an attached volume.

        The target must know them already, and a path that is lost before this does not come back with the old ones.
        Raises NotFoundError when the volume is not attached, UnsupportedError without native multipath, else what
        attach raises.
        """
        check_id("volumeId", connection.volume_id)
        if not self._namespaces(connection):
            raise NotFoundError(f"volume {connection.volume_id} is not attached to this host")
        if not self._sysfs.native_multipath():
            raise UnsupportedError(
                f"the keys of volume {connection.volume_id} cannot be replaced while it is attached, for"
                " nvme_core.multipath is off: detach it and attach it again"
            )
        self.attach(connection)

    def _disconnect(self, connection: NvmeofConnection, *, force: bool) -> None:
        if not force:
            self._require_not_shown_otherwise(connection)
        devices = {each.device for each in self._namespaces(connection)}
        with contextlib.ExitStack() as claims:
            if force:
                self._flush_if_it_answers(connection, devices)
            else:
                self._flush(connection, devices, claims)
            self._end(connection)
        self._require_not_shown_otherwise(connection)

    def _end(self, connection: NvmeofConnection) -> None:
        """Disconnect every path, and see that the devices go that no other host NQN's connection shows too."""
        devices = {each.device for each in self._namespaces(connection)}
        devices -= {each.device for each in self._others(connection)}
        self._paths.end(self._controllers(connection), connection.volume_id, devices)

    def _survey(self) -> Iterator[KernelAttachment]:
        """Whatever was recorded, and every connection of this host to a subsystem with the configured prefix."""
        recorded = {each.nqn: each for each in self._records.all()}
        found: dict[str, list[Controller]] = {}
        for each in self._sysfs.controllers():
            found.setdefault(each.nqn, []).append(each)
        for nqn in dict.fromkeys([*recorded, *found]):
            names = self._names(recorded[nqn]) if nqn in recorded else {self.identity().nqn}
            controllers = [each for each in found.get(nqn, []) if each.host_nqn in names]
            volume_id = recorded[nqn].volume_id if nqn in recorded else self._volume_id(nqn)
            if volume_id is None or (nqn not in recorded and not controllers):
                continue
            devices = sorted({each.device for each in self._sysfs.namespaces(controllers, volume_id)})
            yield KernelAttachment(
                connection=recorded.get(nqn) or self._connection(volume_id, nqn, controllers),
                path=self._root / "dev" / (devices[0] if devices else f"disk/by-id/nvme-uuid.{volume_id}"),
                controllers=tuple(controllers),
            )

    def _volume_id(self, nqn: str) -> VolumeId | None:
        return volume_id_of_nqn(nqn, self._config.target.nqn_prefix)

    def _connection(
        self, volume_id: VolumeId, nqn: str, controllers: Sequence[Controller]
    ) -> NvmeofConnection:
        """What the kernel tells of a connection that nobody recorded."""
        return NvmeofConnection(
            volume_id=volume_id,
            nqn=nqn,
            portals=tuple(each.portal for each in controllers if each.portal is not None),
            host_nqn=self.identity().nqn,
        )

    def _controllers(self, connection: NvmeofConnection) -> list[Controller]:
        """This host's, by the name that it had when it attached too, also those that are being ended."""
        names = self._names(connection)
        return [each for each in self._sysfs.controllers(connection.nqn) if each.host_nqn in names]

    def _names(self, connection: NvmeofConnection) -> set[str]:
        return {self.identity().nqn, connection.host_nqn}

    def _namespaces(self, connection: NvmeofConnection) -> list[Namespace]:
        return self._sysfs.namespaces(self._controllers(connection), connection.volume_id)

    def _others(self, connection: NvmeofConnection) -> list[Namespace]:
        """The volume by connections of this machine that go by another host NQN."""
        names = self._names(connection)
        controllers = [each for each in self._sysfs.controllers(connection.nqn) if each.host_nqn not in names]
        return self._sysfs.namespaces(controllers, connection.volume_id)

    def _require_not_shown_otherwise(self, connection: NvmeofConnection) -> None:
        other = next(iter(self._others(connection)), None)
        if other is not None:
            name = other.controller.name
            raise ConflictError(
                f"/dev/{other.device} still shows volume {connection.volume_id} on this machine, by the kernel's connection"
                f" {name}, which goes by {other.controller.host_nqn}, and this host is {self.identity().nqn}: once nothing"
                f" uses the device, end that connection (echo 1 >/sys/class/nvme/{name}/delete_controller)"
            )

    def _require_as_recorded(self, connection: NvmeofConnection, recorded: NvmeofConnection | None) -> None:
        """An attach writes a new record, and what the old one tells of must be found by it too."""
        if recorded is None:
            return
        if recorded.nqn != connection.nqn and self._controllers(recorded):
            raise ConflictError(
                f"volume {connection.volume_id} is attached already as {recorded.nqn}: detach it first"
            )
        if recorded.host_nqn != self.identity().nqn and any(
            each.host_nqn == recorded.host_nqn for each in self._sysfs.controllers(recorded.nqn)
        ):
            raise ConflictError(
                f"volume {connection.volume_id} is attached already by {recorded.host_nqn}, which this host was before it"
                f" became {self.identity().nqn}: detach it first"
            )

    def _wait_for_device(self, connection: NvmeofConnection) -> Path:
        controllers = self._controllers(connection)

        def look() -> Path | None:
            device = one_device(
                self._sysfs.namespaces(controllers, connection.volume_id), connection.volume_id
            )
            if device is None or self._sysfs.size(device) == 0:
                return None
            return self._sysfs.node(device)

        node = wait_for(look, _DEVICE_TIMEOUT)
        if node is None:
            raise UnavailableError(
                f"this host is connected to {connection.nqn}, but no device for volume {connection.volume_id} appeared"
                f" within {_DEVICE_TIMEOUT:g} s: the subsystem does not show a namespace with that uuid"
            )
        return node

    def _end_replaced(self, connection: NvmeofConnection) -> None:
        """Once the paths with the new keys show the volume: until then the old ones carry its I/O."""
        old = self._paths.replaced(connection, self.identity().nqn)
        if not old:
            return
        new = [each for each in self._controllers(connection) if each.live and each not in old]

        def all_shown() -> bool | None:
            return True if len(self._sysfs.namespaces(new, connection.volume_id)) == len(new) else None

        if wait_for(all_shown, _DEVICE_TIMEOUT) is None:
            raise UnavailableError(
                f"volume {connection.volume_id} keeps its paths with the old keys: a path with the new ones does not"
                f" show it within {_DEVICE_TIMEOUT:g} s; try again"
            )
        self._paths.end(old, connection.volume_id)

    def _undo(self, connection: NvmeofConnection, recorded: NvmeofConnection | None) -> None:
        """After an attach that failed; its own failure is what the caller must know. recorded: before it."""
        try:
            self._end(connection)
            if recorded is None:
                self._records.remove(connection.volume_id)
            else:
                self._records.write(recorded)
        except WeftError as error:
            _log.warning("an attach of volume %s left something behind: %s", connection.volume_id, error)

    def _flush(
        self, connection: NvmeofConnection, devices: Collection[str], claims: contextlib.ExitStack
    ) -> None:
        """From here on nobody can begin to use the devices until claims end."""
        nodes = [node for each in devices if (node := self._sysfs.node(each)) is not None]
        if nodes and wait_for(lambda: self._answers(connection) or None, _LIVE_TIMEOUT) is None:
            raise UnavailableError(
                f"volume {connection.volume_id} cannot be flushed, so it stays attached: its target does not answer"
                " (detaching it with --force gives up what was not flushed)"
            )
        for node in nodes:
            device = BlockDevice(name=node.name, node=node, root=self._root)
            claims.enter_context(device.claimed())
            try:
                device.flush(_FLUSH_TIMEOUT)
            except UnavailableError as error:
                raise UnavailableError(
                    f"volume {connection.volume_id} cannot be flushed, so it stays attached: {error} (detaching it with"
                    " --force gives up what was not flushed)"
                ) from error

    def _flush_if_it_answers(self, connection: NvmeofConnection, devices: Collection[str]) -> None:
        if not self._answers(connection):
            return
        for node in (self._sysfs.node(each) for each in devices):
            if node is not None:
                with contextlib.suppress(WeftError):
                    BlockDevice(name=node.name, node=node, root=self._root).flush(_HURRIED_FLUSH_TIMEOUT)

    def _answers(self, connection: NvmeofConnection) -> bool:
        return any(each.live for each in self._controllers(connection))


def _require_own(connection: NvmeofConnection, identity: HostIdentity) -> None:
    if connection.host_nqn not in {ANY_HOST, identity.nqn}:
        raise PermissionDeniedError(
            f"volume {connection.volume_id} is for the host {connection.host_nqn}, and this one is {identity.nqn}: the"
            " target would refuse it; attach it for this host"
        )
