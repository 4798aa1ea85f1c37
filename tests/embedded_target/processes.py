"""The target as a process, and how a test looks at it."""

import time
from collections.abc import Sequence
from pathlib import Path

from embedded_target.workshop import MIB, free_portal, nqn_of
from nvme_tcp_host import LostError, RawHost
from weft.config import Config, ConfigFile, PoolSection, TargetKind, TargetSection, check_config
from weft.connection import NvmeofPortal
from weft.model import Export, ExportHost, HostId, VolumeId
from weft.names import new_id


def configure(folder: Path, portals: Sequence[NvmeofPortal] | None = None) -> Config:
    (folder / "pool").mkdir(exist_ok=True)
    return check_config(
        ConfigFile(
            data_dir=str(folder / "data"),
            runtime_dir=str(folder / "run"),
            target=TargetSection(
                kind=TargetKind.EMBEDDED, portals=tuple(str(each) for each in portals or (free_portal(),))
            ),
            pools=(PoolSection(path=str(folder / "pool")),),
        )
    )


def make_volume(folder: Path, *hosts: str, size: int = 4 * MIB) -> Export:
    volume_id = VolumeId(new_id())
    path = folder / "pool" / volume_id
    with path.open("wb") as file:
        file.truncate(size)
    return Export(
        volume_id=volume_id,
        path=path,
        size=size,
        hosts=tuple(ExportHost(host_id=HostId(new_id()), initiator=each) for each in hosts),
    )


def reconnect(portal: NvmeofPortal, export: Export, hostnqn: str, seconds: float = 10) -> RawHost:
    """As a host does that has lost its connections: again and again. A refusal for good is the end of it."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return RawHost(portal, nqn_of(export), hostnqn)
        except (OSError, LostError):
            if time.monotonic() >= deadline:
                raise
            time.sleep(0.01)
