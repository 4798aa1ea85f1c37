"""`weft pool`: the storage that volumes are made in, as the configuration names it."""

import click

from weft.cli import kinds
from weft.cli.commands import Group
from weft.cli.options import pool_names, status_option
from weft.cli.resolve import find_pool
from weft.cli.session import Session
from weft.model import StateStatus


@click.group(cls=Group, examples=("weft pool list",))
def pool() -> None:
    """See the storage that volumes are made in; the configuration names it."""


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
