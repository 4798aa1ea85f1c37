"""The files of machines that weft looks at, made below a folder."""

import ipaddress
import json
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from weft.config import ConfigFile, PoolKind, PoolSection, TargetSection, check_config
from weft.doctor import Finding, Machine, Part, Report, examine
from weft.drivers.lvm_report import VOLUME_FIELDS
from weft.errors import UnsupportedError, WeftError
from weft.kernel import Kernel
from weft.run import Completed

RELEASE = "6.12.0-test-amd64"

NVMET = "kernel/drivers/nvme/target/nvmet.ko.xz"
NVME_AUTH = "kernel/drivers/nvme/common/nvme-auth.ko.xz"
NVME_CORE = "kernel/drivers/nvme/host/nvme-core.ko.xz"
NVME_FABRICS = "kernel/drivers/nvme/host/nvme-fabrics.ko.xz"
DEBIAN_MODULES: Mapping[str, Iterable[str]] = {
    NVME_AUTH: (),
    NVME_CORE: (NVME_AUTH,),
    NVME_FABRICS: (NVME_CORE, NVME_AUTH),
    NVMET: (NVME_CORE, NVME_AUTH),
    "kernel/drivers/nvme/target/nvmet-tcp.ko.xz": (NVMET, NVME_CORE, NVME_AUTH),
    "kernel/drivers/nvme/target/nvmet-rdma.ko.xz": (NVMET, NVME_CORE, NVME_AUTH),
    "kernel/drivers/nvme/target/nvme-loop.ko.xz": (NVMET, NVME_FABRICS, NVME_CORE, NVME_AUTH),
    "kernel/drivers/nvme/host/nvme-tcp.ko.xz": (NVME_FABRICS, NVME_CORE, NVME_AUTH),
    "kernel/drivers/nvme/host/nvme-rdma.ko.xz": (NVME_FABRICS, NVME_CORE, NVME_AUTH),
    "kernel/drivers/infiniband/sw/rxe/rdma_rxe.ko.xz": (),
    "kernel/drivers/md/dm-thin-pool.ko.xz": (),
    "kernel/fs/fuse/fuse.ko.xz": (),
}


class MachineFiles:
    """Writes what a machine shows of itself; nothing is there at first."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def write(self, path: str, content: str = "") -> Path:
        file = self.root / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content, encoding="utf-8")
        return file

    def modules(
        self, available: Mapping[str, Iterable[str]] = DEBIAN_MODULES, *, built_in: Iterable[str] = ()
    ) -> None:
        lines = [f"{path}: {' '.join(needed)}" for path, needed in available.items()]
        self.write(f"lib/modules/{RELEASE}/modules.dep", "\n".join(lines))
        self.write(f"lib/modules/{RELEASE}/modules.builtin", "\n".join(built_in))

    def load(self, *names: str) -> None:
        for name in names:
            self.write(f"sys/module/{name.replace('-', '_')}/initstate", "live\n")

    def unload(self, name: str) -> None:
        self.remove(f"sys/module/{name.replace('-', '_')}")

    def remove(self, path: str) -> None:
        removed = self.root / path
        if removed.is_dir():
            shutil.rmtree(removed)
        else:
            removed.unlink(missing_ok=True)

    def identity(self, nqn: str, identifier: str) -> None:
        """What is empty is not there."""
        for name, value in {"hostnqn": nqn, "hostid": identifier}.items():
            if value:
                self.write(f"etc/nvme/{name}", f"{value}\n")

    def interface(self, name: str, mac: str) -> None:
        self.write(f"sys/class/net/{name}/address", f"{mac}\n")

    def rdma_device(
        self,
        name: str,
        *,
        node_type: str = "1: CA",
        link_layer: str = "Ethernet",
        state: str = "4: ACTIVE",
        interface: str = "",
        gid: str = "",
        gid_type: str = "",
    ) -> Path:
        device = f"sys/class/infiniband/{name}"
        self.write(f"{device}/node_type", f"{node_type}\n")
        self.write(f"{device}/ports/1/link_layer", f"{link_layer}\n")
        self.write(f"{device}/ports/1/state", f"{state}\n")
        if gid:
            self.write(f"{device}/ports/1/gids/0", f"{gid}\n")
        if interface:
            self.write(f"{device}/ports/1/gid_attrs/ndevs/0", f"{interface}\n")
        if gid_type:
            self.write(f"{device}/ports/1/gid_attrs/types/0", f"{gid_type}\n")
        return self.root / device

    def rxe(self, name: str, interface: str, **more: str) -> None:
        device = self.rdma_device(name, interface=interface, gid_type="RoCE v2", **more)
        (device / "parent").write_text(f"{interface}\n", encoding="utf-8")

    def siw(self, name: str, interface: str, mac: str, **more: str) -> None:
        """As kernels before 6.5 show it: the interface is known by its MAC address alone."""
        self.interface(interface, mac)
        digits = mac.replace(":", "") + "0" * 20
        gid = ":".join(digits[i : i + 4] for i in range(0, 32, 4))
        device = self.rdma_device(name, node_type="4: RNIC", gid=gid, **more)
        (device / "node_desc").write_text("Software iWARP stack\n", encoding="utf-8")


DEBIAN = 'ID=debian\nVERSION_ID="12"\n'
RHEL = 'ID="rhel"\nID_LIKE="fedora"\nVERSION_ID="9.4"\n'
UBUNTU = "ID=ubuntu\nID_LIKE=debian\n"

ETH0 = {
    "lo": (ipaddress.ip_address("127.0.0.1"), ipaddress.ip_address("::1")),
    "eth0": (ipaddress.ip_address("192.0.2.1"), ipaddress.ip_address("2001:db8::1")),
}

DEFAULTS = ConfigFile(data_dir="/var/lib/weft", runtime_dir="/run/weft")

NODE_CONFIG = ConfigFile(
    data_dir="/var/lib/weft",
    runtime_dir="/run/weft",
    target=TargetSection(portals=("192.0.2.1:4420", "rdma://192.0.2.1:4420")),
    pools=(PoolSection(name="fast", kind=PoolKind.LVM, volume_group="vg0"),),
)


@dataclass(kw_only=True)
class Programs:
    """What programs print, by the first words of their command lines; a program that is not there is not installed."""

    answers: dict[str, str | WeftError] = field(default_factory=dict)
    calls: list[list[str]] = field(default_factory=list)

    def __call__(self, argv: Sequence[str], *, timeout: float) -> Completed:
        assert timeout > 0
        self.calls.append(list(argv))
        line = " ".join(argv)
        answer = next((each for start, each in self.answers.items() if line.startswith(start)), None)
        if answer is None:
            raise UnsupportedError(f"{argv[0]} is not installed on this machine")
        if isinstance(answer, WeftError):
            raise answer
        return Completed(answer, "")

    def report(self, command: str, kind: str, *rows: Mapping[str, str]) -> None:
        self.answers[command] = json.dumps({"report": [{kind: list(rows)}]})


def machine_of(files: MachineFiles, programs: Programs | None = None, **changes: Any) -> Machine:
    """Root's view of a machine whose files are these; nothing is in the way of the kernel's target and host."""
    machine = Machine(
        root=files.root,
        user_id=0,
        kernel=Kernel(root=files.root, release=RELEASE),
        run=programs or Programs(),
        addresses=lambda: ETH0,
        clock_is_set=lambda: True,
        why_not_fuse=lambda: None,
        why_no_daemon=lambda _: None,
        why_no_node=lambda _: None,
        embedded_portals=lambda _: frozenset(),
        why_not_nvmet=lambda _: None,
        why_not_kernel=lambda _: None,
    )
    return replace(machine, **changes)


def bare_container(files: MachineFiles) -> Machine:
    files.write("etc/os-release", DEBIAN)
    files.write("run/.containerenv")
    files.write("dev/fuse")
    (files.root / "var/lib").mkdir(parents=True)
    no_module = f"there is no module nvmet, for /lib/modules/{RELEASE} is not there"
    return machine_of(files, why_not_nvmet=lambda _: no_module, why_not_kernel=lambda _: no_module)


def storage_node(files: MachineFiles, os_release: str = DEBIAN) -> tuple[Machine, Programs]:
    """Everything that NODE_CONFIG asks for, and a host beside it."""
    files.write("etc/os-release", os_release)
    files.modules()
    files.load("nvmet", "nvmet-tcp", "nvmet-rdma", "dm-mod", "configfs", "nvme-core")
    files.write("sys/module/nvme_core/parameters/multipath", "Y\n")
    files.write("proc/self/mounts", "configfs /sys/kernel/config configfs rw 0 0\n")
    files.write("dev/fuse")
    for program in ("lvm", "thin_check", "rdma"):
        files.write(f"usr/sbin/{program}")
    files.rxe("rxe0", "eth0")
    programs = Programs()
    have_lvm(programs)
    return machine_of(files, programs), programs


GROUP = {
    "vg_name": "vg0",
    "vg_uuid": "group-uuid",
    "vg_size": str(100 * 2**30),
    "vg_free": str(5 * 2**30),
    "vg_extent_size": str(4 * 2**20),
    "vg_missing_pv_count": "0",
}
THIN_POOL = dict.fromkeys(VOLUME_FIELDS.split(","), "") | {
    "lv_name": "thinpool",
    "lv_size": str(95 * 2**30),
    "segtype": "thin-pool",
    "zero": "1",
    "data_percent": "12.5",
    "metadata_percent": "3.0",
    "vg_missing_pv_count": "0",
}
DISK = {"pv_name": "/dev/sdb", "vg_name": "vg0", "vg_uuid": "group-uuid", "pv_missing": "0"}
LVM_SETTINGS = 'use_devicesfile=0\nscan_lvs=0\nglobal_filter=["a|.*|"]\n'


def have_lvm(
    programs: Programs,
    *,
    group: Mapping[str, str] = GROUP,
    pools: Iterable[Mapping[str, str]] = (THIN_POOL,),
    disks: Iterable[Mapping[str, str]] = (DISK,),
    settings: str = LVM_SETTINGS,
) -> None:
    programs.report("pvs", "pv", *disks)
    programs.report("vgs", "vg", group)
    programs.report("lvs", "lv", *pools)
    programs.answers["lvmconfig"] = settings


def listener(address: str, port: int) -> str:
    """A line of /proc/net/tcp on a little-endian machine."""
    words = int.from_bytes(ipaddress.ip_address(address).packed, sys.byteorder)
    return f"   0: {words:08X}:{port:04X} 00000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 1 1\n"


def report_of(machine: Machine, file: ConfigFile = NODE_CONFIG) -> Report:
    return examine(machine, check_config(file))


def one(report: Report, about: str, part: Part | None = None) -> Finding:
    found = [each for each in report.findings if each.about == about and part in {None, each.part}]
    assert len(found) == 1, f"{about}: {found}"
    return found[0]


def finding(
    machine: Machine, about: str, file: ConfigFile = NODE_CONFIG, part: Part | None = None
) -> Finding:
    return one(report_of(machine, file), about, part)


def without_module(files: MachineFiles, name: str) -> None:
    left = {path: needs for path, needs in DEBIAN_MODULES.items() if f"/{name}.ko" not in path}
    files.modules(left)
    files.unload(name)
