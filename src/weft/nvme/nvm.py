"""Commands of the NVM command set, on I/O queues (NVM Command Set 1.0, section 3).

`slba` is the first logical block, `blocks` how many there are: 1 to 65536 (NLB on the wire is 0-based).
"""

import struct
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Final, Self, TypeAlias

from weft.nvme.errors import LocalProtocolError
from weft.nvme.layout import BytesLike, pack
from weft.nvme.sqe import (
    NO_DATA,
    CommandError,
    NvmOpcode,
    SglDescriptor,
    cdws,
    decode_cdws,
    decode_nsid,
    encode_sqe,
)
from weft.nvme.status import StatusCode

DSM_RANGES_MAX: Final = 256
DSM_RANGE_SIZE: Final = 16
BLOCKS_MAX: Final = 65536

_FUA: Final = 1 << 30
_DEAC: Final = 1 << 25
_LR: Final = 1 << 31
_RW: Final = struct.Struct("<QI12x")  # SLBA, CDW12
_RANGE: Final = struct.Struct("<IIQ")


def _encode_blocks(command: "_OnBlocks | WriteZeroes", cid: int, sgl: SglDescriptor, flags: int) -> bytes:
    if not 1 <= command.blocks <= BLOCKS_MAX:
        raise LocalProtocolError(f"A command covers 1 to {BLOCKS_MAX} blocks, not {command.blocks}.")
    tail = pack(_RW, command.slba, command.blocks - 1 | flags)
    return encode_sqe(command.OPCODE, cid, command.nsid, sgl, tail)


def _decode_blocks(sqe: BytesLike) -> tuple[int, int, int, int]:
    """NSID, SLBA, number of blocks, CDW12."""
    slba, cdw12 = _RW.unpack_from(sqe, 40)
    return decode_nsid(sqe), slba, (cdw12 & 0xFFFF) + 1, cdw12


@dataclass(frozen=True, slots=True, kw_only=True)
class _OnBlocks:
    """What commands on a range of blocks have in common."""

    OPCODE: ClassVar[NvmOpcode]
    nsid: int
    slba: int
    blocks: int
    fua: bool = False  # Force Unit Access: on non-volatile media before it completes
    limited_retry: bool = False

    def encode(self, cid: int, sgl: SglDescriptor = NO_DATA) -> bytes:
        return _encode_blocks(self, cid, sgl, self.fua * _FUA | self.limited_retry * _LR)

    @classmethod
    def decode(cls, sqe: BytesLike) -> Self:
        nsid, slba, blocks, cdw12 = _decode_blocks(sqe)
        return cls(
            nsid=nsid, slba=slba, blocks=blocks, fua=bool(cdw12 & _FUA), limited_retry=bool(cdw12 & _LR)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Read(_OnBlocks):
    """Blocks to the host."""

    OPCODE: ClassVar[NvmOpcode] = NvmOpcode.READ


@dataclass(frozen=True, slots=True, kw_only=True)
class Write(_OnBlocks):
    """Blocks from the host."""

    OPCODE: ClassVar[NvmOpcode] = NvmOpcode.WRITE


@dataclass(frozen=True, slots=True, kw_only=True)
class Compare(_OnBlocks):
    """Compare blocks with data from the host; a difference is Compare Failure."""

    OPCODE: ClassVar[NvmOpcode] = NvmOpcode.COMPARE


@dataclass(frozen=True, slots=True, kw_only=True)
class Verify(_OnBlocks):
    """Check that blocks can be read; no data moves."""

    OPCODE: ClassVar[NvmOpcode] = NvmOpcode.VERIFY


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteZeroes:
    """Make blocks read as zeros."""

    OPCODE: ClassVar[NvmOpcode] = NvmOpcode.WRITE_ZEROES
    nsid: int
    slba: int
    blocks: int
    fua: bool = False
    deallocate: bool = False  # DEAC: let the media forget them

    def encode(self, cid: int, sgl: SglDescriptor = NO_DATA) -> bytes:
        return _encode_blocks(self, cid, sgl, self.fua * _FUA | self.deallocate * _DEAC)

    @classmethod
    def decode(cls, sqe: BytesLike) -> "WriteZeroes":
        nsid, slba, blocks, cdw12 = _decode_blocks(sqe)
        return cls(
            nsid=nsid, slba=slba, blocks=blocks, fua=bool(cdw12 & _FUA), deallocate=bool(cdw12 & _DEAC)
        )


BlockCommand: TypeAlias = Read | Write | Compare | Verify | WriteZeroes


@dataclass(frozen=True, slots=True, kw_only=True)
class Flush:
    """Everything completed before is on non-volatile media; `nsid` may be ALL_NAMESPACES."""

    OPCODE: ClassVar[NvmOpcode] = NvmOpcode.FLUSH
    nsid: int

    def encode(self, cid: int, sgl: SglDescriptor = NO_DATA) -> bytes:
        return encode_sqe(self.OPCODE, cid, self.nsid, sgl)

    @classmethod
    def decode(cls, sqe: BytesLike) -> "Flush":
        return cls(nsid=decode_nsid(sqe))


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetManagement:
    """Hints about `ranges` ranges of blocks (1 to 256), which are its data: see `DsmRange`."""

    OPCODE: ClassVar[NvmOpcode] = NvmOpcode.DATASET_MANAGEMENT
    nsid: int
    ranges: int
    deallocate: bool = False  # AD: the ranges are not needed any more
    integral_read: bool = False
    integral_write: bool = False

    def encode(self, cid: int, sgl: SglDescriptor = NO_DATA) -> bytes:
        if not 1 <= self.ranges <= DSM_RANGES_MAX:
            raise LocalProtocolError(f"A command has 1 to {DSM_RANGES_MAX} ranges, not {self.ranges}.")
        attributes = self.integral_read | self.integral_write << 1 | self.deallocate << 2
        return encode_sqe(self.OPCODE, cid, self.nsid, sgl, cdws(self.ranges - 1, attributes))

    @classmethod
    def decode(cls, sqe: BytesLike) -> "DatasetManagement":
        cdw10, cdw11, *_ = decode_cdws(sqe)
        return cls(
            nsid=decode_nsid(sqe),
            ranges=(cdw10 & 0xFF) + 1,
            deallocate=bool(cdw11 & 4),
            integral_read=bool(cdw11 & 1),
            integral_write=bool(cdw11 & 2),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class DsmRange:
    """One range of a Dataset Management command. Here `blocks` may be 0."""

    slba: int
    blocks: int
    attributes: int = 0


def encode_dsm_ranges(ranges: Iterable[DsmRange]) -> bytes:
    return b"".join(pack(_RANGE, each.attributes, each.blocks, each.slba) for each in ranges)


def decode_dsm_ranges(data: BytesLike, ranges: int) -> list[DsmRange] | None:
    """The first `ranges` ranges of the data, None if there are fewer."""
    size = ranges * DSM_RANGE_SIZE
    if len(data) < size:
        return None
    return [
        DsmRange(slba=slba, blocks=blocks, attributes=attributes)
        for attributes, blocks, slba in _RANGE.iter_unpack(data[:size])
    ]


NvmCommand: TypeAlias = BlockCommand | Flush | DatasetManagement

_DECODERS: Final[Mapping[int, Callable[[BytesLike], NvmCommand]]] = {
    int(NvmOpcode.READ): Read.decode,
    int(NvmOpcode.WRITE): Write.decode,
    int(NvmOpcode.COMPARE): Compare.decode,
    int(NvmOpcode.VERIFY): Verify.decode,
    int(NvmOpcode.WRITE_ZEROES): WriteZeroes.decode,
    int(NvmOpcode.FLUSH): Flush.decode,
    int(NvmOpcode.DATASET_MANAGEMENT): DatasetManagement.decode,
}


def decode_nvm(sqe: BytesLike) -> NvmCommand:
    """Raises CommandError."""
    decoder = _DECODERS.get(sqe[0])
    if decoder is None:
        raise CommandError(StatusCode.INVALID_COMMAND_OPCODE)
    return decoder(sqe)
