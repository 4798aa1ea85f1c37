"""A volume as a program uses it: any bytes at any offset, from many threads, across lost connections."""

import contextlib
import threading
from types import TracebackType
from typing import Final, Self

from weft.connection import NvmeofConnection
from weft.embedded.host.command_queue import Batch
from weft.embedded.host.options import VolumeOptions
from weft.embedded.host.ranges import Parts, RangeLock, cut, pieces, round_down, round_up
from weft.embedded.host.session import Session
from weft.errors import InvalidValueError, UnsupportedError, WeftError
from weft.model import HostIdentity, Transport
from weft.names import NSID
from weft.nvme.layout import BytesLike
from weft.nvme.nvm import DatasetManagement, DsmRange, Flush, Read, Write, WriteZeroes, encode_dsm_ranges

_DISCARD_BLOCKS: Final = 2**31
_RESCAN_TIMEOUT: Final = 10.0
_CLOSE_TIMEOUT: Final = 10.0


class Volume:
    """An open volume, a context manager. Offsets, lengths and sizes are bytes.

    Every method may be called from any thread. While the target cannot be reached they wait, for up to
    options.controller_loss_timeout; then the volume has failed for good and every call raises UnavailableError. A
    target that does not let this host in any more, or holds no such volume, makes it fail at once with
    PermissionDeniedError or NotFoundError; a volume that came back as another one with DataError.

    Nothing written is certain to outlive the target's machine before flush() has returned.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._queue = session.queue
        self._ranges = RangeLock()
        self._block_size = session.namespace.block_size
        self._maximum_transfer = session.limits.maximum_transfer
        self._unflushed = _Unflushed()
        self._closed = False

    @classmethod
    def open(
        cls,
        connection: NvmeofConnection,
        identity: HostIdentity,
        options: VolumeOptions | None = None,
    ) -> "Volume":
        """Connect to a volume; one attempt at each portal.

        Raises UnavailableError when no portal can be reached, PermissionDeniedError when this host is not let in,
        NotFoundError when there is no such subsystem, UnsupportedError for portals that are not NVMe/TCP, and
        InvalidValueError for a connection whose keys are none.
        """
        for portal in connection.portals:
            if portal.transport is not Transport.TCP:
                raise UnsupportedError(
                    f"the embedded host speaks NVMe/TCP, and {portal} is {portal.transport.value}"
                )
        session = Session(connection, identity, options or VolumeOptions())
        session.open()
        return cls(session)

    @property
    def size(self) -> int:
        """Bytes; grows when the volume is extended."""
        return self._session.namespace.size

    @property
    def block_size(self) -> int:
        """Bytes in a logical block: what starts and ends at its multiples is written without reading first."""
        return self._block_size

    @property
    def unflushed(self) -> bool:
        """Whether anything was written that no flush has made safe yet; a flush under way has not."""
        return bool(self._unflushed)

    def read(self, offset: int, length: int) -> bytes:
        """Exactly length bytes. Raises InvalidValueError for a range that is not within the volume."""
        self._check_range(offset, length)
        buffer = bytearray(length)
        self.readinto(offset, buffer)
        return bytes(buffer)

    def readinto(self, offset: int, buffer: bytearray | memoryview) -> int:
        """Fill a writable buffer; returns its length."""
        view = memoryview(buffer).cast("B")
        self._check_range(offset, len(view))
        parts = cut(offset, len(view), self._block_size)
        with self._queue.batch() as batch:
            head, tail = self._read_edges(batch, parts)
            start = parts.body_offset - offset
            self._read_blocks(batch, parts.body_offset, view[start : start + parts.body_length])
        if parts.head_length:
            skipped = parts.head_offset % self._block_size
            view[: parts.head_length] = head[skipped : skipped + parts.head_length]
        if parts.tail_length:
            view[len(view) - parts.tail_length :] = tail[: parts.tail_length]
        return len(view)

    def write(self, offset: int, data: BytesLike) -> int:
        """Write all of data; returns its length. It must not change before the call returns."""
        view = memoryview(data).cast("B")
        end = offset + len(view)
        self._check_range(offset, len(view))
        if not view:
            return 0
        try:
            if offset % self._block_size == 0 and len(view) % self._block_size == 0:
                with self._ranges.shared(offset, end), self._queue.batch() as batch:
                    self._write_blocks(batch, offset, view)
            else:
                first, last = round_down(offset, self._block_size), round_up(end, self._block_size)
                with self._ranges.alone(first, last):
                    self._write_unaligned(offset, view)
        finally:
            self._unflushed.add()
        return len(view)

    def write_zeroes(self, offset: int, length: int, *, deallocate: bool = True) -> None:
        """Make a range read as zeroes, exactly; deallocate lets the target give its storage back."""
        self._check_range(offset, length)
        parts = cut(offset, length, self._block_size)
        self.write(parts.head_offset, bytes(parts.head_length))
        self.write(parts.tail_offset, bytes(parts.tail_length))
        if not parts.body_length:
            return
        limits = self._session.limits
        body_end = parts.body_offset + parts.body_length
        try:
            with self._ranges.shared(parts.body_offset, body_end), self._queue.batch() as batch:
                if limits.write_zeroes:
                    maximum = limits.maximum_zeroes * self._block_size
                    for piece in pieces(parts.body_offset, parts.body_length, maximum):
                        slba, blocks = self._blocks(piece.offset, piece.length)
                        batch.submit(WriteZeroes(nsid=NSID, slba=slba, blocks=blocks, deallocate=deallocate))
                else:
                    zeroes = memoryview(bytes(min(parts.body_length, self._maximum_transfer)))
                    for piece in pieces(parts.body_offset, parts.body_length, self._maximum_transfer):
                        slba, blocks = self._blocks(piece.offset, piece.length)
                        batch.submit(Write(nsid=NSID, slba=slba, blocks=blocks), data=zeroes[: piece.length])
        finally:
            self._unflushed.add()

    def discard(self, offset: int, length: int) -> None:
        """Tell the target that a range is not needed any more; what its whole blocks read as afterwards is open."""
        self._check_range(offset, length)
        parts = cut(offset, length, self._block_size)
        if not parts.body_length or not self._session.limits.dataset_management:
            return
        body_end = parts.body_offset + parts.body_length
        try:
            with self._ranges.shared(parts.body_offset, body_end), self._queue.batch() as batch:
                for piece in pieces(parts.body_offset, parts.body_length, _DISCARD_BLOCKS * self._block_size):
                    slba, blocks = self._blocks(piece.offset, piece.length)
                    batch.submit(
                        DatasetManagement(nsid=NSID, ranges=1, deallocate=True),
                        data=encode_dsm_ranges([DsmRange(slba=slba, blocks=blocks)]),
                    )
        finally:
            self._unflushed.add()

    def flush(self) -> None:
        """Wait until everything that was written before this call is on the target's stable storage."""
        covered = self._unflushed.writes
        with self._queue.batch() as batch:
            batch.submit(Flush(nsid=NSID))
        self._unflushed.flushed(covered)

    def refresh(self, timeout: float = _RESCAN_TIMEOUT) -> int:
        """Ask the target how large the volume is now; returns the size. Raises UnavailableError after timeout seconds."""
        self._session.rescan(timeout)
        return self.size

    def wait_for_size(self, size: int, timeout: float) -> None:
        """Wait until the volume has at least size bytes. Raises UnavailableError after timeout seconds."""
        self._session.wait_for_size(size, timeout)

    def close(self, timeout: float = _CLOSE_TIMEOUT) -> None:
        """Flush, leave the target, and wait until every thread has ended; once closed, stays closed.

        A target that is away is looked for during timeout seconds. Raises an error when what was written could not
        be flushed; the volume is closed even then.
        """
        if self._closed:
            return
        self._closed = True
        self._session.hurry(timeout)
        try:
            if self._unflushed:
                self.flush()
        finally:
            self._session.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(WeftError) if error is not None else contextlib.nullcontext():
            self.close()

    def _check_range(self, offset: int, length: int) -> None:
        if offset < 0 or length < 0:
            raise InvalidValueError("offset", f"{offset} and length {length} must not be negative")
        if offset + length > self.size:
            raise InvalidValueError(
                "offset", f"{offset} and length {length} reach beyond the volume's {self.size} bytes"
            )

    def _blocks(self, offset: int, length: int) -> tuple[int, int]:
        return offset // self._block_size, length // self._block_size

    def _read_edges(self, batch: Batch, parts: Parts) -> tuple[bytearray, bytearray]:
        """The blocks that hang over at either side, filled once the batch has ended; empty where there is none."""
        head = self._read_block(batch, parts.head_offset) if parts.head_length else bytearray()
        tail = self._read_block(batch, parts.tail_offset) if parts.tail_length else bytearray()
        return head, tail

    def _read_block(self, batch: Batch, offset: int) -> bytearray:
        """Ask for the block that offset lies in."""
        block = bytearray(self._block_size)
        batch.submit(Read(nsid=NSID, slba=offset // self._block_size, blocks=1), into=block)
        return block

    def _read_blocks(self, batch: Batch, offset: int, view: memoryview) -> None:
        for piece in pieces(offset, len(view), self._maximum_transfer):
            slba, blocks = self._blocks(piece.offset, piece.length)
            into = view[piece.start : piece.start + piece.length]
            batch.submit(Read(nsid=NSID, slba=slba, blocks=blocks), into=into)

    def _write_blocks(self, batch: Batch, offset: int, view: memoryview) -> None:
        for piece in pieces(offset, len(view), self._maximum_transfer):
            slba, blocks = self._blocks(piece.offset, piece.length)
            data = view[piece.start : piece.start + piece.length]
            batch.submit(Write(nsid=NSID, slba=slba, blocks=blocks), data=data)

    def _write_unaligned(self, offset: int, view: memoryview) -> None:
        """Read the blocks at the edges, put the new bytes into them, write all. Holds the range alone."""
        parts = cut(offset, len(view), self._block_size)
        with self._queue.batch() as batch:
            head, tail = self._read_edges(batch, parts)
        start = parts.body_offset - offset
        with self._queue.batch() as batch:
            if parts.head_length:
                skipped = parts.head_offset % self._block_size
                head[skipped : skipped + parts.head_length] = view[: parts.head_length]
                self._write_blocks(batch, parts.head_offset - skipped, memoryview(head))
            if parts.tail_length:
                tail[: parts.tail_length] = view[len(view) - parts.tail_length :]
                self._write_blocks(batch, parts.tail_offset, memoryview(tail))
            self._write_blocks(batch, parts.body_offset, view[start : start + parts.body_length])


class _Unflushed:
    """Counts writes, so that a flush covers those that had ended when it began, and those only once it has ended."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._safe = 0
        self.writes = 0

    def add(self) -> None:
        """A write has ended, well or not."""
        with self._lock:
            self.writes += 1

    def flushed(self, covered: int) -> None:
        """A flush that began after `covered` writes has ended well."""
        with self._lock:
            self._safe = max(self._safe, covered)

    def __bool__(self) -> bool:
        return self.writes > self._safe
