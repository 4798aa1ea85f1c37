"""Whether the kernel's NVMe host can be used on this machine."""

import os
from pathlib import Path
from typing import Final

from weft.config import Config, ConnectorKind
from weft.connectors.fabrics import FABRICS_MODULE, MODULES
from weft.kernel import Kernel

_DEVTMPFS: Final = "devtmpfs"


def why_not_kernel(config: Config, root: Path = Path("/")) -> str | None:
    """Why the kernel cannot attach volumes for this process, as a clause for a person; None if nothing is in the way.

    Nothing is loaded or changed to find out.
    """
    if config.host.connector is ConnectorKind.EMBEDDED:
        return "the configuration says host.connector = embedded"
    if os.geteuid() != 0:
        return "only root can have the kernel attach volumes"
    kernel = Kernel(root=root)
    reason = kernel.why_not_module(FABRICS_MODULE)
    if reason is not None:
        return reason
    # One is enough, and to ask for one that is not loaded takes reading the lists of all modules.
    reasons: list[str] = []
    for each in MODULES.values():
        reason = kernel.why_not_module(each)
        if reason is None:
            return _why_not_here(root)
        reasons.append(reason)
    return reasons[0]


def _why_not_here(root: Path) -> str | None:
    """A container may lack what its kernel has."""
    device, controllers = root / "dev/nvme-fabrics", root / "sys/class/nvme"
    if device.exists() and not os.access(device, os.R_OK | os.W_OK):
        return f"{device} cannot be used by this process"
    if controllers.exists() and not os.access(controllers, os.W_OK):
        return f"{root / 'sys'} is read-only here"
    if not _shows_new_devices(root):
        return f"{root / 'dev'} does not show devices that come later, as a container's does not"
    return None


def _shows_new_devices(root: Path) -> bool:
    try:
        mounts = (root / "proc/self/mountinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return False
    on_dev = [line for line in mounts if line.split(" ")[4] == "/dev"]
    return bool(on_dev) and on_dev[-1].partition(" - ")[2].split(" ")[0] == _DEVTMPFS
