"""Snapshots: the verbs that write intent, and what a client sees of them."""

from dataclasses import replace

from weft.control.naming import check_metadata, rename
from weft.control.pools import Pools
from weft.control.rows import now, owned, owned_rows, retry_on_conflict
from weft.control.sources import Sources
from weft.control.status import is_settled, view_snapshot
from weft.control.volumes import Volumes
from weft.errors import ConflictError, InvalidValueError, NotFoundError
from weft.model import Snapshot, SnapshotId, Status, VolumeId
from weft.names import check_name, check_text, new_id
from weft.ports import (
    PROFILES,
    SNAPSHOT_STATES,
    SNAPSHOTS,
    VOLUME_STATES,
    VOLUMES,
    Key,
    Put,
    Revision,
    Row,
    Store,
)
from weft.requests import Caller, CreateSnapshotRequest, UpdateRequest
from weft.views import SnapshotView


class Snapshots:
    def __init__(self, store: Store, pools: Pools, volumes: Volumes) -> None:
        self._store = store
        self._pools = pools
        self._volumes = volumes
        self._sources = Sources(store)

    def create(self, caller: Caller, request: CreateSnapshotRequest) -> SnapshotView:
        """Book the room and write that the snapshot is wanted.

        Raises ConflictError when the volume is neither available nor in use, NoSpaceError when its pool has no room.
        """
        check_name("name", request.name)
        check_text("description", request.description)
        check_metadata(request.metadata)
        if request.profile_id is not None and self._store.get(PROFILES, request.profile_id) is None:
            raise InvalidValueError("profileId", f"profile {request.profile_id} can't be found")

        def attempt() -> SnapshotView:
            try:
                volume = self._volumes.row(caller, request.volume_id)
            except NotFoundError as error:
                raise InvalidValueError("volumeId", str(error)) from None
            view = self._volumes.view(volume.value)
            if view.status not in {Status.AVAILABLE, Status.IN_USE}:
                raise ConflictError(
                    "only if the status of the volume is available or inUse, the snapshot can be created;"
                    f" the volume status is {view.status}"
                )
            offer = self._pools.offer(volume.value.pool_id)
            offer.check_room(view.size, "the snapshot")
            snapshot = Snapshot(
                id=SnapshotId(new_id()),
                volume_id=volume.value.id,
                tenant_id=volume.value.tenant_id,
                user_id=caller.user_id,
                name=request.name,
                description=request.description,
                size=view.size,
                profile_id=request.profile_id or volume.value.profile_id,
                metadata=dict(request.metadata),
                created_at=now(),
            )
            self._store.transact(
                {
                    Key(SNAPSHOTS.name, snapshot.id): Revision(0),
                    Key(VOLUMES.name, volume.value.id): volume.revision,
                    **offer.expected,
                },
                [Put(SNAPSHOTS, snapshot), Put(VOLUMES, volume.value), offer.booking],
            )
            return view_snapshot(snapshot, None)

        return retry_on_conflict(attempt)

    def get(self, caller: Caller, snapshot_id: SnapshotId) -> SnapshotView:
        return self._view(self.row(caller, snapshot_id).value)

    def row(self, caller: Caller, snapshot_id: SnapshotId) -> Row[Snapshot]:
        return owned(self._store, SNAPSHOTS, caller, snapshot_id, "snapshot")

    def list(self, caller: Caller, volume_id: VolumeId | None = None) -> list[SnapshotView]:
        states = {row.value.id: row.value for row in self._store.list(SNAPSHOT_STATES)}
        return [
            view_snapshot(each, states.get(each.id))
            for each in owned_rows(self._store, SNAPSHOTS, caller)
            if volume_id in {None, each.volume_id}
        ]

    def update(self, caller: Caller, snapshot_id: SnapshotId, request: UpdateRequest) -> SnapshotView:
        return self._view(rename(self._store, SNAPSHOTS, lambda: self.row(caller, snapshot_id), request))

    def delete(self, caller: Caller, snapshot_id: SnapshotId) -> None:
        """Ask for deletion. Refused while a volume is made from the snapshot or reverted to it."""

        def attempt() -> None:
            row = self.row(caller, snapshot_id)
            view = self._view(row.value)
            if view.status is Status.DELETING:
                return
            if view.status not in {Status.CREATING, Status.AVAILABLE, Status.ERROR, Status.ERROR_DELETING}:
                raise ConflictError(
                    "only the snapshot with the status creating, available, error or errorDeleting can be deleted,"
                    f" the snapshot status is {view.status}"
                )
            volume = self._store.get(VOLUMES, row.value.volume_id)
            if volume is None:
                raise NotFoundError(f"volume {row.value.volume_id} of snapshot {snapshot_id} can't be found")
            self._refuse_while_read(volume.value.id, snapshot_id)
            changed = replace(row.value, deleting=True, generation=row.value.generation + 1, updated_at=now())
            self._store.transact(
                {
                    Key(SNAPSHOTS.name, snapshot_id): row.revision,
                    Key(VOLUMES.name, volume.value.id): volume.revision,
                },
                [Put(SNAPSHOTS, changed)],
            )

        retry_on_conflict(attempt)

    def is_settled(self, snapshot: Snapshot) -> bool:
        state = self._store.get(SNAPSHOT_STATES, snapshot.id)
        return is_settled(snapshot, state.value if state is not None else None)

    def _refuse_while_read(self, volume_id: VolumeId, snapshot_id: SnapshotId) -> None:
        volume = self._store.get(VOLUMES, volume_id)
        if volume is not None and volume.value.revert is not None:
            state = self._store.get(VOLUME_STATES, volume_id)
            reverted = state is not None and state.value.generation >= volume.value.revert.generation
            if volume.value.revert.snapshot_id == snapshot_id and not reverted:
                raise ConflictError(f"volume {volume.value.name} is being reverted to this snapshot")
        for made in self._store.list(VOLUMES, where={"source_snapshot_id": snapshot_id}):
            if self._sources.is_unmade(made.value) and not made.value.deleting:
                raise ConflictError(f"volume {made.value.name} is being made from this snapshot")

    def _view(self, snapshot: Snapshot) -> SnapshotView:
        state = self._store.get(SNAPSHOT_STATES, snapshot.id)
        return view_snapshot(snapshot, state.value if state is not None else None)
