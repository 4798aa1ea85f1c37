"""What the kernel's target works through, and what it tells of itself."""

from dataclasses import dataclass, field

from weft.config import Config
from weft.connection import NvmeofPortal
from weft.targets.configfs import Configfs
from weft.targets.nvmet_gate import Gate, NftGate
from weft.targets.nvmet_hosts import Patience
from weft.targets.nvmet_listeners import Listeners, RdmaListeners
from weft.targets.nvmet_log import KernelLog, Sessions
from weft.targets.nvmet_modules import NVMET, Modules, NvmetModules
from weft.targets.nvmet_sessions import ConnectProbe, Probe


@dataclass(frozen=True, slots=True, kw_only=True)
class NvmetParts:
    """What the target works through; tests give others. listen_seconds: between two looks at whether nvmet listens."""

    configfs: Configfs
    modules: Modules
    gate: Gate
    sessions: Sessions
    probe: Probe
    listeners: Listeners
    patience: Patience = field(default_factory=Patience)
    listen_seconds: float = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class NvmetStatus:
    """portals: those that are configured. Without exports none of them listens."""

    exports: int
    portals: tuple[NvmeofPortal, ...]
    listening: frozenset[NvmeofPortal]


def kernel_parts(config: Config) -> NvmetParts:
    return NvmetParts(
        configfs=Configfs(NVMET),
        modules=NvmetModules(),
        gate=NftGate(),
        sessions=KernelLog(config.target.nqn_prefix),
        probe=ConnectProbe(),
        listeners=RdmaListeners(),
    )
