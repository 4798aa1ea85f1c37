"""Who broke the protocol. Anything else that leaves this package as an exception is a bug in it."""

from enum import IntEnum


class FatalErrorStatus(IntEnum):
    """Why a connection is being terminated: FES of H2CTermReq and C2HTermReq (NVMe/TCP 1.0, 3.6.2.3 and 3.6.2.4)."""

    INVALID_PDU_HEADER_FIELD = 0x01
    PDU_SEQUENCE_ERROR = 0x02
    HEADER_DIGEST_ERROR = 0x03
    DATA_TRANSFER_OUT_OF_RANGE = 0x04
    DATA_TRANSFER_LIMIT_EXCEEDED = 0x05  # towards the controller the same number says: R2T limit exceeded
    UNSUPPORTED_PARAMETER = 0x06


class ProtocolError(Exception):
    """The NVMe/TCP protocol was not kept."""


class LocalProtocolError(ProtocolError):
    """The caller asked for something that the protocol forbids now. Nothing changed."""


class RemoteProtocolError(ProtocolError):
    """The peer broke the protocol: send what `send_failed` of the connection gives, then close.

    `fes` and `fei` (its information, mostly the offset of the wrong field in the PDU) are what the peer will be
    told; `header` is as much of the offending PDU's header as has arrived.
    """

    def __init__(self, message: str, fes: FatalErrorStatus, fei: int = 0, header: bytes = b"") -> None:
        super().__init__(message)
        self.fes = fes
        self.fei = fei
        self.header = header
