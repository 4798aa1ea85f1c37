"""The kernel modules and the mount that nvmet needs."""

from collections.abc import Iterable
from pathlib import Path
from typing import Final, Protocol

from weft.errors import CommandError, UnavailableError, UnsupportedError, WeftError
from weft.model import Transport
from weft.run import run

CONFIGFS: Final = Path("/sys/kernel/config")
NVMET: Final = CONFIGFS / "nvmet"
_SECONDS: Final = 30.0
_MODULES: Final = {
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
        self._loaded: set[str] = set()

    def prepare(self, transports: Iterable[Transport]) -> None:
        self._load("nvmet")
        _mount_configfs()
        if not NVMET.is_dir():
            raise UnsupportedError(
                f"the nvmet module is loaded, but there is no {NVMET}; load it anew: modprobe nvmet"
            )
        for transport in sorted(set(transports)):
            self._load(_MODULES[transport])

    def _load(self, module: str) -> None:
        if module in self._loaded:
            return
        if not (Path("/sys/module") / module.replace("-", "_")).is_dir():
            modprobe(module)
        self._loaded.add(module)


def modprobe(module: str, *, dry_run: bool = False) -> None:
    """Load a kernel module, or see whether it could be. Raises UnsupportedError saying why not."""
    argv = ["modprobe", *(["--dry-run", "--first-time"] if dry_run else []), "--", module]
    try:
        run(argv, timeout=_SECONDS)
    except CommandError as error:
        if dry_run and "already in kernel" in error.stderr:
            return
        said = error.stderr.strip().removeprefix("modprobe: ").removeprefix("FATAL: ").rstrip(".")
        raise UnsupportedError(
            f"the kernel module {module} cannot be loaded: {said or 'modprobe did not say why'}; it is in the"
            " distribution's standard kernel package, and a container needs it loaded outside"
        ) from None


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
