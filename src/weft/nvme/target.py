"""The controller's side of a connection."""

from dataclasses import dataclass
from typing import Final

from weft.nvme.command import Submission, decode_command
from weft.nvme.connection import RECEIVE_BUFFER_SIZE, Connection, readable, scratch, writable
from weft.nvme.cqe import Cqe
from weft.nvme.errors import FatalErrorStatus, LocalProtocolError, RemoteProtocolError
from weft.nvme.events import CommandReceived, CommandRejected, DataReceived, ICReqReceived, TargetEvent
from weft.nvme.fabrics import (
    AUTHREQ_ASCR,
    AUTHREQ_ATR,
    AuthenticationReceive,
    AuthenticationSend,
    Connect,
)
from weft.nvme.layout import BytesLike
from weft.nvme.pdu import (
    ALL_DIGESTS,
    MAXH2CDATA_MIN,
    PDA_MAX,
    R2T,
    C2HData,
    C2HTermReq,
    CapsuleCmd,
    CapsuleResp,
    Digests,
    H2CData,
    H2CTermReq,
    ICReq,
    ICResp,
    Pdu,
    PduType,
)
from weft.nvme.sqe import DataTransfer, InvalidCommand, SglDescriptor, SglType, decode_cid
from weft.nvme.state import Signal, State, next_state
from weft.nvme.status import SUCCESS, Status, StatusCode, do_not_retry
from weft.nvme.transfers import Transfers

MAXH2CDATA: Final = 131072
IN_CAPSULE_DATA_SIZE: Final = 8192  # bytes: what a host may send with fabrics and admin commands, unasked
MAX_COMMANDS: Final = 256

_SQHD_DISABLED: Final = 0xFFFF


@dataclass(slots=True)
class _Outstanding:
    """A command that was received and not answered yet."""

    transfer: DataTransfer = DataTransfer.NONE
    length: int = 0
    connect: Connect | None = None
    moved: int = 0  # bytes of data that were sent, or asked for
    ttag: int | None = None


class TargetConnection(Connection[TargetEvent]):
    """A host's connection, seen by the controller.

    `maxh2cdata`: bytes in one H2CData at most. `in_capsule_data_size`: bytes of data in a capsule at most (what
    IOCCSZ of Identify Controller promises, and 8192 for admin queues). `max_commands`: commands that may be
    outstanding, Asynchronous Event Requests included; a host that sends more breaks the protocol. What is buffered
    here is bounded by these: in-capsule data; all other data goes into buffers that the caller gives.
    """

    _INCOMING = frozenset({PduType.IC_REQ, PduType.H2C_TERM_REQ, PduType.CAPSULE_CMD, PduType.H2C_DATA})
    _TERM_REQ: type[H2CTermReq | C2HTermReq] = C2HTermReq

    def __init__(
        self,
        *,
        maxh2cdata: int = MAXH2CDATA,
        in_capsule_data_size: int = IN_CAPSULE_DATA_SIZE,
        max_commands: int = MAX_COMMANDS,
        allowed_digests: Digests = ALL_DIGESTS,
        receive_buffer_size: int = RECEIVE_BUFFER_SIZE,
    ) -> None:
        super().__init__(receive_buffer_size=receive_buffer_size)
        if maxh2cdata < MAXH2CDATA_MIN or maxh2cdata % 4:
            raise LocalProtocolError(
                f"MAXH2CDATA is a multiple of 4 from {MAXH2CDATA_MIN} on, not {maxh2cdata}."
            )
        self._maxh2cdata = maxh2cdata
        self._transfers = Transfers(maxh2cdata)
        self._in_capsule_data_size = in_capsule_data_size
        self._max_commands = max_commands
        self._allowed_digests = allowed_digests
        self._icreq: ICReq | None = None
        self._connect: Connect | None = None
        self._sqhd = 0
        self._outstanding: dict[int, _Outstanding] = {}

    @property
    def qid(self) -> int | None:
        """The queue that Connect bound this connection to; 0 is the admin queue, None before that."""
        return None if self._connect is None else self._connect.qid

    @property
    def outstanding(self) -> int:
        """Commands received and not answered."""
        return len(self._outstanding)

    def send_icresp(self) -> list[BytesLike]:
        """Accept the host's ICReq, with those of the digests it asked for that are allowed."""
        self._after(Signal.IC_RESP)
        assert self._icreq is not None  # noqa: S101  # the state says that it has come
        asked, allowed = self._icreq.digests, self._allowed_digests
        digests = Digests(header=asked.header and allowed.header, data=asked.data and allowed.data)
        buffers = self._encode(ICResp(digests=digests, maxh2cdata=self._maxh2cdata))
        self._send(Signal.IC_RESP)
        self._agree_on(digests, self._icreq.hpda)
        return buffers

    def request_data(self, cid: int, buffer: BytesLike) -> list[BytesLike]:
        """Ask for the next `len(buffer)` bytes of a command's data (an R2T); `DataReceived` follows when all are there.

        The bytes are received into `buffer` itself. One request at a time for a command.
        """
        command = self._command(cid, DataTransfer.HOST_TO_CONTROLLER)
        if command.ttag is not None:
            raise LocalProtocolError(f"Data of command {cid} is on its way already.")
        view = writable(buffer)
        if not 0 < len(view) <= command.length - command.moved:
            left = command.length - command.moved
            raise LocalProtocolError(f"Command {cid} has {left} bytes of data left, not {len(view)}.")
        self._send(Signal.DATA)
        ttag = command.ttag = self._transfers.begin(cid, command.moved, view)
        buffers = self._encode(R2T(cccid=cid, ttag=ttag, r2to=command.moved, r2tl=len(view)))
        command.moved += len(view)
        return buffers

    def send_data(self, cid: int, data: BytesLike, *, last: bool = True) -> list[BytesLike]:
        """Send the next part of a command's data to the host; `last` ends it, then comes `send_response`."""
        return self._send_c2h_data(cid, data, last=last, success=False)

    def send_data_and_response(self, cid: int, data: BytesLike) -> list[BytesLike]:
        """Send the rest of a command's data and complete it with success.

        Where the host has switched SQ flow control off, one PDU does both (the SUCCESS flag; NVMe/TCP 1.0, 3.3.2.2).
        """
        if self._connect is None or not self._connect.disable_sq_flow_control:
            return self._send_c2h_data(cid, data, last=True, success=False) + self.send_response(cid)
        buffers = self._send_c2h_data(cid, data, last=True, success=True)
        del self._outstanding[cid]
        return buffers

    def send_response(self, cid: int, status: Status = SUCCESS, result: int = 0) -> list[BytesLike]:
        """Complete a command.

        Success for Connect makes the connection ready, or waiting for `authenticated` if the result has AUTHREQ bits.
        """
        command = self._outstanding.get(cid)
        if command is None:
            raise LocalProtocolError(f"There is no command {cid} to answer.")
        if command.ttag is not None:
            raise LocalProtocolError(f"Command {cid} cannot be answered before the data asked for has come.")
        signal = _response_signal(command, status, result)
        self._after(signal)
        accepted = command.connect if signal is not Signal.CONNECT_REFUSED else None
        if accepted is not None:
            self._connect = accepted
        cqe = Cqe(cid=cid, status=status, result=result, sqhd=self._advance_sqhd(), sqid=self.qid or 0)
        buffers = self._encode(CapsuleResp(cqe=cqe.encode()))
        self._send(signal)
        del self._outstanding[cid]
        return buffers

    def authenticated(self) -> None:
        """The host has proven who it is: the connection is ready."""
        self._send(Signal.AUTHENTICATED)

    def _begin(self, pdu: Pdu, length: int) -> memoryview:
        self._check_direction(pdu)
        match pdu:
            case CapsuleCmd():
                self._begin_command(decode_cid(pdu.sqe), length)
                return scratch(length)
            case H2CData():
                self._receive(Signal.DATA)
                return self._transfers.room(pdu)
            case ICReq():
                self._receive(Signal.IC_REQ)
                _check_icreq(pdu)
            case _:
                pass
        return scratch(length)

    def _finish(self, pdu: Pdu, data: memoryview, *, data_digest_valid: bool) -> TargetEvent | None:
        match pdu:
            case CapsuleCmd():
                return self._finish_command(pdu.sqe, data, data_digest_valid=data_digest_valid)
            case H2CData():
                return self._finish_data(pdu, data_digest_valid=data_digest_valid)
            case ICReq():
                self._icreq = pdu
                return ICReqReceived(pdu)
            case _:
                return None

    def _begin_command(self, cid: int, length: int) -> None:
        if self._state is State.OPENED or self._state is State.INITIALIZING:
            raise RemoteProtocolError("A command came before ICResp.", FatalErrorStatus.PDU_SEQUENCE_ERROR)
        if length > self._in_capsule_data_size:
            raise RemoteProtocolError(
                f"A capsule has {length} bytes of data, and {self._in_capsule_data_size} are allowed.",
                FatalErrorStatus.INVALID_PDU_HEADER_FIELD,
                4,
            )
        if cid in self._outstanding:
            raise RemoteProtocolError(
                f"Command identifier {cid} is in use.", FatalErrorStatus.INVALID_PDU_HEADER_FIELD, 10
            )
        if len(self._outstanding) >= self._max_commands:
            raise RemoteProtocolError(
                f"More than {self._max_commands} commands are outstanding.",
                FatalErrorStatus.PDU_SEQUENCE_ERROR,
            )

    def _finish_command(self, sqe: bytes, data: memoryview, *, data_digest_valid: bool) -> TargetEvent:
        admin = self._connect is None or self._connect.qid == 0
        submission = decode_command(sqe, admin=admin)
        if isinstance(submission, InvalidCommand):
            return self._reject(submission.cid, submission.status, submission.result)
        if not data_digest_valid:
            return self._reject(submission.cid, Status(StatusCode.TRANSIENT_TRANSPORT_ERROR))
        refusal = _check_data_place(submission, data) or self._check_sequence(submission)
        if refusal is not None:
            return self._reject(submission.cid, do_not_retry(refusal))
        sgl, command = submission.sgl, submission.command
        inline = _in_capsule(sgl, data)
        self._outstanding[submission.cid] = _Outstanding(
            transfer=submission.transfer,
            length=sgl.length,
            connect=command if isinstance(command, Connect) else None,
            moved=0 if inline is None else sgl.length,
        )
        return CommandReceived(
            cid=submission.cid,
            command=command,
            transfer=submission.transfer,
            length=sgl.length,
            data=inline,
        )

    def _check_sequence(self, submission: Submission) -> StatusCode | None:
        match submission.command:
            case Connect():
                signal = Signal.CONNECT
            case AuthenticationSend() | AuthenticationReceive():
                signal = Signal.AUTHENTICATION
            case _:
                signal = Signal.COMMAND
        state = next_state(self._state, signal)
        if state is not None:
            self._state = state
            return None
        if self._state is State.AUTHENTICATING and signal is Signal.COMMAND:
            return StatusCode.AUTHENTICATION_REQUIRED
        return StatusCode.COMMAND_SEQUENCE_ERROR

    def _reject(self, cid: int, status: Status, result: int = 0) -> CommandRejected:
        self._outstanding[cid] = _Outstanding()
        return CommandRejected(cid=cid, status=status, result=result)

    def _finish_data(self, pdu: H2CData, *, data_digest_valid: bool) -> TargetEvent | None:
        transfer = self._transfers.received(pdu, data_digest_valid=data_digest_valid)
        if transfer is None:
            return None
        self._outstanding[transfer.cid].ttag = None
        if transfer.damaged:
            return CommandRejected(cid=transfer.cid, status=Status(StatusCode.TRANSIENT_TRANSPORT_ERROR))
        return DataReceived(cid=transfer.cid, offset=transfer.offset, data=transfer.buffer)

    def _send_c2h_data(self, cid: int, data: BytesLike, *, last: bool, success: bool) -> list[BytesLike]:
        command = self._command(cid, DataTransfer.CONTROLLER_TO_HOST)
        view = readable(data)
        if not 0 < len(view) <= command.length - command.moved:
            left = command.length - command.moved
            raise LocalProtocolError(
                f"The host has room for {left} more bytes of command {cid}, not {len(view)}."
            )
        self._send(Signal.DATA)
        pdu = C2HData(cccid=cid, datao=command.moved, datal=len(view), last=last, success=success)
        buffers = self._encode(pdu, view)
        command.moved += len(view)
        return buffers

    def _command(self, cid: int, transfer: DataTransfer) -> _Outstanding:
        command = self._outstanding.get(cid)
        if command is None or command.transfer is not transfer:
            raise LocalProtocolError(
                f"There is no command {cid} with data {transfer.name.replace('_', ' ').lower()}."
            )
        return command

    def _advance_sqhd(self) -> int:
        """Commands count as taken from the queue when they are answered, so that a host never has more than fit in it."""
        if self._connect is None:
            return 0
        if self._connect.disable_sq_flow_control:
            return _SQHD_DISABLED
        self._sqhd = (self._sqhd + 1) % (self._connect.sqsize + 1)
        return self._sqhd


def _response_signal(command: _Outstanding, status: Status, result: int) -> Signal:
    if command.connect is None:
        return Signal.RESPONSE
    if not status.ok:
        return Signal.CONNECT_REFUSED
    if result & (AUTHREQ_ATR | AUTHREQ_ASCR):
        return Signal.AUTHENTICATION_REQUIRED
    return Signal.CONNECT_ACCEPTED


def _check_icreq(icreq: ICReq) -> None:
    if icreq.pfv != 0:
        raise RemoteProtocolError(
            f"PDU format version {icreq.pfv} is not supported.", FatalErrorStatus.UNSUPPORTED_PARAMETER, 8
        )
    if icreq.hpda > PDA_MAX:
        raise RemoteProtocolError(
            f"HPDA {icreq.hpda} is more than {PDA_MAX}.", FatalErrorStatus.INVALID_PDU_HEADER_FIELD, 10
        )


def _check_data_place(submission: Submission, data: memoryview) -> StatusCode | None:
    """Whether SGL1 and what came in the capsule fit together."""
    sgl = submission.sgl
    if sgl.length and submission.transfer in {DataTransfer.NONE, DataTransfer.BIDIRECTIONAL}:
        return StatusCode.INVALID_FIELD_IN_COMMAND
    if sgl.length == 0 or sgl.sgl_type == SglType.TRANSPORT:
        return StatusCode.SGL_DESCRIPTOR_TYPE_INVALID if len(data) else None
    if submission.transfer is not DataTransfer.HOST_TO_CONTROLLER:
        return StatusCode.SGL_DESCRIPTOR_TYPE_INVALID
    if sgl.address + sgl.length > len(data):
        return (
            StatusCode.SGL_OFFSET_INVALID if sgl.address > len(data) else StatusCode.DATA_SGL_LENGTH_INVALID
        )
    return None


def _in_capsule(sgl: SglDescriptor, data: memoryview) -> memoryview | None:
    if sgl.sgl_type != SglType.DATA_BLOCK_OFFSET:
        return None
    return data[sgl.address : sgl.address + sgl.length]
