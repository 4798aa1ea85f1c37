"""`weft login` and `weft logout`: which node's API the commands on this machine use."""

import sys
from pathlib import Path

import click

from weft.cli.commands import Command
from weft.cli.options import confirm_in_person
from weft.cli.session import Session
from weft.cli.shapes import Shape, token_shape
from weft.client import Client
from weft.endpoint import Endpoint, identify, parse_endpoint
from weft.errors import InvalidValueError, NotFoundError, UnauthenticatedError
from weft.login import Login, forget_login, save_login
from weft.private import read_private
from weft.tls import check_pin, same_pin
from weft.views import TokenView

_ASKING_SECONDS = 10.0
_LONGEST_TOKEN = 4096


@click.command(
    cls=Command,
    short_help="Use the node at URL from this machine.",
    examples=(
        "weft login https://node1:50040",
        "weft login https://node1:50040 --token-file web1.token",
    ),
)
@click.argument("url")
@click.option(
    "--token-file",
    type=click.Path(path_type=Path, dir_okay=False, allow_dash=True),
    metavar="FILE",
    help="Where the token is; -: standard input. [default: it is asked for]",
)
@click.option(
    "--fingerprint", metavar="SHA256", help="Of the server's key, as `weft status` tells it on the node."
)
@click.pass_obj
def login(session: Session, *, url: str, token_file: Path | None, fingerprint: str | None) -> None:
    """Have the commands on this machine use the node at URL, by a token made there with `weft token create`.

    The server is known by the fingerprint of its key, which is shown and must be confirmed, or given; or, without
    one, by an authority that this system trusts. Nothing is sent to it before. URL, token and fingerprint are kept in
    the file `login` in the data directory, for this user alone.
    """
    endpoint = parse_endpoint(url)
    pin = _known_by(session, endpoint, fingerprint)
    found = Login(url=url, token=_token(token_file), pin=pin)
    token = Client.for_url(found.url, found.token, pin=found.pin).own_token()
    save_login(session.config.login_file, found)
    session.output.result(_shape(found, token), f"logged in to {url} {_as_whom(token)}")


@click.command(cls=Command, examples=("weft logout",))
@click.pass_obj
def logout(session: Session) -> None:
    """Forget the login: the commands use this machine's own node again.

    Volumes that are attached stay attached; to detach them, do so before. The token goes on being valid: `weft token
    revoke` on the node ends it.
    """
    was_there = forget_login(session.config.login_file)
    session.output.result(
        {"logged_out": was_there}, "logged out" if was_there else "this machine was not logged in"
    )


def _known_by(session: Session, endpoint: Endpoint, fingerprint: str | None) -> str | None:
    """The pin to keep; None when the server is on this machine, or an authority vouches for it."""
    if not endpoint.tls:
        if fingerprint is not None:
            raise InvalidValueError("--fingerprint", "a URL with http:// has none")
        return None
    wanted = check_pin("--fingerprint", fingerprint) if fingerprint is not None else None
    server = identify(endpoint, _ASKING_SECONDS)
    if wanted is not None:
        if not same_pin(server.pin, wanted):
            raise UnauthenticatedError(
                f"the server at {endpoint.host} port {endpoint.port} has another fingerprint: {server.pin}; nothing"
                " was sent to it"
            )
        return wanted
    if server.vouched_for:
        return None
    session.output.note(
        f"the fingerprint of {endpoint.host} port {endpoint.port} is {server.pin}; `weft status` tells it on the node"
    )
    confirm_in_person("Is it the same there?", "give the fingerprint by --fingerprint")
    return server.pin


def _token(file: Path | None) -> str:
    if file is None and sys.stdin.isatty():
        return str(click.prompt("Token", hide_input=True, err=True))
    if file is None or str(file) == "-":
        return sys.stdin.read(_LONGEST_TOKEN).strip()
    content = read_private(file, "a token")
    if content is None:
        raise NotFoundError(f"there is no file {file}")
    return content.decode("ascii", "replace").strip()


def _as_whom(token: TokenView) -> str:
    if not token.name:
        return "as administrator"
    host = token.host_name or token.host_nqn
    return f"with token {token.name}, for {f'host {host}' if host else 'everything'}"


def _shape(login: Login, token: TokenView) -> Shape:
    return {"url": login.url, "fingerprint": login.pin, "token": token_shape(token)}
