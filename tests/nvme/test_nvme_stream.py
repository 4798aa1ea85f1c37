"""The same bytes give the same events however they are cut; and hostile bytes raise nothing but RemoteProtocolError."""

from collections.abc import Iterable, Iterator
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nvme.nvme_pair import CONNECT_DATA, join
from weft.nvme.errors import LocalProtocolError, RemoteProtocolError
from weft.nvme.events import (
    CommandCompleted,
    CommandReceived,
    CommandRejected,
    DataReceived,
    HostEvent,
    ICReqReceived,
    ICRespReceived,
    R2TReceived,
    TargetEvent,
)
from weft.nvme.fabrics import Connect
from weft.nvme.host import HostConnection
from weft.nvme.layout import BytesLike
from weft.nvme.nvm import Flush, Read, Write
from weft.nvme.pdu import ALL_DIGESTS, NO_DIGESTS, Digests
from weft.nvme.receiver import Receiver
from weft.nvme.sqe import DataTransfer
from weft.nvme.state import State
from weft.nvme.target import TargetConnection


class Controller:
    """Answers whatever comes, at once."""

    def __init__(self) -> None:
        self.connection = TargetConnection(maxh2cdata=4096, max_commands=8, receive_buffer_size=512)

    def react(self, event: TargetEvent) -> list[BytesLike]:
        connection = self.connection
        match event:
            case ICReqReceived():
                return connection.send_icresp()
            case CommandReceived(transfer=DataTransfer.HOST_TO_CONTROLLER, data=None, length=length) if (
                length
            ):
                return connection.request_data(event.cid, bytearray(min(length, 65536)))
            case CommandReceived(transfer=DataTransfer.CONTROLLER_TO_HOST, length=length) if length:
                first = connection.send_data(event.cid, b"r" * min(length // 2 + 1, 65536), last=False)
                rest = b"r" * min(length - length // 2 - 1, 65536)
                return first + (connection.send_data_and_response(event.cid, rest) if rest else [])
            case CommandReceived() | DataReceived():
                return connection.send_response(event.cid)
            case CommandRejected():
                return connection.send_response(event.cid, event.status, event.result)
            case _:
                return []


class Host:
    """Connects, then has one command of each kind under way."""

    def __init__(self, digests: Digests) -> None:
        self.connection = HostConnection(digests=digests, receive_buffer_size=512)
        self.into = bytearray(20480)

    def start(self) -> list[BytesLike]:
        return self.connection.send_icreq()

    def react(self, event: HostEvent) -> list[BytesLike]:
        connection = self.connection
        match event:
            case ICRespReceived():
                return connection.send_command(0, Connect(qid=1, sqsize=15), data=CONNECT_DATA.encode())
            case CommandCompleted(cid=0) if connection.state is State.READY:
                return (
                    connection.send_command(1, Write(nsid=1, slba=0, blocks=40), data=b"w" * 20480)
                    + connection.send_command(2, Read(nsid=1, slba=0, blocks=40), into=self.into)
                    + connection.send_command(3, Write(nsid=1, slba=0, blocks=8), data=b"i" * 4096)
                    + connection.send_command(4, Flush(nsid=1))
                )
            case R2TReceived():
                return connection.send_data(event)
            case _:
                return []


def play(peer: Controller | Host, chunks: Iterable[bytes]) -> Iterator[TargetEvent | HostEvent]:
    """Give the peer bytes as a socket would, let it react, and tell what it saw."""
    connection = peer.connection
    for chunk in chunks:
        rest = memoryview(chunk)
        while rest:
            buffer = connection.get_buffer()
            count = min(len(buffer), len(rest))
            buffer[:count] = rest[:count]
            rest = rest[count:]
            connection.buffer_updated(count)
            yield from drain(peer)


def drain(peer: Controller | Host) -> Iterator[TargetEvent | HostEvent]:
    while (event := peer.connection.next_event()) is not None:
        yield settled(event)
        peer.react(event)  # type: ignore[arg-type]  # each peer sees its own events


def settled(event: TargetEvent | HostEvent) -> TargetEvent | HostEvent:
    """The event as it is now, its data copied."""
    if isinstance(event, CommandReceived | DataReceived) and event.data is not None:
        return replace(event, data=memoryview(bytes(event.data)))
    return event


def record(digests: Digests) -> tuple[bytes, bytes]:
    """A whole conversation: what the controller received, and what the host received."""
    controller, host = Controller(), Host(digests)
    to_controller, heard, answered = join(host.start()), b"", b""
    while to_controller:
        heard += to_controller
        controller.connection.receive_data(to_controller)
        to_host = b""
        while (event := controller.connection.next_event()) is not None:
            to_host += join(controller.react(event))
        answered += to_host
        host.connection.receive_data(to_host)
        to_controller = b""
        while (reply := host.connection.next_event()) is not None and to_host:
            to_controller += join(host.react(reply))
    assert host.connection.outstanding == controller.connection.outstanding == 0
    assert bytes(host.into) == b"r" * 20480
    return heard, answered


DIGESTS = [NO_DIGESTS, ALL_DIGESTS]
RECORDED = {digests: record(digests) for digests in DIGESTS}


def fresh(side: str, digests: Digests) -> Controller | Host:
    if side == "controller":
        return Controller()
    host = Host(digests)
    host.start()
    return host


def recorded(side: str, digests: Digests) -> bytes:
    return RECORDED[digests][0 if side == "controller" else 1]


def whole(side: str, digests: Digests) -> list[TargetEvent | HostEvent]:
    peer = fresh(side, digests)
    peer.connection.receive_data(recorded(side, digests))
    return list(drain(peer))


sides = pytest.mark.parametrize("side", ["controller", "host"])
both_ways = pytest.mark.parametrize("digests", DIGESTS, ids=["plain", "digests"])


@sides
@both_ways
def test_a_byte_at_a_time_gives_the_same_events(side: str, digests: Digests) -> None:
    stream = recorded(side, digests)
    events = list(play(fresh(side, digests), (stream[at : at + 1] for at in range(len(stream)))))
    assert events == whole(side, digests)
    assert len(events) >= 7


@sides
@both_ways
def test_the_whole_stream_in_large_receives_gives_the_same_events(side: str, digests: Digests) -> None:
    assert list(play(fresh(side, digests), [recorded(side, digests)])) == whole(side, digests)


@sides
@both_ways
@given(data=st.data())
def test_any_cut_gives_the_same_events(side: str, digests: Digests, data: st.DataObject) -> None:
    stream = recorded(side, digests)
    cuts = sorted(data.draw(st.sets(st.integers(1, len(stream) - 1), max_size=60)))
    chunks = [stream[start:end] for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    assert list(play(fresh(side, digests), chunks)) == whole(side, digests)
    fed = fresh(side, digests)
    events = []
    for chunk in chunks:
        fed.connection.receive_data(bytearray(chunk))
        events += list(drain(fed))
    assert events == whole(side, digests)


def survive(peer: Controller | Host, chunks: Iterable[bytes]) -> None:
    """Nothing but RemoteProtocolError comes out, again and again, and then the last words can be said."""
    error = None
    try:
        list(play(peer, chunks))
    except RemoteProtocolError as caught:
        error = caught
    if error is not None:
        with pytest.raises(RemoteProtocolError):
            peer.connection.next_event()
        assert 24 <= len(join(peer.connection.send_failed(error))) <= 152
        assert str(error).endswith(".")


@sides
@given(chunks=st.lists(st.binary(min_size=1, max_size=200), max_size=20))
def test_random_bytes_are_survived(side: str, chunks: list[bytes]) -> None:
    survive(fresh(side, NO_DIGESTS), chunks)


@sides
@both_ways
@given(data=st.data())
def test_a_damaged_conversation_is_survived(side: str, digests: Digests, data: st.DataObject) -> None:
    stream = bytearray(recorded(side, digests))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(stream) - 1))
        match data.draw(st.sampled_from(["flip", "insert", "cut", "repeat"])):
            case "flip":
                stream[at] ^= data.draw(st.integers(1, 255))
            case "insert":
                stream[at:at] = data.draw(st.binary(min_size=1, max_size=100))
            case "cut":
                del stream[at : at + data.draw(st.integers(1, 200))]
            case _:
                stream[at:at] = stream[at : at + data.draw(st.integers(1, 200))]
        if not stream:
            return
    size = data.draw(st.sampled_from([100, 5000, 100000]))
    survive(fresh(side, digests), (bytes(stream[at : at + size]) for at in range(0, len(stream), size)))


@sides
@both_ways
@given(data=st.data())
def test_damaged_headers_are_survived(side: str, digests: Digests, data: st.DataObject) -> None:
    """Damage where it hurts: in the headers, which are found by walking along PLEN."""
    stream = bytearray(recorded(side, digests))
    starts, at = [], 0
    while at < len(stream):
        starts.append(at)
        at += int.from_bytes(stream[at + 4 : at + 8], "little")
    for start in data.draw(st.lists(st.sampled_from(starts), min_size=1, max_size=3)):
        offset = start + data.draw(st.integers(0, 71))
        if offset < len(stream):
            stream[offset] = data.draw(st.integers(0, 255))
    survive(fresh(side, digests), [bytes(stream)])


def test_a_receive_buffer_that_is_never_emptied_is_the_callers_error_and_grows_not() -> None:
    connection = TargetConnection(receive_buffer_size=512)
    buffer = connection.get_buffer()
    assert len(buffer) == 512
    connection.buffer_updated(512)
    with pytest.raises(LocalProtocolError):
        connection.get_buffer()


def test_a_receive_buffer_too_small_for_a_header_is_refused() -> None:
    with pytest.raises(LocalProtocolError):
        Receiver(lambda _, length: memoryview(bytearray(length)), 100)
