"""Volumes that are attached at every boot: each has an instance of the unit weft-attach@.service, by its id."""

import os
from pathlib import Path
from typing import Final

from weft.errors import PermissionDeniedError, UnsupportedError
from weft.model import VolumeId
from weft.run import run
from weft.units import SYSTEM_DIRECTORY

_SECONDS: Final = 120.0
_UNIT: Final = "weft-attach@.service"
_SYSTEMD: Final = Path("/run/systemd/system")


def require_units() -> None:
    """Raises PermissionDeniedError or UnsupportedError where no unit can be enabled, before anything is attached."""
    if os.geteuid() != 0:
        raise PermissionDeniedError("only root can have a volume attached at every boot")
    if not _SYSTEMD.is_dir():
        raise UnsupportedError("--persist works by systemd, which does not run this machine")
    if not (SYSTEM_DIRECTORY / _UNIT).is_file():
        raise UnsupportedError(f"--persist needs the unit {_UNIT}: run `weft install-units --host` once")


def keep(volume_id: VolumeId) -> None:
    """Have the volume attached at every boot, and detached in order when this host goes down."""
    if is_kept(volume_id):
        return
    run(["systemctl", "enable", "--quiet", _unit(volume_id)], timeout=_SECONDS)
    # It is attached already: this makes the unit active, so that it is stopped, in its order, at the end.
    run(["systemctl", "start", _unit(volume_id)], timeout=_SECONDS)


def forget(volume_id: VolumeId) -> bool:
    """The end of keep, for a volume that is detached; returns whether it was kept."""
    if not is_kept(volume_id):
        return False
    run(["systemctl", "disable", "--quiet", "--now", _unit(volume_id)], timeout=_SECONDS)
    return True


def is_kept(volume_id: VolumeId) -> bool:
    wants = SYSTEM_DIRECTORY.glob(f"*.wants/{_unit(volume_id)}")
    return any(each.is_symlink() for each in wants)


def _unit(volume_id: VolumeId) -> str:
    return f"weft-attach@{volume_id}.service"
