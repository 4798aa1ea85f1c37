"""The host's side of a connection."""

from dataclasses import dataclass
from typing import Final

from weft.nvme.command import Command
from weft.nvme.connection import RECEIVE_BUFFER_SIZE, Connection, readable, scratch, writable
from weft.nvme.cqe import Cqe
from weft.nvme.errors import FatalErrorStatus, LocalProtocolError, RemoteProtocolError
from weft.nvme.events import CommandCompleted, HostEvent, ICRespReceived, R2TReceived
from weft.nvme.fabrics import (
    AUTHREQ_ASCR,
    AUTHREQ_ATR,
    AuthenticationReceive,
    AuthenticationSend,
    Connect,
)
from weft.nvme.layout import BytesLike
from weft.nvme.pdu import (
    MAXH2CDATA_MIN,
    NO_DIGESTS,
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
from weft.nvme.sqe import NO_DATA, DataTransfer, by_transport, in_capsule, transfer_of
from weft.nvme.state import Signal
from weft.nvme.status import Status, StatusCode

IN_CAPSULE_DATA_SIZE: Final = 8192  # bytes, on admin queues; on I/O queues IOCCSZ * 16 - 64

_EMPTY: Final = memoryview(b"")


@dataclass(slots=True)
class _Outstanding:
    """A command that was sent and is not completed yet."""

    signal: Signal
    data: memoryview  # to the controller
    into: memoryview  # from the controller
    asked: int = 0  # bytes of data that R2Ts have asked for, or that went in the capsule
    sent: int = 0
    received: int = 0
    last_received: bool = False
    damaged: bool = False
    r2ts: int = 0  # not answered yet


class HostConnection(Connection[HostEvent]):
    """A connection to a controller, seen by the host.

    `in_capsule_data_size`: bytes of data that may travel in a capsule, 0 for none. Command identifiers are the
    caller's choice, each free again with `CommandCompleted`.
    """

    _INCOMING = frozenset(
        {PduType.IC_RESP, PduType.C2H_TERM_REQ, PduType.CAPSULE_RESP, PduType.C2H_DATA, PduType.R2T}
    )
    _TERM_REQ: type[H2CTermReq | C2HTermReq] = H2CTermReq

    def __init__(
        self,
        *,
        digests: Digests = NO_DIGESTS,
        in_capsule_data_size: int = IN_CAPSULE_DATA_SIZE,
        hpda: int = 0,
        maxr2t: int = 0,
        receive_buffer_size: int = RECEIVE_BUFFER_SIZE,
    ) -> None:
        super().__init__(receive_buffer_size=receive_buffer_size)
        if not 0 <= hpda <= PDA_MAX:
            raise LocalProtocolError(f"HPDA is 0 to {PDA_MAX}, not {hpda}.")
        self._icreq = ICReq(digests=digests, hpda=hpda, maxr2t=maxr2t)
        self._in_capsule_data_size = in_capsule_data_size
        self._maxh2cdata = MAXH2CDATA_MIN
        self._outstanding: dict[int, _Outstanding] = {}

    @property
    def maxh2cdata(self) -> int:
        """Bytes that one H2CData may carry, as ICResp said."""
        return self._maxh2cdata

    @property
    def outstanding(self) -> int:
        """Commands sent and not completed."""
        return len(self._outstanding)

    def send_icreq(self) -> list[BytesLike]:
        """Open the connection, with the digests given to the constructor; `ICRespReceived` follows."""
        self._send(Signal.IC_REQ)
        return self._encode(self._icreq)

    def send_command(
        self, cid: int, command: Command, *, data: BytesLike = b"", into: BytesLike = b""
    ) -> list[BytesLike]:
        """Send a command; `CommandCompleted` follows.

        `data` goes to the controller, in the capsule if it fits, else when the controller asks for it (`R2TReceived`);
        it must not change until the command has completed. Data from the controller is received straight into `into`.
        """
        if cid in self._outstanding:
            raise LocalProtocolError(f"Command identifier {cid} is in use.")
        signal = _command_signal(command)
        state = self._after(signal)
        outgoing, incoming = readable(data), writable(into) if len(into) else _EMPTY
        inline = 0 < len(outgoing) <= self._in_capsule_data_size
        if inline:
            sgl = in_capsule(len(outgoing))
        else:
            length = len(outgoing) or len(incoming)
            sgl = by_transport(length) if length else NO_DATA
        sqe = command.encode(cid, sgl)
        _check_transfer(transfer_of(sqe), outgoing, incoming)
        moved = len(outgoing) if inline else 0
        buffers = self._encode(CapsuleCmd(sqe=sqe), outgoing if inline else b"")
        self._outstanding[cid] = _Outstanding(signal, outgoing, incoming, asked=moved, sent=moved)
        self._state = state
        return buffers

    def send_data(self, r2t: R2TReceived) -> list[BytesLike]:
        """Send what the controller asked for, in H2CData PDUs of at most MAXH2CDATA bytes."""
        command = self._outstanding.get(r2t.cid)
        if command is None or command.r2ts == 0:
            raise LocalProtocolError(f"Command {r2t.cid} waits for no data.")
        self._send(Signal.DATA)
        buffers: list[BytesLike] = []
        end = r2t.offset + r2t.length
        for offset in range(r2t.offset, end, self._maxh2cdata):
            chunk = command.data[offset : min(offset + self._maxh2cdata, end)]
            last = offset + len(chunk) == end
            pdu = H2CData(cccid=r2t.cid, ttag=r2t.ttag, datao=offset, datal=len(chunk), last=last)
            buffers += self._encode(pdu, chunk)
        command.r2ts -= 1
        command.sent += r2t.length
        return buffers

    def authenticated(self) -> None:
        """The controller has accepted who we are: the connection is ready."""
        self._send(Signal.AUTHENTICATED)

    def _begin(self, pdu: Pdu, length: int) -> memoryview:
        self._check_direction(pdu)
        match pdu:
            case C2HData():
                return self._begin_data(pdu)
            case CapsuleResp():
                self._begin_response(Cqe.decode(pdu.cqe))
            case R2T():
                self._begin_r2t(pdu)
            case ICResp():
                self._receive(Signal.IC_RESP)
                self._check_icresp(pdu)
            case _:
                pass
        return scratch(length)

    def _finish(self, pdu: Pdu, data: memoryview, *, data_digest_valid: bool) -> HostEvent | None:
        match pdu:
            case C2HData():
                return self._finish_data(pdu, len(data), data_digest_valid=data_digest_valid)
            case CapsuleResp():
                cqe = Cqe.decode(pdu.cqe)
                return self._complete(cqe.cid, cqe.status, cqe.result)
            case R2T():
                return R2TReceived(cid=pdu.cccid, ttag=pdu.ttag, offset=pdu.r2to, length=pdu.r2tl)
            case ICResp():
                self._maxh2cdata = pdu.maxh2cdata
                self._agree_on(pdu.digests, pdu.cpda)
                return ICRespReceived(pdu)
            case _:
                return None

    def _check_icresp(self, icresp: ICResp) -> None:
        unsupported = FatalErrorStatus.UNSUPPORTED_PARAMETER
        if icresp.pfv != 0:
            raise RemoteProtocolError(f"PDU format version {icresp.pfv} is not supported.", unsupported, 8)
        if icresp.cpda > PDA_MAX:
            raise RemoteProtocolError(f"CPDA {icresp.cpda} is more than {PDA_MAX}.", unsupported, 10)
        if icresp.digests != self._icreq.digests:
            raise RemoteProtocolError("The controller does not agree on the digests.", unsupported, 11)
        if icresp.maxh2cdata < MAXH2CDATA_MIN or icresp.maxh2cdata % 4:
            raise RemoteProtocolError(
                f"MAXH2CDATA {icresp.maxh2cdata} is not a multiple of 4 from {MAXH2CDATA_MIN} on.",
                unsupported,
                12,
            )

    def _begin_data(self, pdu: C2HData) -> memoryview:
        self._receive(Signal.DATA)
        command = self._command(pdu.cccid, 8)
        end = pdu.datao + pdu.datal
        if pdu.datao != command.received or command.last_received:
            raise RemoteProtocolError(
                f"C2HData for command {pdu.cccid} has offset {pdu.datao}, out of order.",
                FatalErrorStatus.DATA_TRANSFER_OUT_OF_RANGE,
                12,
            )
        if end > len(command.into):
            raise RemoteProtocolError(
                f"C2HData for command {pdu.cccid} ends at {end}, behind its {len(command.into)} bytes.",
                FatalErrorStatus.DATA_TRANSFER_OUT_OF_RANGE,
                16,
            )
        if pdu.success and not pdu.last:
            raise RemoteProtocolError(
                "C2HData has SUCCESS without LAST_PDU.", FatalErrorStatus.INVALID_PDU_HEADER_FIELD, 1
            )
        if pdu.success and command.signal is Signal.CONNECT:
            raise RemoteProtocolError("Connect needs a response.", FatalErrorStatus.PDU_SEQUENCE_ERROR)
        return command.into[pdu.datao : end]

    def _finish_data(self, pdu: C2HData, length: int, *, data_digest_valid: bool) -> HostEvent | None:
        command = self._outstanding[pdu.cccid]
        command.received += length
        command.last_received = pdu.last
        command.damaged |= not data_digest_valid
        if pdu.success:
            return self._complete(pdu.cccid, Status(StatusCode.SUCCESSFUL_COMPLETION), 0)
        return None

    def _begin_r2t(self, pdu: R2T) -> None:
        self._receive(Signal.DATA)
        command = self._command(pdu.cccid, 8)
        if pdu.r2tl == 0:
            raise RemoteProtocolError("R2T asks for nothing.", FatalErrorStatus.INVALID_PDU_HEADER_FIELD, 16)
        if pdu.r2to < command.asked or pdu.r2to + pdu.r2tl > len(command.data):
            raise RemoteProtocolError(
                f"R2T asks for bytes {pdu.r2to} to {pdu.r2to + pdu.r2tl} of command {pdu.cccid},"
                f" of which {command.asked} to {len(command.data)} are left.",
                FatalErrorStatus.DATA_TRANSFER_OUT_OF_RANGE,
                12,
            )
        if command.r2ts > self._icreq.maxr2t:
            raise RemoteProtocolError(
                f"More than {self._icreq.maxr2t + 1} R2Ts are outstanding for command {pdu.cccid}.",
                FatalErrorStatus.DATA_TRANSFER_LIMIT_EXCEEDED,
            )
        command.r2ts += 1
        command.asked = pdu.r2to + pdu.r2tl

    def _begin_response(self, cqe: Cqe) -> None:
        command = self._command(cqe.cid, 20)
        if command.signal is not Signal.CONNECT:
            self._receive(Signal.RESPONSE)
        elif not cqe.status.ok:
            self._receive(Signal.CONNECT_REFUSED)
        elif cqe.result & (AUTHREQ_ATR | AUTHREQ_ASCR):
            self._receive(Signal.AUTHENTICATION_REQUIRED)
        else:
            self._receive(Signal.CONNECT_ACCEPTED)

    def _complete(self, cid: int, status: Status, result: int) -> CommandCompleted:
        command = self._outstanding.pop(cid)
        if status.ok and command.damaged:
            status = Status(StatusCode.TRANSIENT_TRANSPORT_ERROR)
        elif status.ok and (command.received < len(command.into) or command.sent < len(command.data)):
            status = Status(StatusCode.DATA_TRANSFER_ERROR)
        return CommandCompleted(cid=cid, status=status, result=result, received=command.received)

    def _command(self, cid: int, offset: int) -> _Outstanding:
        command = self._outstanding.get(cid)
        if command is None:
            raise RemoteProtocolError(
                f"No command has the identifier {cid}.", FatalErrorStatus.INVALID_PDU_HEADER_FIELD, offset
            )
        return command


def _command_signal(command: Command) -> Signal:
    match command:
        case Connect():
            return Signal.CONNECT
        case AuthenticationSend() | AuthenticationReceive():
            return Signal.AUTHENTICATION
        case _:
            return Signal.COMMAND


def _check_transfer(transfer: DataTransfer, data: memoryview, into: memoryview) -> None:
    if (len(data) and transfer is not DataTransfer.HOST_TO_CONTROLLER) or (
        len(into) and transfer is not DataTransfer.CONTROLLER_TO_HOST
    ):
        raise LocalProtocolError("The command's data does not go in this direction.")
