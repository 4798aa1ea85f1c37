"""The submission queue entry's common part (Base 2.0, 3.3.3.1): opcode, flags, command identifier and SGL."""

import struct
from dataclasses import dataclass
from enum import Enum, IntEnum
from typing import Final

from weft.nvme.layout import BytesLike, pack
from weft.nvme.status import Status, StatusCode, do_not_retry

SQE_SIZE: Final = 64
FABRICS_OPCODE: Final = 0x7F
ALL_NAMESPACES: Final = 0xFFFFFFFF


class AdminOpcode(IntEnum):
    DELETE_IO_SUBMISSION_QUEUE = 0x00
    CREATE_IO_SUBMISSION_QUEUE = 0x01
    GET_LOG_PAGE = 0x02
    DELETE_IO_COMPLETION_QUEUE = 0x04
    CREATE_IO_COMPLETION_QUEUE = 0x05
    IDENTIFY = 0x06
    ABORT = 0x08
    SET_FEATURES = 0x09
    GET_FEATURES = 0x0A
    ASYNCHRONOUS_EVENT_REQUEST = 0x0C
    KEEP_ALIVE = 0x18


class NvmOpcode(IntEnum):
    FLUSH = 0x00
    WRITE = 0x01
    READ = 0x02
    COMPARE = 0x05
    WRITE_ZEROES = 0x08
    DATASET_MANAGEMENT = 0x09
    VERIFY = 0x0C


class FabricsType(IntEnum):
    """FCTYPE, byte 4 of a command with opcode 7Fh."""

    PROPERTY_SET = 0x00
    CONNECT = 0x01
    PROPERTY_GET = 0x04
    AUTHENTICATION_SEND = 0x05
    AUTHENTICATION_RECEIVE = 0x06
    DISCONNECT = 0x08


class DataTransfer(Enum):
    """Which way a command's data goes: bits 1:0 of its opcode, or of FCTYPE for a fabrics command."""

    NONE = 0
    HOST_TO_CONTROLLER = 1
    CONTROLLER_TO_HOST = 2
    BIDIRECTIONAL = 3


_TRANSFERS: Final = tuple(DataTransfer)


def transfer_of(sqe: BytesLike) -> DataTransfer:
    return _TRANSFERS[(sqe[4] if sqe[0] == FABRICS_OPCODE else sqe[0]) & 0x3]


class SglType(IntEnum):
    """SGL identifier, byte 15 of a descriptor: the type (bits 7:4) and sub type (3:0) that NVMe/TCP uses."""

    DATA_BLOCK_ADDRESS = 0x00
    DATA_BLOCK_OFFSET = 0x01  # the data is in the capsule, `address` bytes behind its SQE
    TRANSPORT = 0x5A  # the data travels in data PDUs


@dataclass(frozen=True, slots=True)
class SglDescriptor:
    """Where a command's data is (Base 2.0, 4.1.2). `length` in bytes."""

    address: int
    length: int
    sgl_type: int

    def encode(self) -> bytes:
        return pack(_SGL, self.address, self.length, self.sgl_type)


NO_DATA: Final = SglDescriptor(0, 0, SglType.TRANSPORT)


def in_capsule(length: int) -> SglDescriptor:
    return SglDescriptor(0, length, SglType.DATA_BLOCK_OFFSET)


def by_transport(length: int) -> SglDescriptor:
    return SglDescriptor(0, length, SglType.TRANSPORT)


@dataclass(frozen=True, slots=True)
class InvalidCommand:
    """A submission queue entry that can only be answered with `status`; `result` goes into DW0 and DW1 of the answer."""

    cid: int
    status: Status
    result: int = 0


class CommandError(Exception):
    """Inside this package: decoding stops, and the command is answered with `status`."""

    def __init__(self, code: StatusCode = StatusCode.INVALID_FIELD_IN_COMMAND, result: int = 0) -> None:
        super().__init__(code.name)
        self.status = do_not_retry(code)
        self.result = result


_PSDT_SGL: Final = 0x40
_FUSE: Final = 0x03
_HEAD: Final = struct.Struct("<BBHIQQQI3xB")  # opcode, flags, CID, NSID, CDW2-3, MPTR, SGL1
_CDWS: Final = struct.Struct("<IIIIII")
_SGL: Final = struct.Struct("<QI3xB")


def encode_sqe(
    opcode: int,
    cid: int,
    nsid: int,
    sgl: SglDescriptor,
    tail: bytes = b"",
) -> bytes:
    """64 bytes of an entry: `tail` is what follows at byte 40 (CDW10), filled up with zeros."""
    head = pack(_HEAD, opcode, _PSDT_SGL, cid, nsid, 0, 0, sgl.address, sgl.length, sgl.sgl_type)
    return (head + tail).ljust(SQE_SIZE, b"\0")


def cdws(*values: int) -> bytes:
    """CDW10 and those behind it, for `encode_sqe`."""
    return pack(_CDWS, *values, *[0] * (6 - len(values)))


def decode_cid(sqe: BytesLike) -> int:
    return sqe[2] | sqe[3] << 8


def decode_nsid(sqe: BytesLike) -> int:
    return int.from_bytes(sqe[4:8], "little")


def decode_cdws(sqe: BytesLike) -> tuple[int, int, int, int, int, int]:
    """CDW10 to CDW15."""
    return _CDWS.unpack_from(sqe, 40)


def decode_sgl(sqe: BytesLike) -> SglDescriptor:
    """SGL1, checked for NVMe/TCP. Raises CommandError."""
    address, length, sgl_type = _SGL.unpack_from(sqe, 24)
    if length == 0:
        return NO_DATA
    if sqe[1] & 0xC0 not in {0x40, 0x80}:
        raise CommandError  # PRPs do not exist over fabrics
    if sgl_type not in {SglType.DATA_BLOCK_OFFSET, SglType.TRANSPORT}:
        raise CommandError(StatusCode.SGL_DESCRIPTOR_TYPE_INVALID)
    return SglDescriptor(address, length, sgl_type)


def refuse_fused(sqe: BytesLike) -> None:
    """Raises CommandError for half of a fused operation: Identify Controller announces none (FUSES 0)."""
    if sqe[1] & _FUSE:
        raise CommandError
