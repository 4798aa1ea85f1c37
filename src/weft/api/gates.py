"""Who may come in through a listener. Each listener has one gate, so that none is ever taken for another."""

import hashlib
import hmac
import ipaddress
from typing import Protocol
from urllib.parse import urlsplit

from starlette.datastructures import Headers

from weft.errors import PermissionDeniedError, UnauthenticatedError


class Gate(Protocol):
    def admit(self, headers: Headers) -> None:
        """Raise UnauthenticatedError or PermissionDeniedError when the sender of these headers may not come in."""


class SocketGate:
    """The unix socket: its file mode has already kept out everybody but its owner."""

    def admit(self, headers: Headers) -> None:
        pass


class TokenGate:
    """Asks for a token, of which only the hash is kept."""

    def __init__(self, token: str) -> None:
        self._digest = _digest(token)

    def admit(self, headers: Headers) -> None:
        given = _given_token(headers)
        if given is None:
            raise UnauthenticatedError(
                "token not found in header: send `Authorization: Bearer TOKEN`; the token is in the file `token` in"
                " weft's data directory"
            )
        if not hmac.compare_digest(self._digest, _digest(given)):
            raise UnauthenticatedError(
                "the token is not the right one; it is in the file `token` in weft's data directory"
            )


class LoopbackGate:
    """No token is asked for, so web pages must be kept from using the browser of somebody on this machine.

    A page reaches a loopback listener by a name of its own that resolves to 127.0.0.1 (then Host tells), or by a
    cross-origin request (then Origin tells).
    """

    def admit(self, headers: Headers) -> None:
        host = headers.get("host", "")
        if not _is_loopback(host):
            raise PermissionDeniedError(
                f"Host: {host[:255]!r} is not a loopback name or address; this listener asks for no token and serves"
                " this machine only"
            )
        origin = headers.get("origin")
        if origin is not None and origin.lower() != f"http://{host.lower()}":
            raise PermissionDeniedError(
                f"Origin: {origin[:255]!r} is another one; this listener asks for no token and refuses web pages"
            )


def _given_token(headers: Headers) -> str | None:
    scheme, _, token = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and token.strip():
        return token.strip()
    return headers.get("x-auth-token") or None


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


def _is_loopback(host: str) -> bool:
    try:
        name = urlsplit(f"//{host}").hostname or ""
        return name == "localhost" or ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
