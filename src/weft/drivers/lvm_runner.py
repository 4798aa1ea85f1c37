"""Runs one command of LVM's, and says in weft's errors what its failure means."""

from collections.abc import Sequence
from typing import Protocol

from weft.errors import (
    CommandError,
    ConflictError,
    NoSpaceError,
    NotFoundError,
    UnavailableError,
    WeftError,
)
from weft.run import Completed

_WHAT_IT_SAYS: tuple[tuple[str, type[WeftError]], ...] = (
    ("insufficient free space", NoSpaceError),
    ("insufficient suitable", NoSpaceError),
    ("not enough free space", NoSpaceError),
    ("reached threshold", NoSpaceError),
    ("failed to find logical volume", NotFoundError),
    ("not found in volume group", NotFoundError),
    ("already exists in volume group", ConflictError),
    (" in use", ConflictError),
    ("is used by", ConflictError),
)


class Runner(Protocol):
    """weft.run.run, or what a test puts in its place."""

    def __call__(self, argv: Sequence[str], *, timeout: float) -> Completed: ...


def command(runner: Runner, argv: Sequence[str], *, pool: str, timeout: float) -> Completed:
    """Run a command for a pool; its error has all that the command said.

    Raises NoSpaceError, NotFoundError and ConflictError where what it said means that, and UnavailableError for
    whatever else it failed of: trying again may help.
    """
    try:
        return runner(argv, timeout=timeout)
    except CommandError as error:
        raise _meaning(error, pool) from error


def _meaning(error: CommandError, pool: str) -> WeftError:
    lines = [line.strip() for line in error.stderr.splitlines()]
    said = "; ".join(line for line in lines if line and not line.startswith(("WARNING:", "Run `")))
    said = (said or "it said nothing")[:1000]
    text = f"pool {pool}: {error.argv[0]} failed with exit code {error.exit_code}: {said}"
    return next((kind for words, kind in _WHAT_IT_SAYS if words in said.lower()), UnavailableError)(text)
