"""LV, nvmet, host: what a host writes is in the logical volume, over every transport that weft serves."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import pytest

from lab import Lab, Rdma, Vm
from lab.bulk import attach_all, detach_all
from lab.io import digest, ext4_content, make_ext4
from lab.traces import attached_to
from lab.world import Host, NodeSetup, StorageNode
from weft.model import HostId

FILES_MIB = 16
COMPARED_MIB = 64

TCP4 = "10.77.0.1:4420"
TCP6 = "[fd77::1]:4420"
ROCE = "rdma://10.77.0.1:4420"  # rxe on wire0
IWARP = (
    "rdma://10.77.1.1:4420"  # siw on wire1: it listens by the kernel's TCP, so not where a tcp portal does
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    node: StorageNode
    hosts: dict[str, tuple[Vm, HostId]]


@pytest.fixture(scope="module")
def site(lab_with_weft: Lab) -> Iterator[Site]:
    """A node that offers everything, and two hosts that know it: another machine, and itself."""
    node, other = lab_with_weft["node"], lab_with_weft["host1"]
    for vm in (node, other):
        vm.rdma(Rdma.RXE, "wire0")
        vm.rdma(Rdma.SIW, "wire1")
    storage = StorageNode(node, NodeSetup(portals=(TCP4, TCP6, ROCE, IWARP, "loop")))
    storage.start()
    hosts = {vm.name: (vm, storage.register(vm.name, Host(vm).make_identity())) for vm in (node, other)}
    yield Site(node=storage, hosts=hosts)
    storage.close()


@pytest.mark.parametrize(
    ("portal", "host_name"),
    [
        pytest.param(TCP4, "host1", id="tcp, IPv4"),
        pytest.param(TCP6, "host1", id="tcp, IPv6"),
        pytest.param(ROCE, "host1", id="rdma, RoCE by rxe"),
        pytest.param(IWARP, "host1", id="rdma, iWARP by siw"),
        pytest.param("loop", "node", id="loop"),
    ],
)
def test_what_a_host_writes_is_in_the_logical_volume(site: Site, portal: str, host_name: str) -> None:
    host, host_id = site.hosts[host_name]
    made = site.node.create("data")
    offered = site.node.admit("data", host_id)
    connection = replace(offered, portals=tuple(each for each in offered.portals if str(each) == portal))
    assert len(connection.portals) == 1, offered.portals
    wanted = {made.volume.id: connection}

    device = attach_all(host, wanted)[made.volume.id]
    content = make_ext4(host, device, mib=FILES_MIB)
    assert digest(host, device, COMPARED_MIB) == digest(site.node.vm, made.path, COMPARED_MIB)
    detach_all(host, wanted)
    assert attached_to(host) == []
    site.node.evict("data", host_name)
    assert ext4_content(site.node.vm, made.path) == content
    site.node.delete("data")
