"""Detaching on a real host: it touches no other volume, nothing that is in use, and leaves nothing of a dead target."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from lab import CommandFailedError, Lab
from lab.bulk import attach_all, detach_all, export_all, make_all
from lab.io import VerifyingFio, digest, wait_until
from lab.traces import attached_to
from lab.world import Host, NodeSetup, StorageNode
from weft.connection import NvmeofConnection
from weft.model import GIB

pytestmark = pytest.mark.lab_full

Record = Callable[[str, object], None]

PORTALS = ("10.77.0.1:4420", "10.77.1.1:4420")


@dataclass(frozen=True, slots=True, kw_only=True)
class Volume:
    name: str
    connection: NvmeofConnection
    backing: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    node: StorageNode
    host: Host
    volumes: dict[str, Volume]

    def attach(self, name: str) -> str:
        connection = self.volumes[name].connection
        return attach_all(self.host.vm, {connection.volume_id: connection})[connection.volume_id]

    def detach(self, name: str) -> None:
        connection = self.volumes[name].connection
        detach_all(self.host.vm, {connection.volume_id: connection})


@pytest.fixture(scope="module")
def site(lab_with_weft: Lab) -> Iterator[Site]:
    """Volumes a and b, both exported to host1, which knows the node's API."""
    node = StorageNode(lab_with_weft["node"], NodeSetup(pool="thick", portals=PORTALS))
    node.start()
    host = Host(lab_with_weft["host1"])
    host_id = node.register("host1", host.make_identity())
    host.log_in(node)
    paths = {made.volume.id: made.path for made in make_all(node, ["a", "b"])}
    names = {view.volume.id: view.volume.name for view in node.client.volumes()}
    connections = export_all(node, list(paths), host_id)
    yield Site(
        node=node,
        host=host,
        volumes={
            names[each]: Volume(name=names[each], connection=connections[each], backing=paths[each])
            for each in paths
        },
    )
    node.close()


def test_detaching_one_volume_is_unnoticed_by_the_io_of_another(site: Site, record_property: Record) -> None:
    gone, kept = site.attach("a"), site.attach("b")
    before = [each for each in attached_to(site.host.vm) if each.startswith("/sys/class/nvme/")]
    assert len(before) == 4
    with VerifyingFio(site.host.vm, kept) as fio:
        fio.wait_for_progress()
        site.detach("a")
        assert gone not in attached_to(site.host.vm)
        fio.wait_for_progress()
        report = fio.finish()
    record_property("longest pause, s", report.longest_pause)
    assert report.error == 0, report.output
    assert digest(site.host.vm, kept, 64) == digest(site.node.vm, site.volumes["b"].backing, 64)
    site.detach("b")
    assert attached_to(site.host.vm) == []


def test_a_mounted_volume_is_not_detached_and_grows_on_all_its_paths(
    site: Site, record_property: Record
) -> None:
    device = site.attach("a")
    vm = site.host.vm
    vm.run(
        f"mkfs.ext4 -q -F {device}; mkdir -p /mnt/volume; mount {device} /mnt/volume; echo kept >/mnt/volume/file"
    )
    with pytest.raises(CommandFailedError, match="is in use by the mount at /mnt/volume"):
        site.host.detach("a")
    assert vm.run("echo more >>/mnt/volume/file; sync; cat /mnt/volume/file").stdout == "kept\nmore\n"

    site.node.extend("a", 2)
    name = device.removeprefix("/dev/")
    paths = f"/sys/class/nvme/nvme*/{name.rpartition('n')[0]}c*n1/size"
    grown = " ".join([str(2 * GIB // 512)] * 3)
    seen = wait_until(
        f'[ "$(cat /sys/class/block/{name}/size {paths} | xargs)" = "{grown}" ]',
        vm,
        timeout=60,
        what="growth of the device and both its paths",
    )
    record_property("growth seen on all paths after, s", round(seen, 2))
    vm.run(f"resize2fs {device}; cat /mnt/volume/file; umount /mnt/volume; e2fsck -f -n {device}")
    site.host.detach("a")
    assert attached_to(vm) == []


def test_a_volume_of_a_dead_node_is_detached_by_force_and_leaves_nothing(
    site: Site, record_property: Record
) -> None:
    """Last: the node has lost its power, and comes back afterwards."""
    device = site.attach("b")
    vm = site.host.vm
    site.node.vm.kill()
    ended = vm.run(["weft", "detach", site.volumes["b"].connection.volume_id, "--force"], 600)
    record_property("forced detach, s", round(ended.seconds, 1))
    assert attached_to(vm) == []
    assert vm.run(["test", "-e", device], check=False).status == 1
    site.node.vm.start()
    site.node.wait()
    assert site.attach("b")
    site.detach("b")
