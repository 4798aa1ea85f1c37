"""The controller's side: what it accepts, what it answers with a status, and what ends the connection."""

import struct

import pytest

from nvme.nvme_pair import CONNECT_DATA, Pair, feed_into_buffers, feed_whole, join, ready_pair, take_events
from weft.nvme.admin import Identify, KeepAlive
from weft.nvme.errors import FatalErrorStatus, LocalProtocolError, RemoteProtocolError
from weft.nvme.events import (
    CommandReceived,
    CommandRejected,
    ConnectionClosed,
    DataReceived,
    ICReqReceived,
    TermReqReceived,
)
from weft.nvme.fabrics import AUTHREQ_ATR, AuthenticationSend, Connect
from weft.nvme.host import HostConnection
from weft.nvme.layout import BytesLike
from weft.nvme.nvm import Flush, Read, Write
from weft.nvme.pdu import (
    ALL_DIGESTS,
    R2T,
    CapsuleCmd,
    Digests,
    H2CData,
    H2CTermReq,
    ICReq,
    Pdu,
    encode_pdu,
)
from weft.nvme.sqe import DataTransfer, SglDescriptor, SglType, by_transport, in_capsule
from weft.nvme.state import State
from weft.nvme.status import SUCCESS, Status, StatusCode
from weft.nvme.target import TargetConnection


def wire(pdu: Pdu, data: bytes = b"") -> bytes:
    return join(encode_pdu(pdu, data))


def capsule(sqe: bytes, data: bytes = b"") -> bytes:
    return wire(CapsuleCmd(sqe=sqe), data)


def write_capsule(cid: int, length: int) -> bytes:
    return capsule(Write(nsid=1, slba=0, blocks=length // 512).encode(cid, by_transport(length)))


def fault(connection: TargetConnection, stream: bytes) -> FatalErrorStatus:
    """What `stream` is told to have broken; the connection says so again, and ends with a C2HTermReq."""
    with pytest.raises(RemoteProtocolError) as caught:
        feed_whole(connection, stream)
    with pytest.raises(RemoteProtocolError) as again:
        connection.next_event()
    assert again.value is caught.value
    last_words = join(connection.send_failed(caught.value))
    assert last_words[0] == 0x03
    assert struct.unpack_from("<H", last_words, 8) == (caught.value.fes,)
    assert struct.unpack_from("<I", last_words, 4) == (len(last_words),)
    assert len(last_words) <= 152
    assert connection.send_failed(caught.value) == []
    return caught.value.fes


def initialized() -> TargetConnection:
    target = TargetConnection()
    feed_whole(target, wire(ICReq()))
    target.send_icresp()
    return target


def ready(qid: int = 1) -> TargetConnection:
    return ready_pair(qid=qid).target


def ttag_of(buffers: list[BytesLike]) -> int:
    r2t = join(buffers)
    assert r2t[0] == 0x09
    return struct.unpack_from("<H", r2t, 10)[0]  # type: ignore[no-any-return]


def test_a_host_is_answered_with_the_digests_that_it_asked_for_and_that_are_allowed() -> None:
    target = TargetConnection(maxh2cdata=65536, allowed_digests=Digests(header=True))
    assert feed_whole(target, wire(ICReq(digests=ALL_DIGESTS))) == [ICReqReceived(ICReq(digests=ALL_DIGESTS))]
    answer = join(target.send_icresp())
    assert answer[:1] + answer[8:16] == bytes([0x01, 0, 0, 0, 0b01, 0, 0, 1, 0])
    assert target.digests == Digests(header=True)


def test_connect_makes_the_connection_ready() -> None:
    target = initialized()
    connect = Connect(qid=0, sqsize=31, kato_ms=5000)
    stream = capsule(connect.encode(7, in_capsule(1024)), CONNECT_DATA.encode())
    (event,) = feed_whole(target, stream)
    assert isinstance(event, CommandReceived)
    assert (event.cid, event.command, event.transfer) == (7, connect, DataTransfer.HOST_TO_CONTROLLER)
    assert bytes(event.data or b"") == CONNECT_DATA.encode()
    response = join(target.send_response(7, result=0x1234))
    assert response == bytes([5, 0, 24, 0, 24, 0, 0, 0]) + struct.pack("<QHHHH", 0x1234, 1, 0, 7, 0)
    assert (target.state, target.qid, target.outstanding) == (State.READY, 0, 0)


def test_a_refused_connect_leaves_the_connection_unconnected() -> None:
    target = initialized()
    feed_whole(target, capsule(Connect(qid=0, sqsize=31).encode(7, in_capsule(1024)), CONNECT_DATA.encode()))
    target.send_response(7, Status(StatusCode.CONNECT_INVALID_HOST, dnr=True))
    assert (target.state, target.qid) == (State.INITIALIZED, None)


def test_only_authentication_goes_on_until_the_host_is_authenticated() -> None:
    target = initialized()
    feed_whole(target, capsule(Connect(qid=0, sqsize=31).encode(7, in_capsule(1024)), CONNECT_DATA.encode()))
    target.send_response(7, result=AUTHREQ_ATR | 1)
    refused, allowed = feed_whole(
        target,
        capsule(KeepAlive().encode(1))
        + capsule(AuthenticationSend(length=4).encode(2, in_capsule(4)), b"data"),
    )
    assert refused == CommandRejected(cid=1, status=Status(StatusCode.AUTHENTICATION_REQUIRED, dnr=True))
    assert isinstance(allowed, CommandReceived)
    target.authenticated()
    assert isinstance(feed_whole(target, capsule(KeepAlive().encode(3)))[0], CommandReceived)


def test_a_command_before_connect_is_a_sequence_error_that_can_be_answered() -> None:
    target = initialized()
    (event,) = feed_whole(target, capsule(KeepAlive().encode(3)))
    status = Status(StatusCode.COMMAND_SEQUENCE_ERROR, dnr=True)
    assert event == CommandRejected(cid=3, status=status)
    response = join(target.send_response(3, status))
    assert struct.unpack_from("<HH", response, 20) == (3, 0x400C << 1)
    assert target.state is State.INITIALIZED


def test_a_second_connect_is_a_sequence_error() -> None:
    target = ready()
    (event,) = feed_whole(target, capsule(Connect(qid=1, sqsize=31).encode(9, in_capsule(1024)), bytes(1024)))
    assert event == CommandRejected(cid=9, status=Status(StatusCode.COMMAND_SEQUENCE_ERROR, dnr=True))


def test_the_queue_decides_what_an_opcode_means() -> None:
    sqe = Identify(cns=1).encode(1, by_transport(4096))
    (event,) = feed_whole(ready(qid=0), capsule(sqe))
    assert isinstance(event, CommandReceived)
    assert event.command == Identify(cns=1)
    (event,) = feed_whole(ready(qid=1), capsule(sqe))
    assert event == CommandRejected(cid=1, status=Status(StatusCode.INVALID_COMMAND_OPCODE, dnr=True))


def test_a_write_is_received_straight_into_the_callers_buffer() -> None:
    target, buffer = ready(), bytearray(8192)
    (event,) = feed_whole(target, write_capsule(1, 8192))
    assert isinstance(event, CommandReceived)
    assert (event.length, event.data) == (8192, None)
    ttag = ttag_of(target.request_data(1, buffer))
    data = bytes(range(256)) * 32
    target.receive_data(wire(H2CData(cccid=1, ttag=ttag, datao=0, datal=8192, last=True), data)[:24])
    assert target.next_event() is None
    place = target.get_buffer()
    assert len(place) == 8192
    place[:] = data
    assert buffer == data
    target.buffer_updated(8192)
    assert take_events(target) == [DataReceived(cid=1, offset=0, data=memoryview(buffer))]


def test_a_large_write_can_be_taken_in_parts_of_bounded_size() -> None:
    target, data = ready(), bytes(range(256)) * 48
    feed_whole(target, write_capsule(1, len(data)))
    parts = []
    for start in range(0, len(data), 4096):
        r2t = target.request_data(1, bytearray(4096))
        assert struct.unpack_from("<II", join(r2t), 12) == (start, 4096)
        pdu = H2CData(cccid=1, ttag=ttag_of(r2t), datao=start, datal=4096, last=True)
        (event,) = feed_whole(target, wire(pdu, data[start : start + 4096]))
        assert isinstance(event, DataReceived)
        assert event.offset == start
        parts.append(bytes(event.data))
    assert b"".join(parts) == data
    with pytest.raises(LocalProtocolError):
        target.request_data(1, bytearray(1))


def test_the_data_of_several_writes_may_be_interleaved() -> None:
    target, buffers = ready(), [bytearray(8192), bytearray(8192)]
    feed_whole(target, write_capsule(0, 8192) + write_capsule(1, 8192))
    tags = [ttag_of(target.request_data(cid, buffers[cid])) for cid in (0, 1)]
    finished = []
    for offset in (0, 4096):
        for cid in (1, 0):
            pdu = H2CData(cccid=cid, ttag=tags[cid], datao=offset, datal=4096, last=offset > 0)
            finished += feed_whole(target, wire(pdu, bytes([cid + 1]) * 4096))
    assert [event.cid for event in finished if isinstance(event, DataReceived)] == [1, 0]
    assert buffers == [bytearray(b"\1" * 8192), bytearray(b"\2" * 8192)]


def h2c(ttag: int, *, cid: int = 1, offset: int = 0, length: int = 4096, last: bool = False) -> bytes:
    return wire(H2CData(cccid=cid, ttag=ttag, datao=offset, datal=length, last=last), bytes(length))


@pytest.mark.parametrize(
    ("wrong", "fes"),
    [
        ({"ttag": 999}, FatalErrorStatus.INVALID_PDU_HEADER_FIELD),
        ({"cid": 2}, FatalErrorStatus.INVALID_PDU_HEADER_FIELD),
        ({"offset": 4096}, FatalErrorStatus.DATA_TRANSFER_OUT_OF_RANGE),
        ({"length": 8196, "last": True}, FatalErrorStatus.DATA_TRANSFER_OUT_OF_RANGE),
        ({"length": 131076}, FatalErrorStatus.DATA_TRANSFER_LIMIT_EXCEEDED),
        ({"last": True}, FatalErrorStatus.INVALID_PDU_HEADER_FIELD),
        ({"length": 8192}, FatalErrorStatus.INVALID_PDU_HEADER_FIELD),
    ],
)
def test_data_that_nobody_asked_for_ends_the_connection(wrong: dict[str, int], fes: FatalErrorStatus) -> None:
    target = ready()
    feed_whole(target, write_capsule(1, 8192))
    ttag = ttag_of(target.request_data(1, bytearray(8192)))
    fields = {"ttag": ttag, **wrong}
    stream = h2c(
        fields["ttag"],
        cid=fields.get("cid", 1),
        offset=fields.get("offset", 0),
        length=fields.get("length", 4096),
        last=bool(fields.get("last", 0)),
    )
    assert fault(target, stream) is fes


def test_data_after_its_last_pdu_ends_the_connection() -> None:
    target = ready()
    feed_whole(target, write_capsule(1, 4096))
    ttag = ttag_of(target.request_data(1, bytearray(4096)))
    feed_whole(target, h2c(ttag, last=True))
    assert fault(target, h2c(ttag, last=True)) is FatalErrorStatus.INVALID_PDU_HEADER_FIELD


def test_what_breaks_the_sequence_ends_the_connection() -> None:
    sequence = FatalErrorStatus.PDU_SEQUENCE_ERROR
    assert fault(TargetConnection(), capsule(KeepAlive().encode(1))) is sequence
    assert fault(initialized(), wire(ICReq())) is sequence
    assert fault(initialized(), h2c(0)) is sequence
    target = TargetConnection()
    assert fault(target, wire(ICReq()) + capsule(KeepAlive().encode(1))[:72]) is sequence


def test_what_a_host_never_sends_ends_the_connection() -> None:
    pdu = R2T(cccid=1, ttag=1, r2to=0, r2tl=4)
    assert fault(ready(), wire(pdu)) is FatalErrorStatus.INVALID_PDU_HEADER_FIELD


def test_an_icreq_of_another_version_is_unsupported() -> None:
    assert fault(TargetConnection(), wire(ICReq(pfv=1))) is FatalErrorStatus.UNSUPPORTED_PARAMETER
    assert fault(TargetConnection(), wire(ICReq(hpda=32))) is FatalErrorStatus.INVALID_PDU_HEADER_FIELD


def test_a_command_identifier_in_use_ends_the_connection() -> None:
    stream = capsule(Flush(nsid=1).encode(1))
    assert fault(ready(), stream + stream) is FatalErrorStatus.INVALID_PDU_HEADER_FIELD


def test_a_command_identifier_is_free_again_once_answered() -> None:
    target = ready()
    for _ in range(3):
        (event,) = feed_whole(target, capsule(Flush(nsid=1).encode(1)))
        assert isinstance(event, CommandReceived)
        target.send_response(1)


def test_the_number_of_commands_is_bounded() -> None:
    pair = Pair(TargetConnection(max_commands=4), HostConnection())
    pair.initialize()
    pair.connect(Connect(qid=1, sqsize=127))
    for cid in range(4):
        feed_whole(pair.target, capsule(Flush(nsid=1).encode(cid)))
    assert fault(pair.target, capsule(Flush(nsid=1).encode(4))) is FatalErrorStatus.PDU_SEQUENCE_ERROR


def test_the_data_in_a_capsule_is_bounded_before_it_is_received() -> None:
    header = capsule(Write(nsid=1, slba=0, blocks=16).encode(1, in_capsule(8192)), bytes(8196))[:72]
    assert fault(ready(), header) is FatalErrorStatus.INVALID_PDU_HEADER_FIELD


def write_with(sgl: SglDescriptor, data: bytes) -> object:
    (event,) = feed_whole(ready(), capsule(Write(nsid=1, slba=0, blocks=8).encode(1, sgl), data))
    return event.status.code if isinstance(event, CommandRejected) else event


def test_data_in_the_capsule_must_be_where_the_sgl_says() -> None:
    event = write_with(SglDescriptor(4, 4096, SglType.DATA_BLOCK_OFFSET), bytes(4) + b"x" * 4096)
    assert isinstance(event, CommandReceived)
    assert bytes(event.data or b"") == b"x" * 4096
    assert write_with(in_capsule(4096), bytes(4092)) is StatusCode.DATA_SGL_LENGTH_INVALID
    offset = SglDescriptor(1 << 63, 4096, SglType.DATA_BLOCK_OFFSET)
    assert write_with(offset, bytes(4096)) is StatusCode.SGL_OFFSET_INVALID
    assert write_with(by_transport(4096), bytes(4096)) is StatusCode.SGL_DESCRIPTOR_TYPE_INVALID


def test_data_for_the_host_cannot_be_in_the_hosts_capsule() -> None:
    stream = capsule(Read(nsid=1, slba=0, blocks=1).encode(1, in_capsule(512)), bytes(512))
    (event,) = feed_whole(ready(), stream)
    assert event == CommandRejected(cid=1, status=Status(StatusCode.SGL_DESCRIPTOR_TYPE_INVALID, dnr=True))


def test_damaged_data_is_answered_and_does_not_end_the_connection() -> None:
    pair = ready_pair(digests=ALL_DIGESTS)
    stream = bytearray(join(pair.host.send_command(1, Write(nsid=1, slba=0, blocks=8), data=bytes(4096))))
    stream[100] ^= 1
    damaged = CommandRejected(cid=1, status=Status(StatusCode.TRANSIENT_TRANSPORT_ERROR))
    assert pair.to_target([stream]) == [damaged]
    assert pair.complete(pair.target.send_response(1, damaged.status)).status == damaged.status
    pair.command(pair.host.send_command(1, Write(nsid=1, slba=0, blocks=32), data=bytes(16384)))
    (r2t,) = pair.to_host(pair.target.request_data(1, bytearray(16384)))
    stream = bytearray(join(pair.host.send_data(r2t)))  # type: ignore[arg-type]
    stream[100] ^= 1
    assert pair.to_target([stream]) == [damaged]


def test_responses_report_the_queue_head_and_wrap_around() -> None:
    pair = Pair(TargetConnection(), HostConnection())
    pair.initialize()
    pair.connect(Connect(qid=1, sqsize=3))
    heads = []
    for _ in range(5):
        feed_whole(pair.target, capsule(Flush(nsid=1).encode(1)))
        heads.append(struct.unpack_from("<H", join(pair.target.send_response(1)), 16)[0])
    assert heads == [2, 3, 0, 1, 2]


def test_without_flow_control_one_pdu_carries_data_and_success() -> None:
    target = ready_pair(disable_sq_flow_control=True).target
    feed_whole(target, capsule(Read(nsid=1, slba=0, blocks=1).encode(1, by_transport(512))))
    (header, data) = target.send_data_and_response(1, bytes(512))
    assert bytes(header)[:2] == bytes([0x07, 0x0C])
    assert len(data) == 512
    assert target.outstanding == 0


def test_what_the_caller_does_wrong_changes_nothing() -> None:
    target = ready()
    with pytest.raises(LocalProtocolError):
        target.send_response(1)
    feed_whole(target, write_capsule(1, 4096))
    with pytest.raises(LocalProtocolError):
        target.send_data(1, bytes(512))
    with pytest.raises(LocalProtocolError):
        target.request_data(1, bytes(4096))
    with pytest.raises(LocalProtocolError):
        target.request_data(1, bytearray(4097))
    target.request_data(1, bytearray(4096))
    with pytest.raises(LocalProtocolError):
        target.request_data(1, bytearray(4096))
    with pytest.raises(LocalProtocolError):
        target.send_response(1)
    with pytest.raises(LocalProtocolError):
        target.send_icresp()
    assert (target.state, target.outstanding) == (State.READY, 1)


def test_the_hosts_complaint_ends_the_connection() -> None:
    target = ready()
    assert feed_whole(target, wire(H2CTermReq(fes=2, fei=7), b"header")) == [
        TermReqReceived(fes=2, fei=7, header=b"header")
    ]
    for _ in range(1000):
        assert feed_into_buffers(target, capsule(Flush(nsid=1).encode(1))) == []
    assert target.send_failed(RemoteProtocolError("late", FatalErrorStatus.PDU_SEQUENCE_ERROR)) == []


def test_the_end_of_the_stream_closes_the_connection_even_amid_a_pdu() -> None:
    target = ready()
    target.receive_data(capsule(Flush(nsid=1).encode(1))[:20])
    target.receive_data(b"")
    assert target.next_event() == ConnectionClosed()
    assert target.state is State.CLOSED
    target = ready()
    target.get_buffer()
    target.buffer_updated(0)
    assert target.next_event() == ConnectionClosed()


def test_commands_before_the_end_of_the_stream_are_not_lost() -> None:
    target = ready()
    target.receive_data(capsule(Flush(nsid=1).encode(1)))
    target.receive_data(b"")
    first, second = take_events(target)
    assert isinstance(first, CommandReceived)
    assert second == ConnectionClosed()


def test_success_is_the_default() -> None:
    assert SUCCESS.ok
    assert not Status(StatusCode.INTERNAL_ERROR).ok
