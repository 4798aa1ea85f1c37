"""Resources as a client sees them: what is wanted and what was found, put together.

The service makes them, weft.wire writes and reads them, weft.client returns them. Sizes are bytes.
"""

from dataclasses import dataclass, field
from datetime import datetime

from weft.connection import Connection
from weft.model import (
    Attachment,
    HostId,
    Pool,
    RefusalReason,
    Snapshot,
    StateStatus,
    Status,
    TenantId,
    Volume,
    VolumeId,
)
from weft.tokens import TokenId, TokenScope


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeView:
    """size is what the volume has now; volume.size what was asked for. reason says what went wrong last."""

    volume: Volume
    status: Status
    size: int
    path: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotView:
    snapshot: Snapshot
    status: Status
    size: int
    path: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class AttachmentView:
    """connection is there once the host can use the volume."""

    attachment: Attachment
    status: Status
    connection: Connection | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolView:
    """total and free are bytes of real storage, booked the bytes promised to volumes and snapshots."""

    pool: Pool
    status: StateStatus
    total: int
    free: int
    booked: int
    reason: str = ""

    @property
    def room(self) -> int:
        """Bytes that can still be promised."""
        return max(0, int(self.total * self.pool.over_commit) - self.booked)


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenView:
    """A token as it is told: without what could be used or compared.

    What opens the API without having been made by name (the unix socket, the file `token`) has neither id, name nor
    creation time.
    """

    id: TokenId
    name: str
    scope: TokenScope
    tenant_id: TenantId
    created_at: datetime | None = None
    expires_at: datetime | None = None
    host_id: HostId | None = None
    host_name: str = ""
    host_nqn: str = ""


@dataclass(frozen=True, slots=True)
class NewToken:
    """text is what the holder shows; it exists nowhere else."""

    token: TokenView
    text: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusalView:
    """That a host was turned away from a volume, age seconds ago by the node's clock, and a sentence on why.

    at and age are None for what only the rows say: that host is not let in, whether it has tried or not.
    """

    volume_id: VolumeId
    initiator: str
    reason: RefusalReason
    message: str
    at: datetime | None = None
    age: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldKeys:
    """By which keys a host must authenticate: its own, and, for both ways, the controller's too."""

    host_key: bool
    controller_key: bool
