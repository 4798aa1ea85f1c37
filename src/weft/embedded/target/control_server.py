"""The target's end of its control socket: one thread accepts, and each connection has a thread of its own."""

import contextlib
import errno
import logging
import os
import select
import socket
import struct
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

from weft.embedded.failed import Failed
from weft.embedded.target.control import (
    MAXIMUM_LINE,
    CreateExport,
    Done,
    Exports,
    HoldWrites,
    ListExports,
    ListRefusals,
    Refusals,
    Released,
    ReleaseWrites,
    RemoveExport,
    Reply,
    Request,
    StatusRequest,
    Stop,
    decode_request,
    encode_line,
)
from weft.embedded.target.namespace import Hold
from weft.embedded.target.nvme_target import NvmeTarget
from weft.embedded.target.wake import Wake
from weft.errors import ConflictError, NoSpaceError, NotFoundError, UnavailableError, WeftError
from weft.model import VolumeId
from weft.names import check_id

_log = logging.getLogger(__name__)

MAXIMUM_CLIENTS: Final = 64

_PEER_CREDENTIALS: Final = struct.Struct("iII")  # struct ucred, unix(7): pid, uid, gid


class ControlServer:
    """Listens on a unix socket of mode 0600 and carries out what is asked there."""

    def __init__(self, path: Path, target: NvmeTarget, stop_process: Callable[[], None]) -> None:
        self._path = path
        self._target = target
        self._stop_process = stop_process
        self._lock = threading.Lock()
        self._clients: dict[threading.Thread, socket.socket] = {}
        self._wake = Wake()
        self._stopping = threading.Event()
        self._listening = _listen(path)
        self._thread = threading.Thread(target=self._run, name="control")

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Stop to listen, end all connections and wait for their threads."""
        self._stopping.set()
        self._wake.set()
        self._thread.join()
        self._listening.close()
        self._path.unlink(missing_ok=True)
        with self._lock:
            clients = dict(self._clients)
            for connection in clients.values():
                with contextlib.suppress(OSError):  # its client was faster
                    connection.shutdown(socket.SHUT_RDWR)
        for thread in clients:
            thread.join()
        self._wake.close()

    def _run(self) -> None:
        poller = select.poll()
        poller.register(self._listening, select.POLLIN)
        poller.register(self._wake, select.POLLIN)
        while True:
            poller.poll()
            if self._stopping.is_set():
                return
            try:
                connection, _ = self._listening.accept()
            except OSError as error:
                _log.error("a control connection cannot be accepted: %s", error.strerror)
                self._stopping.wait(0.1)
                continue
            self._welcome(connection)

    def _welcome(self, connection: socket.socket) -> None:
        thread = threading.Thread(target=self._converse, args=(connection,), name="control client")
        with self._lock:
            if _may_control(connection) and len(self._clients) < MAXIMUM_CLIENTS:
                try:
                    thread.start()
                except RuntimeError as error:
                    _log.error("a control connection cannot be served: %s", error)
                else:
                    self._clients[thread] = connection
                    return
        connection.close()

    def _converse(self, connection: socket.socket) -> None:
        session = _Session(self._target)
        try:
            with connection.makefile("rb") as lines:
                while (line := lines.readline(MAXIMUM_LINE)).endswith(b"\n"):
                    connection.sendall(encode_line(session.answer(line)))
                    if session.stop_wanted:
                        self._stop_process()
        except OSError as error:
            _log.info("a control connection is lost: %s", error.strerror or error)
        finally:
            session.close()
            with self._lock:
                del self._clients[threading.current_thread()]
                connection.close()


class _Session:
    """What one control connection has asked for and still holds."""

    def __init__(self, target: NvmeTarget) -> None:
        self.stop_wanted = False
        self._target = target
        self._holds: dict[str, Hold] = {}

    def answer(self, line: bytes) -> Reply:
        try:
            return self._carry_out(decode_request(line))
        except WeftError as error:
            return Failed.of(error)
        except OSError as error:
            return Failed.of(_storage_error(error))

    def close(self) -> None:
        for hold in self._holds.values():
            hold.release()
        self._holds.clear()

    def _carry_out(self, request: Request) -> Reply:
        match request:
            case StatusRequest():
                return self._target.status()
            case CreateExport():
                return self._target.create_export(request.export)
            case RemoveExport():
                self._target.remove_export(_volume_id(request.volume_id))
            case ListExports():
                wanted = None if request.volume_id is None else _volume_id(request.volume_id)
                return Exports(self._target.exports(wanted))
            case ListRefusals():
                return Refusals(self._target.refusals(_volume_id(request.volume_id)))
            case HoldWrites():
                self._hold(_volume_id(request.volume_id), request.seconds)
            case ReleaseWrites():
                return self._release(request.volume_id)
            case Stop():
                self.stop_wanted = True
        return Done()

    def _hold(self, volume_id: VolumeId, seconds: float) -> None:
        if volume_id in self._holds:
            raise ConflictError(f"writes to volume {volume_id} are held already")
        self._holds[volume_id] = self._target.hold_writes(volume_id, seconds)

    def _release(self, volume_id: str) -> Released:
        hold = self._holds.pop(volume_id, None)
        if hold is None:
            raise NotFoundError(f"writes to volume {volume_id} are not held by this connection")
        return Released(hold.release())


def _volume_id(value: str) -> VolumeId:
    return VolumeId(check_id("volume_id", value))


def _storage_error(error: OSError) -> WeftError:
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return NoSpaceError(f"the target cannot keep its records: {error}")
    return UnavailableError(f"the target could not do it: {error}")


def _may_control(connection: socket.socket) -> bool:
    """The file's mode keeps others away already; this holds even where somebody has changed that."""
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER_CREDENTIALS.size)
    pid, uid, _ = _PEER_CREDENTIALS.unpack(credentials)
    if uid in {0, os.geteuid()}:
        return True
    _log.warning("process %d of user %d may not control the target", pid, uid)
    return False


def _listen(path: Path) -> socket.socket:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        os.fchmod(listening.fileno(), 0o600)  # before bind: the file never has another mode
        _remove_stale(path)
        listening.bind(str(path))
        listening.listen(MAXIMUM_CLIENTS)
        listening.setblocking(False)
    except OSError as error:
        listening.close()
        raise UnavailableError(f"the control socket {path} cannot be made: {error.strerror}") from None
    except BaseException:
        listening.close()
        raise
    return listening


def _remove_stale(path: Path) -> None:
    """A socket file that nobody listens on is what a killed target left behind."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except FileNotFoundError:
            return
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
            return
    raise ConflictError(f"another target answers at {path}; give this one a runtime_dir of its own")
