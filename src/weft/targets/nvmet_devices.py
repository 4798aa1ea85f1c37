"""The files and block devices behind namespaces: which they are, how large, and that none is shown twice.

nvmet takes the same device in two subsystems without a word; two hosts would write over each other's data.
"""

import logging
import os
import stat
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple

from weft.errors import ConflictError, InvalidValueError, NotFoundError, UnavailableError, WeftError
from weft.targets.configfs import Configfs
from weft.targets.nvmet_tree import subsystem_path

_log = logging.getLogger(__name__)

_SECTOR: Final = 512

Identity = tuple[str, int, int]
"""A block device by its number, a file by its file system and inode: the same by whatever name."""


class Device(NamedTuple):
    """A file or block device; size is bytes."""

    path: Path
    identity: Identity
    size: int


def look_at(path: Path) -> Device:
    """What is at path; a block device is not opened for it.

    Raises NotFoundError when there is nothing, InvalidValueError when it is neither file nor block device.
    """
    try:
        found = os.stat(path)  # noqa: PTH116 -- once for each of a thousand exports
    except FileNotFoundError:
        raise NotFoundError(f"{path} is not there") from None
    except OSError as error:
        raise UnavailableError(f"{path} cannot be looked at: {error.strerror}") from None
    if stat.S_ISREG(found.st_mode):
        return Device(path, ("file", found.st_dev, found.st_ino), found.st_size)
    if stat.S_ISBLK(found.st_mode):
        number = ("block", os.major(found.st_rdev), os.minor(found.st_rdev))
        return Device(path, number, _block_size(path, f"{number[1]}:{number[2]}"))
    raise InvalidValueError("path", f"{path} is neither a block device nor a file")


def _block_size(path: Path, number: str) -> int:
    size = Path(f"/sys/dev/block/{number}/size")
    try:
        return int(size.read_text()) * _SECTOR
    except (OSError, ValueError) as error:
        raise UnavailableError(f"the size of {path} cannot be read from {size}: {error}") from None


def flush(path: Path) -> None:
    """Have all that hosts wrote be on the medium. A thin pool writes down once a second by itself where it put what.

    Raises UnavailableError.
    """
    try:
        # Not for writing: udev would look at the device again after the close.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise UnavailableError(
            f"what hosts wrote last to {path} may be lost, for it cannot be flushed: {error.strerror}"
        ) from None


def devices_of(configfs: Configfs, nqn: str) -> list[Device]:
    """What a subsystem shows or is about to, as far as it can be told."""
    found = []
    namespaces = f"{subsystem_path(nqn)}/namespaces"
    for name in configfs.names(namespaces):
        path = configfs.read(f"{namespaces}/{name}/device_path")
        try:
            if path:
                found.append(look_at(Path(path)))
        except WeftError as error:
            _log.debug("subsystem %s: %s", nqn, error)
    return found


class DeviceClaims:
    """Which subsystem shows which device. Safe to use from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._owners: dict[Identity, str] = {}
        self._devices: dict[str, Identity] = {}
        self._others: Mapping[Identity, str] = {}

    def claim(self, shown: Device, nqn: str) -> None:
        """Keep a device for a subsystem of weft's, which gives up the one that it had.

        Raises ConflictError when another subsystem shows it.
        """
        device = shown.identity
        with self._lock:
            owner = self._owners.get(device, nqn)
            if owner == nqn:
                owner = self._others.get(device, nqn)
            if owner != nqn:
                raise ConflictError(
                    f"{shown.path} is shown by subsystem {owner} of this node already; one device is exported once"
                )
            before = self._devices.get(nqn)
            if before is not None:
                del self._owners[before]
            self._owners[device], self._devices[nqn] = nqn, device

    def release(self, nqn: str) -> None:
        with self._lock:
            device = self._devices.pop(nqn, None)
            if device is not None:
                del self._owners[device]

    def learn_others(self, shown: Mapping[Identity, str]) -> None:
        """All that subsystems show which are not weft's, by the NQN of each; what they showed before is free."""
        with self._lock:
            self._others = dict(shown)
