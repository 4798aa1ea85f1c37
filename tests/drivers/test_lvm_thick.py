"""What weft refuses, and how it reads, in a volume group without a thin pool; the rest is seen in the VM lab."""

from dataclasses import replace
from pathlib import Path

import pytest

from fakes.lvm import RecordedLvm, cow_snapshot, linear
from fakes.rows import make_snapshot, make_volume
from weft.drivers.lvm_group import VolumeGroup
from weft.drivers.lvm_thick import ThickDriver
from weft.errors import ConflictError, DataError
from weft.model import GIB


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
