"""The kernel modules and the mount that nvmet needs."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final, Protocol

from weft.config import Config, TargetKind
from weft.errors import CommandError, UnavailableError, UnsupportedError, WeftError
from weft.kernel import Kernel
from weft.model import Transport
from weft.run import run

CONFIGFS: Final = Path("/sys/kernel/config")
NVMET: Final = CONFIGFS / "nvmet"
_SECONDS: Final = 30.0
NVMET_MODULE: Final = "nvmet"
TRANSPORT_MODULES: Final = {
    Transport.TCP: "nvmet-tcp",
    Transport.RDMA: "nvmet-rdma",
    Transport.LOOP: "nvme-loop",
}


class Modules(Protocol):
    def prepare(self, transports: Iterable[Transport]) -> None:
        """Have nvmet's configfs directory, and the modules of these transports.

        Raises UnsupportedError when the kernel does not have them, UnavailableError when configfs cannot be mounted.
        """


class NvmetModules:
    """Loads what is missing, once for each transport."""

    def __init__(self) -> None:
        self._kernel = Kernel()
        self._loaded: set[str] = set()

    def prepare(self, transports: Iterable[Transport]) -> None:
        self._load(NVMET_MODULE)
        _mount_configfs()
        if not NVMET.is_dir():
            raise UnsupportedError(
                f"the module nvmet is there, but {NVMET} is not; load it anew: modprobe -r nvmet"
            )
        for transport in sorted(set(transports)):
            self._load(TRANSPORT_MODULES[transport])

    def _load(self, module: str) -> None:
        if module in self._loaded:
            return
        if not self._kernel.module(module).active:
            if (why_not := self._kernel.why_not_module(module)) is not None:
                raise UnsupportedError(f"{why_not}; it is in the distribution's standard kernel package")
            try:
                run(["modprobe", "--", module], timeout=_SECONDS)
            except CommandError as error:
                raise UnsupportedError(f"the kernel module {module} cannot be loaded: {error}") from None
        self._loaded.add(module)


def why_not_nvmet(config: Config, root: Path = Path("/")) -> str | None:
    """Why the kernel's target cannot serve this configuration here, as a clause for a person; None if it can.

    Nothing is loaded or changed to find out.
    """
    if config.target.kind is TargetKind.EMBEDDED:
        return "the configuration says target.kind = embedded"
    if os.geteuid() != 0:
        return "only root can set up the kernel's target"
    if config.target.kind is TargetKind.AUTO and (recorded := has_embedded_exports(config)):
        return f"the embedded target serves volumes already ({recorded}); detach them, and the kernel's serves the next"
    kernel = Kernel(root=root)
    if (reason := kernel.why_not_module(NVMET_MODULE)) is not None:
        return reason
    wanted = {TRANSPORT_MODULES[each.transport] for each in config.portals()}
    reasons = [kernel.why_not_module(each) for each in sorted(wanted)]
    if all(reasons):
        return reasons[0]
    return _why_not_here(root)


def has_embedded_exports(config: Config) -> Path | None:
    """Where the embedded target keeps its exports, if it has any."""
    directory = config.target_dir / "exports"
    try:
        return directory if any(directory.glob("*.json")) else None
    except OSError:
        return None


def _why_not_here(root: Path) -> str | None:
    """A container may lack what its kernel has."""
    nvmet = root / NVMET.relative_to("/")
    if nvmet.is_dir():
        return None if os.access(nvmet / "subsystems", os.W_OK) else f"{nvmet} is read-only here"
    mounts = root / CONFIGFS.relative_to("/")
    if not mounts.is_dir() and (root / "sys/kernel").is_dir() and not os.access(root / "sys/kernel", os.W_OK):
        return f"{root / 'sys'} is read-only here"
    return None


def _mount_configfs() -> None:
    if NVMET.is_dir():
        return
    try:
        run(["mount", "-t", "configfs", "configfs", str(CONFIGFS)], timeout=_SECONDS)
    except WeftError as error:
        if NVMET.is_dir():
            return
        raise UnavailableError(
            f"configfs is not mounted at {CONFIGFS} and cannot be: {error}; nvmet is set up through it"
        ) from None
