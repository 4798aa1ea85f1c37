"""Cuts the byte stream into PDUs and puts their data where it belongs.

Bytes come into a staging buffer of fixed size. As soon as a PDU's header is complete, `begin` says where its data
goes; what the staging buffer holds of it is copied there, and the rest is received straight into that place. So
large payloads are not copied, small PDUs share one receive, and nothing grows with what the peer sends.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from weft.nvme.errors import LocalProtocolError
from weft.nvme.layout import BytesLike
from weft.nvme.pdu import (
    COMMON_HEADER_SIZE,
    DIGEST_SIZE,
    NO_DIGESTS,
    Digests,
    Frame,
    Pdu,
    data_digest_matches,
    decode_frame,
    decode_header,
)

STAGING_SIZE_MIN: Final = 512  # bytes: the longest header with its digest and padding fits
HEADER_SHOWN_MAX: Final = 128  # bytes of an offending header that a TermReq repeats

_NOTHING: Final = memoryview(b"")


@dataclass(frozen=True, slots=True)
class ReceivedPdu:
    pdu: Pdu
    data: memoryview
    data_digest_valid: bool


class Receiver:
    """Used by one connection. `begin(pdu, length)` checks the PDU and gives the place of its `length` bytes of data."""

    def __init__(self, begin: Callable[[Pdu, int], memoryview], staging_size: int) -> None:
        if staging_size < STAGING_SIZE_MIN:
            raise LocalProtocolError(f"A receive buffer needs {STAGING_SIZE_MIN} bytes, not {staging_size}.")
        self.digests: Digests = NO_DIGESTS
        self.eof = False
        self.count = 0
        """PDUs received so far."""
        self._begin = begin
        self._staging = memoryview(bytearray(staging_size))
        self._start = 0  # the staging buffer holds bytes from _start to _end
        self._end = 0
        self._fed: deque[memoryview] = deque()
        self._frame: Frame | None = None
        self._pdu: Pdu | None = None
        self._data = _NOTHING
        self._filled = 0
        self._direct = False

    @property
    def mid_pdu(self) -> bool:
        """Whether a PDU has begun and not ended."""
        return self._frame is not None or self._start != self._end or bool(self._fed)

    def get_buffer(self) -> memoryview:
        """Where to receive the next bytes: never empty, and only good for one receive."""
        self._direct = self._filled < len(self._data)  # then nothing is staged: _fill_data has taken it
        if self._direct:
            return self._data[self._filled :]
        if self._start == self._end:
            self._start = self._end = 0
        elif self._end == len(self._staging):
            held = self._end - self._start
            self._staging[:held] = bytes(self._staging[self._start : self._end])
            self._start, self._end = 0, held
        if self._end == len(self._staging):
            raise LocalProtocolError("The receive buffer is full: take all events before receiving more.")
        return self._staging[self._end :]

    def buffer_updated(self, count: int) -> None:
        """`count` bytes were received into the last buffer given; 0 says that the peer sends no more."""
        if count == 0:
            self.eof = True
        elif self._direct:
            self._filled += count
        else:
            self._end += count

    def feed(self, data: BytesLike) -> None:
        """Take bytes that were received elsewhere; empty says that the peer sends no more."""
        if len(data) == 0:
            self.eof = True
        else:
            self._fed.append(memoryview(bytes(data)))

    def next_pdu(self) -> ReceivedPdu | None:
        """The next complete PDU, None if more bytes are needed. Raises RemoteProtocolError."""
        while True:
            received = self._advance()
            if received is not None or not self._fed:
                return received
            self._pull()

    def discard(self) -> None:
        """Forget what has come and was not read."""
        self._start = self._end = 0
        self._fed.clear()

    def header(self) -> bytes:
        """What there is of the header that is being read, for the report of an error in it."""
        size = HEADER_SHOWN_MAX if self._frame is None else self._frame.hlen
        return bytes(self._staging[self._start : min(self._end, self._start + size)])

    def _pull(self) -> None:
        chunk = self._fed[0]
        buffer = self.get_buffer()
        count = min(len(chunk), len(buffer))
        buffer[:count] = chunk[:count]
        self.buffer_updated(count)
        if count == len(chunk):
            self._fed.popleft()
        else:
            self._fed[0] = chunk[count:]

    def _advance(self) -> ReceivedPdu | None:
        if self._pdu is None and not self._read_header():
            return None
        if self._filled < len(self._data) and not self._fill_data():
            return None
        frame, pdu, data = self._frame, self._pdu, self._data
        assert frame is not None  # noqa: S101  # set together with the PDU
        assert pdu is not None  # noqa: S101  # _read_header has set it
        valid = True
        if frame.data_digest:
            if self._end - self._start < DIGEST_SIZE:
                return None
            valid = data_digest_matches(data, self._staging[self._start : self._start + DIGEST_SIZE])
            self._start += DIGEST_SIZE
        self._frame, self._pdu, self._data, self._filled = None, None, _NOTHING, 0
        self.count += 1
        return ReceivedPdu(pdu, data, valid)

    def _read_header(self) -> bool:
        held = self._end - self._start
        if self._frame is None:
            if held < COMMON_HEADER_SIZE:
                return False
            self._frame = decode_frame(self._staging[self._start : self._end], self.digests)
        size = self._frame.data_offset
        if held < size:
            return False
        pdu = decode_header(self._frame, self._staging[self._start : self._start + size])
        self._data = self._begin(pdu, self._frame.data_length)
        self._pdu = pdu
        self._start += size
        return True

    def _fill_data(self) -> bool:
        count = min(len(self._data) - self._filled, self._end - self._start)
        if count:
            self._data[self._filled : self._filled + count] = self._staging[self._start : self._start + count]
            self._filled += count
            self._start += count
        return self._filled == len(self._data)
