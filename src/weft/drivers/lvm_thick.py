"""Volumes that have all their room from the start, in a volume group of plain logical volumes.

Nobody reads what others have written, whoever used the disks before: the room of a volume, and of its growth, is
zeroed under another name before the volume has it. And nothing that a tenant has written stays: what is deleted gets
a tombstone's name, is zeroed, and only then gives its room back. Both take their time, and both go on where the row
that asks for them is looked at again; see docs/decisions/0012-thick-volumes-are-zeroed-twice.md.

Snapshots are LVM's COW snapshots, with room for the whole volume, so that none can overflow.
"""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from weft.drivers.block_device import fill, make_alike, zero
from weft.drivers.described import describe_source
from weft.drivers.lvm_base import LvmDriver, check_ids, check_is_of, check_source
from weft.drivers.lvm_group import VolumeGroup
from weft.drivers.lvm_names import (
    copy_name,
    deleted_name,
    new_name,
    snapshot_name,
    volume_name,
    volume_tag,
)
from weft.drivers.lvm_report import LogicalVolume
from weft.errors import ConflictError, DataError, InvalidValueError, UnavailableError
from weft.model import Capacity, FoundSnapshot, Snapshot, SnapshotId, Volume, VolumeId

_TOMBSTONE = deleted_name("weft-")


class ThickDriver(LvmDriver):
    """The VolumeDriver of a volume group without a thin pool.

    Opening it finds the group and activates the volumes. Raises UnavailableError when there is no such group.
    progress is told the id of what is being made or wiped, and may raise to end it for now.
    """

    def __init__(
        self,
        group: VolumeGroup,
        *,
        pool: str,
        progress: Callable[[str, int, int], None],
        system: Path = Path("/"),
    ) -> None:
        super().__init__(group, pool=pool, system=system)
        self._progress = progress
        group.find_devices()
        self.volumes()

    # -- the door ---------------------------------------------------------------------------------------------

    def capacity(self) -> Capacity:
        """What weft's logical volumes have and what the group has free; others in the group are not counted."""
        taken = sum(each.size for each in self._ours(self._group.report('lv_name=~"^weft-"')).values())
        free = self._group.size().free
        return Capacity(total=taken + free, free=free)

    def create(self, volume: Volume, source: Snapshot | Volume | None = None) -> None:
        """See the door. A complete volume is kept as it is, whatever size and source are asked for.

        Of a source that is a volume a snapshot is taken, for as long as the copy takes.

        Raises NotFoundError when source is not there, DataError when it has lost its content, InvalidValueError
        when it is larger than the volume, and NoSpaceError; none of them leaves anything behind.
        """
        name = volume_name(volume.id)
        check_source(source)
        found = self._report_of(volume.id, *([source.id] if source is not None else []))
        if name in found:
            return
        size = 0
        if source is not None:
            size = self._size_of_source(source, found)
            if size > volume.size:
                raise InvalidValueError("size", f"is smaller than {describe_source(source)}")
        made = self._make_room(volume.id, volume.size, found)
        progress = partial(self._progress, volume.id)
        if source is None:
            zero(made, progress)
        elif isinstance(source, Volume):
            self._copy_volume(volume.id, source, size, found)
        else:
            fill(made, self._device(snapshot_name(source.id)), size, progress)
        self._group.rename(made.name, name)

    def extend(self, volume: Volume) -> None:
        """See the door. LVM grows a volume that has snapshots only while nobody uses it.

        Raises ConflictError for one that has snapshots and is in use, NotFoundError and NoSpaceError.
        """
        found = self._report_around(volume.id)
        present = self._existing_volume(volume.id, found)
        if present.size < volume.size:
            self._extend(volume, present, found)
        elif new_name(volume.id) in found:
            self._discard(found[new_name(volume.id)])

    def delete(self, volume: Volume) -> None:
        """Take the volume's name away, wipe it and give its room back; one that is not there is done.

        Raises ConflictError while it has snapshots, is being copied or is in use.
        """
        name = volume_name(volume.id)
        found = self._report_around(volume.id)
        if self._snapshots_in(found, volume.id):
            raise ConflictError(f"volume {volume.id} has snapshots; delete them first")
        if any(each.origin == name for each in found.values()):
            raise ConflictError(f"volume {volume.id} is being copied; delete it afterwards")
        self._bury(name, new_name(volume.id), copy_name(volume.id), found=found)

    def snapshot(self, snapshot: Snapshot) -> None:
        """See the door. A point in time: device-mapper suspends the volume for the moment that it takes.

        Raises NotFoundError, and NoSpaceError when the group has no room for all that may change.
        """
        check_ids(snapshot)
        name = snapshot_name(snapshot.id)
        found = self._report_of(snapshot.volume_id, snapshot.id)
        if any(each.id == snapshot.id for each in self._snapshots_in(found, snapshot.volume_id)):
            return
        origin = self._existing_volume(snapshot.volume_id, found)
        self._bury(name, found=found)
        self._make_ready(origin)
        self._take(origin.name, name, "--addtag", volume_tag(snapshot.volume_id))

    def delete_snapshot(self, snapshot: Snapshot) -> None:
        """Part the snapshot from its volume, wipe what it kept and give its room back; none is done."""
        check_ids(snapshot)
        self._bury(snapshot_name(snapshot.id), found=self._report_of(snapshot.id))

    def revert(self, volume: Volume, snapshot: Snapshot) -> None:
        """See the door. What the volume has beyond the snapshot's size reads as zeroes.

        The volume is written in place, so whatever ends this in the middle is an UnavailableError: it has to be
        done again before a host may use the volume. Raises ConflictError while the volume is in use,
        InvalidValueError for another volume's snapshot, NotFoundError, DataError when the snapshot has lost its
        content, and NoSpaceError; the volume keeps its content then.
        """
        check_is_of(snapshot, volume)
        found = self._report_around(volume.id)
        present = self._existing_volume(volume.id, found)
        kept = self._readable_snapshot(snapshot, found)
        if self._is_used(present):
            raise ConflictError(f"volume {volume.id} is in use and cannot be reverted; detach it first")
        if present.size < volume.size:
            self._extend(volume, present, found)
        self._make_ready(present)
        try:
            wanted, device = self._device(kept.path.name), self._device(present.name)
            make_alike(device, wanted, kept.size, partial(self._progress, volume.id))
        except DataError as error:
            raise UnavailableError(
                f"volume {volume.id} is a mixture until it is reverted all the way: {error}"
            ) from error

    # -- how --------------------------------------------------------------------------------------------------

    def _is_ours(self, found: LogicalVolume) -> bool:
        return not found.pool

    def _found_snapshot(
        self, snapshot_id: SnapshotId, volume_id: VolumeId, found: LogicalVolume
    ) -> FoundSnapshot | None:
        if not found.origin:  # not a snapshot yet, or no longer one
            return None
        lost = f"snapshot {snapshot_id} has overflowed and lost its content; delete it"
        return FoundSnapshot(
            id=snapshot_id,
            volume_id=volume_id,
            size=found.origin_size,
            path=self._devices / found.name,
            fault=lost if found.is_invalid else "",
        )

    def _report_around(self, volume_id: VolumeId) -> Mapping[str, LogicalVolume]:
        """All about a volume, and what has it as its origin."""
        return self._report_of(volume_id, more=f'origin="{volume_name(volume_id)}"')

    def _readable_snapshot(self, snapshot: Snapshot, found: Mapping[str, LogicalVolume]) -> FoundSnapshot:
        kept = self._existing_snapshot(snapshot, found)
        if kept.fault:
            raise DataError(kept.fault)
        self._make_ready(found[kept.path.name])
        return kept

    def _make_room(self, volume_id: VolumeId, size: int, found: Mapping[str, LogicalVolume]) -> Path:
        """The device of the half-made volume, of size rounded up; what it holds is not to be known yet."""
        name = new_name(volume_id)
        extent = self._group.size().extent_size
        present = found.get(name)
        if present is not None and present.size == -(-size // extent) * extent:
            self._make_ready(present)
            return self._device(name)
        self._bury(name, found=found)
        self._group.change(
            "lvcreate",
            # LVM neither looks for signatures nor zeroes the first block: all of it will be zeroed.
            *("--wipesignatures", "n", "--zero", "n", "--name", name, "--size", f"{size}b"),
            self._group.name,
        )
        return self._device(name)

    def _extend(self, volume: Volume, present: LogicalVolume, found: Mapping[str, LogicalVolume]) -> None:
        """Zero room under another name, and have the volume take over these very extents."""
        has_snapshots = any(each.origin == present.name for each in found.values())
        if has_snapshots and self._is_used(present):
            raise ConflictError(
                f"volume {volume.id} has snapshots, and LVM grows such a volume only while nobody uses it: delete"
                " its snapshots or detach it first"
            )
        made = self._make_room(volume.id, volume.size - present.size, found)
        zero(made, partial(self._progress, volume.id))
        extents = self._group.extents(made.name)
        with self._group.changing():
            self._group.remove(made.name)
            if has_snapshots:
                self._group.deactivate(present.name)
            self._group.change(
                "lvextend", "--size", f"{volume.size}b", f"{self._group.name}/{present.name}", *extents
            )
            self._group.activate([present.name])

    def _size_of_source(self, source: Snapshot | Volume, found: Mapping[str, LogicalVolume]) -> int:
        """Bytes of what a volume is to be made from, which has a device then."""
        if isinstance(source, Snapshot):
            return self._readable_snapshot(source, found).size
        present = self._existing_volume(source.id, found)
        self._make_ready(present)
        return present.size

    def _copy_volume(
        self, volume_id: VolumeId, source: Volume, size: int, found: Mapping[str, LogicalVolume]
    ) -> None:
        """Fill the half-made volume from a snapshot of source that nobody else is told of."""
        name = copy_name(volume_id)
        self._bury(name, found=found)
        self._take(volume_name(source.id), name)
        made = self._device(new_name(volume_id))
        fill(made, self._device(name), size, partial(self._progress, volume_id))
        self._bury(name, found=self._report_of(volume_id))

    def _take(self, origin: str, name: str, *options: str) -> None:
        self._group.change(
            "lvcreate",
            *("--snapshot", "--extents", "100%ORIGIN", "--name", name, *options),
            f"{self._group.name}/{origin}",
        )

    def _bury(self, *names: str, found: Mapping[str, LogicalVolume]) -> None:
        """Wipe and remove those of these that are there, and what was begun to be wiped of them before."""
        for name in names:
            tombstone = deleted_name(name)
            if tombstone in found:
                self._wipe(tombstone)
            if name in found:
                self._discard(found[name])

    def _discard(self, present: LogicalVolume) -> None:
        if self._is_used(present):
            raise ConflictError(f"{self._group.name}/{present.name} is in use; detach it first")
        tombstone = deleted_name(present.name)
        if present.origin:
            # The snapshot becomes a plain logical volume, of what it kept; else nothing could wipe that.
            self._group.change("lvconvert", "--yes", "--splitsnapshot", f"{self._group.name}/{present.name}")
        self._group.rename(present.name, tombstone)
        self._wipe(tombstone)

    def _wipe(self, tombstone: str) -> None:
        self._group.activate([tombstone])
        zero(self._device(tombstone), partial(self._progress, tombstone.removeprefix(_TOMBSTONE)))
        self._group.remove(tombstone)
