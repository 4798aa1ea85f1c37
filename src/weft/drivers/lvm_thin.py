"""Volumes in a thin pool: they take room as they are written, and a snapshot takes none until something changes.

The pool zeroes a block before it gives it out, so nobody reads what a deleted volume held. What takes several
commands is done under another name, and the last command gives it the volume's.
"""

from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path

from weft.drivers.described import describe_source
from weft.drivers.lvm_base import LvmDriver, check_ids, check_is_of, check_source, selection_of
from weft.drivers.lvm_group import VolumeGroup
from weft.drivers.lvm_names import half_made_id_of, new_name, old_name, snapshot_name, volume_name, volume_tag
from weft.drivers.lvm_report import LogicalVolume, Report, ThinPool
from weft.errors import ConflictError, InvalidValueError, NoSpaceError, UnavailableError
from weft.model import Capacity, FoundSnapshot, Snapshot, SnapshotId, Volume, VolumeId

_FULL_METADATA = Decimal(90)
"""Percent of a pool's metadata from which on nothing new is made: a pool without metadata turns read-only for all."""


class ThinDriver(LvmDriver):
    """The VolumeDriver of a thin pool.

    Opening it finds the pool, completes or removes what a crash left half-made, and activates the volumes. Raises
    UnavailableError when there is no such pool, or one that does not zero its blocks.
    """

    def __init__(
        self,
        group: VolumeGroup,
        thin_pool: str,
        *,
        pool: str,
        warn_percent: int,
        system: Path = Path("/"),
    ) -> None:
        super().__init__(group, pool=pool, system=system)
        self._thin_pool = thin_pool
        self._full_name = f"{group.name}/{thin_pool}"
        self._warn_percent = warn_percent
        group.find_devices()
        self._check_zeroes(self._present_pool())
        self.sweep()
        self.volumes()

    # -- the door ---------------------------------------------------------------------------------------------

    def capacity(self) -> Capacity:
        """The pool's own bytes and how many of them no block occupies; what is promised beyond is not counted."""
        found = self._present_pool()
        self._check_zeroes(found)
        if found.data_percent is None:
            self._group.activate([self._thin_pool])
            found = self._present_pool()
        used = int(found.size * (found.data_percent or 0) / 100)
        return Capacity(total=found.size, free=found.size - used, warning=self._warning(found))

    def create(self, volume: Volume, source: Snapshot | Volume | None = None) -> None:
        """See the door. A complete volume is kept as it is, whatever size and source are asked for.

        Raises NotFoundError when source is not there, InvalidValueError when it is larger than the volume, and
        NoSpaceError when the pool's metadata is nearly full; none of them leaves anything behind.
        """
        name = volume_name(volume.id)
        check_source(source)
        found = self._mended(volume.id, self._look_before_making(volume.id, source))
        if name in found:
            return
        if source is None:
            self._make_empty(name, volume.size)
            return
        origin = self._existing_source(source, found)
        if origin.size > volume.size:
            raise InvalidValueError("size", f"is smaller than {describe_source(source)}")
        self._make_of(volume, origin.name, origin.size, volume.size, found)
        self._group.rename(new_name(volume.id), name)

    def extend(self, volume: Volume) -> None:
        """See the door; also while hosts use the volume. Raises NotFoundError."""
        found = self.volume(volume.id)
        if found is None:
            self._existing_volume(volume.id, {})
        elif found.size < volume.size:
            self._grow(volume_name(volume.id), volume.size)

    def delete(self, volume: Volume) -> None:
        """Remove the volume; one that is not there is done.

        Raises ConflictError while it has snapshots or is in use.
        """
        name = volume_name(volume.id)
        report = self._group.report(selection_of(volume.id, more=f'origin="{name}"'))
        found = self._ours(report)
        if self._snapshots_in(found, volume.id):
            raise ConflictError(f"volume {volume.id} has snapshots; delete them first")
        self._check_nothing_goes_with(name, report)
        made = [each for each in (name, new_name(volume.id), old_name(volume.id)) if each in found]
        self._group.remove(*made)

    def snapshot(self, snapshot: Snapshot) -> None:
        """See the door. A point in time: device-mapper suspends the volume for the moment that it takes.

        Raises NotFoundError, and NoSpaceError when the pool's metadata is nearly full.
        """
        check_ids(snapshot)
        name = snapshot_name(snapshot.id)
        found = self._look_before_making(snapshot.volume_id, snapshot)
        if name in found:
            return
        origin = self._existing_volume(snapshot.volume_id, found)
        self._group.change(
            "lvcreate",
            *("--snapshot", "--name", name, "--addtag", volume_tag(snapshot.volume_id)),
            f"{self._group.name}/{origin.name}",
        )

    def delete_snapshot(self, snapshot: Snapshot) -> None:
        """Remove the snapshot; one that is not there is done. Raises ConflictError when it has a snapshot of another's."""
        check_ids(snapshot)
        name = snapshot_name(snapshot.id)
        self._check_nothing_goes_with(name, self._group.report(f'origin="{name}"'))
        self._group.remove(name)

    def revert(self, volume: Volume, snapshot: Snapshot) -> None:
        """See the door. What the volume has beyond the snapshot's size reads as zeroes.

        The content is built apart and takes the volume's name, so an export would hold on to the old one. Raises
        ConflictError while the volume is in use, InvalidValueError for another volume's snapshot, NotFoundError and
        NoSpaceError; the volume keeps its content then.
        """
        check_is_of(snapshot, volume)
        found = self._mended(volume.id, self._look_before_making(volume.id, snapshot))
        present = self._existing_volume(volume.id, found)
        kept = self._existing_snapshot(snapshot, found)
        if self._is_used(present):
            raise ConflictError(f"volume {volume.id} is in use and cannot be reverted; detach it first")
        size = max(present.size, volume.size, kept.size)
        self._make_of(volume, snapshot_name(snapshot.id), kept.size, size, found)
        with self._group.changing():
            self._group.remove(old_name(volume.id))
            self._group.rename(present.name, old_name(volume.id))
            self._group.rename(new_name(volume.id), present.name)
        self._group.remove(old_name(volume.id))

    def sweep(self) -> None:
        """Complete or remove what crashes left half-made; also done when the driver is opened."""
        found = self._ours(self._group.report('lv_name=~"^weft-(new|old)-"'))
        for volume_id in {owner for name in found if (owner := half_made_id_of(name)) is not None}:
            there = self._look_for(volume_id)
            self._group.remove(
                *(each for each in (new_name(volume_id), old_name(volume_id)) if each in there)
            )

    # -- how --------------------------------------------------------------------------------------------------

    def _is_ours(self, found: LogicalVolume) -> bool:
        return found.pool == self._thin_pool

    def _found_snapshot(
        self, snapshot_id: SnapshotId, volume_id: VolumeId, found: LogicalVolume
    ) -> FoundSnapshot | None:
        return FoundSnapshot(
            id=snapshot_id, volume_id=volume_id, size=found.size, path=self._devices / found.name
        )

    def _look_for(self, volume_id: VolumeId) -> Mapping[str, LogicalVolume]:
        return self._mended(volume_id, self._report_of(volume_id))

    def _mended(self, volume_id: VolumeId, found: Mapping[str, LogicalVolume]) -> Mapping[str, LogicalVolume]:
        """A revert that ended between its two renames is completed: what is to be the volume is whole by then."""
        name, new, old = volume_name(volume_id), new_name(volume_id), old_name(volume_id)
        if name in found or old not in found:
            return found
        self._group.rename(new if new in found else old, name)
        return self._report_of(volume_id)

    def _look_before_making(
        self, volume_id: VolumeId, source: Snapshot | Volume | None
    ) -> Mapping[str, LogicalVolume]:
        """All about a volume and what it is made from, or a snapshot of it. Raises NoSpaceError when the pool has no room for another one."""
        ids = [volume_id] if source is None else [volume_id, source.id]
        report = self._group.report(selection_of(*ids, more=f'lv_name="{self._thin_pool}"'))
        self._check_metadata(report.thin_pools.get(self._thin_pool))
        return self._ours(report)

    def _check_nothing_goes_with(self, name: str, report: Report) -> None:
        """LVM removes a logical volume together with its COW snapshots, which weft makes none of in a thin pool."""
        for each in report.volumes.values():
            if each.origin == name and not each.pool:
                raise ConflictError(
                    f"{self._group.name}/{each.name} is a snapshot of {self._group.name}/{name} that weft did not make,"
                    f" and would be lost with it; remove it first: lvremove {self._group.name}/{each.name}"
                )

    def _make_empty(self, name: str, size: int) -> None:
        self._group.change(
            "lvcreate",
            *("--name", name, "--virtualsize", f"{size}b", "--thinpool", self._thin_pool),
            self._group.name,
        )

    def _make_of(
        self, volume: Volume, source: str, source_size: int, size: int, found: Mapping[str, LogicalVolume]
    ) -> None:
        """Have the half-made volume with the content of source, at size."""
        name = new_name(volume.id)
        if name in found:
            self._group.remove(name)
        # Thin snapshots are skipped by activation unless they are told apart from those that are kept for later.
        self._group.change(
            "lvcreate",
            *("--snapshot", "--setactivationskip", "n", "--activate", "y", "--name", name),
            f"{self._group.name}/{source}",
        )
        if source_size < size:
            self._grow(name, size)

    def _grow(self, name: str, size: int) -> None:
        self._group.change("lvextend", "--size", f"{size}b", f"{self._group.name}/{name}")

    def _present_pool(self) -> ThinPool:
        found = self._group.report(f'lv_name="{self._thin_pool}"').thin_pools.get(self._thin_pool)
        if found is None:
            raise UnavailableError(
                f"pool {self._pool}: volume group {self._group.name} has no thin pool {self._thin_pool}. To make it:"
                f" weft pool prepare {self._pool} DEVICE..., with the devices of the volume group"
            )
        return found

    def _check_zeroes(self, found: ThinPool) -> None:
        if not found.zeroes:
            raise UnavailableError(
                f"pool {self._pool}: thin pool {self._full_name} does not zero the blocks that it gives out, so a"
                f" volume could show what a deleted one held. Turn it on: lvchange --zero y {self._full_name}"
            )

    def _check_metadata(self, found: ThinPool | None) -> None:
        if found is not None and (found.metadata_percent or 0) >= _FULL_METADATA:
            raise NoSpaceError(
                f"pool {self._pool}: the metadata of thin pool {self._full_name} is {found.metadata_percent} % full,"
                f" and nothing new is made from {_FULL_METADATA} % on. Give it more:"
                f" lvextend --poolmetadatasize +1G {self._full_name}"
            )

    def _warning(self, found: ThinPool) -> str:
        if found.health:
            return (
                f"thin pool {self._full_name} is in trouble: {found.health.replace('_', ' ')}; see lvmthin(7)"
            )
        data, metadata = found.data_percent or Decimal(0), found.metadata_percent or Decimal(0)
        if data >= self._warn_percent:
            return (
                f"thin pool {self._full_name} is {data} % full; when it is full, writes fail. Give it more:"
                f" lvextend --size +100G {self._full_name}, or delete volumes or snapshots"
            )
        if metadata >= self._warn_percent:
            return (
                f"the metadata of thin pool {self._full_name} is {metadata} % full; when it is full, writes fail."
                f" Give it more: lvextend --poolmetadatasize +1G {self._full_name}"
            )
        return ""
