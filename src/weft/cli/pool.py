"""`weft pool`: the storage that volumes are made in, as the configuration names it."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from weft.cli import kinds
from weft.cli.commands import Group
from weft.cli.options import pool_names, status_option
from weft.cli.resolve import find_pool
from weft.cli.session import Session
from weft.config import PoolSection
from weft.errors import NotFoundError
from weft.model import StateStatus

if TYPE_CHECKING:
    from weft.drivers.lvm_prepare import Prepared


@click.group(cls=Group, examples=("weft pool list", "weft pool prepare fast /dev/sdb"))
def pool() -> None:
    """See and prepare the storage that volumes are made in; the configuration names it."""


@pool.command(
    "list",
    short_help="List pools, and the room that they have.",
    examples=("weft pool list", "weft pool list --status error --json"),
)
@click.option("--name", help="Only the pool of this name.")
@status_option(StateStatus)
@click.pass_obj
def list_pools(session: Session, *, name: str | None, status: str | None) -> None:
    """List pools: how large they are, and how much can still be promised to volumes (ROOM)."""
    found = [view for view in session.client.pools(name=name) if status in {None, view.status.value}]
    session.output.rows(kinds.POOLS, sorted(found, key=lambda view: view.pool.name))


@pool.command("show", examples=("weft pool show default",))
@click.argument("pool", shell_complete=pool_names)
@click.pass_obj
def show(session: Session, *, pool: str) -> None:
    """Show one pool."""
    session.output.one(kinds.POOLS, find_pool(session.client, pool))


@pool.command(
    short_help="Make the volume group of an LVM pool.",
    examples=(
        "weft pool prepare fast /dev/sdb /dev/sdc",
        "weft pool prepare fast /dev/sdb --erase /dev/sdb",
    ),
)
@click.argument("name")
@click.argument("devices", nargs=-1, metavar="[DEVICE]...", type=click.Path(path_type=Path))
@click.option(
    "--erase",
    multiple=True,
    metavar="DEVICE",
    type=click.Path(path_type=Path),
    help="What is on this device may be lost; once for each such device.",
)
@click.pass_obj
def prepare(session: Session, *, name: str, devices: tuple[Path, ...], erase: tuple[Path, ...]) -> None:
    """Make the volume group of the LVM pool NAME on these devices, and its thin pool; run as root on the node.

    The configuration says how both are called. What is there already stays as it is, so this can be repeated, and
    adds devices to a pool that needs more room. A device that is in use is refused, and so is one that holds
    anything, unless --erase names it.
    """
    from weft.drivers.lvm_prepare import prepare_pool  # noqa: PLC0415 -- for this command alone

    section = next((each for each in session.config.pools if each.name == name), None)
    if section is None:
        known = ", ".join(each.name for each in session.config.pools)
        raise NotFoundError(f"the configuration names no pool {name}; it names {known}")
    done = prepare_pool(section, devices, erase=erase)
    session.output.result(
        {
            "pool": name,
            "volumeGroup": section.volume_group,
            "erased": [str(each) for each in done.erased],
            "added": [str(each) for each in done.added],
            "madeVolumeGroup": done.made_group,
            "madeThinPool": done.made_thin_pool,
        },
        _prepared(section, done),
    )


def _prepared(section: PoolSection, done: "Prepared") -> str:
    steps = []
    if done.erased:
        steps.append(f"erased {', '.join(str(each) for each in done.erased)}")
    if done.added:
        steps.append(f"{'made' if done.made_group else 'extended'} volume group {section.volume_group}")
        steps[-1] += f" with {', '.join(str(each) for each in done.added)}"
    if done.made_thin_pool:
        steps.append(f"made thin pool {section.volume_group}/{section.thin_pool}")
    return f"Pool {section.name} is ready: {', '.join(steps) or 'all of it was there'}."
