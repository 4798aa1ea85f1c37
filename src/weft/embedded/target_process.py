"""The embedded target as a process: `weft target`, or `python -m weft.embedded.target_process SETTINGS`.

It serves until SIGTERM or SIGINT, survives the control plane, and restores its exports when it starts again.
"""

import contextlib
import fcntl
import logging
import os
import resource
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from weft.config import Config
from weft.embedded.target.control import ControlClient
from weft.embedded.target.control_server import ControlServer
from weft.embedded.target.nvme_target import NvmeTarget
from weft.embedded.target.settings import DEFAULT_LIMITS, Limits, TargetSettings, decode_settings, settings_of
from weft.errors import ConflictError, UnavailableError, WeftError
from weft.logs import configure_logging

_log = logging.getLogger("weft.embedded.target_process")  # also where this is __main__

_ENDING: Final = {signal.SIGTERM, signal.SIGINT}
_PREDECESSOR_SECONDS: Final = 5.0
_FAILED: Final = 1


def run_target(config: Config) -> int:
    """Serve until a signal says to end; the exit code.

    Raises ConflictError when another target runs on the same directory, and UnavailableError when the directory or
    the control socket cannot be used.
    """
    return serve(settings_of(config))


def serve(settings: TargetSettings, limits: Limits = DEFAULT_LIMITS) -> int:
    """As run_target, with settings. Belongs into the main thread of a process of its own."""
    # Blocked before any thread starts, so that only sigwait below takes them.
    signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING)
    _raise_open_files_limit()
    with _single_instance(Path(settings.target_dir), Path(settings.socket)):
        target = NvmeTarget(settings, limits)
        target.start()
        try:
            control = ControlServer(Path(settings.socket), target, _end_this_process)
            control.start()
            _log.info("the target serves; its process is %d", os.getpid())
            try:
                signal.sigwait(_ENDING)
            finally:
                control.stop()
        finally:
            target.stop()
    _log.info("the target has ended")
    return 0


def _end_this_process() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def _raise_open_files_limit() -> None:
    """Every connection takes two descriptors, every export one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == hard:
        return
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (OSError, ValueError) as error:
        _log.warning("the limit of open files stays at %d: %s", soft, error)


@contextlib.contextmanager
def _single_instance(target_dir: Path, socket: Path) -> Iterator[None]:
    """Hold the directory's lock. A predecessor that was killed keeps it until its last write is done."""
    try:
        target_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(target_dir / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise UnavailableError(f"the target's directory {target_dir} cannot be used: {error}") from None
    try:
        deadline = time.monotonic() + _PREDECESSOR_SECONDS
        while not _lock(descriptor):
            if time.monotonic() >= deadline or _answers(socket):
                raise ConflictError(f"another target runs on {target_dir}")
            time.sleep(0.02)
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _answers(socket: Path) -> bool:
    try:
        ControlClient(socket).close()
    except UnavailableError:
        return False
    return True


def main() -> int:
    """`python -m weft.embedded.target_process SETTINGS`, where SETTINGS is a TargetSettings as JSON."""
    try:
        settings = decode_settings(sys.argv[1] if len(sys.argv) == 2 else "")
    except WeftError as error:
        sys.stderr.write(f"{error}\n")
        return _FAILED
    configure_logging(settings.log_level, limited=True)
    try:
        return serve(settings)
    except WeftError as error:
        _log.error("%s", error)
        return _FAILED


if __name__ == "__main__":
    sys.exit(main())
