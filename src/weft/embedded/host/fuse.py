"""A volume as a file: the operations that FUSE asks for.

How the kernel is to treat the file, and why:

* Its page cache is used for reading (no direct_io): mke2fs, e2fsck and debugfs read the same blocks over and over, and
  mmap works. Each open() starts with an empty cache, so that a volume written elsewhere meanwhile is seen.
* write() goes through to the target before it returns (no writeback cache). With the writeback cache the kernel
  would own the file's size: growth would stay unseen, and writing beyond the end would succeed in memory and fail
  only at fsync(). So a full volume is ENOSPC at once, as it is on a block device.
* fsync() flushes the target's cache, and so does detaching. close() does not, as it does not for a block device: the
  kernel would ask for it at every close() of every copy of a descriptor. A process that has the file open and starts
  another one closes such copies in between, and would wait there as long as the target is away.
* Attributes are not cached, so growth is seen by the next stat().
"""

import errno
import logging
import os
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, Protocol

from weft.embedded.host.attachment import FILE_NAME
from weft.embedded.host.volume import Volume
from weft.errors import InvalidValueError, NoSpaceError, PermissionDeniedError, UnsupportedError, WeftError

_log = logging.getLogger(__name__)

MOUNT_OPTIONS: Final[dict[str, object]] = {
    "default_permissions": True,
    "attr_timeout": 0,
    "entry_timeout": 0,
    "ac_attr_timeout": 0,
    "subtype": "weft",
    "fsname": "weft",
    "nodev": True,
    "nosuid": True,
    "noexec": True,
}

_FILE_PATH: Final = f"/{FILE_NAME}"
_KEEP_SIZE: Final = 0x01
_PUNCH_HOLE: Final = 0x02
_ZERO_RANGE: Final = 0x10

_ERRNOS: Final[tuple[tuple[type[WeftError], int], ...]] = (
    (NoSpaceError, errno.ENOSPC),
    (PermissionDeniedError, errno.EROFS),
    (InvalidValueError, errno.EINVAL),
    (UnsupportedError, errno.EOPNOTSUPP),
)


class ConnectionInfo(Protocol):
    """What mfusepy tells of the connection to the kernel (struct fuse_conn_info), as far as it is used here."""

    max_readahead: int


class VolumeOperations:
    """One directory with one file in it. The names of methods and the types of arguments are mfusepy's."""

    use_ns = True

    def __init__(self, volume: Volume, mounted: Callable[[], None]) -> None:
        """mounted is called once, when the kernel has asked the first question."""
        self._volume = volume
        self._mounted = mounted
        self._born = time.time_ns()
        self._written = self._born

    def init_with_config(self, _connection: ConnectionInfo | None, _config: object) -> None:
        self._mounted()

    def getattr(self, path: str, _handle: int | None = None) -> dict[str, int]:
        common = {
            "st_uid": os.getuid(),
            "st_gid": os.getgid(),
            "st_atime": self._written,
            "st_ctime": self._written,
            "st_mtime": self._written,
            "st_blksize": self._volume.block_size,
        }
        if path == "/":
            return {"st_mode": stat.S_IFDIR | 0o700, "st_nlink": 2, **common}
        if path != _FILE_PATH:
            raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))
        size = self._volume.size
        return {
            "st_mode": stat.S_IFREG | 0o600,
            "st_nlink": 1,
            "st_size": size,
            "st_blocks": size // 512,
            **common,
        }

    def readdir(self, _path: str, _handle: int) -> list[str]:
        return [".", "..", FILE_NAME]

    def open(self, path: str, _flags: int) -> int:
        if path != _FILE_PATH:
            raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))
        return 0

    def read(self, _path: str, length: int, offset: int, _handle: int) -> bytes | bytearray:
        buffer = bytearray(max(0, min(length, self._volume.size - offset)))
        with _as_errno():
            self._volume.readinto(offset, buffer)
        return bytes(buffer)

    def write(self, _path: str, data: bytes, offset: int, _handle: int) -> int:
        room = self._volume.size - offset
        if room <= 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        with _as_errno():
            written = self._volume.write(offset, memoryview(data)[:room])
        self._written = time.time_ns()
        return written

    def fsync(self, _path: str, _datasync: int, _handle: int) -> int:
        if self._volume.unflushed:
            with _as_errno():
                self._volume.flush()
        return 0

    def truncate(self, _path: str, length: int, _handle: int | None = None) -> int:
        """A volume's size is not changed here. open(O_TRUNC) arrives as length 0; block devices ignore it too."""
        if length not in {0, self._volume.size}:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        return 0

    def fallocate(self, _path: str, mode: int, offset: int, length: int, _handle: int) -> int:
        if offset + length > self._volume.size:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        with _as_errno():
            if mode & _PUNCH_HOLE:
                self._volume.write_zeroes(offset, length, deallocate=True)
            elif mode & _ZERO_RANGE:
                self._volume.write_zeroes(offset, length, deallocate=False)
            elif mode & ~_KEEP_SIZE:
                raise UnsupportedError(f"fallocate mode {mode:#x} does not apply to a volume")
        return 0

    def statfs(self, _path: str) -> dict[str, int]:
        block_size = self._volume.block_size
        return {
            "f_bsize": block_size,
            "f_frsize": block_size,
            "f_blocks": self._volume.size // block_size,
            "f_files": 1,
            "f_namemax": 255,
        }

    def utimens(self, _path: str, _times: tuple[int, int] | None = None) -> int:
        return 0


@contextmanager
def _as_errno() -> Iterator[None]:
    try:
        yield
    except WeftError as error:
        number = next((number for kind, number in _ERRNOS if isinstance(error, kind)), errno.EIO)
        _log.error("%s", error)
        raise OSError(number, os.strerror(number)) from error


def missing_for_fuse() -> str | None:
    """Why a FUSE file cannot be had here, as a clause, or None if nothing is known to be in the way."""
    try:
        os.close(os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC))
    except FileNotFoundError:
        return "there is no /dev/fuse (load the fuse module, or give the container that device)"
    except OSError as error:
        return f"/dev/fuse cannot be opened by this user: {error.strerror}"
    if os.geteuid() != 0 and find_fusermount() is None:
        return "fusermount3 is not installed (Debian's package is fuse3)"
    try:
        load_mfusepy()
    except (ImportError, OSError, AttributeError) as error:
        return f"libfuse 3 cannot be loaded: {error} (Debian's package is libfuse3-3, or libfuse3-4)"
    return None


def find_fusermount() -> str | None:
    """The program by which users mount and unmount FUSE file systems."""
    for directory in (*os.get_exec_path(), "/usr/bin", "/bin"):
        candidate = os.path.join(directory, "fusermount3")  # noqa: PTH118 -- entries of PATH are strings
        if os.access(candidate, os.X_OK):
            return candidate
    return None


def load_mfusepy() -> Any:
    """The module, imported only now: it needs libfuse. Raises ImportError or OSError."""
    os.environ.setdefault("FUSE_LIBRARY_NAME", "fuse3")  # it would take libfuse 2 where both are installed
    import mfusepy  # type: ignore[import-untyped]  # noqa: PLC0415

    return mfusepy
