"""Who uses a block device."""

import os
import stat
from pathlib import Path

import pytest

from weft.connectors import block_device
from weft.connectors.block_device import BlockDevice
from weft.errors import ConflictError, UnavailableError

NUMBER = (259, 7)


@pytest.fixture
def device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> BlockDevice:
    monkeypatch.setattr(block_device, "_PASSING", 0.0)
    block = tmp_path / "sys/class/block/nvme0n1"
    block.mkdir(parents=True)
    (block / "dev").write_text("{}:{}\n".format(*NUMBER))
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev/nvme0n1").touch()
    return BlockDevice(name="nvme0n1", node=tmp_path / "dev/nvme0n1", root=tmp_path)


def have_open(device: BlockDevice, path: Path) -> None:
    """A process of another mount namespace: what its descriptors are called is what they are called there."""
    process = device.root / "proc/1234"
    (process / "fd").mkdir(parents=True)
    (process / "comm").write_text("qemu\n")
    (process / "fd/3").symlink_to(path)


def test_a_process_that_has_the_device_open_is_named(device: BlockDevice) -> None:
    have_open(device, device.node)
    with pytest.raises(ConflictError, match=r"in use by qemu \(1234\)"), device.claimed():
        pass


def test_a_container_has_the_device_open_by_another_name(device: BlockDevice) -> None:
    node = device.root / "dev/xvda"
    try:
        os.mknod(node, stat.S_IFBLK | 0o600, os.makedev(*NUMBER))
    except PermissionError:
        pytest.skip("only root makes nodes of devices")
    have_open(device, node)
    with pytest.raises(ConflictError, match=r"in use by qemu \(1234\)"), device.claimed():
        pass


def test_a_device_that_nobody_has_open_is_claimed(device: BlockDevice) -> None:
    have_open(device, device.root / "dev/null")
    with device.claimed():
        pass


MOUNTINFO = """\
21 1 254:1 / / rw - ext4 /dev/vda1 rw
40 21 259:7 / /srv/two\\040words rw - ext4 /dev/nvme0n1 rw
41 40 259:8 / /srv/two\\040words/below rw - xfs /dev/nvme0n1p1 rw
"""


@pytest.fixture
def ended(device: BlockDevice, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What umount and swapoff were told; the device and its partition are mounted, another partition is swapped to."""
    for name, number in (("nvme0n1p1", "259:8"), ("nvme0n1p2", "259:9")):
        for folder in (device.root / "sys/class/block", device.root / "sys/class/block/nvme0n1"):
            (folder / name).mkdir()
        (device.root / "sys/class/block" / name / "dev").write_text(number)
    (device.root / "proc/self").mkdir(parents=True)
    (device.root / "proc/self/mountinfo").write_text(MOUNTINFO)
    (device.root / "proc/swaps").write_text(
        f"Filename Type Size Used Priority\n/dev/vda2 partition 8 0 -2\n{device.node}p2 partition 8 0 -3\n"
    )
    log = tmp_path / "ended"
    for program in ("umount", "swapoff"):
        put(tmp_path / "bin" / program, f'echo "{program} $*" >>{log}')
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    return log


def put(program: Path, text: str) -> None:
    program.parent.mkdir(exist_ok=True)
    program.write_text(f"#!/bin/sh\n{text}\n")
    program.chmod(0o755)


def test_all_that_is_mounted_from_a_device_is_unmounted_the_last_first(
    device: BlockDevice, ended: Path
) -> None:
    device.unmount(20)
    assert ended.read_text().splitlines() == [
        "umount /srv/two words/below",
        "umount /srv/two words",
        f"swapoff {device.node}p2",
    ]


def test_what_cannot_be_unmounted_is_named(device: BlockDevice, ended: Path) -> None:
    put(ended.parent / "bin/umount", "exit 32")
    with pytest.raises(ConflictError, match="in use by the mount at /srv/two words/below"):
        device.unmount(20)


def test_an_unmount_that_waits_for_a_dead_target_is_not_waited_for(device: BlockDevice, ended: Path) -> None:
    put(ended.parent / "bin/umount", "exec sleep 60")
    with pytest.raises(UnavailableError, match=r"took longer than 0\.2 s"):
        device.unmount(0.2)
