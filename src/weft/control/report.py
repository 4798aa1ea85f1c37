"""What to write down after a pass over one volume. Pure.

An attachment's rows are only forgotten once its host has been cut off, a volume's once its bytes are gone; until
then they stay in `deleting`, so that a crash repeats the step.
"""

from dataclasses import replace

from weft.connection import AttachmentState, Connection
from weft.control.reconcile import is_lost, may_pass
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
from weft.errors import WeftError
from weft.model import FoundVolume, SnapshotState, StateStatus, VolumeState
from weft.ports import (
    ATTACHMENT_STATES,
    ATTACHMENTS,
    SNAPSHOT_STATES,
    SNAPSHOTS,
    VOLUME_STATES,
    VOLUMES,
    Delete,
    Key,
    Put,
    Write,
)

_VERBS: dict[type[Step], str] = {
    CreateVolume: "creating",
    ExtendVolume: "extending",
    RevertVolume: "reverting",
}


def report(wanted: Wanted, found: Found, outcome: Outcome) -> tuple[Write, ...]:
    """The rows that differ from what the store has; found is how things are after the pass."""
    if any(isinstance(step, DeleteVolume) for step in outcome.done):
        return _forget_volume(wanted)
    writes: list[Write] = []
    state = _volume_state(wanted, found, outcome)
    if state is not None and state != wanted.state:
        writes.append(Put(VOLUME_STATES, state))
    lost = _what_is_lost(wanted, found)
    for snapshot in wanted.snapshots:
        writes += _report_snapshot(snapshot, found, outcome, lost)
    for attachment in wanted.attachments:
        writes += _report_attachment(attachment, outcome, lost)
    return tuple(writes)


def report_unobserved(wanted: Wanted, error: WeftError) -> tuple[Write, ...]:
    """The rows to write when the pool or the target could not even be looked at: nothing changes but the reason.

    A reason that tells of something lasting, such as a refused growth, stands.
    """
    state = wanted.state or VolumeState(id=wanted.volume.id, status=StateStatus.PENDING, generation=0)
    writes: list[Write] = []
    if not (state.reason and state.status is not StateStatus.PENDING):
        status = StateStatus.PENDING if wanted.is_settled else state.status
        said = replace(state, status=status, reason=str(error))
        writes += [Put(VOLUME_STATES, said)] if said != wanted.state else []
    for each in wanted.attachments:
        if each.attachment.deleting or each.state is None or each.state.status is StateStatus.PENDING:
            row = _attachment_row(each, StateStatus.PENDING, reason=str(error))
            writes += [Put(ATTACHMENT_STATES, row)] if row != each.state else []
    return tuple(writes)


def _forget_volume(wanted: Wanted) -> tuple[Write, ...]:
    writes: list[Write] = [Delete(Key(each.name, wanted.volume.id)) for each in (VOLUMES, VOLUME_STATES)]
    for snapshot in wanted.snapshots:
        writes += [Delete(Key(each.name, snapshot.snapshot.id)) for each in (SNAPSHOTS, SNAPSHOT_STATES)]
    for attachment in wanted.attachments:
        writes += [
            Delete(Key(each.name, attachment.attachment.id)) for each in (ATTACHMENTS, ATTACHMENT_STATES)
        ]
    return tuple(writes)


def _what_is_lost(wanted: Wanted, found: Found) -> str | None:
    """A sentence about bytes that were there once and are not there now; None when nothing is lost."""
    if wanted.state is None or not is_lost(wanted, found):
        return None
    if found.volume is None:
        return f"volume {wanted.volume.id} has vanished from its pool; weft does not make data anew"
    return (
        f"volume {wanted.volume.id} has shrunk in its pool from {wanted.state.size} to {found.volume.size} bytes;"
        " weft does not make data anew"
    )


def _volume_state(wanted: Wanted, found: Found, outcome: Outcome) -> VolumeState | None:
    volume, state = wanted.volume, wanted.state
    failure = _volume_failure(wanted, outcome)
    if failure is not None:
        return _failed_volume_state(wanted, found, failure)
    lost = _what_is_lost(wanted, found)
    if state is not None and lost is not None and not volume.deleting:
        return replace(state, status=StateStatus.ERROR, reason=lost)
    if volume.deleting or found.volume is None:
        return state
    # What came of the present intent was written with it, and stands until there is another intent.
    stands = state is not None and wanted.is_settled and state.status is StateStatus.AVAILABLE
    undone = any(isinstance(step, ExtendVolume | RevertVolume) for step in outcome.left)
    before = state.generation if state is not None else 0
    return VolumeState(
        id=volume.id,
        status=StateStatus.AVAILABLE,
        generation=before if undone else volume.generation,
        size=found.volume.size,
        path=str(found.volume.path),
        reason=(state.reason if state is not None and stands else "")
        or _refused_growth(wanted, found.volume),
    )


def _refused_growth(wanted: Wanted, here: FoundVolume) -> str:
    """What is left to say of a growth that was refused, once the volume was lost and is back."""
    if not wanted.is_settled or here.size >= wanted.volume.size:
        return ""
    return f"volume {wanted.volume.name} did not grow to {wanted.volume.size} bytes; ask for it again"


def _volume_failure(wanted: Wanted, outcome: Outcome) -> Failure | None:
    if wanted.volume.deleting:
        return outcome.failure(RemoveExport, DeleteSnapshot, DeleteVolume)
    return outcome.failure(CreateVolume, ExtendVolume, RevertVolume)


def _failed_volume_state(wanted: Wanted, found: Found, failure: Failure) -> VolumeState:
    volume, here = wanted.volume, found.volume
    before = wanted.state or VolumeState(id=volume.id, status=StateStatus.PENDING, generation=0)
    passing = may_pass(failure)
    if volume.deleting:
        status = before.status if passing else StateStatus.ERROR
    elif here is not None:
        status = StateStatus.AVAILABLE
    else:
        status = StateStatus.PENDING if passing else StateStatus.ERROR
    return VolumeState(
        id=volume.id,
        status=status,
        generation=before.generation if passing else volume.generation,
        # A size tells that there were bytes, also when they are not to be seen now: they must not be made anew.
        size=max(here.size, before.size) if here is not None else before.size,
        path=str(here.path) if here is not None else before.path,
        reason=f"{_VERBS.get(type(failure.step), 'deleting')} volume {volume.name} failed: {failure.error}",
    )


def _report_snapshot(wanted: WantedSnapshot, found: Found, outcome: Outcome, lost: str | None) -> list[Write]:
    snapshot = wanted.snapshot
    if DeleteSnapshot(snapshot) in outcome.done:
        return [Delete(Key(each.name, snapshot.id)) for each in (SNAPSHOTS, SNAPSHOT_STATES)]
    state = _snapshot_state(wanted, found, outcome, lost)
    return [Put(SNAPSHOT_STATES, state)] if state is not None and state != wanted.state else []


def _snapshot_state(
    wanted: WantedSnapshot, found: Found, outcome: Outcome, lost: str | None
) -> SnapshotState | None:
    snapshot, state = wanted.snapshot, wanted.state
    here = found.snapshots.get(snapshot.id)
    step = DeleteSnapshot(snapshot) if snapshot.deleting else TakeSnapshot(snapshot)
    failure = next((each for each in outcome.failed if each.step == step), None)
    if failure is not None:
        passing = may_pass(failure)
        return SnapshotState(
            id=snapshot.id,
            volume_id=snapshot.volume_id,
            status=StateStatus.PENDING if passing else StateStatus.ERROR,
            generation=(state.generation if state else 0) if passing else snapshot.generation,
            size=here.size if here is not None else 0,
            path=str(here.path) if here is not None else "",
            reason=f"{'deleting' if snapshot.deleting else 'taking'} snapshot {snapshot.name} failed: {failure.error}",
        )
    if snapshot.deleting:
        return state
    if here is not None:
        return SnapshotState(
            id=snapshot.id,
            volume_id=snapshot.volume_id,
            status=StateStatus.ERROR if here.fault else StateStatus.AVAILABLE,
            generation=snapshot.generation,
            size=here.size,
            path=str(here.path),
            reason=here.fault,
        )
    if lost is not None and (state is None or state.status is StateStatus.PENDING):
        return SnapshotState(
            id=snapshot.id,
            volume_id=snapshot.volume_id,
            status=StateStatus.ERROR,
            generation=snapshot.generation,
            reason=lost,
        )
    if state is None or state.status is not StateStatus.AVAILABLE:
        return state
    reason = f"snapshot {snapshot.id} has vanished from its pool; weft does not make data anew"
    return replace(state, status=StateStatus.ERROR, reason=reason)


def _report_attachment(wanted: WantedAttachment, outcome: Outcome, lost: str | None) -> list[Write]:
    attachment = wanted.attachment
    if attachment.deleting and any(isinstance(step, MakeExport | RemoveExport) for step in outcome.done):
        return [Delete(Key(each.name, attachment.id)) for each in (ATTACHMENTS, ATTACHMENT_STATES)]
    state = _attachment_state(wanted, outcome, lost)
    return [Put(ATTACHMENT_STATES, state)] if state is not None and state != wanted.state else []


def _attachment_state(wanted: WantedAttachment, outcome: Outcome, lost: str | None) -> AttachmentState | None:
    attachment, state = wanted.attachment, wanted.state
    failure = outcome.failure(MakeExport, RemoveExport)
    if failure is not None:
        reason = str(failure.error)
        if state is not None and state.connection is not None and not attachment.deleting:
            return replace(state, reason=reason)
        passing = attachment.deleting or may_pass(failure)
        return _attachment_row(wanted, StateStatus.PENDING if passing else StateStatus.ERROR, reason=reason)
    if attachment.deleting:
        return state
    if wanted.export_host is None:
        reason = (
            f"host {attachment.host_id} has no {attachment.protocol} initiator; give it one and attach again"
        )
        return _attachment_row(wanted, StateStatus.ERROR, reason=reason)
    connection = outcome.connections.get(attachment.host_id)
    if connection is not None:
        return _attachment_row(wanted, StateStatus.AVAILABLE, connection=connection)
    if state is not None and state.connection is not None:
        return replace(state, reason=lost or "")
    return _attachment_row(wanted, StateStatus.ERROR, reason=lost) if lost is not None else state


def _attachment_row(
    wanted: WantedAttachment, status: StateStatus, *, connection: Connection | None = None, reason: str = ""
) -> AttachmentState:
    before = wanted.state.generation if wanted.state is not None else 0
    return AttachmentState(
        id=wanted.attachment.id,
        volume_id=wanted.attachment.volume_id,
        status=status,
        generation=before if status is StateStatus.PENDING else wanted.attachment.generation,
        connection=connection,
        reason=reason,
    )
