"""The file driver: a pool is a directory, a volume a sparse file in it.

    <pool>/volumes/<volume id>.img
    <pool>/snapshots/<volume id>/<snapshot id>.img

Files have mode 0600, directories 0700. Nothing is allocated ahead: a volume takes room as it is written, and how
much may be promised is the scheduler's business. A file system gives new blocks as zeroes, so nobody reads what a
deleted volume held.

Callers see to it that no two verbs run on one volume at a time, and that the source of a copy stays.
"""

import os
import stat
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from weft.drivers.copying import Progress, allocated, copy_extents, reflink
from weft.drivers.described import describe_source
from weft.drivers.failures import PoolFailures
from weft.drivers.holding import HoldWrites, copy_held, nobody_writes
from weft.drivers.whole import (
    Step,
    id_of,
    make_whole,
    remove_partial,
    remove_whole,
    sweep,
    sync_directory,
    whole_path,
)
from weft.errors import ConflictError, InvalidValueError, NoSpaceError, NotFoundError
from weft.model import Capacity, FoundSnapshot, FoundVolume, Snapshot, SnapshotId, Volume, VolumeId
from weft.names import check_id

CopyProgress = Callable[[str, int, int], None]
"""Told the id of what is being made, the bytes of data copied and how many there are. What it raises ends the copy."""

_Copy = Callable[[int, int, Progress], None]


def _ignore_progress(made: str, done: int, total: int) -> None:
    pass


def _ignore_step(name: str) -> None:
    pass


class FileDriver:
    """The VolumeDriver of a pool that is a directory.

    root is made if it is missing. Without hold_writes the caller sees to it that nobody writes to a volume while a
    snapshot of it is made; hold_seconds bounds how long writes are held. step is for tests, see weft.drivers.whole.

    Every verb raises UnavailableError when the directory is not there or cannot be written, and InvalidValueError
    for an id that is not a lower-case UUID.
    """

    def __init__(
        self,
        root: Path,
        *,
        pool: str = "default",
        hold_writes: HoldWrites | None = None,
        hold_seconds: float = 20.0,
        progress: CopyProgress = _ignore_progress,
        step: Step = _ignore_step,
    ) -> None:
        self._root = root
        self._volumes = root / "volumes"
        self._snapshots = root / "snapshots"
        self._pool = pool
        self._hold_writes = hold_writes or nobody_writes
        self._hold_seconds = hold_seconds
        self._progress = progress
        self._step = step
        self._failures = PoolFailures(pool, root)
        self._open()

    def capacity(self) -> Capacity:
        """Bytes that this pool has and could still have: what it occupies, and what the file system has free for a
        user without privileges. What others have stored beside the pool is not counted, for it cannot be promised.
        """
        with self._failures.mapped("tell its capacity"):
            self._check_mounted()
            found = os.statvfs(self._root)
            free = found.f_bavail * found.f_frsize
            return Capacity(total=_occupied(self._root) + free, free=free)

    def volume(self, volume_id: VolumeId) -> FoundVolume | None:
        path = self._volume_path(volume_id)
        with self._failures.mapped(f"look for volume {volume_id}"):
            size = self._size(path)
            return None if size is None else FoundVolume(id=volume_id, size=size, path=path)

    def volumes(self) -> Mapping[VolumeId, FoundVolume]:
        with self._failures.mapped("list its volumes"):
            return {
                VolumeId(volume_id): FoundVolume(id=VolumeId(volume_id), size=size, path=path)
                for volume_id, size, path in _listed(self._volumes)
            }

    def create(self, volume: Volume, source: Snapshot | Volume | None = None) -> None:
        """See the door. A complete volume is kept as it is, whatever size and source are asked for.

        Raises NotFoundError when source is not there, InvalidValueError when it is larger than the volume,
        NoSpaceError, and for a source that is a volume what snapshot() raises; none of them leaves anything behind.
        """
        path = self._volume_path(volume.id)
        doing = f"make volume {volume.id} of {volume.size} bytes"
        with self._failures.mapped(doing, volume.size):
            if self._size(path) is not None:
                remove_partial(path)
                return
            origin = self._existing_source(source)
            if source is not None and origin is not None and origin.size > volume.size:
                raise InvalidValueError("size", f"is smaller than {describe_source(source)}")
            with make_whole(path, self._step) as destination:
                if origin is not None:
                    copy = self._copy_held(origin.id) if isinstance(origin, FoundVolume) else copy_extents
                    self._fill(destination, origin.path, made=volume.id, doing=doing, copy=copy)
                os.ftruncate(destination, volume.size)

    def extend(self, volume: Volume) -> None:
        """See the door. The file stays the same one, so an export sees it grow.

        Raises NotFoundError and NoSpaceError; the volume keeps its size then.
        """
        path = self._existing_volume(volume.id).path
        doing = f"extend volume {volume.id} to {volume.size} bytes"
        with self._failures.mapped(doing, volume.size), _opened(path, os.O_RDWR) as descriptor:
            if os.fstat(descriptor).st_size < volume.size:
                os.ftruncate(descriptor, volume.size)
                self._step("extended")
            os.fsync(descriptor)
            self._step("synced file")

    def delete(self, volume: Volume) -> None:
        """Remove the volume; one that is not there is done. Raises ConflictError while it has snapshots."""
        path = self._volume_path(volume.id)
        if self.snapshots(volume.id):
            raise ConflictError(f"volume {volume.id} has snapshots; delete them first")
        with self._failures.mapped(f"delete volume {volume.id}"):
            remove_whole(path, self._step)
            self._tidy(self._snapshots / volume.id)

    def snapshot(self, snapshot: Snapshot) -> None:
        """See the door. A point in time by reflink, or else by a copy during which writes are held.

        Raises ConflictError when the copy takes longer than writes may be held, UnavailableError when they were
        not held until its end, NotFoundError and NoSpaceError; none of them leaves anything behind.
        """
        path = self._snapshot_path(snapshot)
        doing = f"make snapshot {snapshot.id} of volume {snapshot.volume_id}"
        copy = self._copy_held(snapshot.volume_id)
        with self._failures.mapped(doing, snapshot.size):
            if self._size(path) is not None:
                remove_partial(path)
                return
            source = self._existing_volume(snapshot.volume_id).path
            with self._snapshot_directory(path.parent), make_whole(path, self._step) as destination:
                self._fill(destination, source, made=snapshot.id, doing=doing, copy=copy)

    def snapshots(self, volume_id: VolumeId) -> Mapping[SnapshotId, FoundSnapshot]:
        directory = self._snapshots / check_id("volume", volume_id)
        with self._failures.mapped(f"list the snapshots of volume {volume_id}"):
            if not directory.exists():
                self._check_mounted()
                return {}
            return {
                SnapshotId(snapshot_id): FoundSnapshot(
                    id=SnapshotId(snapshot_id), volume_id=volume_id, size=size, path=path
                )
                for snapshot_id, size, path in _listed(directory)
            }

    def delete_snapshot(self, snapshot: Snapshot) -> None:
        """Remove the snapshot; one that is not there is done."""
        path = self._snapshot_path(snapshot)
        with self._failures.mapped(f"delete snapshot {snapshot.id}"):
            if path.parent.exists():
                remove_whole(path, self._step)
                self._tidy(path.parent)
            else:
                self._check_mounted()

    def revert(self, volume: Volume, snapshot: Snapshot) -> None:
        """See the door. What the volume has beyond the snapshot's size reads as zeroes.

        The content is built apart and takes the volume's place at once, as another file. An export holds on to
        the old one, so a volume is only reverted while no export of it exists.

        Raises InvalidValueError for another volume's snapshot, NotFoundError and NoSpaceError; the volume keeps
        its content then.
        """
        if snapshot.volume_id != volume.id:
            raise InvalidValueError("snapshot", f"{snapshot.id} is not a snapshot of volume {volume.id}")
        present = self._existing_volume(volume.id)
        kept = self._existing_snapshot(snapshot)
        doing = f"revert volume {volume.id} to snapshot {snapshot.id}"
        with (
            self._failures.mapped(doing, kept.size),
            make_whole(present.path, self._step, replace=True) as destination,
        ):
            self._fill(destination, kept.path, made=volume.id, doing=doing)
            os.ftruncate(destination, max(present.size, volume.size, kept.size))

    def path(self, volume: Volume) -> Path:
        return self._volume_path(volume.id)

    def sweep(self) -> None:
        """Remove what crashes left half-made; also done when the driver is opened."""
        with self._failures.mapped("remove what a crash left half-made"):
            sweep(self._volumes)
            for entry in self._snapshots.iterdir():
                self._tidy(entry)

    def _open(self) -> None:
        with self._failures.mapped("be opened"):
            self._root.parent.mkdir(parents=True, exist_ok=True)
            for directory in (self._root, self._volumes, self._snapshots):
                directory.mkdir(mode=0o700, exist_ok=True)
            with suppress(NoSpaceError), self._failures.mapped("be written"):  # a full pool is a pool
                tempfile.TemporaryFile(dir=self._root).close()
        self.sweep()

    def _fill(
        self,
        destination: int,
        source: Path,
        *,
        made: str,
        doing: str,
        copy: _Copy = copy_extents,
    ) -> None:
        """Give destination source's content; copy: how, where the file system has no reflinks."""
        with _opened(source, os.O_RDONLY) as origin:
            if not reflink(origin, destination):
                self._failures.check_room(doing, allocated(origin))
                copy(origin, destination, partial(self._progress, made))

    def _copy_held(self, volume_id: VolumeId) -> _Copy:
        return partial(
            copy_held, volume_id=volume_id, hold_writes=self._hold_writes, seconds=self._hold_seconds
        )

    def _existing_source(self, source: Snapshot | Volume | None) -> FoundSnapshot | FoundVolume | None:
        if source is None:
            return None
        return (
            self._existing_volume(source.id)
            if isinstance(source, Volume)
            else self._existing_snapshot(source)
        )

    def _volume_path(self, volume_id: VolumeId) -> Path:
        return whole_path(self._volumes, check_id("volume", volume_id))

    def _snapshot_path(self, snapshot: Snapshot) -> Path:
        directory = self._snapshots / check_id("volume", snapshot.volume_id)
        return whole_path(directory, check_id("snapshot", snapshot.id))

    def _existing_volume(self, volume_id: VolumeId) -> FoundVolume:
        found = self.volume(volume_id)
        if found is None:
            raise NotFoundError(f"volume {volume_id} is not in pool {self._pool}")
        return found

    def _existing_snapshot(self, snapshot: Snapshot) -> FoundSnapshot:
        path = self._snapshot_path(snapshot)
        with self._failures.mapped(f"look for snapshot {snapshot.id}"):
            size = self._size(path)
        if size is None:
            raise NotFoundError(f"snapshot {snapshot.id} is not in pool {self._pool}")
        return FoundSnapshot(id=snapshot.id, volume_id=snapshot.volume_id, size=size, path=path)

    def _size(self, path: Path) -> int | None:
        """Bytes of a complete file, None when it is not there while the pool is."""
        size = _regular_size(path)
        if size is None:
            self._check_mounted()
        return size

    def _check_mounted(self) -> None:
        """A directory that is gone says nothing about the volumes in it: that is an error, not their absence."""
        self._volumes.stat()

    @contextmanager
    def _snapshot_directory(self, directory: Path) -> Iterator[None]:
        """Have a volume's directory of snapshots within the block, and afterwards if anything is in it."""
        directory.mkdir(mode=0o700, exist_ok=True)
        sync_directory(self._snapshots)
        self._step("made directory")
        try:
            yield
        finally:
            self._tidy(directory)

    def _tidy(self, directory: Path) -> None:
        """Remove half-made snapshots from a volume's directory, and the directory once nothing is in it."""
        if not directory.is_dir() or directory.is_symlink():
            return
        sweep(directory)
        if not any(directory.iterdir()):
            directory.rmdir()
            sync_directory(self._snapshots)
            self._step("removed directory")


@contextmanager
def _opened(path: Path, mode: int) -> Iterator[int]:
    descriptor = os.open(path, mode | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _regular_size(path: Path) -> int | None:
    try:
        found = path.lstat()
    except FileNotFoundError:
        return None
    return found.st_size if stat.S_ISREG(found.st_mode) else None


def _occupied(directory: Path) -> int:
    """Bytes allocated to the files below directory, one that disappears meanwhile left out."""
    occupied = 0
    for folder, _, names in os.walk(directory):
        for name in names:
            with suppress(FileNotFoundError):
                occupied += os.lstat(os.path.join(folder, name)).st_blocks * 512  # noqa: PTH118 -- a long loop
    return occupied


def _listed(directory: Path) -> Iterator[tuple[str, int, Path]]:
    """The id, size and path of every complete file in directory."""
    with os.scandir(directory) as entries:
        for entry in entries:
            file_id = id_of(entry.name)
            with suppress(FileNotFoundError):
                if file_id is not None and entry.is_file(follow_symlinks=False):
                    yield file_id, entry.stat(follow_symlinks=False).st_size, Path(entry.path)
