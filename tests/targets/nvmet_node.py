"""A storage node with a kernel in memory, and weft's target on it, which a test can start again."""

from dataclasses import replace
from pathlib import Path

from fakes.configfs import ROOT, FakeNvmet
from fakes.nvmet import FakeGate, FakeListeners, FakeModules, nvmet_config, start_nvmet
from weft.config import PortalSection
from weft.connection import NvmeofPortal
from weft.model import DhChapSecrets, Export, ExportHost, HostId, Transport, VolumeId
from weft.names import DEFAULT_NQN_PREFIX, new_id, subsystem_nqn
from weft.nvme.dhchap_key import DhChapHash, generate_dhchap_key
from weft.targets import NvmetTarget

MIB = 2**20
HOST_A = "nqn.2014-08.org.nvmexpress:uuid:aaaaaaaa-0000-4000-8000-000000000000"
HOST_B = "nqn.2014-08.org.nvmexpress:uuid:bbbbbbbb-0000-4000-8000-000000000000"
TCP = NvmeofPortal(transport=Transport.TCP, address="192.0.2.1", port=4420)
RDMA = NvmeofPortal(transport=Transport.RDMA, address="192.0.2.2", port=4420)
SECONDS = 10.0


class Node:
    """A storage node: its kernel, and weft's target on it, which can be started again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.kernel = FakeNvmet()
        self.gate = FakeGate()
        self.modules = FakeModules()
        self.listeners = FakeListeners()
        self.config = nvmet_config(folder)
        self._running: NvmetTarget | None = None

    def start(
        self,
        *portals: str | PortalSection,
        restore_seconds: float = 120.0,
        any_host: bool = False,
        nqn_prefix: str = DEFAULT_NQN_PREFIX,
    ) -> NvmetTarget:
        self.stop()
        self.config = nvmet_config(
            self.folder,
            *portals,
            restore_seconds=restore_seconds,
            allow_any_host=any_host,
            nqn_prefix=nqn_prefix,
        )
        self._running = start_nvmet(
            self.config, self.kernel, gate=self.gate, modules=self.modules, listeners=self.listeners
        )
        return self._running

    def stop(self) -> None:
        if self._running is not None:
            self._running.stop()
            self._running = None

    def export(self, *hosts: str, size: int = 4 * MIB, secrets: DhChapSecrets | None = None) -> Export:
        """A volume that is not exported yet."""
        path = self.folder / new_id()
        with path.open("wb") as file:
            file.truncate(size)
        return Export(
            volume_id=VolumeId(new_id()),
            path=path,
            size=size,
            hosts=tuple(
                ExportHost(host_id=HostId(new_id()), initiator=each, secrets=secrets) for each in hosts
            ),
        )

    def connect(self, export: Export, host: str, portal: NvmeofPortal = TCP) -> None:
        self.kernel.connect(portal, subsystem_nqn(export.volume_id), host)

    def connected(self, export: Export) -> frozenset[str]:
        return self.kernel.connected(subsystem_nqn(export.volume_id))


def without(export: Export, host: str) -> Export:
    return replace(export, hosts=tuple(each for each in export.hosts if each.initiator != host))


def keys(*, both: bool = False, used_hash: DhChapHash = DhChapHash.SHA_256) -> DhChapSecrets:
    return DhChapSecrets(
        host_key=generate_dhchap_key(used_hash), controller_key=generate_dhchap_key() if both else None
    )


def somebody_else_exports(kernel: FakeNvmet, nqn: str, path: Path, address: str = "192.0.2.9") -> None:
    root = str(ROOT)
    kernel.addresses.add(address)
    kernel.mkdir(f"{root}/subsystems/{nqn}")
    kernel.mkdir(f"{root}/subsystems/{nqn}/namespaces/7")
    kernel.write(f"{root}/subsystems/{nqn}/namespaces/7/device_path", str(path).encode())
    kernel.write(f"{root}/subsystems/{nqn}/namespaces/7/enable", b"1")
    kernel.mkdir(f"{root}/hosts/{HOST_B}")
    kernel.symlink(f"{root}/hosts/{HOST_B}", f"{root}/subsystems/{nqn}/allowed_hosts/{HOST_B}")
    kernel.mkdir(f"{root}/ports/1")
    for name, value in (("trtype", "tcp"), ("adrfam", "ipv4"), ("traddr", address), ("trsvcid", "4420")):
        kernel.write(f"{root}/ports/1/addr_{name}", value.encode())
    kernel.symlink(f"{root}/subsystems/{nqn}", f"{root}/ports/1/subsystems/{nqn}")
