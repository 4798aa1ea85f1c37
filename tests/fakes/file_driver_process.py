"""A process that runs one verb of a FileDriver and kills itself, with SIGKILL, at a chosen step of it.

Started once, it forks for every verb, which costs milliseconds instead of an interpreter's start.
"""

import os
import pickle
import signal
import subprocess
import sys
import traceback
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from weft.drivers.file import FileDriver
from weft.model import Snapshot, Volume

_TESTS = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class _Request:
    root: Path
    verb: str
    arguments: tuple[Volume | Snapshot, ...]
    die_at: int


class FileDriverProcess:
    """The parent's side; a context manager, which ends the process."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "fakes.file_driver_process"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(_TESTS), *filter(None, sys.path)])},
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.communicate(timeout=10)

    def dies_in(self, root: Path, verb: str, *arguments: Volume | Snapshot, at: int) -> bool:
        """Run a verb on a pool, ending the process at the given step; False when the verb was done before it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        pickle.dump(_Request(root, verb, arguments, at), self._process.stdin)
        self._process.stdin.flush()
        status: int = pickle.load(self._process.stdout)
        assert status in {0, -signal.SIGKILL}, f"{verb} failed in its process"
        return status == -signal.SIGKILL


class _Countdown:
    """Counts steps once it is running, and kills this process at the last."""

    def __init__(self, steps: int) -> None:
        self._left = steps
        self.running = False

    def __call__(self, *_: object) -> None:
        if self.running and self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        self._left -= self.running


def _run(request: _Request) -> None:
    countdown = _Countdown(request.die_at)
    driver = FileDriver(request.root, step=countdown, progress=countdown)
    countdown.running = True
    getattr(driver, request.verb)(*request.arguments)


def _serve() -> None:
    while True:
        try:
            request: _Request = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        child = os.fork()
        if child == 0:
            try:
                _run(request)
            except BaseException:  # noqa: BLE001 -- told to the parent by the exit code
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        pickle.dump(os.waitstatus_to_exitcode(status), sys.stdout.buffer)
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    _serve()
