"""How the processes of the embedded pair tell an error over their control sockets."""

import msgspec

from weft.errors import InvalidValueError, WeftError, error_of, kind_of


class Failed(msgspec.Struct, frozen=True, kw_only=True, tag="failed"):
    """The reply to a request that failed: an error of weft.errors, in the words that make it again."""

    kind: str
    text: str
    field: str = ""

    @classmethod
    def of(cls, error: WeftError) -> "Failed":
        field = error.field if isinstance(error, InvalidValueError) else ""
        return cls(kind=kind_of(error), text=str(error), field=field)

    def error(self) -> WeftError:
        return error_of(self.kind, self.text, self.field)
