"""What a volume can be made from: a snapshot or another volume, which stays as it is until the copy is done."""

from dataclasses import dataclass
from typing import Generic, TypeVar

from weft.control.rows import owned
from weft.control.status import view_snapshot, view_volume
from weft.errors import ConflictError, InvalidValueError
from weft.model import PoolId, Snapshot, SnapshotId, StateStatus, Status, Volume, VolumeId
from weft.ports import (
    ATTACHMENT_STATES,
    ATTACHMENTS,
    SNAPSHOT_STATES,
    SNAPSHOTS,
    VOLUME_STATES,
    VOLUMES,
    Key,
    Put,
    Revision,
    Row,
    Store,
    Table,
    Write,
)
from weft.requests import Caller, CreateVolumeRequest

_SourceT = TypeVar("_SourceT", Snapshot, Volume)


@dataclass(frozen=True, slots=True)
class Source(Generic[_SourceT]):
    """A source and its pool. Who makes a volume from it writes its row too, so that no other request can delete it
    at the same moment.
    """

    table: Table[_SourceT]
    row: Row[_SourceT]
    pool_id: PoolId

    @property
    def expected(self) -> dict[Key, Revision]:
        return {Key(self.table.name, self.row.value.id): self.row.revision}

    @property
    def touch(self) -> Write:
        return Put(self.table, self.row.value)


class Sources:
    def __init__(self, store: Store) -> None:
        self._store = store

    def of(self, caller: Caller, request: CreateVolumeRequest) -> "Source[Snapshot] | Source[Volume] | None":
        """What a volume is asked to be made from, None for an empty one.

        Raises InvalidValueError when it is unknown, another tenant's or larger than the volume, ConflictError when
        it cannot be copied now.
        """
        if request.snapshot_id is not None and request.source_volume_id is not None:
            raise InvalidValueError(
                "sourceVolumeId", "a volume is made from a snapshot or a volume, not both"
            )
        if request.snapshot_id is not None:
            return self._snapshot(caller, request.snapshot_id, request.size)
        if request.source_volume_id is not None:
            return self._volume(caller, request.source_volume_id, request.size)
        return None

    def refuse_while_copied(self, volume: Volume) -> None:
        """Raises ConflictError while another volume is being made from this one."""
        for copy in self._store.list(VOLUMES, where={"source_volume_id": volume.id}):
            if self.is_unmade(copy.value) and not copy.value.deleting:
                raise ConflictError(
                    f"volume {copy.value.name} is being made from volume {volume.name}; wait for it"
                )

    def is_unmade(self, volume: Volume) -> bool:
        """Whether a volume is still to be made, by all that is known."""
        state = self._store.get(VOLUME_STATES, volume.id)
        return state is None or (state.value.size == 0 and state.value.status is not StateStatus.ERROR)

    def _snapshot(self, caller: Caller, snapshot_id: SnapshotId, size: int) -> Source[Snapshot]:
        row = self._store.get(SNAPSHOTS, snapshot_id)
        if row is None or not (caller.is_admin or row.value.tenant_id == caller.tenant_id):
            raise InvalidValueError("snapshotId", f"snapshot {snapshot_id} can't be found")
        found = self._store.get(SNAPSHOT_STATES, snapshot_id)
        view = view_snapshot(row.value, found.value if found is not None else None)
        if view.status is not Status.AVAILABLE:
            raise ConflictError("only if the snapshot is available, the volume can be created")
        if view.size > size:
            raise InvalidValueError(
                "size", "size of volume must be equal to or bigger than size of the snapshot"
            )
        pool_id = owned(self._store, VOLUMES, caller, row.value.volume_id, "volume").value.pool_id
        return Source(SNAPSHOTS, row, pool_id)

    def _volume(self, caller: Caller, volume_id: VolumeId, size: int) -> Source[Volume]:
        row = self._store.get(VOLUMES, volume_id)
        if row is None or not (caller.is_admin or row.value.tenant_id == caller.tenant_id):
            raise InvalidValueError("sourceVolumeId", f"volume {volume_id} can't be found")
        state = self._store.get(VOLUME_STATES, volume_id)
        of_volume = {"volume_id": volume_id}
        states = {each.value.id: each.value for each in self._store.list(ATTACHMENT_STATES, where=of_volume)}
        attachments = [each.value for each in self._store.list(ATTACHMENTS, where=of_volume)]
        view = view_volume(
            row.value,
            state.value if state is not None else None,
            [(each, states.get(each.id)) for each in attachments],
        )
        if view.status not in {Status.AVAILABLE, Status.IN_USE}:
            raise ConflictError(
                f"volume {row.value.name} is {view.status}; it can be copied while it is available or inUse"
            )
        if view.size > size:
            raise InvalidValueError(
                "size", f"must be at least that of volume {row.value.name}, {view.size} bytes"
            )
        return Source(VOLUMES, row, row.value.pool_id)
