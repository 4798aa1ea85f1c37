"""The files of machines that weft looks at, made below a folder."""

from collections.abc import Iterable, Mapping
from pathlib import Path

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
