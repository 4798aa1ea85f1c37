"""Copies of a volume that hosts may be writing to: they hold its writes back for a bounded time."""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager

from weft.drivers.copying import Progress, copy_extents
from weft.errors import ConflictError, UnavailableError
from weft.model import VolumeId

HoldWrites = Callable[[VolumeId, float], AbstractContextManager[None] | None]
"""Has whoever exports a volume hold its hosts' writes back, for at most so many seconds.

Entering returns once every write that was acknowledged is in the file and no other is under way. Leaving lets the
writes go on, and raises UnavailableError when they were not held all the time. None instead of a context says that
nobody can write to the volume, and that this stays so until the verb is done; then a copy may take its time.
"""


def nobody_writes(volume_id: VolumeId, seconds: float) -> None:
    """The HoldWrites of a caller that sees to it that no volume is written to while a snapshot of it is made."""


def copy_held(
    source: int,
    destination: int,
    progress: Progress,
    *,
    volume_id: VolumeId,
    hold_writes: HoldWrites,
    seconds: float,
) -> None:
    """Copy source's data as of one moment, holding writes for at most so many seconds.

    Raises ConflictError when that time is too short, and UnavailableError when the hold did not last that long;
    then destination is not a point in time and good for nothing.
    """
    deadline = time.monotonic() + seconds
    held = hold_writes(volume_id, seconds)
    if held is None:
        copy_extents(source, destination, progress)
        return

    def in_time(done: int, total: int) -> None:
        if time.monotonic() > deadline:
            raise _too_slow(volume_id, seconds)
        progress(done, total)

    try:
        with held:
            copy_extents(source, destination, in_time)
    except UnavailableError:
        # The hold may notice the end of its time before the copy does, and trying again would not help.
        if time.monotonic() > deadline:
            raise _too_slow(volume_id, seconds) from None
        raise


def _too_slow(volume_id: VolumeId, seconds: float) -> ConflictError:
    return ConflictError(
        f"a snapshot of volume {volume_id} was abandoned: copying it takes longer than the {seconds:g} s for which "
        "its hosts' writes may be held. Detach the volume first, raise target.snapshot_hold_seconds, or put the "
        "pool on a file system with reflinks (XFS, Btrfs)"
    )
