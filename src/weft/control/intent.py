"""What the store says about volumes: about one, or about all at once for a look at everything.

Asked volume by volume, a store is a dozen questions for each; with a thousand volumes to be exported again after a
restart that takes longer than the exporting.
"""

import gc
import threading
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, Protocol, TypeVar

from weft.control.steps import Wanted, WantedAttachment, WantedSnapshot
from weft.model import Snapshot, Volume, VolumeId, VolumeState
from weft.ports import (
    ATTACHMENT_STATES,
    ATTACHMENTS,
    HOST_SECRETS,
    HOSTS,
    POOLS,
    SNAPSHOT_STATES,
    SNAPSHOTS,
    VOLUME_STATES,
    VOLUMES,
    Key,
    Revision,
    Row,
    Store,
    Table,
)

_SAYS_SOMETHING: Final = frozenset(
    each.name
    for each in (
        ATTACHMENT_STATES,
        ATTACHMENTS,
        HOST_SECRETS,
        HOSTS,
        POOLS,
        SNAPSHOT_STATES,
        SNAPSHOTS,
        VOLUME_STATES,
        VOLUMES,
    )
)

RowT = TypeVar("RowT")


class _OfVolume(Protocol):
    @property
    def volume_id(self) -> VolumeId: ...


OfVolumeT = TypeVar("OfVolumeT", bound=_OfVolume)


@dataclass(slots=True)
class _Foreseen:
    """All volumes as of a revision. wanted: those that still stand and were not read."""

    revision: Revision
    everything: Sequence[Wanted]
    wanted: dict[VolumeId, Wanted]
    _users: dict[str, set[VolumeId]] | None = None

    def users(self) -> Mapping[str, Collection[VolumeId]]:
        """By the id of a row, the volumes that it says something about; put together once a row has changed."""
        if self._users is None:
            self._users = defaultdict(set)
            for wanted in self.everything:
                for row_id in _row_ids(wanted):
                    self._users[row_id].add(wanted.volume.id)
        return self._users


class Intent:
    """Safe to use from any thread."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._foreseen: _Foreseen | None = None

    def read(self, volume_id: VolumeId) -> tuple[Wanted | None, Revision]:
        """All about a volume, None when no row knows it, and a revision: as long as it is the store's, this stands."""
        revision = self._store.revision()
        wanted = self._take_foreseen(volume_id)
        if wanted is None:
            row = self._store.get(VOLUMES, volume_id)
            if row is None:
                return None, revision
            state = self._get(VOLUME_STATES, volume_id)
            wanted = self._read([row.value], [state] if state is not None else [], {"volume_id": volume_id})[
                0
            ]
        return wanted, revision

    def read_all(self) -> Sequence[Wanted]:
        """All about all volumes; what the next read() of each tells too, unless it changes."""
        with _not_collecting():
            revision = self._store.revision()
            volumes = _values(self._store.list(VOLUMES))
            read = self._read(volumes, _values(self._store.list(VOLUME_STATES)), None)
        with self._lock:
            self._foreseen = _Foreseen(revision, read, {each.volume.id: each for each in read})
        return read

    def unread(self) -> Mapping[VolumeId, Wanted]:
        """What the last read_all() has found of volumes that no read() was about since, and that have not changed."""
        with self._lock:
            foreseen = self._standing()
            return dict(foreseen.wanted) if foreseen is not None else {}

    def _take_foreseen(self, volume_id: VolumeId) -> Wanted | None:
        with self._lock:
            foreseen = self._standing()
            return foreseen.wanted.pop(volume_id, None) if foreseen is not None else None

    def _standing(self) -> _Foreseen | None:
        """What was foreseen, without what has changed since; to be called with the lock."""
        foreseen = self._foreseen
        if foreseen is None or not foreseen.wanted:
            self._foreseen = None
            return None
        changes = self._store.watch(foreseen.revision, 0)
        foreseen.revision = changes.revision
        if changes.keys is None or not all(_drop(foreseen, key) for key in changes.keys):
            self._foreseen = None
        return self._foreseen

    def _read(
        self, volumes: Sequence[Volume], states: Iterable[VolumeState], where: Mapping[str, str] | None
    ) -> list[Wanted]:
        """where: what selects the rows of these volumes in tables that have a volume_id; None selects all rows."""
        state_of = {each.id: each for each in states}
        snapshots = _by_volume(_values(self._store.list(SNAPSHOTS, where=where)))
        snapshot_states = {each.id: each for each in _values(self._store.list(SNAPSHOT_STATES, where=where))}
        attachments = _by_volume(_values(self._store.list(ATTACHMENTS, where=where)))
        attachment_states = {
            each.id: each for each in _values(self._store.list(ATTACHMENT_STATES, where=where))
        }
        host_ids = {each.host_id for of_one in attachments.values() for each in of_one}
        hosts = {each: self._get(HOSTS, each) for each in host_ids}
        secrets = {each: self._get(HOST_SECRETS, each) for each in host_ids}
        pools = {each: self._get(POOLS, each) for each in {volume.pool_id for volume in volumes}}
        return [
            Wanted(
                volume=volume,
                pool=pools[volume.pool_id],
                state=state_of.get(volume.id),
                source=self._source(volume),
                snapshots=tuple(
                    WantedSnapshot(each, snapshot_states.get(each.id))
                    for each in snapshots.get(volume.id, ())
                ),
                attachments=tuple(
                    WantedAttachment(
                        each,
                        attachment_states.get(each.id),
                        hosts[each.host_id],
                        held.secrets if (held := secrets[each.host_id]) is not None else None,
                    )
                    for each in attachments.get(volume.id, ())
                ),
            )
            for volume in volumes
        ]

    def _source(self, volume: Volume) -> Snapshot | Volume | None:
        if volume.source_snapshot_id is not None:
            return self._get(SNAPSHOTS, volume.source_snapshot_id)
        return self._get(VOLUMES, volume.source_volume_id) if volume.source_volume_id is not None else None

    def _get(self, table: Table[RowT], row_id: str) -> RowT | None:
        row = self._store.get(table, row_id)
        return row.value if row is not None else None


@contextmanager
def _not_collecting() -> Iterator[None]:
    """Python looks for garbage each time that some hundred objects more are alive; of thousands of rows none is any."""
    was_collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_collecting:
            gc.enable()


def _drop(foreseen: _Foreseen, key: Key) -> bool:
    """Forget the volumes that a changed row says something about; whether it is known which they are."""
    if key.table not in _SAYS_SOMETHING:
        return True
    users = foreseen.users().get(key.id)
    for volume_id in users or ():
        foreseen.wanted.pop(volume_id, None)
    return users is not None


def _row_ids(wanted: Wanted) -> Iterable[str]:
    yield wanted.volume.id
    yield wanted.volume.pool_id
    if wanted.volume.source_snapshot_id is not None:
        yield wanted.volume.source_snapshot_id
    if wanted.volume.source_volume_id is not None:
        yield wanted.volume.source_volume_id
    for snapshot in wanted.snapshots:
        yield snapshot.snapshot.id
    for attachment in wanted.attachments:
        yield attachment.attachment.id
        yield attachment.attachment.host_id


def _values(rows: Iterable[Row[RowT]]) -> list[RowT]:
    return [row.value for row in rows]


def _by_volume(rows: Iterable[OfVolumeT]) -> Mapping[VolumeId, list[OfVolumeT]]:
    found: defaultdict[VolumeId, list[OfVolumeT]] = defaultdict(list)
    for each in rows:
        found[each.volume_id].append(each)
    return found
