"""Completion statuses (Base 2.0, 3.3.3.2.1 "Status Field Definition")."""

from dataclasses import dataclass
from enum import IntEnum


class StatusCode(IntEnum):
    """Status Code Type (SCT, bits 10:8) and Status Code (SC, bits 7:0) as one number, named as in the specification."""

    # SCT 0: generic
    SUCCESSFUL_COMPLETION = 0x000
    INVALID_COMMAND_OPCODE = 0x001
    INVALID_FIELD_IN_COMMAND = 0x002
    COMMAND_ID_CONFLICT = 0x003
    DATA_TRANSFER_ERROR = 0x004
    COMMANDS_ABORTED_DUE_TO_POWER_LOSS_NOTIFICATION = 0x005
    INTERNAL_ERROR = 0x006
    COMMAND_ABORT_REQUESTED = 0x007
    COMMAND_ABORTED_DUE_TO_SQ_DELETION = 0x008
    COMMAND_ABORTED_DUE_TO_FAILED_FUSED_COMMAND = 0x009
    COMMAND_ABORTED_DUE_TO_MISSING_FUSED_COMMAND = 0x00A
    INVALID_NAMESPACE_OR_FORMAT = 0x00B
    COMMAND_SEQUENCE_ERROR = 0x00C
    INVALID_SGL_SEGMENT_DESCRIPTOR = 0x00D
    INVALID_NUMBER_OF_SGL_DESCRIPTORS = 0x00E
    DATA_SGL_LENGTH_INVALID = 0x00F
    METADATA_SGL_LENGTH_INVALID = 0x010
    SGL_DESCRIPTOR_TYPE_INVALID = 0x011
    INVALID_USE_OF_CONTROLLER_MEMORY_BUFFER = 0x012
    PRP_OFFSET_INVALID = 0x013
    ATOMIC_WRITE_UNIT_EXCEEDED = 0x014
    OPERATION_DENIED = 0x015
    SGL_OFFSET_INVALID = 0x016
    HOST_IDENTIFIER_INCONSISTENT_FORMAT = 0x018
    KEEP_ALIVE_TIMER_EXPIRED = 0x019
    KEEP_ALIVE_TIMEOUT_INVALID = 0x01A
    COMMAND_ABORTED_DUE_TO_PREEMPT_AND_ABORT = 0x01B
    SANITIZE_FAILED = 0x01C
    SANITIZE_IN_PROGRESS = 0x01D
    SGL_DATA_BLOCK_GRANULARITY_INVALID = 0x01E
    COMMAND_NOT_SUPPORTED_FOR_QUEUE_IN_CMB = 0x01F
    NAMESPACE_IS_WRITE_PROTECTED = 0x020
    COMMAND_INTERRUPTED = 0x021
    TRANSIENT_TRANSPORT_ERROR = 0x022
    ADMIN_COMMAND_MEDIA_NOT_READY = 0x024
    LBA_OUT_OF_RANGE = 0x080
    CAPACITY_EXCEEDED = 0x081
    NAMESPACE_NOT_READY = 0x082
    RESERVATION_CONFLICT = 0x083
    FORMAT_IN_PROGRESS = 0x084
    # SCT 1: command specific
    INVALID_QUEUE_IDENTIFIER = 0x101
    INVALID_QUEUE_SIZE = 0x102
    ABORT_COMMAND_LIMIT_EXCEEDED = 0x103
    ASYNCHRONOUS_EVENT_REQUEST_LIMIT_EXCEEDED = 0x105
    INVALID_LOG_PAGE = 0x109
    FEATURE_IDENTIFIER_NOT_SAVEABLE = 0x10D
    FEATURE_NOT_CHANGEABLE = 0x10E
    FEATURE_NOT_NAMESPACE_SPECIFIC = 0x10F
    # SCT 1, values 80h and above: fabrics commands and NVM commands share them
    CONNECT_INCOMPATIBLE_FORMAT = 0x180
    CONNECT_CONTROLLER_BUSY = 0x181
    CONNECT_INVALID_PARAMETERS = 0x182
    CONNECT_RESTART_DISCOVERY = 0x183
    CONNECT_INVALID_HOST = 0x184
    INVALID_QUEUE_TYPE = 0x185
    DISCOVER_RESTART = 0x190
    AUTHENTICATION_REQUIRED = 0x191
    # SCT 2: media and data integrity
    WRITE_FAULT = 0x280
    UNRECOVERED_READ_ERROR = 0x281
    COMPARE_FAILURE = 0x285
    ACCESS_DENIED = 0x286
    DEALLOCATED_OR_UNWRITTEN_LOGICAL_BLOCK = 0x287
    # SCT 3: path related
    INTERNAL_PATH_ERROR = 0x300
    ASYMMETRIC_ACCESS_PERSISTENT_LOSS = 0x301
    ASYMMETRIC_ACCESS_INACCESSIBLE = 0x302
    ASYMMETRIC_ACCESS_TRANSITION = 0x303
    CONTROLLER_PATHING_ERROR = 0x360
    HOST_PATHING_ERROR = 0x370
    COMMAND_ABORTED_BY_HOST = 0x371


@dataclass(frozen=True, slots=True)
class Status:
    """How a command ended. `code` is a `StatusCode` where the number is a known one."""

    code: int
    dnr: bool = False  # Do Not Retry
    crd: int = 0  # Command Retry Delay: 0 none, 1-3 names CRDT1-3 of Identify Controller
    more: bool = False  # the Error Information log has more about it

    @classmethod
    def decode(cls, field: int) -> "Status":
        """From the 15-bit status field, the phase tag already shifted out."""
        code = field & 0x7FF
        return cls(
            code=_KNOWN.get(code, code),
            dnr=bool(field & 0x4000),
            crd=field >> 11 & 0x3,
            more=bool(field & 0x2000),
        )

    def encode(self) -> int:
        """The 15-bit status field, without the phase tag."""
        return self.code & 0x7FF | (self.crd & 0x3) << 11 | self.more << 13 | self.dnr << 14

    @property
    def ok(self) -> bool:
        return self.code == 0

    @property
    def sct(self) -> int:
        return self.code >> 8 & 0x7

    @property
    def sc(self) -> int:
        return self.code & 0xFF

    @property
    def text(self) -> str:
        """Words for a person, such as 'LBA out of range (0/80h), do not retry'."""
        name = (
            self.code.name.replace("_", " ").capitalize() if isinstance(self.code, StatusCode) else "Status"
        )
        return f"{name} ({self.sct}/{self.sc:02X}h){', do not retry' if self.dnr else ''}"


_KNOWN = {int(code): code for code in StatusCode}

SUCCESS = Status(StatusCode.SUCCESSFUL_COMPLETION)


def do_not_retry(code: StatusCode) -> Status:
    """The status of a command that would fail in the same way again."""
    return Status(code, dnr=True)
