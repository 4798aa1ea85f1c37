"""The kernel's NVMe over Fabrics host as sysfs shows it: controllers, the namespaces behind them, their devices.

A controller is one connection to a subsystem. With native multipath (module parameter nvme_core.multipath) the
controllers of one subsystem are paths of one block device, the head: the path nvme0c1n1 belongs to nvme0n1
(nvme_mpath_set_disk_name, drivers/nvme/host/multipath.c). Without, each controller has a device of its own.
"""

import contextlib
import errno
import os
import re
import stat
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from weft.connection import NvmeofPortal
from weft.connectors.admin import identify_namespace
from weft.errors import DataError, InvalidValueError, UnavailableError
from weft.model import DhChapSecrets, Transport, VolumeId
from weft.names import check_address

_T = TypeVar("_T")

_POLL: Final = 0.01
_SECTOR: Final = 512
_LARGEST_ATTRIBUTE: Final = 4096  # a page, fs/sysfs/file.c
"""The unit of `size` in sysfs, whatever the device's logical blocks are."""
_CONTROLLER: Final = re.compile(r"nvme[0-9]+")
_DEVICE: Final = re.compile(r"nvme[0-9]+n[0-9]+")
_PATH: Final = re.compile(r"nvme(?P<subsystem>[0-9]+)c[0-9]+n(?P<head>[0-9]+)")
_ENDING: Final = frozenset({"deleting", "deleting (no IO)", "dead"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Controller:
    """One connection of this host to a subsystem. state is the kernel's word for it, such as live or connecting.

    address and port are empty and 0 for the loop transport, and whatever the kernel says for others.
    """

    name: str
    nqn: str
    host_nqn: str
    host_id: str
    transport: str
    address: str
    port: int
    state: str

    @property
    def live(self) -> bool:
        return self.state == "live"

    @property
    def ending(self) -> bool:
        """Whether it is on its way out and no path any more."""
        return self.state in _ENDING

    @property
    def portal(self) -> NvmeofPortal | None:
        """Where it leads; None for a transport that weft has no portals for."""
        try:
            transport = Transport(self.transport)
        except ValueError:
            return None
        if transport is Transport.LOOP:
            return NvmeofPortal(transport=transport, address="", port=0)
        return NvmeofPortal(transport=transport, address=self.address, port=self.port)


@dataclass(frozen=True, slots=True, kw_only=True)
class Namespace:
    """A namespace by one controller. device: the block device to use; path: its own, hidden one, or device itself."""

    controller: Controller
    nsid: int
    device: str
    path: str


class Sysfs:
    """What the kernel has, below root. Whatever vanishes while it is looked at counts as not there."""

    def __init__(self, root: Path = Path("/")) -> None:
        self._controllers = root / "sys/class/nvme"
        self._blocks = root / "sys/class/block"
        self._devices = root / "dev"
        self._multipath = root / "sys/module/nvme_core/parameters/multipath"

    def native_multipath(self) -> bool:
        """Whether several controllers of one subsystem become paths of one device."""
        return _read(self._multipath) == "Y"

    def has(self, controller: Controller) -> bool:
        """Whether the controller is still there, and not another one that took its name."""
        return _read(self._controllers / controller.name / "subsysnqn") == controller.nqn

    def controllers(self, nqn: str | None = None) -> list[Controller]:
        """All controllers of fabrics, or those of one subsystem."""
        found = (self._controller(name, nqn) for name in self._names())
        return [each for each in found if each is not None]

    def namespaces(self, controllers: Iterable[Controller], volume_id: VolumeId) -> list[Namespace]:
        """The volume's namespace by each of the controllers that shows it: its uuid is the volume's id."""
        return [
            found
            for controller in controllers
            for entry in _entries(self._controllers / controller.name)
            if (found := self._namespace(controller, entry, volume_id)) is not None
        ]

    def node(self, device: str) -> Path | None:
        """The device's node once it is there and belongs to the device; None before."""
        path = self._devices / device
        numbers = _read(self._blocks / device / "dev")
        try:
            found = path.stat()
        except OSError:
            return None
        is_node = stat.S_ISBLK(found.st_mode)
        return path if is_node and numbers == f"{os.major(found.st_rdev)}:{os.minor(found.st_rdev)}" else None

    def shows(self, device: str, volume_id: VolumeId) -> bool:
        """Whether anything of the volume's block device is left, and not another volume's that took its name.

        The kernel gives a name away as soon as it has removed the node, so with the name the node is the other's too.
        """
        uuid = _read(self._blocks / device / "uuid")
        if uuid is not None:
            return uuid.lower() == volume_id
        return os.path.lexists(self._blocks / device) or os.path.lexists(self._devices / device)

    def size(self, device: str) -> int:
        """The size of a block device or of a path, in bytes; 0 if it is not there."""
        text = _read(self._blocks / device / "size")
        return int(text) * _SECTOR if text is not None and text.isdigit() else 0

    def path_size(self, namespace: Namespace) -> int:
        """The size by one path, in bytes; 0 if it is not there."""
        text = _read(self._controllers / namespace.controller.name / namespace.path / "size")
        return int(text) * _SECTOR if text is not None and text.isdigit() else 0

    def told_size(self, namespace: Namespace) -> int:
        """The size that the target tells by one path when it is asked now, in bytes.

        Raises UnavailableError when it does not answer well within ten seconds.
        """
        found = identify_namespace(self._devices / namespace.controller.name, namespace.nsid)
        return found.nsze * found.block_size

    def delete(self, controller: Controller) -> None:
        """Disconnect; returns once the kernel is done. Dirty pages are not written. One that is gone stays gone.

        Raises UnavailableError when the kernel refuses.
        """
        self._trigger(controller, "delete_controller")

    def rescan(self, controller: Controller) -> None:
        """Have the kernel look at the namespaces anew; it does so after this has returned."""
        self._trigger(controller, "rescan_controller")

    def holds(self, controller: Controller, secrets: DhChapSecrets) -> bool:
        """Whether the controller would authenticate by these keys when it has to connect again."""
        directory = self._controllers / controller.name
        return all(
            _read(directory / attribute) == key
            for attribute, key in (
                ("dhchap_secret", secrets.host_key),
                ("dhchap_ctrl_secret", secrets.controller_key or "none"),
            )
        )

    def _trigger(self, controller: Controller, attribute: str) -> None:
        try:
            descriptor = os.open(self._controllers / controller.name / attribute, os.O_WRONLY | os.O_CLOEXEC)
            try:
                os.write(descriptor, b"1")
            finally:
                os.close(descriptor)
        except OSError as error:
            if error.errno in {errno.ENOENT, errno.ENODEV}:
                return
            raise UnavailableError(
                f"the kernel refuses {attribute} of controller {controller.name}: {error.strerror}"
            ) from error

    def _names(self) -> list[str]:
        names = [name for name in _entries(self._controllers) if _CONTROLLER.fullmatch(name)]
        return sorted(names, key=lambda name: int(name.removeprefix("nvme")))

    def _controller(self, name: str, wanted: str | None) -> Controller | None:
        directory = self._controllers / name
        nqn = _read(directory / "subsysnqn")
        if nqn is None or wanted not in {None, nqn}:
            return None
        host_nqn = _read(directory / "hostnqn")
        if host_nqn is None:  # a PCIe controller
            return None
        address = dict(
            pair.split("=", 1) for pair in (_read(directory / "address") or "").split(",") if "=" in pair
        )
        port = address.get("trsvcid", "")
        return Controller(
            name=name,
            nqn=nqn,
            host_nqn=host_nqn,
            host_id=_read(directory / "hostid") or "",
            transport=_read(directory / "transport") or "",
            address=_normal_address(address.get("traddr", "")),
            port=int(port) if port.isdigit() else 0,
            state=_read(directory / "state") or "dead",
        )

    def _namespace(self, controller: Controller, entry: str, volume_id: VolumeId) -> Namespace | None:
        path = _PATH.fullmatch(entry)
        if path is None and not _DEVICE.fullmatch(entry):
            return None
        directory = self._controllers / controller.name / entry
        if (_read(directory / "uuid") or "").lower() != volume_id:
            return None
        return Namespace(
            controller=controller,
            nsid=int(_read(directory / "nsid") or 0),
            device=f"nvme{path['subsystem']}n{path['head']}" if path is not None else entry,
            path=entry,
        )


def one_device(namespaces: Iterable[Namespace], volume_id: VolumeId) -> str | None:
    """The block device of a volume's paths. Raises DataError when they are not paths of one device."""
    names = sorted({each.device for each in namespaces})
    if len(names) > 1:
        raise DataError(
            f"volume {volume_id} has several devices here ({', '.join(names)}), so they are not paths of one: use none"
            " of them, detach it, and see that nvme_core.multipath is on"
        )
    return names[0] if names else None


def wait_for(look: Callable[[], _T | None], timeout: float) -> _T | None:
    """What look finds, as soon as it finds something; None after timeout seconds."""
    deadline = time.monotonic() + timeout
    while True:
        found = look()
        if found is not None or time.monotonic() >= deadline:
            return found
        time.sleep(_POLL)


def _normal_address(address: str) -> str:
    with contextlib.suppress(InvalidValueError):
        return check_address("traddr", address)
    return address


def _entries(directory: Path) -> list[str]:
    try:
        return os.listdir(directory)  # noqa: PTH208 -- names are all that is wanted
    except OSError:
        return []


def _read(path: Path) -> str | None:
    """An attribute without the blanks around it. By bare calls: an attach reads some dozens."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return os.read(descriptor, _LARGEST_ATTRIBUTE).decode(errors="replace").strip()
        finally:
            os.close(descriptor)
    except OSError:
        return None
