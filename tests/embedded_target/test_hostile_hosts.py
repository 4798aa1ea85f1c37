"""A host that breaks the protocol loses its connection, and nothing else happens."""

import logging
import socket
import struct
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from embedded_target.workshop import HOST_A, MakeWorkshop, Workshop, nqn_of
from nvme_tcp_host import LostError, RawConnection, RawHost
from weft.embedded.target.settings import Limits
from weft.nvme.admin import KeepAlive
from weft.nvme.errors import FatalErrorStatus
from weft.nvme.fabrics import Connect, ConnectData
from weft.nvme.nvm import Flush, Read, Write
from weft.nvme.pdu import C2HTermReq, CapsuleCmd, CapsuleResp, H2CData, ICReq, Pdu, encode_pdu
from weft.nvme.sqe import by_transport, in_capsule
from weft.nvme.status import StatusCode


def raw(pdu: Pdu, data: bytes = b"") -> bytes:
    return b"".join(bytes(part) for part in encode_pdu(pdu, data))


def connect_pdu(subnqn: str) -> bytes:
    data = ConnectData(hostid=bytes(16), subnqn=subnqn, hostnqn=HOST_A).encode()
    return raw(CapsuleCmd(sqe=Connect(qid=0, sqsize=31).encode(0, in_capsule(len(data)))), data)


def header(pdu_type: int, *, flags: int = 0, hlen: int = 24, pdo: int = 0, plen: int = 24) -> bytes:
    return struct.pack("<BBBBI", pdu_type, flags, hlen, pdo, plen)


ICREQ = raw(ICReq())
UNKNOWN_TYPE = header(0x0F)
OVERSIZE = header(0x04, hlen=72, pdo=72, plen=2**32 - 1) + bytes(64)
WRONG_HLEN = header(0x04, hlen=8, plen=8)


def term_req_after(connection: RawConnection, *messages: bytes) -> tuple[int, bytes]:
    """Send bytes, and read until the end; FES of the C2HTermReq that came last, and the header in it."""
    for message in messages:
        connection.socket.sendall(message)
    received = b""
    connection.socket.settimeout(5)
    while chunk := connection.socket.recv(65536):
        received += chunk
    while received and received[0] != C2HTermReq.TYPE:
        received = received[int.from_bytes(received[4:8], "little") :]
    assert received, "no C2HTermReq came"
    return int.from_bytes(received[8:10], "little"), received[24:]


@pytest.mark.parametrize(
    ("messages", "fes"),
    [
        ((connect_pdu("nqn.2014-08.org.example:x"),), FatalErrorStatus.PDU_SEQUENCE_ERROR),
        ((ICREQ, ICREQ), FatalErrorStatus.PDU_SEQUENCE_ERROR),
        ((UNKNOWN_TYPE,), FatalErrorStatus.INVALID_PDU_HEADER_FIELD),
        ((ICREQ, UNKNOWN_TYPE), FatalErrorStatus.INVALID_PDU_HEADER_FIELD),
        ((ICREQ, OVERSIZE), FatalErrorStatus.INVALID_PDU_HEADER_FIELD),
        ((ICREQ, WRONG_HLEN), FatalErrorStatus.INVALID_PDU_HEADER_FIELD),
        ((raw(ICReq(pfv=7)),), FatalErrorStatus.UNSUPPORTED_PARAMETER),
        (
            (ICREQ, raw(H2CData(cccid=0, ttag=0, datao=0, datal=4, last=True), b"data")),
            FatalErrorStatus.PDU_SEQUENCE_ERROR,
        ),
        ((b"GET / HTTP/1.1\r\nHost: storage\r\n\r\n",), FatalErrorStatus.INVALID_PDU_HEADER_FIELD),
    ],
)
def test_broken_pdus_get_a_termination_request_and_a_log_line(
    workshop: Workshop,
    caplog: pytest.LogCaptureFixture,
    messages: tuple[bytes, ...],
    fes: FatalErrorStatus,
) -> None:
    with caplog.at_level(logging.WARNING):
        got, offending = term_req_after(workshop.connection(), *messages)
    assert got == fes
    assert messages[-1].startswith(offending[:8])
    assert any("ending the connection" in line for line in caplog.messages)


@pytest.mark.parametrize(
    "nqn", ["nqn.2014-08.org.example:x\n2026-01-01 INFO all is well", "nqn.\x1b[2J", "nqn.\u202e"]
)
def test_a_name_that_does_not_print_is_refused_and_not_logged(
    workshop: Workshop, caplog: pytest.LogCaptureFixture, nqn: str
) -> None:
    discovery = "nqn.2014-08.org.nvmexpress.discovery"
    for subnqn, hostnqn in ((discovery, nqn), (nqn, HOST_A)):
        status = workshop.connection().open().connect(subnqn, hostnqn).status
        assert (status.code, status.dnr) == (StatusCode.CONNECT_INVALID_PARAMETERS, True)
    assert all(line.isprintable() for line in caplog.messages)


def test_commands_before_connect_are_out_of_sequence(workshop: Workshop) -> None:
    connection = workshop.connection().open()
    sqe = KeepAlive().encode(3)
    connection.socket.sendall(raw(CapsuleCmd(sqe=sqe)))
    response = connection.socket.recv(24)
    assert struct.unpack_from("<H", response, 22)[0] >> 1 & 0x7FF == StatusCode.COMMAND_SEQUENCE_ERROR


def test_data_that_nobody_asked_for_ends_one_connection_only(workshop: Workshop) -> None:
    export = workshop.export(HOST_A)
    host = workshop.attach(export, queues=2)
    host.io[0].socket.sendall(raw(H2CData(cccid=9, ttag=9, datao=0, datal=512, last=True), b"!" * 512))
    host.io[0].wait_until_lost()
    assert host.io[0].term_req is not None
    assert host.io[1].call(Flush(nsid=1)).status.ok
    assert host.admin.call(KeepAlive()).status.ok


def test_a_host_that_falls_silent_within_its_data_loses_its_connection(make_workshop: MakeWorkshop) -> None:
    workshop = make_workshop(limits=Limits(pdu_seconds=0.3))
    export = workshop.export(HOST_A)
    host = workshop.attach(export)
    write = Write(nsid=1, slba=0, blocks=128).encode(100, by_transport(65536))
    host.io[0].socket.sendall(raw(CapsuleCmd(sqe=write)))
    r2t = host.io[0].socket.recv(24)
    ttag = int.from_bytes(r2t[10:12], "little")
    data = raw(H2CData(cccid=100, ttag=ttag, datao=0, datal=65536, last=True), b"?" * 65536)
    host.io[0].socket.sendall(data[:30000])
    assert host.io[0].is_lost(3)
    assert export.path.read_bytes() == bytes(export.size)
    assert host.admin.call(KeepAlive()).status.ok


def test_a_host_that_is_always_within_some_pdu_is_not_silent(make_workshop: MakeWorkshop) -> None:
    """As a busy one may be: each receive ends somewhere in the next PDU, and each PDU comes in time."""
    workshop = make_workshop(limits=Limits(pdu_seconds=0.4))
    host = workshop.attach(workshop.export(HOST_A))
    flush = raw(CapsuleCmd(sqe=Flush(nsid=1).encode(100)))
    host.io[0].socket.sendall(flush[:30])
    for _ in range(8):
        time.sleep(0.1)
        host.io[0].socket.sendall(flush[30:] + flush[:30])
        assert host.io[0].socket.recv(24)[0] == CapsuleResp.TYPE


@pytest.mark.parametrize("said", [b"", ICREQ[:5], ICREQ])
def test_a_connection_that_does_not_come_to_connect_is_dropped(
    make_workshop: MakeWorkshop, said: bytes
) -> None:
    workshop = make_workshop(limits=Limits(handshake_seconds=0.3))
    connection = workshop.connection()
    connection.socket.sendall(said)
    assert connection.is_lost(3)


def test_a_byte_at_a_time_is_dropped_too(make_workshop: MakeWorkshop) -> None:
    workshop = make_workshop(limits=Limits(handshake_seconds=0.3))
    connection = workshop.connection()
    began = time.monotonic()
    for byte in ICREQ * 100:
        if connection.is_lost(0.01):
            break
        connection.socket.sendall(bytes([byte]))
    assert time.monotonic() - began < 3


def test_a_host_that_does_not_take_its_data_loses_its_connection(make_workshop: MakeWorkshop) -> None:
    workshop = make_workshop(limits=Limits(send_seconds=0.3))
    host = workshop.attach(workshop.export(HOST_A))
    host.io[0].socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    for _ in range(32):
        host.io[0].submit(Read(nsid=1, slba=0, blocks=2048), size=2**20)
    assert host.io[0].is_lost(5)
    assert host.admin.call(KeepAlive()).status.ok


def test_connections_are_bounded_and_come_free_again(
    make_workshop: MakeWorkshop, caplog: pytest.LogCaptureFixture
) -> None:
    workshop = make_workshop(max_connections=4)
    export = workshop.export(HOST_A)
    host = workshop.attach(export, queues=3)
    with caplog.at_level(logging.WARNING):
        surplus = workshop.connection()
        assert surplus.is_lost(3)
    assert any("no more are allowed" in line for line in caplog.messages)
    assert host.io[0].call(Flush(nsid=1)).status.ok
    host.close()
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        try:
            assert workshop.connection().open().connect(nqn_of(export), HOST_A).status.ok
        except (LostError, OSError):
            continue
        break
    else:
        pytest.fail("no connection came free")


def test_connections_that_ask_for_nothing_do_not_keep_hosts_out(make_workshop: MakeWorkshop) -> None:
    workshop = make_workshop(max_connections=8)
    export = workshop.export(HOST_A)
    idle = [workshop.connection() for _ in range(20)]
    with workshop.attach(export, queues=2) as host:
        assert host.io[0].call(Flush(nsid=1)).status.ok
    assert idle[0].is_lost(3)


def test_discovery_cannot_take_all_connections(make_workshop: MakeWorkshop) -> None:
    workshop = make_workshop(max_connections=8)
    discovery = "nqn.2014-08.org.nvmexpress.discovery"
    answers = [workshop.connection().open().connect(discovery, HOST_A).status for _ in range(3)]
    assert [each.ok for each in answers] == [True, True, False]
    assert (answers[2].code, answers[2].dnr) == (StatusCode.CONNECT_CONTROLLER_BUSY, False)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=400), stage=st.integers(0, 3))
def test_no_bytes_do_harm(
    workshop: Workshop, caplog: pytest.LogCaptureFixture, data: bytes, stage: int
) -> None:
    """At any stage: before ICReq, after it, on an admin queue, on an I/O queue."""
    if not workshop.target.exports():
        workshop.export(HOST_A)
    nqn = "nqn.2019-01.com.opensds:nvme:" + workshop.target.exports()[0].volume_id
    path = workshop.target.exports()[0].path
    with RawConnection(workshop.portal) as connection:
        if stage:
            connection.open()
        if stage > 1:
            assert connection.connect(nqn, HOST_A).status.ok
        if stage == 3:
            data = b"\x04\x00\x48\x00\x48\x00\x00\x00" + data.ljust(64, b"\0")
        connection.socket.sendall(data)
        connection.socket.shutdown(socket.SHUT_WR)
        connection.socket.settimeout(5)
        try:
            while connection.socket.recv(65536):
                pass
        except ConnectionResetError:
            pass
    assert path.stat().st_size == 4 * 2**20
    assert not [line for line in caplog.messages if "defect" in line]
    with RawConnection(workshop.portal).open() as alive:
        assert alive.connect(nqn, HOST_A).status.ok


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    on_admin=st.booleans(),
    opcode=st.sampled_from([0x00, 0x01, 0x02, 0x05, 0x06, 0x08, 0x09, 0x0A, 0x0C, 0x18, 0x7F]),
    nsid=st.sampled_from([0, 1, 2, 4, 5, 8, 0xFFFFFFFF]),
    length=st.sampled_from([0, 16, 512, 4096, 8192, 2**20, 2**31]),
    sgl_type=st.sampled_from([0x01, 0x5A]),
    tail=st.binary(min_size=24, max_size=24)
    | st.binary(min_size=24, max_size=24).map(lambda b: b[:2] + bytes(22)),
    data=st.sampled_from([0, 16, 512, 4096]),
)
def test_no_command_does_harm(
    workshop: Workshop,
    caplog: pytest.LogCaptureFixture,
    *,
    on_admin: bool,
    opcode: int,
    nsid: int,
    length: int,
    sgl_type: int,
    tail: bytes,
    data: int,
) -> None:
    """Any fields in any command, on enabled queues: an answer or a termination request, never a defect."""
    export = workshop.target.exports()[0] if workshop.target.exports() else workshop.export(HOST_A)
    nqn = "nqn.2019-01.com.opensds:nvme:" + export.volume_id
    sqe = struct.pack("<BBHI16xQI3xB", opcode, 0x40, 77, nsid, 0, length, sgl_type) + tail
    with RawHost(workshop.portal, nqn, HOST_A) as host:
        connection = host.admin if on_admin else host.io[0]
        connection.socket.sendall(raw(CapsuleCmd(sqe=sqe), b"~" * data))
        connection.socket.shutdown(socket.SHUT_WR)
        connection.socket.settimeout(5)
        try:
            while connection.socket.recv(65536):
                pass
        except ConnectionResetError:
            pass
    assert not [line for line in caplog.messages if "defect" in line]
    assert export.path.stat().st_size == export.size
