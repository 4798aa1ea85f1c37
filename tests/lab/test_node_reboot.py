"""The storage node is rebooted while a host writes: the host goes on by itself, with the same devices."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import pytest

from lab import Lab, Rdma, Vm
from lab.bulk import attach_all, detach_all, export_all, make_all
from lab.io import VerifyingFio, digest
from lab.traces import attached_to
from lab.world import Host, NodeSetup, StorageNode
from weft.connection import NvmeofConnection
from weft.model import VolumeId

PORTALS = {"tcp": "10.77.0.1:4420", "rdma": "rdma://10.77.0.1:4421"}

Record = Callable[[str, object], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """A volume by tcp and a volume by rdma, attached to a host."""

    node: StorageNode
    host: Vm
    devices: dict[str, str]
    backing: dict[str, str]

    def identities(self) -> str:
        """By what the host's kernel knows the devices."""
        words = [
            f"/sys/class/block/{device.removeprefix('/dev/')}/{attribute}"
            for device in self.devices.values()
            for attribute in ("wwid", "nguid", "uuid", "size", "dev")
        ]
        return self.host.run(["grep", "-H", ".", *words]).stdout


@pytest.fixture(scope="module")
def site(lab_with_weft: Lab) -> Iterator[Site]:
    host, node = (
        lab_with_weft["host1"],
        StorageNode(lab_with_weft["node"], NodeSetup(portals=tuple(PORTALS.values()))),
    )
    for vm in (host, node.vm):
        vm.rdma(Rdma.RXE, "wire0")
    node.start()
    host_id = node.register("host1", Host(host).make_identity())
    made = dict(zip(PORTALS, make_all(node, list(PORTALS)), strict=True))
    exported = export_all(node, [each.volume.id for each in made.values()], host_id)
    connections: dict[VolumeId, NvmeofConnection] = {}
    for transport, view in made.items():
        connections[view.volume.id] = only(exported[view.volume.id], PORTALS[transport])
    paths = attach_all(host, connections)
    yield Site(
        node=node,
        host=host,
        devices={transport: paths[view.volume.id] for transport, view in made.items()},
        backing={transport: view.path for transport, view in made.items()},
    )
    detach_all(host, connections)
    assert attached_to(host) == []
    node.close()


@pytest.mark.parametrize(
    "late",
    [
        pytest.param(0, id="address at once"),
        pytest.param(30, marks=pytest.mark.lab_full, id="address 30 s after weft"),
    ],
)
def test_io_resumes_by_itself_on_the_same_devices(site: Site, late: int, record_property: Record) -> None:
    before = site.identities()
    if late:
        site.node.vm.delay_addresses(late)
    with (
        VerifyingFio(site.host, site.devices["tcp"], iops=50) as by_tcp,
        VerifyingFio(site.host, site.devices["rdma"], iops=50) as by_rdma,
    ):
        running = {"tcp": by_tcp, "rdma": by_rdma}
        for fio in running.values():
            fio.wait_for_progress()
        site.node.vm.reboot()
        for fio in running.values():
            fio.wait_for_progress(timeout=400)
        reports = {transport: fio.finish() for transport, fio in running.items()}
    for transport, report in reports.items():
        record_property(f"longest pause by {transport}, s", report.longest_pause)
        assert report.error == 0, report.output
        assert digest(site.host, site.devices[transport], 64) == digest(
            site.node.vm, site.backing[transport], 64
        )
    assert site.identities() == before


def only(connection: NvmeofConnection, portal: str) -> NvmeofConnection:
    kept = tuple(each for each in connection.portals if str(each) == portal)
    assert kept, connection.portals
    return replace(connection, portals=kept)
