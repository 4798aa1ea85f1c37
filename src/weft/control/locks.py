"""The one place where things are locked by their ids."""

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager


class IdLocks:
    """A lock for each id in use. Several are taken in one order, so that two takers never wait for each other."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._locks: dict[str, tuple[threading.Lock, int]] = {}

    @contextmanager
    def hold(self, *ids: str) -> Iterator[None]:
        with ExitStack() as stack:
            for each in sorted(set(ids)):
                stack.enter_context(self._one(each))
            yield

    @contextmanager
    def _one(self, held_id: str) -> Iterator[None]:
        with self._guard:
            lock, takers = self._locks.get(held_id, (threading.Lock(), 0))
            self._locks[held_id] = (lock, takers + 1)
        try:
            with lock:
                yield
        finally:
            with self._guard:
                lock, takers = self._locks[held_id]
                if takers == 1:
                    del self._locks[held_id]
                else:
                    self._locks[held_id] = (lock, takers - 1)
