"""A queue of volume ids to look at: each at most once in it, never in two hands, some only after a while."""

import heapq
import threading
import time

from weft.model import VolumeId


class WorkQueue:
    """An id that is added while it is being worked on comes round again once it is done."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._ready: dict[VolumeId, None] = {}
        self._later: list[tuple[float, VolumeId]] = []
        self._in_hand: set[VolumeId] = set()
        self._again: set[VolumeId] = set()
        self._closed = False

    def add(self, volume_id: VolumeId, *, delay: float = 0.0) -> None:
        """Have volume_id looked at, after delay seconds."""
        with self._changed:
            if delay > 0:
                heapq.heappush(self._later, (time.monotonic() + delay, volume_id))
            elif volume_id in self._in_hand:
                self._again.add(volume_id)
            else:
                self._ready[volume_id] = None
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
                    return volume_id
                self._changed.wait(wait)
            return None

    def done(self, volume_id: VolumeId) -> None:
        with self._changed:
            self._in_hand.discard(volume_id)
            if volume_id in self._again:
                self._again.discard(volume_id)
                self._ready[volume_id] = None
            self._changed.notify()

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _release_due(self) -> float | None:
        now = time.monotonic()
        while self._later and self._later[0][0] <= now:
            _, volume_id = heapq.heappop(self._later)
            if volume_id in self._in_hand:
                self._again.add(volume_id)
            else:
                self._ready[volume_id] = None
        return self._later[0][0] - now if self._later else None
