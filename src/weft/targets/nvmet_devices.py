"""The files and block devices behind namespaces: which they are, how large, and that none is shown twice.

nvmet takes the same device in two subsystems without a word; two hosts would write over each other's data.
"""

import os
import stat
import threading
from pathlib import Path
from typing import Final

from weft.errors import ConflictError, InvalidValueError, NotFoundError, UnavailableError

_SECTOR: Final = 512

Identity = tuple[str, int, int]
"""A block device by its number, a file by its file system and inode: the same by whatever name."""


def identity_of(path: Path) -> Identity:
    """Raises NotFoundError when there is nothing, InvalidValueError when it is neither file nor block device."""
    found = _stat(path)
    if stat.S_ISBLK(found.st_mode):
        return "block", os.major(found.st_rdev), os.minor(found.st_rdev)
    if stat.S_ISREG(found.st_mode):
        return "file", found.st_dev, found.st_ino
    raise InvalidValueError("path", f"{path} is neither a block device nor a file")


def size_of(path: Path) -> int:
    """In bytes. A block device is not opened for it. Raises as identity_of."""
    kind, major, minor = identity_of(path)
    if kind == "file":
        return _stat(path).st_size
    size = Path(f"/sys/dev/block/{major}:{minor}/size")
    try:
        return int(size.read_text()) * _SECTOR
    except (OSError, ValueError) as error:
        raise UnavailableError(f"the size of {path} cannot be read from {size}: {error}") from None


class DeviceClaims:
    """Which subsystem shows which device. Safe to use from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._owners: dict[Identity, str] = {}
        self._devices: dict[str, Identity] = {}

    def claim(self, path: Path, nqn: str) -> None:
        """Keep a device for a subsystem, which gives up the one that it had.

        Raises ConflictError when another subsystem shows it, and as identity_of.
        """
        device = identity_of(path)
        with self._lock:
            owner = self._owners.setdefault(device, nqn)
            if owner != nqn:
                raise ConflictError(
                    f"{path} is shown by subsystem {owner} of this node already; one device is exported once"
                )
            before = self._devices.get(nqn)
            if before is not None and before != device:
                del self._owners[before]
            self._devices[nqn] = device

    def release(self, nqn: str) -> None:
        with self._lock:
            device = self._devices.pop(nqn, None)
            if device is not None:
                self._owners.pop(device, None)


def _stat(path: Path) -> os.stat_result:
    try:
        return path.stat()
    except FileNotFoundError:
        raise NotFoundError(f"{path} is not there") from None
    except OSError as error:
        raise UnavailableError(f"{path} cannot be looked at: {error.strerror}") from None
