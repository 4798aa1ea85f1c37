"""Knowing a process again: by its id, when it started and in which boot of the machine, so that a reused id fools nobody."""

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from weft.errors import UnavailableError

_PROC = Path("/proc")
_POLL = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessIdentity:
    """started: clock ticks after boot (proc(5), stat field 22); boot: the kernel's id of this boot."""

    pid: int
    started: int
    boot: str

    @classmethod
    def of(cls, pid: int) -> "ProcessIdentity | None":
        """The process that has this id now; None if there is none, or it has ended and only waits to be reaped."""
        started = _started(pid)
        return None if started is None else cls(pid=pid, started=started, boot=_boot())

    def alive(self) -> bool:
        return ProcessIdentity.of(self.pid) == self

    def send(self, number: signal.Signals) -> None:
        """Send a signal to this process and to no other; nothing if it has ended or is another user's."""
        try:
            descriptor = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return
        try:  # from here on the descriptor means one process, and whether it is this one can be asked in peace
            if self.alive() and _owner(self.pid) == os.geteuid():
                signal.pidfd_send_signal(descriptor, number)
        except ProcessLookupError:
            return
        finally:
            os.close(descriptor)

    def wait(self, timeout: float) -> None:
        """Until it has ended. Raises UnavailableError after timeout seconds."""
        deadline = time.monotonic() + timeout
        while self.alive():
            if time.monotonic() >= deadline:
                raise UnavailableError(f"process {self.pid} did not end within {timeout:g} s")
            time.sleep(_POLL)


def find_process(*arguments: str) -> ProcessIdentity | None:
    """A process of this user whose command line ends with these arguments."""
    ending = b"".join(argument.encode() + b"\0" for argument in arguments)
    for entry in _PROC.iterdir():
        if not entry.name.isdigit():
            continue
        try:
            found = entry.joinpath("cmdline").read_bytes().endswith(b"\0" + ending)
        except OSError:
            continue
        if found and _owner(int(entry.name)) == os.geteuid():
            return ProcessIdentity.of(int(entry.name))
    return None


def users_below(directory: Path) -> list[str]:
    """Who has a file or a working directory at or below directory, as `name (pid)`, as far as this user may see.

    Reads only links in /proc, so a dead file system cannot stop it.
    """
    processes = (entry for entry in _PROC.iterdir() if entry.name.isdigit())
    return sorted(f"{_name(each)} ({each.name})" for each in processes if _uses(each, str(directory)))


def _uses(process: Path, directory: str) -> bool:
    try:
        links = [process / "cwd", process / "root", *(process / "fd").iterdir()]
    except OSError:
        return False
    for link in links:
        try:
            target = os.readlink(link)  # noqa: PTH115 -- a path object would be made of each descriptor on the machine
        except OSError:
            continue
        if target == directory or target.startswith(directory + "/"):
            return True
    return False


def _name(process: Path) -> str:
    try:
        return process.joinpath("comm").read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return "?"


def _owner(pid: int) -> int | None:
    try:
        return (_PROC / str(pid)).stat().st_uid
    except OSError:
        return None


def _started(pid: int) -> int | None:
    try:
        stat = (_PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    fields = stat[stat.rindex(")") + 2 :].split()  # the name before it may hold spaces and brackets
    return None if fields[0] in {"Z", "X"} else int(fields[19])


def _boot() -> str:
    return (_PROC / "sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
