"""The sockets that the API listens on."""

import errno
import fcntl
import logging
import os
import socket
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from weft.errors import ConflictError, UnavailableError, WeftError

_log = logging.getLogger("weft.api")

_BACKLOG = 128
_PROBE_SECONDS = 1.0
_LOCK_SECONDS = 5.0
_FREEBIND = {
    socket.AF_INET: (socket.IPPROTO_IP, 15),
    socket.AF_INET6: (socket.IPPROTO_IPV6, 78),
}
"""IP_FREEBIND of linux/in.h and IPV6_FREEBIND of linux/in6.h, which the socket module does not name; see ip(7)."""


class UnixListener:
    """A listening unix socket that only its owner can connect to.

    A socket that a dead process left at path is replaced. Raises ConflictError when somebody answers there.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        with _errors(str(path)):
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with _alone_in(path.parent):
                _refuse_live(path)
                path.unlink(missing_ok=True)
                self.socket = _listen_unix(path)
            self._inode = path.stat().st_ino

    def close(self) -> None:
        """Stop listening, and remove the socket's file unless somebody has replaced it."""
        self.socket.close()
        with suppress(FileNotFoundError):
            if self._path.stat().st_ino == self._inode:
                self._path.unlink()


def listen_tcp(address: str, port: int) -> socket.socket:
    """A listening TCP socket, also at an address that this machine has only later, as where a network is slow to come up.

    Raises ConflictError when the port is taken, UnavailableError for what can be no address of this machine.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with _errors(f"{address} port {port}"):
        listener = socket.socket(family, socket.SOCK_STREAM)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            # Connections inherit it. asyncio would not set it on a socket whose protocol is not named, and an answer
            # of two segments would wait 40 ms for the client's delayed acknowledgement.
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if family == socket.AF_INET6:
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            _bind(listener, address, port)
            listener.listen(_BACKLOG)
        except BaseException:
            listener.close()
            raise
    return listener


def _bind(listener: socket.socket, address: str, port: int) -> None:
    try:
        listener.bind((address, port))
    except OSError as error:
        if error.errno != errno.EADDRNOTAVAIL:
            raise
        listener.setsockopt(*_FREEBIND[listener.family], 1)
        listener.bind((address, port))
        _log.warning(
            "the API listens at %s port %d, an address that this machine does not have yet", address, port
        )


def _listen_unix(path: Path) -> socket.socket:
    """Nobody can connect before listen(), so the mode may be set after bind() has made the file."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(str(path))
        path.chmod(0o600)
        listener.listen(_BACKLOG)
    except BaseException:
        listener.close()
        raise
    return listener


def _refuse_live(path: Path) -> None:
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise ConflictError(f"{path} is in the way: it is not a socket; move it elsewhere")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(_PROBE_SECONDS)
        try:
            probe.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return
        except OSError:
            pass
    raise ConflictError(f"another weft serve already answers at {path}; stop it first")


@contextmanager
def _alone_in(directory: Path) -> Iterator[None]:
    """Keep others from doing the same in this directory meanwhile."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        deadline = time.monotonic() + _LOCK_SECONDS
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise ConflictError(f"another weft serve keeps {directory} locked") from None
                time.sleep(0.05)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def _errors(where: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise _translated(error, where) from error


def _translated(error: OSError, where: str) -> WeftError:
    if error.errno == errno.EADDRINUSE:
        return ConflictError(f"the API cannot listen at {where}: another program does")
    return UnavailableError(f"the API cannot listen at {where}: {error.strerror}")
