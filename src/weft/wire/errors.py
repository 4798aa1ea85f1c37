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


class ErrorObject(msgspec.Struct, kw_only=True, omit_defaults=True):
    code: int
    message: str
    kind: str = ""
    field: str = ""

    @classmethod
    def of(cls, error: WeftError, code: int) -> "ErrorObject":
        if isinstance(error, InvalidValueError):
            return cls(code=code, message=str(error), kind=_INVALID_VALUE, field=error.field)
        kind = next((name for name, each in _KINDS.items() if isinstance(error, each)), _INTERNAL)
        return cls(code=code, message=str(error), kind=kind)

    def error(self) -> WeftError:
        if self.kind == _INVALID_VALUE:
            return InvalidValueError(self.field, self.message.removeprefix(f"{self.field}: "))
        return _KINDS.get(self.kind, WeftError)(self.message)
