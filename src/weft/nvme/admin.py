"""Admin commands (Base 2.0, section 5 "Admin Command Set"). Opcodes that fabrics forbid or that nobody asks for are not here."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Final, TypeAlias

from weft.nvme.layout import BytesLike
from weft.nvme.sqe import (
    NO_DATA,
    AdminOpcode,
    CommandError,
    SglDescriptor,
    cdws,
    decode_cdws,
    decode_nsid,
    encode_sqe,
)
from weft.nvme.status import StatusCode


@dataclass(frozen=True, slots=True, kw_only=True)
class Identify:
    """Ask for a data structure of 4096 bytes (identify.py)."""

    OPCODE: ClassVar[AdminOpcode] = AdminOpcode.IDENTIFY
    cns: int
    nsid: int = 0
    cntid: int = 0
    csi: int = 0
    cns_specific: int = 0

    def encode(self, cid: int, sgl: SglDescriptor = NO_DATA) -> bytes:
        tail = cdws(self.cns | self.cntid << 16, self.cns_specific | self.csi << 24)
        return encode_sqe(self.OPCODE, cid, self.nsid, sgl, tail)

    @classmethod
    def decode(cls, sqe: BytesLike) -> "Identify":
        cdw10, cdw11, *_ = decode_cdws(sqe)
        return cls(
            cns=cdw10 & 0xFF,
            nsid=decode_nsid(sqe),
            cntid=cdw10 >> 16,
            csi=cdw11 >> 24,
            cns_specific=cdw11 & 0xFFFF,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class GetLogPage:
    """Ask for `length` bytes of log page `lid` from byte `offset` on (logpage.py)."""

    OPCODE: ClassVar[AdminOpcode] = AdminOpcode.GET_LOG_PAGE
    lid: int
    length: int  # a multiple of 4
    offset: int = 0
    lsp: int = 0
    lsi: int = 0
    rae: bool = False  # Retain Asynchronous Event
    csi: int = 0
    nsid: int = 0

    def encode(self, cid: int, sgl: SglDescriptor = NO_DATA) -> bytes:
        numd = self.length // 4 - 1
        tail = cdws(
            self.lid | self.lsp << 8 | self.rae << 15 | (numd & 0xFFFF) << 16,
            numd >> 16 | self.lsi << 16,
            self.offset & 0xFFFFFFFF,
            self.offset >> 32,
            self.csi << 24,
        )
        return encode_sqe(self.OPCODE, cid, self.nsid, sgl, tail)

    @classmethod
    def decode(cls, sqe: BytesLike) -> "GetLogPage":
        cdw10, cdw11, cdw12, cdw13, cdw14, _ = decode_cdws(sqe)
        if cdw14 & 1 << 23:
            raise CommandError  # OT: the offset as an index; Log Page Attributes offer it nowhere
        if cdw12 & 3:
            raise CommandError
        return cls(
            lid=cdw10 & 0xFF,
            length=((cdw10 >> 16 | (cdw11 & 0xFFFF) << 16) + 1) * 4,
            offset=cdw12 | cdw13 << 32,
            lsp=cdw10 >> 8 & 0x7F,
            lsi=cdw11 >> 16,
            rae=bool(cdw10 & 1 << 15),
            csi=cdw14 >> 24,
            nsid=decode_nsid(sqe),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class GetFeatures:
    """Read feature `fid` (features.py); most values are the completion's result."""

    OPCODE: ClassVar[AdminOpcode] = AdminOpcode.GET_FEATURES
    fid: int
    sel: int = 0  # 0 current, 1 default, 2 saved, 3 supported capabilities
    nsid: int = 0
    cdw11: int = 0

    def encode(self, cid: int, sgl: SglDescriptor = NO_DATA) -> bytes:
        return encode_sqe(self.OPCODE, cid, self.nsid, sgl, cdws(self.fid | self.sel << 8, self.cdw11))

    @classmethod
    def decode(cls, sqe: BytesLike) -> "GetFeatures":
        cdw10, cdw11, *_ = decode_cdws(sqe)
        return cls(fid=cdw10 & 0xFF, sel=cdw10 >> 8 & 0x7, nsid=decode_nsid(sqe), cdw11=cdw11)


@dataclass(frozen=True, slots=True, kw_only=True)
class SetFeatures:
    """Write feature `fid` (features.py)."""

    OPCODE: ClassVar[AdminOpcode] = AdminOpcode.SET_FEATURES
    fid: int
    save: bool = False
    nsid: int = 0
    cdw11: int = 0
    cdw12: int = 0
    cdw13: int = 0
    cdw14: int = 0
    cdw15: int = 0

    def encode(self, cid: int, sgl: SglDescriptor = NO_DATA) -> bytes:
        tail = cdws(self.fid | self.save << 31, self.cdw11, self.cdw12, self.cdw13, self.cdw14, self.cdw15)
        return encode_sqe(self.OPCODE, cid, self.nsid, sgl, tail)

    @classmethod
    def decode(cls, sqe: BytesLike) -> "SetFeatures":
        cdw10, cdw11, cdw12, cdw13, cdw14, cdw15 = decode_cdws(sqe)
        return cls(
            fid=cdw10 & 0xFF,
            save=bool(cdw10 >> 31),
            nsid=decode_nsid(sqe),
            cdw11=cdw11,
            cdw12=cdw12,
            cdw13=cdw13,
            cdw14=cdw14,
            cdw15=cdw15,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class AsynchronousEventRequest:
    """Answered when there is an event to tell (async_event.py)."""

    OPCODE: ClassVar[AdminOpcode] = AdminOpcode.ASYNCHRONOUS_EVENT_REQUEST

    def encode(self, cid: int, sgl: SglDescriptor = NO_DATA) -> bytes:
        return encode_sqe(self.OPCODE, cid, 0, sgl)

    @classmethod
    def decode(cls, _: BytesLike) -> "AsynchronousEventRequest":
        return cls()


@dataclass(frozen=True, slots=True, kw_only=True)
class KeepAlive:
    """The host lives."""

    OPCODE: ClassVar[AdminOpcode] = AdminOpcode.KEEP_ALIVE

    def encode(self, cid: int, sgl: SglDescriptor = NO_DATA) -> bytes:
        return encode_sqe(self.OPCODE, cid, 0, sgl)

    @classmethod
    def decode(cls, _: BytesLike) -> "KeepAlive":
        return cls()


@dataclass(frozen=True, slots=True, kw_only=True)
class Abort:
    """Abort the command `aborted_cid` of queue `sqid`. Bit 0 of the result: it was not aborted."""

    OPCODE: ClassVar[AdminOpcode] = AdminOpcode.ABORT
    sqid: int
    aborted_cid: int

    def encode(self, cid: int, sgl: SglDescriptor = NO_DATA) -> bytes:
        return encode_sqe(self.OPCODE, cid, 0, sgl, cdws(self.sqid | self.aborted_cid << 16))

    @classmethod
    def decode(cls, sqe: BytesLike) -> "Abort":
        cdw10, *_ = decode_cdws(sqe)
        return cls(sqid=cdw10 & 0xFFFF, aborted_cid=cdw10 >> 16)


AdminCommand: TypeAlias = (
    Identify | GetLogPage | GetFeatures | SetFeatures | AsynchronousEventRequest | KeepAlive | Abort
)

_DECODERS: Final[Mapping[int, Callable[[BytesLike], AdminCommand]]] = {
    int(AdminOpcode.IDENTIFY): Identify.decode,
    int(AdminOpcode.GET_LOG_PAGE): GetLogPage.decode,
    int(AdminOpcode.GET_FEATURES): GetFeatures.decode,
    int(AdminOpcode.SET_FEATURES): SetFeatures.decode,
    int(AdminOpcode.ASYNCHRONOUS_EVENT_REQUEST): AsynchronousEventRequest.decode,
    int(AdminOpcode.KEEP_ALIVE): KeepAlive.decode,
    int(AdminOpcode.ABORT): Abort.decode,
}


def decode_admin(sqe: BytesLike) -> AdminCommand:
    """Raises CommandError."""
    decoder = _DECODERS.get(sqe[0])
    if decoder is None:
        raise CommandError(StatusCode.INVALID_COMMAND_OPCODE)
    return decoder(sqe)
