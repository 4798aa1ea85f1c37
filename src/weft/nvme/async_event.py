"""Asynchronous events: what the completion of an Asynchronous Event Request says (Base 2.0, 5.2)."""

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from weft.nvme.logpage import LogPageId


class AsyncEventType(IntEnum):
    ERROR_STATUS = 0
    SMART_HEALTH_STATUS = 1
    NOTICE = 2
    IMMEDIATE = 3
    IO_COMMAND_SPECIFIC_STATUS = 6
    VENDOR_SPECIFIC = 7


@dataclass(frozen=True, slots=True, kw_only=True)
class AsyncEvent:
    """Event information `info` of a type, cleared by reading log page `lid` without Retain Asynchronous Event."""

    event_type: int
    info: int
    lid: int

    def encode(self) -> int:
        """DW0 of the completion."""
        return self.event_type & 0x7 | (self.info & 0xFF) << 8 | (self.lid & 0xFF) << 16

    @classmethod
    def decode(cls, result: int) -> "AsyncEvent":
        return cls(event_type=result & 0x7, info=result >> 8 & 0xFF, lid=result >> 16 & 0xFF)


NAMESPACE_ATTRIBUTE_CHANGED: Final = AsyncEvent(
    event_type=AsyncEventType.NOTICE, info=0x00, lid=LogPageId.CHANGED_NAMESPACE_LIST
)
ANA_CHANGED: Final = AsyncEvent(
    event_type=AsyncEventType.NOTICE, info=0x03, lid=LogPageId.ASYMMETRIC_NAMESPACE_ACCESS
)
DISCOVERY_LOG_CHANGED: Final = AsyncEvent(
    event_type=AsyncEventType.NOTICE, info=0xF0, lid=LogPageId.DISCOVERY
)
