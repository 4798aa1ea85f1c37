"""Ending a fake process at a chosen effect.

An effect is one change of a fake's world. A fake announces each effect twice, before and after it happens, so a
plan can end the process with the change not made, or made but not yet known to whoever asked for it. What a fake
has in memory is the world: it outlives the Crash, as a disk outlives a process.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum


class Crash(BaseException):
    """The process ended here. No code of weft's may catch it: a dead process cleans nothing up."""


class Moment(StrEnum):
    BEFORE = "before"
    AFTER = "after"


@dataclass(frozen=True, slots=True)
class Point:
    """A place where a process can end: the name of an effect, such as `driver.create`, and which side of it."""

    effect: str
    moment: Moment


class CrashPlan:
    """Says where the process ends, and what fails. Each order is used up when it comes true.

    One plan can be given to several fakes; then their effects count together. Safe to use from several threads.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._points: list[Point] = []
        self._countdown: int | None = None
        self._failures: dict[str, list[Exception]] = {}
        self.passed: list[Point] = []
        """Every point that was reached, in order, those that crashed included."""

    def crash_at(self, effect: str, moment: Moment = Moment.BEFORE) -> None:
        """End the process the next time that it reaches this point."""
        with self._lock:
            self._points.append(Point(effect, moment))

    def crash_after(self, points: int) -> None:
        """End the process once so many more points have passed: 0 is the very next one."""
        with self._lock:
            self._countdown = points

    def fail(self, effect: str, error: Exception, times: int = 1) -> None:
        """Have the effect raise error instead of happening, so many times."""
        with self._lock:
            self._failures.setdefault(effect, []).extend([error] * times)

    def clear(self) -> None:
        """Forget all orders that have not come true."""
        with self._lock:
            self._points.clear()
            self._countdown = None
            self._failures.clear()

    @contextmanager
    def effect(self, name: str) -> Iterator[None]:
        """Announce an effect: `with plan.effect("driver.create"): change the world`."""
        self._pass(Point(name, Moment.BEFORE))
        with self._lock:
            waiting = self._failures.get(name)
            failure = waiting.pop(0) if waiting else None
        if failure is not None:
            raise failure
        yield
        self._pass(Point(name, Moment.AFTER))

    def _pass(self, point: Point) -> None:
        with self._lock:
            self.passed.append(point)
            if point in self._points:
                self._points.remove(point)
                raise Crash(f"{point.moment} {point.effect}")
            if self._countdown is not None:
                self._countdown -= 1
                if self._countdown < 0:
                    self._countdown = None
                    raise Crash(f"{point.moment} {point.effect}")


def crashes(verb: Callable[[], object]) -> bool:
    """Run verb; tell whether the process ended in it."""
    try:
        verb()
    except Crash:
        return True
    return False
