"""What weft refuses, and how it reads, in a volume group without a thin pool; the rest is seen in the VM lab."""

import os
import stat
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from fakes.lvm import GROUP_UUID, RecordedLvm, cow_snapshot, linear
from fakes.rows import make_snapshot, make_volume
from weft.drivers.lvm_group import VolumeGroup
from weft.drivers.lvm_thick import ThickDriver
from weft.errors import ConflictError, DataError, UnavailableError
from weft.model import GIB, FoundVolume, Volume
from weft.run import Completed


def opened(lvm: RecordedLvm, system: Path) -> ThickDriver:
    group = VolumeGroup("vg", pool="slow", runner=lvm)
    driver = ThickDriver(group, pool="slow", progress=lambda _made, _done, _total: None, system=system)
    lvm.commands.clear()
    return driver


def test_a_snapshot_that_has_overflowed_is_found_with_its_fault(tmp_path: Path) -> None:
    volume = make_volume()
    snapshot = make_snapshot(volume)
    lvm = RecordedLvm(
        linear(f"weft-{volume.id}", GIB),
        cow_snapshot(f"weft-snap-{snapshot.id}", GIB, volume.id, lv_snapshot_invalid="1"),
    )
    driver = opened(lvm, tmp_path)
    found = driver.snapshots(volume.id)[snapshot.id]
    assert found.size == GIB
    assert "overflowed" in found.fault
    with pytest.raises(DataError, match="overflowed"):
        driver.create(make_volume(), snapshot)
    with pytest.raises(DataError, match="overflowed"):
        driver.revert(volume, snapshot)
    assert lvm.commands == []


def test_what_is_no_snapshot_yet_is_not_found_as_one(tmp_path: Path) -> None:
    volume = make_volume()
    half_made = linear(f"weft-snap-{make_snapshot(volume).id}", GIB, lv_tags=f"weft.volume={volume.id}")
    lvm = RecordedLvm(linear(f"weft-{volume.id}", GIB), half_made)
    assert opened(lvm, tmp_path).snapshots(volume.id) == {}


def test_a_volume_with_snapshots_does_not_grow_while_it_is_in_use(tmp_path: Path) -> None:
    volume = make_volume()
    lvm = RecordedLvm(
        linear(f"weft-{volume.id}", GIB, lv_device_open="1"),
        cow_snapshot(f"weft-snap-{make_snapshot(volume).id}", GIB, volume.id),
    )
    with pytest.raises(ConflictError, match="delete its snapshots or detach it"):
        opened(lvm, tmp_path).extend(replace(volume, size=2 * GIB))
    assert lvm.commands == []


def test_a_volume_in_use_keeps_its_name_and_its_bytes(tmp_path: Path) -> None:
    volume = make_volume()
    lvm = RecordedLvm(linear(f"weft-{volume.id}", GIB, lv_device_open="1"))
    with pytest.raises(ConflictError, match="in use"):
        opened(lvm, tmp_path).delete(volume)
    assert lvm.commands == []


@pytest.fixture
def claimable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Volume:
    """A volume whose device can be claimed, as one that nvmet shows can be."""
    monkeypatch.setattr("weft.drivers.lvm_base._UDEV_SECONDS", 0.1)
    monkeypatch.setattr("weft.drivers.lvm_base._OPEN_PAUSE", 0.02)
    volume = make_volume()
    (tmp_path / "dev/vg").mkdir(parents=True)
    (tmp_path / f"dev/vg/weft-{volume.id}").touch()
    return volume


def test_a_volume_that_stays_open_is_in_use_though_nobody_claims_it(
    claimable: Volume, tmp_path: Path
) -> None:
    lvm = RecordedLvm(linear(f"weft-{claimable.id}", GIB, lv_device_open="1"))
    with pytest.raises(ConflictError, match="in use"):
        opened(lvm, tmp_path).delete(claimable)
    assert lvm.commands == []


def test_a_volume_that_udev_looks_into_is_not_in_use(claimable: Volume, tmp_path: Path) -> None:
    class ClosedSoon(RecordedLvm):
        def __call__(self, argv: Sequence[str], *, timeout: float) -> Completed:
            if f'lv_name="weft-{claimable.id}"' in argv:  # the second look
                self.volumes[0]["lv_device_open"] = "0"
            return super().__call__(argv, timeout=timeout)

    lvm = ClosedSoon(linear(f"weft-{claimable.id}", GIB, lv_device_open="1"))
    with suppress(UnavailableError):  # the device is none, so it is not wiped
        opened(lvm, tmp_path).delete(claimable)
    assert lvm.commands[0].startswith("lvrename")


def test_a_disk_that_the_group_was_given_later_is_used(tmp_path: Path) -> None:
    lvm = RecordedLvm()
    driver = opened(lvm, tmp_path)
    lvm.devices.append({**lvm.devices[0], "pv_name": "/dev/sdd"})
    driver.capacity()
    assert lvm.restrictions[-1] == "/dev/sdb,/dev/sdc,/dev/sdd"


def test_room_counts_as_free_only_once_it_is_wiped(tmp_path: Path) -> None:
    volume = make_volume()
    found = opened(RecordedLvm(linear(f"weft-deleted-{volume.id}", GIB)), tmp_path).capacity()
    assert (found.total, found.free) == (11 * GIB, 10 * GIB)


def test_volumes_of_a_thin_pool_beside_it_are_not_this_pools(tmp_path: Path) -> None:
    volume = make_volume()
    lvm = RecordedLvm(linear(f"weft-{volume.id}", GIB, pool_lv="thinpool"))
    driver = opened(lvm, tmp_path)
    assert driver.volumes() == {}
    assert driver.volume(volume.id) is None


def test_nothing_is_wiped_but_the_device_of_the_deleted_volume(tmp_path: Path) -> None:
    volume = make_volume()
    tombstone = f"weft-deleted-{volume.id}"
    (tmp_path / "dev/vg").mkdir(parents=True)
    (tmp_path / "dev/vg" / tombstone).write_text("another's")
    lvm = RecordedLvm(linear(tombstone, GIB))
    with pytest.raises(UnavailableError, match="is not the device of"):
        opened(lvm, tmp_path).delete(volume)
    assert lvm.commands == [f"lvchange --yes --activate y vg/{tombstone}"]


def test_a_device_by_the_path_of_a_volume_is_taken_only_for_that_volumes_own(tmp_path: Path) -> None:
    volume, number = make_volume(), "253:7"
    path, sysfs = tmp_path / f"dev/vg/weft-{volume.id}", tmp_path / "sys/dev/block" / number
    path.parent.mkdir(parents=True)
    (sysfs / "dm").mkdir(parents=True)
    try:
        os.mknod(path, stat.S_IFBLK | 0o600, os.makedev(*map(int, number.split(":"))))
    except PermissionError:
        pytest.skip("only root makes nodes of devices")
    (sysfs / "size").write_text(f"{GIB // 512}\n")
    (sysfs / "dm/uuid").write_text(f"LVM-{GROUP_UUID.replace('-', '')}of-the-logical-volume\n")
    driver = opened(RecordedLvm(), tmp_path)
    for other in (f"weft-old-{volume.id}", f"weft-{make_volume().id}"):
        (sysfs / "dm/name").write_text(f"vg-{other.replace('-', '--')}\n")
        assert driver.volume(volume.id) is None
    (sysfs / "dm/name").write_text(f"vg-weft--{volume.id.replace('-', '--')}\n")
    assert driver.volume(volume.id) == FoundVolume(id=volume.id, size=GIB, path=path)
