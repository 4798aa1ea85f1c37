"""Who uses a block device."""

import os
import stat
from pathlib import Path

import pytest

from weft.connectors import block_device
from weft.connectors.block_device import BlockDevice
from weft.errors import ConflictError

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
