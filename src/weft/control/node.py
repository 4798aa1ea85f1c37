"""The loop of one storage node: which volumes are looked at, and when."""

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence

from weft.control.restoring import expected_volumes
from weft.control.settling import Settler
from weft.control.steps import Wanted
from weft.control.workqueue import WorkQueue
from weft.errors import WeftError
from weft.model import NodeId, PoolId, Protocol, VolumeId
from weft.ports import (
    ATTACHMENTS,
    SNAPSHOTS,
    VOLUMES,
    Key,
    Revision,
    Store,
    Target,
    VolumeDriver,
)

_log = logging.getLogger("weft.node")

_FIRST_RETRY_SECONDS = 0.5
_LONGEST_RETRY_SECONDS = 60.0
_LONGEST_AWAITED_SECONDS = 2.0
"""While portals are kept closed for a volume, whose pool may come any moment."""
_SWEEP_SECONDS = 60.0
_WATCH_SECONDS = 0.25
_MEASURE_SECONDS = 1.0
"""From a change in a pool to its measuring, which may take a while in a large pool; many changes share one."""
_JOIN_SECONDS = 30.0
_RESTORE_SECONDS = 20.0
_KEPT_FOR_EXPORTS = 2
"""Workers that never work on bytes, so that long copies of some volumes never delay the attachment of others."""


class Node:
    """Makes the volumes of one storage node agree with what is wanted.

    drivers are the node's pools, targets its protocols. start() looks at everything, then at each volume that
    changes, and at everything again now and then; stop() ends and joins the threads.
    """

    def __init__(
        self,
        node_id: NodeId,
        store: Store,
        drivers: Mapping[PoolId, VolumeDriver],
        targets: Mapping[Protocol, Target],
        *,
        workers: int = 8,
        first_retry_seconds: float = _FIRST_RETRY_SECONDS,
        sweep_seconds: float = _SWEEP_SECONDS,
    ) -> None:
        self._store = store
        self._drivers = drivers
        self._targets = targets
        self._first_retry_seconds = first_retry_seconds
        self._sweep_seconds = sweep_seconds
        self._queue: WorkQueue[VolumeId] = WorkQueue()
        self._pools: WorkQueue[PoolId] = WorkQueue()
        self._settler = Settler(
            node_id,
            store,
            drivers,
            targets,
            data_steps=max(1, workers - _KEPT_FOR_EXPORTS),
            come_again=self._queue.add,
            bytes_changed=lambda pool_id: self._pools.add(pool_id, delay=_MEASURE_SECONDS),
        )
        self._tries: dict[VolumeId, int] = {}
        self._seen = Revision(0)
        self._before: Sequence[Wanted] = ()
        self._stopping = threading.Event()
        self._restored = threading.Event()
        self._threads = [threading.Thread(target=self._work, name=f"node-{n}") for n in range(workers)]
        self._threads.append(threading.Thread(target=self._guarded, args=(self._watch,), name="node-watch"))
        self._threads.append(threading.Thread(target=self._restore, name="node-restore"))
        self._threads.append(threading.Thread(target=self._sweep_after_restore, name="node-sweep"))
        self._threads.append(
            threading.Thread(target=self._guarded, args=(self._measure_next,), name="node-pools")
        )

    def start(self) -> None:
        self._seen = self._store.revision()  # what was before is seen to by the first look at everything
        self._before = self._settler.read_all()
        expected = expected_volumes(self._before)
        for protocol, target in self._targets.items():
            target.expect(expected.get(protocol, frozenset()))
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End the loop; steps that are under way are waited for, 30 seconds at most."""
        self._stopping.set()
        self._restored.set()
        self._queue.close()
        self._pools.close()
        deadline = time.monotonic() + _JOIN_SECONDS
        for thread in self._threads:
            if thread.ident is not None:
                thread.join(max(0.0, deadline - time.monotonic()))
        if lasting := [thread.name for thread in self._threads if thread.is_alive()]:
            _log.error("still at work %g s after the stop: %s", _JOIN_SECONDS, ", ".join(lasting))

    def settle(self, volume_id: VolumeId) -> None:
        """One pass over one volume: bring what is found to what is wanted as far as it goes, and write it down.

        When something failed the volume comes round again, after a while that grows with each try.
        """
        if self._settler.settle(volume_id):
            self._retry(volume_id)
        else:
            self._tries.pop(volume_id, None)

    def sweep(self) -> None:
        """Have every volume looked at, measure the pools, and end exports that no row knows.

        Where no volume has a row they are left alone: more likely the database was lost than all that it held deleted.
        """
        self._add_all()
        self.measure_pools()
        for target in self._targets.values():
            self._end_orphans(target)

    def measure_pools(self) -> None:
        for pool_id in self._drivers:
            self._settler.measure_pool(pool_id)

    def _add_all(self) -> None:
        for wanted in self._settler.read_all():
            self._queue.add(wanted.volume.id)

    def _end_orphans(self, target: Target) -> None:
        try:
            orphans = [each for each in target.exports() if self._store.get(VOLUMES, each) is None]
            if orphans and not self._store.list(VOLUMES):
                _log.error(
                    "the database holds no volume, and these are exported: %s; their exports stay, because the database"
                    " may have been lost: put it back before any volume is made, for with that they are ended",
                    ", ".join(orphans),
                )
                return
            for volume_id in orphans:
                _log.warning("ending the export of volume %s, which no row knows", volume_id)
                target.remove_export(volume_id)
        except WeftError as error:
            _log.warning("ending exports that no row knows failed: %s; trying again later", error)

    def _retry(self, volume_id: VolumeId) -> None:
        tries = self._tries.get(volume_id, 0)
        self._tries[volume_id] = min(tries + 1, 16)
        is_awaited = any(target.awaits(volume_id) for target in self._targets.values())
        longest = _LONGEST_AWAITED_SECONDS if is_awaited else _LONGEST_RETRY_SECONDS
        self._queue.add(volume_id, delay=min(self._first_retry_seconds * 2**tries, longest))

    def _work(self) -> None:
        while (volume_id := self._queue.take()) is not None:
            try:
                self.settle(volume_id)
            except WeftError as error:
                _log.warning("a pass over volume %s failed: %s; trying again", volume_id, error)
                self._retry(volume_id)
            except Exception:  # noqa: BLE001 -- the loop goes on whatever one volume does
                _log.exception("a pass over volume %s met a bug; it is tried again", volume_id)
                self._retry(volume_id)
            finally:
                self._queue.done(volume_id)

    def _guarded(self, loop: Callable[[], None]) -> None:
        while not self._stopping.is_set():
            try:
                loop()
            except Exception as error:  # noqa: BLE001 -- the loop goes on
                if isinstance(error, WeftError):
                    _log.warning("%s: %s; trying again", threading.current_thread().name, error)
                else:
                    _log.exception("%s met a bug; trying again", threading.current_thread().name)
                self._stopping.wait(_FIRST_RETRY_SECONDS)

    def _watch(self) -> None:
        changes = self._store.watch(self._seen, _WATCH_SECONDS)
        if changes.keys is None:
            self._add_all()
        else:
            for key in changes.keys:
                self._add_changed(key)
        self._seen = changes.revision

    def _add_changed(self, key: Key) -> None:
        if key.table == VOLUMES.name:
            self._queue.add(VolumeId(key.id))
        elif key.table == SNAPSHOTS.name:
            snapshot = self._store.get(SNAPSHOTS, key.id)
            if snapshot is not None:
                self._queue.add(snapshot.value.volume_id)
        elif key.table == ATTACHMENTS.name:
            attachment = self._store.get(ATTACHMENTS, key.id)
            if attachment is not None:
                self._queue.add(attachment.value.volume_id)

    def _measure_next(self) -> None:
        pool_id = self._pools.take()
        if pool_id is not None:
            try:
                self._settler.measure_pool(pool_id)
            finally:
                self._pools.done(pool_id)

    def _restore(self) -> None:
        try:
            self._settler.restore_exports(self._before)
        except Exception:  # noqa: BLE001 -- the passes over single volumes restore them too
            _log.exception("restoring all exports at once met a bug; they are restored one by one")
        self._before = ()
        self._restored.set()

    def _sweep_after_restore(self) -> None:
        # No longer than this for a pool whose disks do not answer: the volumes of others are looked at meanwhile.
        self._restored.wait(_RESTORE_SECONDS)
        self._guarded(self._sweep_regularly)

    def _sweep_regularly(self) -> None:
        self.sweep()
        self._stopping.wait(self._sweep_seconds)
