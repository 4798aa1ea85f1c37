"""`weft attachment`: which host may use which volume."""

import click

from weft.cli import kinds
from weft.cli.admission import withdraw
from weft.cli.commands import Group
from weft.cli.options import confirm, host_names, status_option, volume_names, yes_option
from weft.cli.output import Kind
from weft.cli.resolve import find_host, find_volume, is_id
from weft.cli.session import Session
from weft.cli.waiting import Deadline, wait_option
from weft.client import Client
from weft.errors import NotFoundError
from weft.model import AttachmentId, Status
from weft.views import AttachmentView


@click.group(cls=Group, examples=("weft attachment list",))
def attachment() -> None:
    """See which host may use which volume and how it gets there, and cut a host off."""


@attachment.command("list", examples=("weft attachment list", "weft attachment list --volume data --json"))
@click.option("--volume", shell_complete=volume_names, help="Only those of this volume.")
@click.option("--host", shell_complete=host_names, help="Only those of this host.")
@status_option(Status)
@click.pass_obj
def list_attachments(session: Session, *, volume: str | None, host: str | None, status: str | None) -> None:
    """List attachments."""
    client = session.client
    found = client.attachments(
        find_volume(client, volume).volume.id if volume is not None else None,
        find_host(client, host).id if host is not None else None,
    )
    session.output.rows(
        attachments_kind(client), [view for view in found if status in {None, view.status.value}]
    )


@attachment.command("show", examples=("weft attachment show data", "weft attachment show data --host web1"))
@click.argument("attachment", metavar="ATTACHMENT|VOLUME", shell_complete=volume_names)
@click.option("--host", shell_complete=host_names, help="Which host's attachment of the volume.")
@click.option("--secrets", is_flag=True, help="Also the keys by which the host authenticates, if it does.")
@click.pass_obj
def show(session: Session, *, attachment: str, host: str | None, secrets: bool) -> None:
    """Show one attachment, by its id or by the volume it is of."""
    client = session.client
    view = _find(client, attachment, host)
    if secrets:
        view = client.attachment(view.attachment.id, secrets=True)
    session.output.one(attachments_kind(client), view)


@attachment.command(
    "delete",
    short_help="Cut a host off from a volume, whether it has detached or not.",
    examples=(
        "weft attachment delete data --host web1",
        "weft attachment delete data --host web1 --yes --json",
    ),
)
@click.argument("attachment", metavar="ATTACHMENT|VOLUME", shell_complete=volume_names)
@click.option("--host", shell_complete=host_names, help="The host to cut off; needed with a VOLUME.")
@yes_option
@wait_option
@click.pass_obj
def delete(session: Session, *, attachment: str, host: str | None, yes: bool, wait: float) -> None:
    """Cut a host off from a volume, whether it has detached or not.

    For a host that is dead or out of reach; on any other, `weft detach VOLUME` loses nothing. Once this has succeeded
    not a byte of the host reaches the volume any more, and another host can have it.

    A host that still uses the volume loses what it has not flushed. Its I/O fails within seconds, or waits until
    ctrl_loss_tmo (with Linux 6.1, and where the node exports nothing else); `weft detach VOLUME --force` there clears
    up. Other hosts of the volume go on, after a pause of a second or two.
    """
    client, deadline = session.client, Deadline.after(wait)
    view = _find(client, attachment, host)
    if host is None and view.attachment.id != attachment:
        raise click.UsageError(f"name with --host which host is to lose volume {attachment}")
    volume = client.volume(view.attachment.volume_id).volume
    name = client.host(view.attachment.host_id).name
    confirm(f"Cut host {name} off from volume {volume.name}, with what it has not flushed?", yes=yes)
    with session.output.busy(f"cutting host {name} off from volume {volume.name}"):
        gone = withdraw(client, view, volume, deadline)
    session.output.result(
        {
            "attachment_id": view.attachment.id,
            "volume_id": volume.id,
            "host_id": view.attachment.host_id,
            "deleted": gone,
        },
        f"host {name} is {'' if gone else 'being '}cut off from volume {volume.name}; if it still uses it, its I/O"
        f" fails or waits: `weft detach {volume.name} --force` there clears up",
    )


def attachments_kind(client: Client) -> Kind[AttachmentView]:
    return kinds.attachments(
        {view.volume.id: view.volume.name for view in client.volumes()},
        {host.id: host.name for host in client.hosts()},
    )


def _find(client: Client, wanted: str, host: str | None) -> AttachmentView:
    if is_id(wanted):
        try:
            return client.attachment(AttachmentId(wanted))
        except NotFoundError:
            pass  # it may be a volume's id
    volume = find_volume(client, wanted).volume
    host_id = find_host(client, host).id if host is not None else None
    found = client.attachments(volume.id, host_id)
    if not found:
        raise NotFoundError(f"volume {volume.name} is not attached" + (f" to host {host}" if host else ""))
    if len(found) > 1:
        ids = ", ".join(each.attachment.id for each in found)
        raise click.UsageError(
            f"volume {volume.name} is attached to several hosts; give --host, or one of {ids}"
        )
    return found[0]
