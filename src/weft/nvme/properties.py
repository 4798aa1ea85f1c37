"""Controller properties, read and written by Property Get and Set (Base 2.0, 3.1.3)."""

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

PAGE_SHIFT: Final = 12  # pages of MPSMIN and MPS are 2^(12 + n) bytes


class Property(IntEnum):
    """Offsets of the properties."""

    CAP = 0x00  # 8 bytes, the others 4
    VS = 0x08
    INTMS = 0x0C
    INTMC = 0x10
    CC = 0x14
    CSTS = 0x1C
    NSSR = 0x20
    AQA = 0x24
    ASQ = 0x28  # 8 bytes
    ACQ = 0x30  # 8 bytes
    CMBLOC = 0x38
    CMBSZ = 0x3C
    CRTO = 0x68


def version(major: int, minor: int, tertiary: int = 0) -> int:
    """VS, and VER of Identify Controller."""
    return major << 16 | minor << 8 | tertiary


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """CAP. `timeout` in seconds, rounded up to halves: the longest that CSTS.RDY takes to follow CC.EN."""

    max_queue_entries: int  # MQES + 1
    timeout: float = 7.5
    contiguous_queues: bool = True  # CQR
    nvm_command_set: bool = True
    subsystem_reset: bool = False  # NSSRS
    mpsmin: int = 0
    mpsmax: int = 0
    crms: int = 0

    def encode(self) -> int:
        return (
            (self.max_queue_entries - 1) & 0xFFFF
            | self.contiguous_queues << 16
            | min(255, -int(-self.timeout * 2 // 1)) << 24
            | self.subsystem_reset << 36
            | self.nvm_command_set << 37
            | (self.mpsmin & 0xF) << 48
            | (self.mpsmax & 0xF) << 52
            | (self.crms & 0x3) << 59
        )

    @classmethod
    def decode(cls, value: int) -> "Capabilities":
        return cls(
            max_queue_entries=(value & 0xFFFF) + 1,
            timeout=(value >> 24 & 0xFF) / 2,
            contiguous_queues=bool(value >> 16 & 1),
            nvm_command_set=bool(value >> 37 & 1),
            subsystem_reset=bool(value >> 36 & 1),
            mpsmin=value >> 48 & 0xF,
            mpsmax=value >> 52 & 0xF,
            crms=value >> 59 & 0x3,
        )


class ShutdownNotification(IntEnum):
    """CC.SHN."""

    NONE = 0
    NORMAL = 1
    ABRUPT = 2
    RESERVED = 3


class ShutdownStatus(IntEnum):
    """CSTS.SHST."""

    NORMAL = 0
    OCCURRING = 1
    COMPLETE = 2
    RESERVED = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class ControllerConfiguration:
    """CC. `css` 0 is the NVM command set, 6 all supported ones; queue entries are 2^iosqes and 2^iocqes bytes."""

    enable: bool = False
    css: int = 0
    mps: int = 0
    ams: int = 0
    shn: ShutdownNotification = ShutdownNotification.NONE
    iosqes: int = 6
    iocqes: int = 4
    crime: bool = False

    def encode(self) -> int:
        return (
            self.enable
            | (self.css & 0x7) << 4
            | (self.mps & 0xF) << 7
            | (self.ams & 0x7) << 11
            | self.shn << 14
            | (self.iosqes & 0xF) << 16
            | (self.iocqes & 0xF) << 20
            | self.crime << 24
        )

    @classmethod
    def decode(cls, value: int) -> "ControllerConfiguration":
        return cls(
            enable=bool(value & 1),
            css=value >> 4 & 0x7,
            mps=value >> 7 & 0xF,
            ams=value >> 11 & 0x7,
            shn=ShutdownNotification(value >> 14 & 0x3),
            iosqes=value >> 16 & 0xF,
            iocqes=value >> 20 & 0xF,
            crime=bool(value >> 24 & 1),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ControllerStatus:
    """CSTS."""

    ready: bool = False
    fatal: bool = False  # CFS
    shutdown: ShutdownStatus = ShutdownStatus.NORMAL

    def encode(self) -> int:
        return self.ready | self.fatal << 1 | self.shutdown << 2

    @classmethod
    def decode(cls, value: int) -> "ControllerStatus":
        return cls(
            ready=bool(value & 1), fatal=bool(value >> 1 & 1), shutdown=ShutdownStatus(value >> 2 & 0x3)
        )
