"""Commands in their 64 bytes, and answers to those that cannot be understood."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weft.nvme.admin import (
    Abort,
    AsynchronousEventRequest,
    GetFeatures,
    GetLogPage,
    Identify,
    KeepAlive,
    SetFeatures,
)
from weft.nvme.command import Command, Submission, decode_command
from weft.nvme.cqe import Cqe
from weft.nvme.errors import LocalProtocolError
from weft.nvme.fabrics import (
    AuthenticationReceive,
    AuthenticationSend,
    Connect,
    ConnectData,
    ConnectRefusal,
    Disconnect,
    PropertyGet,
    PropertySet,
)
from weft.nvme.nvm import (
    Compare,
    DatasetManagement,
    DsmRange,
    Flush,
    Read,
    Verify,
    Write,
    WriteZeroes,
    decode_dsm_ranges,
    encode_dsm_ranges,
)
from weft.nvme.sqe import DataTransfer, InvalidCommand, SglDescriptor, SglType, by_transport, in_capsule
from weft.nvme.status import Status, StatusCode

u8, u16, u32, u64 = (st.integers(0, (1 << bits) - 1) for bits in (8, 16, 32, 64))
flag = st.booleans()
blocks = {"nsid": u32, "slba": u64, "blocks": st.integers(1, 65536), "fua": flag}

fabrics_commands: st.SearchStrategy[Command] = st.one_of(
    st.builds(Connect, qid=u16, sqsize=st.integers(1, 0xFFFF), disable_sq_flow_control=flag, kato_ms=u32),
    st.builds(PropertyGet, offset=u32, size=st.sampled_from([4, 8])),
    st.builds(PropertySet, offset=u32, value=u64, size=st.just(8)),
    st.builds(PropertySet, offset=u32, value=u32, size=st.just(4)),
    st.builds(AuthenticationSend, length=u32, spsp0=u8, spsp1=u8, secp=u8),
    st.builds(AuthenticationReceive, length=u32, spsp0=u8, spsp1=u8, secp=u8),
    st.builds(Disconnect),
)
admin_commands: st.SearchStrategy[Command] = st.one_of(
    st.builds(Identify, cns=u8, nsid=u32, cntid=u16, csi=u8, cns_specific=u16),
    st.builds(
        GetLogPage,
        lid=u8,
        length=st.integers(1, 1 << 32).map(lambda dwords: 4 * dwords),
        offset=st.integers(0, (1 << 62) - 1).map(lambda dwords: 4 * dwords),
        lsp=st.integers(0, 127),
        lsi=u16,
        rae=flag,
        csi=u8,
        nsid=u32,
    ),
    st.builds(GetFeatures, fid=u8, sel=st.integers(0, 7), nsid=u32, cdw11=u32),
    st.builds(
        SetFeatures, fid=u8, save=flag, nsid=u32, cdw11=u32, cdw12=u32, cdw13=u32, cdw14=u32, cdw15=u32
    ),
    st.builds(AsynchronousEventRequest),
    st.builds(KeepAlive),
    st.builds(Abort, sqid=u16, aborted_cid=u16),
)
nvm_commands: st.SearchStrategy[Command] = st.one_of(
    *(st.builds(kind, **blocks, limited_retry=flag) for kind in (Read, Write, Compare, Verify)),
    st.builds(WriteZeroes, **blocks, deallocate=flag),
    st.builds(Flush, nsid=u32),
    st.builds(
        DatasetManagement,
        nsid=u32,
        ranges=st.integers(1, 256),
        deallocate=flag,
        integral_read=flag,
        integral_write=flag,
    ),
)
sgls = st.builds(by_transport, st.integers(1, 0xFFFFFFFF)) | st.builds(in_capsule, st.integers(1, 8192))


def rejected(sqe: bytes, *, admin: bool = False) -> StatusCode:
    answer = decode_command(sqe, admin=admin)
    assert isinstance(answer, InvalidCommand)
    assert answer.status.dnr
    return StatusCode(answer.status.code)


@given(fabrics_commands | admin_commands, u16, sgls)
def test_admin_and_fabrics_commands_come_back_as_they_went(
    command: Command, cid: int, sgl: SglDescriptor
) -> None:
    sqe = command.encode(cid, sgl)
    assert len(sqe) == 64
    submission = decode_command(sqe, admin=True)
    assert isinstance(submission, Submission)
    assert (submission.cid, submission.command, submission.sgl) == (cid, command, sgl)


@given(fabrics_commands | nvm_commands, u16, sgls)
def test_io_and_fabrics_commands_come_back_as_they_went(
    command: Command, cid: int, sgl: SglDescriptor
) -> None:
    sqe = command.encode(cid, sgl)
    assert len(sqe) == 64
    submission = decode_command(sqe, admin=False)
    assert isinstance(submission, Submission)
    assert (submission.cid, submission.command, submission.sgl) == (cid, command, sgl)


@given(st.binary(min_size=64, max_size=64), st.booleans())
def test_no_entry_raises_an_exception(sqe: bytes, admin: bool) -> None:  # noqa: FBT001  # hypothesis gives it
    decode_command(sqe, admin=admin)


@given(st.sampled_from([0, 1, 2, 5, 6, 8, 9, 10, 12, 24, 0x7F]), st.binary(min_size=63, max_size=63))
def test_no_entry_of_a_known_opcode_raises_an_exception(opcode: int, rest: bytes) -> None:
    decode_command(bytes([opcode]) + rest, admin=True)
    decode_command(bytes([opcode]) + rest, admin=False)


def test_a_write_lies_as_specified() -> None:
    sqe = Write(nsid=1, slba=0x1122334455, blocks=8, fua=True).encode(0x1234, by_transport(4096))
    assert sqe[0:4] == bytes([0x01, 0x40, 0x34, 0x12])
    assert struct.unpack_from("<I", sqe, 4) == (1,)
    assert struct.unpack_from("<QI", sqe, 24) == (0, 4096)
    assert sqe[39] == 0x5A
    assert struct.unpack_from("<Q", sqe, 40) == (0x1122334455,)
    assert struct.unpack_from("<I", sqe, 48) == (7 | 1 << 30,)


def test_a_connect_as_linux_sends_it_is_understood() -> None:
    sqe = bytearray(64)
    sqe[0:5] = bytes([0x7F, 0x40, 0x00, 0x00, 0x01])
    struct.pack_into("<QI3xB", sqe, 24, 0, 1024, 0x01)
    struct.pack_into("<HHHBxI", sqe, 40, 0, 0, 31, 0, 5000)
    submission = decode_command(sqe, admin=True)
    assert submission == Submission(
        cid=0,
        command=Connect(qid=0, sqsize=31, kato_ms=5000),
        sgl=SglDescriptor(0, 1024, SglType.DATA_BLOCK_OFFSET),
        transfer=DataTransfer.HOST_TO_CONTROLLER,
    )


def test_get_log_page_lies_as_specified() -> None:
    command = GetLogPage(lid=0x70, length=0x50000, offset=0x1_0000_0400, lsp=1, rae=True)
    sqe = command.encode(1, by_transport(0x50000))
    numd = 0x50000 // 4 - 1
    assert struct.unpack_from("<I", sqe, 40) == (0x70 | 1 << 8 | 1 << 15 | (numd & 0xFFFF) << 16,)
    assert struct.unpack_from("<III", sqe, 44) == (numd >> 16, 0x400, 1)


def test_what_a_host_may_not_ask_is_answered_with_a_status() -> None:
    read = Read(nsid=1, slba=0, blocks=1).encode(1, by_transport(512))
    assert rejected(bytes([0x19]) + read[1:]) is StatusCode.INVALID_COMMAND_OPCODE
    assert rejected(bytes([0x7F, 0x40, 1, 0, 0x33]) + bytes(59)) is StatusCode.INVALID_COMMAND_OPCODE
    assert rejected(read[:1] + b"\x41" + read[2:]) is StatusCode.INVALID_FIELD_IN_COMMAND  # fused
    assert rejected(read[:1] + b"\x00" + read[2:]) is StatusCode.INVALID_FIELD_IN_COMMAND  # PRPs
    keyed = read[:39] + b"\x40" + read[40:]
    assert rejected(keyed) is StatusCode.SGL_DESCRIPTOR_TYPE_INVALID
    connect = bytearray(Connect(qid=0, sqsize=31).encode(1))
    connect[40] = 1
    assert rejected(bytes(connect)) is StatusCode.CONNECT_INCOMPATIBLE_FORMAT


@pytest.mark.parametrize("opcode", [0x00, 0x01, 0x04, 0x05])
def test_queues_are_not_created_or_deleted_over_fabrics(opcode: int) -> None:
    assert rejected(bytes([opcode]) + bytes(63), admin=True) is StatusCode.INVALID_COMMAND_OPCODE


def test_a_connect_without_room_for_a_command_is_refused_with_the_fields_offset() -> None:
    answer = decode_command(Connect(qid=0, sqsize=0).encode(1), admin=True)
    assert answer == InvalidCommand(1, Status(StatusCode.CONNECT_INVALID_PARAMETERS, dnr=True), 44)


nqns = st.text(min_size=1).filter(lambda text: text.isprintable() and len(text.encode()) <= 223)


@given(st.binary(min_size=16, max_size=16), nqns, nqns, u16)
def test_connect_data_comes_back_as_it_went(hostid: bytes, subnqn: str, hostnqn: str, cntlid: int) -> None:
    data = ConnectData(hostid=hostid, subnqn=subnqn, hostnqn=hostnqn, cntlid=cntlid)
    raw = data.encode()
    assert len(raw) == 1024
    assert raw[:18] == hostid + struct.pack("<H", cntlid)
    assert raw[256:].startswith(subnqn.encode() + b"\0")
    assert raw[512:].startswith(hostnqn.encode() + b"\0")
    assert ConnectData.decode(raw) == data


@given(st.binary(max_size=1100) | st.binary(min_size=1024, max_size=1024))
def test_no_connect_data_raises_an_exception(raw: bytes) -> None:
    ConnectData.decode(raw)


def test_connect_data_without_an_nqn_is_refused_with_the_fields_offset() -> None:
    raw = bytearray(ConnectData(hostid=bytes(16), subnqn="nqn.a", hostnqn="nqn.b").encode())
    raw[512:768] = b"n" * 256
    refusal = ConnectData.decode(raw)
    assert isinstance(refusal, ConnectRefusal)
    assert refusal.status.code is StatusCode.CONNECT_INVALID_PARAMETERS
    assert refusal.result == 512 | 1 << 16


@given(st.lists(st.builds(DsmRange, slba=u64, blocks=u32, attributes=u32), min_size=1, max_size=256))
def test_ranges_come_back_as_they_went(ranges: list[DsmRange]) -> None:
    data = encode_dsm_ranges(ranges)
    assert struct.unpack_from("<IIQ", data) == (ranges[0].attributes, ranges[0].blocks, ranges[0].slba)
    assert decode_dsm_ranges(data, len(ranges)) == ranges
    assert decode_dsm_ranges(data[:-1], len(ranges)) is None


@given(st.integers(0, 0x7FFF))
def test_every_status_comes_back_as_it_went(field: int) -> None:
    status = Status.decode(field)
    assert status.encode() == field
    assert status.text


def test_a_status_lies_as_specified() -> None:
    assert Status(StatusCode.INVALID_COMMAND_OPCODE, dnr=True).encode() == 0x4001
    assert Status(StatusCode.COMPARE_FAILURE).encode() == 0x285
    assert Status.decode(0x4001).text == "Invalid command opcode (0/01h), do not retry"


@given(u16, st.integers(0, 0x7FFF), u64, u16, u16)
def test_completions_come_back_as_they_went(cid: int, status: int, result: int, sqhd: int, sqid: int) -> None:
    cqe = Cqe(cid=cid, status=Status.decode(status), result=result, sqhd=sqhd, sqid=sqid)
    raw = cqe.encode()
    assert struct.unpack("<QHHHH", raw) == (result, sqhd, sqid, cid, status << 1)
    assert Cqe.decode(raw) == cqe


def test_a_command_that_does_not_fit_is_the_callers_error() -> None:
    for command in (
        Read(nsid=1, slba=0, blocks=0),
        Read(nsid=1, slba=-1, blocks=1),
        Write(nsid=1 << 32, slba=0, blocks=1),
        DatasetManagement(nsid=1, ranges=257),
    ):
        with pytest.raises(LocalProtocolError):
            command.encode(1)
