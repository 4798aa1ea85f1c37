"""Waiting for what was asked for, and telling how it went."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import click

from weft.cli.exits import NotSettledError
from weft.errors import NotFoundError, WeftError
from weft.model import Status
from weft.views import AttachmentView, SnapshotView, VolumeView

DEFAULT_WAIT_SECONDS = 60.0

ViewT = TypeVar("ViewT", VolumeView, SnapshotView, AttachmentView)

_UNSETTLED = frozenset({Status.CREATING, Status.EXTENDING, Status.REVERTING, Status.DELETING})
_PAUSE_SECONDS = 0.05
_FAILED = frozenset({Status.ERROR, Status.ERROR_DELETING, Status.ERROR_EXTENDING})

wait_option = click.option(
    "--wait",
    type=click.FloatRange(0, 86400),
    default=DEFAULT_WAIT_SECONDS,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait until it is done; 0: only ask for it.",
)


@dataclass(frozen=True, slots=True)
class Deadline:
    """How much is left of the seconds that a command may wait."""

    seconds: float
    at: float

    @classmethod
    def after(cls, seconds: float) -> "Deadline":
        return cls(seconds, time.monotonic() + seconds)

    @property
    def left(self) -> float:
        return max(0.0, self.at - time.monotonic())


def settle(view: ViewT, look: Callable[[float], ViewT], deadline: Deadline) -> ViewT:
    """The view once nothing is under way any more, or as it is at the deadline.

    look(seconds) waits on the server, which may give up earlier, and returns the view of then.
    """
    while view.status in _UNSETTLED and (left := deadline.left) > 0:
        time.sleep(min(_PAUSE_SECONDS, left))
        view = look(left)
    return view


def require_done(view: VolumeView | SnapshotView | AttachmentView, what: str, waited: float) -> None:
    """Raise WeftError if what was asked for failed, NotSettledError if it is still under way.

    what names the thing; waited are the seconds that the caller waited for it, and 0 asks for nothing.
    """
    if view.status in _FAILED:
        raise WeftError(
            f"{what} is in status {view.status.value}: {view.reason or 'the node gave no reason'}"
        )
    if waited and view.status in _UNSETTLED:
        raise NotSettledError(not_settled(what, view.status, view.reason, waited))


def require_gone(
    delete: Callable[[float], bool],
    look: Callable[[], VolumeView | SnapshotView | AttachmentView],
    what: str,
    deadline: Deadline,
) -> bool:
    """Delete, wait, and return whether it is gone; False only for a caller that does not wait.

    Raises WeftError when deleting failed, NotSettledError when it is not done at the deadline.
    """
    try:
        while not (gone := delete(deadline.left)) and deadline.left > 0:
            view = look()
            if view.status in _FAILED:
                break
            time.sleep(_PAUSE_SECONDS)
        if gone:
            return True
        view = look()
    except NotFoundError:
        return True
    require_done(view, what, deadline.seconds)
    return False


def not_settled(what: str, status: Status, reason: str, waited: float) -> str:
    because = f": {reason}" if reason else ""
    return f"{what} is still {status.value} after {waited:g} s{because}; weft goes on with it"
