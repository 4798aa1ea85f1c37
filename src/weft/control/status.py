"""What a client is told of a resource, derived from what is wanted and what was found. Pure."""

from collections.abc import Iterable

from weft.connection import AttachmentState
from weft.model import (
    Attachment,
    Snapshot,
    SnapshotState,
    StateStatus,
    Status,
    Volume,
    VolumeState,
)
from weft.views import AttachmentView, SnapshotView, VolumeView


def view_volume(
    volume: Volume,
    state: VolumeState | None,
    attachments: Iterable[tuple[Attachment, AttachmentState | None]],
) -> VolumeView:
    """A volume is in use because it has attachments, also those that are being ended."""
    exists = state is not None and state.size > 0
    return VolumeView(
        volume=volume,
        status=_volume_status(volume, state, list(attachments)),
        size=state.size if state is not None and exists else volume.size,
        path=state.path if state is not None else "",
        reason=state.reason if state is not None else "",
    )


def _volume_status(
    volume: Volume, state: VolumeState | None, attachments: list[tuple[Attachment, AttachmentState | None]]
) -> Status:
    settled = state is not None and state.generation == volume.generation
    failed = state is not None and state.status is StateStatus.ERROR
    if volume.deleting:
        return Status.ERROR_DELETING if settled and failed else Status.DELETING
    if failed:
        return Status.ERROR
    if state is None or state.size == 0:
        return Status.CREATING
    if not settled:
        if volume.revert is not None and volume.revert.generation > state.generation:
            return Status.REVERTING
        if volume.size > state.size:
            return Status.EXTENDING
    if not attachments:
        return Status.AVAILABLE
    return Status.IN_USE if any(_may_be_used(*each) for each in attachments) else Status.ATTACHING


def _may_be_used(attachment: Attachment, state: AttachmentState | None) -> bool:
    """A host that is to be cut off may use the volume until it really is."""
    return attachment.deleting or (state is not None and state.status is StateStatus.AVAILABLE)


def view_snapshot(snapshot: Snapshot, state: SnapshotState | None) -> SnapshotView:
    return SnapshotView(
        snapshot=snapshot,
        status=_simple_status(
            state.status if state else None, deleting=snapshot.deleting, settled=_settled(snapshot, state)
        ),
        size=state.size if state is not None and state.size else snapshot.size,
        path=state.path if state is not None else "",
        reason=state.reason if state is not None else "",
    )


def view_attachment(attachment: Attachment, state: AttachmentState | None) -> AttachmentView:
    return AttachmentView(
        attachment=attachment,
        status=_simple_status(
            state.status if state else None, deleting=attachment.deleting, settled=_settled(attachment, state)
        ),
        connection=state.connection if state is not None and not attachment.deleting else None,
        reason=state.reason if state is not None else "",
    )


def is_settled(
    wanted: Volume | Snapshot | Attachment, state: VolumeState | SnapshotState | AttachmentState | None
) -> bool:
    """Whether the node has done with the present intent, or cannot do anything about it before something changes."""
    if state is None or state.status is StateStatus.PENDING:
        return False
    given_up = state.status is StateStatus.ERROR and not wanted.deleting
    return given_up or state.generation == wanted.generation


def _settled(wanted: Snapshot | Attachment, state: SnapshotState | AttachmentState | None) -> bool:
    return state is not None and state.generation == wanted.generation


def _simple_status(found: StateStatus | None, *, deleting: bool, settled: bool) -> Status:
    if deleting:
        return Status.ERROR_DELETING if settled and found is StateStatus.ERROR else Status.DELETING
    if found is StateStatus.ERROR:
        return Status.ERROR
    return Status.AVAILABLE if found is StateStatus.AVAILABLE else Status.CREATING
