"""Where an API is, and connections to it whose other end is known before anything is sent."""

import http.client
import socket
import ssl
from dataclasses import dataclass
from urllib.parse import urlsplit

from weft.errors import InvalidValueError, UnauthenticatedError, UnavailableError
from weft.names import is_loopback
from weft.tls import check_pin, pin_of, pinning_context, same_pin, verifying_context

DEFAULT_PORT = 50040
"""OpenSDS's port."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A unix socket, or host and port on TCP. tls: known by pin if there is one, else by the system's authorities."""

    socket: str = ""
    host: str = ""
    port: int = 0
    tls: bool = False
    pin: str | None = None

    def connection(self, timeout: float) -> http.client.HTTPConnection:
        """To be used for one request. timeout is seconds for each step of it.

        While it connects it raises UnauthenticatedError when another than the pinned server answers, besides what
        sockets raise.
        """
        if self.socket:
            return _UnixConnection(self.socket, timeout)
        if not self.tls:
            return http.client.HTTPConnection(self.host, self.port, timeout=timeout)
        if self.pin is None:
            return http.client.HTTPSConnection(
                self.host, self.port, timeout=timeout, context=verifying_context()
            )
        return _PinnedConnection(self.host, self.port, self.pin, timeout)


def parse_endpoint(endpoint: str, pin: str | None = None) -> Endpoint:
    """`unix:///path/of/socket`, `https://host:port`, or `http://host:port` of this machine.

    Raises InvalidValueError: over a network nothing is said in clear.
    """
    if endpoint.startswith("unix:///"):
        return Endpoint(socket=endpoint.removeprefix("unix://"))
    try:
        url = urlsplit(endpoint)
        host, port = url.hostname, url.port or DEFAULT_PORT
    except ValueError:
        host, port, url = None, 0, urlsplit("")
    if (
        url.scheme not in {"http", "https"}
        or not host
        or url.path not in {"", "/"}
        or url.query
        or url.username
    ):
        raise InvalidValueError(
            "endpoint", f"{endpoint!r} is neither unix:///path/of/socket nor https://host:port"
        )
    if url.scheme == "http" and not (host == "localhost" or is_loopback(host)):
        raise InvalidValueError("endpoint", f"{endpoint!r} leads off this machine without TLS; use https://")
    return Endpoint(
        host=host,
        port=port,
        tls=url.scheme == "https",
        pin=check_pin("fingerprint", pin) if pin is not None else None,
    )


@dataclass(frozen=True, slots=True)
class ServerIdentity:
    """By what a server over TLS can be known. vouched_for: one of the system's authorities has signed for its name."""

    pin: str
    vouched_for: bool


def identify(endpoint: Endpoint, timeout: float) -> ServerIdentity:
    """Ask a server over TLS who it is, without telling it anything. Raises UnavailableError when it cannot be asked."""
    try:
        try:
            return ServerIdentity(_pin_shown(endpoint, verifying_context(), timeout), vouched_for=True)
        except ssl.SSLCertVerificationError:
            return ServerIdentity(_pin_shown(endpoint, pinning_context(), timeout), vouched_for=False)
    except ssl.SSLError as error:
        raise UnavailableError(
            f"{endpoint.host} port {endpoint.port} does not speak TLS ({error.reason}); is it the API's port?"
        ) from error
    except OSError as error:
        raise UnavailableError(f"{endpoint.host} port {endpoint.port} cannot be reached: {error}") from error


def _pin_shown(endpoint: Endpoint, context: ssl.SSLContext, timeout: float) -> str:
    with (
        socket.create_connection((endpoint.host, endpoint.port), timeout) as plain,
        context.wrap_socket(plain, server_hostname=endpoint.host) as secured,
    ):
        return pin_of(secured.getpeercert(binary_form=True) or b"")


class _PinnedConnection(http.client.HTTPSConnection):
    def __init__(self, host: str, port: int, pin: str, timeout: float) -> None:
        super().__init__(host, port, timeout=timeout, context=pinning_context())
        self._pin = pin

    def connect(self) -> None:
        super().connect()
        shown = pin_of(self.sock.getpeercert(binary_form=True) or b"")
        if not same_pin(shown, self._pin):
            self.close()
            raise UnauthenticatedError(
                f"another server answers at {self.host} port {self.port} than the one that this machine was logged in"
                f" to: its fingerprint is {shown} instead of {self._pin}; nothing was sent to it. If its key was"
                f" changed on purpose, compare this with what `weft status` says there and log in again"
            )


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)
