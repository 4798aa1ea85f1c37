"""Arguments and options that several commands share; the shell completes them with names from the API."""

import sys
from collections.abc import Callable, Iterable
from enum import StrEnum
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.shell_completion import CompletionItem

from weft.cli.exits import NotConfirmedError
from weft.cli.session import Session
from weft.errors import WeftError

if TYPE_CHECKING:
    from weft.client import Client

CommandT = TypeVar("CommandT", bound=Callable[..., Any])
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
token_names = _completer(lambda client: (token.name for token in client.tokens()))
profile_names = _completer(lambda client: (profile.name for profile in client.profiles()))


def status_option(statuses: type[StrEnum]) -> Callable[[CommandT], CommandT]:
    words = [each.value for each in statuses]
    return click.option(
        "--status",
        type=click.Choice(words),
        metavar="STATUS",
        help=f"Only those whose status is this: {', '.join(words[:-1])} or {words[-1]}.",
    )


yes_option = click.option("-y", "--yes", is_flag=True, help="Do not ask on a terminal.")


def confirm(question: str, *, yes: bool) -> None:
    """Ask a person at a terminal; a script is taken at its word. Raises NotConfirmedError when the answer is not yes."""
    if not yes and _is_watched():
        _ask(question)


def confirm_in_person(question: str, otherwise: str) -> None:
    """Ask a person at a terminal; without one nothing is taken for a yes. Raises NotConfirmedError when there is none.

    otherwise says what a script can do instead.
    """
    if not _is_watched():
        raise NotConfirmedError(f"nothing was changed, because there is no terminal to ask at: {otherwise}")
    _ask(question)


def _is_watched() -> bool:
    return sys.stdin.isatty() and sys.stderr.isatty()


def _ask(question: str) -> None:
    try:
        confirmed = click.confirm(question, err=True)
    except click.Abort:
        sys.stderr.write("\n")  # the cursor stands behind the question
        confirmed = False
    if not confirmed:
        raise NotConfirmedError("nothing was changed, because the question was not answered with yes")
