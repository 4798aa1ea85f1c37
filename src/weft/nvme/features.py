"""Features, read and written by Get and Set Features (Base 2.0, 5.27.1)."""

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

EXTENDED_HOST_IDENTIFIER: Final = 1  # EXHID, CDW11 of feature 81h: 16 bytes, the only kind over fabrics


class FeatureId(IntEnum):
    ARBITRATION = 0x01
    POWER_MANAGEMENT = 0x02
    TEMPERATURE_THRESHOLD = 0x04
    ERROR_RECOVERY = 0x05
    VOLATILE_WRITE_CACHE = 0x06
    NUMBER_OF_QUEUES = 0x07
    WRITE_ATOMICITY = 0x0A
    ASYNCHRONOUS_EVENT_CONFIGURATION = 0x0B
    TIMESTAMP = 0x0E
    KEEP_ALIVE_TIMER = 0x0F  # milliseconds
    HOST_BEHAVIOR_SUPPORT = 0x16
    HOST_IDENTIFIER = 0x81
    NAMESPACE_WRITE_PROTECTION = 0x84


class FeatureSelect(IntEnum):
    """SEL of Get Features."""

    CURRENT = 0
    DEFAULT = 1
    SAVED = 2
    SUPPORTED_CAPABILITIES = 3


class FeatureCapabilities:
    """The result of Get Features with SEL 3, as bits."""

    SAVEABLE: Final = 1 << 0
    NAMESPACE_SPECIFIC: Final = 1 << 1
    CHANGEABLE: Final = 1 << 2


@dataclass(frozen=True, slots=True, kw_only=True)
class NumberOfQueues:
    """Feature 07h: how many I/O queues a host asks for (CDW11), and gets (the result). The wire is 0-based, this is not."""

    submission: int
    completion: int

    def encode(self) -> int:
        return (self.submission - 1) & 0xFFFF | ((self.completion - 1) & 0xFFFF) << 16

    @classmethod
    def decode(cls, value: int) -> "NumberOfQueues | None":
        """None for FFFFh, which no host may ask for."""
        submission, completion = (value & 0xFFFF) + 1, (value >> 16 & 0xFFFF) + 1
        if 0x10000 in {submission, completion}:
            return None
        return cls(submission=submission, completion=completion)
