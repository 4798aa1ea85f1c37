"""The only place that starts a process."""

import contextlib
import os
import subprocess
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from weft.errors import CommandError, UnavailableError, UnsupportedError

_KILLED_TIMEOUT: Final = 5.0


@dataclass(frozen=True, slots=True)
class Completed:
    """What a program printed before it ended well."""

    stdout: str
    stderr: str


def _environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    return {**os.environ, "LC_ALL": "C.UTF-8", **(extra or {})}


def run(argv: Sequence[str], *, timeout: float, stdin: str | None = None) -> Completed:
    """Run a program to its end, without a shell, for at most timeout seconds.

    Raises CommandError when it exits with anything but 0, UnsupportedError when it is not installed, and
    UnavailableError when it cannot be started or had to be ended because of the timeout. One that waits in the kernel, as
    for a dead device, cannot be ended: some seconds later it is left behind.
    """
    try:
        process = subprocess.Popen(
            list(argv),
            stdin=subprocess.PIPE if stdin is not None else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            errors="replace",
            env=_environment(),
        )
    except FileNotFoundError:
        raise UnsupportedError(f"{argv[0]} is not installed on this machine") from None
    except OSError as error:
        raise UnavailableError(f"{argv[0]} cannot be started: {error.strerror}") from error
    try:
        stdout, stderr = process.communicate(stdin, timeout)
    except subprocess.TimeoutExpired:
        if _end(process):
            raise UnavailableError(f"{argv[0]} did not end within {timeout:g} s and was stopped") from None
        raise UnavailableError(
            f"{argv[0]} did not end within {timeout:g} s, nor when it was killed: its process {process.pid} hangs in the"
            " kernel, as one does that waits for a device which does not answer"
        ) from None
    except BaseException:
        _end(process)
        raise
    if process.returncode != 0:
        raise CommandError(tuple(argv), process.returncode, stderr or stdout)
    return Completed(stdout, stderr)


def _end(process: "subprocess.Popen[str]") -> bool:
    """Kill a process; whether it is gone then, or hangs on and is left behind."""
    process.kill()
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None:
            with contextlib.suppress(OSError):
                pipe.close()
    try:
        process.wait(_KILLED_TIMEOUT)
    except subprocess.TimeoutExpired:
        _keep_until_ended(process)
        return False
    return True


class Daemon:
    """A process that was started to outlive the one that started it."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self._process = process

    @property
    def pid(self) -> int:
        return self._process.pid

    def exit_code(self) -> int | None:
        """Its exit code, or None while it runs; also takes the zombie away."""
        return self._process.poll()

    def wait(self, timeout: float) -> int | None:
        """Its exit code, or None if it still runs after timeout seconds."""
        try:
            return self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            return None

    def kill(self) -> None:
        self._process.kill()


def start_daemon(argv: Sequence[str], *, log: Path, environment: Mapping[str, str] | None = None) -> Daemon:
    """Start a program in a session of its own, with its output appended to log (mode 0600) and no input.

    Raises UnsupportedError when the program is not installed, UnavailableError when it cannot be started.
    """
    try:
        descriptor = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise UnavailableError(f"the log {log} cannot be written: {error.strerror}") from error
    try:
        process = subprocess.Popen(
            list(argv),
            stdin=subprocess.DEVNULL,
            stdout=descriptor,
            stderr=descriptor,
            start_new_session=True,
            env=_environment(environment),
            cwd="/",
        )
    except FileNotFoundError:
        raise UnsupportedError(f"{argv[0]} is not installed on this machine") from None
    except OSError as error:
        raise UnavailableError(f"{argv[0]} cannot be started: {error.strerror}") from error
    finally:
        os.close(descriptor)
    _keep_until_ended(process)
    return Daemon(process)


_running: "list[subprocess.Popen[bytes] | subprocess.Popen[str]]" = []
_running_lock = threading.Lock()


def _keep_until_ended(process: "subprocess.Popen[bytes] | subprocess.Popen[str]") -> None:
    """Hold on to a process until it has ended, so that no zombie stays of one that its starter has forgotten."""
    with _running_lock:
        _running[:] = [each for each in _running if each.poll() is None]
        _running.append(process)
