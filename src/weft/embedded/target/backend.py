"""The bytes of a namespace: a regular file or a block device below one of the allowed directories.

A logical volume /dev/<group>/<name> is a link to /dev/dm-<number>, which is below no directory of its group's; it is
allowed where the kernel says that the device is that logical volume.

All methods may be called from several threads at once. They raise OSError as the kernel gives it; the caller turns
that into a completion status. Offsets and lengths are bytes.
"""

import ctypes
import errno
import fcntl
import os
import stat
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from weft.errors import ConflictError, DataError, InvalidValueError, NotFoundError, UnavailableError

BytesLike = bytes | bytearray | memoryview

_KEEP_SIZE: Final = 0x01  # falloc.h
_PUNCH_HOLE: Final = 0x02
_ZERO_RANGE: Final = 0x10
_NOT_OFFERED: Final = frozenset({errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.ENODEV})
_ZEROES: Final = memoryview(bytes(256 * 1024))

_libc: Final = ctypes.CDLL(None, use_errno=True)
_fallocate: Final = _libc.fallocate64 if hasattr(_libc, "fallocate64") else _libc.fallocate
_fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
_fallocate.restype = ctypes.c_int


class Backend:
    """An open file or device, claimed for this process alone until it is closed."""

    def __init__(self, descriptor: int, path: Path) -> None:
        self._descriptor = descriptor
        self.path = path
        self._flush_failure: int | None = None

    @property
    def size(self) -> int:
        """How many bytes there are now."""
        return os.lseek(self._descriptor, 0, os.SEEK_END)

    def is_at(self, path: Path) -> bool:
        """Whether path still leads to what is open here, and not to a file that took its place."""
        try:
            there = path.stat()
        except OSError:
            return False
        return _identity(there) == _identity(os.fstat(self._descriptor))

    def read_into(self, offset: int, buffer: bytearray | memoryview) -> None:
        """Fill buffer. Raises OSError (EIO) where the file ends before it."""
        view = memoryview(buffer)
        while view:
            done = os.preadv(self._descriptor, [view], offset)
            if done == 0:
                raise OSError(errno.EIO, f"{self.path} ends at byte {offset}")
            view, offset = view[done:], offset + done

    def write(self, offset: int, data: BytesLike) -> None:
        view = memoryview(data)
        while view:
            done = os.pwrite(self._descriptor, view, offset)
            view, offset = view[done:], offset + done

    def flush(self) -> None:
        """Return once everything written before is on stable storage; once that has failed, it fails for good.

        The kernel tells of a failure once, forgets which bytes it has lost, and calls the next attempt a success.
        """
        if self._flush_failure is not None:
            raise OSError(self._flush_failure, "an earlier flush failed: what was written before may be lost")
        try:
            os.fdatasync(self._descriptor)
        except OSError as error:
            self._flush_failure = error.errno or errno.EIO
            raise

    def write_zeroes(self, offset: int, length: int, *, deallocate: bool) -> None:
        """Make the range read as zeroes; deallocate: its room may go back to the pool."""
        modes = (_PUNCH_HOLE | _KEEP_SIZE, _ZERO_RANGE) if deallocate else (_ZERO_RANGE,)
        if not self._allocate_any(modes, offset, length):
            self._write_zero_bytes(offset, length)

    def deallocate(self, offset: int, length: int) -> None:
        """Give the range's room back to the pool if that can be done; it then reads as zeroes."""
        self._allocate_any((_PUNCH_HOLE | _KEEP_SIZE,), offset, length)

    def equals(self, offset: int, data: BytesLike) -> bool:
        stored = bytearray(len(data))
        self.read_into(offset, stored)
        return stored == data

    def close(self) -> None:
        """What was written is on stable storage then, unless an earlier flush has failed."""
        if self._descriptor >= 0:
            with suppress(OSError):
                os.fdatasync(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = -1

    def _allocate_any(self, modes: Sequence[int], offset: int, length: int) -> bool:
        for mode in modes:
            while _fallocate(self._descriptor, mode, offset, length) != 0:
                reason = ctypes.get_errno()
                if reason == errno.EINTR:
                    continue
                if reason in _NOT_OFFERED:
                    break
                raise OSError(reason, os.strerror(reason), str(self.path))
            else:
                return True
        return False

    def _write_zero_bytes(self, offset: int, length: int) -> None:
        end = offset + length
        while offset < end:
            offset += os.pwrite(self._descriptor, _ZEROES[: end - offset], offset)


def open_backend(path: Path, roots: Sequence[Path]) -> Backend:
    """Open path for reading and writing, and claim it.

    Symbolic links are followed first; what they lead to must be a regular file or block device below one of roots,
    or the logical volume that path names where the directory of its volume group is one of roots.
    Raises InvalidValueError (outside the roots, wrong kind), NotFoundError, ConflictError (somebody else has
    claimed it) and UnavailableError (it cannot be opened now).
    """
    real = Path(os.path.realpath(path))
    _check_allowed(path, real, roots)
    descriptor = _open(path, real)
    try:
        # The path may have been changed since realpath looked at it; what is open now is what counts.
        _check_allowed(path, Path(f"/proc/self/fd/{descriptor}").readlink(), roots)
        _check_kind(path, os.fstat(descriptor))
        _claim(path, descriptor)
    except BaseException:
        os.close(descriptor)
        raise
    return Backend(descriptor, path)


def check_holds(backend: Backend, size: int) -> None:
    """Raises DataError when the backend has fewer than size bytes."""
    if backend.size < size:
        raise DataError(f"{backend.path} holds {backend.size} bytes where the export needs {size}")


def _check_allowed(path: Path, real: Path, roots: Sequence[Path]) -> None:
    below = any(real.is_relative_to(os.path.realpath(root)) for root in roots)
    if not below and not (path.parent in roots and _is_logical_volume(path, real)):
        raise InvalidValueError("path", f"{path} is outside the directories that may be exported from")


def _is_logical_volume(path: Path, real: Path, sysfs: Path = Path("/sys")) -> bool:
    """Whether the device real is the logical volume /dev/<group>/<name> that path names.

    Device-mapper calls it <group>-<name>, with each hyphen within them doubled.
    """
    if path.parent.parent != Path("/dev") or real.parent != Path("/dev") or not real.name.startswith("dm-"):
        return False
    name = "-".join(part.replace("-", "--") for part in (path.parent.name, path.name))
    described = sysfs / "class" / "block" / real.name / "dm"
    try:
        return described.joinpath("name").read_text().rstrip("\n") == name and described.joinpath(
            "uuid"
        ).read_text().startswith("LVM-")
    except OSError:
        return False


def _open(path: Path, real: Path) -> int:
    # O_NONBLOCK: opening a FIFO must not wait for its other end. O_EXCL claims a block device.
    flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        if stat.S_ISBLK(real.lstat().st_mode):
            flags |= os.O_EXCL
        return os.open(real, flags)
    except FileNotFoundError:
        raise NotFoundError(f"{path} does not exist") from None
    except IsADirectoryError:
        raise InvalidValueError("path", f"{path} is neither a regular file nor a block device") from None
    except OSError as error:
        if error.errno == errno.EBUSY:
            raise ConflictError(f"{path} is in use by somebody else on this machine") from None
        raise UnavailableError(f"{path} cannot be opened: {error.strerror}") from None


def _check_kind(path: Path, found: os.stat_result) -> None:
    if not (stat.S_ISREG(found.st_mode) or stat.S_ISBLK(found.st_mode)):
        raise InvalidValueError("path", f"{path} is neither a regular file nor a block device")


def _claim(path: Path, descriptor: int) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise ConflictError(f"{path} is exported already, or locked by another program") from None


def _identity(found: os.stat_result) -> tuple[int, int]:
    if stat.S_ISBLK(found.st_mode):
        return (-1, found.st_rdev)
    return (found.st_dev, found.st_ino)
