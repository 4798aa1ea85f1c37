"""`weft token`: what other machines show to use the API."""

from functools import partial

import click

from weft.cli import kinds
from weft.cli.commands import Group
from weft.cli.deletion import Deletable, delete_all
from weft.cli.options import host_names, token_names, yes_option
from weft.cli.resolve import find_token
from weft.cli.session import Session
from weft.cli.shapes import token_shape
from weft.client import Client
from weft.requests import CreateTokenRequest
from weft.tokens import TokenScope
from weft.views import TokenView


@click.group(cls=Group, examples=("weft token list",))
def token() -> None:
    """Give other machines access to the API, and take it away.

    A token is kept by its holder alone: weft keeps a hash of it. On the other machine `weft login` takes it.
    """


@token.command(
    "create",
    short_help="Make a token for another machine.",
    examples=(
        "weft token create web1 --host web1",
        "weft token create backup --quiet | install -m 600 /dev/stdin my.token",
    ),
)
@click.argument("name")
@click.option(
    "--host",
    default="",
    metavar="HOST|NQN",
    shell_complete=host_names,
    help="Only for this host. [default: for everything]",
)
@click.option("--expires", type=click.IntRange(1, 36500), metavar="DAYS", help="[default: never]")
@click.pass_obj
def create(session: Session, *, name: str, host: str, expires: int | None) -> None:
    """Make a token called NAME, and print it; it cannot be shown again.

    With --host it opens no more than that host needs: to register itself, to attach volumes to itself and to detach
    them. HOST is a registered host, or the name or the NQN of one that will register itself with this token. Without
    --host it opens everything. With --quiet the token is printed by itself.
    """
    new = session.client.create_token(CreateTokenRequest(name=name, host=host, valid_days=expires))
    if session.quiet and not session.json:
        session.output.lines([new.text])
        return
    session.output.shape({**token_shape(new.token), "fingerprint": session.fingerprint, "token": new.text})
    if not session.json:
        session.output.note(
            "keep the token now, it is not shown again; `weft login` on the other machine asks for it"
        )


@token.command("list", examples=("weft token list", "weft token list --scope host --json"))
@click.option("--name", help="Only the token of this name.")
@click.option(
    "--scope",
    type=click.Choice([each.value for each in TokenScope]),
    help="Only those that open this: everything (admin), or what one host needs (host).",
)
@click.option("--host", metavar="HOST|NQN", shell_complete=host_names, help="Only those for this host.")
@click.pass_obj
def list_tokens(session: Session, *, name: str | None, scope: str | None, host: str | None) -> None:
    """List tokens, without what their holders show."""
    found = [
        each
        for each in session.client.tokens(name=name)
        if scope in {None, each.scope.value} and host in {None, each.host_id, each.host_name, each.host_nqn}
    ]
    session.output.rows(kinds.TOKENS, sorted(found, key=lambda each: each.name))


@token.command(
    "revoke", short_help="Have tokens open nothing any more.", examples=("weft token revoke web1",)
)
@click.argument("tokens", shell_complete=token_names, nargs=-1, required=True, metavar="TOKEN...")
@yes_option
@click.pass_obj
def revoke(session: Session, *, tokens: tuple[str, ...], yes: bool) -> None:
    """Have tokens, given by name or id, open nothing any more, from now on.

    Volumes that their holders have attached stay attached.
    """
    client = session.client
    found = [find_token(client, each) for each in tokens]
    delete_all(
        session.output,
        "token",
        [Deletable(each.id, each.name, partial(_revoke, client, each)) for each in found],
        yes=yes,
    )


def _revoke(client: Client, token: TokenView) -> bool:
    client.revoke_token(token.id)
    return True
