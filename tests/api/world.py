"""A control plane for tests: real store, service and API server, and a node whose driver and target are fakes."""

import http.client
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fakes.crash import CrashPlan
from fakes.driver import FakeVolumeDriver
from fakes.rows import NOON
from fakes.target import FakeTarget
from weft.api.server import ApiServer
from weft.client import Client
from weft.config import ApiAuth, ApiSection, Config, ConfigFile, check_config
from weft.control.node import Node
from weft.control.service import Service
from weft.model import GIB, HostId, Initiator, NodeId, Pool, PoolId, Protocol, Status, VolumeId
from weft.names import host_nqn, new_id
from weft.ports import POOLS, Put
from weft.requests import (
    DEFAULT_TENANT,
    CreateAttachmentRequest,
    CreateSnapshotRequest,
    CreateVolumeRequest,
    HostRequest,
)
from weft.store.sqlite import SqliteStore
from weft.views import AttachmentView, SnapshotView, VolumeView

POOL_ID = PoolId("3f0c1a52-9d1b-4a57-8f3e-5a6f0d1c2b3a")
BASE = f"/v1beta/{DEFAULT_TENANT}"


@dataclass(frozen=True, slots=True)
class Reply:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class World:
    config: Config
    store: SqliteStore
    service: Service
    driver: FakeVolumeDriver
    plan: CrashPlan
    target: FakeTarget
    server: ApiServer
    client: Client = field(init=False)

    def __post_init__(self) -> None:
        self.client = Client.for_config(self.config)

    def ask(
        self,
        method: str,
        path: str,
        body: object = None,
        headers: dict[str, str] | None = None,
        *,
        tcp: tuple[str, int] | None = None,
    ) -> Reply:
        """One request with nothing of weft's in between. body: bytes as they are, None for none, else JSON."""
        connection = http.client.HTTPConnection(*tcp) if tcp else _OverSocket(self.config.api_socket)
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        try:
            connection.request(method, path, data, headers or {})
            response = connection.getresponse()
            received = {key.lower(): value for key, value in response.headers.items()}
            return Reply(response.status, received, response.read())
        finally:
            connection.close()

    def volume(self, name: str = "v", size: int = GIB, **more: Any) -> VolumeView:
        view = self.client.create_volume(CreateVolumeRequest(name=name, size=size, **more), wait=20)
        assert view.status is Status.AVAILABLE, view
        return view

    def snapshot(self, volume_id: VolumeId, name: str = "s") -> SnapshotView:
        view = self.client.create_snapshot(CreateSnapshotRequest(name=name, volume_id=volume_id), wait=20)
        assert view.status is Status.AVAILABLE, view
        return view

    def host(self, name: str = "h1", **more: Any) -> HostId:
        initiator = Initiator(port_name=host_nqn(new_id()), protocol=Protocol.NVMEOF)
        return self.client.create_host(HostRequest(name=name, initiators=(initiator,), **more)).id

    def attachment(self, volume_id: VolumeId, host_id: HostId) -> AttachmentView:
        request = CreateAttachmentRequest(volume_id=volume_id, host_id=host_id)
        view = self.client.create_attachment(request, wait=20)
        assert view.status is Status.AVAILABLE, view
        return view


class _OverSocket(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=30)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(30)
        self.sock.connect(str(self._path))


def make_config(folder: Path, *, listen: tuple[str, ...] = (), auth: ApiAuth = ApiAuth.TOKEN) -> Config:
    return check_config(
        ConfigFile(
            data_dir=str(folder / "data"),
            runtime_dir=str(folder / "run"),
            node_name="node",
            api=ApiSection(listen=listen, auth=auth),
        )
    )


@contextmanager
def make_world(
    config: Config, *, with_node: bool = True, store_type: type[SqliteStore] = SqliteStore
) -> Iterator[World]:
    """with_node False: intent is written and nobody acts on it."""
    plan = CrashPlan()
    driver = FakeVolumeDriver(plan)
    with ExitStack() as stack:
        store = stack.enter_context(closing(store_type(config.database)))
        target = FakeTarget()
        service = Service(store, {Protocol.NVMEOF: target})
        service.profiles.ensure_default()
        pool = Pool(
            id=POOL_ID,
            name="default",
            node_id=NodeId("node"),
            created_at=NOON,
            capabilities={"diskType": "SSD"},
        )
        store.transact({}, [Put(POOLS, pool)])
        node = Node(NodeId("node"), store, {POOL_ID: driver}, {Protocol.NVMEOF: target}, workers=2)
        node.measure_pools()
        if with_node:
            node.start()
            stack.callback(_stop, node, store)
        server = ApiServer(service, config)
        server.start()
        stack.callback(server.stop)
        yield World(config, store, service, driver, plan, target, server)


def _stop(node: Node, store: SqliteStore) -> None:
    stopping = InBackground(node.stop)
    while not stopping.is_done:
        store.transact({}, [])  # wakes the node's watch, which would look up only after a second
        time.sleep(0.005)
    stopping.result()


def free_port(address: str = "127.0.0.1") -> int:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family) as finder:
        finder.bind((address, 0))
        port: int = finder.getsockname()[1]
        return port


@dataclass
class InBackground:
    """Runs one call in a thread of its own, and gives its result or its error."""

    call: Callable[[], Any]

    def __post_init__(self) -> None:
        self._result: Any = None
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._result = self.call()
        except BaseException as error:  # noqa: BLE001 -- handed to the test
            self._error = error

    @property
    def is_done(self) -> bool:
        return not self._thread.is_alive()

    def result(self, seconds: float = 20.0) -> Any:
        self._thread.join(seconds)
        assert self.is_done, "the call goes on"
        if self._error is not None:
            raise self._error
        return self._result
