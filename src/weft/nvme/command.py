"""From a submission queue entry to a typed command and back.

Every command has `encode(cid, sgl) -> bytes` (64 bytes); `decode_command` is the other way.
"""

from dataclasses import dataclass
from typing import TypeAlias

from weft.nvme.admin import AdminCommand, decode_admin
from weft.nvme.fabrics import FabricsCommand, decode_fabrics
from weft.nvme.layout import BytesLike
from weft.nvme.nvm import NvmCommand, decode_nvm
from weft.nvme.sqe import (
    FABRICS_OPCODE,
    CommandError,
    DataTransfer,
    InvalidCommand,
    SglDescriptor,
    decode_cid,
    decode_sgl,
    refuse_fused,
    transfer_of,
)

Command: TypeAlias = FabricsCommand | AdminCommand | NvmCommand


@dataclass(frozen=True, slots=True)
class Submission:
    """A submission queue entry that was understood."""

    cid: int
    command: Command
    sgl: SglDescriptor
    transfer: DataTransfer


def decode_command(sqe: BytesLike, *, admin: bool) -> Submission | InvalidCommand:
    """Read an entry of 64 bytes from an admin queue or an I/O queue.

    What cannot be understood is never an exception, it is an answer to send.
    """
    try:
        if sqe[0] == FABRICS_OPCODE:
            command: Command = decode_fabrics(sqe)
        elif admin:
            command = decode_admin(sqe)
        else:
            command = decode_nvm(sqe)
        refuse_fused(sqe)
        return Submission(decode_cid(sqe), command, decode_sgl(sqe), transfer_of(sqe))
    except CommandError as error:
        return InvalidCommand(decode_cid(sqe), error.status, error.result)
