"""What a connection tells its owner. Match on the type; do not subclass."""

from dataclasses import dataclass
from typing import TypeAlias

from weft.nvme.command import Command
from weft.nvme.pdu import ICReq, ICResp
from weft.nvme.sqe import DataTransfer
from weft.nvme.status import Status

# Both sides


@dataclass(frozen=True, slots=True, kw_only=True)
class TermReqReceived:
    """The peer found fault with what was sent to it, and ends the connection: close it."""

    fes: int
    fei: int
    header: bytes  # of the PDU that it complains about


@dataclass(frozen=True, slots=True)
class ConnectionClosed:
    """The peer sends no more. A PDU that it had not finished is forgotten."""


# The target's side


@dataclass(frozen=True, slots=True)
class ICReqReceived:
    """A host opens the connection: answer with `send_icresp`."""

    icreq: ICReq


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandReceived:
    """A command to carry out and to answer, once, under its `cid`.

    `length` is how many bytes of data the host means to move in the direction `transfer`. For data from the host,
    `data` holds them if they came in the capsule (writable, and the owner's to keep); with None and a `length`
    above 0, fetch them by `request_data`.
    """

    cid: int
    command: Command
    transfer: DataTransfer
    length: int
    data: memoryview | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandRejected:
    """A command that could not be understood, is not allowed now, or whose data came damaged: answer it with `status`."""

    cid: int
    status: Status
    result: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class DataReceived:
    """The buffer given to `request_data` is full."""

    cid: int
    offset: int  # in the command's data, bytes
    data: memoryview


TargetEvent: TypeAlias = (
    ICReqReceived | CommandReceived | CommandRejected | DataReceived | TermReqReceived | ConnectionClosed
)

# The host's side


@dataclass(frozen=True, slots=True)
class ICRespReceived:
    """The connection is open: send Connect."""

    icresp: ICResp


@dataclass(frozen=True, slots=True, kw_only=True)
class R2TReceived:
    """The controller is ready for a part of a command's data: pass this to `send_data`."""

    cid: int
    ttag: int
    offset: int  # in the command's data, bytes
    length: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandCompleted:
    """A command ended; its cid is free again. Behind Connect, look at the connection's state: authentication may be due.

    `received` bytes of its data have come. If not all came (or went) though the controller reported success, or if
    they came damaged, the status says Data Transfer Error or Transient Transport Error.
    """

    cid: int
    status: Status
    result: int
    received: int = 0


HostEvent: TypeAlias = ICRespReceived | R2TReceived | CommandCompleted | TermReqReceived | ConnectionClosed
