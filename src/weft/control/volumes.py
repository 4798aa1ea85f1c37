"""Volumes: the verbs that write intent, and what a client sees of them."""

from collections import defaultdict
from dataclasses import replace

from weft.control.naming import check_metadata, rename
from weft.control.pools import Offer, Pools
from weft.control.profiles import Profiles
from weft.control.requirements import requirements
from weft.control.rows import now, owned, owned_rows, retry_on_conflict
from weft.control.schedule import PlacementRequest, choose
from weft.control.sources import Sources
from weft.control.status import is_settled, view_snapshot, view_volume
from weft.errors import ConflictError, InvalidValueError, NotFoundError
from weft.model import GIB, Profile, Revert, Snapshot, SnapshotId, Status, Volume, VolumeId
from weft.names import check_name, check_size, check_text, new_id
from weft.ports import (
    ATTACHMENT_STATES,
    ATTACHMENTS,
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
    Write,
)
from weft.requests import Caller, CreateVolumeRequest, UpdateRequest
from weft.views import VolumeView

_DELETABLE = frozenset(
    {Status.CREATING, Status.AVAILABLE, Status.ERROR, Status.ERROR_DELETING, Status.ERROR_EXTENDING}
)
"""Also `creating`, which OpenSDS refuses: a volume may wait for its pool for ever, and the node takes turns anyway."""


class Volumes:
    def __init__(self, store: Store, pools: Pools, profiles: Profiles) -> None:
        self._store = store
        self._pools = pools
        self._profiles = profiles
        self._sources = Sources(store)

    def create(self, caller: Caller, request: CreateVolumeRequest) -> VolumeView:
        """Choose a pool, book the room and write that the volume is wanted.

        Raises InvalidValueError, NoSpaceError when no pool has room, UnavailableError when one may have and cannot be
        used now, ConflictError when the snapshot it is to be made from is not available, or the volume neither available
        nor in use.
        """
        self._profiles.chosen(request.profile_id)
        check_name("name", request.name)
        check_text("description", request.description)
        check_size("size", request.size)
        check_metadata(request.metadata)
        if request.availability_zone is not None:
            check_name("availabilityZone", request.availability_zone)
        return retry_on_conflict(lambda: self._create(caller, request))

    def _create(self, caller: Caller, request: CreateVolumeRequest) -> VolumeView:
        profile = self._profiles.chosen(request.profile_id)
        source = self._sources.of(caller, request)
        if source is not None:
            if request.pool_id not in {None, source.pool_id}:
                raise InvalidValueError("poolId", "a copy is made in the pool of what it is a copy of")
            request = replace(request, pool_id=source.pool_id)
        placement = _placement(request, profile.value)
        offers = self._pools.offers()
        pool = choose([each.view for each in offers], placement).pool
        offer = next(each for each in offers if each.view.pool.id == pool.id)
        volume = Volume(
            id=VolumeId(new_id()),
            tenant_id=caller.tenant_id,
            user_id=caller.user_id,
            name=request.name,
            description=request.description,
            size=request.size,
            pool_id=pool.id,
            profile_id=profile.value.id,
            availability_zone=pool.availability_zone,
            multi_attach=placement.multi_attach,
            source_snapshot_id=request.snapshot_id,
            source_volume_id=request.source_volume_id,
            metadata=dict(request.metadata),
            created_at=now(),
        )
        expected = {
            Key(VOLUMES.name, volume.id): Revision(0),
            Key(PROFILES.name, profile.value.id): profile.revision,
            **offer.expected,
        }
        writes: list[Write] = [Put(VOLUMES, volume), Put(PROFILES, profile.value), offer.booking]
        if source is not None:
            expected |= source.expected
            writes.append(source.touch)
        self._store.transact(expected, writes)
        return view_volume(volume, None, ())

    def get(self, caller: Caller, volume_id: VolumeId) -> VolumeView:
        return self.view(self.row(caller, volume_id).value)

    def row(self, caller: Caller, volume_id: VolumeId) -> Row[Volume]:
        return owned(self._store, VOLUMES, caller, volume_id, "volume")

    def view(self, volume: Volume) -> VolumeView:
        state = self._store.get(VOLUME_STATES, volume.id)
        of_volume = {"volume_id": volume.id}
        states = {row.value.id: row.value for row in self._store.list(ATTACHMENT_STATES, where=of_volume)}
        attachments = [row.value for row in self._store.list(ATTACHMENTS, where=of_volume)]
        return view_volume(
            volume,
            state.value if state is not None else None,
            [(each, states.get(each.id)) for each in attachments],
        )

    def list(self, caller: Caller) -> list[VolumeView]:
        states = {row.value.id: row.value for row in self._store.list(VOLUME_STATES)}
        attachment_states = {row.value.id: row.value for row in self._store.list(ATTACHMENT_STATES)}
        attachments = defaultdict(list)
        for row in self._store.list(ATTACHMENTS):
            attachments[row.value.volume_id].append((row.value, attachment_states.get(row.value.id)))
        return [
            view_volume(volume, states.get(volume.id), attachments[volume.id])
            for volume in owned_rows(self._store, VOLUMES, caller)
        ]

    def update(self, caller: Caller, volume_id: VolumeId, request: UpdateRequest) -> VolumeView:
        """Rename or describe a volume, or merge metadata into what it has."""
        return self.view(rename(self._store, VOLUMES, lambda: self.row(caller, volume_id), request))

    def extend(self, caller: Caller, volume_id: VolumeId, size: int) -> VolumeView:
        """Ask for growth to size bytes, also while hosts use the volume."""
        check_size("newSize", size)

        def attempt() -> VolumeView:
            row = self.row(caller, volume_id)
            view = self.view(row.value)
            if view.status not in {Status.AVAILABLE, Status.IN_USE}:
                raise ConflictError(
                    "the status of the volume to be extended must be available or inUse;"
                    f" the volume status is {view.status}"
                )
            if size <= view.size:
                raise InvalidValueError(
                    "newSize",
                    "new size for extend must be greater than current size."
                    f"(current: {view.size // GIB} GB, extended: {size // GIB} GB).",
                )
            offer = self._pools.offer(row.value.pool_id)
            offer.check_room(size - view.size, "the growth")
            return self._change_intent(row, view, size=size, booked=offer)

        return retry_on_conflict(attempt)

    def revert(self, caller: Caller, volume_id: VolumeId, snapshot_id: SnapshotId) -> VolumeView:
        """Ask for the content of one of the volume's snapshots; only while no host uses the volume."""

        def attempt() -> VolumeView:
            row = self.row(caller, volume_id)
            view = self.view(row.value)
            if view.status is not Status.AVAILABLE:
                raise ConflictError(
                    f"volume {row.value.name} is {view.status}; it can be reverted while it is available: detach it"
                    " first, for a host would not notice that its data changes"
                )
            snapshot = self._store.get(SNAPSHOTS, snapshot_id)
            if snapshot is None or snapshot.value.volume_id != volume_id:
                raise NotFoundError(f"volume {row.value.name} has no snapshot {snapshot_id}")
            found = self._store.get(SNAPSHOT_STATES, snapshot_id)
            status = view_snapshot(snapshot.value, found.value if found is not None else None).status
            if status is not Status.AVAILABLE:
                raise ConflictError(f"snapshot {snapshot.value.name} is {status}")
            self._refuse_while_taking_snapshots(row.value)
            self._sources.refuse_while_copied(row.value)
            revert = Revert(snapshot_id=snapshot_id, generation=row.value.generation + 1)
            return self._change_intent(row, view, revert=revert, source=snapshot)

        return retry_on_conflict(attempt)

    def _refuse_while_taking_snapshots(self, volume: Volume) -> None:
        of_volume = {"volume_id": volume.id}
        states = {row.value.id: row.value for row in self._store.list(SNAPSHOT_STATES, where=of_volume)}
        for row in self._store.list(SNAPSHOTS, where=of_volume):
            if view_snapshot(row.value, states.get(row.value.id)).status is Status.CREATING:
                raise ConflictError(
                    f"snapshot {row.value.name} of volume {volume.name} is still being taken; revert after it"
                )

    def delete(self, caller: Caller, volume_id: VolumeId) -> None:
        """Ask for deletion. A volume that is being deleted already stays so."""

        def attempt() -> None:
            row = self.row(caller, volume_id)
            view = self.view(row.value)
            if view.status is Status.DELETING:
                return
            if self._store.list(ATTACHMENTS, where={"volume_id": volume_id}, limit=1):
                raise ConflictError(
                    f"volume {row.value.name} can not be deleted, because it's in use; detach it from its hosts first"
                )
            if self._store.list(SNAPSHOTS, where={"volume_id": volume_id}, limit=1):
                raise ConflictError(
                    f"volume {row.value.name} can not be deleted, because it still has snapshots;"
                    " delete them first"
                )
            self._sources.refuse_while_copied(row.value)
            if view.status not in _DELETABLE:
                raise ConflictError(
                    "only the volume with the status creating, available, error, errorDeleting or errorExtending can be"
                    f" deleted, the volume status is {view.status}"
                )
            self._change_intent(row, view, deleting=True)

        retry_on_conflict(attempt)

    def is_settled(self, volume: Volume) -> bool:
        """Whether the node has dealt with the volume's present intent."""
        state = self._store.get(VOLUME_STATES, volume.id)
        return is_settled(volume, state.value if state is not None else None)

    def _change_intent(
        self,
        row: Row[Volume],
        view: VolumeView,
        *,
        size: int | None = None,
        booked: Offer | None = None,
        revert: Revert | None = None,
        source: Row[Snapshot] | None = None,
        deleting: bool = False,
    ) -> VolumeView:
        """Write new intent. Growth that was refused before is not part of it, so size is what the volume has."""
        changed = replace(
            row.value,
            size=view.size if size is None else size,
            revert=revert or row.value.revert,
            deleting=deleting,
            generation=row.value.generation + 1,
            updated_at=now(),
        )
        expected = {Key(VOLUMES.name, changed.id): row.revision}
        writes: list[Write] = [Put(VOLUMES, changed)]
        if booked is not None:
            expected |= booked.expected
            writes.append(booked.booking)
        if source is not None:
            expected[Key(SNAPSHOTS.name, source.value.id)] = source.revision
        self._store.transact(expected, writes)
        return self.view(changed)


def _placement(request: CreateVolumeRequest, profile: Profile) -> PlacementRequest:
    wanted = requirements(profile.custom_properties)
    multi_attach = any(each.key == "multiAttach" and each.met_by({"multiAttach": "true"}) for each in wanted)
    return PlacementRequest(
        size=request.size,
        availability_zone=request.availability_zone or (None if request.pool_id else "default"),
        multi_attach=request.multi_attach or multi_attach,
        pool_id=request.pool_id,
        protocol=profile.access_protocol,
        requirements=tuple(each for each in wanted if each.key != "multiAttach"),
    )
