"""What weft does with a thin pool, command by command; that LVM then does it is seen in the VM lab."""

import re
from pathlib import Path

import pytest

from fakes.lvm import RecordedLvm, cow_snapshot, thin_pool, thin_snapshot, thin_volume
from fakes.rows import make_snapshot, make_volume
from weft.drivers.lvm_group import VolumeGroup
from weft.drivers.lvm_thin import ThinDriver
from weft.errors import ConflictError, DataError, NoSpaceError, UnavailableError
from weft.model import GIB


def opened(lvm: RecordedLvm, system: Path) -> ThinDriver:
    group = VolumeGroup("vg", pool="fast", runner=lvm)
    driver = ThinDriver(group, "thinpool", pool="fast", warn_percent=80, system=system)
    lvm.commands.clear()
    return driver


def test_every_command_sees_the_devices_of_the_volume_group_alone(tmp_path: Path) -> None:
    lvm = RecordedLvm(thin_pool())
    driver = opened(lvm, tmp_path)
    driver.create(make_volume())
    driver.capacity()
    assert lvm.restrictions
    assert set(lvm.restrictions) == {"/dev/sdb,/dev/sdc"}


def test_a_pool_that_does_not_zero_its_blocks_is_refused_with_the_command_that_mends_it(
    tmp_path: Path,
) -> None:
    with pytest.raises(UnavailableError, match="lvchange --zero y vg/thinpool"):
        opened(RecordedLvm(thin_pool(zero="0")), tmp_path)


def test_a_volume_group_that_is_not_there_is_told_with_the_way_to_make_it(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match=r"no volume group vg.*weft pool prepare fast"):
        opened(RecordedLvm(thin_pool(), devices=()), tmp_path)
    with pytest.raises(UnavailableError, match=r"no thin pool thinpool.*weft pool prepare fast"):
        opened(RecordedLvm(), tmp_path)


def test_weft_does_not_guess_between_volume_groups_of_one_name(tmp_path: Path) -> None:
    lvm = RecordedLvm(thin_pool())
    lvm.devices.append({**lvm.devices[0], "pv_name": "/dev/nvme1n1", "vg_uuid": "guest"})
    with pytest.raises(UnavailableError, match=r"more than one .* guest on /dev/nvme1n1"):
        opened(lvm, tmp_path)


def test_a_volume_group_of_the_same_name_that_appears_later_is_not_this_one(tmp_path: Path) -> None:
    lvm = RecordedLvm(thin_pool())
    driver = opened(lvm, tmp_path)
    lvm.devices.append({**lvm.devices[0], "pv_name": "/dev/nvme1n1", "vg_uuid": "guest"})
    lvm.volumes[0]["vg_missing_pv_count"] = "1"
    driver.capacity()
    assert lvm.restrictions[-1] == "/dev/sdb,/dev/sdc"


def test_opening_activates_the_volumes_and_leaves_snapshots_asleep(tmp_path: Path) -> None:
    volume = make_volume()
    lvm = RecordedLvm(
        thin_pool(),
        thin_volume(f"weft-{volume.id}", GIB, lv_active_locally="0"),
        thin_snapshot(f"weft-snap-{make_snapshot(volume).id}", GIB, volume.id),
    )
    ThinDriver(
        VolumeGroup("vg", pool="fast", runner=lvm), "thinpool", pool="fast", warn_percent=80, system=tmp_path
    )
    assert lvm.commands == [f"lvchange --yes --activate y vg/weft-{volume.id}"]


def test_a_volume_that_cannot_be_activated_keeps_no_other_from_being_found(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    broken, good = make_volume(), make_volume()
    lvm = RecordedLvm(
        thin_pool(),
        thin_volume(f"weft-{broken.id}", GIB, lv_active_locally="0"),
        thin_volume(f"weft-{good.id}", GIB),
    )
    lvm.failures["lvchange"] = "device-mapper: reload ioctl failed"
    assert set(opened(lvm, tmp_path).volumes()) == {good.id}
    assert "reload ioctl failed" in caplog.text


def test_a_volume_on_a_disk_that_is_missing_is_unavailable_and_not_gone(tmp_path: Path) -> None:
    volume = make_volume()
    lvm = RecordedLvm(thin_pool(), thin_volume(f"weft-{volume.id}", GIB, lv_health_status="partial"))
    with pytest.raises(UnavailableError, match="is missing"):
        opened(lvm, tmp_path).volume(volume.id)


def test_a_new_volume_is_made_by_one_command(tmp_path: Path) -> None:
    lvm = RecordedLvm(thin_pool())
    volume = make_volume(3 * GIB)
    opened(lvm, tmp_path).create(volume)
    assert lvm.commands == [
        f"lvcreate --name weft-{volume.id} --virtualsize {3 * GIB}b --thinpool thinpool vg"
    ]


def test_a_larger_volume_from_a_snapshot_gets_its_name_last(tmp_path: Path) -> None:
    origin, volume = make_volume(), make_volume(2 * GIB)
    snapshot = make_snapshot(origin)
    kept = f"weft-snap-{snapshot.id}"
    lvm = RecordedLvm(thin_pool(), thin_snapshot(kept, GIB, origin.id))
    opened(lvm, tmp_path).create(volume, snapshot)
    assert lvm.commands == [
        f"lvcreate --snapshot --setactivationskip n --activate y --name weft-new-{volume.id} vg/{kept}",
        f"lvextend --size {2 * GIB}b vg/weft-new-{volume.id}",
        f"lvrename vg weft-new-{volume.id} weft-{volume.id}",
    ]


def test_a_revert_puts_the_new_content_in_the_old_ones_place_by_two_renames(tmp_path: Path) -> None:
    volume = make_volume()
    snapshot = make_snapshot(volume)
    name, kept = f"weft-{volume.id}", f"weft-snap-{snapshot.id}"
    lvm = RecordedLvm(thin_pool(), thin_volume(name, GIB), thin_snapshot(kept, GIB, volume.id))
    opened(lvm, tmp_path).revert(volume, snapshot)
    assert [each.split()[0] for each in lvm.commands] == [
        "lvcreate",
        "lvremove",
        "lvrename",
        "lvrename",
        "lvremove",
    ]
    assert lvm.commands[2:4] == [
        f"lvrename vg {name} weft-old-{volume.id}",
        f"lvrename vg weft-new-{volume.id} {name}",
    ]


def test_a_revert_that_ended_between_its_renames_is_completed_when_the_volume_is_looked_for(
    tmp_path: Path,
) -> None:
    volume = make_volume()
    lvm = RecordedLvm(thin_pool())
    driver = opened(lvm, tmp_path)
    lvm.volumes += [
        thin_volume(f"weft-new-{volume.id}", GIB),
        thin_volume(f"weft-old-{volume.id}", GIB),
    ]

    def renamed(_command: str) -> None:
        lvm.volumes[1]["lv_name"] = f"weft-{volume.id}"

    lvm.after = renamed
    assert driver.volume(volume.id) is not None
    assert lvm.commands[0] == f"lvrename vg weft-new-{volume.id} weft-{volume.id}"


def test_a_snapshot_that_somebody_else_has_made_is_not_removed_with_its_volume(tmp_path: Path) -> None:
    volume = make_volume()
    snapshot = make_snapshot(volume)
    for name in (f"weft-{volume.id}", f"weft-snap-{snapshot.id}"):
        theirs = cow_snapshot("backup", GIB, volume.id, lv_tags="", origin=name)
        lvm = RecordedLvm(thin_pool(), thin_volume(name, GIB), theirs)
        driver = opened(lvm, tmp_path)
        with pytest.raises(ConflictError, match="lvremove vg/backup"):
            driver.delete(volume) if name == f"weft-{volume.id}" else driver.delete_snapshot(snapshot)
        assert lvm.commands == []


def test_a_volume_in_use_is_not_reverted(tmp_path: Path) -> None:
    volume = make_volume()
    snapshot = make_snapshot(volume)
    lvm = RecordedLvm(
        thin_pool(),
        thin_volume(f"weft-{volume.id}", GIB, lv_device_open="1"),
        thin_snapshot(f"weft-snap-{snapshot.id}", GIB, volume.id),
    )
    with pytest.raises(ConflictError, match="in use"):
        opened(lvm, tmp_path).revert(volume, snapshot)
    assert lvm.commands == []


def test_the_capacity_is_what_the_pool_really_has(tmp_path: Path) -> None:
    found = opened(RecordedLvm(thin_pool(data_percent="25.00")), tmp_path).capacity()
    assert (found.total, found.free, found.warning) == (2 * GIB, 2 * GIB * 3 // 4, "")


@pytest.mark.parametrize(
    ("told", "warning"),
    [
        ({"data_percent": "80.00"}, r"vg/thinpool is 80.00 % full.*lvextend --size"),
        (
            {"metadata_percent": "81.50"},
            r"metadata of thin pool vg/thinpool is 81.50 % full.*--poolmetadatasize",
        ),
        ({"lv_health_status": "out_of_data"}, "out of data"),
    ],
)
def test_a_pool_that_will_soon_be_full_is_warned_of_with_the_command_that_mends_it(
    tmp_path: Path, told: dict[str, str], warning: str
) -> None:
    assert re.search(warning, opened(RecordedLvm(thin_pool(**told)), tmp_path).capacity().warning)


def test_nothing_new_is_made_when_the_metadata_is_nearly_full(tmp_path: Path) -> None:
    lvm = RecordedLvm(thin_pool(metadata_percent="90.10"))
    with pytest.raises(NoSpaceError, match="metadata"):
        opened(lvm, tmp_path).create(make_volume())
    assert lvm.commands == []


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ('  Volume group "vg" has insufficient free space (6138 extents): 104857600 required.', NoSpaceError),
        ("  Logical volume vg/weft-1 in use.", ConflictError),
        ("  Cannot process volume group vg", UnavailableError),
    ],
)
def test_a_failing_command_is_an_error_of_its_kind_with_what_it_said(
    tmp_path: Path, said: str, kind: type[Exception]
) -> None:
    lvm = RecordedLvm(thin_pool())
    driver = opened(lvm, tmp_path)
    lvm.failures["lvcreate"] = (
        f"  WARNING: something else\n{said}\n  Run `lvcreate --help' for more information.\n"
    )
    with pytest.raises(kind) as caught:
        driver.create(make_volume())
    assert type(caught.value) is kind
    assert str(caught.value) == f"pool fast: lvcreate failed with exit code 5: {said.strip()}"


def test_a_failing_report_is_an_error_and_not_an_absence(tmp_path: Path) -> None:
    lvm = RecordedLvm(thin_pool())
    driver = opened(lvm, tmp_path)
    lvm.failures["lvs"] = "  Volume group vg not found"
    volume = make_volume()
    for verb in (
        lambda: driver.volume(volume.id),
        lambda: driver.delete(volume),
        driver.volumes,
        driver.capacity,
    ):
        with pytest.raises(UnavailableError):
            verb()


def test_a_report_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    lvm = RecordedLvm(thin_pool(lv_size="12.5g"))
    with pytest.raises(DataError, match="lv_size"):
        opened(lvm, tmp_path)
