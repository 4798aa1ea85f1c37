"""`weft snapshot`: a volume's content of one moment."""

from functools import partial

import click

from weft.cli import kinds
from weft.cli.commands import Group
from weft.cli.deletion import Deletable, delete_all
from weft.cli.options import snapshot_names, status_option, volume_names, yes_option
from weft.cli.output import Kind
from weft.cli.resolve import find_snapshot, find_volume
from weft.cli.session import Session
from weft.cli.waiting import Deadline, require_done, require_gone, settle, wait_option
from weft.client import Client
from weft.errors import ConflictError
from weft.model import Snapshot, Status, Volume
from weft.requests import CreateSnapshotRequest
from weft.views import SnapshotView


@click.group(cls=Group, examples=("weft snapshot create data before-upgrade",))
def snapshot() -> None:
    """Keep a volume's content of this moment, to revert to it or to make new volumes of it."""


@snapshot.command("create", examples=("weft snapshot create data before-upgrade",))
@click.argument("volume", shell_complete=volume_names)
@click.argument("name")
@click.option("--description", default="", help="Free text.")
@click.option("--exist-ok", is_flag=True, help="Take a snapshot of that name that is there already.")
@wait_option
@click.pass_obj
def create(
    session: Session, *, volume: str, name: str, description: str, exist_ok: bool, wait: float
) -> None:
    """Take a snapshot of VOLUME called NAME; hosts may write meanwhile."""
    client, deadline = session.client, Deadline.after(wait)
    of_volume = find_volume(client, volume).volume
    view = _existing(client, of_volume, name, exist_ok=exist_ok)
    request = CreateSnapshotRequest(name=name, volume_id=of_volume.id, description=description)
    with session.output.busy(f"taking snapshot {name} of {of_volume.name}"):
        view = view or client.create_snapshot(request, wait)
        snapshot_id = view.snapshot.id
        view = settle(view, lambda left: client.snapshot(snapshot_id, left), deadline)
    session.output.one(_kind(client), view)
    require_done(view, f"snapshot {name} ({view.snapshot.id})", wait)


@snapshot.command("list", examples=("weft snapshot list", "weft snapshot list --volume data"))
@click.option("--volume", shell_complete=volume_names, help="Only those of this volume.")
@click.option("--name", shell_complete=snapshot_names, help="Only those of this name.")
@status_option(Status)
@click.pass_obj
def list_snapshots(session: Session, *, volume: str | None, name: str | None, status: str | None) -> None:
    """List snapshots, the oldest first."""
    client = session.client
    of_volume = _volume(client, volume)
    volume_id = of_volume.id if of_volume is not None else None
    found = [view for view in client.snapshots(volume_id, name=name) if status in {None, view.status.value}]
    session.output.rows(_kind(client), sorted(found, key=lambda view: view.snapshot.created_at))


@snapshot.command("show", examples=("weft snapshot show before-upgrade --volume data",))
@click.argument("snapshot", shell_complete=snapshot_names)
@click.option("--volume", shell_complete=volume_names, help="Which volume's snapshot.")
@click.pass_obj
def show(session: Session, *, snapshot: str, volume: str | None) -> None:
    """Show one snapshot."""
    client = session.client
    session.output.one(_kind(client), find_snapshot(client, snapshot, _volume(client, volume)))


@snapshot.command("delete", examples=("weft snapshot delete before-upgrade --volume data",))
@click.argument("snapshots", shell_complete=snapshot_names, nargs=-1, required=True, metavar="SNAPSHOT...")
@click.option("--volume", shell_complete=volume_names, help="Which volume's snapshots.")
@yes_option
@wait_option
@click.pass_obj
def delete(
    session: Session, *, snapshots: tuple[str, ...], volume: str | None, yes: bool, wait: float
) -> None:
    """Delete snapshots."""
    client = session.client
    of_volume = _volume(client, volume)
    found = [find_snapshot(client, each, of_volume).snapshot for each in snapshots]
    delete_all(
        session.output,
        "snapshot",
        [Deletable(each.id, each.name, partial(_delete, client, each, wait)) for each in found],
        yes=yes,
    )


def _existing(client: Client, volume: Volume, name: str, *, exist_ok: bool) -> SnapshotView | None:
    """The snapshot that --exist-ok takes. Raises ConflictError when the name is taken otherwise."""
    found = [view for view in client.snapshots(volume.id, name=name) if view.status is not Status.DELETING]
    if found and not exist_ok:
        raise ConflictError(
            f"volume {volume.name} has a snapshot named {name} already ({found[0].snapshot.id}); choose another name,"
            " or take it with --exist-ok"
        )
    return found[0] if found else None


def _volume(client: Client, wanted: str | None) -> Volume | None:
    return find_volume(client, wanted).volume if wanted is not None else None


def _delete(client: Client, snapshot: Snapshot, wait: float) -> bool:
    return require_gone(
        lambda left: client.delete_snapshot(snapshot.id, left),
        lambda: client.snapshot(snapshot.id),
        f"snapshot {snapshot.name} ({snapshot.id})",
        Deadline.after(wait),
    )


def _kind(client: Client) -> Kind[SnapshotView]:
    return kinds.snapshots({view.volume.id: view.volume.name for view in client.volumes()})
