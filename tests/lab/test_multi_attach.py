"""Two hosts on one volume: one leaves or is thrown out, and the other one goes on."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from lab import Lab, Vm
from lab.bulk import attach_all, detach_all
from lab.io import FioReport, VerifyingFio, digest
from lab.traces import attached_to
from lab.world import Host, NodeSetup, StorageNode
from weft.connection import NvmeofConnection

RECONNECT_DELAY = 1.0  # seconds, weft's default
LEAVING, STAYING = "host1", "host2"

STAMPED_BLOCK = 900 * 256  # of 4 KiB, behind what fio writes to

# Writes the guest's clock into a block over and over, and ends at the first error.
STAMPS = f"""
import mmap, os, sys, time
descriptor = os.open(sys.argv[1], os.O_RDWR | os.O_DIRECT)
block = mmap.mmap(-1, 4096)
while True:
    block[:32] = b"%-32.6f" % time.time()
    os.pwritev(descriptor, [block], {STAMPED_BLOCK} * 4096)
"""

Record = Callable[[str, object], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    node: StorageNode
    hosts: dict[str, Vm]
    connections: dict[str, NvmeofConnection]
    backing: str

    def attach(self, name: str) -> str:
        connection = self.connections[name]
        return attach_all(self.hosts[name], {connection.volume_id: connection})[connection.volume_id]

    def detach(self, name: str) -> None:
        connection = self.connections[name]
        detach_all(self.hosts[name], {connection.volume_id: connection})

    def last_stamp(self) -> float:
        """When, by its clock, the leaving host wrote what the target has taken last."""
        script = f"dd if={self.backing} bs=4096 skip={STAMPED_BLOCK} count=1 iflag=direct status=none | tr -d '\\0'"
        return float(self.node.vm.run(script).stdout)

    def assert_nothing_lost(self, device: str, report: FioReport) -> None:
        assert report.error == 0, report.output
        assert digest(self.hosts[STAYING], device, 64) == digest(self.node.vm, self.backing, 64)


@pytest.fixture(scope="module")
def site(lab_with_weft: Lab) -> Iterator[Site]:
    """A volume that both hosts are let in to."""
    node = StorageNode(lab_with_weft["node"], NodeSetup(portals=("10.77.0.1:4420",)))
    node.start()
    made = node.create("shared", multi_attach=True)
    hosts = {name: lab_with_weft[name] for name in (LEAVING, STAYING)}
    connections = {
        name: node.admit("shared", node.register(name, Host(vm).make_identity()))
        for name, vm in hosts.items()
    }
    yield Site(node=node, hosts=hosts, connections=connections, backing=made.path)
    node.close()


@pytest.mark.lab_full
def test_a_host_that_detaches_is_unnoticed_by_the_other(site: Site, record_property: Record) -> None:
    site.attach(LEAVING)
    device = site.attach(STAYING)
    with VerifyingFio(site.hosts[STAYING], device) as fio:
        fio.wait_for_progress()
        site.detach(LEAVING)
        assert attached_to(site.hosts[LEAVING]) == []
        fio.wait_for_progress()
        report = fio.finish()
    record_property("longest pause of the other host, s", report.longest_pause)
    site.assert_nothing_lost(device, report)
    assert report.longest_pause < RECONNECT_DELAY, "it had to reconnect"


def test_a_host_that_is_thrown_out_writes_nothing_more_and_the_other_goes_on(
    site: Site, record_property: Record
) -> None:
    leaving, staying = site.hosts[LEAVING], site.hosts[STAYING]
    its_device, device = site.attach(LEAVING), site.attach(STAYING)
    with leaving.spawn(["python3", "-c", STAMPS, its_device]) as writer, VerifyingFio(staying, device) as fio:
        undisturbed = pause_of_an_undisturbed_run(site, device)
        fio.wait_for_progress()
        assert writer.is_running
        asked_at = clock(leaving)
        site.node.evict("shared", LEAVING)
        last = site.last_stamp()
        fio.wait_for_progress(300)
        assert site.last_stamp() == last, (
            "the target took something after weft had said that the host is cut off"
        )
        assert writer.wait(120, check=False).status != 0
        report = fio.finish()
    record_property("longest pause of the other host, s", report.longest_pause)
    record_property("its longest pause when nothing happens, s", undisturbed)
    record_property("the target took writes after the request for, s", round(last - asked_at, 3))
    site.assert_nothing_lost(device, report)
    # What the machines are slowed down by at this time happens also where weft does nothing.
    assert last - asked_at <= 2 + undisturbed
    assert report.longest_pause <= RECONNECT_DELAY + 1 + undisturbed
    site.detach(LEAVING)
    site.detach(STAYING)
    assert attached_to(leaving) == attached_to(staying) == []


def pause_of_an_undisturbed_run(site: Site, device: str) -> float:
    with VerifyingFio(site.hosts[STAYING], device, offset_mib=256) as fio:
        fio.wait_for_progress(300)
        return fio.finish().longest_pause


def clock(vm: Vm) -> float:
    return float(vm.run(["date", "+%s.%N"]).stdout)
