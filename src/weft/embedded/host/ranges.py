"""Byte ranges of a volume: how they fall into commands, and who may write them at one time."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a request that one command moves. offset: bytes from the volume's start; start: in the request."""

    offset: int
    length: int
    start: int


@dataclass(frozen=True, slots=True)
class Parts:
    """A byte range cut at block boundaries: the whole blocks, and what hangs over at either side.

    head and tail each lie in one block and do not fill it; length 0 says that there is none. All are bytes.
    """

    head_offset: int
    head_length: int
    body_offset: int
    body_length: int
    tail_offset: int
    tail_length: int


def cut(offset: int, length: int, block_size: int) -> Parts:
    """Cut a range at block boundaries; a range within one block is all head."""
    end = offset + length
    body_offset = round_up(offset, block_size)
    body_end = round_down(end, block_size)
    if body_offset > body_end:
        return Parts(offset, length, end, 0, end, 0)
    return Parts(offset, body_offset - offset, body_offset, body_end - body_offset, body_end, end - body_end)


def pieces(offset: int, length: int, maximum: int) -> Iterator[Piece]:
    """Cut a range into pieces of at most maximum bytes, in order.

    Cuts lie at multiples of maximum from the volume's start, so that neighbouring requests meet at the same places.
    """
    start = 0
    while start < length:
        position = offset + start
        size = min(length - start, maximum - position % maximum)
        yield Piece(position, size, start)
        start += size


def round_down(value: int, unit: int) -> int:
    return value - value % unit


def round_up(value: int, unit: int) -> int:
    return -(-value // unit) * unit


class RangeLock:
    """Lets a reader-modifier-writer of some bytes have them alone, while plain writers go side by side.

    First come, first served, so nobody waits for ever, and a holder of one range cannot wait for a second: take
    one at a time.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._claims: dict[int, tuple[int, int, bool]] = {}  # in order of arrival: start, end, alone
        self._next = 0
        self._alone = 0

    @contextmanager
    def shared(self, start: int, end: int) -> Iterator[None]:
        """Hold [start, end) beside others that share it."""
        with self._held(start, end, alone=False):
            yield

    @contextmanager
    def alone(self, start: int, end: int) -> Iterator[None]:
        """Hold [start, end) with nobody else in it."""
        with self._held(start, end, alone=True):
            yield

    @contextmanager
    def _held(self, start: int, end: int, *, alone: bool) -> Iterator[None]:
        with self._changed:
            number = self._next
            self._next += 1
            self._claims[number] = (start, end, alone)
            self._alone += alone
            try:
                while self._blocked(number, start, end, alone=alone):
                    self._changed.wait()
            except BaseException:
                self._release(number, alone=alone)
                raise
        try:
            yield
        finally:
            with self._changed:
                self._release(number, alone=alone)

    def _blocked(self, number: int, start: int, end: int, *, alone: bool) -> bool:
        if not self._alone:
            return False
        for other, (other_start, other_end, other_alone) in self._claims.items():
            if other == number:
                return False
            if (alone or other_alone) and start < other_end and other_start < end:
                return True
        return False

    def _release(self, number: int, *, alone: bool) -> None:
        del self._claims[number]
        self._alone -= alone
        self._changed.notify_all()
