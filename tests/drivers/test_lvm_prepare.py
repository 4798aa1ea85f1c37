"""What is refused before LVM is asked to do anything; devices that hold something are in the VM lab."""

import contextlib
import json
import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from fakes.lvm import RecordedLvm
from weft.config import PoolKind, PoolSection
from weft.drivers.lvm_prepare import prepare_pool
from weft.errors import ConflictError, InvalidValueError, WeftError
from weft.run import Completed

POOL = PoolSection(name="fast", kind=PoolKind.LVM, volume_group="vg")


def refused(
    lvm: RecordedLvm, kind: type[WeftError], words: str, *devices: Path, pool: PoolSection = POOL
) -> None:
    with pytest.raises(kind, match=words):
        prepare_pool(pool, devices, runner=lvm)
    assert lvm.commands == []


def test_only_a_pool_of_kind_lvm_is_prepared() -> None:
    refused(RecordedLvm(), InvalidValueError, "pool files is of kind file", pool=PoolSection(name="files"))


def test_what_is_no_block_device_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    refused(RecordedLvm(devices=()), InvalidValueError, "file is no block device", tmp_path / "file")
    refused(RecordedLvm(devices=()), InvalidValueError, "cannot be looked at", tmp_path / "nothing")


def test_a_device_is_erased_only_where_the_pool_is_made_on_it() -> None:
    lvm = RecordedLvm()
    with pytest.raises(InvalidValueError, match="/dev/sdz is not among the devices"):
        prepare_pool(POOL, [Path("/dev/sdb")], erase=[Path("/dev/sdz")], runner=lvm)
    assert lvm.commands == []


def test_a_pool_that_is_there_stays_as_it_is() -> None:
    lvm = RecordedLvm({"lv_name": "thinpool", "segtype": "thin-pool", "zero": "1"})
    done = prepare_pool(POOL, [], runner=lvm)
    assert (done.made_group, done.made_thin_pool, done.added, done.erased) == (False, False, (), ())
    assert lvm.commands == []


def test_a_thin_pool_is_made_in_a_volume_group_that_has_none() -> None:
    lvm = RecordedLvm()
    assert prepare_pool(POOL, [], runner=lvm).made_thin_pool
    assert lvm.commands == ["lvcreate --type thin-pool --zero y --extents 95%FREE --name thinpool vg"]


def test_a_volume_in_the_place_of_the_thin_pool_is_left_alone() -> None:
    lvm = RecordedLvm({"lv_name": "thinpool", "segtype": "linear", "zero": "-1"})
    refused(lvm, ConflictError, "vg/thinpool is there, and no thin pool")
    lvm = RecordedLvm({"lv_name": "thinpool", "segtype": "thin-pool", "zero": "0"})
    refused(lvm, ConflictError, "lvchange --zero y vg/thinpool")


def test_without_devices_there_has_to_be_a_volume_group() -> None:
    refused(RecordedLvm(devices=()), InvalidValueError, "no volume group vg yet; name devices")


class OnDevice:
    """An LVM that shows no physical volumes, and a device with a partition that have these signatures."""

    def __init__(self, whole: str, part: str = "") -> None:
        self.lvm = RecordedLvm({"lv_name": "thinpool", "segtype": "thin-pool", "zero": "1"}, devices=())
        self._whole = whole
        self._part = part

    def __call__(self, argv: Sequence[str], *, timeout: float) -> Completed:
        if list(argv[:2]) == ["wipefs", "--no-act"]:
            kind = self._part if argv[-1] == "/dev/part1" else self._whole
            return Completed(json.dumps({"signatures": [{"type": kind}] if kind else []}), "")
        if argv[0] == "lsblk":
            parts = [{"name": "/dev/part1", "type": "part"}] if self._part else []
            return Completed(json.dumps({"blockdevices": [{"name": argv[-1], "children": parts}]}), "")
        return self.lvm(argv, timeout=timeout)


@pytest.fixture
def device() -> Path:
    """A block device that nobody uses; nothing but looking is done to it."""
    for each in sorted(Path("/dev").glob("[!.]*")):
        with contextlib.suppress(OSError):
            if each.is_block_device():
                os.close(os.open(each, os.O_RDONLY | os.O_EXCL))
                return each
    pytest.skip("no block device can be opened here")


@pytest.mark.parametrize("found", [OnDevice("LVM2_member"), OnDevice("gpt", "LVM2_member")])
def test_a_physical_volume_is_never_erased_though_lvm_does_not_show_it(found: OnDevice, device: Path) -> None:
    with pytest.raises(ConflictError, match=f"{device} is a physical volume of LVM's.*pvremove {device}"):
        prepare_pool(POOL, [device], erase=[device], runner=found)
    assert found.lvm.commands == []


def test_what_else_a_device_holds_is_erased_where_that_is_asked_for(device: Path) -> None:
    found = OnDevice("gpt", "ext4")
    with pytest.raises(ConflictError, match=f"{device} holds gpt, ext4, /dev/part1, which would be lost"):
        prepare_pool(POOL, [device], runner=found)
    assert prepare_pool(POOL, [device], erase=[device], runner=found).erased == (device,)
    assert found.lvm.commands[:2] == [f"wipefs --all {device}", f"vgcreate vg {device}"]
