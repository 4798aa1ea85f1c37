"""What tests of the kernel's host share: this machine's kernel as target and as host."""

import os
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest

from embedded_host.target_process import free_port
from kernel_host.nvmet import Nvmet
from weft.config import Config, ConfigFile, ConnectorKind, HostSection, check_config
from weft.connection import NvmeofPortal
from weft.connectors.nvmeof import NvmeofConnector
from weft.model import Transport
from weft.names import host_nqn, new_id

ALLOWED = "WEFT_TEST_KERNEL"
needs_kernel = pytest.mark.skipif(
    not os.environ.get(ALLOWED),
    reason=f"this machine's kernel is left alone: {ALLOWED} is not set, as in the lab",
)


def kernel_config(folder: Path, **host: object) -> Config:
    """Of a host with an identity of its own, so that the machine's is neither used nor made."""
    host_id = new_id()
    section = HostSection(
        connector=ConnectorKind.KERNEL,
        nqn=host_nqn(host_id),
        id=host_id,
        controller_loss_timeout=60,
        **host,  # type: ignore[arg-type]  # fields of the section
    )
    return check_config(
        ConfigFile(data_dir=str(folder / "data"), runtime_dir=str(folder / "run"), host=section)
    )


def loopback(transport: Transport = Transport.TCP, address: str = "127.0.0.1") -> NvmeofPortal:
    return NvmeofPortal(transport=transport, address=address, port=free_port())


class KernelSetting:
    """A target, which lets this host in, and a connector on the host. At the end nothing of both is left."""

    def __init__(self, folder: Path, *portals: NvmeofPortal, **host: object) -> None:
        self.config = kernel_config(folder, **host)
        self.connector = NvmeofConnector(self.config)
        backing = folder / "backing"
        backing.mkdir()
        self.target = Nvmet(backing, portals or (loopback(),), self.connector.identity().nqn)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for left in [*self.connector.attached(), *self.connector.abandoned()]:
            self.connector.detach(left.connection, force=True)
        self.target.stop()

    def controllers(self) -> list[str]:
        """Of this host, as the kernel names them."""
        nqn = self.connector.identity().nqn
        return [
            each.name
            for each in Path("/sys/class/nvme").glob("nvme*")
            if (each / "hostnqn").read_text().strip() == nqn
        ]

    def assert_nothing_is_left(self) -> None:
        assert self.controllers() == []
        assert self.connector.attached() == []
        assert self.connector.abandoned() == []
        assert not self.config.attached_dir.exists() or list(self.config.attached_dir.iterdir()) == []
