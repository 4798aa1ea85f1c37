"""Copies of sparse files: all at once by reflink where the file system can, else extent by extent."""

import errno
import fcntl
import os
from collections.abc import Callable, Iterator

from weft.errors import DataError

Progress = Callable[[int, int], None]
"""Told between chunks how many bytes of data are copied, and how many there are. What it raises ends the copy."""

CHUNK = 8 * 2**20
"""Bytes moved between two calls of Progress, which bounds how late a deadline or a cancellation is noticed."""

# ioctl_ficlonerange(2). Python names it from 3.12 on. Where an architecture numbers it otherwise (MIPS, POWER), the
# kernel knows no such request and the copy goes by extents.
_FICLONE: int = getattr(fcntl, "FICLONE", 0x40049409)

_CANNOT_REFLINK = frozenset({errno.EOPNOTSUPP, errno.ENOTTY, errno.EXDEV, errno.EINVAL, errno.ENOSYS})
_CANNOT_COPY_IN_KERNEL = _CANNOT_REFLINK | {errno.EPERM}


def reflink(source: int, destination: int) -> bool:
    """Make destination share all of source's blocks, as of one moment, also while others write to source.

    False, with nothing changed, where the file system has no reflinks.
    """
    try:
        fcntl.ioctl(destination, _FICLONE, source)
    except OSError as error:
        if error.errno in _CANNOT_REFLINK:
            return False
        raise
    return True


def allocated(descriptor: int) -> int:
    """Bytes that a file occupies; holes do not count."""
    return os.fstat(descriptor).st_blocks * 512  # stat(2): the unit is 512 whatever the block size


def extents(descriptor: int) -> Iterator[tuple[int, int]]:
    """Where a file has data, as (start, end) in bytes; between them are holes, which read as zeroes."""
    size = os.fstat(descriptor).st_size
    end = 0
    while end < size:
        try:
            start = os.lseek(descriptor, end, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:  # no data up to the end of the file
                return
            raise
        end = os.lseek(descriptor, start, os.SEEK_HOLE)
        yield start, end


def copy_extents(source: int, destination: int, progress: Progress) -> None:
    """Copy source's data to an empty destination and leave its holes holes.

    Not a point in time: the caller sees to it that nobody writes to source. Raises DataError when source is cut
    short meanwhile.
    """
    os.ftruncate(destination, os.fstat(source).st_size)
    total = allocated(source)
    done = 0
    progress(0, total)
    for start, end in extents(source):
        offset = start
        while offset < end:
            moved = _move(source, destination, offset, min(end - offset, CHUNK))
            offset += moved
            done += moved
            progress(min(done, total), total)
    progress(total, total)


def _move(source: int, destination: int, offset: int, length: int) -> int:
    """Copy at least one byte at offset, in the kernel if it can; returns how many."""
    try:
        moved = os.copy_file_range(source, destination, length, offset, offset)
    except OSError as error:
        if error.errno not in _CANNOT_COPY_IN_KERNEL:
            raise
        moved = 0
    if moved:
        return moved
    data = os.pread(source, length, offset)
    if not data:
        raise DataError(f"a file became shorter than {offset + length} bytes while it was copied")
    return os.pwrite(destination, data, offset)
