"""A queue of volume ids to look at: each at most once in it, never in two hands, some only after a while."""

import heapq
import threading
import time

from weft.model import VolumeId


class WorkQueue:
    """An id that is added while it is being worked on comes round again once it is done.

    An id waits for one moment only, the earliest that it was added for.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._ready: dict[VolumeId, None] = {}
        self._due: dict[VolumeId, float] = {}
        self._moments: list[tuple[float, VolumeId]] = []
        self._in_hand: set[VolumeId] = set()
        self._again: set[VolumeId] = set()
        self._closed = False

    def add(self, volume_id: VolumeId, *, delay: float = 0.0) -> None:
        """Have volume_id looked at, after delay seconds."""
        with self._changed:
            if delay > 0:
                self._add_later(volume_id, time.monotonic() + delay)
            else:
                self._add_now(volume_id)
            self._changed.notify()

    def take(self) -> VolumeId | None:
        """The next id, once there is one; None when the queue was closed. Give it back with done()."""
        with self._changed:
            while not self._closed:
                wait = self._release_due()
                if self._ready:
                    volume_id = next(iter(self._ready))
                    del self._ready[volume_id]
                    self._in_hand.add(volume_id)
                    self._changed.notify()  # somebody else is to look after what is left, and what falls due
                    return volume_id
                self._changed.wait(wait)
            return None

    def done(self, volume_id: VolumeId) -> None:
        with self._changed:
            self._in_hand.discard(volume_id)
            if volume_id in self._again:
                self._again.discard(volume_id)
                self._add_now(volume_id)
                self._changed.notify()

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _add_now(self, volume_id: VolumeId) -> None:
        self._due.pop(volume_id, None)
        if volume_id in self._in_hand:
            self._again.add(volume_id)
        else:
            self._ready[volume_id] = None

    def _add_later(self, volume_id: VolumeId, moment: float) -> None:
        is_sooner = volume_id in self._ready or volume_id in self._again
        if not is_sooner and moment < self._due.get(volume_id, float("inf")):
            self._due[volume_id] = moment
            heapq.heappush(self._moments, (moment, volume_id))

    def _release_due(self) -> float | None:
        """Make ready what has fallen due; how many seconds there are until something else does."""
        now = time.monotonic()
        while self._moments:
            moment, volume_id = self._moments[0]
            is_overtaken = self._due.get(volume_id) != moment
            if not is_overtaken and moment > now:
                return moment - now
            heapq.heappop(self._moments)
            if not is_overtaken:
                self._add_now(volume_id)
        return None
