"""The one map from errors to HTTP statuses."""

import logging

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from weft.errors import (
    ConflictError,
    InvalidValueError,
    NoSpaceError,
    NotFoundError,
    PermissionDeniedError,
    UnauthenticatedError,
    UnavailableError,
    UnsupportedError,
    WeftError,
)
from weft.wire.codec import encode
from weft.wire.errors import ErrorObject

_log = logging.getLogger("weft.api")

JSON = "application/json; charset=utf-8"

_STATUSES: dict[type[WeftError], int] = {
    InvalidValueError: 400,
    ConflictError: 400,
    NoSpaceError: 400,
    UnauthenticatedError: 401,
    PermissionDeniedError: 403,
    NotFoundError: 404,
    UnsupportedError: 501,
    UnavailableError: 503,
}


def error_response(error: Exception, doing: str) -> Response:
    """The answer to a request that failed with error; doing says in the log what was asked.

    An error that is not one of weft's tells the client nothing but where to look.
    """
    status = next((code for kind, code in _STATUSES.items() if isinstance(error, kind)), 500)
    if not isinstance(error, WeftError):
        _log.error("%s met a bug", doing, exc_info=error)
        error = WeftError("weft met an unexpected error; its log has the details")
    elif status >= 500:
        _log.error("%s failed: %s", doing, error, exc_info=error if status == 500 else None)
    headers = {"WWW-Authenticate": "Bearer"} if status == 401 else None
    return _response(ErrorObject.of(error, status), headers)


def http_exception_response(request: Request, error: Exception) -> Response:
    """The answer to a path or method that there is not."""
    if not isinstance(error, HTTPException):
        return error_response(error, f"routing {request.url.path!r}")
    if error.status_code == 404:
        answer = ErrorObject(code=404, message="there is nothing at this path", kind="notFound")
    else:
        answer = ErrorObject(
            code=error.status_code,
            message=f"this path does not know {request.method}: {error.detail}",
            kind="unsupported",
        )
    return _response(answer, dict(error.headers or {}))


def _response(answer: ErrorObject, headers: dict[str, str] | None) -> Response:
    return Response(encode(answer), answer.code, headers, media_type=JSON)
