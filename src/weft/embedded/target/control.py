"""What is said over the target's control socket: one JSON object per line, a request and its reply in turn.

The one who connects must be the target's own user or root. Sizes are bytes, times are seconds.
"""

import contextlib
import socket
import time
from pathlib import Path
from types import TracebackType
from typing import Final, Self, TypeVar

import msgspec

from weft.embedded.failed import Failed
from weft.embedded.target.settings import TargetSettings
from weft.errors import InvalidValueError, UnavailableError
from weft.model import Export, FoundExport, Refusal

CONTROL_VERSION: Final = 2
"""Raised when a client of one version could no longer talk to a target of the other."""

MAXIMUM_LINE: Final = 4 * 2**20


class StatusRequest(msgspec.Struct, frozen=True, tag="status"):
    pass


class CreateExport(msgspec.Struct, frozen=True, tag="create_export"):
    export: Export


class RemoveExport(msgspec.Struct, frozen=True, tag="remove_export"):
    volume_id: str


class ListExports(msgspec.Struct, frozen=True, tag="exports"):
    """volume_id: that one alone, if it is there."""

    volume_id: str | None = None


class ListRefusals(msgspec.Struct, frozen=True, tag="refusals"):
    volume_id: str


class HoldWrites(msgspec.Struct, frozen=True, tag="hold_writes"):
    """Hold writes until released, until the connection ends, or for `seconds`."""

    volume_id: str
    seconds: float


class ReleaseWrites(msgspec.Struct, frozen=True, tag="release_writes"):
    volume_id: str


class Stop(msgspec.Struct, frozen=True, tag="stop"):
    """End the process; the reply comes before it does."""


Request = (
    StatusRequest
    | CreateExport
    | RemoveExport
    | ListExports
    | ListRefusals
    | HoldWrites
    | ReleaseWrites
    | Stop
)


class PortalStatus(msgspec.Struct, frozen=True, kw_only=True):
    """portal: `address:port`. reason: why it is not bound, empty when it is."""

    portal: str
    bound: bool
    reason: str = ""


class TargetStatus(msgspec.Struct, frozen=True, kw_only=True, tag="status"):
    """connections: how many each host NQN has. settings: what the process was started with."""

    pid: int
    version: str
    control_version: int
    portals: tuple[PortalStatus, ...]
    exports: int
    connections: dict[str, int]
    settings: TargetSettings | None = None


class Exported(msgspec.Struct, frozen=True, tag="exported"):
    """portals: the bound ones, `address:port`, that lead to the export."""

    nqn: str
    portals: tuple[str, ...]


class Exports(msgspec.Struct, frozen=True, tag="exports"):
    exports: tuple[FoundExport, ...]


class Refusals(msgspec.Struct, frozen=True, tag="refusals"):
    """The last first."""

    refusals: tuple[Refusal, ...]


class Released(msgspec.Struct, frozen=True, tag="released"):
    """lasted: no write got through while the hold was wanted."""

    lasted: bool


class Done(msgspec.Struct, frozen=True, tag="done"):
    pass


Reply = TargetStatus | Exported | Exports | Refusals | Released | Done | Failed
ReplyT = TypeVar("ReplyT", TargetStatus, Exported, Exports, Refusals, Released, Done)


def encode_line(message: Request | Reply) -> bytes:
    return msgspec.json.encode(message, enc_hook=str) + b"\n"


def decode_request(line: bytes) -> Request:
    """Raises InvalidValueError."""
    try:
        return _requests.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidValueError("request", str(error)) from None


def decode_reply(line: bytes) -> Reply:
    """Raises InvalidValueError."""
    try:
        return _replies.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidValueError("reply", str(error)) from None


def _decode_hook(kind: type, value: object) -> object:
    if kind is Path and isinstance(value, str):
        return Path(value)
    raise NotImplementedError(f"{kind.__name__} does not travel over the control socket")


_requests: Final[msgspec.json.Decoder[Request]] = msgspec.json.Decoder(Request, dec_hook=_decode_hook)
_replies: Final[msgspec.json.Decoder[Reply]] = msgspec.json.Decoder(Reply, dec_hook=_decode_hook)


class ControlClient:
    """A connection to the target's control socket. Used by one thread at a time."""

    def __init__(self, path: Path, *, connect_within: float = 0.0) -> None:
        """Connect; a socket that is not there or refuses is tried again for connect_within seconds.

        Raises UnavailableError.
        """
        self._path = path
        self._socket = _connect(path, connect_within)
        self._lines = self._socket.makefile("rb")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def call(self, request: Request, reply_type: type[ReplyT], *, timeout: float = 60.0) -> ReplyT:
        """Ask and wait for the answer.

        Raises the error that the target answers with, and UnavailableError when it does not answer within timeout
        seconds or goes away.
        """
        try:
            self._socket.settimeout(timeout)
            self._socket.sendall(encode_line(request))
            line = self._lines.readline(MAXIMUM_LINE)
        except OSError as error:
            raise UnavailableError(f"the target at {self._path} did not answer: {error}") from None
        if not line.endswith(b"\n"):
            raise UnavailableError(f"the target at {self._path} went away before it answered")
        reply = decode_reply(line)
        if isinstance(reply, Failed):
            raise reply.error()
        if not isinstance(reply, reply_type):
            raise UnavailableError(f"the target at {self._path} answered something else: {reply}")
        return reply

    def wait_until_gone(self, timeout: float) -> bool:
        """Wait for the target's end, at most timeout seconds; nothing else may be under way here."""
        self._socket.settimeout(timeout)
        try:
            return self._socket.recv(1) == b""
        except TimeoutError:
            return False
        except OSError:
            return True

    def close(self) -> None:
        self._lines.close()
        self._socket.close()

    def interrupt(self) -> None:
        """Make wait_until_gone return; called from another thread."""
        with contextlib.suppress(OSError):  # closed already: nobody waits
            self._socket.shutdown(socket.SHUT_RDWR)


def _connect(path: Path, within: float) -> socket.socket:
    deadline = time.monotonic() + within
    while True:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.settimeout(5)
            connection.connect(str(path))
        except OSError as error:
            connection.close()
            if time.monotonic() >= deadline:
                raise UnavailableError(
                    f"the embedded target does not answer at {path}: {error.strerror or error}"
                ) from None
            time.sleep(0.02)
        else:
            return connection
