"""Both sides of a connection in memory, and ways to feed them."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeVar

from weft.nvme.connection import Connection
from weft.nvme.events import (
    CommandCompleted,
    CommandReceived,
    ConnectionClosed,
    HostEvent,
    TargetEvent,
    TermReqReceived,
)
from weft.nvme.fabrics import Connect, ConnectData
from weft.nvme.host import HostConnection
from weft.nvme.layout import BytesLike
from weft.nvme.pdu import NO_DIGESTS, Digests
from weft.nvme.target import MAXH2CDATA, TargetConnection

E = TypeVar("E")

SUBNQN = "nqn.2019-01.com.opensds:nvme:one"
HOSTNQN = "nqn.2014-08.org.nvmexpress:uuid:0f01fb42-9f7f-4856-b0b3-51e60b8de349"
CONNECT_DATA = ConnectData(hostid=bytes(range(16)), subnqn=SUBNQN, hostnqn=HOSTNQN)


def join(buffers: Iterable[BytesLike]) -> bytes:
    return b"".join(bytes(buffer) for buffer in buffers)


def take_events(connection: Connection[E]) -> list[E | TermReqReceived | ConnectionClosed]:
    """What has happened by now."""
    found: list[E | TermReqReceived | ConnectionClosed] = []
    while (event := connection.next_event()) is not None:
        found.append(event)
        if isinstance(event, ConnectionClosed):
            break
    return found


def feed_whole(connection: Connection[E], stream: bytes) -> list[E | TermReqReceived | ConnectionClosed]:
    connection.receive_data(stream)
    return take_events(connection)


def feed_into_buffers(
    connection: Connection[E], stream: bytes
) -> list[E | TermReqReceived | ConnectionClosed]:
    """As a socket's recv_into would, taking the events after every receive."""
    rest = memoryview(stream)
    found: list[E | TermReqReceived | ConnectionClosed] = []
    while rest:
        buffer = connection.get_buffer()
        count = min(len(buffer), len(rest))
        buffer[:count] = rest[:count]
        rest = rest[count:]
        connection.buffer_updated(count)
        now = take_events(connection)
        found += now
    return found


@dataclass
class Pair:
    """A host and a controller."""

    target: TargetConnection
    host: HostConnection

    def to_target(self, buffers: Iterable[BytesLike]) -> list[TargetEvent]:
        return feed_into_buffers(self.target, join(buffers))

    def to_host(self, buffers: Iterable[BytesLike]) -> list[HostEvent]:
        return feed_into_buffers(self.host, join(buffers))

    def complete(self, buffers: Iterable[BytesLike]) -> CommandCompleted:
        """The host gets `buffers`, which complete one command."""
        (event,) = self.to_host(buffers)
        assert isinstance(event, CommandCompleted)
        return event

    def command(self, buffers: Iterable[BytesLike]) -> CommandReceived:
        """The controller gets `buffers`, which are one command."""
        (event,) = self.to_target(buffers)
        assert isinstance(event, CommandReceived)
        return event

    def initialize(self) -> None:
        self.to_target(self.host.send_icreq())
        self.to_host(self.target.send_icresp())

    def connect(self, connect: Connect, *, result: int = 1) -> None:
        event = self.command(self.host.send_command(0, connect, data=CONNECT_DATA.encode()))
        self.complete(self.target.send_response(event.cid, result=result))


def ready_pair(
    *,
    qid: int = 1,
    digests: Digests = NO_DIGESTS,
    maxh2cdata: int = MAXH2CDATA,
    disable_sq_flow_control: bool = False,
    hpda: int = 0,
) -> Pair:
    """Connected as queue `qid`, ready for commands."""
    pair = Pair(TargetConnection(maxh2cdata=maxh2cdata), HostConnection(digests=digests, hpda=hpda))
    pair.initialize()
    pair.connect(Connect(qid=qid, sqsize=127, disable_sq_flow_control=disable_sq_flow_control))
    return pair
