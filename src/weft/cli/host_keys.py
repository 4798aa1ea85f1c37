"""`weft host set-key` and `weft host remove-key`: keys by which a host authenticates."""

import sys
from pathlib import Path

import click

from weft.cli.commands import Command
from weft.cli.options import confirm, host_names, yes_option
from weft.cli.resolve import find_host
from weft.cli.session import Session
from weft.cli.shapes import Shape
from weft.errors import InvalidValueError, NotFoundError
from weft.model import DhChapSecrets, Host
from weft.private import read_private
from weft.views import HeldKeys

_LONGEST_KEYS = 1024

_force_option = click.option(
    "--force", is_flag=True, help="Also while volumes are attached; attach them again there at once."
)


@click.command(
    cls=Command,
    short_help="Have a host authenticate by a key.",
    examples=(
        "weft host set-key web1",
        "weft host set-key web1 --both-ways",
        "weft host set-key web1 --key-file web1.key",
    ),
)
@click.argument("host", shell_complete=host_names)
@click.option("--generate", is_flag=True, help="Make the key here; what happens without --key-file.")
@click.option("--both-ways", is_flag=True, help="Also have the node authenticate to the host.")
@click.option(
    "--key-file",
    type=click.Path(path_type=Path, dir_okay=False, allow_dash=True),
    metavar="FILE",
    help="A file that holds the host's key and, --both-ways, below it the node's; -: standard input.",
)
@_force_option
@click.pass_obj
def set_key(
    session: Session, *, host: str, generate: bool, both_ways: bool, key_file: Path | None, force: bool
) -> None:
    """Have HOST authenticate (DH-HMAC-CHAP) wherever it is attached: its NQN alone does not let it in any more.

    A key looks like DHHC-1:01:...: and is made here unless --key-file gives one, such as one of `nvme
    gen-dhchap-key`. `weft attach` on the host fetches it. A host that has volumes attached loses them when it
    reconnects with another key than it has now; so detach them first, or use --force and run `weft attach` for each
    on the host at once, which hands the kernel the new key.
    """
    if generate and key_file is not None:
        raise click.UsageError("--generate makes a key and --key-file gives one; use one of them")
    found, client = find_host(session.client, host), session.client
    if key_file is None:
        held = client.generate_host_secrets(found.id, both_ways=both_ways, force=force)
    else:
        held = client.set_host_secrets(found.id, _keys(key_file, both_ways=both_ways), force=force)
    ways = "both ways" if held.controller_key else "one way"
    session.output.result(keys_shape(found, held), f"host {found.name} authenticates {ways} from now on")


@click.command(
    cls=Command, short_help="Let a host in without a key.", examples=("weft host remove-key web1",)
)
@click.argument("host", shell_complete=host_names)
@_force_option
@yes_option
@click.pass_obj
def remove_key(session: Session, *, host: str, force: bool, yes: bool) -> None:
    """Let HOST in by its NQN alone. A host without a key stays as it is."""
    found = find_host(session.client, host)
    confirm(f"Let whoever says that he is host {found.name} use its volumes?", yes=yes)
    session.client.remove_host_secrets(found.id, force=force)
    held = HeldKeys(host_key=False, controller_key=False)
    session.output.result(keys_shape(found, held), f"host {found.name} needs no key any more")


def keys_shape(host: Host, held: HeldKeys) -> Shape:
    return {
        "host_id": host.id,
        "name": host.name,
        "host_key": held.host_key,
        "controller_key": held.controller_key,
    }


def _keys(file: Path, *, both_ways: bool) -> DhChapSecrets:
    lines = _read(file).split()
    wanted = 2 if both_ways else 1
    if len(lines) != wanted:
        raise InvalidValueError(
            "--key-file", f"holds {len(lines)} lines, not {wanted}: {_what(both_ways=both_ways)}"
        )
    return DhChapSecrets(host_key=lines[0], controller_key=lines[1] if both_ways else None)


def _what(*, both_ways: bool) -> str:
    return "the host's key and below it the node's" if both_ways else "the host's key"


def _read(file: Path) -> str:
    if str(file) == "-":
        return sys.stdin.read(_LONGEST_KEYS)
    content = read_private(file, "a key")
    if content is None:
        raise NotFoundError(f"there is no file {file}")
    return content.decode("ascii", "replace")
