"""A whole control plane on fakes: a service, a node that is stepped by hand, and the world that they work on."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from fakes.crash import CrashPlan
from fakes.driver import FakeVolumeDriver
from fakes.rows import NOON
from fakes.store import MemoryStore
from fakes.target import FakeTarget
from weft.control.node import Node
from weft.control.service import Service
from weft.errors import WeftError
from weft.model import (
    GIB,
    AttachmentId,
    Host,
    HostId,
    Initiator,
    NodeId,
    Pool,
    PoolId,
    Protocol,
    SnapshotId,
    Status,
    TenantId,
    Volume,
    VolumeId,
)
from weft.names import host_nqn, new_id
from weft.ports import POOLS, VOLUMES, Put, Store
from weft.requests import (
    Caller,
    CreateAttachmentRequest,
    CreateSnapshotRequest,
    CreateVolumeRequest,
    HostRequest,
)

NODE = NodeId("node-1")
POOL = PoolId("3f0c1a52-9d1b-4a57-8f3e-5a6f0d1c2b3a")
ALICE = Caller(tenant_id=TenantId("5b7e2c94-1f6d-4c3a-9b8e-7d2a4f6c8e01"), user_id="alice")
BOB = Caller(tenant_id=TenantId("8c1d3e5f-7a9b-4c2d-8e4f-6a8b0c2d4e6f"), user_id="bob")
ADMIN = Caller(tenant_id=TenantId("e93b4c09-34da-416e-b9c8-d120c5d04d96"), is_admin=True)

OLD = b"old." * 1024
NEW = b"new!" * 1024


def make_pool(**changes: object) -> Pool:
    values: dict[str, object] = {"id": POOL, "name": "pool", "node_id": NODE, "created_at": NOON}
    return Pool(**{**values, **changes})  # type: ignore[arg-type]


class ControlPlane:
    """What outlives a restart is the store and the world; restart() makes everything else anew."""

    def __init__(
        self,
        store: Store | None = None,
        *,
        pools: Sequence[Pool] = (make_pool(),),
        total: int = 1024 * GIB,
        plan: CrashPlan | None = None,
    ) -> None:
        self.plan = plan or CrashPlan()
        self.store = store or MemoryStore(plan=self.plan)
        self.target = FakeTarget(self.plan)
        self.drivers = {
            pool.id: FakeVolumeDriver(self.plan, total=total, exported=self.target.shows) for pool in pools
        }
        self.driver = self.drivers[pools[0].id]
        self.store.transact({}, [Put(POOLS, pool) for pool in pools])
        self.restart()
        self.service.profiles.ensure_default()
        self.node.measure_pools()

    def restart(self) -> None:
        """As if the process had ended and begun again."""
        self.service = Service(self.store, {Protocol.NVMEOF: self.target})
        self.node = Node(NODE, self.store, self.drivers, {Protocol.NVMEOF: self.target})

    def volume_ids(self) -> list[VolumeId]:
        return [row.value.id for row in self.store.list(VOLUMES)]

    def settle(self, passes: int = 20) -> None:
        """Pass over every volume until nothing changes any more."""
        for _ in range(passes):
            before = self.store.revision()
            for volume_id in self.volume_ids():
                self.node.settle(volume_id)
            if self.store.revision() == before:
                return
        raise AssertionError(f"the world does not come to rest in {passes} passes")

    # -- what a client does, done to its end -------------------------------------------------------------------

    def host(self, name: str, caller: Caller = ALICE) -> Host:
        return self.service.hosts.create(caller, host_request(name))

    def volume(
        self,
        name: str = "v",
        *,
        gib: int = 1,
        caller: Caller = ALICE,
        multi_attach: bool = False,
        snapshot_id: SnapshotId | None = None,
        source_volume_id: VolumeId | None = None,
        settle: bool = True,
    ) -> Volume:
        request = CreateVolumeRequest(
            name=name,
            size=gib * GIB,
            multi_attach=multi_attach,
            snapshot_id=snapshot_id,
            source_volume_id=source_volume_id,
        )
        volume = self.service.volumes.create(caller, request).volume
        if settle:
            self.node.settle(volume.id)
        return volume

    def snapshot(
        self, volume: Volume, name: str = "s", *, caller: Caller = ALICE, settle: bool = True
    ) -> SnapshotId:
        request = CreateSnapshotRequest(name=name, volume_id=volume.id)
        snapshot = self.service.snapshots.create(caller, request).snapshot
        if settle:
            self.node.settle(volume.id)
        return snapshot.id

    def attach(
        self, volume: Volume, host: Host, *, caller: Caller = ALICE, settle: bool = True
    ) -> AttachmentId:
        request = CreateAttachmentRequest(volume_id=volume.id, host_id=host.id)
        attachment = self.service.attachments.create(caller, request).attachment
        if settle:
            self.node.settle(volume.id)
        return attachment.id

    # -- what a client sees ------------------------------------------------------------------------------------

    def status(self, volume: Volume) -> Status:
        return self.service.volumes.get(ADMIN, volume.id).status

    def reason(self, volume: Volume) -> str:
        return self.service.volumes.get(ADMIN, volume.id).reason

    def attachment_status(self, attachment_id: AttachmentId) -> Status:
        return self.service.attachments.get(ADMIN, attachment_id).status

    def snapshot_status(self, snapshot_id: SnapshotId) -> Status:
        return self.service.snapshots.get(ADMIN, snapshot_id).status


def nqn_of(host: Host) -> str:
    nqn = host.initiator(Protocol.NVMEOF)
    assert nqn is not None
    return nqn


def host_request(name: str, nqn: str | None = None) -> HostRequest:
    initiator = Initiator(port_name=nqn or host_nqn(new_id()), protocol=Protocol.NVMEOF)
    return HostRequest(name=name, initiators=(initiator,))


def unknown_host() -> HostId:
    return HostId(new_id())


def path_of(volume_id: VolumeId) -> Path:
    return Path("/fake/volumes") / f"{volume_id}.img"


def refused(plane: ControlPlane, kind: type[WeftError], words: str, verb: Callable[[], object]) -> None:
    """The verb is refused with these words, and nothing was written."""
    before = plane.store.revision()
    with pytest.raises(kind, match=words):
        verb()
    assert plane.store.revision() == before
