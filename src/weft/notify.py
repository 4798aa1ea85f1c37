"""Telling the service manager how this process is, by sd_notify(3) without its library, and asking what it is doing.

Where nobody asked to be told (NOTIFY_SOCKET is not set), nothing happens.
"""

import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

from weft.errors import CommandError, WeftError
from weft.run import run

_SECONDS: Final = 1.0
_STATE_SECONDS: Final = 10.0
_SYSTEMD: Final = Path("/run/systemd/system")
_MICROSECONDS: Final = 1_000_000


def notify(state: str) -> None:
    """Say `READY=1`, `STOPPING=1`, `WATCHDOG=1` or `STATUS=...`. A manager that does not listen is no failure."""
    name = os.environ.get("NOTIFY_SOCKET", "")
    if not name.startswith(("/", "@")):
        return
    address = f"\0{name[1:]}" if name.startswith("@") else name
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as to_manager:
            to_manager.settimeout(_SECONDS)
            to_manager.sendto(state.encode(), address)
    except OSError:
        return


def machine_is_going_down() -> bool:
    """Whether the service manager takes all of the machine down, and not this service alone."""
    if not _SYSTEMD.is_dir():
        return False
    try:
        run(["systemctl", "is-system-running"], timeout=_STATE_SECONDS)
    except CommandError as error:
        return error.stderr.strip() == "stopping"
    except WeftError:
        return False
    return False


def watchdog_seconds() -> float | None:
    """Within what time this process must say that it lives, again and again; None where nobody waits for that."""
    text, process = os.environ.get("WATCHDOG_USEC", ""), os.environ.get("WATCHDOG_PID", str(os.getpid()))
    if not text.isdecimal() or process != str(os.getpid()) or int(text) == 0:
        return None
    return int(text) / _MICROSECONDS


def wait_watched(stop: threading.Event, check: Callable[[], None]) -> None:
    """Wait for stop and, meanwhile, tell the watchdog that this process lives, as long as check returns.

    A check that hangs or raises keeps the word from the watchdog; what it raises comes out of here.
    """
    allowed = watchdog_seconds()
    if allowed is None:
        stop.wait()
        return
    while not stop.wait(allowed / 3):
        check()
        notify("WATCHDOG=1")
