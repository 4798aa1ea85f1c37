"""The PDUs of NVMe/TCP (NVMe/TCP 1.0, 3.6 "Protocol Data Units") and their headers' bytes.

A PDU is a common header of 8 bytes, a header specific to its type, an optional header digest, padding, data and an
optional data digest. Here a PDU object is its header; the data stays apart, so that it is never copied.
"""

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import ClassVar, Final, TypeAlias

from crc32c import crc32c

from weft.nvme.errors import FatalErrorStatus, LocalProtocolError, RemoteProtocolError
from weft.nvme.layout import BytesLike, pack

COMMON_HEADER_SIZE: Final = 8
DIGEST_SIZE: Final = 4
TERM_REQ_DATA_MAX: Final = 128  # bytes of the offending header that a TermReq may carry
MAXH2CDATA_MIN: Final = 4096
PDA_MAX: Final = 31  # HPDA and CPDA: data starts at a multiple of (PDA + 1) * 4 bytes, 128 at most


class PduType(IntEnum):
    IC_REQ = 0x00
    IC_RESP = 0x01
    H2C_TERM_REQ = 0x02
    C2H_TERM_REQ = 0x03
    CAPSULE_CMD = 0x04
    CAPSULE_RESP = 0x05
    H2C_DATA = 0x06
    C2H_DATA = 0x07
    R2T = 0x09


# Plain numbers: IntFlag would cost more than the rest of decoding a header.
HDGSTF: Final = 0x01
DDGSTF: Final = 0x02
LAST_PDU: Final = 0x04
SUCCESS: Final = 0x08


@dataclass(frozen=True, slots=True, kw_only=True)
class Digests:
    """Which CRC32C digests the two sides agreed on by ICReq and ICResp (their DGST field)."""

    header: bool = False
    data: bool = False

    @classmethod
    def decode(cls, dgst: int) -> "Digests":
        return cls(header=bool(dgst & 1), data=bool(dgst & 2))

    def encode(self) -> int:
        return self.header | self.data << 1


NO_DIGESTS: Final = Digests()
ALL_DIGESTS: Final = Digests(header=True, data=True)

_COMMON: Final = struct.Struct("<BBBBI")
_IC: Final = struct.Struct("<HBBI112x")
_TERM_REQ: Final = struct.Struct("<HI10x")
_DATA: Final = struct.Struct("<HHII4x")
_DIGEST: Final = struct.Struct("<I")


@dataclass(frozen=True, slots=True, kw_only=True)
class ICReq:
    """Host to controller: the first PDU of a connection."""

    TYPE: ClassVar[PduType] = PduType.IC_REQ
    pfv: int = 0
    hpda: int = 0
    digests: Digests = NO_DIGESTS
    maxr2t: int = 0  # outstanding R2Ts that the host accepts for one command, 0-based

    def psh(self) -> bytes:
        return pack(_IC, self.pfv, self.hpda, self.digests.encode(), self.maxr2t)


@dataclass(frozen=True, slots=True, kw_only=True)
class ICResp:
    """Controller to host: the answer to ICReq."""

    TYPE: ClassVar[PduType] = PduType.IC_RESP
    pfv: int = 0
    cpda: int = 0
    digests: Digests = NO_DIGESTS
    maxh2cdata: int  # bytes of data that one H2CData may carry

    def psh(self) -> bytes:
        return pack(_IC, self.pfv, self.cpda, self.digests.encode(), self.maxh2cdata)


@dataclass(frozen=True, slots=True, kw_only=True)
class H2CTermReq:
    """Host to controller: the connection ends because of what the controller sent. Data: the offending header."""

    TYPE: ClassVar[PduType] = PduType.H2C_TERM_REQ
    fes: int
    fei: int = 0

    def psh(self) -> bytes:
        return pack(_TERM_REQ, self.fes, self.fei)


@dataclass(frozen=True, slots=True, kw_only=True)
class C2HTermReq:
    """Controller to host: the connection ends because of what the host sent. Data: the offending header."""

    TYPE: ClassVar[PduType] = PduType.C2H_TERM_REQ
    fes: int
    fei: int = 0

    def psh(self) -> bytes:
        return pack(_TERM_REQ, self.fes, self.fei)


@dataclass(frozen=True, slots=True, kw_only=True)
class CapsuleCmd:
    """Host to controller: one submission queue entry, its in-capsule data being the PDU's data."""

    TYPE: ClassVar[PduType] = PduType.CAPSULE_CMD
    sqe: bytes  # 64 bytes, see command.py

    def psh(self) -> bytes:
        if len(self.sqe) != 64:
            raise LocalProtocolError(f"A submission queue entry has 64 bytes, not {len(self.sqe)}.")
        return self.sqe


@dataclass(frozen=True, slots=True, kw_only=True)
class CapsuleResp:
    """Controller to host: one completion queue entry."""

    TYPE: ClassVar[PduType] = PduType.CAPSULE_RESP
    cqe: bytes  # 16 bytes, see cqe.py

    def psh(self) -> bytes:
        if len(self.cqe) != 16:
            raise LocalProtocolError(f"A completion queue entry has 16 bytes, not {len(self.cqe)}.")
        return self.cqe


@dataclass(frozen=True, slots=True, kw_only=True)
class H2CData:
    """Host to controller: data of the command `cccid`, asked for by the R2T that gave `ttag`."""

    TYPE: ClassVar[PduType] = PduType.H2C_DATA
    cccid: int
    ttag: int
    datao: int
    datal: int
    last: bool = False

    def psh(self) -> bytes:
        return pack(_DATA, self.cccid, self.ttag, self.datao, self.datal)


@dataclass(frozen=True, slots=True, kw_only=True)
class C2HData:
    """Controller to host: data of the command `cccid`. `success` stands for its CapsuleResp too."""

    TYPE: ClassVar[PduType] = PduType.C2H_DATA
    cccid: int
    datao: int
    datal: int
    last: bool = False
    success: bool = False

    def psh(self) -> bytes:
        return pack(_DATA, self.cccid, 0, self.datao, self.datal)


@dataclass(frozen=True, slots=True, kw_only=True)
class R2T:
    """Controller to host: send `r2tl` bytes of the command's data from `r2to` on, under the tag `ttag`."""

    TYPE: ClassVar[PduType] = PduType.R2T
    cccid: int
    ttag: int
    r2to: int
    r2tl: int

    def psh(self) -> bytes:
        return pack(_DATA, self.cccid, self.ttag, self.r2to, self.r2tl)


Pdu: TypeAlias = ICReq | ICResp | H2CTermReq | C2HTermReq | CapsuleCmd | CapsuleResp | H2CData | C2HData | R2T

_HLEN: Final = {
    PduType.IC_REQ: 128,
    PduType.IC_RESP: 128,
    PduType.H2C_TERM_REQ: 24,
    PduType.C2H_TERM_REQ: 24,
    PduType.CAPSULE_CMD: 72,
    PduType.CAPSULE_RESP: 24,
    PduType.H2C_DATA: 24,
    PduType.C2H_DATA: 24,
    PduType.R2T: 24,
}
_TYPES: Final = {int(pdu_type): pdu_type for pdu_type in PduType}
_TERM_REQS: Final = frozenset({PduType.H2C_TERM_REQ, PduType.C2H_TERM_REQ})
_NEVER_DIGESTED: Final = _TERM_REQS | {PduType.IC_REQ, PduType.IC_RESP}
_WITH_PDO: Final = frozenset({PduType.CAPSULE_CMD, PduType.H2C_DATA, PduType.C2H_DATA})


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """What a common header says about its PDU, checked: where the parts lie and how long they are, in bytes."""

    pdu_type: PduType
    flags: int
    hlen: int
    header_digest: bool
    data_offset: int  # from the PDU's start; without data, the PDU's end
    data_length: int
    data_digest: bool


def decode_frame(header: BytesLike, digests: Digests) -> Frame:
    """Check the first 8 bytes of a PDU.

    Reserved flags are tolerated. Raises RemoteProtocolError.
    """
    type_number, flags, hlen, pdo, plen = _COMMON.unpack_from(header)
    pdu_type = _TYPES.get(type_number)
    if pdu_type is None:
        raise _invalid(f"PDU type {type_number:02X}h is unknown", 0)
    if hlen != _HLEN[pdu_type]:
        raise _invalid(f"{pdu_type.name} has HLEN {hlen} instead of {_HLEN[pdu_type]}", 2)
    header_digest = digests.header and pdu_type not in _NEVER_DIGESTED
    if pdu_type not in _NEVER_DIGESTED and bool(flags & HDGSTF) != header_digest:
        raise _invalid(f"{pdu_type.name} has an HDGSTF flag against what was agreed", 1)
    header_end = hlen + DIGEST_SIZE * header_digest
    if pdu_type in _TERM_REQS:
        if not hlen <= plen <= hlen + TERM_REQ_DATA_MAX:
            raise _invalid(f"{pdu_type.name} has PLEN {plen} outside {hlen} to {hlen + TERM_REQ_DATA_MAX}", 4)
        data_offset, data_length, data_digest = hlen, plen - hlen, False
    elif pdu_type in _WITH_PDO and pdo:
        if pdo % 4 or pdo < header_end:
            raise _invalid(f"{pdu_type.name} has PDO {pdo}, not a multiple of 4 from {header_end} on", 3)
        data_digest = digests.data and plen > pdo
        data_offset, data_length = pdo, plen - pdo - DIGEST_SIZE * data_digest
        if data_length < 0 or (data_digest and data_length == 0):
            raise _invalid(f"{pdu_type.name} has PLEN {plen}, which ends before its data", 4)
        if data_length and bool(flags & DDGSTF) != data_digest:
            raise _invalid(f"{pdu_type.name} has a DDGSTF flag against what was agreed", 1)
    else:
        if plen != header_end:
            raise _invalid(f"{pdu_type.name} has PLEN {plen} instead of {header_end}", 4)
        data_offset, data_length, data_digest = plen, 0, False
    return Frame(
        pdu_type=pdu_type,
        flags=flags,
        hlen=hlen,
        header_digest=header_digest,
        data_offset=data_offset,
        data_length=data_length,
        data_digest=data_digest,
    )


def decode_header(frame: Frame, header: BytesLike) -> Pdu:
    """The PDU whose first `frame.data_offset` bytes are `header`.

    Raises RemoteProtocolError if the header digest is wrong or a data PDU's DATAL is not what PLEN leaves for data.
    """
    if frame.header_digest:
        _check_header_digest(header, frame.hlen)
    match frame.pdu_type:
        case PduType.CAPSULE_CMD:
            return CapsuleCmd(sqe=bytes(header[8:72]))
        case PduType.CAPSULE_RESP:
            return CapsuleResp(cqe=bytes(header[8:24]))
        case PduType.H2C_DATA:
            cccid, ttag, offset, length = _DATA.unpack_from(header, 8)
            _check_data_length(frame, length)
            last = bool(frame.flags & LAST_PDU)
            return H2CData(cccid=cccid, ttag=ttag, datao=offset, datal=length, last=last)
        case PduType.C2H_DATA:
            cccid, _, offset, length = _DATA.unpack_from(header, 8)
            _check_data_length(frame, length)
            last, success = bool(frame.flags & LAST_PDU), bool(frame.flags & SUCCESS)
            return C2HData(cccid=cccid, datao=offset, datal=length, last=last, success=success)
        case PduType.R2T:
            cccid, ttag, offset, length = _DATA.unpack_from(header, 8)
            return R2T(cccid=cccid, ttag=ttag, r2to=offset, r2tl=length)
        case PduType.IC_REQ:
            pfv, pda, dgst, limit = _IC.unpack_from(header, 8)
            return ICReq(pfv=pfv, hpda=pda, digests=Digests.decode(dgst), maxr2t=limit)
        case PduType.IC_RESP:
            pfv, pda, dgst, limit = _IC.unpack_from(header, 8)
            return ICResp(pfv=pfv, cpda=pda, digests=Digests.decode(dgst), maxh2cdata=limit)
        case PduType.H2C_TERM_REQ:
            fes, fei = _TERM_REQ.unpack_from(header, 8)
            return H2CTermReq(fes=fes, fei=fei)
        case PduType.C2H_TERM_REQ:
            fes, fei = _TERM_REQ.unpack_from(header, 8)
            return C2HTermReq(fes=fes, fei=fei)


def encode_pdu(
    pdu: Pdu, data: BytesLike = b"", *, digests: Digests = NO_DIGESTS, pda: int = 0
) -> list[BytesLike]:
    """The buffers that make the PDU on the wire, in order; `data` itself is among them, not a copy.

    `pda` is the receiver's wish for alignment (HPDA or CPDA). Raises LocalProtocolError for fields that do not fit.
    """
    pdu_type = pdu.TYPE
    hlen = _HLEN[pdu_type]
    flags = 0
    if isinstance(pdu, H2CData | C2HData):
        flags = LAST_PDU if pdu.last else 0
        if isinstance(pdu, C2HData) and pdu.success:
            flags |= SUCCESS
        if pdu.datal != len(data):
            raise LocalProtocolError(f"{pdu_type.name} says {pdu.datal} bytes of data and has {len(data)}.")
    header_digest = digests.header and pdu_type not in _NEVER_DIGESTED
    data_digest = digests.data and len(data) > 0 and pdu_type in _WITH_PDO
    flags |= header_digest * HDGSTF | data_digest * DDGSTF
    header_end = data_offset = hlen + DIGEST_SIZE * header_digest
    if len(data) > 0 and pdu_type in _WITH_PDO:
        alignment = (pda + 1) * 4
        data_offset = -(-header_end // alignment) * alignment
    pdo = data_offset if pdu_type in _WITH_PDO and len(data) > 0 else 0
    plen = data_offset + len(data) + DIGEST_SIZE * data_digest
    header = pack(_COMMON, pdu_type, flags, hlen, pdo, plen) + pdu.psh()
    if header_digest:
        header += _DIGEST.pack(crc32c(header))
    header += bytes(data_offset - header_end)
    if len(data) == 0:
        return [header]
    if data_digest:
        return [header, data, _DIGEST.pack(crc32c(data))]
    return [header, data]


def data_digest_matches(data: BytesLike, digest: BytesLike) -> bool:
    """Whether `digest` (4 bytes off the wire) is the CRC32C of `data`."""
    return bool(crc32c(data) == _DIGEST.unpack_from(digest)[0])


def _check_header_digest(header: BytesLike, hlen: int) -> None:
    (digest,) = _DIGEST.unpack_from(header, hlen)
    if crc32c(header[:hlen]) != digest:
        raise RemoteProtocolError("The header digest is wrong.", FatalErrorStatus.HEADER_DIGEST_ERROR, digest)


def _check_data_length(frame: Frame, datal: int) -> None:
    if datal != frame.data_length or datal == 0:
        raise _invalid(f"{frame.pdu_type.name} has DATAL {datal}, and its data {frame.data_length} bytes", 16)


def _invalid(what: str, offset: int) -> RemoteProtocolError:
    return RemoteProtocolError(f"{what}.", FatalErrorStatus.INVALID_PDU_HEADER_FIELD, offset)
