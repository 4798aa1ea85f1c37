"""Errors on the wire: OpenSDS's code and message, and weft's kind (and field) to make the same error of again."""

import msgspec

from weft.errors import (
    ConflictError,
    DataError,
    InvalidValueError,
    NoSpaceError,
    NotFoundError,
    PermissionDeniedError,
    UnauthenticatedError,
    UnavailableError,
    UnsupportedError,
    WeftError,
)

_KINDS: dict[str, type[WeftError]] = {
    "notFound": NotFoundError,
    "conflict": ConflictError,
    "noSpace": NoSpaceError,
    "unauthenticated": UnauthenticatedError,
    "permissionDenied": PermissionDeniedError,
    "unsupported": UnsupportedError,
    "unavailable": UnavailableError,
    "data": DataError,
}
_INVALID_VALUE = "invalidValue"
_INTERNAL = "internal"
_LONGEST_MESSAGE = 2048


class ErrorObject(msgspec.Struct, kw_only=True, omit_defaults=True):
    code: int
    message: str
    kind: str = ""
    field: str = ""

    @classmethod
    def of(cls, error: WeftError, code: int) -> "ErrorObject":
        message = _bounded(str(error))
        if isinstance(error, InvalidValueError):
            return cls(code=code, message=message, kind=_INVALID_VALUE, field=error.field)
        kind = next((name for name, each in _KINDS.items() if isinstance(error, each)), _INTERNAL)
        return cls(code=code, message=message, kind=kind)

    def error(self) -> WeftError:
        if self.kind == _INVALID_VALUE:
            return InvalidValueError(self.field, self.message.removeprefix(f"{self.field}: "))
        return _KINDS.get(self.kind, WeftError)(self.message)


def _bounded(text: str) -> str:
    """A sentence may quote what a client sent, and that may be long."""
    if len(text) <= _LONGEST_MESSAGE:
        return text
    half = _LONGEST_MESSAGE // 2
    return f"{text[:half]} ... {text[-half:]}"
