"""What Identify returns: pages of 4096 bytes (Base 2.0, 5.17.2; NVM Command Set 1.0, 4.1.5).

The classes have the fields that hosts use, under the specification's names, in lower case; all others are zero.
"""

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import Annotated, Final

from weft.nvme.errors import LocalProtocolError
from weft.nvme.layout import BytesLike
from weft.nvme.structure import At, decode_structure, encode_structure

PAGE_SIZE: Final = 4096
ZERO_PAGE: Final = bytes(PAGE_SIZE)  # a valid answer to CNS 05h, and to 06h for command sets without limits

NAMESPACE_LIST_MAX: Final = PAGE_SIZE // 4
CONTROLLER_LIST_MAX: Final = PAGE_SIZE // 2 - 1


class Cns(IntEnum):
    """Controller or Namespace Structure: which page Identify asks for."""

    NAMESPACE = 0x00
    CONTROLLER = 0x01
    ACTIVE_NAMESPACE_LIST = 0x02
    NAMESPACE_DESCRIPTORS = 0x03
    IO_COMMAND_SET_NAMESPACE = 0x05
    IO_COMMAND_SET_CONTROLLER = 0x06
    IO_COMMAND_SET_ACTIVE_NAMESPACE_LIST = 0x07
    COMMAND_SET_INDEPENDENT_NAMESPACE = 0x08
    ALLOCATED_NAMESPACE_LIST = 0x10
    ALLOCATED_NAMESPACE = 0x11
    NAMESPACE_CONTROLLER_LIST = 0x12
    CONTROLLER_LIST = 0x13
    PRIMARY_CONTROLLER_CAPABILITIES = 0x14
    IO_COMMAND_SET_COMBINATIONS = 0x1C


class ControllerType(IntEnum):
    IO = 1
    DISCOVERY = 2
    ADMINISTRATIVE = 3


class Oncs:
    """Optional NVM Command Support, bits of `IdentifyController.oncs`."""

    COMPARE: Final = 1 << 0
    DATASET_MANAGEMENT: Final = 1 << 2
    WRITE_ZEROES: Final = 1 << 3
    RESERVATIONS: Final = 1 << 5
    TIMESTAMP: Final = 1 << 6
    VERIFY: Final = 1 << 7
    COPY: Final = 1 << 8


class Oaes:
    """Optional Asynchronous Events Supported, bits of `IdentifyController.oaes` and of feature 0Bh."""

    NAMESPACE_ATTRIBUTE: Final = 1 << 8
    ASYMMETRIC_NAMESPACE_ACCESS: Final = 1 << 11
    DISCOVERY_LOG_PAGE: Final = 1 << 31


class Cmic:
    """Multi-path capabilities, bits of `IdentifyController.cmic`."""

    MULTIPLE_PORTS: Final = 1 << 0
    MULTIPLE_CONTROLLERS: Final = 1 << 1
    ASYMMETRIC_NAMESPACE_ACCESS: Final = 1 << 3


class Sgls:
    """SGL Support, bits of `IdentifyController.sgls`. OFFSET is for in-capsule data, TRANSPORT_DATA_BLOCK for other data."""

    SUPPORTED: Final = 1 << 0
    OFFSET: Final = 1 << 20
    TRANSPORT_DATA_BLOCK: Final = 1 << 21


class Ofcs:
    """Optional Fabric Commands Support, bits of `IdentifyController.ofcs`."""

    DISCONNECT: Final = 1 << 0


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentifyController:
    """CNS 01h. The defaults are what every NVMe/TCP controller has; `kas` must not be 0 on an I/O controller."""

    vid: Annotated[int, At(0, 2)] = 0
    ssvid: Annotated[int, At(2, 2)] = 0
    sn: Annotated[str, At(4, 20)] = ""
    mn: Annotated[str, At(24, 40)] = ""
    fr: Annotated[str, At(64, 8)] = ""
    rab: Annotated[int, At(72, 1)] = 0
    ieee: Annotated[int, At(73, 3)] = 0
    cmic: Annotated[int, At(76, 1)] = 0
    mdts: Annotated[int, At(77, 1)] = 0  # 2^mdts pages of CAP.MPSMIN, 0 for no limit
    cntlid: Annotated[int, At(78, 2)] = 0  # must be what Connect returned
    ver: Annotated[int, At(80, 4)] = 0
    oaes: Annotated[int, At(92, 4)] = 0
    ctratt: Annotated[int, At(96, 4)] = 0
    cntrltype: Annotated[int, At(111, 1)] = ControllerType.IO
    crdt1: Annotated[int, At(128, 2)] = 0  # units of 100 ms
    crdt2: Annotated[int, At(130, 2)] = 0
    crdt3: Annotated[int, At(132, 2)] = 0
    oacs: Annotated[int, At(256, 2)] = 0
    acl: Annotated[int, At(258, 1)] = 0  # 0-based
    aerl: Annotated[int, At(259, 1)] = 0  # 0-based
    frmw: Annotated[int, At(260, 1)] = 0x03  # one slot, read-only
    lpa: Annotated[int, At(261, 1)] = 0
    elpe: Annotated[int, At(262, 1)] = 0  # 0-based
    wctemp: Annotated[int, At(266, 2)] = 0
    cctemp: Annotated[int, At(268, 2)] = 0
    kas: Annotated[int, At(320, 2)] = 1  # granularity of the keep alive timer, units of 100 ms
    anatt: Annotated[int, At(342, 1)] = 0
    anacap: Annotated[int, At(343, 1)] = 0
    anagrpmax: Annotated[int, At(344, 4)] = 0
    nanagrpid: Annotated[int, At(348, 4)] = 0
    sqes: Annotated[int, At(512, 1)] = 0x66
    cqes: Annotated[int, At(513, 1)] = 0x44
    maxcmd: Annotated[int, At(514, 2)] = 0
    nn: Annotated[int, At(516, 4)] = 0
    oncs: Annotated[int, At(520, 2)] = 0
    fuses: Annotated[int, At(522, 2)] = 0
    fna: Annotated[int, At(524, 1)] = 0
    vwc: Annotated[int, At(525, 1)] = 0
    awun: Annotated[int, At(526, 2)] = 0  # 0-based
    awupf: Annotated[int, At(528, 2)] = 0  # 0-based
    ocfs: Annotated[int, At(534, 2)] = 0
    sgls: Annotated[int, At(536, 4)] = Sgls.SUPPORTED | Sgls.OFFSET | Sgls.TRANSPORT_DATA_BLOCK
    mnan: Annotated[int, At(540, 4)] = 0
    subnqn: Annotated[str, At(768, 256, b"\0")] = ""
    ioccsz: Annotated[int, At(1792, 4)] = 4  # units of 16 bytes: SQE and in-capsule data of an I/O queue
    iorcsz: Annotated[int, At(1796, 4)] = 1
    icdoff: Annotated[int, At(1800, 2)] = 0
    fcatt: Annotated[int, At(1802, 1)] = 0
    msdbd: Annotated[int, At(1803, 1)] = 1
    ofcs: Annotated[int, At(1804, 2)] = 0

    def encode(self) -> bytes:
        return encode_structure(self, PAGE_SIZE)

    @classmethod
    def decode(cls, page: BytesLike) -> "IdentifyController":
        return decode_structure(cls, page)

    @property
    def in_capsule_data_size(self) -> int:
        """Bytes of data that may travel in a capsule of an I/O queue."""
        return max(0, self.ioccsz * 16 - 64)


def ioccsz(in_capsule_data_size: int) -> int:
    """IOCCSZ for so many bytes of in-capsule data."""
    return (64 + in_capsule_data_size) // 16


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentifyNamespace:
    """CNS 00h and 11h for a namespace with one LBA format. Sizes are in logical blocks, `lbads` is their size as 2^n."""

    nsze: Annotated[int, At(0, 8)]
    ncap: Annotated[int, At(8, 8)]
    nuse: Annotated[int, At(16, 8)]
    nsfeat: Annotated[int, At(24, 1)] = 0
    nlbaf: Annotated[int, At(25, 1)] = 0  # 0-based
    flbas: Annotated[int, At(26, 1)] = 0
    mc: Annotated[int, At(27, 1)] = 0
    dpc: Annotated[int, At(28, 1)] = 0
    dps: Annotated[int, At(29, 1)] = 0
    nmic: Annotated[int, At(30, 1)] = 0
    rescap: Annotated[int, At(31, 1)] = 0
    fpi: Annotated[int, At(32, 1)] = 0
    dlfeat: Annotated[int, At(33, 1)] = 0
    nawun: Annotated[int, At(34, 2)] = 0
    nawupf: Annotated[int, At(36, 2)] = 0
    nacwu: Annotated[int, At(38, 2)] = 0
    noiob: Annotated[int, At(46, 2)] = 0
    nvmcap: Annotated[int, At(48, 16)] = 0  # bytes
    npwg: Annotated[int, At(64, 2)] = 0  # 0-based
    npwa: Annotated[int, At(66, 2)] = 0  # 0-based
    npdg: Annotated[int, At(68, 2)] = 0  # 0-based
    npda: Annotated[int, At(70, 2)] = 0  # 0-based
    nows: Annotated[int, At(72, 2)] = 0  # 0-based
    anagrpid: Annotated[int, At(92, 4)] = 0
    nsattr: Annotated[int, At(99, 1)] = 0
    nvmsetid: Annotated[int, At(100, 2)] = 0
    endgid: Annotated[int, At(102, 2)] = 0
    nguid: Annotated[bytes, At(104, 16)] = bytes(16)
    eui64: Annotated[bytes, At(120, 8)] = bytes(8)
    ms: Annotated[int, At(128, 2)] = 0
    lbads: Annotated[int, At(130, 1)] = 9
    rp: Annotated[int, At(131, 1)] = 0

    def encode(self) -> bytes:
        return encode_structure(self, PAGE_SIZE)

    @classmethod
    def decode(cls, page: BytesLike) -> "IdentifyNamespace":
        """Of several LBA formats, `ms`, `lbads` and `rp` are those in use (FLBAS), not the first."""
        index = page[26] & 0xF | page[26] >> 1 & 0x30 if len(page) > 26 else 0
        used = bytes(page[128 + 4 * index : 132 + 4 * index])
        return decode_structure(cls, bytes(page[:128]) + used)

    @property
    def block_size(self) -> int:
        """Bytes in a logical block."""
        return 1 << self.lbads


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentifyNvmController:
    """CNS 06h for the NVM command set: limits, 0 for none."""

    vsl: Annotated[int, At(0, 1)] = 0  # Verify: 2^vsl pages of CAP.MPSMIN
    wzsl: Annotated[int, At(1, 1)] = 0  # Write Zeroes, likewise
    wusl: Annotated[int, At(2, 1)] = 0
    dmrl: Annotated[int, At(3, 1)] = 0  # Dataset Management: ranges
    dmrsl: Annotated[int, At(4, 4)] = 0  # blocks in one range
    dmsl: Annotated[int, At(8, 8)] = 0  # blocks in one command

    def encode(self) -> bytes:
        return encode_structure(self, PAGE_SIZE)

    @classmethod
    def decode(cls, page: BytesLike) -> "IdentifyNvmController":
        return decode_structure(cls, page)


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentifyIndependentNamespace:
    """CNS 08h: what holds for a namespace of any command set."""

    nsfeat: Annotated[int, At(0, 1)] = 0
    nmic: Annotated[int, At(1, 1)] = 0
    rescap: Annotated[int, At(2, 1)] = 0
    fpi: Annotated[int, At(3, 1)] = 0
    anagrpid: Annotated[int, At(4, 4)] = 0
    nsattr: Annotated[int, At(8, 1)] = 0
    nvmsetid: Annotated[int, At(10, 2)] = 0
    endgid: Annotated[int, At(12, 2)] = 0
    nstat: Annotated[int, At(14, 1)] = 1  # ready

    def encode(self) -> bytes:
        return encode_structure(self, PAGE_SIZE)

    @classmethod
    def decode(cls, page: BytesLike) -> "IdentifyIndependentNamespace":
        return decode_structure(cls, page)


class _Nidt(IntEnum):
    EUI64 = 1
    NGUID = 2
    UUID = 3
    CSI = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class NamespaceDescriptors:
    """CNS 03h: a namespace's identifiers, None where it has none. They must never change."""

    eui64: bytes | None = None  # 8 bytes
    nguid: bytes | None = None  # 16 bytes
    uuid: bytes | None = None  # 16 bytes, in the order in which a UUID is written
    csi: int | None = 0  # the NVM command set

    def encode(self) -> bytes:
        csi = None if self.csi is None else bytes([self.csi])
        identifiers = (
            (_Nidt.EUI64, self.eui64),
            (_Nidt.NGUID, self.nguid),
            (_Nidt.UUID, self.uuid),
            (_Nidt.CSI, csi),
        )
        page = b""
        for nidt, identifier in identifiers:
            if identifier is not None:
                if len(identifier) != _NIDL[nidt]:
                    raise LocalProtocolError(f"{nidt.name} has {_NIDL[nidt]} bytes, not {len(identifier)}.")
                page += bytes([nidt, len(identifier), 0, 0]) + identifier
        return page.ljust(PAGE_SIZE, b"\0")

    @classmethod
    def decode(cls, page: BytesLike) -> "NamespaceDescriptors":
        """Descriptors of unknown type or of a length that their type does not have are passed over."""
        found = {
            nidt: identifier
            for nidt, identifier in _descriptors(bytes(page))
            if _NIDL.get(nidt) == len(identifier)
        }
        csi = found.get(_Nidt.CSI)
        return cls(
            eui64=found.get(_Nidt.EUI64),
            nguid=found.get(_Nidt.NGUID),
            uuid=found.get(_Nidt.UUID),
            csi=None if csi is None else csi[0],
        )


_NIDL: Final[dict[int, int]] = {_Nidt.EUI64: 8, _Nidt.NGUID: 16, _Nidt.UUID: 16, _Nidt.CSI: 1}


def _descriptors(page: bytes) -> Iterator[tuple[int, bytes]]:
    start = 0
    while start + 4 <= len(page) and page[start + 1]:
        end = start + 4 + page[start + 1]
        yield page[start], page[start + 4 : end]
        start = end


def encode_namespace_list(nsids: Iterable[int], *, after: int = 0) -> bytes:
    """CNS 02h, 07h and 10h: the namespaces above `after` (the command's NSID), in order, 1024 at most."""
    listed = sorted(nsid for nsid in nsids if nsid > after)[:NAMESPACE_LIST_MAX]
    return struct.pack(f"<{len(listed)}I", *listed).ljust(PAGE_SIZE, b"\0")


def decode_namespace_list(page: BytesLike) -> list[int]:
    """The namespaces up to the first 0."""
    nsids = []
    for (nsid,) in struct.iter_unpack("<I", page[: len(page) // 4 * 4]):
        if nsid == 0:
            break
        nsids.append(nsid)
    return nsids


def encode_controller_list(cntlids: Iterable[int], *, first: int = 0) -> bytes:
    """CNS 12h and 13h: the controllers from `first` (the command's CNTID) on, in order, 2047 at most."""
    listed = sorted(cntlid for cntlid in cntlids if cntlid >= first)[:CONTROLLER_LIST_MAX]
    return struct.pack(f"<H{len(listed)}H", len(listed), *listed).ljust(PAGE_SIZE, b"\0")


def decode_controller_list(page: BytesLike) -> list[int]:
    count = int.from_bytes(page[:2], "little")
    return [
        cntlid for (cntlid,) in struct.iter_unpack("<H", page[2 : 2 + 2 * min(count, (len(page) - 2) // 2)])
    ]


def encode_command_set_combinations() -> bytes:
    """CNS 1Ch: one combination, the NVM command set alone."""
    return struct.pack("<Q", 1).ljust(PAGE_SIZE, b"\0")


def encode_primary_controller_capabilities(cntlid: int) -> bytes:
    """CNS 14h of a controller without virtualization: CNTLID, and nothing that could be assigned."""
    return struct.pack("<H", cntlid).ljust(PAGE_SIZE, b"\0")
