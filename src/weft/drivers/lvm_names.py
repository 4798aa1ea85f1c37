"""What weft calls its logical volumes: names made of ids alone, so that nothing a client wrote reaches LVM.

    weft-<id>           a volume whose content is complete
    weft-snap-<id>      a snapshot; its tag weft.volume=<volume id> says of which volume
    weft-new-<id>       a volume, or the growth of one, that is half-made
    weft-old-<id>       what a reverted volume was before
    weft-copy-<id>      the moment of another volume that the volume <id> is being copied from
    weft-deleted-<id>   what was deleted and is being wiped

LVM takes names of up to 127 characters from [a-zA-Z0-9+_.-] (lvm(8)).
"""

import re
from collections.abc import Collection

from weft.model import SnapshotId, VolumeId
from weft.names import check_id

_ID = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_VOLUME = re.compile(rf"weft-({_ID})")
_SNAPSHOT = re.compile(rf"weft-snap-({_ID})")
_HALF_MADE = re.compile(rf"weft-(?:new|old|copy)-({_ID})")
_VOLUME_TAG = "weft.volume="


def volume_name(volume_id: VolumeId) -> str:
    """Raises InvalidValueError for what is not a lower-case UUID, as all of these do."""
    return f"weft-{check_id('volume', volume_id)}"


def snapshot_name(snapshot_id: SnapshotId) -> str:
    return f"weft-snap-{check_id('snapshot', snapshot_id)}"


def new_name(volume_id: VolumeId) -> str:
    return f"weft-new-{check_id('volume', volume_id)}"


def old_name(volume_id: VolumeId) -> str:
    return f"weft-old-{check_id('volume', volume_id)}"


def copy_name(volume_id: VolumeId) -> str:
    return f"weft-copy-{check_id('volume', volume_id)}"


def deleted_name(name: str) -> str:
    """The tombstone of one of weft's logical volumes."""
    return f"weft-deleted-{name.removeprefix('weft-')}"


def device_mapper_name(group: str, name: str) -> str:
    """What device-mapper calls the device of a logical volume: a dash within a name is doubled (lvm(8))."""
    return f"{group.replace('-', '--')}-{name.replace('-', '--')}"


def volume_tag(volume_id: VolumeId) -> str:
    """Marks a snapshot as one of this volume, whatever becomes of its origin."""
    return _VOLUME_TAG + check_id("volume", volume_id)


def volume_id_of(name: str) -> VolumeId | None:
    """The id of a complete volume by its name; None for any other logical volume."""
    matched = _VOLUME.fullmatch(name)
    return VolumeId(matched[1]) if matched else None


def half_made_id_of(name: str) -> VolumeId | None:
    """The volume that a logical volume was made for on the way to something else."""
    matched = _HALF_MADE.fullmatch(name)
    return VolumeId(matched[1]) if matched else None


def snapshot_id_of(name: str) -> SnapshotId | None:
    matched = _SNAPSHOT.fullmatch(name)
    return SnapshotId(matched[1]) if matched else None


def volume_id_of_tags(tags: Collection[str]) -> VolumeId | None:
    """The volume that a snapshot with these tags is of."""
    found = next((tag for tag in tags if tag.startswith(_VOLUME_TAG)), None)
    return VolumeId(found.removeprefix(_VOLUME_TAG)) if found is not None else None
