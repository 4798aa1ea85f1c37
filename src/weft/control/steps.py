"""The words that planning is done in: what is wanted, what is found, the steps between them, what came of them."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from weft.connection import AttachmentState, Connection
from weft.errors import WeftError
from weft.model import (
    Attachment,
    DhChapSecrets,
    ExportHost,
    FoundExport,
    FoundSnapshot,
    FoundVolume,
    Host,
    HostId,
    Pool,
    Snapshot,
    SnapshotId,
    SnapshotState,
    Volume,
    VolumeId,
    VolumeState,
)


@dataclass(frozen=True, slots=True)
class WantedSnapshot:
    snapshot: Snapshot
    state: SnapshotState | None


@dataclass(frozen=True, slots=True)
class WantedAttachment:
    attachment: Attachment
    state: AttachmentState | None
    host: Host | None
    secrets: DhChapSecrets | None = None

    @property
    def export_host(self) -> ExportHost | None:
        """The host as an export names it; None when it has no identity for the attachment's protocol."""
        initiator = self.host.initiator(self.attachment.protocol) if self.host is not None else None
        if initiator is None:
            return None
        return ExportHost(host_id=self.attachment.host_id, initiator=initiator, secrets=self.secrets)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """All that the store says about one volume. source is what it is made from."""

    volume: Volume
    pool: Pool | None = None
    state: VolumeState | None = None
    source: Snapshot | Volume | None = None
    snapshots: tuple[WantedSnapshot, ...] = ()
    attachments: tuple[WantedAttachment, ...] = ()

    @property
    def is_settled(self) -> bool:
        """Whether the node has dealt with the volume's present intent, whatever came of it."""
        return self.state is not None and self.state.generation == self.volume.generation

    @property
    def was_made(self) -> bool:
        """Whether the volume's bytes existed once."""
        return self.state is not None and self.state.size > 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """All that the driver and the target say about one volume."""

    volume: FoundVolume | None = None
    snapshots: Mapping[SnapshotId, FoundSnapshot] = field(default_factory=dict)
    export: FoundExport | None = None


@dataclass(frozen=True, slots=True)
class CreateVolume:
    volume: Volume
    source: Snapshot | Volume | None


@dataclass(frozen=True, slots=True)
class ExtendVolume:
    volume: Volume


@dataclass(frozen=True, slots=True)
class RevertVolume:
    volume: Volume
    snapshot_id: SnapshotId


@dataclass(frozen=True, slots=True)
class DeleteVolume:
    volume: Volume


@dataclass(frozen=True, slots=True)
class TakeSnapshot:
    snapshot: Snapshot


@dataclass(frozen=True, slots=True)
class DeleteSnapshot:
    snapshot: Snapshot


@dataclass(frozen=True, slots=True)
class MakeExport:
    volume_id: VolumeId
    hosts: tuple[ExportHost, ...]


@dataclass(frozen=True, slots=True)
class RemoveExport:
    volume_id: VolumeId


DataStep = CreateVolume | ExtendVolume | RevertVolume | DeleteVolume | TakeSnapshot | DeleteSnapshot
ExportStep = MakeExport | RemoveExport
Step = DataStep | ExportStep


@dataclass(frozen=True, slots=True)
class Failure:
    step: Step
    error: WeftError


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of a pass: the steps that succeeded, those that failed and why, and the connections made.

    left: the steps that were not tried, because others failed or because their turn has not come.
    """

    done: tuple[Step, ...] = ()
    failed: tuple[Failure, ...] = ()
    left: tuple[Step, ...] = ()
    connections: Mapping[HostId, Connection] = field(default_factory=dict)

    def failure(self, *kinds: type[Step]) -> Failure | None:
        """The first failure of a step of one of these kinds."""
        return next((each for each in self.failed if isinstance(each.step, kinds)), None)
