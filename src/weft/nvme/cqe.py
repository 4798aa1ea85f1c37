"""The completion queue entry (Base 2.0, 3.3.3.2)."""

import struct
from dataclasses import dataclass
from typing import Final

from weft.nvme.layout import BytesLike, pack
from weft.nvme.status import SUCCESS, Status

CQE_SIZE: Final = 16
_CQE: Final = struct.Struct("<QHHHH")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cqe:
    """How a command ended. `result` is DW0 (low half) and DW1 together."""

    cid: int
    status: Status = SUCCESS
    result: int = 0
    sqhd: int = 0
    sqid: int = 0

    def encode(self) -> bytes:
        return pack(_CQE, self.result, self.sqhd, self.sqid, self.cid, self.status.encode() << 1)

    @classmethod
    def decode(cls, cqe: BytesLike) -> "Cqe":
        result, sqhd, sqid, cid, status = _CQE.unpack_from(cqe)
        return cls(cid=cid, status=Status.decode(status >> 1), result=result, sqhd=sqhd, sqid=sqid)
