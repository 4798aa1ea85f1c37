"""The data that R2Ts have asked a host for, and whether what it sends is that."""

from dataclasses import dataclass

from weft.nvme.errors import FatalErrorStatus, RemoteProtocolError
from weft.nvme.pdu import H2CData


@dataclass(slots=True)
class Transfer:
    """What one R2T asked for: the bytes of command cid from offset on. damaged: a data digest was wrong."""

    cid: int
    offset: int
    buffer: memoryview
    filled: int = 0
    damaged: bool = False


class Transfers:
    """Those of a connection that are not all there yet. maxh2cdata: bytes in one H2CData at most."""

    def __init__(self, maxh2cdata: int) -> None:
        self._maxh2cdata = maxh2cdata
        self._by_ttag: dict[int, Transfer] = {}
        self._next_ttag = 0

    def begin(self, cid: int, offset: int, buffer: memoryview) -> int:
        """Expect as many bytes as buffer has; returns the transfer tag for the R2T."""
        ttag = self._free_ttag()
        self._by_ttag[ttag] = Transfer(cid, offset, buffer)
        return ttag

    def room(self, pdu: H2CData) -> memoryview:
        """Where the PDU's data goes. Raises RemoteProtocolError when it is not what is to come next."""
        transfer = self._by_ttag.get(pdu.ttag)
        if transfer is None:
            raise _error(f"no R2T has the tag {pdu.ttag}", FatalErrorStatus.INVALID_PDU_HEADER_FIELD, 10)
        if transfer.cid != pdu.cccid:
            raise _error(
                f"tag {pdu.ttag} is not of command {pdu.cccid}", FatalErrorStatus.INVALID_PDU_HEADER_FIELD, 8
            )
        if pdu.datal > self._maxh2cdata:
            raise _error(
                f"{pdu.datal} bytes are more than MAXH2CDATA",
                FatalErrorStatus.DATA_TRANSFER_LIMIT_EXCEEDED,
                16,
            )
        end = transfer.filled + pdu.datal
        if pdu.datao != transfer.offset + transfer.filled:
            raise _error(
                f"offset {pdu.datao} is out of order", FatalErrorStatus.DATA_TRANSFER_OUT_OF_RANGE, 12
            )
        if end > len(transfer.buffer):
            raise _error("it is more than R2T asked for", FatalErrorStatus.DATA_TRANSFER_OUT_OF_RANGE, 16)
        if pdu.last != (end == len(transfer.buffer)):
            raise _error("LAST_PDU is wrong", FatalErrorStatus.INVALID_PDU_HEADER_FIELD, 1)
        return transfer.buffer[transfer.filled : end]

    def received(self, pdu: H2CData, *, data_digest_valid: bool) -> Transfer | None:
        """Count data that has come into its room; the whole transfer when this was the last of it."""
        transfer = self._by_ttag[pdu.ttag]
        transfer.filled += pdu.datal
        transfer.damaged |= not data_digest_valid
        return self._by_ttag.pop(pdu.ttag) if pdu.last else None

    def _free_ttag(self) -> int:
        while self._next_ttag in self._by_ttag:
            self._next_ttag = (self._next_ttag + 1) & 0xFFFF
        ttag = self._next_ttag
        self._next_ttag = (ttag + 1) & 0xFFFF
        return ttag


def _error(why: str, fes: FatalErrorStatus, fei: int) -> RemoteProtocolError:
    return RemoteProtocolError(f"H2CData was refused: {why}.", fes, fei)
