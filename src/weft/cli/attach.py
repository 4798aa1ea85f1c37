"""`weft attach` and `weft detach`: a volume becomes a file or device of this host, and goes again."""

import contextlib
import time
from dataclasses import dataclass
from pathlib import Path

import click

from weft.cli.admission import Admission, admit, find_attachment, refuse_while_copied, withdraw
from weft.cli.commands import Command
from weft.cli.explaining import explained
from weft.cli.options import volume_names
from weft.cli.persistence import forget, is_kept, keep, require_units
from weft.cli.resolve import find_volume, is_id
from weft.cli.session import Session
from weft.cli.this_host import find_this_host
from weft.cli.waiting import Deadline, wait_option
from weft.connection import Connection, NvmeofConnection
from weft.errors import NotFoundError, UnavailableError, UnsupportedError, WeftError
from weft.model import Volume, VolumeId
from weft.names import subsystem_nqn
from weft.ports import AttachedVolume, Connector
from weft.views import AttachmentView


@click.command(cls=Command, examples=("weft attach data", 'mke2fs -q "$(weft attach data)"'))
@click.argument("volume", shell_complete=volume_names)
@click.option("--persist", is_flag=True, help="Also at every boot from now on; root, with systemd.")
@wait_option
@click.pass_obj
def attach(session: Session, *, volume: str, persist: bool, wait: float) -> None:
    """Attach VOLUME to this host and print the path by which any tool can use it.

    The path is a block device where the kernel can attach (root, and host.connector = auto or kernel), a file
    elsewhere. This host is registered if it is not known yet. Attaching again prints the path again, and has the
    kernel connect by portals that were out of reach before. Where the volume can be neither, `weft volume read` and
    `weft volume write` copy its content.

    With --persist it is attached again at every boot, until `weft detach`. A file system on it is mounted after that
    when its line in /etc/fstab has the options _netdev, x-systemd.requires=weft-attach@ID.service and, for a node that
    comes up late, x-systemd.wanted-by=weft-attach@ID.service.
    """
    if persist:
        require_units()
    with session.output.busy(f"attaching volume {volume}"):
        attached = attach_volume(session, volume, Deadline.after(wait))
        if persist:
            keep(attached.volume.id)
    if not session.json:
        session.output.lines([str(attached.path)])
        return
    session.output.shape(
        {
            "volume_id": attached.volume.id,
            "name": attached.volume.name,
            "path": str(attached.path),
            "persistent": is_kept(attached.volume.id),
            "attachment_id": attached.view.attachment.id,
            "host_id": attached.view.attachment.host_id,
        }
    )


@click.command(
    cls=Command, examples=("weft detach data", "weft detach /dev/nvme0n1", "weft detach data --force")
)
@click.argument("volume", shell_complete=volume_names, metavar="VOLUME|PATH")
@click.option(
    "--force", is_flag=True, help="Also when the target does not answer; what was not flushed may be lost."
)
@wait_option
@click.pass_obj
def detach(session: Session, *, volume: str, force: bool, wait: float) -> None:
    """Detach VOLUME, given by its name, id or path, from this host.

    Everything written is flushed first. It is not attached at the next boot either. Detaching what is not attached
    does nothing. Without the API the volume is detached all the same when its id or path is given; its attachment
    stays registered until the command is repeated.
    """
    deadline = Deadline.after(wait)
    with session.output.busy(f"detaching volume {volume}"):
        volume_id, known, failure = _identify(session, volume)
        was_here = _disconnect(session, volume_id, known, force=force)
        was_kept = forget(volume_id)
        withdrawn = _withdraw(session, known, deadline, force=force) if known is not None else None
    if failure is not None:
        session.output.note(f"{failure}; the attachment of volume {volume_id} may remain: detach again later")
    done = was_here or was_kept or withdrawn is not None
    session.output.result(
        {
            "volume_id": volume_id,
            "detached": True,
            "attachment_deleted": failure is None and withdrawn is not False,
        },
        f"detached {volume}" if done else f"volume {volume} is not attached to this host",
    )


@dataclass(frozen=True, slots=True)
class Attached:
    """A volume that this host is let in to and has attached, at path."""

    volume: Volume
    view: AttachmentView
    path: Path


def attach_volume(session: Session, volume: str, deadline: Deadline) -> Attached:
    """Have this host let in to the volume of this name or id, and connect."""
    connector, client = session.connector, session.client
    wanted = find_volume(client, volume).volume
    _require_connector(connector, wanted)
    admission = admit(client, wanted, connector.initiator(), deadline)
    return Attached(wanted, admission.view, _connect(session, wanted, admission))


def _require_connector(connector: Connector, volume: Volume) -> None:
    """Before anything is asked for: what cannot be used should not be exported."""
    reason = connector.missing()
    if reason is not None and not any(each.volume_id == volume.id for each in connector.attached()):
        raise UnsupportedError(
            f"volume {volume.name} cannot be attached here: {reason}; copy its content with `weft volume read`"
            " and `weft volume write`, or use weft.embedded.host.Volume in Python"
        )


def _connect(session: Session, volume: Volume, admission: Admission) -> Path:
    """Attach; when that fails, an attachment that was made for it goes again."""
    began = time.monotonic()
    try:
        try:
            return session.connector.attach(admission.connection)
        except WeftError as error:
            raise explained(session.client, error, admission.connection, time.monotonic() - began) from error
    except BaseException:
        if admission.is_own:
            with contextlib.suppress(WeftError):  # the failure to attach is what the user must know
                withdraw(session.client, admission.view, volume, Deadline.after(0))
        raise


def _identify(session: Session, wanted: str) -> tuple[VolumeId, Volume | None, WeftError | None]:
    """The volume's id, what the API knows of it, and why the API does not."""
    held = [*session.connector.attached(), *session.connector.abandoned()]
    here = [each.volume_id for each in held]
    path = Path(wanted)
    text = path.parent.name if path.parent.parent == session.config.attached_dir else wanted
    text = next((each.volume_id for each in held if _is_path_of(each, path)), text)
    try:
        volume = find_volume(session.client, text).volume
    except UnavailableError as error:
        if not is_id(text):
            attached = ", ".join(here) or "none"
            raise UnavailableError(
                f"{error}; without it a volume is only known by its id or path, and attached here are: {attached}"
            ) from None
        return VolumeId(text), None, error
    except NotFoundError as error:
        if text in here:
            return VolumeId(text), None, error
        raise
    return volume.id, volume, None


def _is_path_of(volume: AttachedVolume, path: Path) -> bool:
    """Below /dev also by a link. Elsewhere nothing is looked at: what is mounted there may be dead."""
    return path == volume.path or (path.is_relative_to("/dev") and path.resolve() == volume.path)


def _disconnect(session: Session, volume_id: VolumeId, known: Volume | None, *, force: bool) -> bool:
    """Detach in this host; returns whether the volume was attached."""
    connector = session.connector
    held = [*connector.attached(), *connector.abandoned()]
    record = next((each for each in held if each.volume_id == volume_id), None)
    name = known.name if known is not None else volume_id
    try:
        connector.detach(
            record.connection if record is not None else _connection(session, volume_id), force=force
        )
    except UnavailableError as error:
        if force:
            raise
        raise UnavailableError(f"volume {name} stays attached: {error}; --force gives it up") from error
    return record is not None


def _connection(session: Session, volume_id: VolumeId) -> Connection:
    """What detaching the leftovers of a dead attachment needs: its volume's id."""
    nqn = subsystem_nqn(volume_id, session.config.target.nqn_prefix)
    host_nqn = session.connector.initiator().port_name
    return NvmeofConnection(volume_id=volume_id, nqn=nqn, portals=(), host_nqn=host_nqn)


def _withdraw(session: Session, volume: Volume, deadline: Deadline, *, force: bool) -> bool | None:
    """Take this host's attachment away; returns whether it is gone, None when there was none."""
    host = find_this_host(session.client, session.connector.initiator())
    view = find_attachment(session.client, volume, host) if host is not None else None
    if view is None:
        return None
    if not force:
        refuse_while_copied(view, volume)
    return withdraw(session.client, view, volume, deadline)
