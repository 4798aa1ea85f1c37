"""One call of the API: a request over a connection of its own, and its answer or the error that the service raised."""

import http.client
import math
import ssl
from dataclasses import dataclass
from typing import Final

from weft.endpoint import parse_endpoint
from weft.errors import (
    DataError,
    InvalidValueError,
    PermissionDeniedError,
    UnauthenticatedError,
    UnavailableError,
    WeftError,
)
from weft.wire.codec import decode_reply
from weft.wire.errors import ErrorObject

_LARGEST_REPLY: Final = 256 * 2**20


@dataclass(frozen=True, slots=True)
class Answer:
    """waited: the server did as `Prefer: wait` asked."""

    body: bytes
    waited: bool


class Api:
    """An endpoint of the API, as Client describes it, and the token to come with. Safe to use from several threads."""

    def __init__(self, endpoint: str, *, token: str | None, pin: str | None, timeout: float) -> None:
        self._endpoint = endpoint
        self._address = parse_endpoint(endpoint, pin)
        self._token = None if token is None else _checked_token(token)
        self._timeout = timeout

    def call(self, method: str, path: str, body: bytes | None = None, wait: float = 0.0) -> Answer:
        """Send one request. path begins with a slash, and what it holds is quoted already; wait is seconds.

        Raises what the service answered as an error, and UnavailableError when there is no answer within the
        client's timeout beyond wait.
        """
        patience = self._timeout + max(wait, 0.0)
        connection = self._address.connection(patience)
        try:
            connection.request(method, path, body, self._headers(wait))
            response = connection.getresponse()
            answer = response.read(_LARGEST_REPLY + 1)
        except TimeoutError:
            raise UnavailableError(
                f"weft serve at {self._endpoint} did not answer within {patience:g} s; see its log"
            ) from None
        except (OSError, http.client.HTTPException) as error:
            raise self._unreachable(error) from None
        finally:
            connection.close()
        if len(answer) > _LARGEST_REPLY:
            raise DataError(f"{self._endpoint} answered more than {_LARGEST_REPLY} bytes to {method} {path}")
        if response.length:
            raise self._unreachable(http.client.IncompleteRead(answer, response.length))
        if response.status >= http.client.BAD_REQUEST:
            raise _error(response.status, answer)
        return Answer(answer, waited="Preference-Applied" in response.headers)

    def _headers(self, wait: float) -> dict[str, str]:
        headers = {"Content-Type": "application/json", "Connection": "close"}
        if self._token is not None:
            headers["Authorization"] = f"Bearer {self._token}"
        if wait > 0:
            headers["Prefer"] = f"wait={math.ceil(wait)}"
        return headers

    def _unreachable(self, error: Exception) -> WeftError:
        if isinstance(error, ssl.SSLCertVerificationError):
            return UnauthenticatedError(
                f"no authority that this system trusts vouches for {self._endpoint} ({error.verify_message}); `weft login"
                f" {self._endpoint}` shows its fingerprint and keeps it"
            )
        if isinstance(error, FileNotFoundError | ConnectionRefusedError):
            remedy = "start it with `weft serve`" if self._address.socket else "start it there"
            return UnavailableError(f"weft serve is not running at {self._endpoint}; {remedy}")
        if isinstance(error, PermissionError):
            return PermissionDeniedError(
                f"{self._endpoint} belongs to another user, and only its owner may use it"
            )
        return UnavailableError(f"the connection to weft serve at {self._endpoint} failed: {error!r}")


def _checked_token(token: str) -> str:
    """The token without the line end that its file has. What is wrong with it is not told: it is a secret."""
    token = token.strip()
    if not token or not token.isascii() or not token.isprintable():
        raise InvalidValueError("token", "must be printable ASCII characters, and at least one")
    return token


def _error(status: int, body: bytes) -> WeftError:
    try:
        return decode_reply(body, ErrorObject).error()
    except DataError:
        return UnavailableError(
            f"something other than weft serve answered with HTTP status {status}; is the endpoint right?"
        )
