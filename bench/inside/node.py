"""A storage node's parts in this process, without the API: configuration, store, drivers, the kernel's target, loop."""

import os
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.inside.rounds import wait_until
from bench.inside.tree import NVMET, PlainExport, PlainPort
from weft.config import Config, ConfigFile, PoolKind, PoolSection, TargetKind, TargetSection, check_config
from weft.connection import AttachmentState, NvmeofConnection
from weft.control.node import Node
from weft.control.rows import now
from weft.control.service import Service
from weft.drivers import open_driver
from weft.model import (
    Attachment,
    AttachmentId,
    Host,
    HostId,
    Initiator,
    NodeId,
    Pool,
    PoolId,
    Protocol,
    StateStatus,
    Volume,
    VolumeId,
    VolumeState,
)
from weft.names import new_id, serial_number, subsystem_nqn
from weft.ports import (
    ATTACHMENT_STATES,
    ATTACHMENTS,
    HOSTS,
    POOL_STATES,
    POOLS,
    VOLUME_STATES,
    VOLUMES,
    Put,
    VolumeDriver,
    Write,
)
from weft.requests import DEFAULT_TENANT, Caller
from weft.store.sqlite import SqliteStore
from weft.targets import NvmetTarget

FOLDER: Final = Path("/dev/shm/weft-bench")
VOLUME_GROUP: Final = "bench"
VOLUME_BYTES: Final = 4 << 20
PORT: Final = 4420
HOST_NQN: Final = "nqn.2014-08.org.nvmexpress:uuid:00000000-0000-4000-8000-000000000001"
CALLER: Final = Caller(tenant_id=DEFAULT_TENANT, is_admin=True)
_LINKED_SECONDS: Final = 1800.0
_IDLE_SECONDS: Final = 0.5
_IDLE_SHARE: Final = 0.1


@dataclass(frozen=True, slots=True)
class BenchNode:
    """What lasts over a restart of weft: the configuration, the pool, and the store with its rows."""

    config: Config
    store: SqliteStore
    service: Service
    pool_id: PoolId
    driver: VolumeDriver
    host: Host

    def fill(self, count: int) -> list[Volume]:
        """Have so many more volumes with their bytes, attached to the host, as weft would have written them down."""
        made = [self._volume() for _ in range(count)]
        writes: list[Write] = []
        for each in made:
            self.driver.create(each)
            writes += self._rows(each)
        self.store.transact({}, writes)
        return made

    @contextmanager
    def running(self) -> Iterator[NvmetTarget]:
        """weft's loop over the kernel's target, as `weft serve` runs it."""
        target = NvmetTarget(self.config)
        target.start()
        node = Node(
            NodeId(self.config.node_name), self.store, {self.pool_id: self.driver}, {Protocol.NVMEOF: target}
        )
        try:
            node.start()
            yield target
        finally:
            node.stop()
            target.stop()

    @property
    def is_measured(self) -> bool:
        """Whether the loop has written down how much room the pool has, without which no volume is made."""
        return self.store.get(POOL_STATES, self.pool_id) is not None

    def wait_linked(self, count: int) -> None:
        """Until so many subsystems are shown at every portal."""
        wait_until(
            lambda: linked(len(self.config.portals())) == count * len(self.config.portals()),
            seconds=_LINKED_SECONDS,
            what=f"{count} subsystems linked",
        )

    def wait_idle(self) -> None:
        """Until the looks at everything that follow a start are over: this process does next to nothing."""

        def is_idle() -> bool:
            began = time.process_time()
            time.sleep(_IDLE_SECONDS)
            return time.process_time() - began < _IDLE_SECONDS * _IDLE_SHARE

        wait_until(is_idle, seconds=_LINKED_SECONDS, what="the loop at rest")

    def forget(self) -> None:
        """Have nvmet forget everything of weft's, as a restart of the machine does."""
        NvmetTarget(self.config).stop_target()

    def plain(self, volumes: Sequence[Volume]) -> list[PlainExport]:
        return [
            PlainExport(
                nqn=self._nqn(each.id),
                serial=serial_number(each.id),
                device=str(self.driver.path(each)),
                uuid=each.id,
                host=HOST_NQN,
                qid_max=self.config.target.max_io_queues,
            )
            for each in volumes
        ]

    def plain_ports(self) -> list[PlainPort]:
        return [
            PlainPort(id=str(number), transport=each.transport.value, address=each.address, port=each.port)
            for number, each in enumerate(self.config.portals(), 1)
        ]

    def _nqn(self, volume_id: VolumeId) -> str:
        return subsystem_nqn(volume_id, self.config.target.nqn_prefix)

    def _volume(self) -> Volume:
        volume_id = VolumeId(new_id())
        return Volume(
            id=volume_id,
            tenant_id=DEFAULT_TENANT,
            name=f"bench-{volume_id}",
            size=VOLUME_BYTES,
            pool_id=self.pool_id,
            created_at=now(),
        )

    def _rows(self, volume: Volume) -> list[Write]:
        attachment = Attachment(
            id=AttachmentId(new_id()),
            volume_id=volume.id,
            host_id=self.host.id,
            tenant_id=DEFAULT_TENANT,
            created_at=now(),
        )
        connection = NvmeofConnection(
            volume_id=volume.id, nqn=self._nqn(volume.id), portals=self.config.portals(), host_nqn=HOST_NQN
        )
        return [
            Put(VOLUMES, volume),
            Put(
                VOLUME_STATES,
                VolumeState(
                    id=volume.id,
                    status=StateStatus.AVAILABLE,
                    generation=volume.generation,
                    size=volume.size,
                    path=str(self.driver.path(volume)),
                ),
            ),
            Put(ATTACHMENTS, attachment),
            Put(
                ATTACHMENT_STATES,
                AttachmentState(
                    id=attachment.id,
                    volume_id=volume.id,
                    status=StateStatus.AVAILABLE,
                    generation=attachment.generation,
                    connection=connection,
                ),
            ),
        ]


def linked(ports: int) -> int:
    """How many links from ports to subsystems there are; 0 until that many ports are there."""
    # By bare calls, for weft waits while this process looks.
    found = os.listdir(f"{NVMET}/ports")  # noqa: PTH208
    if len(found) != ports:
        return 0
    return sum(len(os.listdir(f"{NVMET}/ports/{each}/subsystems")) for each in found)  # noqa: PTH208


@contextmanager
def bench_node(kind: PoolKind = PoolKind.FILE, portals: Sequence[str] = ()) -> Iterator[BenchNode]:
    """A node with nothing in it; what it leaves in FOLDER and in nvmet goes with it."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    config = _config(kind, portals)
    config.data_dir.mkdir(mode=0o700, parents=True)
    config.runtime_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    store = SqliteStore(config.database)
    service = Service(store)
    service.profiles.ensure_default()
    pool = Pool(
        id=PoolId(new_id()), name="bench", node_id=NodeId(config.node_name), created_at=now(), over_commit=1e6
    )
    host = Host(
        id=HostId(new_id()),
        tenant_id=DEFAULT_TENANT,
        name="bench",
        created_at=now(),
        initiators=(Initiator(port_name=HOST_NQN, protocol=Protocol.NVMEOF),),
    )
    store.transact({}, [Put(POOLS, pool), Put(HOSTS, host)])
    try:
        yield BenchNode(config, store, service, pool.id, open_driver(config.pools[0], config), host)
    finally:
        store.close()
        NvmetTarget(config).stop_target()
        shutil.rmtree(FOLDER, ignore_errors=True)


def _config(kind: PoolKind, portals: Sequence[str]) -> Config:
    pool = PoolSection(name="bench", kind=kind, volume_group=VOLUME_GROUP if kind is PoolKind.LVM else "")
    return check_config(
        ConfigFile(
            data_dir=str(FOLDER / "data"),
            runtime_dir=str(FOLDER / "run"),
            node_name="bench",
            target=TargetSection(
                kind=TargetKind.NVMET, portals=tuple(portals) or (f"127.0.0.1:{PORT}",), restore_seconds=3600
            ),
            pools=(pool,),
        )
    )
