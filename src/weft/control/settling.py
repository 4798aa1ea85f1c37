"""One pass over one volume: observe, plan, do, write down."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Final, assert_never
from typing import Protocol as Interface

from weft.connection import Connection
from weft.control.intent import Intent
from weft.control.locks import IdLocks, Turns
from weft.control.reconcile import cuts, is_blocked, is_lost, plan
from weft.control.report import report, report_unobserved
from weft.control.restoring import restore_exports
from weft.control.steps import (
    CreateVolume,
    DataStep,
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
)
from weft.errors import DataError, NotFoundError, UnavailableError, WeftError
from weft.model import (
    Export,
    ExportHost,
    FoundVolume,
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
    POOL_STATES,
    Put,
    Store,
    Target,
    VolumeDriver,
    Write,
)

_log = logging.getLogger("weft.node")

_LOCK_SECONDS: Final = 0.5
_LOCKED_SECONDS: Final = 1.0
"""A volume that a copy is made from can be locked for hours: nobody waits for it, but looks again."""


class ComeAgain(Interface):
    """Have a volume looked at, after delay seconds."""

    def __call__(self, volume_id: VolumeId, /, *, delay: float = 0.0) -> None: ...


class Settler:
    """Brings single volumes to what is wanted, through the drivers and targets of one node.

    At most data_steps volumes have work done on their bytes at once; one that gets no turn is left as it is, and
    come_again is called with its id for when it should be tried again. bytes_changed is called after each such work.
    """

    def __init__(
        self,
        node_id: NodeId,
        store: Store,
        drivers: Mapping[PoolId, VolumeDriver],
        targets: Mapping[Protocol, Target],
        *,
        data_steps: int,
        come_again: ComeAgain,
        bytes_changed: Callable[[PoolId], None],
    ) -> None:
        self._node_id = node_id
        self._store = store
        self._drivers = drivers
        self._targets = targets
        self._intent = Intent(store)
        self._locks = IdLocks()
        self._bytes_changed = bytes_changed
        self._come_again = come_again
        self._turns: Turns[VolumeId] = Turns(data_steps, come_again)

    def settle(self, volume_id: VolumeId) -> bool:
        """One pass over a volume, as far as it goes; whether something failed, so that another pass is due."""
        wanted, revision = self._intent.read(volume_id)
        while wanted is not None and self._is_ours(wanted):
            copied, deleted = _sources_to_lock(wanted)
            with self._locks.hold(volume_id, *deleted, shared=copied, within=_LOCK_SECONDS) as is_held:
                if not is_held:
                    self._come_again(volume_id, delay=_LOCKED_SECONDS)
                    return False
                if self._store.revision() != revision:
                    wanted, revision = self._intent.read(volume_id)
                    if wanted is None:
                        return False
                still_copied, still_deleted = _sources_to_lock(wanted)
                if still_copied <= copied and still_deleted <= deleted:
                    return self._settle_locked(wanted)
        return False

    def read_all(self) -> Sequence[Wanted]:
        """All volumes; the next pass over each costs the store nothing, unless its rows have changed."""
        return self._intent.read_all()

    def restore_exports(self, everything: Sequence[Wanted]) -> None:
        """Bring back all exports at once of what read_all() has found; what cannot be is left to the passes."""
        restore_exports(everything, self._intent, self._locks, self._drivers, self._targets)

    def measure_pool(self, pool_id: PoolId) -> None:
        """Write down how much room a pool has, if that has changed."""
        try:
            capacity = self._drivers[pool_id].capacity()
        except Exception as error:  # noqa: BLE001 -- whatever a driver meets must be written on the pool's row
            reason = str(_as_weft_error(f"measuring pool {pool_id}", error))
            state = PoolState(id=pool_id, status=StateStatus.ERROR, reason=reason)
        else:
            state = PoolState(
                id=pool_id,
                status=StateStatus.AVAILABLE,
                total=capacity.total,
                free=capacity.free,
                reason=capacity.warning,
            )
        found = self._store.get(POOL_STATES, pool_id)
        if found is None or found.value != state:
            self._store.transact({}, [Put(POOL_STATES, state)])

    def _settle_locked(self, wanted: Wanted) -> bool:
        try:
            found = self._observe(wanted)
        except Exception as error:  # noqa: BLE001 -- whatever a door meets must be written on the volume's row
            self._write(
                report_unobserved(wanted, _as_weft_error(f"looking at volume {wanted.volume.id}", error))
            )
            return True
        steps = plan(wanted, found)
        first = cuts(steps)
        if first == steps:
            return self._do_and_report(wanted, found, steps)
        if not self._turns.take(wanted.volume.id):
            return self._do_and_report(wanted, found, first, left=steps[len(first) :]) if first else False
        try:
            return self._do_and_report(wanted, found, steps)
        finally:
            self._turns.give_back()
            self._bytes_changed(wanted.volume.pool_id)

    def _do_and_report(
        self, wanted: Wanted, found: Found, steps: Sequence[Step], *, left: Sequence[Step] = ()
    ) -> bool:
        outcome = self._do(wanted, found, steps, left)
        if any(isinstance(step, DataStep) for step in steps):
            try:
                found = self._observe_bytes(wanted)
            except Exception as error:  # noqa: BLE001 -- as above
                trouble = _as_weft_error(f"looking at volume {wanted.volume.id}", error)
                self._write(report_unobserved(wanted, trouble))
                return True
        self._write(report(wanted, found, outcome))
        return bool(outcome.failed)

    def _is_ours(self, wanted: Wanted) -> bool:
        """Also a pool that is not configured any more: somebody has to say so on its volumes."""
        pool = wanted.pool
        return wanted.volume.pool_id in self._drivers or (pool is not None and pool.node_id == self._node_id)

    def _driver(self, wanted: Wanted) -> VolumeDriver:
        pool_id = wanted.volume.pool_id
        if pool_id in self._drivers:
            return self._drivers[pool_id]
        name = wanted.pool.name if wanted.pool is not None else pool_id
        raise UnavailableError(
            f"pool {name} is no longer in the configuration of this node; put it there again for this to go on"
        )

    def _observe(self, wanted: Wanted) -> Found:
        found = self._observe_bytes(wanted)
        return replace(found, export=self._target(wanted).export(wanted.volume.id))

    def _observe_bytes(self, wanted: Wanted) -> Found:
        driver, volume_id = self._driver(wanted), wanted.volume.id
        return Found(
            volume=driver.volume(volume_id),
            snapshots=driver.snapshots(volume_id) if wanted.snapshots else {},
        )

    def _do(self, wanted: Wanted, found: Found, steps: Sequence[Step], left: Sequence[Step]) -> Outcome:
        done: list[Step] = []
        failed: list[Failure] = []
        blocked: list[Step] = []
        connections: dict[HostId, Connection] = {}
        changing = any(isinstance(step, DataStep) for step in steps)
        for step in steps:
            if any(is_blocked(step, failure.step) for failure in failed):
                blocked.append(step)
                continue
            what = f"volume {wanted.volume.id}: {type(step).__name__}"
            try:
                connections.update(self._do_one(wanted, found, step, changing=changing))
            except Exception as error:  # noqa: BLE001 -- one volume's trouble must be written on its row
                failed.append(Failure(step, _as_weft_error(what, error)))
            else:
                _log.info("%s done", what)
                done.append(step)
        return Outcome(
            done=tuple(done), failed=tuple(failed), left=(*blocked, *left), connections=connections
        )

    def _do_one(
        self, wanted: Wanted, found: Found, step: Step, *, changing: bool
    ) -> Mapping[HostId, Connection]:
        """changing: steps of this pass make bytes, so that the volume may not be as it was found."""
        driver, target = self._driver(wanted), self._target(wanted)
        match step:
            case CreateVolume(volume, source):
                _check_source(volume, wanted)
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
            case MakeExport(_, hosts):
                here = driver.volume(wanted.volume.id) if changing else found.volume
                return target.create_export(_export(wanted, found, here, hosts))
            case RemoveExport(volume_id):
                target.remove_export(volume_id)
            case _:
                assert_never(step)
        return {}

    def _target(self, wanted: Wanted) -> Target:
        protocol = wanted.pool.protocol if wanted.pool is not None else Protocol.NVMEOF
        target = self._targets.get(protocol)
        if target is None:
            raise UnavailableError(f"this node has no {protocol} target")
        return target

    def _write(self, writes: Sequence[Write]) -> None:
        if writes:
            self._store.transact({}, writes)


def _sources_to_lock(wanted: Wanted) -> tuple[frozenset[str], frozenset[SnapshotId]]:
    """What a pass may copy from, which others may do too, and the snapshots that it may delete."""
    is_copy = wanted.source is not None and not wanted.was_made
    copied = [wanted.source.id] if wanted.source is not None and is_copy else []
    return frozenset(copied), frozenset(
        each.snapshot.id for each in wanted.snapshots if each.snapshot.deleting
    )


def _export(wanted: Wanted, found: Found, here: FoundVolume | None, hosts: tuple[ExportHost, ...]) -> Export:
    """What to show: the volume as it is now, or, when its bytes are not all there, what was shown before."""
    volume_id = wanted.volume.id
    if here is not None and not is_lost(wanted, found):
        return Export(volume_id=volume_id, path=here.path, size=here.size, hosts=hosts)
    if found.export is not None:
        return Export(volume_id=volume_id, path=found.export.path, size=found.export.size, hosts=hosts)
    raise UnavailableError(f"volume {volume_id} is not there to be exported")


def _check_source(volume: Volume, wanted: Wanted) -> None:
    if volume.source_snapshot_id is not None and wanted.source is None:
        raise NotFoundError(
            f"snapshot {volume.source_snapshot_id}, which the volume is to be made from, is gone"
        )
    if volume.source_volume_id is not None and wanted.source is None:
        raise NotFoundError(f"volume {volume.source_volume_id}, which the volume is to be made from, is gone")


def _snapshot(wanted: Wanted, snapshot_id: SnapshotId) -> Snapshot:
    for each in wanted.snapshots:
        if each.snapshot.id == snapshot_id:
            return each.snapshot
    raise NotFoundError(f"snapshot {snapshot_id} is gone")


def _as_weft_error(what: str, error: Exception) -> WeftError:
    if isinstance(error, WeftError):
        _log.warning("%s failed: %s", what, error)
        return error
    _log.error("%s met an unexpected error", what, exc_info=error)
    return DataError(f"an unexpected error, see the log: {error}")
