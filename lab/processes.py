"""Processes known by their id and start time, so that no stranger with a recycled id is ever taken for one."""

import contextlib
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Self


@dataclass(frozen=True, slots=True)
class ProcessIdentity:
    pid: int
    start_time: int  # clock ticks after boot, field 22 of /proc/PID/stat

    @classmethod
    def of(cls, pid: int) -> Self:
        """Raises ProcessLookupError when there is no such process."""
        return cls(pid, _start_time(pid))

    @classmethod
    def read(cls, path: Path) -> Self | None:
        """What `write` left in a file; None when there is no such file or it is no identity."""
        try:
            pid, start_time = path.read_text("ascii").split()
            return cls(int(pid), int(start_time))
        except (OSError, ValueError):
            return None

    def write(self, path: Path) -> None:
        path.write_text(f"{self.pid} {self.start_time}\n", "ascii")

    def is_alive(self) -> bool:
        try:
            return _start_time(self.pid) == self.start_time
        except ProcessLookupError:
            return False

    def end(self, *, patience: float) -> None:
        """Ask the process to end, and kill it after patience seconds; nothing happens when it is gone already."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            if not self.is_alive():
                return
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)
            deadline = time.monotonic() + patience
            while self.is_alive() and time.monotonic() < deadline:
                time.sleep(0.05)


def _start_time(pid: int) -> int:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text("utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        raise ProcessLookupError(f"no process {pid}") from None
    fields = stat[stat.rindex(")") + 2 :].split()  # the program's name, field 2, may hold spaces
    if fields[0] in "ZX":
        raise ProcessLookupError(f"process {pid} has ended")
    return int(fields[19])
