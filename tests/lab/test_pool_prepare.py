"""`weft pool prepare` makes a pool on empty devices, and never over what is there unless that device is named."""

from collections.abc import Iterator

import pytest

from lab import Lab, Vm

_CONFIG = """
[[pools]]
name = "prepared"
kind = "lvm"
volume_group = "prepared"
"""
_PREPARE = "/opt/weft/bin/weft --config /root/prepare.toml pool prepare prepared "


@pytest.fixture(scope="module")
def node(lab_with_weft: Lab) -> Iterator[Vm]:
    vm = lab_with_weft["node"]
    vm.run(f"cat >/root/prepare.toml <<'END'\n{_CONFIG}END\nmkdir -p /mnt/prepare")
    yield vm
    vm.run("umount /mnt/prepare || true")


def test_a_device_with_anything_on_it_is_refused_until_it_is_named(node: Vm) -> None:
    first, second, mounted, _ = node.disks
    node.run(f"mkfs.ext4 -q {first}; mkfs.ext4 -q {mounted}; mount {mounted} /mnt/prepare")
    for devices, words in {
        f"{second} {first}": "holds ext4",
        f"{second} {mounted} --erase {mounted}": "is mounted at /mnt/prepare",
        f"{second} --erase {first}": "is not among the devices",
    }.items():
        refused = node.run(_PREPARE + devices, check=False)
        assert refused.status != 0
        assert words in refused.stderr
    assert node.run("pvs --noheadings").stdout == "", "a device was taken before all were looked at"

    assert "made volume group prepared" in node.run(_PREPARE + second).stdout
    assert "all of it was there" in node.run(_PREPARE + second).stdout
    extended = node.run(f"{_PREPARE}{second} {first} --erase {first}").stdout
    assert "extended volume group prepared" in extended
    thin_pool = node.run("lvs --noheadings --binary -o lv_name,zero prepared").stdout.split()
    assert thin_pool == ["thinpool", "1"]
    assert node.run("ls /mnt/prepare").stdout.split() == ["lost+found"]


def test_a_device_of_another_volume_group_is_never_taken(node: Vm) -> None:
    last = node.disks[-1]
    node.run(f"vgcreate --quiet another {last}")
    refused = node.run(f"{_PREPARE}{last} --erase {last}", check=False)
    assert refused.status != 0
    assert "belongs to volume group another" in refused.stderr
    assert node.run(f"pvs --noheadings -o vg_name {last}").stdout.split() == ["another"]
