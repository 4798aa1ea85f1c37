"""A host that says exactly what a test tells it to, over a real socket: weft.nvme's host side and nothing more."""

import select
import socket
import time
import uuid
from collections.abc import Callable
from types import TracebackType
from typing import Self

from weft.connection import NvmeofPortal
from weft.nvme.admin import Identify, SetFeatures
from weft.nvme.auth import HostAuthentication
from weft.nvme.command import Command
from weft.nvme.dhchap_messages import MESSAGE_MAX
from weft.nvme.errors import RemoteProtocolError
from weft.nvme.events import CommandCompleted, ConnectionClosed, ICRespReceived, R2TReceived, TermReqReceived
from weft.nvme.fabrics import (
    AuthenticationReceive,
    AuthenticationSend,
    Connect,
    ConnectData,
    PropertyGet,
    PropertySet,
)
from weft.nvme.features import FeatureId, NumberOfQueues
from weft.nvme.host import HostConnection
from weft.nvme.identify import IdentifyNamespace
from weft.nvme.layout import BytesLike
from weft.nvme.pdu import NO_DIGESTS, Digests
from weft.nvme.properties import ControllerConfiguration, ControllerStatus, Property
from weft.nvme.state import State

SECONDS = 10.0


class LostError(Exception):
    """The target has ended the connection."""


class RawConnection:
    """One queue pair, used by one thread."""

    def __init__(
        self, portal: NvmeofPortal, *, digests: Digests = NO_DIGESTS, in_capsule_data_size: int = 8192
    ) -> None:
        self.socket = socket.create_connection((portal.address, portal.port), timeout=SECONDS)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.machine = HostConnection(digests=digests, in_capsule_data_size=in_capsule_data_size)
        self.completed: dict[int, CommandCompleted] = {}
        self.term_req: TermReqReceived | None = None
        self.opened = False
        self.r2ts = 0
        self._next_cid = 0
        self._into: dict[int, bytearray] = {}

    def open(self) -> Self:
        """ICReq and ICResp."""
        try:
            self._send(self.machine.send_icreq())
            self.pump(lambda: self.opened)
        except BaseException:
            self.close()
            raise
        return self

    def submit(self, command: Command, *, data: BytesLike = b"", size: int = 0) -> int:
        """Send a command, size being how many bytes it reads; its command identifier."""
        cid, self._next_cid = self._next_cid, self._next_cid + 1
        self._into[cid] = bytearray(size)
        self._send(self.machine.send_command(cid, command, data=data, into=self._into[cid]))
        return cid

    def wait(self, cid: int, seconds: float = SECONDS) -> CommandCompleted:
        self.pump(lambda: cid in self.completed, seconds)
        return self.completed.pop(cid)

    def call(self, command: Command, *, data: BytesLike = b"", size: int = 0) -> CommandCompleted:
        return self.wait(self.submit(command, data=data, size=size))

    def read(self, command: Command, size: int) -> bytes:
        """The data of a command that must succeed."""
        cid = self.submit(command, size=size)
        completed = self.wait(cid)
        assert completed.status.ok, completed.status.text
        return bytes(self._into.pop(cid))

    def connect(
        self,
        subnqn: str,
        hostnqn: str,
        *,
        qid: int = 0,
        cntlid: int = 0xFFFF,
        kato_ms: int = 0,
        hostid: bytes = bytes(range(16)),
        sqsize: int = 31,
    ) -> CommandCompleted:
        data = ConnectData(hostid=hostid, subnqn=subnqn, hostnqn=hostnqn, cntlid=cntlid).encode()
        return self.call(Connect(qid=qid, sqsize=sqsize, kato_ms=kato_ms), data=data)

    def authenticate(self, machine: HostAuthentication) -> None:
        """DH-HMAC-CHAP, to the end. Raises AuthenticationError."""
        assert self.send_message(machine.negotiate()).status.ok
        assert self.send_message(machine.answer(self.fetch_message())).status.ok
        last = machine.conclude(self.fetch_message())
        if last is not None:
            assert self.send_message(last).status.ok
        if self.machine.state is State.AUTHENTICATING:
            self.machine.authenticated()

    def send_message(self, message: bytes) -> CommandCompleted:
        return self.call(AuthenticationSend(length=len(message)), data=message)

    def fetch_message(self) -> bytes:
        return self.read(AuthenticationReceive(length=MESSAGE_MAX), MESSAGE_MAX)

    def pump(self, done: Callable[[], bool], seconds: float = SECONDS) -> None:
        """Take what comes until done() is true. Raises LostError at the end of the connection, TimeoutError."""
        deadline = time.monotonic() + seconds
        while not done():
            self.socket.settimeout(max(0.001, deadline - time.monotonic()))
            try:
                count = self.socket.recv_into(self.machine.get_buffer())
            except ConnectionError as error:
                raise LostError(str(error)) from error
            self.machine.buffer_updated(count)
            while (event := self.machine.next_event()) is not None:
                match event:
                    case ICRespReceived():
                        self.opened = True
                    case R2TReceived():
                        self.r2ts += 1
                        self._send(self.machine.send_data(event))
                    case CommandCompleted():
                        self.completed[event.cid] = event
                    case TermReqReceived():
                        self.term_req = event
                    case ConnectionClosed():
                        raise LostError

    def wait_until_lost(self, seconds: float = SECONDS) -> None:
        try:
            self.pump(lambda: False, seconds)
        except (LostError, RemoteProtocolError):
            return

    def is_lost(self, seconds: float = 0.0) -> bool:
        """Whether the target has ended the connection, or does so within seconds."""
        poller = select.poll()
        poller.register(self.socket, select.POLLRDHUP)
        return bool(poller.poll(seconds * 1000))

    def close(self) -> None:
        self.socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _send(self, buffers: list[BytesLike]) -> None:
        self.socket.settimeout(SECONDS)
        try:
            self.socket.sendall(b"".join(buffers))
        except ConnectionError as error:
            raise LostError(str(error)) from error


class RawHost:
    """A host attached to a subsystem: an admin queue, brought up as Linux does it, and I/O queues."""

    def __init__(
        self,
        portal: NvmeofPortal,
        subnqn: str,
        hostnqn: str,
        *,
        kato_ms: int = 0,
        queues: int = 1,
        digests: Digests = NO_DIGESTS,
        in_capsule_data_size: int = 8192,
    ) -> None:
        self.portal, self.subnqn, self.hostnqn = portal, subnqn, hostnqn
        self.hostid = uuid.uuid5(uuid.NAMESPACE_URL, hostnqn).bytes
        self.digests, self.in_capsule_data_size = digests, in_capsule_data_size
        self.admin = RawConnection(portal, digests=digests).open()
        self.io: list[RawConnection] = []
        try:
            connected = self.admin.connect(subnqn, hostnqn, kato_ms=kato_ms, hostid=self.hostid)
            assert connected.status.ok, connected.status.text
            self.cntlid = connected.result & 0xFFFF
            self._enable()
            wanted = NumberOfQueues(submission=queues, completion=queues).encode()
            granted = self.admin.call(SetFeatures(fid=FeatureId.NUMBER_OF_QUEUES, cdw11=wanted))
            assert granted.status.ok, granted.status.text
            for qid in range(1, queues + 1):
                self.add_io_queue(qid)
        except BaseException:
            self.close()
            raise

    def add_io_queue(self, qid: int) -> RawConnection:
        connection = RawConnection(
            self.portal, digests=self.digests, in_capsule_data_size=self.in_capsule_data_size
        ).open()
        self.io.append(connection)
        connected = connection.connect(
            self.subnqn, self.hostnqn, qid=qid, cntlid=self.cntlid, hostid=self.hostid, sqsize=127
        )
        assert connected.status.ok, connected.status.text
        return connection

    def set_configuration(self, configuration: ControllerConfiguration) -> None:
        done = self.admin.call(PropertySet(offset=Property.CC, value=configuration.encode()))
        assert done.status.ok, done.status.text

    def status(self) -> ControllerStatus:
        return ControllerStatus.decode(self.admin.call(PropertyGet(offset=Property.CSTS)).result)

    def namespace(self) -> IdentifyNamespace:

        return IdentifyNamespace.decode(self.admin.read(Identify(cns=0, nsid=1), 4096))

    def close(self) -> None:
        for connection in (*self.io, self.admin):
            connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _enable(self) -> None:
        self.set_configuration(ControllerConfiguration())
        self.set_configuration(ControllerConfiguration(enable=True))
        assert self.status().ready
