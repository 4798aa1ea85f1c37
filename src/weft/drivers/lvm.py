"""The LVM drivers: a pool is a thin pool, or a volume group whose room is given out all at once.

A volume is a logical volume /dev/<volume group>/weft-<volume id>; see weft.drivers.lvm_names for the others. LVM
rounds sizes up to whole extents, and that is the size which is found and exported.
"""

from collections.abc import Callable

from weft.config import PoolSection
from weft.drivers.lvm_group import VolumeGroup
from weft.drivers.lvm_runner import Runner
from weft.drivers.lvm_thick import ThickDriver
from weft.drivers.lvm_thin import ThinDriver
from weft.model import Provisioning
from weft.ports import VolumeDriver
from weft.run import run

Progress = Callable[[str, int, int], None]


def _ignore(_made: str, _done: int, _total: int) -> None:
    pass


def open_lvm(pool: PoolSection, *, progress: Progress = _ignore, runner: Runner = run) -> VolumeDriver:
    """The driver of an LVM pool; progress as in open_driver. Raises UnavailableError when it cannot be used."""
    group = VolumeGroup(pool.volume_group, pool=pool.name, runner=runner)
    if pool.provisioning is Provisioning.THIN:
        return ThinDriver(group, pool.thin_pool, pool=pool.name, warn_percent=pool.warn_percent)
    return ThickDriver(group, pool=pool.name, progress=progress)
