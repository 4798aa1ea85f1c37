"""One export and its attachment in this machine, made by weft's own code or by a shell script."""

import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol, Self

from weft.config import (
    Config,
    ConfigFile,
    ConnectorKind,
    HostSection,
    TargetKind,
    TargetSection,
    check_config,
)
from weft.connection import NvmeofConnection
from weft.connectors import NvmeofConnector
from weft.model import Export, ExportHost, HostId, Transport, VolumeId
from weft.names import new_id, subsystem_nqn
from weft.targets import NvmetTarget

QUEUES: Final = 1
_FOLDER: Final = Path("/run/weft-bench")
_HAND: Final = str(Path(__file__).with_name("hand.sh"))
_SECONDS: Final = 120.0


class Way(Protocol):
    """How an export comes to be attached."""

    def attach(self) -> Path:
        """Export and attach; the block device."""

    def detach(self) -> None: ...


class ByWeft:
    """As one process that has started weft's target, between __enter__ and __exit__."""

    def __init__(self, device: Path, size: int, transport: Transport, address: str) -> None:
        config = _config(transport, address)
        self._connector = NvmeofConnector(config)
        self._target = NvmetTarget(config)
        self._volume_id = VolumeId(new_id())
        host = ExportHost(host_id=HostId(new_id()), initiator=self._connector.initiator().port_name)
        self._export = Export(volume_id=self._volume_id, path=device, size=size, hosts=(host,))
        self._connection: NvmeofConnection | None = None

    def __enter__(self) -> Self:
        self._target.start()
        self._target.expect(frozenset())
        return self

    def __exit__(self, *_: object) -> None:
        self._target.stop()

    def attach(self) -> Path:
        self._connection = next(iter(self._target.create_export(self._export).values()))
        return self._connector.attach(self._connection)

    def detach(self) -> None:
        if self._connection is not None:
            self._connector.detach(self._connection)
        self._target.remove_export(self._volume_id)


@dataclass(frozen=True, slots=True)
class ByHand:
    """The same by hand.sh."""

    device: Path
    transport: Transport
    address: str
    volume_id: VolumeId

    @property
    def _nqn(self) -> str:
        return subsystem_nqn(self.volume_id, "nqn.2019-01.com.opensds:nvme:")

    def attach(self) -> Path:
        words = [str(self.device), self.volume_id, self.transport.value, self.address, str(QUEUES)]
        return Path(_hand("attach", self._nqn, *words).strip())

    def detach(self) -> None:
        _hand("detach", self._nqn)


@contextmanager
def both(device: Path, size: int, transport: Transport, address: str) -> Iterator[dict[str, Way]]:
    """The two ways to the same device, to be gone one after the other."""
    with ByWeft(device, size, transport, address) as by_weft:
        yield {"weft": by_weft, "plain": ByHand(device, transport, address, VolumeId(new_id()))}


def in_turn(ways: Mapping[str, Way], number: int) -> Sequence[tuple[str, Way]]:
    """In a round of this number: either comes first as often as the other, for what is second finds warm caches."""
    return list(ways.items())[:: -1 if number % 2 else 1]


def _hand(*words: str) -> str:
    done = subprocess.run([_HAND, *words], capture_output=True, text=True, timeout=_SECONDS, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"hand.sh {words[0]} failed: {done.stderr}")
    return done.stdout


def _config(transport: Transport, address: str) -> Config:
    portal = f"{address}:4420" if transport is Transport.TCP else f"{transport}://{address}:4420"
    return check_config(
        ConfigFile(
            data_dir=str(_FOLDER / "data"),
            runtime_dir=str(_FOLDER / "run"),
            node_name="bench",
            target=TargetSection(kind=TargetKind.NVMET, portals=(portal,), max_io_queues=QUEUES),
            host=HostSection(connector=ConnectorKind.KERNEL, transport=transport.value, io_queues=QUEUES),
        )
    )
