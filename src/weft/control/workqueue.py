"""A queue of ids to look at: each at most once in it, never in two hands, some only after a while."""

import heapq
import threading
import time
from typing import Generic, TypeVar

IdT = TypeVar("IdT", bound=str)


class WorkQueue(Generic[IdT]):
    """An id that is added while it is being worked on comes round again once it is done.

    An id waits for one moment only, the earliest that it was added for.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._ready: dict[IdT, None] = {}
        self._due: dict[IdT, float] = {}
        self._moments: list[tuple[float, IdT]] = []
        self._in_hand: set[IdT] = set()
        self._again: set[IdT] = set()
        self._closed = False

    def add(self, row_id: IdT, *, delay: float = 0.0) -> None:
        """Have row_id looked at, after delay seconds."""
        with self._changed:
            if delay > 0:
                self._add_later(row_id, time.monotonic() + delay)
            else:
                self._add_now(row_id)
            self._changed.notify()

    def take(self) -> IdT | None:
        """The next id, once there is one; None when the queue was closed. Give it back with done()."""
        with self._changed:
            while not self._closed:
                wait = self._release_due()
                if self._ready:
                    row_id = next(iter(self._ready))
                    del self._ready[row_id]
                    self._in_hand.add(row_id)
                    self._changed.notify()  # somebody else is to look after what is left, and what falls due
                    return row_id
                self._changed.wait(wait)
            return None

    def done(self, row_id: IdT) -> None:
        with self._changed:
            self._in_hand.discard(row_id)
            if row_id in self._again:
                self._again.discard(row_id)
                self._add_now(row_id)
                self._changed.notify()

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _add_now(self, row_id: IdT) -> None:
        self._due.pop(row_id, None)
        if row_id in self._in_hand:
            self._again.add(row_id)
        else:
            self._ready[row_id] = None

    def _add_later(self, row_id: IdT, moment: float) -> None:
        is_sooner = row_id in self._ready or row_id in self._again
        if not is_sooner and moment < self._due.get(row_id, float("inf")):
            self._due[row_id] = moment
            heapq.heappush(self._moments, (moment, row_id))

    def _release_due(self) -> float | None:
        """Make ready what has fallen due; how many seconds there are until something else does."""
        now = time.monotonic()
        while self._moments:
            moment, row_id = self._moments[0]
            is_overtaken = self._due.get(row_id) != moment
            if not is_overtaken and moment > now:
                return moment - now
            heapq.heappop(self._moments)
            if not is_overtaken:
                self._add_now(row_id)
        return None
