"""Arguments and options that several commands share; the shell completes them with names from the API."""

import sys
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import click
from click.shell_completion import CompletionItem

from weft.cli.session import Session
from weft.errors import WeftError

if TYPE_CHECKING:
    from weft.client import Client

Completer = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]


def _completer(names: "Callable[[Client], Iterable[str]]") -> Completer:
    def complete(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Nothing when the API does not answer: completion must not disturb the line that is being typed."""
        session = ctx.find_object(Session) or Session()
        try:
            found = sorted(set(names(session.client)))
        except WeftError:
            return []
        return [CompletionItem(name) for name in found if name.startswith(incomplete)]

    return complete


volume_names = _completer(lambda client: (view.volume.name for view in client.volumes()))
snapshot_names = _completer(lambda client: (view.snapshot.name for view in client.snapshots()))
pool_names = _completer(lambda client: (view.pool.name for view in client.pools()))
host_names = _completer(lambda client: (host.name for host in client.hosts()))
profile_names = _completer(lambda client: (profile.name for profile in client.profiles()))

yes_option = click.option("-y", "--yes", is_flag=True, help="Do not ask on a terminal.")


def confirm(question: str, *, yes: bool) -> None:
    """Ask a person at a terminal; a script is taken at its word. Raises click.Abort when the answer is no."""
    if yes or not (sys.stdin.isatty() and sys.stderr.isatty()):
        return
    click.confirm(question, abort=True, err=True)
