"""What a queue and the connection that carries it know of each other."""

from dataclasses import dataclass
from typing import Protocol

from weft.nvme.events import CommandReceived
from weft.nvme.fabrics import AUTHREQ_ATR
from weft.nvme.status import SUCCESS, Status


class Responder(Protocol):
    """Answers commands. Used by the connection's own thread alone, but for wake() and stop()."""

    def complete(self, cid: int, status: Status = SUCCESS, result: int = 0) -> None:
        """End a command without data."""

    def send(self, cid: int, data: memoryview | bytes) -> None:
        """End a command with success and all of its data."""

    def read_buffer(self, length: int) -> memoryview:
        """Room for data to send: at most MAXIMUM_TRANSFER bytes, good until it is given to send or asked for again."""

    def wake(self) -> None:
        """Have the queue's resume() called soon, by the connection's thread."""

    def stop(self) -> None:
        """End the connection as soon as the command that is being carried out is done; do not wait for it."""

    def finish(self) -> None:
        """End the connection after the answers to what has been carried out are sent; do not wait for it."""

    def authenticated(self) -> None:
        """The host has proven who it is: let it send every command of the queue."""

    def peer_gone(self) -> bool:
        """Whether the host has closed its end, even if there is still something to read from it."""


class Queue(Protocol):
    """Carries out the commands of one queue pair. All calls come from the connection's own thread."""

    def execute(self, received: CommandReceived, data: memoryview | None) -> None:
        """Carry out a command whose data, if it has any from the host, is here; answer it now or later."""

    def resume(self) -> None:
        """Go on with what waited: somebody called wake(), or the deadline has passed."""

    def deadline(self) -> float | None:
        """When resume() is to be called at the latest, in the time of time.monotonic()."""

    def closed(self) -> None:
        """The connection is at its end: nothing more will be carried out or answered."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """A Connect that is to be answered with success: the queue that was connected, and its controller.

    authenticate: the host must prove who it is before it may do anything else.
    """

    queue: Queue
    cntlid: int
    authenticate: bool = False

    @property
    def result(self) -> int:
        """What the answer says."""
        return self.cntlid | (AUTHREQ_ATR if self.authenticate else 0)


class EndOfAssociationError(Exception):
    """The connection is to be closed; str() says why."""
