"""kill -9 of weft at random instants while volumes in LVM are made, exported, snapshotted, taken back and deleted.

What was promised holds afterwards, LVM and nvmet have exactly that, and no content is lost.
"""

import random
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TypeVar

import pytest

from lab import Lab
from lab.bulk import attach_all, delete_all, detach_all, export_all, make_all, stamp, stamps, withdraw_all
from lab.io import VerifyingFio, digest
from lab.traces import attached_to, exported_by, volumes_of
from lab.world import Host, NodeSetup, StorageNode
from weft.client import Client
from weft.connection import NvmeofConnection
from weft.errors import UnavailableError, WeftError
from weft.model import GIB, AttachmentId, HostId, SnapshotId, Status, VolumeId
from weft.names import host_nqn, new_id, subsystem_nqn
from weft.requests import CreateAttachmentRequest, CreateSnapshotRequest, CreateVolumeRequest
from weft.views import AttachmentView, SnapshotView, VolumeView

pytestmark = pytest.mark.lab_full

IdT = TypeVar("IdT", bound=str)

PORTAL = "10.77.0.1:4420"
CHANGING = {Status.CREATING, Status.DELETING}
SETTLE_SECONDS = 600


@dataclass(slots=True, kw_only=True)
class Promised:
    """What weft has said yes to. Of what was asked in the moment of a crash it is not known whether it was taken."""

    volumes: set[VolumeId] = field(default_factory=set)
    snapshots: set[SnapshotId] = field(default_factory=set)
    attachments: set[AttachmentId] = field(default_factory=set)
    deleted: set[str] = field(default_factory=set)

    @property
    def summary(self) -> str:
        return (
            f"{len(self.volumes)} volumes, {len(self.snapshots)} snapshots, {len(self.attachments)} attachments,"
            f" {len(self.deleted)} deletions"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """Volumes that nobody deletes. busy is attached and written to all the time; the others hold their ids."""

    busy: VolumeId
    device: str
    connection: NvmeofConnection
    paths: dict[VolumeId, str]


# What each subsystem shows, whom it lets in, and where it is to be had.
TREE = r"""
shopt -s nullglob
cd /sys/kernel/config/nvmet
for each in subsystems/*; do
    nqn=${each#subsystems/}
    for namespace in $each/namespaces/*; do
        echo "$nqn shows $(cat $namespace/device_path) $(cat $namespace/enable)"
    done
    for host in $each/allowed_hosts/*; do echo "$nqn allows ${host##*/}"; done
done
for port in ports/*; do
    for link in $port/subsystems/*; do
        echo "${link##*/} is at $(cat $port/addr_traddr):$(cat $port/addr_trsvcid)"
    done
done
"""


class Operator:
    """Asks for one thing after the other at random, until weft does not answer."""

    def __init__(self, client: Client, kept: Kept, stranger: HostId, source: random.Random) -> None:
        self.promised = Promised()
        self._client = client
        self._kept = [each for each in kept.paths if each != kept.busy]
        self._stranger = stranger
        self._source = source

    def work_until_it_dies(self) -> None:
        verbs: list[Callable[[], None]] = [
            self._create,
            self._create,
            self._export,
            self._export,
            self._snapshot,
            self._withdraw,
            self._delete_snapshot,
            self._delete,
        ]
        while True:
            try:
                self._source.choice(verbs)()
            except UnavailableError:
                return
            except WeftError:  # such as a deletion of what is in use
                continue

    def _volume(self) -> VolumeId:
        return self._source.choice([*self._kept, *sorted(self.promised.volumes)])

    def _wait(self) -> float:
        return self._source.choice((0.0, 1.0, 10.0))

    def _create(self) -> None:
        made = self._client.create_volume(CreateVolumeRequest(name="v", size=GIB), wait=0)
        self.promised.volumes.add(made.volume.id)
        self._client.volume(made.volume.id, wait=self._wait())

    def _export(self) -> None:
        request = CreateAttachmentRequest(volume_id=self._volume(), host_id=self._stranger)
        made = self._client.create_attachment(request, wait=0)
        self.promised.attachments.add(made.attachment.id)
        self._client.attachment(made.attachment.id, wait=self._wait())

    def _snapshot(self) -> None:
        made = self._client.create_snapshot(CreateSnapshotRequest(name="s", volume_id=self._volume()), wait=0)
        self.promised.snapshots.add(made.snapshot.id)
        self._client.snapshot(made.snapshot.id, wait=self._wait())

    def _withdraw(self) -> None:
        self._take(self.promised.attachments, self._client.delete_attachment)

    def _delete_snapshot(self) -> None:
        self._take(self.promised.snapshots, self._client.delete_snapshot)

    def _delete(self) -> None:
        self._take(self.promised.volumes, self._client.delete_volume)

    def _take(self, promised: set[IdT], delete: Callable[[IdT, float], bool]) -> None:
        """Of a deletion that was not answered it is not known whether it was taken."""
        if not promised:
            return
        chosen = self._source.choice(sorted(promised))
        promised.discard(chosen)
        try:
            delete(chosen, self._wait())
        except UnavailableError:
            raise
        except WeftError:
            promised.add(chosen)
            raise
        self.promised.deleted.add(chosen)


@pytest.fixture(scope="module")
def node(lab_with_weft: Lab) -> Iterator[StorageNode]:
    node = StorageNode(lab_with_weft["node"], NodeSetup(portals=(PORTAL,), disks=2))
    node.start()
    yield node
    node.close()


@pytest.fixture
def kept(node: StorageNode, lab: Lab) -> Kept:
    host = Host(lab["host1"])
    host_id = node.register("host1", host.make_identity())
    paths = {made.volume.id: made.path for made in make_all(node, ["busy", "kept-1", "kept-2"])}
    connections = export_all(node, list(paths), host_id)
    devices = attach_all(host.vm, connections)
    busy, *others = paths
    stamp(host.vm, {devices[each]: each for each in others})
    rest = {each: connections[each] for each in others}
    detach_all(host.vm, rest)
    for each in node.client.attachments():
        if each.attachment.volume_id in rest:
            assert node.client.delete_attachment(each.attachment.id, wait=60)
    return Kept(busy=busy, device=devices[busy], connection=connections[busy], paths=paths)


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kills", [5, pytest.param(20, marks=pytest.mark.lab_full)])
def test_whenever_weft_is_killed_its_promises_hold(
    node: StorageNode, kept: Kept, lab: Lab, kills: int, record_property: Callable[[str, object], None]
) -> None:
    host = lab["host1"]
    source = random.Random(kills)
    stranger = node.register("stranger", host_nqn(new_id()))
    operator = Operator(node.client, kept, stranger, source)
    with VerifyingFio(host, kept.device, iops=20) as fio:
        for _ in range(kills):
            killer = threading.Timer(source.uniform(1, 12), node.kill)
            killer.start()
            operator.work_until_it_dies()
            killer.join()
            node.wait()
        wait_until_settled(node.client)
        fio.wait_for_progress()
        report = fio.finish()
    record_property("promised", operator.promised.summary)
    assert report.error == 0, report.output
    assert digest(host, kept.device, 64) == digest(node.vm, kept.paths[kept.busy], 64)
    others = [each for each in kept.paths if each != kept.busy]
    assert stamps(node.vm, [kept.paths[each] for each in others]) == others

    assert_promises_hold(node.client, operator.promised)
    assert_lvm_is_exact(node)
    assert_nvmet_is_exact(node)

    detach_all(host, {kept.busy: kept.connection})
    assert attached_to(host) == []
    withdraw_all(node)
    assert exported_by(node.vm) == []
    for snapshot in node.client.snapshots():
        assert node.client.delete_snapshot(snapshot.snapshot.id, wait=120)
    delete_all(node)
    assert volumes_of(node.vm) == []
    for known in node.client.hosts():
        node.client.delete_host(known.id)


def everything(client: Client) -> dict[str, VolumeView | SnapshotView | AttachmentView]:
    """All rows, by id."""
    return {
        **{view.volume.id: view for view in client.volumes()},
        **{view.snapshot.id: view for view in client.snapshots()},
        **{view.attachment.id: view for view in client.attachments()},
    }


def wait_until_settled(client: Client) -> None:
    deadline = time.monotonic() + SETTLE_SECONDS
    while unsettled := [view.reason for view in everything(client).values() if view.status in CHANGING]:
        assert time.monotonic() < deadline, unsettled
        time.sleep(1)


def assert_promises_hold(client: Client, promised: Promised) -> None:
    found = everything(client)
    assert promised.volumes | promised.snapshots | promised.attachments <= found.keys()
    assert not promised.deleted & found.keys()
    settled = {Status.AVAILABLE, Status.IN_USE}
    assert not [(view.status, view.reason) for view in found.values() if view.status not in settled]
    assert all(view.connection is not None for view in client.attachments())


def assert_lvm_is_exact(node: StorageNode) -> None:
    client = node.client
    wanted = {
        *(f"weft-{view.volume.id}" for view in client.volumes()),
        *(f"weft-snap-{view.snapshot.id}" for view in client.snapshots()),
    }
    assert {each for each in volumes_of(node.vm) if not each.startswith("dm: ")} == wanted


def assert_nvmet_is_exact(node: StorageNode) -> None:
    client = node.client
    names = {host.id: host.initiators[0].port_name for host in client.hosts()}
    paths = {view.volume.id: view.path for view in client.volumes()}
    wanted = set()
    for view in client.attachments():
        nqn = subsystem_nqn(view.attachment.volume_id)
        wanted |= {
            f"{nqn} shows {paths[view.attachment.volume_id]} 1",
            f"{nqn} allows {names[view.attachment.host_id]}",
            f"{nqn} is at {PORTAL}",
        }
    assert set(node.vm.run(TREE).stdout.splitlines()) == wanted
