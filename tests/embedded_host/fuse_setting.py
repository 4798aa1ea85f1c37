"""What tests of attached files share: a connector, a target, and a look at what was left behind."""

import shutil
from pathlib import Path

import pytest

from embedded_host.target_process import TargetProcess
from weft.config import Config, ConfigFile, ConnectorKind, HostSection, check_config
from weft.connectors.nvmeof_user import NvmeofUserConnector
from weft.embedded.host.fuse import missing_for_fuse
from weft.model import VolumeId

_MISSING = missing_for_fuse()
needs_fuse = pytest.mark.skipif(_MISSING is not None, reason=f"no FUSE file can be had here: {_MISSING}")


def tool(name: str) -> str:
    """A program of e2fsprogs, which ordinary users do not have in their PATH."""
    found = shutil.which(name, path="/usr/sbin:/sbin:/usr/bin:/bin")
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def host_config(folder: Path, **host: float) -> Config:
    section = HostSection(
        connector=ConnectorKind.EMBEDDED,
        reconnect_delay=0.1,
        keep_alive=2,
        controller_loss_timeout=host.get("controller_loss_timeout", 30),
    )
    return check_config(
        ConfigFile(data_dir=str(folder / "data"), runtime_dir=str(folder / "run"), host=section)
    )


class Setting:
    """A target, which is made to let this host in, and a connector on the host."""

    def __init__(self, folder: Path, target: TargetProcess, **host: float) -> None:
        self.config = host_config(folder, **host)
        self.connector = NvmeofUserConnector(self.config)
        self.target = target
        self.target.identity = self.connector.identity()

    def stop(self) -> None:
        """Take everything away, also what a failed test has left without a record."""
        for left in self.config.attached_dir.glob("*.sock"):
            self.connector.detach(self.target.connection(VolumeId(left.stem)), force=True)
        self.target.reset()

    def mounts(self) -> list[str]:
        table = Path("/proc/self/mountinfo").read_text()
        return [line for line in table.splitlines() if str(self.config.runtime_dir) in line]

    def assert_nothing_is_left(self) -> None:
        assert self.mounts() == []
        directory = self.config.attached_dir
        assert not directory.exists() or list(directory.iterdir()) == []
        assert self.connector.attached() == []
