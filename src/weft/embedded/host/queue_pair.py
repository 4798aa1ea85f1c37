"""One NVMe/TCP connection of the host: a socket, the protocol's state machine, and the thread that receives.

Any thread may send. What the socket does not take at once is sent by the receiving thread when there is room, so
nobody ever blocks in a send and the two ends cannot wait for each other.
"""

import contextlib
import os
import select
import socket
import struct
import threading
from collections import deque
from typing import Final, Protocol

from weft.connection import NvmeofPortal
from weft.errors import UnavailableError
from weft.nvme.command import Command
from weft.nvme.errors import RemoteProtocolError
from weft.nvme.events import CommandCompleted, ConnectionClosed, ICRespReceived, R2TReceived, TermReqReceived
from weft.nvme.host import IN_CAPSULE_DATA_SIZE, HostConnection
from weft.nvme.layout import BytesLike

_BUFFERS_PER_SEND: Final = 64
_RECEIVES_PER_POLL: Final = 16
_JOIN_TIMEOUT: Final = 10.0


class ConnectionLostError(UnavailableError):
    """The connection to a controller is gone; what was not answered may or may not have been done."""


class SilenceError(ConnectionLostError):
    """The controller did not answer in time. It may still be there, and do late what it was told."""


class QueueListener(Protocol):
    """Is told by the receiving thread what happens on a queue pair. Must not block."""

    def completed(self, completion: CommandCompleted) -> None: ...

    def lost(self, error: ConnectionLostError) -> None:
        """Told once, after the last completion; no buffer of an unanswered command is touched any more."""


def dial(portal: NvmeofPortal, timeout: float) -> socket.socket:
    """A TCP connection to a portal. Raises ConnectionLostError."""
    try:
        connected = socket.create_connection((portal.address, portal.port), timeout)
    except OSError as error:
        raise ConnectionLostError(f"{portal} cannot be reached: {error.strerror or error}") from None
    connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connected


class QueuePair:
    """Takes over a connected socket. Start it, submit commands, and close it in any case."""

    def __init__(
        self,
        connected: socket.socket,
        name: str,
        listener: QueueListener,
        *,
        in_capsule_data_size: int = IN_CAPSULE_DATA_SIZE,
    ) -> None:
        connected.setblocking(False)
        self._socket = connected
        self._name = name
        self._listener = listener
        self._lock = threading.Lock()
        self._machine = HostConnection(in_capsule_data_size=in_capsule_data_size)
        self._outgoing: deque[memoryview] = deque()
        self._error: ConnectionLostError | None = None
        self._initialized = threading.Event()
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._wanted = False  # the receiving thread was woken to send
        self._thread = threading.Thread(target=self._run, name=f"weft-{name}", daemon=True)

    def start(self, timeout: float) -> None:
        """Exchange ICReq and ICResp. Raises ConnectionLostError if that takes longer than timeout seconds."""
        with self._lock:
            # Before the thread can learn that the peer has hung up: then nothing may be sent any more.
            self._send(self._machine.send_icreq())
        self._thread.start()
        if not self._initialized.wait(timeout):
            self.abort(SilenceError(f"{self._name} did not answer within {timeout:.1f} s"))
        with self._lock:
            if self._error is not None:
                raise self._error

    def submit(self, cid: int, command: Command, *, data: BytesLike = b"", into: BytesLike = b"") -> None:
        """Send a command; the listener is told of its end. Buffers stay untouched until then, or until lost.

        Raises ConnectionLostError, and then nothing was sent.
        """
        with self._lock:
            if self._error is not None:
                raise self._error
            self._send(self._machine.send_command(cid, command, data=data, into=into))

    def authenticated(self) -> None:
        """The controller has accepted who this host is: every command may be sent now. Raises ConnectionLostError."""
        with self._lock:
            if self._error is not None:
                raise self._error
            self._machine.authenticated()

    def abort(self, error: ConnectionLostError) -> None:
        """Give the connection up, without waiting; the listener is told soon. Unsent bytes are thrown away."""
        with self._lock:
            self._fail(error)

    def close(self) -> None:
        """Give the connection up and wait until the receiving thread has ended. Not for the listener to call."""
        self.abort(ConnectionLostError(f"{self._name} was closed"))
        if self._thread.ident is None:
            with self._lock:
                self._release()
            return
        self._thread.join(_JOIN_TIMEOUT)
        if self._thread.is_alive():
            raise UnavailableError(
                f"the thread of {self._name} did not end"
            )  # a bug: nothing in it may block

    def _fail(self, error: ConnectionLostError) -> None:
        if self._error is not None:
            return
        self._error = error
        self._outgoing.clear()
        with contextlib.suppress(OSError):
            # A reset instead of an orderly end: what the controller has not read yet must not take effect later,
            # behind commands that were sent again by another connection.
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self._socket.shutdown(socket.SHUT_RDWR)
        os.eventfd_write(self._wake, 1)

    def _send(self, buffers: list[BytesLike]) -> None:
        """Queue buffers and send what the socket takes. Holds the lock. Of no effect on a connection that is lost."""
        if self._error is not None:
            return  # the receiving thread may have closed both descriptors, and others may have their numbers now
        self._outgoing.extend(map(memoryview, buffers))
        self._flush()
        if self._outgoing and not self._wanted:
            self._wanted = True
            os.eventfd_write(self._wake, 1)

    def _flush(self) -> None:
        outgoing = self._outgoing
        try:
            while outgoing:
                batch = [outgoing[index] for index in range(min(len(outgoing), _BUFFERS_PER_SEND))]
                sent = self._socket.sendmsg(batch)
                while outgoing and sent >= len(outgoing[0]):
                    sent -= len(outgoing.popleft())
                if sent:
                    outgoing[0] = outgoing[0][sent:]
        except BlockingIOError:
            return
        except OSError as error:
            self._fail(ConnectionLostError(f"{self._name} is gone: {error.strerror}"))

    def _run(self) -> None:
        lost = ConnectionLostError(f"{self._name} was ended by a defect in weft")
        try:
            self._receive_until_lost()
        except ConnectionLostError as error:
            lost = error
        except RemoteProtocolError as error:
            lost = ConnectionLostError(f"{self._name} broke the protocol: {error}")
            with self._lock:
                self._outgoing.clear()
                self._send(self._machine.send_failed(error))
                self._fail(lost)
        except OSError as error:
            lost = ConnectionLostError(f"{self._name} is gone: {error.strerror or error}")
        finally:
            with self._lock:
                self._fail(lost)
                self._release()
                lost = self._error or lost
            self._initialized.set()
            self._listener.lost(lost)

    def _receive_until_lost(self) -> None:
        poller = select.poll()
        poller.register(self._wake, select.POLLIN)
        poller.register(self._socket, select.POLLIN)
        while True:
            for descriptor, events in poller.poll():
                if descriptor == self._wake:
                    os.eventfd_read(self._wake)
                elif events & ~select.POLLOUT:
                    self._receive()
            with self._lock:
                if self._error is not None:
                    return
                self._flush()
                self._wanted = bool(self._outgoing)
                poller.modify(self._socket, select.POLLIN | (select.POLLOUT if self._wanted else 0))

    def _receive(self) -> None:
        """Take what the socket has, for a while."""
        for _ in range(_RECEIVES_PER_POLL):
            with self._lock:
                buffer = self._machine.get_buffer()
            try:
                count = self._socket.recv_into(buffer)
            except BlockingIOError:
                return
            with self._lock:
                self._machine.buffer_updated(count)
            self._take_events()
            if count < len(buffer):
                return

    def _take_events(self) -> None:
        while True:
            with self._lock:
                event = self._machine.next_event()
                if isinstance(event, R2TReceived) and self._error is None:
                    self._send(self._machine.send_data(event))
                elif isinstance(event, TermReqReceived | ConnectionClosed):
                    # Before anybody gets the lock: the state machine takes nothing to send from here on.
                    self._fail(self._end_by(event))
            match event:
                case None:
                    return
                case CommandCompleted():
                    self._listener.completed(event)
                case ICRespReceived():
                    self._initialized.set()
                case R2TReceived():
                    pass
                case TermReqReceived() | ConnectionClosed():
                    raise self._end_by(event)

    def _end_by(self, event: TermReqReceived | ConnectionClosed) -> ConnectionLostError:
        if isinstance(event, TermReqReceived):
            return ConnectionLostError(f"{self._name} found fault with a PDU (FES {event.fes:02X}h)")
        return ConnectionLostError(f"{self._name} closed the connection")

    def _release(self) -> None:
        if self._socket.fileno() >= 0:
            self._socket.close()
            os.close(self._wake)
