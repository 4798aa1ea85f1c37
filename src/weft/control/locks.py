"""The one place where things are locked by their ids."""

import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

IdT = TypeVar("IdT", bound=str)


class IdLocks:
    """A lock for each id in use, held alone or shared with others that share it.

    A taker gets all of its ids at once or none yet, so that no two takers can wait for each other.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._alone: set[str] = set()
        self._shared: Counter[str] = Counter()

    @contextmanager
    def hold(self, *alone: str, shared: Collection[str] = (), within: float | None = None) -> Iterator[bool]:
        """Whether they are held inside the block: always, unless that takes longer than within seconds."""
        wanted = frozenset(alone), frozenset(shared) - frozenset(alone)
        with self._changed:
            is_held = self._changed.wait_for(lambda: self._are_free(*wanted), within)
            exclusive, common = wanted if is_held else (frozenset(), frozenset())
            self._alone |= exclusive
            self._shared.update(common)
        try:
            yield is_held
        finally:
            with self._changed:
                self._alone -= exclusive
                self._shared -= Counter(common)
                self._changed.notify_all()

    def _are_free(self, exclusive: frozenset[str], common: frozenset[str]) -> bool:
        return not (
            exclusive & self._alone or common & self._alone or any(self._shared[each] for each in exclusive)
        )


class Turns(Generic[IdT]):
    """So many at a time; who gets no turn is not kept waiting, but called back once there may be one."""

    def __init__(self, turns: int, call_back: Callable[[IdT], None]) -> None:
        self._lock = threading.Lock()
        self._free = turns
        self._call_back = call_back
        self._waiting: dict[IdT, None] = {}

    def take(self, taker: IdT) -> bool:
        """Whether taker has a turn now; then give_back() ends it."""
        with self._lock:
            if self._free == 0:
                self._waiting[taker] = None
                return False
            self._free -= 1
            return True

    def give_back(self) -> None:
        with self._lock:
            self._free += 1
            waiting, self._waiting = self._waiting, {}
        for each in waiting:
            self._call_back(each)
