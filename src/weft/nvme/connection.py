"""What both sides of a connection have in common: receiving, the state, and ending in anger."""

from abc import ABC, abstractmethod
from typing import Final, Generic, TypeVar

from weft.nvme.errors import FatalErrorStatus, LocalProtocolError, RemoteProtocolError
from weft.nvme.events import ConnectionClosed, TermReqReceived
from weft.nvme.layout import BytesLike
from weft.nvme.pdu import (
    TERM_REQ_DATA_MAX,
    C2HTermReq,
    Digests,
    H2CTermReq,
    Pdu,
    PduType,
    encode_pdu,
)
from weft.nvme.receiver import Receiver
from weft.nvme.state import Signal, State, next_state

RECEIVE_BUFFER_SIZE: Final = 16384

EventT = TypeVar("EventT")


class Connection(ABC, Generic[EventT]):
    """One NVMe/TCP connection without its socket; see `TargetConnection` and `HostConnection`.

    Receiving: either `receive_data(what was received)`, or without copies `n = sock.recv_into(get_buffer())` and
    `buffer_updated(n)`. Then `next_event()` until it gives None.

    Sending: every method named `send_...` gives the buffers to write, in order and before those of any later call.
    They refer to the caller's data, which must not change until they are written.

    Not thread-safe: hold one lock around every call. The receive itself, between `get_buffer` and `buffer_updated`,
    may go on outside of it while other threads send.
    """

    _INCOMING: frozenset[PduType]
    _TERM_REQ: type[H2CTermReq | C2HTermReq]

    def __init__(self, *, receive_buffer_size: int = RECEIVE_BUFFER_SIZE) -> None:
        self._state = State.OPENED
        self._receiver = Receiver(self._begin, receive_buffer_size)
        self._digests = Digests()
        self._pda = 0  # the peer's wish for the alignment of data
        self._error: RemoteProtocolError | None = None

    @property
    def state(self) -> State:
        return self._state

    @property
    def digests(self) -> Digests:
        """What was agreed on; none before ICResp."""
        return self._digests

    @property
    def mid_pdu(self) -> bool:
        """Once `next_event` has given None: whether the peer has begun a PDU that it has not ended yet."""
        return self._receiver.mid_pdu

    @property
    def received_pdus(self) -> int:
        """How many PDUs have come whole."""
        return self._receiver.count

    def get_buffer(self) -> memoryview:
        """Where to receive the next bytes; good for one receive, followed by `buffer_updated`."""
        return self._receiver.get_buffer()

    def buffer_updated(self, count: int) -> None:
        """`count` bytes were received into the last buffer; 0 says that the peer sends no more."""
        self._receiver.buffer_updated(count)

    def receive_data(self, data: BytesLike) -> None:
        """Take received bytes (copied unless they are `bytes`); empty says that the peer sends no more."""
        self._receiver.feed(data)

    def next_event(self) -> EventT | TermReqReceived | ConnectionClosed | None:
        """What happened next, None if more bytes are needed.

        Raises RemoteProtocolError if the peer broke the protocol, again on every further call. Any other exception
        is a bug.
        """
        if self._error is not None:
            raise self._error
        if self._state is State.TERMINATING or self._state is State.CLOSED:
            self._receiver.discard()
            return self._end_of_stream()
        try:
            while (received := self._receiver.next_pdu()) is not None:
                pdu = received.pdu
                if isinstance(pdu, H2CTermReq | C2HTermReq):
                    self._receive(Signal.TERM_REQ)
                    return TermReqReceived(fes=pdu.fes, fei=pdu.fei, header=bytes(received.data))
                event = self._finish(pdu, received.data, data_digest_valid=received.data_digest_valid)
                if event is not None:
                    return event
        except RemoteProtocolError as error:
            error.header = error.header or self._receiver.header()
            self._error = error
            raise
        return self._end_of_stream()

    def send_failed(self, error: RemoteProtocolError) -> list[BytesLike]:
        """The last words to a peer that broke the protocol; close the connection behind them.

        Nothing, if a TermReq has travelled already.
        """
        if next_state(self._state, Signal.TERM_REQ) is None or self._state is State.TERMINATING:
            return []
        self._send(Signal.TERM_REQ)
        return encode_pdu(self._TERM_REQ(fes=error.fes, fei=error.fei), error.header[:TERM_REQ_DATA_MAX])

    @abstractmethod
    def _begin(self, pdu: Pdu, length: int) -> memoryview:
        """Check a PDU whose header has come; where do its `length` bytes of data go?"""

    @abstractmethod
    def _finish(self, pdu: Pdu, data: memoryview, *, data_digest_valid: bool) -> EventT | None:
        """Act on a PDU that is complete."""

    def _end_of_stream(self) -> ConnectionClosed | None:
        if not self._receiver.eof:
            return None
        self._receive(Signal.CLOSE)
        return ConnectionClosed()

    def _check_direction(self, pdu: Pdu) -> None:
        if pdu.TYPE not in self._INCOMING:
            raise RemoteProtocolError(
                f"{pdu.TYPE.name} does not travel in this direction.",
                FatalErrorStatus.INVALID_PDU_HEADER_FIELD,
            )

    def _receive(self, signal: Signal) -> None:
        """The peer sent `signal`."""
        state = next_state(self._state, signal)
        if state is None:
            raise RemoteProtocolError(
                f"{signal.name} came while the connection was {self._state.name}.",
                FatalErrorStatus.PDU_SEQUENCE_ERROR,
            )
        self._state = state

    def _send(self, signal: Signal) -> None:
        """We send `signal`: check first, then change."""
        self._state = self._after(signal)

    def _after(self, signal: Signal) -> State:
        state = next_state(self._state, signal)
        if state is None:
            raise LocalProtocolError(
                f"{signal.name} may not be sent while the connection is {self._state.name}."
            )
        return state

    def _agree_on(self, digests: Digests, pda: int) -> None:
        self._digests = self._receiver.digests = digests
        self._pda = pda

    def _encode(self, pdu: Pdu, data: BytesLike = b"") -> list[BytesLike]:
        return encode_pdu(pdu, data, digests=self._digests, pda=self._pda)


def scratch(length: int) -> memoryview:
    """A new place for a few bytes of data."""
    return memoryview(bytearray(length))


def readable(data: BytesLike) -> memoryview:
    """`data` as plain bytes, not copied."""
    view = memoryview(data)
    if not view.c_contiguous:
        raise LocalProtocolError("Data to send must lie in one piece.")
    return view if view.format == "B" and view.ndim == 1 else view.cast("B")


def writable(buffer: BytesLike) -> memoryview:
    """`buffer` as plain bytes to receive into."""
    view = readable(buffer)
    if view.readonly:
        raise LocalProtocolError("A buffer to receive into must be writable.")
    return view
