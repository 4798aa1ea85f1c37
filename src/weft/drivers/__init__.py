"""Drivers make the bytes: one per pool, opened by its kind."""

from weft.config import Config, PoolKind, PoolSection
from weft.drivers.file import CopyProgress, FileDriver
from weft.drivers.holding import HoldWrites
from weft.drivers.lvm import open_lvm
from weft.errors import UnsupportedError
from weft.ports import VolumeDriver

__all__ = ["CopyProgress", "HoldWrites", "open_driver"]


def open_driver(
    pool: PoolSection,
    config: Config,
    hold_writes: HoldWrites | None = None,
    *,
    progress: CopyProgress | None = None,
) -> VolumeDriver:
    """The driver of a pool.

    hold_writes lets a driver without snapshots of its own make a point in time of a volume that is exported; it
    may be left out where no volume is. progress is told of long copies, and may raise to end one. Raises
    UnavailableError when the pool cannot be used, UnsupportedError for a kind that weft has no driver for.
    """
    if pool.kind is PoolKind.FILE:
        return FileDriver(
            config.pool_path(pool),
            pool=pool.name,
            hold_writes=hold_writes,
            hold_seconds=config.target.snapshot_hold_seconds,
            progress=progress or (lambda _made, _done, _total: None),
        )
    if pool.kind is PoolKind.LVM:
        return open_lvm(pool, progress=progress or (lambda _made, _done, _total: None))
    raise UnsupportedError(
        f"pool {pool.name} is of kind {pool.kind}, for which there is no driver; the kinds are "
        f"{', '.join(PoolKind)}"
    )
