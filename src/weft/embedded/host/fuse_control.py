"""What is said to the process that serves a mount: one JSON object per line over its unix socket.

It is asked here, and never through the mount: a system call on a mount whose process hangs cannot be given up.
"""

import contextlib
import os
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import msgspec

from weft.embedded.failed import Failed
from weft.errors import InvalidValueError, UnavailableError, WeftError

MAXIMUM_LINE: Final = 65536
_MAXIMUM_CLIENTS: Final = 16
_IDLE_SECONDS: Final = 60.0
_POLL: Final = 0.02


class Ready(msgspec.Struct, frozen=True, tag="ready"):
    """Answered once the mount is there, or cannot be."""


class Flush(msgspec.Struct, frozen=True, tag="flush"):
    """Answered once everything written is on stable storage."""


class Refresh(msgspec.Struct, frozen=True, tag="refresh"):
    """Ask the target how large the volume is."""


Request = Ready | Flush | Refresh


class State(msgspec.Struct, frozen=True, tag="state"):
    """size: the volume's, in bytes."""

    size: int


Reply = State | Failed

_requests: Final[msgspec.json.Decoder[Request]] = msgspec.json.Decoder(Request)
_replies: Final[msgspec.json.Decoder[Reply]] = msgspec.json.Decoder(Reply)


def ask(path: Path, request: Request, timeout: float) -> State:
    """Ask the process behind a socket.

    Raises the error that it answers with, and UnavailableError when it is not there or takes longer than timeout
    seconds.
    """
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(timeout)
            with _short_name(path) as name:
                connection.connect(name)
            connection.sendall(msgspec.json.encode(request) + b"\n")
            with connection.makefile("rb") as lines:
                line = lines.readline(MAXIMUM_LINE)
    except TimeoutError:
        raise UnavailableError(
            f"the process that serves volume {path.stem} did not answer within {timeout:g} s"
        ) from None
    except OSError as error:
        raise UnavailableError(
            f"the process that serves volume {path.stem} cannot be asked: {error.strerror or error}"
        ) from None
    try:
        reply = _replies.decode(line)
    except msgspec.DecodeError:
        raise UnavailableError(
            f"the process that serves volume {path.stem} ended before it answered"
        ) from None
    if isinstance(reply, Failed):
        raise reply.error()
    return reply


class ControlServer:
    """Answers requests, each connection in a thread of its own. answer gives the volume's size or raises WeftError."""

    def __init__(self, path: Path, answer: Callable[[Request], int]) -> None:
        self._path = path
        self._answer = answer
        self._listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._clients = threading.Semaphore(_MAXIMUM_CLIENTS)
        self._lock = threading.Lock()
        self._open: dict[socket.socket, threading.Thread] = {}
        self._thread = threading.Thread(target=self._run, name="weft-control", daemon=True)
        self._stopping = False
        self._served = 0

    def start(self) -> None:
        """Listen; a socket left by a process that was killed is replaced. It has its name once it can be connected to."""
        new = self._path.with_suffix(".sock.new")
        new.unlink(missing_ok=True)
        with _short_name(new) as name:
            self._listening.bind(name)
        new.chmod(0o600)
        self._listening.listen()
        new.replace(self._path)
        self._thread.start()

    def drain(self, timeout: float) -> None:
        """Wait until somebody has asked and been answered, or timeout seconds have passed."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            with self._lock:
                if self._served and not self._open:
                    return
            time.sleep(_POLL)

    def stop(self) -> None:
        """Take no more requests, cut connections off and wait for the threads. Requests under way must have ended."""
        self._stopping = True
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)  # wakes accept()
        self._thread.join()
        self._listening.close()
        with self._lock:
            still_open = dict(self._open)
        for connection, thread in still_open.items():
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            thread.join()

    def _run(self) -> None:
        while not self._stopping:
            try:
                connection, _ = self._listening.accept()
            except OSError:  # it is over, or descriptors are short: who cannot ask cannot detach
                time.sleep(_POLL)
                continue
            if not self._clients.acquire(blocking=False):
                connection.close()
                continue
            thread = threading.Thread(target=self._serve, args=(connection,), daemon=True)
            with self._lock:
                self._open[connection] = thread
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            connection.settimeout(_IDLE_SECONDS)
            if _peer_uid(connection) in {0, os.geteuid()}:
                self._talk(connection)
        except OSError:
            pass  # who asked is gone
        finally:
            with self._lock:
                del self._open[connection]
                self._served += 1
            connection.close()
            self._clients.release()

    def _talk(self, connection: socket.socket) -> None:
        with connection.makefile("rb") as lines:
            while line := lines.readline(MAXIMUM_LINE):
                try:
                    reply: Reply = State(self._answer(_requests.decode(line)))
                except msgspec.DecodeError as error:
                    reply = Failed.of(InvalidValueError("request", str(error)))
                except WeftError as error:
                    reply = Failed.of(error)
                connection.sendall(msgspec.json.encode(reply) + b"\n")


def _peer_uid(connection: socket.socket) -> int:
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    _, uid, _ = struct.unpack("3i", credentials)
    return int(uid)


@contextlib.contextmanager
def _short_name(path: Path) -> Iterator[str]:
    """A name of the socket that fits into sun_path, however deep its directory lies."""
    directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{directory}/{path.name}"
    finally:
        os.close(directory)
