"""The kernel's NVMe host as a folder of files, which can be killed at any step that it takes."""

import shutil
import threading
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from weft.connection import NvmeofPortal
from weft.connectors.fabrics import ConnectRequest, Fabrics
from weft.connectors.sysfs import Controller, Namespace, Sysfs
from weft.errors import ConflictError, UnavailableError, WeftError
from weft.model import Transport, VolumeId

SIZE = 16 * 2**20


class PathFault(Enum):
    """What is wrong with a controller, which is live for now."""

    CUT = "gets no answer any more"
    BREAKS = "loses its connection once it has been told to look at its namespaces anew"
    STUCK = "does not do so"


class KilledError(BaseException):
    """The process ends here. Until the kernel is revived, nothing more is done."""


@dataclass
class FakeKernel:
    """volumes: by subsystem NQN, what is behind it. failing: portals that answer with an error.

    multipath: whether it is native. heir: a volume whose device takes the name of one that goes.
    size: of every volume, as targets tell it. faults: by controller. kill_at: the number of the step, from 1 on, before which the process is killed.
    """

    root: Path
    volumes: dict[str, VolumeId] = field(default_factory=dict)
    failing: dict[NvmeofPortal, WeftError] = field(default_factory=dict)
    multipath: bool = True
    heir: VolumeId | None = None
    size: int = SIZE
    faults: dict[str, PathFault] = field(default_factory=dict)
    kill_at: int = 0
    steps: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        for directory in (
            "sys/class/nvme",
            "sys/class/block",
            "dev",
            "proc/self",
            "sys/module/nvme_core/parameters",
        ):
            (self.root / directory).mkdir(parents=True)
        (self.root / "proc/self/mountinfo").write_text("")

    def step(self) -> None:
        self.steps += 1
        if self.kill_at and self.steps >= self.kill_at:
            raise KilledError

    def revive(self) -> None:
        self.kill_at, self.steps = 0, 0

    def add_controller(self, request: ConnectRequest) -> str:
        """The first one loads nvme_core, and with it comes its parameter."""
        parameter = self.root / "sys/module/nvme_core/parameters/multipath"
        parameter.write_text("Y\n" if self.multipath else "N\n")
        directory = self.root / "sys/class/nvme"
        number = next(each for each in range(100) if not (directory / f"nvme{each}").exists())
        made = directory / f"nvme{number}"
        made.mkdir()
        portal = request.portal
        address = f"traddr={portal.address},trsvcid={portal.port},src_addr=192.0.2.9"
        attributes = {
            "subsysnqn": request.nqn,
            "hostnqn": request.identity.nqn,
            "hostid": request.identity.id,
            "transport": portal.transport,
            "address": "" if portal.transport is Transport.LOOP else address,
            "state": "live",
            "dhchap_secret": request.secrets.host_key if request.secrets else "none",
            "dhchap_ctrl_secret": (request.secrets.controller_key if request.secrets else None) or "none",
        }
        for name, value in attributes.items():
            (made / name).write_text(f"{value}\n")
        return made.name

    def show_namespace(self, name: str, nqn: str) -> None:
        head = f"nvme{list(self.volumes).index(nqn)}n1"
        path = self.root / "sys/class/nvme" / name / head.replace("n1", f"c{name.removeprefix('nvme')}n1")
        path.mkdir()
        attributes = {"uuid": self.volumes[nqn], "nsid": "1", "size": str(SIZE // 512)}
        for each, value in attributes.items():
            (path / each).write_text(f"{value}\n")
        self._show_device(head, self.volumes[nqn])

    def _show_device(self, name: str, volume_id: VolumeId) -> None:
        block = self.root / "sys/class/block" / name
        block.mkdir(exist_ok=True)
        (block / "uuid").write_text(f"{volume_id}\n")
        (block / "size").write_text(f"{SIZE // 512}\n")
        (block / "dev").write_text("259:0\n")
        (self.root / "dev" / name).touch()

    def rescan(self, name: str) -> None:
        controller = self.root / "sys/class/nvme" / name
        fault = self.faults.get(name)
        if fault is PathFault.BREAKS:
            (controller / "state").write_text("connecting\n")
        elif fault is None:
            for path in controller.glob("nvme*"):
                head = self.root / "sys/class/block" / f"{path.name.partition('c')[0]}n1"
                for each in (path, head):
                    (each / "size").write_text(f"{self.size // 512}\n")

    def remove_controller(self, name: str) -> None:
        with self.lock:
            self._remove_controller(name)

    def _remove_controller(self, name: str) -> None:
        shutil.rmtree(self.root / "sys/class/nvme" / name)
        heads = {
            f"{path.name.partition('c')[0]}n1"
            for path in (self.root / "sys/class/nvme").glob("nvme*/nvme*c*n1")
        }
        for block in (self.root / "sys/class/block").iterdir():
            if block.name not in heads:
                shutil.rmtree(block)
                (self.root / "dev" / block.name).unlink()
                if self.heir is not None:
                    self._show_device(block.name, self.heir)

    def left(self) -> list[str]:
        """Everything of controllers and devices that is there."""
        places: Iterable[str] = ("sys/class/nvme", "sys/class/block", "dev")
        return sorted(each.name for place in places for each in (self.root / place).iterdir())


class FakeSysfs(Sysfs):
    def __init__(self, kernel: FakeKernel) -> None:
        super().__init__(kernel.root)
        self._fake = kernel

    def node(self, device: str) -> Path | None:
        """An ordinary file stands for it."""
        path = self._fake.root / "dev" / device
        return path if path.exists() else None

    def delete(self, controller: Controller) -> None:
        """In threads, which cannot be killed: they fail instead."""
        try:
            self._fake.step()
        except KilledError:
            raise UnavailableError("the process is killed") from None
        self._fake.remove_controller(controller.name)

    def told_size(self, namespace: Namespace) -> int:
        if self._fake.faults.get(namespace.controller.name) is PathFault.CUT:
            raise UnavailableError(
                f"/dev/{namespace.controller.name} does not tell the size of its namespace"
            )
        return self._fake.size

    def rescan(self, controller: Controller) -> None:
        self._fake.rescan(controller.name)


class FakeFabrics(Fabrics):
    def __init__(self, kernel: FakeKernel) -> None:
        super().__init__(kernel.root)
        self._fake = kernel
        self.requests: list[ConnectRequest] = []

    def connect(self, request: ConnectRequest) -> str:
        self._fake.step()
        self.requests.append(request)
        if request.portal in self._fake.failing:
            raise self._fake.failing[request.portal]
        if request.nqn not in self._fake.volumes:
            raise UnavailableError(f"{request.nqn} is not there")
        existing = FakeSysfs(self._fake).controllers(request.nqn)
        if not request.second and any(each.portal == request.portal for each in existing):
            raise ConflictError("already connected")
        name = self._fake.add_controller(request)
        self._fake.show_namespace(name, request.nqn)
        self._fake.step()
        return name
