"""Threads that write to a volume and read back what they have written, and know every byte of it."""

import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from weft.embedded.host import Volume


class CheckedWriter(threading.Thread):
    """Owns [start, start + length) of the volume; writes of any size at any offset in it, each third one read back."""

    def __init__(self, volume: Volume, start: int, length: int, seed: int) -> None:
        super().__init__()
        self._volume = volume
        self._start_at = start
        self._content = bytearray(length)
        self._random = random.Random(seed)
        self._stop_event = threading.Event()
        self.rounds = 0
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            while not self._stop_event.is_set():
                self._round()
                self.rounds += 1
        except BaseException as error:  # noqa: BLE001 -- the test looks at it
            self.error = error

    def finish(self) -> None:
        """Stop, and check every byte."""
        self._stop_event.set()
        self.join(60)
        assert not self.is_alive(), "a writer hangs"
        assert self.error is None, f"I/O error: {self.error!r}"
        self.check(self._volume.read(self._start_at, len(self._content)))

    def check(self, content: bytes) -> None:
        assert content == self._content, "bytes differ from what was written"

    def expect_in(self, backing: bytes) -> None:
        self.check(backing[self._start_at : self._start_at + len(self._content)])

    def _round(self) -> None:
        length = self._random.choice([1, 100, 512, 4096, 5000, 65536, 300_000])
        length = min(length, len(self._content))
        offset = self._random.randrange(len(self._content) - length + 1)
        if self._random.random() < 0.5:
            offset -= offset % 512
        action = self._random.random()
        if action < 0.6:
            data = self._random.randbytes(length)
            self._volume.write(self._start_at + offset, data)
            self._content[offset : offset + length] = data
        elif action < 0.65:
            self._volume.flush()
        elif action < 0.7:
            self._volume.write_zeroes(self._start_at + offset, length)
            self._content[offset : offset + length] = bytes(length)
        else:
            read = self._volume.read(self._start_at + offset, length)
            assert read == self._content[offset : offset + length], "read something that was not written"


@contextmanager
def checked_writers(
    volume: Volume, *, threads: int = 4, length: int = 2**20
) -> Iterator[list[CheckedWriter]]:
    """Writers side by side; where they meet, blocks are shared by two of them."""
    writers = [CheckedWriter(volume, index * (length + 100), length + 100, index) for index in range(threads)]
    for writer in writers:
        writer.start()
    try:
        yield writers
    finally:
        for writer in writers:
            writer.finish()
