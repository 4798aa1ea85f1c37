"""The kernel's target on a kernel in memory."""

import threading
from collections.abc import Iterable
from pathlib import Path

from fakes.configfs import ROOT, FakeNvmet
from weft.config import Config, ConfigFile, PortalSection, TargetKind, TargetSection, check_config
from weft.connection import NvmeofPortal
from weft.errors import UnavailableError, WeftError
from weft.model import Transport
from weft.names import DEFAULT_NQN_PREFIX
from weft.targets.configfs import Configfs
from weft.targets.nvmet import NvmetTarget
from weft.targets.nvmet_hosts import Patience
from weft.targets.nvmet_parts import NvmetParts

PORTAL = "192.0.2.1:4420"


class FakeModules:
    """Has every module but those that are named in missing. Those of transports load while may_load is set."""

    def __init__(self) -> None:
        self.missing: dict[Transport | None, WeftError] = {}
        self.loading = threading.Event()
        self.may_load = threading.Event()
        self.may_load.set()

    def prepare(self, transports: Iterable[Transport]) -> None:
        transports = tuple(transports)
        if transports:
            self.loading.set()
            assert self.may_load.wait(10)
        for each in (None, *transports):
            if each in self.missing:
                raise self.missing[each]


class FakeGate:
    """Lets nobody connect while it is closed; closed counts how often it was."""

    def __init__(self) -> None:
        self.closed: list[NvmeofPortal] = []
        self.is_now_closed = False
        self.sticks = False

    def close(self, portal: NvmeofPortal) -> bool:
        self.closed.append(portal)
        self.is_now_closed = True
        return True

    def open(self) -> None:
        if self.sticks:
            raise UnavailableError("nft did not end within 10 s and was stopped")
        self.is_now_closed = False

    def is_closed(self) -> bool:
        return self.is_now_closed


class FakeListeners:
    """Hears nvmet at every portal but those in silent, and in silent_once at the next look alone."""

    def __init__(self) -> None:
        self.silent: set[NvmeofPortal] = set()
        self.silent_once: set[NvmeofPortal] = set()
        self.looks = 0

    def deaf(self, portals: frozenset[NvmeofPortal]) -> frozenset[NvmeofPortal]:
        self.looks += 1
        once, self.silent_once = self.silent_once, set()
        return portals & (self.silent | once)


def nvmet_config(
    folder: Path,
    *portals: str | PortalSection,
    allow_any_host: bool = False,
    restore_seconds: float = 120.0,
    max_io_queues: int = 8,
    nqn_prefix: str = DEFAULT_NQN_PREFIX,
) -> Config:
    return check_config(
        ConfigFile(
            data_dir=str(folder / "data"),
            target=TargetSection(
                kind=TargetKind.NVMET,
                portals=portals or (PORTAL,),
                allow_any_host=allow_any_host,
                restore_seconds=restore_seconds,
                max_io_queues=max_io_queues,
                nqn_prefix=nqn_prefix,
            ),
        )
    )


def nvmet_parts(
    kernel: FakeNvmet,
    *,
    gate: FakeGate | None = None,
    modules: FakeModules | None = None,
    listeners: FakeListeners | None = None,
) -> NvmetParts:
    return NvmetParts(
        configfs=Configfs(ROOT, kernel),
        modules=modules or FakeModules(),
        gate=gate or FakeGate(),
        sessions=kernel,
        probe=kernel,
        listeners=listeners or FakeListeners(),
        patience=Patience(underway=0.0, leaving=0.0, ending=0.0),
        listen_seconds=0.01,
    )


def start_nvmet(
    config: Config,
    kernel: FakeNvmet,
    *,
    gate: FakeGate | None = None,
    modules: FakeModules | None = None,
    listeners: FakeListeners | None = None,
) -> NvmetTarget:
    target = NvmetTarget(config, nvmet_parts(kernel, gate=gate, modules=modules, listeners=listeners))
    target.start()
    return target
