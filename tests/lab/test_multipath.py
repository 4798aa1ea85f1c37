"""A volume by several portals: what its host notices when one of them goes, and when another one comes."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import pytest

from lab import Lab, Rdma, Vm
from lab.bulk import attach_all, detach_all, export_all, make_all
from lab.io import FioReport, VerifyingFio, digest, wait_until
from lab.traces import attached_to
from lab.world import Host, NodeSetup, StorageNode
from weft.connection import NvmeofConnection
from weft.model import VolumeId

FIRST, SECOND = "10.77.0.1:4420", "10.77.1.1:4420"
RDMA = "10.77.1.1:4421"  # soft iWARP listens by the kernel's TCP, so not where a tcp portal does

# The live paths to the one subsystem that the host knows, in lines such as "tcp 10.77.0.1:4420".
LIVE = r"""
for each in /sys/class/nvme/nvme*; do
    [ "$(cat "$each/state" 2>/dev/null)" != live ] || echo "$(cat "$each/transport") $(cat "$each/address")"
done | sed 's/ traddr=\([^,]*\),trsvcid=\([0-9]*\).*/ \1:\2/' | sort | tr '\n' ';'
"""

Record = Callable[[str, object], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Data:
    """A volume of a node, and the host that it is exported to."""

    node: StorageNode
    host: Vm
    volume_id: VolumeId
    backing: str

    def connection(self, *portals: str) -> NvmeofConnection:
        """By these of the portals that the node offers now; by all of them where none is named."""
        (attachment,) = self.node.client.attachments(self.volume_id)
        found = attachment.connection
        assert isinstance(found, NvmeofConnection)
        offered = {str(each): each for each in found.portals}
        return replace(found, portals=tuple(offered[each] for each in portals)) if portals else found

    def add_portal(self, portal: str) -> None:
        """Write it into the node's configuration, start weft anew, and wait until the volume is offered there."""
        if portal not in self.node.setup.portals:
            self.node.configure(replace(self.node.setup, portals=(*self.node.setup.portals, portal)))
            self.node.restart()
        deadline = time.monotonic() + 120
        while portal not in map(str, self.connection().portals):
            assert time.monotonic() < deadline, self.node.status()
            time.sleep(0.5)

    def attach(self, *portals: str) -> str:
        return attach_all(self.host, {self.volume_id: self.connection(*portals)})[self.volume_id]

    def detach(self) -> None:
        detach_all(self.host, {self.volume_id: self.connection()})

    def wait_for_paths(self, *paths: str) -> None:
        wanted = "".join(f"{each};" for each in sorted(paths))
        wait_until(f'[ "$({LIVE})" = "{wanted}" ]', self.host, timeout=180, what=f"paths {wanted}")

    def assert_nothing_lost(self, device: str, report: FioReport) -> None:
        assert report.error == 0, report.output
        assert digest(self.host, device, 64) == digest(self.node.vm, self.backing, 64)


@pytest.fixture(scope="module")
def data(lab_with_weft: Lab) -> Iterator[Data]:
    node = StorageNode(lab_with_weft["node"], NodeSetup(pool="thick", portals=(FIRST,)))
    node.start()
    host = lab_with_weft["host1"]
    host_id = node.register("host1", Host(host).make_identity())
    (made,) = make_all(node, ["data"])
    export_all(node, [made.volume.id], host_id)
    yield Data(node=node, host=host, volume_id=made.volume.id, backing=made.path)
    node.close()


@pytest.mark.lab_full
def test_a_portal_added_later_becomes_a_path(data: Data, record_property: Record) -> None:
    device = data.attach()
    data.wait_for_paths(f"tcp {FIRST}")
    with VerifyingFio(data.host, device) as fio:
        fio.wait_for_progress()
        data.add_portal(SECOND)
        assert data.attach() == device
        data.wait_for_paths(f"tcp {FIRST}", f"tcp {SECOND}")
        with data.node.vm.without("wire0"):
            fio.wait_for_progress()
        report = fio.finish()
    record_property("longest pause, s", report.longest_pause)
    data.assert_nothing_lost(device, report)
    data.detach()


@pytest.mark.lab_full
def test_io_goes_on_while_either_of_two_portals_is_cut_off(data: Data, record_property: Record) -> None:
    data.add_portal(SECOND)
    both = (f"tcp {FIRST}", f"tcp {SECOND}")
    device = data.attach(FIRST, SECOND)
    data.wait_for_paths(*both)
    for wire, left in (("wire0", both[1]), ("wire1", both[0])):
        pause = pause_when_cut(data, device, wire, both, left)
        record_property(f"longest pause with {wire} cut, s", pause)
    data.detach()


@pytest.mark.parametrize("kind", [Rdma.SIW, pytest.param(Rdma.RXE, marks=pytest.mark.lab_full)])
def test_io_goes_on_by_tcp_while_rdma_is_cut_off_and_by_rdma_while_tcp_is(
    data: Data, kind: Rdma, record_property: Record
) -> None:
    for vm in (data.node.vm, data.host):
        vm.remove_rdma()
        vm.rdma(kind, "wire1")
    data.add_portal(f"rdma://{RDMA}")
    # Where the portal was there before, its device has gone and another has come since.
    listens = f"rdma resource show cm_id | grep --quiet 'LISTEN.*nvmet_rdma.* {RDMA} '"
    wait_until(listens, data.node.vm, timeout=180, what=f"nvmet listening at {RDMA}")
    both = (f"tcp {FIRST}", f"rdma {RDMA}")
    device = data.attach(f"rdma://{RDMA}", FIRST)
    data.wait_for_paths(*both)
    for wire, left in (("wire1", both[0]), ("wire0", both[1])):
        pause = pause_when_cut(data, device, wire, both, left)
        record_property(f"longest pause with {wire} cut, s", pause)
    data.detach()
    assert attached_to(data.host) == []


def pause_when_cut(data: Data, device: str, wire: str, both: Sequence[str], left: str) -> float:
    """I/O goes on by the path that is left while a wire is cut silently, and nothing is lost; its longest pause."""
    with VerifyingFio(data.host, device) as fio:
        fio.wait_for_progress()
        with data.node.vm.without(wire):
            data.wait_for_paths(left)
            fio.wait_for_progress()
        data.wait_for_paths(*both)
        fio.wait_for_progress()
        report = fio.finish()
    data.assert_nothing_lost(device, report)
    return report.longest_pause
