"""Log pages (Base 2.0, 5.16.1)."""

import struct
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Annotated, Final

from weft.nvme.errors import LocalProtocolError
from weft.nvme.layout import BytesLike
from weft.nvme.structure import At, decode_structure, encode_structure

CHANGED_NAMESPACES_MAX: Final = 1024
ERROR_LOG_ENTRY_SIZE: Final = 64
DISCOVERY_HEADER_SIZE: Final = 1024
DISCOVERY_ENTRY_SIZE: Final = 1024


class LogPageId(IntEnum):
    SUPPORTED_LOG_PAGES = 0x00
    ERROR_INFORMATION = 0x01
    SMART_HEALTH_INFORMATION = 0x02
    FIRMWARE_SLOT_INFORMATION = 0x03
    CHANGED_NAMESPACE_LIST = 0x04
    COMMANDS_SUPPORTED_AND_EFFECTS = 0x05
    ASYMMETRIC_NAMESPACE_ACCESS = 0x0C
    DISCOVERY = 0x70


def part_of_log(page: bytes, offset: int, length: int) -> bytes | None:
    """What Get Log Page returns of `page`: `length` bytes from `offset` on, zeros behind its end.

    None if it does not begin in the page, which is Invalid Field in Command.
    """
    if offset > len(page):
        return None
    return page[offset : offset + length].ljust(length, b"\0")


# 70h Discovery


class TransportType(IntEnum):
    """TRTYPE."""

    RDMA = 1
    FIBRE_CHANNEL = 2
    TCP = 3
    LOOP = 254


class AddressFamily(IntEnum):
    """ADRFAM."""

    IPV4 = 1
    IPV6 = 2


class SubsystemType(IntEnum):
    """SUBTYPE."""

    REFERRAL = 1
    NVM = 2
    CURRENT_DISCOVERY = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class DiscoveryEntry:
    """One way to one subsystem. `trsvcid` is the port in digits; `sectype` is TSAS for TCP (0 none, 1-2 TLS)."""

    trtype: Annotated[int, At(0, 1)] = TransportType.TCP
    adrfam: Annotated[int, At(1, 1)]
    subtype: Annotated[int, At(2, 1)] = SubsystemType.NVM
    treq: Annotated[int, At(3, 1)] = 0
    portid: Annotated[int, At(4, 2)] = 0
    cntlid: Annotated[int, At(6, 2)] = 0xFFFF
    asqsz: Annotated[int, At(8, 2)] = 32
    eflags: Annotated[int, At(10, 2)] = 0
    trsvcid: Annotated[str, At(32, 32)]
    subnqn: Annotated[str, At(256, 256, b"\0")]
    traddr: Annotated[str, At(512, 256)]
    sectype: Annotated[int, At(768, 1)] = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class DiscoveryLog:
    """Log page 70h. `genctr` grows with every change."""

    genctr: int
    entries: Sequence[DiscoveryEntry] = ()

    def encode(self) -> bytes:
        header = struct.pack("<QQH", self.genctr, len(self.entries), 0).ljust(DISCOVERY_HEADER_SIZE, b"\0")
        return header + b"".join(encode_structure(entry, DISCOVERY_ENTRY_SIZE) for entry in self.entries)

    @classmethod
    def decode(cls, page: BytesLike) -> "DiscoveryLog":
        """With those of its entries that the page holds whole."""
        genctr, numrec = decode_discovery_header(page)
        held = max(0, len(page) - DISCOVERY_HEADER_SIZE) // DISCOVERY_ENTRY_SIZE
        starts = (DISCOVERY_HEADER_SIZE + DISCOVERY_ENTRY_SIZE * index for index in range(min(numrec, held)))
        entries = [
            decode_structure(DiscoveryEntry, page[start : start + DISCOVERY_ENTRY_SIZE]) for start in starts
        ]
        return cls(genctr=genctr, entries=tuple(entries))


def decode_discovery_header(page: BytesLike) -> tuple[int, int]:
    """GENCTR and NUMREC, from the first 16 bytes at least."""
    if len(page) < 16:
        raise LocalProtocolError(f"The discovery log's header has 16 bytes, not {len(page)}.")
    genctr, numrec = struct.unpack_from("<QQ", page)
    return genctr, numrec


# 04h Changed Namespace List


def encode_changed_namespaces(nsids: Collection[int]) -> bytes:
    """4096 bytes; more than 1024 namespaces are told as FFFFFFFFh."""
    listed = [0xFFFFFFFF] if len(nsids) > CHANGED_NAMESPACES_MAX else sorted(nsids)
    return struct.pack(f"<{len(listed)}I", *listed).ljust(4 * CHANGED_NAMESPACES_MAX, b"\0")


# 02h SMART / Health Information


@dataclass(frozen=True, slots=True, kw_only=True)
class SmartLog:
    """512 bytes. Data units are 1000 * 512 bytes, rounded up; the temperature is in Kelvin."""

    critical_warning: Annotated[int, At(0, 1)] = 0
    composite_temperature: Annotated[int, At(1, 2)] = 0
    available_spare: Annotated[int, At(3, 1)] = 100
    available_spare_threshold: Annotated[int, At(4, 1)] = 10
    percentage_used: Annotated[int, At(5, 1)] = 0
    data_units_read: Annotated[int, At(32, 16)] = 0
    data_units_written: Annotated[int, At(48, 16)] = 0
    host_read_commands: Annotated[int, At(64, 16)] = 0
    host_write_commands: Annotated[int, At(80, 16)] = 0
    controller_busy_time: Annotated[int, At(96, 16)] = 0
    power_cycles: Annotated[int, At(112, 16)] = 0
    power_on_hours: Annotated[int, At(128, 16)] = 0
    unsafe_shutdowns: Annotated[int, At(144, 16)] = 0
    media_errors: Annotated[int, At(160, 16)] = 0
    error_log_entries: Annotated[int, At(176, 16)] = 0

    def encode(self) -> bytes:
        return encode_structure(self, 512)

    @classmethod
    def decode(cls, page: BytesLike) -> "SmartLog":
        return decode_structure(cls, page)


# 05h Commands Supported and Effects


class Effects:
    """Bits of one command's effects."""

    CSUPP: Final = 1 << 0  # supported
    LBCC: Final = 1 << 1  # changes the content of logical blocks


def encode_command_effects(admin: Mapping[int, int], nvm: Mapping[int, int]) -> bytes:
    """4096 bytes: the effects of each opcode."""
    words = [admin.get(opcode, 0) for opcode in range(256)] + [nvm.get(opcode, 0) for opcode in range(256)]
    return struct.pack("<512I", *words).ljust(4096, b"\0")


# 03h, 01h, 00h


def encode_firmware_slots(revision: str) -> bytes:
    """512 bytes: slot 1 is active and holds `revision`."""
    return (bytes([1]).ljust(8, b"\0") + revision.encode()[:8].ljust(8)).ljust(512, b"\0")


def encode_empty_error_log(entries: int) -> bytes:
    """The error information log of a controller that keeps no errors."""
    return bytes(ERROR_LOG_ENTRY_SIZE * entries)


def encode_supported_log_pages(lids: Iterable[int]) -> bytes:
    """1024 bytes: LSUPP for each log page."""
    words = [0] * 256
    for lid in lids:
        words[lid] = 1
    return struct.pack("<256I", *words)


# 0Ch Asymmetric Namespace Access


class AnaState(IntEnum):
    OPTIMIZED = 0x1
    NON_OPTIMIZED = 0x2
    INACCESSIBLE = 0x3
    PERSISTENT_LOSS = 0x4
    CHANGE = 0xF


@dataclass(frozen=True, slots=True, kw_only=True)
class AnaGroup:
    group_id: int
    state: int
    nsids: Sequence[int] = ()
    change_count: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class AnaLog:
    """Log page 0Ch."""

    change_count: int
    groups: Sequence[AnaGroup] = ()

    def encode(self, *, groups_only: bool = False) -> bytes:
        """`groups_only` (RGO, bit 0 of LSP) leaves the namespaces out."""
        page = struct.pack("<QH6x", self.change_count, len(self.groups))
        for group in self.groups:
            nsids = () if groups_only else group.nsids
            page += struct.pack("<IIQB15x", group.group_id, len(nsids), group.change_count, group.state)
            page += struct.pack(f"<{len(nsids)}I", *nsids)
        return page

    @classmethod
    def decode(cls, page: BytesLike) -> "AnaLog":
        """Raises LocalProtocolError if the page ends before its groups do."""
        try:
            change_count, count = struct.unpack_from("<QH", page)
            groups, start = [], 16
            for _ in range(count):
                group_id, namespaces, group_changes, state = struct.unpack_from("<IIQB", page, start)
                nsids = struct.unpack_from(f"<{namespaces}I", page, start + 32)
                groups.append(
                    AnaGroup(group_id=group_id, state=state & 0xF, nsids=nsids, change_count=group_changes)
                )
                start += 32 + 4 * namespaces
        except struct.error as error:
            raise LocalProtocolError(f"The ANA log of {len(page)} bytes is cut short.") from error
        return cls(change_count=change_count, groups=tuple(groups))
