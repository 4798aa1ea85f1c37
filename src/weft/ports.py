"""The four doors behind which implementations stand.

Every verb is idempotent: done twice is done once, and a half-done one is completed or undone by doing it again.
All of them may raise the errors of weft.errors and nothing else that a caller needs to know.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, NamedTuple, NewType, Protocol, TypeVar

from weft.connection import AttachmentState, Connection
from weft.model import (
    Attachment,
    Capacity,
    Claim,
    Export,
    FoundExport,
    FoundSnapshot,
    FoundVolume,
    Host,
    HostId,
    HostIdentity,
    HostSecrets,
    Initiator,
    Pool,
    PoolState,
    Profile,
    Refusal,
    Snapshot,
    SnapshotId,
    SnapshotState,
    Volume,
    VolumeId,
    VolumeState,
)
from weft.tokens import Token

Revision = NewType("Revision", int)
"""Where in the history of the store a row was last written. Grows with every transaction; 0 is before the first."""

RowT = TypeVar("RowT")
RowT_co = TypeVar("RowT_co", covariant=True)


class VolumeDriver(Protocol):
    """Makes the bytes. One per pool."""

    def capacity(self) -> Capacity: ...

    def volume(self, volume_id: VolumeId) -> FoundVolume | None:
        """One volume, cheaply; a volume is only found once its content is complete."""

    def volumes(self) -> Mapping[VolumeId, FoundVolume]: ...

    def create(self, volume: Volume, source: Snapshot | Volume | None = None) -> None:
        """Make the volume at volume.size: zeroes, or the content of source followed by zeroes.

        A source that is a volume is taken as of one moment, also while hosts write to it.
        """

    def extend(self, volume: Volume) -> None:
        """Grow the volume to volume.size; a volume of that size or larger stays as it is."""

    def delete(self, volume: Volume) -> None: ...

    def snapshot(self, snapshot: Snapshot) -> None:
        """Keep the volume's content of this moment, also while hosts write to it."""

    def snapshots(self, volume_id: VolumeId) -> Mapping[SnapshotId, FoundSnapshot]: ...

    def delete_snapshot(self, snapshot: Snapshot) -> None: ...

    def revert(self, volume: Volume, snapshot: Snapshot) -> None:
        """Give the volume the snapshot's content again, at the volume's present size or larger, never smaller."""

    def path(self, volume: Volume) -> Path:
        """Where the volume's bytes are; derived from ids alone, never from what a client wrote."""


class Target(Protocol):
    """Shows the bytes to hosts. One per protocol on a node."""

    def create_export(self, export: Export) -> Mapping[HostId, Connection]:
        """Make it exactly so for all hosts of the volume, and tell what each needs to reach it.

        A host that is no longer named has its live sessions ended before this returns; the others notice nothing.
        """

    def remove_export(self, volume_id: VolumeId) -> None: ...

    def export(self, volume_id: VolumeId) -> FoundExport | None:
        """The export as it is, half-made and unbound portals included."""

    def exports(self) -> Mapping[VolumeId, FoundExport]: ...

    def expect(self, volume_ids: frozenset[VolumeId]) -> None:
        """Tell, before the first create_export after a start, which volumes hosts may be waiting for.

        A target that has forgotten its exports opens no portal before it has these again, or the configured time is
        over: a host that is turned away by a portal that listens loses its device for good.
        """

    def awaits(self, volume_id: VolumeId) -> bool:
        """Whether portals stay closed for the sake of this volume, see expect()."""

    def restore(self, exports: Sequence[Export]) -> None:
        """Make all of these at once of which there is nothing, as after a restart of the machine.

        For speed alone: what is there in part, or cannot be made, is left as it is for create_export, which tells why.
        """

    def refusals(self, volume_id: VolumeId) -> Sequence[Refusal]:
        """Hosts that were turned away from the volume lately, the last first, each once."""


class AttachedVolume(Protocol):
    """A volume that is attached to this host: where its device or file is, and by which connection."""

    @property
    def volume_id(self) -> VolumeId: ...

    @property
    def path(self) -> Path: ...

    @property
    def connection(self) -> Connection: ...


class Connector(Protocol):
    """Turns a connection into a device. One per protocol on a host."""

    def initiator(self) -> Initiator:
        """Who this host is."""

    def identity(self) -> HostIdentity:
        """This host's NQN and identifier; made once if there were none."""

    def missing(self) -> str | None:
        """Why attach cannot work here, as a clause for a person; None if nothing is in the way."""

    def attached(self) -> Sequence[AttachedVolume]:
        """What is attached to this host through this connector and can be used."""

    def abandoned(self) -> Sequence[AttachedVolume]:
        """What was attached and cannot be used any more; attach makes it anew, detach clears it away."""

    def attach(self, connection: Connection) -> Path: ...

    def extend(self, connection: Connection) -> int:
        """Have growth seen on every path; returns the size now seen, in bytes."""

    def detach(self, connection: Connection, *, force: bool = False) -> None:
        """Flush, disconnect and wait until the device is gone; in doubt an error. force: for a dead target."""


@dataclass(frozen=True, slots=True)
class Table(Generic[RowT_co]):
    """Names a kind of row. Rows are frozen dataclasses with a string field `id`."""

    name: str
    row: type[RowT_co]


VOLUMES = Table("volumes", Volume)
VOLUME_STATES = Table("volume_states", VolumeState)
SNAPSHOTS = Table("snapshots", Snapshot)
SNAPSHOT_STATES = Table("snapshot_states", SnapshotState)
ATTACHMENTS = Table("attachments", Attachment)
ATTACHMENT_STATES = Table("attachment_states", AttachmentState)
HOSTS = Table("hosts", Host)
HOST_SECRETS = Table("host_secrets", HostSecrets)
PROFILES = Table("profiles", Profile)
CLAIMS = Table("claims", Claim)
TOKENS = Table("tokens", Token)
POOLS = Table("pools", Pool)
POOL_STATES = Table("pool_states", PoolState)


@dataclass(frozen=True, slots=True)
class Key:
    table: str
    id: str


class Row(NamedTuple, Generic[RowT_co]):
    """A tuple, which is made the fastest: thousands are read before the first export is back after a restart."""

    value: RowT_co
    revision: Revision


@dataclass(frozen=True, slots=True)
class Put(Generic[RowT_co]):
    """Write a row, new or not."""

    table: Table[RowT_co]
    value: RowT_co


@dataclass(frozen=True, slots=True)
class Delete:
    """Remove a row; one that is not there stays so."""

    key: Key


Write = Put[object] | Delete


@dataclass(frozen=True, slots=True)
class Changes:
    """What was written up to revision. keys is None when the store no longer knows: look at everything."""

    revision: Revision
    keys: frozenset[Key] | None


class Store(Protocol):
    """Where intent and findings live, row by row."""

    def get(self, table: Table[RowT], row_id: str) -> Row[RowT] | None: ...

    def list(
        self,
        table: Table[RowT],
        *,
        where: Mapping[str, str | int | bool | None] | None = None,
        order_by: str | None = None,
        descending: bool = False,
        limit: int | None = None,
        offset: int = 0,
    ) -> list[Row[RowT]]:
        """Rows whose fields equal all of where, ordered by a field, or by id."""

    def transact(self, expected: Mapping[Key, Revision], writes: Sequence[Write]) -> Revision:
        """Write several rows, all or none, if every expected row still has its revision (0: does not exist).

        Raises RevisionConflictError, and writes nothing, when one has not.
        """

    def revision(self) -> Revision:
        """The revision of the newest transaction."""

    def watch(self, since: Revision, timeout: float) -> Changes:
        """Wait up to timeout seconds for writes after since; no change gives the same revision and no keys."""

    def close(self) -> None: ...
