"""Reads and writes that know what they must read, going on while processes are killed."""

import os
import random
import threading
import time
from typing import Protocol

BLOCK = 16 * 1024


class BlockDevice(Protocol):
    def read(self, offset: int, length: int) -> bytes: ...

    def write(self, offset: int, data: bytes) -> object: ...

    def flush(self) -> None: ...


class PathDevice:
    """A device or file by its path."""

    def __init__(self, path: str) -> None:
        self._descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)

    def read(self, offset: int, length: int) -> bytes:
        return os.pread(self._descriptor, length, offset)

    def write(self, offset: int, data: bytes) -> int:
        return os.pwrite(self._descriptor, data, offset)

    def flush(self) -> None:
        os.fsync(self._descriptor)

    def close(self) -> None:
        os.close(self._descriptor)


class VerifyingIo:
    """Writes blocks below size bytes at random, flushes, reads them back and compares, until stop()."""

    def __init__(self, device: BlockDevice, size: int) -> None:
        self._device = device
        self._blocks = size // BLOCK
        self._written: dict[int, bytes] = {}
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="verifying-io")
        self.operations = 0
        self.longest_pause = 0.0
        self.errors: list[str] = []

    def start(self) -> None:
        self._thread.start()

    def wait_for_operations(self, more: int, seconds: float = 30.0) -> None:
        """Until so many more operations were done; raises TimeoutError when they are not within seconds."""
        wanted = self.operations + more
        deadline = time.monotonic() + seconds
        while self.operations < wanted and not self.errors:
            if time.monotonic() > deadline:
                raise TimeoutError(f"I/O did not go on within {seconds:g} s")
            time.sleep(0.005)

    def stop(self) -> None:
        """End the I/O and compare everything that was written once more."""
        self._stopping.set()
        self._thread.join(60)
        for block, content in self._written.items():
            self._compare(block, content)

    def _run(self) -> None:
        source = random.Random(7)
        last = time.monotonic()
        while not self._stopping.is_set() and not self.errors:
            try:
                self._step(source)
            except Exception as error:
                self.errors.append(f"{type(error).__name__}: {error}")
            self.operations += 1
            now = time.monotonic()
            self.longest_pause, last = max(self.longest_pause, now - last), now

    def _step(self, source: random.Random) -> None:
        block = source.randrange(self._blocks)
        content = source.randbytes(BLOCK)
        self._device.write(block * BLOCK, content)
        self._written[block] = content
        if source.random() < 0.1:
            self._device.flush()
        known = source.choice(list(self._written))
        self._compare(known, self._written[known])

    def _compare(self, block: int, content: bytes) -> None:
        if self._device.read(block * BLOCK, BLOCK) != content:
            self.errors.append(f"block {block} reads back differently")
