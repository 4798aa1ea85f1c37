"""Who may come in through a listener. Each listener has one gate, so that none is ever taken for another."""

import hmac
import logging
from collections.abc import Callable
from typing import Protocol
from urllib.parse import urlsplit

from starlette.datastructures import Headers

from weft.errors import PermissionDeniedError, UnauthenticatedError
from weft.logs import RateLimit
from weft.names import is_loopback
from weft.tokens import Token, digest

_log = logging.getLogger("weft.api.gates")
_log.addFilter(RateLimit(lines=10, seconds=60.0))


class Gate(Protocol):
    def admit(self, headers: Headers, peer: str) -> Token | None:
        """The token that a request with these headers came with; None where whoever gets this far may do anything.

        peer is the address that it came from. Raises UnauthenticatedError or PermissionDeniedError when the request
        may not come in. May block.
        """


class SocketGate:
    """The unix socket: its file mode has already kept out everybody but its owner."""

    def admit(self, headers: Headers, peer: str) -> None:
        pass


class TokenGate:
    """Asks for a token: the one of the file, of which only the hash is kept, or one that find knows.

    What is wrong with a token is not told, whether it never was, was revoked or has expired.
    """

    def __init__(self, file_token: str, find: Callable[[str], Token | None]) -> None:
        self._digest = digest(file_token)
        self._find = find

    def admit(self, headers: Headers, peer: str) -> Token | None:
        given = _given_token(headers)
        if given is None:
            raise UnauthenticatedError("token not found in header: send `Authorization: Bearer TOKEN`")
        if hmac.compare_digest(self._digest, digest(given)):
            return None
        token = self._find(given)
        if token is None:
            _log.warning("a request from %s came with a token that opens nothing", peer or "nowhere")
            raise UnauthenticatedError(
                "the token is not one that opens this API; an administrator makes one with `weft token create`"
            )
        return token


class LoopbackGate:
    """No token is asked for, so web pages must be kept from using the browser of somebody on this machine.

    A page reaches a loopback listener by a name of its own that resolves to 127.0.0.1 (then Host tells), or by a
    cross-origin request (then Origin tells).
    """

    def admit(self, headers: Headers, peer: str) -> None:
        del peer  # the listener is on loopback
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


def _is_loopback(host: str) -> bool:
    try:
        name = urlsplit(f"//{host}").hostname or ""
        return name == "localhost" or is_loopback(name)
    except ValueError:
        return False
