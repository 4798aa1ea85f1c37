"""How the block device of a volume and its paths become as large as the volume has become."""

import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from weft.connectors.sysfs import Namespace, Sysfs, one_device, wait_for
from weft.errors import NotFoundError, UnavailableError
from weft.model import VolumeId

_log = logging.getLogger(__name__)

_GROWTH_TIMEOUT: Final = 10.0


def follow_growth(sysfs: Sysfs, volume_id: VolumeId, look: Callable[[], Sequence[Namespace]]) -> int:
    """Have the device and the paths that work be as large as the target says; returns that size, in bytes.

    look: the volume's paths as they are now. Raises NotFoundError when there are none, UnavailableError when the target
    answers by none or one that works does not follow in time. The others follow when they are back.
    """
    paths = look()
    device = one_device(paths, volume_id)
    if device is None:
        raise NotFoundError(f"volume {volume_id} is not attached to this host")
    live = [each for each in paths if each.controller.live]
    if not live:
        raise UnavailableError(f"the target of volume {volume_id} does not answer; try again")
    told = _told_sizes(sysfs, volume_id, live)
    size = max(told.values())
    for each in live:
        if each.controller.name in told:
            sysfs.rescan(each.controller)

    def grown() -> bool | None:
        working = [each for each in look() if each.controller.live and each.controller.name in told]
        seen = {sysfs.size(device), *(sysfs.path_size(each) for each in working)}
        return True if seen == {size} else None

    if wait_for(grown, _GROWTH_TIMEOUT) is None:
        raise UnavailableError(
            f"volume {volume_id} has {size} bytes now, and /dev/{device} or one of its paths does not show that within"
            f" {_GROWTH_TIMEOUT:g} s; try again"
        )
    return size


def _told_sizes(sysfs: Sysfs, volume_id: VolumeId, live: Iterable[Namespace]) -> dict[str, int]:
    """By the controllers that answer; a path that was cut counts as live until its keep-alive is over."""
    sizes: dict[str, int] = {}
    failures: list[UnavailableError] = []
    for each in live:
        try:
            sizes[each.controller.name] = sysfs.told_size(each)
        except UnavailableError as error:
            failures.append(error)
    if not sizes:
        raise failures[0]
    for failure in failures:
        _log.warning("a path of volume %s grows only when it is back: %s", volume_id, failure)
    return sizes
