"""`weft host`: the machines that volumes can be attached to."""

from dataclasses import replace
from functools import partial

import click

from weft.cli import kinds
from weft.cli.commands import Group
from weft.cli.deletion import Deletable, delete_all
from weft.cli.host_keys import remove_key, set_key
from weft.cli.options import host_names, yes_option
from weft.cli.resolve import find_host
from weft.cli.session import Session
from weft.cli.shapes import Shape, host_shape
from weft.cli.this_host import register_this_host
from weft.client import Client
from weft.errors import PermissionDeniedError
from weft.model import Host, Initiator, Protocol
from weft.requests import HostRequest


@click.group(cls=Group, examples=("weft host list",))
def host() -> None:
    """Register and list the hosts that may attach volumes.

    A host is known by the name of its initiator: its NQN. `weft attach` registers this host by itself.
    """


@host.command("list", examples=("weft host list",))
@click.option("--name", help="Only the host of this name.")
@click.option("--nqn", help="Only the host that has this NQN.")
@click.pass_obj
def list_hosts(session: Session, *, name: str | None, nqn: str | None) -> None:
    """List hosts."""
    found = [
        each
        for each in session.client.hosts(name=name)
        if nqn is None or any(initiator.port_name == nqn for initiator in each.initiators)
    ]
    session.output.rows(kinds.HOSTS, sorted(found, key=lambda each: each.name))


@host.command("show", examples=("weft host show web1",))
@click.argument("host", shell_complete=host_names)
@click.pass_obj
def show(session: Session, *, host: str) -> None:
    """Show one host, and whether it must authenticate by a key."""
    found = find_host(session.client, host)
    session.output.one(replace(kinds.HOSTS, shape=partial(_shape, session.client)), found)


@host.command(
    "register",
    examples=(
        "weft host register",
        "weft host register web1 --nqn nqn.2024-01.com.example:web1",
    ),
)
@click.argument("name", required=False, default="")
@click.option("--nqn", help="The host's NQN. [default: this host's]")
@click.option("--ip", default="", help="Its address; a label, access goes by the NQN.")
@click.option("--zone", "zones", multiple=True, help="An availability zone it belongs to. [default: default]")
@click.pass_obj
def register(session: Session, *, name: str, nqn: str | None, ip: str, zones: tuple[str, ...]) -> None:
    """Register a host called NAME: this one, when no NQN is given.

    Registering this host again changes nothing.
    """
    zones = zones or ("default",)
    if nqn is None:
        made = register_this_host(
            session.client, session.connector.initiator(), name=name, ip=ip, zones=zones
        )
    else:
        if not name:
            raise click.UsageError("a host that is registered by its NQN needs a NAME")
        initiator = Initiator(port_name=nqn, protocol=Protocol.NVMEOF)
        made = session.client.create_host(
            HostRequest(name=name, ip=ip, availability_zones=zones, initiators=(initiator,))
        )
    session.output.one(kinds.HOSTS, made)


@host.command("delete", examples=("weft host delete web1",))
@click.argument("hosts", shell_complete=host_names, nargs=-1, required=True, metavar="HOST...")
@yes_option
@click.pass_obj
def delete(session: Session, *, hosts: tuple[str, ...], yes: bool) -> None:
    """Forget hosts that have no volume attached."""
    client = session.client
    found = [find_host(client, each) for each in hosts]
    delete_all(
        session.output,
        "host",
        [Deletable(each.id, each.name, partial(_delete, client, each)) for each in found],
        yes=yes,
    )


host.add_command(set_key, "set-key")
host.add_command(remove_key, "remove-key")


def _shape(client: Client, host: Host) -> Shape:
    try:
        held = client.held_secrets(host.id)
    except PermissionDeniedError:  # a host's token
        return host_shape(host)
    return {**host_shape(host), "host_key": held.host_key, "controller_key": held.controller_key}


def _delete(client: Client, host: Host) -> bool:
    client.delete_host(host.id)
    return True
