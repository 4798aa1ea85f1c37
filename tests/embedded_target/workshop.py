"""A target in this process on free ports, volumes for it, and hosts that talk to it."""

import random
import socket
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from nvme_tcp_host import RawConnection, RawHost
from weft.config import parse_portal
from weft.connection import NvmeofPortal
from weft.embedded.target.nvme_target import NvmeTarget
from weft.embedded.target.settings import Limits, TargetSettings
from weft.model import DhChapSecrets, Export, ExportHost, HostId, VolumeId
from weft.names import DEFAULT_NQN_PREFIX, new_id
from weft.nvme.dhchap_proof import ANY, DhChapPolicy

MIB = 2**20
HOST_A = "nqn.2014-08.org.nvmexpress:uuid:11111111-1111-4111-8111-111111111111"
HOST_B = "nqn.2014-08.org.nvmexpress:uuid:22222222-2222-4222-8222-222222222222"


def free_portal(address: str = "127.0.0.1") -> NvmeofPortal:
    """A port that is free, and not one of those that the kernel gives to outgoing connections.

    From those a host that connects again and again to a target that is not there would once get its own port, and
    be connected to itself.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    while True:
        port = random.randrange(15000, 32000)
        with socket.socket(family) as probe:
            try:
                probe.bind((address, port))
            except OSError:
                continue
        return parse_portal("portal", f"[{address}]:{port}" if ":" in address else f"{address}:{port}")


@dataclass
class Workshop:
    """A folder for volumes, a target that serves them, and everything that has to be closed again."""

    folder: Path
    portals: Sequence[NvmeofPortal]
    limits: Limits
    max_connections: int = 64
    allow_any_host: bool = False
    policy: DhChapPolicy = ANY
    stack: ExitStack = field(default_factory=ExitStack)

    def __post_init__(self) -> None:
        self.pool.mkdir(exist_ok=True)
        self.target = self.start()

    @property
    def pool(self) -> Path:
        return self.folder / "pool"

    @property
    def portal(self) -> NvmeofPortal:
        return self.portals[0]

    @property
    def settings(self) -> TargetSettings:
        return TargetSettings(
            target_dir=str(self.folder / "target"),
            socket=str(self.folder / "target.sock"),
            portals=tuple(str(each) for each in self.portals),
            roots=(str(self.pool),),
            nqn_prefix=DEFAULT_NQN_PREFIX,
            allow_any_host=self.allow_any_host,
            max_connections=self.max_connections,
        )

    def start(self) -> NvmeTarget:
        target = NvmeTarget(self.settings, self.limits, self.policy)
        target.start()
        return target

    def file(self, size: int = 4 * MIB) -> Path:
        path = self.pool / new_id()
        with path.open("wb") as file:
            file.truncate(size)
        return path

    def export(
        self,
        *hosts: str,
        secrets: Mapping[str, DhChapSecrets] | None = None,
        path: Path | None = None,
        size: int = 4 * MIB,
    ) -> Export:
        """Make a volume and export it to hosts; those that have secrets must authenticate."""
        path = path or self.file(size)
        export = Export(
            volume_id=VolumeId(new_id()),
            path=path,
            size=size,
            hosts=tuple(
                ExportHost(host_id=HostId(new_id()), initiator=each, secrets=(secrets or {}).get(each))
                for each in hosts
            ),
        )
        self.target.create_export(export)
        return export

    def attach(self, export: Export, hostnqn: str = HOST_A, **options: object) -> RawHost:
        host = RawHost(self.portal, nqn_of(export), hostnqn, **options)  # type: ignore[arg-type]
        self.stack.callback(host.close)
        return host

    def connection(self, portal: NvmeofPortal | None = None) -> RawConnection:
        """A connection over which nothing was said yet."""
        connection = RawConnection(portal or self.portal)
        self.stack.callback(connection.close)
        return connection

    def close(self) -> None:
        self.stack.close()
        self.target.stop()


def nqn_of(export: Export) -> str:
    return DEFAULT_NQN_PREFIX + export.volume_id


MakeWorkshop = Callable[..., Workshop]
