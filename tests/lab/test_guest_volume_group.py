"""A guest makes a volume group of the node's own name inside its volume; the node neither sees nor activates it."""

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from lab import Lab, Vm
from lab.bulk import attach_all, detach_all, export_all, make_all
from lab.traces import volumes_of
from lab.world import VOLUME_GROUP, Host, StorageNode
from weft.connection import NvmeofConnection
from weft.model import VolumeId

GUESTS_VOLUME = "weft-guest"  # begins as weft's own do

MAKE_GUESTS_GROUP = f"""
pvcreate --quiet --yes $DEVICE
vgcreate --quiet {VOLUME_GROUP} $DEVICE
lvcreate --quiet --yes --wipesignatures n --size 64M --name {GUESTS_VOLUME} {VOLUME_GROUP}
vgchange --quiet --activate n {VOLUME_GROUP}
"""

# What `weft doctor` advises.
USE_DEVICES_FILE = f"""
echo devices/use_devicesfile=1 >>/etc/lvm/lvmlocal.conf
lvm vgimportdevices --quiet --select vg_uuid=$(vgs --noheadings --options vg_uuid {VOLUME_GROUP} | tr -d ' ')
"""
FORGET_DEVICES_FILE = """
losetup --detach-all
sed -i '/use_devicesfile/d' /etc/lvm/lvmlocal.conf
rm -f /etc/lvm/devices/system.devices
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Guest:
    """host1, whose volume has a volume group inside; content: what the node must keep of it."""

    node: StorageNode
    host: Vm
    connections: dict[VolumeId, NvmeofConnection]
    backing: str


@pytest.fixture(scope="module")
def guest(lab_with_weft: Lab) -> Iterator[Guest]:
    node = StorageNode(lab_with_weft["node"])
    node.start()
    host = lab_with_weft["host1"]
    host_id = node.register("host1", Host(host).make_identity())
    (made,) = make_all(node, ["guests"])
    connections = export_all(node, [made.volume.id], host_id)
    (device,) = attach_all(host, connections).values()
    host.run(f"DEVICE={device}\n{MAKE_GUESTS_GROUP}")
    yield Guest(node=node, host=host, connections=connections, backing=made.path)
    detach_all(host, connections)
    node.vm.run(FORGET_DEVICES_FILE)
    node.close()


def seen(vm: Vm) -> tuple[list[str], list[str]]:
    """What LVM on a machine takes for volume groups, and which of the guest's volumes are active, after a boot's ways
    of activating.
    """
    groups = vm.run(
        "vgchange --quiet --activate y >&2; udevadm settle; vgs --noheadings -o vg_name"
    ).stdout.split()
    active = [each for each in vm.run(["dmsetup", "ls"]).stdout.split() if "guest" in each]
    return groups, active


def assert_the_pool_works(guest: Guest, name: str) -> None:
    before = volumes_of(guest.node.vm)
    guest.node.restart()
    make_all(guest.node, [name])
    guest.node.delete(name)
    assert volumes_of(guest.node.vm) == before
    listed = guest.host.run(f"vgs --noheadings -o lv_name {VOLUME_GROUP}").stdout.split()
    assert listed == [GUESTS_VOLUME]


def test_what_a_guest_makes_inside_its_volume_is_not_seen_on_the_node(guest: Guest) -> None:
    assert seen(guest.node.vm) == ([VOLUME_GROUP], [])
    assert_the_pool_works(guest, "beside")


@pytest.mark.lab_full
def test_nor_is_it_through_a_loop_device_once_lvm_keeps_to_its_devices_file(guest: Guest) -> None:
    """As when somebody looks into a volume on the node, or the node attaches it."""
    vm = guest.node.vm
    vm.run(USE_DEVICES_FILE)
    vm.run(["losetup", "--find", "--read-only", "--direct-io=on", guest.backing])
    assert seen(vm) == ([VOLUME_GROUP], [])
    assert_the_pool_works(guest, "besides")
