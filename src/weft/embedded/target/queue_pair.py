"""One host's connection: a socket, a thread, and the state machine of weft.nvme between them."""

import contextlib
import logging
import select
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from weft.connection import NvmeofPortal
from weft.embedded.target.responder import Accepted, EndOfAssociationError, Queue
from weft.embedded.target.settings import Limits
from weft.embedded.target.wake import Wake
from weft.nvme.errors import RemoteProtocolError
from weft.nvme.events import (
    CommandReceived,
    CommandRejected,
    ConnectionClosed,
    DataReceived,
    ICReqReceived,
    TargetEvent,
    TermReqReceived,
)
from weft.nvme.fabrics import Connect
from weft.nvme.layout import BytesLike
from weft.nvme.sqe import DataTransfer
from weft.nvme.state import State
from weft.nvme.status import SUCCESS, Status, StatusCode, do_not_retry
from weft.nvme.target import TargetConnection

_log = logging.getLogger(__name__)

MAXIMUM_TRANSFER: Final = 2**20
"""Bytes of data of one command; Identify Controller says so by MDTS."""

_SMALL_TRANSFER: Final = 4096
"""Bytes of data of one command, but on I/O queues: those of authentication have most."""

_SMALL_DATA_IN_FLIGHT: Final = 4 * _SMALL_TRANSFER
_FLUSH_AT_BYTES: Final = 256 * 1024
_FLUSH_AT_BUFFERS: Final = 512  # IOV_MAX is 1024
_LINGER_SECONDS: Final = 1.0
_LINGER_BYTES: Final = 2**20
_GONE: Final = select.POLLRDHUP | select.POLLHUP | select.POLLERR | select.POLLNVAL

Connector = Callable[["QueuePair", CommandReceived, memoryview | None], Accepted | None]
"""Decides on Connect: gives the queue that this connection carries from now on, None if it has answered a refusal."""


class QueuePair:
    """A connection from accept to close. Its thread alone receives, carries out commands and sends.

    What it keeps for the host is bounded: MAXIMUM_TRANSFER for data that is read, limits.data_in_flight for data that
    is written, and weft.nvme's bounds on commands and in-capsule data. It is little before the host has been let in.
    """

    def __init__(
        self,
        connection: socket.socket,
        portal: NvmeofPortal,
        *,
        connect: Connector,
        ended: Callable[["QueuePair"], None],
        limits: Limits,
    ) -> None:
        self.portal = portal
        self.local_address = str(connection.getsockname()[0])
        self.peer = _spelled(connection)
        self.host_nqn: str | None = None
        """Who the host says it is, once Connect was accepted."""
        self._socket = connection
        self._limits = limits
        self._connect = connect
        self._ended = ended
        self._machine = TargetConnection()
        self._queue: Queue | None = None
        self._wake = Wake()
        self._stopping = threading.Event()
        self._closed = False
        self._close_lock = threading.Lock()
        self._handshake_deadline = time.monotonic() + limits.handshake_seconds
        self._pdu_deadline: float | None = None
        self._outgoing: list[BytesLike] = []
        self._outgoing_bytes = 0
        self._reading = memoryview(b"")
        self._reading_used = 0
        self._fetching: dict[int, CommandReceived] = {}
        self._fetched: dict[int, int] = {}
        self._waiting_for_room: deque[CommandReceived] = deque()
        self._data_in_flight = 0
        self._thread = threading.Thread(target=self._run, name=f"queue {self.peer}")

    def start(self) -> None:
        """Raises RuntimeError when the machine has no room for another thread."""
        try:
            self._thread.start()
        except RuntimeError:
            self._wake.close()
            raise

    def join(self, timeout: float) -> bool:
        """Wait for the thread's end; whether it came within timeout seconds."""
        if self._thread.ident is None or self._thread is threading.current_thread():
            return True
        self._thread.join(max(0.0, timeout))
        return not self._thread.is_alive()

    def stop(self) -> None:
        """End the connection as soon as the command that is being carried out is done; do not wait for it."""
        with self._close_lock:
            self._stopping.set()
            if not self._closed:
                with contextlib.suppress(OSError):  # the host was faster
                    self._socket.shutdown(socket.SHUT_RDWR)
                self._wake.set()

    def finish(self) -> None:
        """End the connection after the answers to what has been carried out are sent; do not wait for it."""
        with self._close_lock:
            self._stopping.set()
            if not self._closed:
                self._wake.set()

    def peer_gone(self) -> bool:
        """Whether the host has closed its end, even if there is still something to read from it."""
        with self._close_lock:
            if self._closed:
                return True
            poller = select.poll()
            poller.register(self._socket, select.POLLRDHUP)
            return any(events & _GONE for _, events in poller.poll(0))

    def authenticated(self) -> None:
        """The host has proven who it is: let it send every command of the queue."""
        self._machine.authenticated()

    def wake(self) -> None:
        """Have the queue's resume() called soon, by the connection's thread."""
        with self._close_lock:
            if not self._closed:
                self._wake.set()

    def complete(self, cid: int, status: Status = SUCCESS, result: int = 0) -> None:
        """End a command without data."""
        self._put(self._machine.send_response(cid, status, result))
        self._give_room_back(cid)

    def send(self, cid: int, data: memoryview | bytes) -> None:
        """End a command with success and all of its data."""
        self._put(self._machine.send_data_and_response(cid, data))

    def read_buffer(self, length: int) -> memoryview:
        """Room for data to send: at most MAXIMUM_TRANSFER bytes, good until it is given to send or asked for again."""
        if not self._reading:
            self._reading = memoryview(bytearray(MAXIMUM_TRANSFER))
        if self._reading_used + length > MAXIMUM_TRANSFER:
            self._flush()
        start = self._reading_used
        self._reading_used += length
        return self._reading[start : start + length]

    @property
    def let_in(self) -> bool:
        """Whether the host has connected and, if it must, authenticated."""
        return self._machine.state is State.READY

    def _run(self) -> None:
        try:
            self._serve()
        except EndOfAssociationError as reason:
            _log.warning("%s: closing the connection: %s", self.name, reason)
        except OSError as error:
            _log.info("%s: the connection is lost: %s", self.name, error.strerror or error)
        except Exception:  # noqa: BLE001 -- the other connections go on, whatever happens here
            _log.exception("%s: closing the connection because of a defect in weft", self.name)
        finally:
            self._close()

    @property
    def name(self) -> str:
        """The host, for a log line."""
        queue = "" if self._machine.qid is None else f" queue {self._machine.qid}"
        return f"{self.host_nqn or 'a host'} at {self.peer}{queue}"

    def _serve(self) -> None:
        self._socket.setblocking(False)
        # By hand: asyncio and others leave sockets of proto 0 alone, and then every answer waits for a delayed ACK.
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        poller = select.poll()
        poller.register(self._socket, select.POLLIN)
        poller.register(self._wake, select.POLLIN)
        readable, woken = self._socket.fileno(), self._wake.fileno()
        while not self._stopping.is_set():
            ready = dict(poller.poll(self._milliseconds_left()))
            if woken in ready:
                self._wake.clear()
                if self._stopping.is_set():
                    break
                self._resume()
            if readable in ready and not self._receive():
                break
            self._check_deadlines()
            self._flush()

    def _receive(self) -> bool:
        """Take what has come and act on it; whether there may come more."""
        try:
            count = self._socket.recv_into(self._machine.get_buffer())
        except BlockingIOError:
            return True
        self._machine.buffer_updated(count)
        whole = self._machine.received_pdus
        try:
            while not self._stopping.is_set():
                event = self._machine.next_event()
                if event is None:
                    break
                if not self._act(event):
                    return False
        except RemoteProtocolError as error:
            _log.warning("%s: ending the connection: %s", self.name, error)
            self._say_farewell(self._machine.send_failed(error))
            return False
        if not self._machine.mid_pdu:
            self._pdu_deadline = None
        elif self._pdu_deadline is None or self._machine.received_pdus > whole:
            self._pdu_deadline = time.monotonic() + self._limits.pdu_seconds
        return True

    def _act(self, event: TargetEvent) -> bool:
        match event:
            case CommandReceived():
                self._take(event)
            case DataReceived():
                self._dispatch(self._fetching.pop(event.cid), event.data)
            case CommandRejected():
                self._fetching.pop(event.cid, None)
                self.complete(event.cid, event.status, event.result)
            case ICReqReceived():
                self._put(self._machine.send_icresp())
            case TermReqReceived():
                _log.warning(
                    "%s: the host ends the connection: fatal error status %02Xh, information %Xh, header %s",
                    self.name, event.fes, event.fei, event.header.hex(),
                )  # fmt: skip
                return False
            case ConnectionClosed():
                return False
        return True

    def _take(self, received: CommandReceived) -> None:
        """Carry out a command, after fetching its data if that has not come with it."""
        missing = (
            received.transfer is DataTransfer.HOST_TO_CONTROLLER and received.length and received.data is None
        )
        if not missing:
            self._dispatch(received, received.data)
        elif received.length > (MAXIMUM_TRANSFER if self._carries_io else _SMALL_TRANSFER):
            self.complete(received.cid, do_not_retry(StatusCode.INVALID_FIELD_IN_COMMAND))
        elif self._waiting_for_room or not self._has_room(received.length):
            self._waiting_for_room.append(received)
        else:
            self._fetch(received)

    def _has_room(self, length: int) -> bool:
        most = (
            max(self._limits.data_in_flight, MAXIMUM_TRANSFER) if self._carries_io else _SMALL_DATA_IN_FLIGHT
        )
        return self._data_in_flight + length <= most

    @property
    def _carries_io(self) -> bool:
        return self.let_in and bool(self._machine.qid)

    def _fetch(self, received: CommandReceived) -> None:
        self._data_in_flight += received.length
        self._fetched[received.cid] = received.length
        self._fetching[received.cid] = received
        self._put(self._machine.request_data(received.cid, bytearray(received.length)))

    def _give_room_back(self, cid: int) -> None:
        self._data_in_flight -= self._fetched.pop(cid, 0)
        while self._waiting_for_room and self._has_room(self._waiting_for_room[0].length):
            self._fetch(self._waiting_for_room.popleft())

    def _dispatch(self, received: CommandReceived, data: memoryview | None) -> None:
        if self._queue is not None:
            self._queue.execute(received, data)
        elif isinstance(received.command, Connect):
            accepted = self._connect(self, received, data)
            if accepted is not None:
                self._queue = accepted.queue  # before anything can fail: _close tells the queue
                self.complete(received.cid, result=accepted.result)
        else:
            self.complete(received.cid, do_not_retry(StatusCode.COMMAND_SEQUENCE_ERROR))

    def _resume(self) -> None:
        if self._queue is not None:
            self._queue.resume()

    def _milliseconds_left(self) -> float | None:
        deadlines = [self._pdu_deadline]
        deadlines.append(self._handshake_deadline if self._queue is None else self._queue.deadline())
        earliest = min((each for each in deadlines if each is not None), default=None)
        return None if earliest is None else max(0.0, earliest - time.monotonic()) * 1000 + 1

    def _check_deadlines(self) -> None:
        now = time.monotonic()
        if self._pdu_deadline is not None and now >= self._pdu_deadline:
            raise EndOfAssociationError(f"a PDU was not finished within {self._limits.pdu_seconds:g} s")
        if self._queue is None:
            if now >= self._handshake_deadline:
                raise EndOfAssociationError(f"no Connect within {self._limits.handshake_seconds:g} s")
            return
        deadline = self._queue.deadline()
        if deadline is not None and now >= deadline:
            self._queue.resume()

    def _put(self, buffers: Sequence[BytesLike]) -> None:
        self._outgoing.extend(buffers)
        self._outgoing_bytes += sum(map(len, buffers))
        if self._outgoing_bytes >= _FLUSH_AT_BYTES or len(self._outgoing) >= _FLUSH_AT_BUFFERS:
            self._flush()

    def _flush(self) -> None:
        """Send all that was put. Raises EndOfAssociationError when the host does not take it."""
        outgoing = self._outgoing
        while outgoing:
            try:
                sent = self._socket.sendmsg(outgoing)
            except BlockingIOError:
                self._wait_until_writable()
                continue
            if sent == self._outgoing_bytes:
                outgoing.clear()
            else:
                _drop_sent(outgoing, sent)
            self._outgoing_bytes -= sent
        self._reading_used = 0

    def _wait_until_writable(self) -> None:
        poller = select.poll()
        poller.register(self._socket, select.POLLOUT)
        if not poller.poll(self._limits.send_seconds * 1000):
            raise EndOfAssociationError(f"the host took no data for {self._limits.send_seconds:g} s")

    def _say_farewell(self, buffers: Sequence[BytesLike]) -> None:
        """Send last words, and read on a little: closing over unread data would take them from the host again."""
        self._put(buffers)
        self._flush()
        self._socket.shutdown(socket.SHUT_WR)
        deadline = time.monotonic() + _LINGER_SECONDS
        poller = select.poll()
        poller.register(self._socket, select.POLLIN)
        left = _LINGER_BYTES
        while left > 0 and poller.poll(max(0.0, deadline - time.monotonic()) * 1000):
            count = len(self._socket.recv(65536))
            if count == 0:
                return
            left -= count

    def _close(self) -> None:
        with self._close_lock:
            self._closed = True
            if self._outgoing:
                # Behind data that the host does not take, an orderly end would wait in the kernel for minutes.
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self._socket.close()
            self._wake.close()
        try:
            if self._queue is not None:
                self._queue.closed()
        finally:
            self._ended(self)


def _drop_sent(outgoing: list[BytesLike], sent: int) -> None:
    """Remove the first sent bytes."""
    whole = 0
    while sent and sent >= len(outgoing[whole]):
        sent -= len(outgoing[whole])
        whole += 1
    del outgoing[:whole]
    if sent:
        outgoing[0] = memoryview(outgoing[0])[sent:]


def _spelled(connection: socket.socket) -> str:
    try:
        address, port, *_ = connection.getpeername()
    except OSError:
        return "an unknown address"
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
