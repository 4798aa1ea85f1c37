"""`weft volume`: make, list, grow, copy and delete volumes."""

from functools import partial

import click

from weft.cli import kinds
from weft.cli.commands import Group
from weft.cli.deletion import Deletable, delete_all
from weft.cli.options import (
    confirm,
    pool_names,
    profile_names,
    snapshot_names,
    status_option,
    volume_names,
    yes_option,
)
from weft.cli.output import Kind
from weft.cli.resolve import find_pool, find_profile, find_snapshot, find_volume
from weft.cli.session import Session
from weft.cli.sizes import format_size, volume_size
from weft.cli.volume_copy import read, write
from weft.cli.waiting import Deadline, require_done, require_gone, settle, wait_option
from weft.client import Client
from weft.errors import ConflictError, PermissionDeniedError, WeftError
from weft.model import Status, Volume
from weft.requests import CreateVolumeRequest, UpdateRequest
from weft.views import VolumeView


@click.group(cls=Group, examples=("weft volume create data --size 10GiB", "weft volume list"))
def volume() -> None:
    """Make, list, grow, copy and delete volumes."""


volume.add_command(read)
volume.add_command(write)


@volume.command(
    "create",
    examples=(
        "weft volume create data --size 10GiB",
        "weft volume create copy --size 10GiB --from-snapshot before-upgrade",
        "weft volume create copy --size 10GiB --from-volume data",
        "weft volume create data --size 10GiB --exist-ok --json",
    ),
)
@click.argument("name")
@click.option(
    "--size",
    type=volume_size,
    metavar="SIZE",
    required=True,
    help="Whole GiB: 10GiB, 10G and 10 mean the same.",
)
@click.option("--pool", shell_complete=pool_names, help="The pool to make it in. [default: one with room]")
@click.option("--profile", shell_complete=profile_names, help="The class of volume. [default: default_block]")
@click.option(
    "--from-snapshot",
    "snapshot",
    shell_complete=snapshot_names,
    help="Begin with the content of this snapshot.",
)
@click.option(
    "--from-volume",
    "source",
    shell_complete=volume_names,
    help="Begin with what this volume holds now, also while hosts write to it.",
)
@click.option("--zone", help="The availability zone. [default: default]")
@click.option("--multi-attach", is_flag=True, help="Let several hosts attach it at one time.")
@click.option("--description", default="", help="Free text.")
@click.option("--exist-ok", is_flag=True, help="Take a volume of that name and size that is there already.")
@wait_option
@click.pass_obj
def create(
    session: Session,
    *,
    name: str,
    size: int,
    pool: str | None,
    profile: str | None,
    snapshot: str | None,
    source: str | None,
    zone: str | None,
    multi_attach: bool,
    description: str,
    exist_ok: bool,
    wait: float,
) -> None:
    """Make a volume called NAME."""
    client, deadline = session.client, Deadline.after(wait)
    request = CreateVolumeRequest(
        name=name,
        size=size,
        description=description,
        pool_id=find_pool(client, pool).pool.id if pool is not None else None,
        profile_id=find_profile(client, profile).id if profile is not None else None,
        snapshot_id=find_snapshot(client, snapshot).snapshot.id if snapshot is not None else None,
        source_volume_id=find_volume(client, source).volume.id if source is not None else None,
        availability_zone=zone,
        multi_attach=multi_attach,
    )
    with session.output.busy(f"making volume {name}"):
        view = _existing(client, name, size, exist_ok=exist_ok) or client.create_volume(request, wait)
        view = _settled(client, view, deadline)
    session.output.one(_kind(client), view)
    require_done(view, _named(view.volume), wait)


@volume.command(
    "list", examples=("weft volume list", "weft volume list --status available --pool default --json")
)
@click.option("--name", shell_complete=volume_names, help="Only those of this name.")
@status_option(Status)
@click.option("--pool", shell_complete=pool_names, help="Only those in this pool.")
@click.option("--profile", shell_complete=profile_names, help="Only those of this profile.")
@click.pass_obj
def list_volumes(
    session: Session, *, name: str | None, status: str | None, pool: str | None, profile: str | None
) -> None:
    """List volumes."""
    client = session.client
    pool_id = find_pool(client, pool).pool.id if pool is not None else None
    profile_id = find_profile(client, profile).id if profile is not None else None
    found = [
        view
        for view in client.volumes(name=name)
        if status in {None, view.status.value}
        and pool_id in {None, view.volume.pool_id}
        and profile_id in {None, view.volume.profile_id}
    ]
    session.output.rows(_kind(client), sorted(found, key=lambda view: (view.volume.name, view.volume.id)))


@volume.command("show", examples=("weft volume show data",))
@click.argument("volume", shell_complete=volume_names)
@click.pass_obj
def show(session: Session, *, volume: str) -> None:
    """Show one volume."""
    session.output.one(_kind(session.client), find_volume(session.client, volume))


@volume.command(
    "rename", short_help="Give VOLUME another NAME.", examples=("weft volume rename data archive",)
)
@click.argument("volume", shell_complete=volume_names)
@click.argument("name")
@click.option("--description", help="Also describe it anew.")
@click.pass_obj
def rename(session: Session, *, volume: str, name: str, description: str | None) -> None:
    """Give VOLUME another NAME; its id and what hosts see stay as they are."""
    client = session.client
    found = find_volume(client, volume).volume
    if found.name != name:
        _refuse_taken(client, name, "choose another name")
    view = client.update_volume(found.id, UpdateRequest(name=name, description=description))
    session.output.one(_kind(client), view)


@volume.command("extend", examples=("weft volume extend data --size 20GiB",))
@click.argument("volume", shell_complete=volume_names)
@click.option(
    "--size",
    type=volume_size,
    metavar="SIZE",
    required=True,
    help="The new size, whole GiB: 20GiB, 20G or 20.",
)
@wait_option
@click.pass_obj
def extend(session: Session, *, volume: str, size: int, wait: float) -> None:
    """Grow VOLUME, also while hosts use it. A volume that has that size already stays as it is."""
    client, deadline = session.client, Deadline.after(wait)
    view = find_volume(client, volume)
    with session.output.busy(f"growing volume {view.volume.name}"):
        view = _settled(client, view, deadline)
        if view.size != size:
            view = _settled(client, client.extend_volume(view.volume.id, size, deadline.left), deadline)
    session.output.one(_kind(client), view)
    require_done(view, _named(view.volume), wait)
    if wait and view.size < size:
        raise WeftError(
            f"{_named(view.volume)} could not be grown and has {format_size(view.size)} as before:"
            f" {view.reason or 'the node gave no reason'}"
        )


@volume.command(
    "revert",
    short_help="Give VOLUME the content of a snapshot again.",
    examples=("weft volume revert data --to before-upgrade",),
)
@click.argument("volume", shell_complete=volume_names)
@click.option(
    "--to", "snapshot", shell_complete=snapshot_names, required=True, help="The snapshot of it to go back to."
)
@yes_option
@wait_option
@click.pass_obj
def revert(session: Session, *, volume: str, snapshot: str, yes: bool, wait: float) -> None:
    """Give VOLUME the content of one of its snapshots again; what was written since is lost.

    The volume must not be attached.
    """
    client, deadline = session.client, Deadline.after(wait)
    found = find_volume(client, volume).volume
    to = find_snapshot(client, snapshot, found).snapshot
    confirm(f"Lose what was written to {found.name} since snapshot {to.name}?", yes=yes)
    with session.output.busy(f"reverting volume {found.name} to {to.name}"):
        view = _settled(client, client.revert_volume(found.id, to.id, wait), deadline)
    session.output.one(_kind(client), view)
    require_done(view, _named(view.volume), wait)
    if wait and view.reason:
        raise WeftError(f"{_named(view.volume)} could not be reverted: {view.reason}")


@volume.command(
    "refusals",
    short_help="Tell which hosts were not let in, and why.",
    examples=(
        "weft volume refusals data",
        "weft volume refusals data --nqn nqn.2024-01.com.example:web1 --json",
    ),
)
@click.argument("volume", shell_complete=volume_names)
@click.option("--nqn", help="Only the host that has this NQN.")
@click.pass_obj
def refusals(session: Session, *, volume: str, nqn: str | None) -> None:
    """Tell which hosts the target of VOLUME turned away lately, and why: not attached, no key or a wrong key.

    A host itself learns little of it: its kernel says "Input/output error" for most.
    """
    found = session.client.refusals(find_volume(session.client, volume).volume.id, nqn)
    session.output.rows(kinds.REFUSALS, found)


@volume.command("delete", examples=("weft volume delete data", "weft volume delete old1 old2 --yes"))
@click.argument("volumes", shell_complete=volume_names, nargs=-1, required=True, metavar="VOLUME...")
@yes_option
@wait_option
@click.pass_obj
def delete(session: Session, *, volumes: tuple[str, ...], yes: bool, wait: float) -> None:
    """Delete volumes that are not attached and have no snapshots. Their data is lost."""
    client = session.client
    found = [find_volume(client, each).volume for each in volumes]
    delete_all(
        session.output,
        "volume",
        [Deletable(each.id, each.name, partial(_delete, client, each, wait)) for each in found],
        yes=yes,
    )


def _delete(client: Client, volume: Volume, wait: float) -> bool:
    return require_gone(
        lambda left: client.delete_volume(volume.id, left),
        lambda: client.volume(volume.id),
        _named(volume),
        Deadline.after(wait),
    )


def _existing(client: Client, name: str, size: int, *, exist_ok: bool) -> VolumeView | None:
    """The volume that --exist-ok takes. Raises ConflictError when the name is taken otherwise."""
    if not exist_ok:
        _refuse_taken(client, name, "choose another name, or take it with --exist-ok")
        return None
    found = _of_that_name(client, name)
    if found and found[0].size != size:
        raise ConflictError(
            f"{_named(found[0].volume)} is there with {format_size(found[0].size)} instead of {format_size(size)}"
        )
    return found[0] if found else None


def _refuse_taken(client: Client, name: str, remedy: str) -> None:
    """The API lets volumes share a name; a person who goes by names is better off when they do not."""
    if taken := _of_that_name(client, name):
        raise ConflictError(f"{_named(taken[0].volume)} is there already; {remedy}")


def _of_that_name(client: Client, name: str) -> list[VolumeView]:
    return [view for view in client.volumes(name=name) if view.status is not Status.DELETING]


def _settled(client: Client, view: VolumeView, deadline: Deadline) -> VolumeView:
    return settle(view, lambda left: client.volume(view.volume.id, left), deadline)


def _named(volume: Volume) -> str:
    return f"volume {volume.name} ({volume.id})"


def _kind(client: Client) -> Kind[VolumeView]:
    try:
        pools = client.pools()
    except PermissionDeniedError:  # a host's token hears nothing of pools
        pools = []
    return kinds.volumes({view.pool.id: view.pool.name for view in pools})
