"""Fabrics commands, opcode 7Fh (Base 2.0, section 6 "Fabrics Command Set")."""

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Final, Self, TypeAlias

from weft.nvme.layout import BytesLike, pack, padded_nqn, read_nqn
from weft.nvme.sqe import (
    FABRICS_OPCODE,
    NO_DATA,
    CommandError,
    FabricsType,
    SglDescriptor,
    encode_sqe,
)
from weft.nvme.status import Status, StatusCode, do_not_retry

CONNECT_DATA_SIZE: Final = 1024
DYNAMIC_CNTLID: Final = 0xFFFF
AUTHENTICATION_SECP: Final = 0xE9

AUTHREQ_ATR: Final = 1 << 17  # in the result of Connect: authenticate on this queue
AUTHREQ_ASCR: Final = 1 << 18  # and make a secure channel of it

_CONNECT: Final = struct.Struct("<HHHBxI")
_PROPERTY: Final = struct.Struct("<B3xIQ")
_AUTHENTICATION: Final = struct.Struct("<xBBBI")
_CONNECT_DATA: Final = struct.Struct("<16sH238x256s256s256x")
_DISABLE_SQ_FLOW_CONTROL: Final = 0x04


def _encode(fctype: FabricsType, cid: int, sgl: SglDescriptor, tail: bytes) -> bytes:
    return encode_sqe(FABRICS_OPCODE, cid, fctype, sgl, tail)


@dataclass(frozen=True, slots=True, kw_only=True)
class Connect:
    """Bind this connection to queue `qid` of a controller; its data is a `ConnectData`."""

    FCTYPE: ClassVar[FabricsType] = FabricsType.CONNECT
    qid: int
    sqsize: int  # entries in the queue, 0-based
    disable_sq_flow_control: bool = False
    kato_ms: int = 0  # keep alive timeout in milliseconds, 0 for none

    def encode(self, cid: int, sgl: SglDescriptor = NO_DATA) -> bytes:
        cattr = _DISABLE_SQ_FLOW_CONTROL if self.disable_sq_flow_control else 0
        return _encode(self.FCTYPE, cid, sgl, pack(_CONNECT, 0, self.qid, self.sqsize, cattr, self.kato_ms))

    @classmethod
    def decode(cls, sqe: BytesLike) -> "Connect":
        recfmt, qid, sqsize, cattr, kato = _CONNECT.unpack_from(sqe, 40)
        if recfmt != 0:
            raise CommandError(StatusCode.CONNECT_INCOMPATIBLE_FORMAT)
        if sqsize == 0:
            raise CommandError(StatusCode.CONNECT_INVALID_PARAMETERS, connect_parameter(44))
        flow = bool(cattr & _DISABLE_SQ_FLOW_CONTROL)
        return cls(qid=qid, sqsize=sqsize, disable_sq_flow_control=flow, kato_ms=kato)


@dataclass(frozen=True, slots=True, kw_only=True)
class PropertyGet:
    """Read a controller property (properties.py); the value is the completion's result."""

    FCTYPE: ClassVar[FabricsType] = FabricsType.PROPERTY_GET
    offset: int
    size: int = 4  # bytes, 4 or 8

    def encode(self, cid: int, sgl: SglDescriptor = NO_DATA) -> bytes:
        return _encode(self.FCTYPE, cid, sgl, pack(_PROPERTY, int(self.size == 8), self.offset, 0))

    @classmethod
    def decode(cls, sqe: BytesLike) -> "PropertyGet":
        attrib, offset, _ = _PROPERTY.unpack_from(sqe, 40)
        return cls(offset=offset, size=_property_size(attrib))


@dataclass(frozen=True, slots=True, kw_only=True)
class PropertySet:
    """Write a controller property (properties.py)."""

    FCTYPE: ClassVar[FabricsType] = FabricsType.PROPERTY_SET
    offset: int
    value: int
    size: int = 4  # bytes, 4 or 8

    def encode(self, cid: int, sgl: SglDescriptor = NO_DATA) -> bytes:
        return _encode(self.FCTYPE, cid, sgl, pack(_PROPERTY, int(self.size == 8), self.offset, self.value))

    @classmethod
    def decode(cls, sqe: BytesLike) -> "PropertySet":
        attrib, offset, value = _PROPERTY.unpack_from(sqe, 40)
        size = _property_size(attrib)
        return cls(offset=offset, value=value if size == 8 else value & 0xFFFFFFFF, size=size)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Authentication:
    """What both directions of DH-HMAC-CHAP have in common."""

    FCTYPE: ClassVar[FabricsType]
    length: int
    spsp0: int = 1
    spsp1: int = 1
    secp: int = AUTHENTICATION_SECP

    def encode(self, cid: int, sgl: SglDescriptor = NO_DATA) -> bytes:
        tail = pack(_AUTHENTICATION, self.spsp0, self.spsp1, self.secp, self.length)
        return _encode(self.FCTYPE, cid, sgl, tail)

    @classmethod
    def decode(cls, sqe: BytesLike) -> Self:
        spsp0, spsp1, secp, length = _AUTHENTICATION.unpack_from(sqe, 40)
        return cls(length=length, spsp0=spsp0, spsp1=spsp1, secp=secp)


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthenticationSend(_Authentication):
    """One message of DH-HMAC-CHAP to the controller: `length` bytes of data (TL)."""

    FCTYPE: ClassVar[FabricsType] = FabricsType.AUTHENTICATION_SEND


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthenticationReceive(_Authentication):
    """One message of DH-HMAC-CHAP from the controller: room for `length` bytes (AL)."""

    FCTYPE: ClassVar[FabricsType] = FabricsType.AUTHENTICATION_RECEIVE


@dataclass(frozen=True, slots=True, kw_only=True)
class Disconnect:
    """End this I/O queue; the connection closes behind its answer."""

    FCTYPE: ClassVar[FabricsType] = FabricsType.DISCONNECT

    def encode(self, cid: int, sgl: SglDescriptor = NO_DATA) -> bytes:
        return _encode(self.FCTYPE, cid, sgl, b"")

    @classmethod
    def decode(cls, sqe: BytesLike) -> "Disconnect":
        if sqe[40] | sqe[41]:
            raise CommandError(StatusCode.CONNECT_INCOMPATIBLE_FORMAT)
        return cls()


FabricsCommand: TypeAlias = (
    Connect | PropertyGet | PropertySet | AuthenticationSend | AuthenticationReceive | Disconnect
)

_DECODERS: Final[Mapping[int, Callable[[BytesLike], FabricsCommand]]] = {
    int(FabricsType.CONNECT): Connect.decode,
    int(FabricsType.PROPERTY_GET): PropertyGet.decode,
    int(FabricsType.PROPERTY_SET): PropertySet.decode,
    int(FabricsType.AUTHENTICATION_SEND): AuthenticationSend.decode,
    int(FabricsType.AUTHENTICATION_RECEIVE): AuthenticationReceive.decode,
    int(FabricsType.DISCONNECT): Disconnect.decode,
}


def decode_fabrics(sqe: BytesLike) -> FabricsCommand:
    """Raises CommandError."""
    decoder = _DECODERS.get(sqe[4])
    if decoder is None:
        raise CommandError(StatusCode.INVALID_COMMAND_OPCODE)
    return decoder(sqe)


def _property_size(attrib: int) -> int:
    match attrib & 0x7:
        case 0:
            return 4
        case 1:
            return 8
        case _:
            raise CommandError


def connect_parameter(offset: int, *, in_data: bool = False) -> int:
    """The result (IPO and IATTR) of a Connect refused for the field at byte `offset` of its SQE or of its data."""
    return offset | in_data << 16


@dataclass(frozen=True, slots=True)
class ConnectRefusal:
    """What to answer a Connect whose data is wrong."""

    status: Status
    result: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectData:
    """Who connects to what. The NQNs are checked for their length and encoding only."""

    hostid: bytes  # 16 bytes
    subnqn: str
    hostnqn: str
    cntlid: int = DYNAMIC_CNTLID

    def encode(self) -> bytes:
        """1024 bytes."""
        return pack(
            _CONNECT_DATA, self.hostid, self.cntlid, padded_nqn(self.subnqn), padded_nqn(self.hostnqn)
        )

    @classmethod
    def decode(cls, data: BytesLike) -> "ConnectData | ConnectRefusal":
        if len(data) != CONNECT_DATA_SIZE:
            return ConnectRefusal(do_not_retry(StatusCode.DATA_SGL_LENGTH_INVALID), 0)
        hostid, cntlid, subnqn_field, hostnqn_field = _CONNECT_DATA.unpack_from(data)
        subnqn, hostnqn = read_nqn(subnqn_field), read_nqn(hostnqn_field)
        if subnqn is None or hostnqn is None:
            offset = connect_parameter(256 if subnqn is None else 512, in_data=True)
            return ConnectRefusal(do_not_retry(StatusCode.CONNECT_INVALID_PARAMETERS), offset)
        return cls(hostid=hostid, subnqn=subnqn, hostnqn=hostnqn, cntlid=cntlid)
