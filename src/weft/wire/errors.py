"""Errors on the wire: OpenSDS's code and message, and weft's kind (and field) to make the same error of again."""

import msgspec

from weft.errors import InvalidValueError, WeftError, error_of, kind_of

_LONGEST_MESSAGE = 2048


class ErrorObject(msgspec.Struct, kw_only=True, omit_defaults=True):
    code: int
    message: str
    kind: str = ""
    field: str = ""

    @classmethod
    def of(cls, error: WeftError, code: int) -> "ErrorObject":
        field = error.field if isinstance(error, InvalidValueError) else ""
        return cls(code=code, message=_bounded(str(error)), kind=kind_of(error), field=field)

    def error(self) -> WeftError:
        return error_of(self.kind, self.message, self.field)


def _bounded(text: str) -> str:
    """A sentence may quote what a client sent, and that may be long."""
    if len(text) <= _LONGEST_MESSAGE:
        return text
    half = _LONGEST_MESSAGE // 2
    return f"{text[:half]} ... {text[-half:]}"
