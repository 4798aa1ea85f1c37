"""What thin and thick LVM pools have in common: how volumes and snapshots are found, and made ready to be used."""

import logging
import os
import stat
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path

from weft.drivers.block_device import can_be_claimed
from weft.drivers.lvm_group import VolumeGroup
from weft.drivers.lvm_names import (
    device_mapper_name,
    snapshot_id_of,
    snapshot_name,
    volume_id_of,
    volume_id_of_tags,
    volume_name,
    volume_tag,
)
from weft.drivers.lvm_report import LogicalVolume, Report
from weft.errors import InvalidValueError, NotFoundError, UnavailableError, WeftError
from weft.model import FoundSnapshot, FoundVolume, Snapshot, SnapshotId, Volume, VolumeId
from weft.names import check_id

_log = logging.getLogger(__name__)

_UDEV_SECONDS = 20.0
"""For how long udev may have a device open on a busy machine."""
_OPEN_PAUSE = 0.5
_SECTOR = 512  # the unit of /sys/class/block/*/size, whatever the device's blocks are


class LvmDriver(ABC):
    """The part of a VolumeDriver that does not depend on how the pool gives out room.

    Callers see to it that no two verbs run on one volume at a time, and that the source of a copy stays. The ids
    that they give are checked before anything else; what is not a lower-case UUID is an InvalidValueError.
    """

    def __init__(self, group: VolumeGroup, *, pool: str, system: Path = Path("/")) -> None:
        self._group = group
        self._pool = pool
        self._devices = system / "dev" / group.name
        self._sysfs = system / "sys"

    # -- the door ---------------------------------------------------------------------------------------------

    def volume(self, volume_id: VolumeId) -> FoundVolume | None:
        """See the door. Told by the kernel, without a command, while the volume's device is there.

        A volume whose device is not there, as after a reboot with a late disk, is activated. Raises
        UnavailableError when a disk that holds some of it is missing.
        """
        name = volume_name(volume_id)
        size = self._device_size(name)
        if size is not None:
            return FoundVolume(id=volume_id, size=size, path=self._devices / name)
        found = self._look_for(volume_id).get(name)
        if found is None:
            return None
        self._check_whole(found)
        self._group.activate([name])
        return self._found(volume_id, found)

    def volumes(self) -> Mapping[VolumeId, FoundVolume]:
        """See the door. Those whose devices are not there are activated; one that cannot be is left out."""
        report = self._ours(self._group.report('lv_name=~"^weft-"'))
        volumes = {
            volume_id: each
            for name, each in report.items()
            if (volume_id := volume_id_of(name)) is not None and not each.is_partial
        }
        asleep = [each.name for each in volumes.values() if not each.is_active]
        try:
            self._group.activate(asleep)
        except WeftError as error:
            _log.warning("pool %s: not every volume could be activated: %s", self._pool, error)
            asleep = [each for each in asleep if self._device_size(each) is None]
            volumes = {volume_id: each for volume_id, each in volumes.items() if each.name not in asleep}
        return {volume_id: self._found(volume_id, each) for volume_id, each in volumes.items()}

    def snapshots(self, volume_id: VolumeId) -> Mapping[SnapshotId, FoundSnapshot]:
        report = self._ours(self._group.report(f'lv_tags="{volume_tag(volume_id)}"'))
        return {each.id: each for each in self._snapshots_in(report, volume_id)}

    def path(self, volume: Volume) -> Path:
        return self._devices / volume_name(volume.id)

    # -- what differs -----------------------------------------------------------------------------------------

    @abstractmethod
    def _is_ours(self, found: LogicalVolume) -> bool:
        """Whether a logical volume that has a name of weft's is in this pool of the volume group."""

    @abstractmethod
    def _found_snapshot(
        self, snapshot_id: SnapshotId, volume_id: VolumeId, found: LogicalVolume
    ) -> FoundSnapshot | None:
        """None when it is not complete."""

    # -- finding ----------------------------------------------------------------------------------------------

    def _look_for(self, volume_id: VolumeId) -> Mapping[str, LogicalVolume]:
        """All that there is of a volume, its snapshots included."""
        return self._report_of(volume_id)

    def _report_of(self, *ids: str, more: str = "") -> Mapping[str, LogicalVolume]:
        """All that is called after one of these ids or tagged with it; more: another selection."""
        return self._ours(self._group.report(selection_of(*ids, more=more)))

    def _ours(self, report: Report) -> Mapping[str, LogicalVolume]:
        return {name: each for name, each in report.volumes.items() if self._is_ours(each)}

    def _existing_volume(self, volume_id: VolumeId, found: Mapping[str, LogicalVolume]) -> LogicalVolume:
        volume = found.get(volume_name(volume_id))
        if volume is None:
            raise NotFoundError(f"volume {volume_id} is not in pool {self._pool}")
        return volume

    def _existing_snapshot(self, snapshot: Snapshot, found: Mapping[str, LogicalVolume]) -> FoundSnapshot:
        """Raises NotFoundError."""
        of_volume = self._snapshots_in(found, snapshot.volume_id)
        kept = next((each for each in of_volume if each.id == snapshot.id), None)
        if kept is None:
            raise NotFoundError(f"snapshot {snapshot.id} is not in pool {self._pool}")
        return kept

    def _existing_source(
        self, source: Snapshot | Volume, found: Mapping[str, LogicalVolume]
    ) -> LogicalVolume:
        """Raises NotFoundError."""
        if isinstance(source, Volume):
            return self._existing_volume(source.id, found)
        return found[self._existing_snapshot(source, found).path.name]

    def _snapshots_in(self, found: Mapping[str, LogicalVolume], volume_id: VolumeId) -> list[FoundSnapshot]:
        named = [
            (snapshot_id_of(name), each)
            for name, each in found.items()
            if volume_id_of_tags(each.tags) == volume_id
        ]
        complete = [
            self._found_snapshot(snapshot_id, volume_id, each)
            for snapshot_id, each in named
            if snapshot_id is not None
        ]
        return [each for each in complete if each is not None]

    def _found(self, volume_id: VolumeId, found: LogicalVolume) -> FoundVolume:
        return FoundVolume(id=volume_id, size=found.size, path=self._devices / found.name)

    def _make_ready(self, *found: LogicalVolume) -> None:
        """Have devices for these logical volumes."""
        for each in found:
            self._check_whole(each)
        self._group.activate([each.name for each in found if not each.is_active])

    def _is_used(self, found: LogicalVolume) -> bool:
        """Whether an export, a mount or a program uses it: it stays open.

        For a moment that says nothing, for udev looks into what was just written. And that it can be claimed says
        nothing for long: nvmet claims no device for itself (drivers/nvme/target/io-cmd-bdev.c opens it without a
        holder).
        """
        if not found.is_open:
            return False
        deadline = time.monotonic() + _UDEV_SECONDS
        while can_be_claimed(self._devices / found.name):
            if time.monotonic() >= deadline:
                return True
            time.sleep(_OPEN_PAUSE)
            report = self._group.report(f'lv_name="{found.name}"')
            if found.name not in report.volumes or not report.volumes[found.name].is_open:
                return False
        return True

    def _check_whole(self, found: LogicalVolume) -> None:
        if found.is_partial:
            raise UnavailableError(
                f"pool {self._pool}: a disk that holds a part of {self._group.name}/{found.name} is missing;"
                f" see: pvs -o +pv_missing -S vg_name={self._group.name}"
            )

    def _device(self, name: str) -> Path:
        """The device of a logical volume that is about to be written to.

        Raises UnavailableError when the path leads to no device, or to another one: udev makes it, and may be late.
        """
        path = self._devices / name
        if self._device_size(name) is None:
            raise UnavailableError(
                f"pool {self._pool}: {path} is not the device of {self._group.name}/{name}, and nothing else is"
                " written to; see whether udev is at work: udevadm settle"
            )
        return path

    def _device_size(self, name: str) -> int | None:
        """Bytes of the device of a logical volume of this group; None while it has none."""
        try:
            found = os.stat(self._devices / name)  # noqa: PTH116 -- one call, on the way of every attachment
        except FileNotFoundError:
            return None
        if not stat.S_ISBLK(found.st_mode):
            return None
        device = self._sysfs / "dev" / "block" / f"{os.major(found.st_rdev)}:{os.minor(found.st_rdev)}"
        try:
            # Device-mapper names LVM's devices LVM-<uuid of the group><uuid of the logical volume>.
            uuid = (device / "dm" / "uuid").read_text().strip()
            called = (device / "dm" / "name").read_text().strip()
            sectors = int((device / "size").read_text())
        except FileNotFoundError:
            return None
        of_group = uuid.startswith(f"LVM-{self._group.uuid.replace('-', '')}")
        # udev's link may be of before: the logical volume was renamed since, or its device number is another's now.
        is_it = of_group and called == device_mapper_name(self._group.name, name)
        return sectors * _SECTOR if sectors and is_it else None


def selection_of(*ids: str, more: str = "") -> str:
    """LVM's selection of what is called after one of these ids or tagged with it."""
    checked = [check_id("id", each) for each in ids]
    terms = [f'lv_name=~"({"|".join(checked)})$"', *(f'lv_tags="weft.volume={each}"' for each in checked)]
    return " || ".join([*terms, *filter(None, [more])])


def check_ids(snapshot: Snapshot) -> None:
    volume_name(snapshot.volume_id)
    snapshot_name(snapshot.id)


def check_source(source: Snapshot | Volume | None) -> None:
    if isinstance(source, Volume):
        volume_name(source.id)
    elif source is not None:
        check_ids(source)


def check_is_of(snapshot: Snapshot, volume: Volume) -> None:
    check_ids(snapshot)
    if snapshot.volume_id != volume.id:
        raise InvalidValueError("snapshot", f"{snapshot.id} is not a snapshot of volume {volume.id}")
