"""The loop of one storage node: observe, plan, do, write down."""

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import assert_never

from weft.connection import Connection
from weft.control.locks import IdLocks
from weft.control.reconcile import is_blocked, may_pass, plan
from weft.control.report import report, report_unobserved
from weft.control.steps import (
    CreateVolume,
    DeleteSnapshot,
    DeleteVolume,
    ExtendVolume,
    Failure,
    Found,
    MakeExport,
    Outcome,
    RemoveExport,
    RevertVolume,
    Step,
    TakeSnapshot,
    Wanted,
    WantedAttachment,
    WantedSnapshot,
)
from weft.control.workqueue import WorkQueue
from weft.errors import DataError, NotFoundError, UnavailableError, WeftError
from weft.model import (
    Export,
    ExportHost,
    HostId,
    NodeId,
    PoolId,
    PoolState,
    Protocol,
    Snapshot,
    SnapshotId,
    StateStatus,
    Volume,
    VolumeId,
)
from weft.ports import (
    ATTACHMENT_STATES,
    ATTACHMENTS,
    HOSTS,
    POOL_STATES,
    POOLS,
    SNAPSHOT_STATES,
    SNAPSHOTS,
    VOLUME_STATES,
    VOLUMES,
    Key,
    Put,
    Revision,
    Store,
    Target,
    VolumeDriver,
    Write,
)

_log = logging.getLogger("weft.node")

_FIRST_RETRY_SECONDS = 0.5
_LONGEST_RETRY_SECONDS = 60.0
_SWEEP_SECONDS = 60.0
_WATCH_SECONDS = 1.0
_JOIN_SECONDS = 30.0


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
        sweep_seconds: float = _SWEEP_SECONDS,
    ) -> None:
        self._node_id = node_id
        self._store = store
        self._drivers = drivers
        self._targets = targets
        self._sweep_seconds = sweep_seconds
        self._queue = WorkQueue()
        self._locks = IdLocks()
        self._retries: dict[VolumeId, int] = {}
        self._seen = Revision(0)
        self._stopping = threading.Event()
        self._threads = [threading.Thread(target=self._work, name=f"node-{n}") for n in range(workers)]
        self._threads.append(threading.Thread(target=self._guarded, args=(self._watch,), name="node-watch"))
        self._threads.append(
            threading.Thread(target=self._guarded, args=(self._sweep_regularly,), name="node-sweep")
        )

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End the loop; a step that is under way is waited for."""
        self._stopping.set()
        self._queue.close()
        for thread in self._threads:
            if thread.ident is not None:
                thread.join(_JOIN_SECONDS)

    def sweep(self) -> None:
        """Have every volume looked at, measure the pools, and end exports that no row knows."""
        self.measure_pools()
        self._add_all()
        for target in self._targets.values():
            for volume_id in target.exports():
                if self._store.get(VOLUMES, volume_id) is None:
                    _log.warning("ending the export of volume %s, which no row knows", volume_id)
                    target.remove_export(volume_id)

    def _add_all(self) -> None:
        for row in self._store.list(VOLUMES):
            self._queue.add(row.value.id)

    def measure_pools(self) -> None:
        for pool_id in self._drivers:
            self._measure_pool(pool_id)

    def _measure_pool(self, pool_id: PoolId) -> None:
        try:
            capacity = self._drivers[pool_id].capacity()
        except WeftError as error:
            state = PoolState(id=pool_id, status=StateStatus.ERROR, reason=str(error))
        else:
            state = PoolState(
                id=pool_id, status=StateStatus.AVAILABLE, total=capacity.total, free=capacity.free
            )
        found = self._store.get(POOL_STATES, pool_id)
        if found is None or found.value != state:
            self._store.transact({}, [Put(POOL_STATES, state)])

    def settle(self, volume_id: VolumeId) -> None:
        """One pass over one volume: bring what is found to what is wanted as far as it goes, and write it down."""
        wanted = self._wanted(volume_id)
        if wanted is None:
            return
        sources = (wanted.source.id,) if wanted.source is not None and not wanted.was_made else ()
        deleted = tuple(each.snapshot.id for each in wanted.snapshots if each.snapshot.deleting)
        with self._locks.hold(volume_id, *sources, *deleted):
            self._settle_locked(volume_id)

    def _settle_locked(self, volume_id: VolumeId) -> None:
        wanted = self._wanted(volume_id)
        if wanted is None:
            return
        try:
            found = self._observe(wanted.volume)
            outcome = self._do(wanted, found, plan(wanted, found))
            if outcome.done or outcome.failed:
                found = self._observe(wanted.volume)
        except WeftError as error:
            self._write(report_unobserved(wanted, error))
            self._retry(volume_id)
            return
        self._write(report(wanted, found, outcome))
        if any(may_pass(failure) for failure in outcome.failed):
            self._retry(volume_id)
        elif outcome.failed:
            self._queue.add(volume_id)
        else:
            self._retries.pop(volume_id, None)

    def _wanted(self, volume_id: VolumeId) -> Wanted | None:
        row = self._store.get(VOLUMES, volume_id)
        if row is None or row.value.pool_id not in self._drivers:
            return None
        volume = row.value
        state = self._store.get(VOLUME_STATES, volume_id)
        source = self._store.get(SNAPSHOTS, volume.source_snapshot_id) if volume.source_snapshot_id else None
        of_volume = {"volume_id": volume_id}
        snapshot_states = {
            each.value.id: each.value for each in self._store.list(SNAPSHOT_STATES, where=of_volume)
        }
        states = {each.value.id: each.value for each in self._store.list(ATTACHMENT_STATES, where=of_volume)}
        return Wanted(
            volume=volume,
            state=state.value if state is not None else None,
            source=source.value if source is not None else None,
            snapshots=tuple(
                WantedSnapshot(each.value, snapshot_states.get(each.value.id))
                for each in self._store.list(SNAPSHOTS, where=of_volume)
            ),
            attachments=tuple(
                WantedAttachment(
                    each.value,
                    states.get(each.value.id),
                    host.value if (host := self._store.get(HOSTS, each.value.host_id)) is not None else None,
                )
                for each in self._store.list(ATTACHMENTS, where=of_volume)
            ),
        )

    def _observe(self, volume: Volume) -> Found:
        driver = self._drivers[volume.pool_id]
        return Found(
            volume=driver.volume(volume.id),
            snapshots=driver.snapshots(volume.id),
            export=self._target(volume).export(volume.id),
        )

    def _do(self, wanted: Wanted, found: Found, steps: Sequence[Step]) -> Outcome:
        done: list[Step] = []
        failed: list[Failure] = []
        connections: dict[HostId, Connection] = {}
        for step in steps:
            if any(is_blocked(step, failure.step) for failure in failed):
                continue
            try:
                connections.update(self._do_one(wanted, found, step))
            except WeftError as error:
                _log.warning("volume %s: %s failed: %s", wanted.volume.id, type(step).__name__, error)
                failed.append(Failure(step, error))
            except Exception as error:  # noqa: BLE001 -- one volume's trouble must be written on its row
                _log.exception("volume %s: %s met an unexpected error", wanted.volume.id, type(step).__name__)
                failed.append(Failure(step, DataError(f"an unexpected error, see the log: {error!r}")))
            else:
                _log.info("volume %s: %s done", wanted.volume.id, type(step).__name__)
                done.append(step)
        return Outcome(done=tuple(done), failed=tuple(failed), connections=connections)

    def _do_one(self, wanted: Wanted, found: Found, step: Step) -> Mapping[HostId, Connection]:
        driver, target = self._drivers[wanted.volume.pool_id], self._target(wanted.volume)
        match step:
            case CreateVolume(volume, source):
                self._check_source(volume, wanted)
                driver.create(volume, source)
            case ExtendVolume(volume):
                driver.extend(volume)
            case RevertVolume(volume, snapshot_id):
                driver.revert(volume, _snapshot(wanted, snapshot_id))
            case DeleteVolume(volume):
                driver.delete(volume)
            case TakeSnapshot(snapshot):
                driver.snapshot(snapshot)
            case DeleteSnapshot(snapshot):
                driver.delete_snapshot(snapshot)
            case MakeExport(volume_id, hosts):
                return target.create_export(self._export(volume_id, driver, found, hosts))
            case RemoveExport(volume_id):
                target.remove_export(volume_id)
            case _:
                assert_never(step)
        return {}

    def _check_source(self, volume: Volume, wanted: Wanted) -> None:
        if volume.source_snapshot_id is not None and wanted.source is None:
            raise NotFoundError(
                f"snapshot {volume.source_snapshot_id}, which the volume is to be made from, is gone"
            )

    def _export(
        self, volume_id: VolumeId, driver: VolumeDriver, found: Found, hosts: tuple[ExportHost, ...]
    ) -> Export:
        volume = driver.volume(volume_id)
        if volume is not None:
            return Export(volume_id=volume_id, path=volume.path, size=volume.size, hosts=hosts)
        if found.export is not None:
            return Export(volume_id=volume_id, path=found.export.path, size=found.export.size, hosts=hosts)
        raise UnavailableError(f"volume {volume_id} is not there to be exported")

    def _target(self, volume: Volume) -> Target:
        pool = self._store.get(POOLS, volume.pool_id)
        protocol = pool.value.protocol if pool is not None else Protocol.NVMEOF
        target = self._targets.get(protocol)
        if target is None:
            raise UnavailableError(f"this node has no {protocol} target")
        return target

    def _write(self, writes: Sequence[Write]) -> None:
        if writes:
            self._store.transact({}, writes)

    def _retry(self, volume_id: VolumeId) -> None:
        tries = self._retries.get(volume_id, 0)
        self._retries[volume_id] = tries + 1
        self._queue.add(volume_id, delay=min(_FIRST_RETRY_SECONDS * 2**tries, _LONGEST_RETRY_SECONDS))

    def _work(self) -> None:
        while (volume_id := self._queue.take()) is not None:
            try:
                self.settle(volume_id)
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

    def _sweep_regularly(self) -> None:
        self.sweep()
        self._stopping.wait(self._sweep_seconds)


def _snapshot(wanted: Wanted, snapshot_id: SnapshotId) -> Snapshot:
    for each in wanted.snapshots:
        if each.snapshot.id == snapshot_id:
            return each.snapshot
    raise NotFoundError(f"snapshot {snapshot_id} is gone")
