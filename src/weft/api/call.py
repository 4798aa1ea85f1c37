"""One request and its answer, as handlers see them; waiting for what was asked to be done."""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from weft.control.service import LONGEST_WAIT_SECONDS, Service
from weft.errors import NotFoundError
from weft.requests import Caller
from weft.views import TokenView

ViewT = TypeVar("ViewT")

_MAXIMUM_WAITERS = 24
"""Each keeps one of the thread pool's 40 threads; the rest must be left for those who do not wait."""

_SLICE_SECONDS = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """caller: on whose behalf. token: by which one, if it has a name. ids: what the path names. query: in the order it was
    sent. wait: for how many seconds the client prefers to wait, 0.0 when it does not. hung_up: set once the client is no
    longer there.
    """

    caller: Caller
    ids: Mapping[str, str]
    query: Sequence[tuple[str, str]]
    body: bytes
    wait: float
    hung_up: threading.Event
    token: TokenView | None = None

    @property
    def id(self) -> str:
        return self.ids["id"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """value: what becomes the body's JSON; None is an empty body. waited: the preference was honoured."""

    value: object | None = None
    status: int = 200
    waited: bool = False


class Waiters:
    """Bounds how many requests wait at once, and ends all waits when the server stops."""

    def __init__(self, most: int = _MAXIMUM_WAITERS) -> None:
        self._places = threading.BoundedSemaphore(most)
        self._stopping = threading.Event()

    def wait(self, call: Call, is_settled: Callable[[float], bool]) -> bool:
        """Wait as long as the client prefers until is_settled, which itself waits for the seconds that it is given.

        False, at once, when the client does not want to wait, or too many wait already.
        """
        if call.wait <= 0 or not self._places.acquire(blocking=False):
            return False
        try:
            deadline = time.monotonic() + min(call.wait, LONGEST_WAIT_SECONDS)
            while not (self._stopping.is_set() or call.hung_up.is_set()):
                remaining = deadline - time.monotonic()
                if remaining <= 0 or is_settled(min(remaining, _SLICE_SECONDS)):
                    break
        finally:
            self._places.release()
        return True

    def stop(self) -> None:
        """End all waits, now and from now on; whoever waits is answered with things as they are."""
        self._stopping.set()


@dataclass(frozen=True, slots=True)
class Api:
    """What handlers work with."""

    service: Service
    waiters: Waiters

    def settled(
        self,
        call: Call,
        view: ViewT,
        is_settled: Callable[[float], bool],
        read: Callable[[], ViewT],
    ) -> tuple[ViewT, bool]:
        """view or, if the client prefers to wait, what is read after waiting; and whether it was waited."""
        if not self.waiters.wait(call, is_settled):
            return view, False
        return read(), True

    def gone(self, call: Call, is_settled: Callable[[float], bool], read: Callable[[], object]) -> Answer:
        """The answer to a deletion: an empty body or, if the client waited in vain, what is still there."""
        if not self.waiters.wait(call, is_settled):
            return Answer(status=202)
        try:
            return Answer(value=read(), status=202, waited=True)
        except NotFoundError:
            return Answer(status=202, waited=True)


Handler = Callable[[Api, Call], Answer]
