"""What is done to whole block devices: zeroing, copying, and making one like another. Offsets and sizes are bytes.

All of it goes past the page cache and is on the medium when it returns. Where a device offers to write zeroes by
itself (NVMe Write Zeroes, SCSI WRITE SAME, a thin array) the kernel uses that, else it writes them: either way the
range reads as zeroes afterwards, which a discard does not promise.
"""

import errno
import fcntl
import mmap
import os
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from weft.errors import ConflictError, DataError, UnavailableError

Progress = Callable[[int, int], None]
"""Told between pieces how many bytes are done, and how many there are. What it raises ends the work."""

_BLKZEROOUT = 0x127F  # linux/fs.h: _IO(0x12, 127), the argument is {u64 start, u64 length}
_ZERO_PIECE = 256 * 2**20
"""What one ioctl zeroes: it cannot be interrupted, so this bounds how late a cancellation is noticed."""
_COPY_PIECE = 4 * 2**20
_ZEROES = bytes(_COPY_PIECE)
_MEDIUM = frozenset({errno.EIO, errno.EREMOTEIO, errno.ENODATA, errno.EILSEQ})


def can_be_claimed(path: Path) -> bool:
    """Whether nobody holds a device for himself, as a mount does; who has it open otherwise, as nvmet, does not count."""
    try:
        os.close(os.open(path, os.O_RDONLY | os.O_EXCL | os.O_CLOEXEC))
    except OSError:
        return False
    return True


def zero(path: Path, progress: Progress, *, start: int = 0) -> None:
    """Zero a device from start to its end. Raises ConflictError when somebody uses the device."""
    with _opened(path, os.O_RDWR | os.O_EXCL) as device, _told(path):
        size = _size(device)
        _zero_range(device, start, size, lambda done: progress(done - start, size - start))
        os.fsync(device)


def fill(path: Path, source: Path, length: int, progress: Progress) -> None:
    """Give a device the first length bytes of source, and zeroes after them; every byte of it is written once.

    Nobody may write to source meanwhile. Raises ConflictError when somebody uses the device.
    """
    with (
        _opened(source, os.O_RDONLY) as origin,
        _opened(path, os.O_RDWR | os.O_EXCL) as device,
        _told(path),
    ):
        size = _size(device)
        for offset, data in _pieces(origin, length):
            if data == _ZEROES[: len(data)]:
                _zero_piece(device, offset, len(data))
            else:
                _write(device, offset, data)
            progress(offset + len(data), size)
        _zero_range(device, length, size, lambda done: progress(done, size))
        os.fsync(device)


def make_alike(path: Path, source: Path, length: int, progress: Progress) -> None:
    """As fill, but what is alike already is left alone: a snapshot of the device then keeps less."""
    with (
        _opened(source, os.O_RDONLY) as origin,
        _opened(path, os.O_RDWR | os.O_EXCL) as device,
        _told(path),
    ):
        size = _size(device)
        for (offset, wanted), (_, present) in zip(
            _pieces(origin, length), _pieces(device, length), strict=True
        ):
            if wanted != present:
                _write(device, offset, wanted)
            progress(offset + len(wanted), size)
        _zero_range(device, length, size, lambda done: progress(done, size))
        os.fsync(device)


def _pieces(device: int, length: int) -> Iterator[tuple[int, bytes]]:
    with mmap.mmap(-1, _COPY_PIECE) as buffer:  # aligned to a page, as O_DIRECT wants it
        offset = 0
        while offset < length:
            with memoryview(buffer) as whole, whole[: min(_COPY_PIECE, length - offset)] as piece:
                read = os.preadv(device, [piece], offset)
                if read == 0:
                    raise DataError(f"a device ended at byte {offset} while it was copied")
                data = bytes(piece[:read])
            yield offset, data
            offset += read


def _write(device: int, offset: int, data: bytes) -> None:
    with mmap.mmap(-1, len(data)) as buffer, memoryview(buffer) as whole:
        whole[:] = data
        written = 0
        while written < len(data):
            with whole[written:] as rest:
                written += os.pwritev(device, [rest], offset + written)


def _zero_range(device: int, start: int, end: int, done: Callable[[int], None]) -> None:
    done(start)
    while start < end:
        length = min(_ZERO_PIECE, end - start)
        _zero_piece(device, start, length)
        start += length
        done(start)


def _zero_piece(device: int, start: int, length: int) -> None:
    fcntl.ioctl(device, _BLKZEROOUT, struct.pack("QQ", start, length))


def _size(device: int) -> int:
    return os.lseek(device, 0, os.SEEK_END)


@contextmanager
def _opened(path: Path, flags: int) -> Iterator[int]:
    try:
        device = os.open(path, flags | os.O_DIRECT | os.O_CLOEXEC)
    except OSError as error:
        if error.errno == errno.EBUSY:
            raise ConflictError(f"{path} is in use by somebody on this machine") from None
        raise UnavailableError(f"{path} cannot be opened: {error.strerror}") from error
    try:
        yield device
    finally:
        os.close(device)


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """Within the block an OSError becomes a sentence about the device."""
    try:
        yield
    except OSError as error:
        kind = DataError if error.errno in _MEDIUM else UnavailableError
        raise kind(
            f"{path} cannot be written, or its source not be read: {error.strerror}; see the kernel's log"
        ) from error
