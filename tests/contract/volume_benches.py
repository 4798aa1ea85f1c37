"""A driver and what a test does around it, for each kind of driver."""

import os
from pathlib import Path
from typing import Protocol

from fakes.crash import Crash
from fakes.driver import FakeVolumeDriver
from fakes.file_driver_process import FileDriverProcess
from weft.drivers.file import FileDriver
from weft.model import Snapshot, Volume
from weft.ports import VolumeDriver


class Bench(Protocol):
    """A driver, and what a test does around it."""

    driver: VolumeDriver

    def write(self, volume: Volume, offset: int, data: bytes) -> None: ...

    def read(self, volume: Volume, offset: int, length: int) -> bytes: ...

    def dies_in(self, verb: str, *arguments: Volume | Snapshot, at: int) -> bool:
        """Run a verb in a process that ends at the given point; False when the verb was done before it."""

    def leftovers(self) -> list[str]:
        """What is there and neither a volume nor a snapshot."""


class FileBench:
    def __init__(self, root: Path, process: FileDriverProcess) -> None:
        self._root = root
        self._process = process
        self.driver: VolumeDriver = FileDriver(root)

    def write(self, volume: Volume, offset: int, data: bytes) -> None:
        write_to(self.driver.path(volume), offset, data)

    def read(self, volume: Volume, offset: int, length: int) -> bytes:
        return read_from(self.driver.path(volume), offset, length)

    def dies_in(self, verb: str, *arguments: Volume | Snapshot, at: int) -> bool:
        return self._process.dies_in(self._root, verb, *arguments, at=at)

    def leftovers(self) -> list[str]:
        empty = [each for each in (self._root / "snapshots").iterdir() if not any(each.iterdir())]
        return [str(path) for path in [*self._root.rglob(".*"), *empty]]


class FakeBench:
    def __init__(self) -> None:
        self._fake = FakeVolumeDriver()
        self.driver: VolumeDriver = self._fake

    def write(self, volume: Volume, offset: int, data: bytes) -> None:
        self._fake.write(volume.id, offset, data)

    def read(self, volume: Volume, offset: int, length: int) -> bytes:
        return self._fake.read(volume.id, offset, length)

    def dies_in(self, verb: str, *arguments: Volume | Snapshot, at: int) -> bool:
        self._fake.plan.crash_after(at)
        try:
            getattr(self._fake, verb)(*arguments)
        except Crash:
            return True
        self._fake.plan.clear()
        return False

    def leftovers(self) -> list[str]:
        return sorted(self._fake.leftovers)


def write_to(path: Path, offset: int, data: bytes) -> None:
    with path.open("r+b") as file:
        os.pwrite(file.fileno(), data, offset)
        os.fsync(file.fileno())


def read_from(path: Path, offset: int, length: int) -> bytes:
    with path.open("rb") as file:
        return os.pread(file.fileno(), length, offset)
