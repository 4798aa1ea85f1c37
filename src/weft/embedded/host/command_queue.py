"""The commands of a volume that are not answered yet, across connections.

A command is taken once and answered once. When the connection is lost, what was not answered waits and is sent
again by the next connection in the order in which it was first given, before anything newer.
"""

import threading
import time
from collections import deque
from dataclasses import dataclass, field
from types import TracebackType
from typing import Final, Protocol, Self

from weft.embedded.host.queue_pair import ConnectionLostError
from weft.embedded.host.statuses import command_error, worth_another_try
from weft.errors import WeftError
from weft.nvme.events import CommandCompleted
from weft.nvme.layout import BytesLike
from weft.nvme.nvm import NvmCommand

MAXIMUM_TRIES: Final = 5
"""How often a command is sent that the controller answers with an error worth another try; Linux tries as often."""

_TRY_AGAIN_DELAY: Final = 0.1


class Link(Protocol):
    """Where commands go; QueuePair is one."""

    def submit(self, cid: int, command: NvmCommand, *, data: BytesLike, into: BytesLike) -> None: ...


class Lost(Protocol):
    def __call__(self, error: ConnectionLostError) -> None: ...


@dataclass(slots=True, eq=False)
class _Request:
    command: NvmCommand
    data: BytesLike
    into: BytesLike
    batch: "Batch"
    number: int = 0
    sent_at: float = 0.0
    tries: int = 0


@dataclass(slots=True)
class _Link:
    link: Link
    limit: int
    free: list[int] = field(default_factory=list)


class CommandQueue:
    """Holds at most depth commands. Is the listener of the connection that carries them."""

    def __init__(self, depth: int, on_lost: Lost) -> None:
        self._depth = depth
        self._on_lost = on_lost
        self._lock = threading.Lock()
        self._room = threading.Condition(self._lock)
        self._waiting: deque[_Request] = deque()
        self._sent: dict[int, _Request] = {}  # by command identifier, in the order of sending
        self._link: _Link | None = None
        self._number = 0
        self._failure: WeftError | None = None

    def batch(self) -> "Batch":
        """Commands that are waited for together: `with queue.batch() as batch: batch.submit(...)`."""
        return Batch(self)

    def resume(self, link: Link, limit: int) -> None:
        """Send what waits, and from now on what comes, by link: at most limit commands at a time."""
        with self._lock:
            self._link = _Link(link, limit, list(range(limit)))
            self._pump()

    def fail(self, error: WeftError) -> None:
        """Answer everything with error, now and from now on. The connection must be closed before."""
        with self._lock:
            if self._failure is None:
                self._failure = error
            given_up = [*self._sent.values(), *self._waiting]
            self._sent.clear()
            self._waiting.clear()
            self._link = None
            self._room.notify_all()
        for request in given_up:
            request.batch.answered(request, error)

    def oldest(self) -> float | None:
        """When the oldest unanswered command was sent (monotonic time), None if there is none."""
        with self._lock:
            return next((request.sent_at for request in self._sent.values()), None)

    def put(self, request: _Request) -> None:
        """Take a command, waiting while the queue is full. Raises what the queue failed with."""
        with self._lock:
            while self._failure is None and len(self._waiting) + len(self._sent) >= self._depth:
                self._room.wait()
            if self._failure is not None:
                raise self._failure
            self._number += 1
            request.number = self._number
            self._waiting.append(request)
            self._pump()

    def completed(self, completion: CommandCompleted) -> None:
        with self._lock:
            request = self._sent.pop(completion.cid)
            if self._link is not None:
                self._link.free.append(completion.cid)
                self._pump()
            self._room.notify()
        if completion.status.ok:
            request.batch.answered(request, None)
        elif worth_another_try(completion.status) and request.tries < MAXIMUM_TRIES:
            request.batch.try_again(request)
        else:
            request.batch.answered(request, command_error(request.command, completion.status))

    def lost(self, error: ConnectionLostError) -> None:
        with self._lock:
            self._link = None
            unanswered = sorted(self._sent.values(), key=lambda request: request.number)
            self._waiting.extendleft(reversed(unanswered))
            self._sent.clear()
        self._on_lost(error)

    def _pump(self) -> None:
        """Send what waits. Holds the lock."""
        link = self._link
        if link is None:
            return
        while self._waiting and link.free:
            request = self._waiting.popleft()
            cid = link.free.pop()
            request.sent_at = time.monotonic()
            self._sent[cid] = request
            try:
                link.link.submit(cid, request.command, data=request.data, into=request.into)
            except ConnectionLostError:
                del self._sent[cid]
                self._waiting.appendleft(request)
                self._link = None
                return


class Batch:
    """Commands of one caller. Leaving the context waits for every answer and raises the first error."""

    def __init__(self, queue: CommandQueue) -> None:
        self._queue = queue
        self._changed = threading.Condition(threading.Lock())
        self._open = 0
        self._again: list[_Request] = []
        self._error: WeftError | None = None

    def submit(self, command: NvmCommand, *, data: BytesLike = b"", into: BytesLike = b"") -> None:
        """Give a command to the queue; its buffers must stay as they are until the context is left."""
        self._put(_Request(command, data, into, self))

    def answered(self, _: _Request, error: WeftError | None) -> None:
        """Called by the queue: a command has its final answer."""
        with self._changed:
            self._open -= 1
            self._error = self._error or error
            if not self._open or self._again:
                self._changed.notify()

    def try_again(self, request: _Request) -> None:
        """Called by the queue: a command is to be sent once more, in a while."""
        with self._changed:
            self._open -= 1
            self._again.append(request)
            self._changed.notify()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        while again := self._wait():
            time.sleep(_TRY_AGAIN_DELAY)
            for request in again:
                request.tries += 1
                try:
                    self._put(request)
                except WeftError as failure:
                    self._error = self._error or failure
        if error is None and self._error is not None:
            raise self._error

    def _put(self, request: _Request) -> None:
        with self._changed:
            self._open += 1
        try:
            self._queue.put(request)
        except BaseException:
            with self._changed:
                self._open -= 1
            raise

    def _wait(self) -> list[_Request]:
        """Until all is answered (then empty) or something is to be sent again."""
        with self._changed:
            while self._open and not self._again:
                self._changed.wait()
            again, self._again = self._again, []
            return again
