"""What has to be done so that one volume becomes what is wanted. Pure.

Rules that data safety rests on are here: data is never made anew (an available volume that has vanished becomes an
error), data is deleted only for a row that is being deleted, and a live export is never taken away to be repaired.
"""

from collections.abc import Sequence
from itertools import takewhile

from weft.control.steps import (
    CreateVolume,
    DeleteSnapshot,
    DeleteVolume,
    ExportStep,
    ExtendVolume,
    Failure,
    Found,
    MakeExport,
    RemoveExport,
    RevertVolume,
    Step,
    TakeSnapshot,
    Wanted,
    WantedAttachment,
)
from weft.errors import InvalidValueError, UnavailableError, UnsupportedError
from weft.model import Export, ExportHost, FoundExport, FoundVolume, SnapshotState, StateStatus


def plan(wanted: Wanted, found: Found) -> tuple[Step, ...]:
    """The steps, in order, that bring what is found to what is wanted; none when they agree.

    A host that is to go is cut off first, before any copy; hosts are let in, and shown growth, last. Snapshots are
    taken before the volume grows or gets another content.
    """
    if wanted.volume.deleting:
        return _plan_deletion(wanted, found)
    data: list[Step] = [
        *_plan_creation(wanted, found),
        *_plan_new_snapshots(wanted, found),
        *_plan_changes(wanted, found),
        *_plan_snapshot_deletions(wanted),
    ]
    exports = _plan_export(wanted, found)
    if not _is_cutting(wanted, exports):
        return (*data, *exports)
    grows = any(isinstance(step, ExtendVolume) for step in data)
    return (*exports, *data, *(step for step in exports if grows and isinstance(step, MakeExport)))


def cuts(steps: Sequence[Step]) -> tuple[Step, ...]:
    """The steps that a plan begins with so that hosts are cut off; they wait for no work on bytes."""
    return tuple(takewhile(lambda step: isinstance(step, ExportStep), steps))


def is_blocked(step: Step, failed: Step) -> bool:
    """Whether step must not be done after failed has failed."""
    match failed:
        case CreateVolume():
            return True
        case RemoveExport():
            return isinstance(step, DeleteSnapshot | DeleteVolume | RevertVolume)
        case TakeSnapshot():
            return isinstance(step, ExtendVolume | RevertVolume)
        case DeleteSnapshot():
            return isinstance(step, DeleteVolume)
        case _:
            return False


def may_pass(failure: Failure) -> bool:
    """Whether doing the step again later, with nothing changed by a person, may succeed."""
    if isinstance(failure.step, RemoveExport):
        return True
    if isinstance(failure.step, MakeExport):
        return not isinstance(failure.error, InvalidValueError | UnsupportedError)
    return isinstance(failure.error, UnavailableError)


def is_lost(wanted: Wanted, found: Found) -> bool:
    """Whether bytes that were there once are not there now: the volume has vanished, or some of it."""
    if wanted.state is None or not wanted.was_made:
        return False
    return found.volume is None or found.volume.size < wanted.state.size


def restorable(wanted: Wanted, here: FoundVolume | None) -> Export | None:
    """What to show of a volume that is shown nowhere, if to show it is all that there is to do; else None.

    Says what plan() says of such a volume, in a fraction of its time.
    """
    volume, state = wanted.volume, wanted.state
    if here is None or state is None or volume.deleting or state.generation != volume.generation:
        return None
    if not 0 < state.size <= here.size:
        return None
    for attachment in wanted.attachments:
        if attachment.attachment.deleting:
            return None
    for snapshot in wanted.snapshots:
        if snapshot.snapshot.deleting or _is_unmade(snapshot.state):
            return None
    hosts = export_hosts(wanted)
    return Export(volume_id=volume.id, path=here.path, size=here.size, hosts=hosts) if hosts else None


def _plan_deletion(wanted: Wanted, found: Found) -> tuple[Step, ...]:
    if wanted.is_settled:
        return ()
    steps: list[Step] = []
    if found.export is not None or wanted.attachments:
        steps.append(RemoveExport(wanted.volume.id))
    steps += [DeleteSnapshot(each.snapshot) for each in wanted.snapshots if each.snapshot.deleting]
    steps.append(DeleteVolume(wanted.volume))
    return tuple(steps)


def _plan_creation(wanted: Wanted, found: Found) -> list[Step]:
    given_up = wanted.state is not None and wanted.state.status is StateStatus.ERROR
    if found.volume is not None or wanted.was_made or given_up:
        return []
    return [CreateVolume(wanted.volume, wanted.source)]


def _plan_changes(wanted: Wanted, found: Found) -> list[Step]:
    volume, state = wanted.volume, wanted.state
    if found.volume is None or is_lost(wanted, found):
        return []
    steps: list[Step] = []
    if found.volume.size < volume.size and not wanted.is_settled:
        steps.append(ExtendVolume(volume))
    if volume.revert is not None and (state is None or state.generation < volume.revert.generation):
        steps.append(RevertVolume(volume, volume.revert.snapshot_id))
    return steps


def _plan_new_snapshots(wanted: Wanted, found: Found) -> list[Step]:
    if found.volume is None or is_lost(wanted, found):
        return []
    return [
        TakeSnapshot(each.snapshot)
        for each in wanted.snapshots
        if not each.snapshot.deleting and each.snapshot.id not in found.snapshots and _is_unmade(each.state)
    ]


def _plan_snapshot_deletions(wanted: Wanted) -> list[Step]:
    return [
        DeleteSnapshot(each.snapshot)
        for each in wanted.snapshots
        if each.snapshot.deleting
        and (each.state is None or each.state.generation != each.snapshot.generation)
    ]


def _is_cutting(wanted: Wanted, exports: Sequence[Step]) -> bool:
    leaving = any(each.attachment.deleting for each in wanted.attachments)
    return leaving or any(isinstance(step, RemoveExport) for step in exports)


def _plan_export(wanted: Wanted, found: Found) -> list[Step]:
    hosts = export_hosts(wanted)
    cutting = any(each.attachment.deleting for each in wanted.attachments)
    there = found.volume is not None and not is_lost(wanted, found)
    if not hosts or (not there and found.export is None):
        return [RemoveExport(wanted.volume.id)] if cutting or found.export is not None else []
    if cutting or (there and not _export_is_right(wanted, found, hosts)):
        return [MakeExport(wanted.volume.id, hosts)]
    return []


def export_hosts(wanted: Wanted) -> tuple[ExportHost, ...]:
    """The hosts that are to be let in, in the order of their ids."""
    hosts = {
        host.host_id: host
        for each in wanted.attachments
        if not each.attachment.deleting and (host := each.export_host) is not None
    }
    return tuple(hosts.values()) if len(hosts) < 2 else tuple(hosts[host_id] for host_id in sorted(hosts))


def _export_is_right(wanted: Wanted, found: Found, hosts: tuple[ExportHost, ...]) -> bool:
    export, volume = found.export, found.volume
    if export is None or volume is None or not export.complete or export.path != volume.path:
        return False
    wanted_size = volume.size if wanted.is_settled else max(volume.size, wanted.volume.size)
    if export.size < wanted_size or export.initiators != {host.initiator for host in hosts}:
        return False
    digests = {host.initiator: host.secrets.digest for host in hosts if host.secrets is not None}
    if export.key_digests != digests:
        return False
    return all(
        _connection_is_right(each, export)
        for each in wanted.attachments
        if not each.attachment.deleting and each.export_host is not None
    )


def _connection_is_right(wanted: WantedAttachment, export: FoundExport) -> bool:
    state = wanted.state
    if state is None or state.status is not StateStatus.AVAILABLE or state.connection is None:
        return False
    if state.generation != wanted.attachment.generation:
        return False
    return {str(portal) for portal in state.connection.portals} == set(export.portals)


def _is_unmade(state: SnapshotState | None) -> bool:
    return state is None or state.status is StateStatus.PENDING
