"""That this host is let in to a volume: the attachment in the API, found or made, and waited for."""

import os
from dataclasses import dataclass

from weft.cli.this_host import register_this_host
from weft.cli.waiting import Deadline, require_done, require_gone, settle
from weft.client import Client
from weft.connection import Connection
from weft.embedded.host.process import ProcessIdentity
from weft.errors import ConflictError, UnavailableError
from weft.model import Host, Initiator, Status, Volume
from weft.requests import CreateAttachmentRequest, UpdateAttachmentRequest
from weft.views import AttachmentView

_COPIER = "weft:copier"
"""Key of an attachment's metadata: the process that copies the volume and takes the attachment away when it is done."""

_ENDING = frozenset({Status.DELETING, Status.ERROR_DELETING})


@dataclass(frozen=True, slots=True)
class Admission:
    """is_own: made by this command, which takes it away again when the rest does not succeed."""

    view: AttachmentView
    connection: Connection
    is_own: bool


def find_attachment(client: Client, volume: Volume, host: Host) -> AttachmentView | None:
    return next(iter(client.attachments(volume.id, host.id)), None)


def admit(
    client: Client, volume: Volume, initiator: Initiator, deadline: Deadline, *, to_copy: bool = False
) -> Admission:
    """Have this host let in to the volume; the connection holds the keys that it takes. to_copy: only until this
    process has copied it.

    Raises ConflictError while another process copies the volume, or another host has it; NotSettledError when the
    node is not done at the deadline.
    """
    zones = tuple(dict.fromkeys(("default", volume.availability_zone)))
    host = register_this_host(client, initiator, zones=zones)
    view = find_attachment(client, volume, host)
    if view is not None and view.status in _ENDING:
        _wait_until_gone(client, view, volume, deadline)
        view = None
    if view is None:
        view, is_own = _create(client, volume, host, deadline, to_copy=to_copy), True
    else:
        view, is_own = _take_over(client, view, volume, to_copy=to_copy)
    attachment_id = view.attachment.id
    view = settle(view, lambda left: client.attachment(attachment_id, left), deadline)
    require_done(view, f"the attachment of volume {volume.name} ({attachment_id})", deadline.seconds)
    view = client.attachment(attachment_id, deadline.left, secrets=True)
    if view.connection is None:
        raise UnavailableError(
            f"volume {volume.name} cannot be reached yet: {view.reason or 'its export is being made'}; try again"
        )
    return Admission(view, view.connection, is_own)


def withdraw(client: Client, view: AttachmentView, volume: Volume, deadline: Deadline) -> bool:
    """Take the attachment away; returns whether it is gone already."""
    return require_gone(
        lambda left: client.delete_attachment(view.attachment.id, left),
        lambda: client.attachment(view.attachment.id),
        f"the attachment of volume {volume.name} ({view.attachment.id})",
        deadline,
    )


def refuse_while_copied(view: AttachmentView, volume: Volume) -> None:
    """Raises ConflictError while a process of this host copies the volume by this attachment."""
    pid = _living(view.attachment.metadata.get(_COPIER, ""))
    if pid is not None:
        raise ConflictError(
            f"volume {volume.name} is being copied by process {pid} of this host; wait until it is done"
        )


def _wait_until_gone(client: Client, view: AttachmentView, volume: Volume, deadline: Deadline) -> None:
    if not withdraw(client, view, volume, deadline):
        raise ConflictError(f"volume {volume.name} is still being detached from this host; try again soon")


def _create(
    client: Client, volume: Volume, host: Host, deadline: Deadline, *, to_copy: bool
) -> AttachmentView:
    return client.create_attachment(
        CreateAttachmentRequest(
            volume_id=volume.id, host_id=host.id, metadata={_COPIER: _this_process()} if to_copy else {}
        ),
        deadline.left,
    )


def _take_over(
    client: Client, view: AttachmentView, volume: Volume, *, to_copy: bool
) -> tuple[AttachmentView, bool]:
    """Use the attachment that is there; one that a copier has left behind becomes this command's own."""
    refuse_while_copied(view, volume)
    if not view.attachment.metadata.get(_COPIER):
        return view, False
    request = UpdateAttachmentRequest(metadata={_COPIER: _this_process() if to_copy else ""})
    return client.update_attachment(view.attachment.id, request), to_copy


def _this_process() -> str:
    identity = ProcessIdentity.of(os.getpid())
    return f"{identity.pid} {identity.started} {identity.boot}" if identity is not None else ""


def _living(copier: str) -> int | None:
    """The id of the process that the mark names, if it lives."""
    try:
        pid, started, boot = copier.split(" ")
        process = ProcessIdentity(pid=int(pid), started=int(started), boot=boot)
    except ValueError:
        return None
    return process.pid if process.alive() else None
