"""`weft profile`: classes of volumes."""

from functools import partial

import click

from weft.cli import kinds
from weft.cli.commands import Group
from weft.cli.deletion import Deletable, delete_all
from weft.cli.options import profile_names, yes_option
from weft.cli.resolve import find_profile
from weft.cli.session import Session
from weft.client import Client
from weft.model import Profile, Protocol, StorageType
from weft.requests import ProfileRequest


@click.group(cls=Group, examples=("weft profile list",))
def profile() -> None:
    """Name classes of volumes: what a pool must offer for a volume of the class."""


@profile.command("list", examples=("weft profile list",))
@click.option("--name", help="Only the profile of this name.")
@click.pass_obj
def list_profiles(session: Session, *, name: str | None) -> None:
    """List profiles."""
    found = session.client.profiles(name=name)
    session.output.rows(kinds.PROFILES, sorted(found, key=lambda each: each.name))


@profile.command("show", examples=("weft profile show default_block",))
@click.argument("profile", shell_complete=profile_names)
@click.pass_obj
def show(session: Session, *, profile: str) -> None:
    """Show one profile."""
    session.output.one(kinds.PROFILES, find_profile(session.client, profile))


@profile.command(
    "create",
    examples=(
        "weft profile create shared --property 'capabilities:multiAttach=<is> true'",
        "weft profile create fast --property capabilities:diskType=NVMe",
    ),
)
@click.argument("name")
@click.option("--description", default="", help="Free text.")
@click.option(
    "--protocol", type=click.Choice([each.value for each in Protocol]), help="Access protocol asked for."
)
@click.option(
    "--property",
    "properties",
    multiple=True,
    metavar="KEY=VALUE",
    help="A custom property; `capabilities:KEY=VALUE` asks the pool for a capability. May be given several times.",
)
@click.pass_obj
def create(
    session: Session, *, name: str, description: str, protocol: str | None, properties: tuple[str, ...]
) -> None:
    """Make a profile called NAME."""
    made = session.client.create_profile(
        ProfileRequest(
            name=name,
            description=description,
            storage_type=StorageType.BLOCK.value,
            access_protocol=Protocol(protocol) if protocol is not None else None,
            custom_properties=dict(_property(each) for each in properties),
        )
    )
    session.output.one(kinds.PROFILES, made)


@profile.command("delete", examples=("weft profile delete fast",))
@click.argument("profiles", shell_complete=profile_names, nargs=-1, required=True, metavar="PROFILE...")
@yes_option
@click.pass_obj
def delete(session: Session, *, profiles: tuple[str, ...], yes: bool) -> None:
    """Delete profiles that no volume uses."""
    client = session.client
    found = [find_profile(client, each) for each in profiles]
    delete_all(
        session.output,
        "profile",
        [Deletable(each.id, each.name, partial(_delete, client, each)) for each in found],
        yes=yes,
    )


def _delete(client: Client, profile: Profile) -> bool:
    client.delete_profile(profile.id)
    return True


def _property(text: str) -> tuple[str, str]:
    key, separator, value = text.partition("=")
    if not separator or not key:
        raise click.BadParameter(f"{text!r} is not KEY=VALUE", param_hint="'--property'")
    return key, value
