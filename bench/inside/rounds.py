"""Handing rounds to the outer half."""

import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager


def print_round(measured: Mapping[str, float]) -> None:
    sys.stdout.write(json.dumps(dict(measured)) + "\n")
    sys.stdout.flush()


def wait_until(holds: Callable[[], bool], *, seconds: float, what: str, pause: float = 0.02) -> None:
    """Raises TimeoutError when it does not hold within seconds."""
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {seconds:g} s")
        time.sleep(pause)


class Stopwatch:
    """seconds: how long the block took, or has taken until now."""

    def __init__(self) -> None:
        self._began = time.perf_counter()
        self._ended: float | None = None

    @property
    def seconds(self) -> float:
        return (self._ended or time.perf_counter()) - self._began

    def stop(self) -> None:
        """Stopped already: nothing."""
        self._ended = self._ended or time.perf_counter()


@contextmanager
def timed() -> Iterator[Stopwatch]:
    watch = Stopwatch()
    yield watch
    watch.stop()
