"""How much is promised in each pool, kept up to date by what changes, so that a booking costs no look at every row."""

import threading
from collections import Counter
from collections.abc import Mapping

from weft.model import PoolId, StateStatus, Volume, VolumeId, VolumeState
from weft.ports import SNAPSHOTS, VOLUME_STATES, VOLUMES, Key, Revision, Store


class Bookings:
    """The bytes promised in each pool: each volume at what it has or, while it grows, what it was asked to be, and
    each snapshot at its full size, for that is what it may come to. Safe to use from any thread.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._seen = Revision(0)
        self._entries: dict[Key, tuple[PoolId, int]] = {}
        self._totals: Counter[PoolId] = Counter()

    def totals(self) -> Mapping[PoolId, int]:
        """As of now; what others write meanwhile may be in it or not."""
        with self._lock:
            seen, known = self._seen, set(self._entries)
        changes = self._store.watch(seen, 0)
        if changes.keys is None:
            changed = known | self._every_key()
        else:
            changed = {_booking_of(key) for key in changes.keys}
        entries = {key: self._entry(key) for key in changed}
        with self._lock:
            if changes.revision >= self._seen:  # else somebody has entered newer ones meanwhile
                self._seen = changes.revision
                for key, entry in entries.items():
                    self._enter(key, entry)
            return Counter(self._totals)

    def _enter(self, key: Key, entry: tuple[PoolId, int] | None) -> None:
        pool_id, size = self._entries.pop(key, (None, 0))
        if pool_id is not None:
            self._totals[pool_id] -= size
        if entry is not None:
            self._entries[key] = entry
            self._totals[entry[0]] += entry[1]

    def _every_key(self) -> set[Key]:
        volumes = {Key(VOLUMES.name, row.value.id) for row in self._store.list(VOLUMES)}
        return volumes | {Key(SNAPSHOTS.name, row.value.id) for row in self._store.list(SNAPSHOTS)}

    def _entry(self, key: Key) -> tuple[PoolId, int] | None:
        if key.table == VOLUMES.name:
            return self._volume(VolumeId(key.id))
        row = self._store.get(SNAPSHOTS, key.id) if key.table == SNAPSHOTS.name else None
        volume = self._store.get(VOLUMES, row.value.volume_id) if row is not None else None
        return (volume.value.pool_id, row.value.size) if row is not None and volume is not None else None

    def _volume(self, volume_id: VolumeId) -> tuple[PoolId, int] | None:
        row = self._store.get(VOLUMES, volume_id)
        if row is None:
            return None
        found = self._store.get(VOLUME_STATES, volume_id)
        has = found.value.size if found is not None else 0
        if found is None or not _is_final(row.value, found.value):
            return row.value.pool_id, max(has, row.value.size)
        return row.value.pool_id, has


def _is_final(volume: Volume, found: VolumeState) -> bool:
    """Whether the volume will not get more bytes than it has: all is done, or its making was given up."""
    given_up = found.status is StateStatus.ERROR and found.size == 0
    return given_up or found.generation == volume.generation


def _booking_of(key: Key) -> Key:
    """A volume's state counts with the volume."""
    return Key(VOLUMES.name, key.id) if key.table == VOLUME_STATES.name else key
