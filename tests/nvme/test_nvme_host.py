"""The host's side: what it believes, and what ends the connection."""

import pytest

from nvme.nvme_pair import CONNECT_DATA, feed_whole, join, ready_pair
from weft.nvme.admin import Identify
from weft.nvme.cqe import Cqe
from weft.nvme.errors import FatalErrorStatus, LocalProtocolError, RemoteProtocolError
from weft.nvme.events import CommandCompleted, ICRespReceived, R2TReceived, TermReqReceived
from weft.nvme.fabrics import AUTHREQ_ATR, AuthenticationReceive, Connect
from weft.nvme.host import HostConnection
from weft.nvme.nvm import Flush, Read, Write
from weft.nvme.pdu import (
    ALL_DIGESTS,
    R2T,
    C2HData,
    C2HTermReq,
    CapsuleResp,
    Digests,
    H2CData,
    ICResp,
    Pdu,
    encode_pdu,
)
from weft.nvme.state import State
from weft.nvme.status import SUCCESS, Status, StatusCode

READ = Read(nsid=1, slba=0, blocks=8)
WRITE = Write(nsid=1, slba=0, blocks=32)


def wire(pdu: Pdu, data: bytes = b"") -> bytes:
    return join(encode_pdu(pdu, data))


def response(cid: int, status: Status = SUCCESS, result: int = 0) -> bytes:
    return wire(CapsuleResp(cqe=Cqe(cid=cid, status=status, result=result).encode()))


def c2h(offset: int, length: int, *, cid: int = 1, last: bool = False, success: bool = False) -> bytes:
    return wire(C2HData(cccid=cid, datao=offset, datal=length, last=last, success=success), b"x" * length)


def r2t(offset: int, length: int, *, cid: int = 1) -> bytes:
    return wire(R2T(cccid=cid, ttag=5, r2to=offset, r2tl=length))


def fault(host: HostConnection, stream: bytes) -> FatalErrorStatus:
    with pytest.raises(RemoteProtocolError) as caught:
        feed_whole(host, stream)
    last_words = join(host.send_failed(caught.value))
    assert last_words[0] == 0x02
    assert last_words[24:] == caught.value.header
    assert caught.value.header
    assert caught.value.header in stream
    return caught.value.fes


def reading() -> tuple[HostConnection, bytearray]:
    host, into = ready_pair().host, bytearray(4096)
    host.send_command(1, READ, into=into)
    return host, into


def writing() -> HostConnection:
    host = ready_pair().host
    host.send_command(1, WRITE, data=bytes(16384))
    return host


def test_a_read_lands_in_the_callers_buffer() -> None:
    host, into = reading()
    events = feed_whole(host, c2h(0, 1024) + c2h(1024, 3072, last=True) + response(1))
    assert events == [CommandCompleted(cid=1, status=SUCCESS, result=0, received=4096)]
    assert into == b"x" * 4096


def test_success_may_come_with_the_data() -> None:
    host, _ = reading()
    (event,) = feed_whole(host, c2h(0, 4096, last=True, success=True))
    assert event == CommandCompleted(cid=1, status=SUCCESS, result=0, received=4096)
    assert fault(host, response(1)) is FatalErrorStatus.INVALID_PDU_HEADER_FIELD


def test_a_read_that_is_short_did_not_succeed() -> None:
    host, _ = reading()
    (event,) = feed_whole(host, c2h(0, 2048, last=True) + response(1))
    assert event == CommandCompleted(
        cid=1, status=Status(StatusCode.DATA_TRANSFER_ERROR), result=0, received=2048
    )


def test_a_write_whose_data_was_never_fetched_did_not_succeed() -> None:
    (event,) = feed_whole(writing(), response(1))
    assert event == CommandCompleted(cid=1, status=Status(StatusCode.DATA_TRANSFER_ERROR), result=0)


def test_a_failed_command_keeps_its_status() -> None:
    status = Status(StatusCode.LBA_OUT_OF_RANGE, dnr=True)
    host, _ = reading()
    assert feed_whole(host, response(1, status)) == [CommandCompleted(cid=1, status=status, result=0)]
    assert feed_whole(writing(), response(1, status)) == [CommandCompleted(cid=1, status=status, result=0)]


def test_damaged_data_fails_the_command_and_nothing_else() -> None:
    pair, into = ready_pair(digests=ALL_DIGESTS), bytearray(4096)
    pair.command(pair.host.send_command(1, READ, into=into))
    stream = bytearray(join(pair.target.send_data_and_response(1, bytes(4096))))
    stream[200] ^= 1
    assert pair.complete([stream]).status == Status(StatusCode.TRANSIENT_TRANSPORT_ERROR)
    pair.command(pair.host.send_command(1, READ, into=into))
    assert pair.complete(pair.target.send_data_and_response(1, bytes(4096))).status.ok


def test_data_is_sent_in_pieces_of_maxh2cdata() -> None:
    pair = ready_pair(maxh2cdata=4096)
    pair.host.send_command(1, Write(nsid=1, slba=0, blocks=20), data=bytes(10240))
    (event,) = feed_whole(pair.host, r2t(0, 10240))
    assert event == R2TReceived(cid=1, ttag=5, offset=0, length=10240)
    assert isinstance(event, R2TReceived)
    buffers = pair.host.send_data(event)
    expected = [
        H2CData(cccid=1, ttag=5, datao=0, datal=4096),
        H2CData(cccid=1, ttag=5, datao=4096, datal=4096),
        H2CData(cccid=1, ttag=5, datao=8192, datal=2048, last=True),
    ]
    assert join(buffers) == b"".join(wire(pdu, bytes(pdu.datal)) for pdu in expected)


@pytest.mark.parametrize(
    ("stream", "fes"),
    [
        (r2t(0, 0), FatalErrorStatus.INVALID_PDU_HEADER_FIELD),
        (r2t(0, 16388), FatalErrorStatus.DATA_TRANSFER_OUT_OF_RANGE),
        (r2t(16384, 4), FatalErrorStatus.DATA_TRANSFER_OUT_OF_RANGE),
        (r2t(0, 4, cid=2), FatalErrorStatus.INVALID_PDU_HEADER_FIELD),
        (r2t(0, 8192) + r2t(4096, 4096), FatalErrorStatus.DATA_TRANSFER_OUT_OF_RANGE),
        (r2t(0, 4096) + r2t(4096, 4096), FatalErrorStatus.DATA_TRANSFER_LIMIT_EXCEEDED),
        (c2h(0, 4), FatalErrorStatus.DATA_TRANSFER_OUT_OF_RANGE),
        (response(2), FatalErrorStatus.INVALID_PDU_HEADER_FIELD),
    ],
    ids=[
        "r2t for nothing",
        "r2t beyond the data",
        "r2t behind the data",
        "r2t of another command",
        "r2t twice for a byte",
        "r2t too many",
        "data to the host",
        "response of another command",
    ],
)
def test_what_does_not_fit_a_write_ends_the_connection(stream: bytes, fes: FatalErrorStatus) -> None:
    assert fault(writing(), stream) is fes


@pytest.mark.parametrize(
    ("stream", "fes"),
    [
        (c2h(0, 4100), FatalErrorStatus.DATA_TRANSFER_OUT_OF_RANGE),
        (c2h(512, 512), FatalErrorStatus.DATA_TRANSFER_OUT_OF_RANGE),
        (c2h(0, 512, last=True) + c2h(512, 512), FatalErrorStatus.DATA_TRANSFER_OUT_OF_RANGE),
        (c2h(0, 4096, success=True), FatalErrorStatus.INVALID_PDU_HEADER_FIELD),
        (c2h(0, 512, cid=2), FatalErrorStatus.INVALID_PDU_HEADER_FIELD),
        (r2t(0, 512), FatalErrorStatus.DATA_TRANSFER_OUT_OF_RANGE),
        (wire(ICResp(maxh2cdata=4096)), FatalErrorStatus.PDU_SEQUENCE_ERROR),
        (
            wire(H2CData(cccid=1, ttag=1, datao=0, datal=4), b"data"),
            FatalErrorStatus.INVALID_PDU_HEADER_FIELD,
        ),
    ],
    ids=[
        "more than asked for",
        "out of order",
        "after the last",
        "success without last",
        "data of another command",
        "r2t",
        "second icresp",
        "pdu of a host",
    ],
)
def test_what_does_not_fit_a_read_ends_the_connection(stream: bytes, fes: FatalErrorStatus) -> None:
    host, _ = reading()
    assert fault(host, stream) is fes


@pytest.mark.parametrize(
    "icresp",
    [
        ICResp(pfv=1, maxh2cdata=4096),
        ICResp(cpda=32, maxh2cdata=4096),
        ICResp(digests=Digests(data=True), maxh2cdata=4096),
        ICResp(maxh2cdata=4092),
        ICResp(maxh2cdata=4098),
    ],
)
def test_an_icresp_that_cannot_be_kept_ends_the_connection(icresp: ICResp) -> None:
    host = HostConnection()
    host.send_icreq()
    assert fault(host, wire(icresp)) is FatalErrorStatus.UNSUPPORTED_PARAMETER


def test_an_icresp_opens_the_connection() -> None:
    host, icresp = HostConnection(), ICResp(maxh2cdata=32768)
    host.send_icreq()
    assert feed_whole(host, wire(icresp)) == [ICRespReceived(icresp)]
    assert (host.state, host.maxh2cdata) == (State.INITIALIZED, 32768)


def test_only_authentication_goes_on_until_the_controller_is_satisfied() -> None:
    host = HostConnection()
    host.send_icreq()
    feed_whole(host, wire(ICResp(maxh2cdata=32768)))
    host.send_command(0, Connect(qid=0, sqsize=31), data=CONNECT_DATA.encode())
    feed_whole(host, response(0, result=AUTHREQ_ATR | 1))
    assert host.state is State.AUTHENTICATING
    with pytest.raises(LocalProtocolError):
        host.send_command(1, Identify(cns=1), into=bytearray(4096))
    host.send_command(1, AuthenticationReceive(length=64), into=bytearray(64))
    host.authenticated()
    host.send_command(2, Identify(cns=1), into=bytearray(4096))


def test_a_refused_connect_leaves_the_connection_unconnected() -> None:
    host = HostConnection()
    host.send_icreq()
    feed_whole(host, wire(ICResp(maxh2cdata=32768)))
    host.send_command(0, Connect(qid=0, sqsize=31), data=CONNECT_DATA.encode())
    refusal = Status(StatusCode.CONNECT_INVALID_HOST, dnr=True)
    assert feed_whole(host, response(0, refusal)) == [CommandCompleted(cid=0, status=refusal, result=0)]
    assert host.state is State.INITIALIZED


def test_what_the_caller_does_wrong_changes_nothing() -> None:
    host = ready_pair().host
    host.send_command(1, Flush(nsid=1))
    with pytest.raises(LocalProtocolError):
        host.send_command(1, Flush(nsid=1))
    with pytest.raises(LocalProtocolError):
        host.send_command(2, READ, data=bytes(4096))
    with pytest.raises(LocalProtocolError):
        host.send_command(2, WRITE, into=bytearray(4096))
    with pytest.raises(LocalProtocolError):
        host.send_command(2, READ, into=bytes(4096))
    with pytest.raises(LocalProtocolError):
        host.send_data(R2TReceived(cid=1, ttag=0, offset=0, length=4))
    with pytest.raises(LocalProtocolError):
        host.send_icreq()
    assert (host.state, host.outstanding) == (State.READY, 1)


def test_the_controllers_complaint_ends_the_connection() -> None:
    host = ready_pair().host
    assert feed_whole(host, wire(C2HTermReq(fes=4, fei=12), bytes(24))) == [
        TermReqReceived(fes=4, fei=12, header=bytes(24))
    ]
    with pytest.raises(LocalProtocolError):
        host.send_command(1, Flush(nsid=1))
