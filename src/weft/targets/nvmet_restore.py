"""Which subsystems are ready to be shown, and whether portals must still wait for some.

After a restart of the machine hosts wait for their volumes, trying to connect again and again. A portal that does not
listen does them no harm; one that listens and does not have their subsystem makes them give up for good. So portals
open when everything that hosts may be waiting for is there, or after a configured time without what is still missing.
"""

import logging
import threading
import time
from collections.abc import Collection, Sequence

_log = logging.getLogger(__name__)


class Restore:
    """Safe to use from any thread. seconds: for how long missing subsystems are waited for."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._lock = threading.Lock()
        self._ready: dict[str, None] = {}
        self._expected: set[str] = set()
        self._awaited: set[str] = set()
        self._deadline: float | None = None
        self._is_told = False

    def expect(self, nqns: set[str], *, open_already: bool) -> None:
        """Wait for these; open_already: all portals listen, so that nothing is gained by waiting."""
        with self._lock:
            self._is_told = True
            self._expected = set(nqns)
            self._awaited = set() if open_already else nqns - self._ready.keys()
            self._deadline = time.monotonic() + self._seconds if self._awaited else None

    def expect_nothing_more(self) -> None:
        """Exports are being made: if nothing was expected until now, nothing is."""
        self._is_told = True

    def start_waiting(self) -> None:
        """Begin the time anew, for until now nothing could be made."""
        with self._lock:
            if self._awaited:
                self._deadline = time.monotonic() + self._seconds

    def made(self, *nqns: str) -> None:
        """These subsystems are complete."""
        with self._lock:
            self._ready.update(dict.fromkeys(nqns))
            self._awaited.difference_update(nqns)

    def lost(self, nqns: Collection[str]) -> None:
        """Somebody took these away, whose hosts wait for them: they are waited for once more."""
        with self._lock:
            for each in nqns:
                self._ready.pop(each, None)
            self._expected.update(nqns)
            if not self._awaited:
                self._deadline = time.monotonic() + self._seconds
            self._awaited.update(nqns)

    def removed(self, nqn: str) -> None:
        with self._lock:
            self._ready.pop(nqn, None)
            self._awaited.discard(nqn)
            self._expected.discard(nqn)

    def ready(self) -> Sequence[str]:
        """What is to be shown."""
        with self._lock:
            return list(self._ready)

    def has_ready(self) -> bool:
        """Whether anything is to be shown."""
        return bool(self._ready)

    def was_expected(self, nqn: str) -> bool:
        return nqn in self._expected

    def awaits(self, nqn: str) -> bool:
        return nqn in self._awaited

    def is_over(self) -> bool:
        """Whether portals may open: not before it is known what hosts may be waiting for."""
        return self._is_told and not self._awaited

    def waiting(self) -> str | None:
        """What portals wait for, a sentence; None if for nothing."""
        with self._lock:
            if not self._awaited or self._deadline is None:
                return None
            left = max(0.0, self._deadline - time.monotonic())
            return (
                f"portals open once the exports of all volumes are there, at the latest in {left:.0f} s:"
                f" {len(self._awaited)} of {len(self._expected)} are missing"
            )

    def seconds_left(self) -> float | None:
        """Until give_up_when_due() gives up; None if it is waiting for nothing."""
        with self._lock:
            if not self._awaited or self._deadline is None:
                return None
            return max(0.0, self._deadline - time.monotonic())

    def give_up_when_due(self) -> None:
        with self._lock:
            if self._awaited and self._deadline is not None and time.monotonic() >= self._deadline:
                _log.error(
                    "portals open without %d of %d volumes, which are not there after %g s; their hosts may have to"
                    " attach them again: %s",
                    len(self._awaited),
                    len(self._expected),
                    self._seconds,
                    ", ".join(sorted(self._awaited)[:10]),
                )
                self._awaited.clear()
