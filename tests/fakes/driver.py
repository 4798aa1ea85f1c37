"""A VolumeDriver whose bytes are in memory."""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from fakes.crash import Crash, CrashPlan
from weft.errors import ConflictError, InvalidValueError, NoSpaceError, NotFoundError
from weft.model import (
    GIB,
    Capacity,
    FoundSnapshot,
    FoundVolume,
    Snapshot,
    SnapshotId,
    Volume,
    VolumeId,
)
from weft.names import check_id

__all__ = ["Crash", "CrashPlan", "FakeVolumeDriver"]

BLOCK = 4096


@dataclass(frozen=True, slots=True)
class _Content:
    """Bytes by block number; a block that is missing reads as zeroes."""

    size: int
    blocks: Mapping[int, bytes] = field(default_factory=dict)

    def resized(self, size: int) -> "_Content":
        return _Content(size, self.blocks)


class FakeVolumeDriver:
    """Keeps volumes and snapshots in memory, and counts what it is asked for.

    Effects, for the plan: `driver.create`, `driver.copy` (a create from a source, half-done), `driver.extend`,
    `driver.delete`, `driver.snapshot`, `driver.delete_snapshot`, `driver.revert`.

    exported tells whether a target shows a volume right now; deleting or reverting such a volume is a fault of the
    caller and lands in faults. So does making a volume anew whose data this driver has already held, unless it
    was deleted in between.
    """

    def __init__(
        self,
        plan: CrashPlan | None = None,
        *,
        total: int = 1024 * GIB,
        exported: Callable[[VolumeId], bool] = lambda _: False,
    ) -> None:
        self.plan = plan or CrashPlan()
        self.faults: list[str] = []
        self.total = total
        self._exported = exported
        self._lock = threading.RLock()
        self._volumes: dict[VolumeId, _Content] = {}
        self._half_made: dict[VolumeId, _Content] = {}
        self._snapshots: dict[VolumeId, dict[SnapshotId, _Content]] = {}
        self._born: set[VolumeId] = set()

    # -- what a test does to the world ------------------------------------------------------------------------

    def write(self, volume_id: VolumeId, offset: int, data: bytes) -> None:
        """Write as a host would; offset and length are whole blocks."""
        if offset % BLOCK or len(data) % BLOCK:
            raise ValueError("only whole blocks can be written")
        with self._lock:
            content = self._volumes[volume_id]
            if offset + len(data) > content.size:
                raise ValueError("beyond the end of the volume")
            blocks = dict(content.blocks)
            for start in range(0, len(data), BLOCK):
                blocks[(offset + start) // BLOCK] = data[start : start + BLOCK]
            self._volumes[volume_id] = _Content(content.size, blocks)

    def read(self, volume_id: VolumeId, offset: int, length: int) -> bytes:
        with self._lock:
            return _read(self._volumes[volume_id], offset, length)

    def lose(self, volume_id: VolumeId) -> None:
        """The volume vanishes, as by a hand that deleted its file."""
        with self._lock:
            del self._volumes[volume_id]

    @property
    def leftovers(self) -> frozenset[VolumeId]:
        """Volumes of which something half-made exists that is not found."""
        with self._lock:
            return frozenset(self._half_made)

    # -- the door ---------------------------------------------------------------------------------------------

    def capacity(self) -> Capacity:
        with self._lock:
            return Capacity(total=self.total, free=self.total - self._used())

    def volume(self, volume_id: VolumeId) -> FoundVolume | None:
        check_id("volume", volume_id)
        with self._lock:
            content = self._volumes.get(volume_id)
            if content is None:
                return None
            return FoundVolume(id=volume_id, size=content.size, path=_path(volume_id))

    def volumes(self) -> Mapping[VolumeId, FoundVolume]:
        with self._lock:
            return {
                volume_id: FoundVolume(id=volume_id, size=content.size, path=_path(volume_id))
                for volume_id, content in self._volumes.items()
            }

    def create(self, volume: Volume, source: Snapshot | Volume | None = None) -> None:
        check_id("volume", volume.id)
        with self._lock:
            if volume.id in self._volumes:
                self._half_made.pop(volume.id, None)
                return
            if volume.id in self._born:
                self.faults.append(f"volume {volume.id} was made anew after its data had vanished")
            content = self._source(source) if source else _Content(volume.size)
            if content.size > volume.size:
                raise InvalidValueError("size", "is smaller than what the volume is made from")
            if self._used() + len(content.blocks) * BLOCK > self.total:
                raise NoSpaceError("the fake pool is full")
            if source:
                with self.plan.effect("driver.copy"):
                    self._half_made[volume.id] = content
            with self.plan.effect("driver.create"):
                self._volumes[volume.id] = content.resized(volume.size)
                self._half_made.pop(volume.id, None)
                self._born.add(volume.id)

    def extend(self, volume: Volume) -> None:
        with self._lock:
            content = self._volume(volume.id)
            if content.size < volume.size:
                with self.plan.effect("driver.extend"):
                    self._volumes[volume.id] = content.resized(volume.size)

    def delete(self, volume: Volume) -> None:
        check_id("volume", volume.id)
        with self._lock:
            if self._snapshots.get(volume.id):
                raise ConflictError(f"volume {volume.id} has snapshots; delete them first")
            self._half_made.pop(volume.id, None)
            if volume.id in self._volumes:
                self._must_not_be_exported(volume.id, "deleted")
                with self.plan.effect("driver.delete"):
                    del self._volumes[volume.id]
                    self._born.discard(volume.id)

    def snapshot(self, snapshot: Snapshot) -> None:
        check_id("volume", snapshot.volume_id)
        check_id("snapshot", snapshot.id)
        with self._lock:
            kept = self._snapshots.setdefault(snapshot.volume_id, {})
            if snapshot.id not in kept:
                content = self._volume(snapshot.volume_id)
                with self.plan.effect("driver.snapshot"):
                    kept[snapshot.id] = content

    def snapshots(self, volume_id: VolumeId) -> Mapping[SnapshotId, FoundSnapshot]:
        check_id("volume", volume_id)
        with self._lock:
            return {
                snapshot_id: FoundSnapshot(
                    id=snapshot_id,
                    volume_id=volume_id,
                    size=content.size,
                    path=_path(volume_id).with_suffix("") / f"{snapshot_id}.img",
                )
                for snapshot_id, content in self._snapshots.get(volume_id, {}).items()
            }

    def delete_snapshot(self, snapshot: Snapshot) -> None:
        check_id("volume", snapshot.volume_id)
        check_id("snapshot", snapshot.id)
        with self._lock:
            if snapshot.id in self._snapshots.get(snapshot.volume_id, {}):
                with self.plan.effect("driver.delete_snapshot"):
                    del self._snapshots[snapshot.volume_id][snapshot.id]

    def revert(self, volume: Volume, snapshot: Snapshot) -> None:
        if snapshot.volume_id != volume.id:
            raise InvalidValueError("snapshot", f"{snapshot.id} is not a snapshot of volume {volume.id}")
        with self._lock:
            present = self._volume(volume.id)
            content = self._snapshot(snapshot)
            self._must_not_be_exported(volume.id, "reverted")
            with self.plan.effect("driver.revert"):
                self._volumes[volume.id] = content.resized(max(present.size, volume.size))

    def path(self, volume: Volume) -> Path:
        check_id("volume", volume.id)
        return _path(volume.id)

    # -- helpers ----------------------------------------------------------------------------------------------

    def _volume(self, volume_id: VolumeId) -> _Content:
        check_id("volume", volume_id)
        if volume_id not in self._volumes:
            raise NotFoundError(f"volume {volume_id} is not in the fake pool")
        return self._volumes[volume_id]

    def _source(self, source: Snapshot | Volume) -> _Content:
        return self._volume(source.id) if isinstance(source, Volume) else self._snapshot(source)

    def _snapshot(self, snapshot: Snapshot) -> _Content:
        check_id("volume", snapshot.volume_id)
        check_id("snapshot", snapshot.id)
        kept = self._snapshots.get(snapshot.volume_id, {})
        if snapshot.id not in kept:
            raise NotFoundError(f"snapshot {snapshot.id} is not in the fake pool")
        return kept[snapshot.id]

    def _used(self) -> int:
        kept = [content for each in self._snapshots.values() for content in each.values()]
        return BLOCK * sum(len(content.blocks) for content in [*self._volumes.values(), *kept])

    def _must_not_be_exported(self, volume_id: VolumeId, what: str) -> None:
        if self._exported(volume_id):
            self.faults.append(f"volume {volume_id} was {what} while a target showed it")


def _path(volume_id: VolumeId) -> Path:
    return Path("/fake/volumes") / f"{volume_id}.img"


def _read(content: _Content, offset: int, length: int) -> bytes:
    if offset + length > content.size:
        raise ValueError("beyond the end of the volume")
    first, last = offset // BLOCK, -(-(offset + length) // BLOCK)
    data = b"".join(content.blocks.get(number, bytes(BLOCK)) for number in range(first, last))
    start = offset - first * BLOCK
    return data[start : start + length]
