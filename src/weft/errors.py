"""The one tree of errors that weft raises.

Each class is a kind of failure that a caller can treat alike: the API gives it one status, the command line one
exit code. The text of an error is a sentence that names the thing, the reason and, where there is one, the remedy.
"""


class WeftError(Exception):
    """Root of weft's errors; str() is a sentence for a person and never holds a secret."""


class InvalidValueError(WeftError):
    """A value from outside was refused; nothing was changed.

    field is the name by which the caller gave the value, reason says what is wrong with it.
    """

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"{field}: {reason}")
        self.field = field
        self.reason = reason


class NotFoundError(WeftError):
    """What the caller named does not exist, or not for this caller."""


class ConflictError(WeftError):
    """The thing is in a state that does not allow the request: in use, busy, a name already taken."""


class NoSpaceError(WeftError):
    """There is not enough room for the bytes asked for."""


class UnauthenticatedError(WeftError):
    """The caller did not say who it is, or not credibly."""


class PermissionDeniedError(WeftError):
    """The caller is known and may not do this."""


class UnsupportedError(WeftError):
    """weft, as installed or configured here, cannot do this."""


class UnavailableError(WeftError):
    """A peer, device or service cannot be reached or did not answer in time; trying again may help."""


class DataError(WeftError):
    """Stored data is missing, damaged or not what was recorded."""


class CommandError(WeftError):
    """A program that weft ran failed: what it was, its exit code and what it said."""

    def __init__(self, argv: tuple[str, ...], exit_code: int, stderr: str) -> None:
        said = stderr.strip().splitlines()
        super().__init__(
            f"{argv[0]} failed with exit code {exit_code}: {said[-1] if said else 'it said nothing'}"
        )
        self.argv = argv
        self.exit_code = exit_code
        self.stderr = stderr


class RevisionConflictError(ConflictError):
    """A row changed between reading and writing it; read again and repeat."""


_INVALID_VALUE = "invalidValue"
_INTERNAL = "internal"
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


def kind_of(error: WeftError) -> str:
    """The word by which an error's class is told to another process; error_of makes the error of it again there."""
    if isinstance(error, InvalidValueError):
        return _INVALID_VALUE
    return next((kind for kind, each in _KINDS.items() if isinstance(error, each)), _INTERNAL)


def error_of(kind: str, text: str, field: str = "") -> WeftError:
    """The error that another process told of: its kind, its text and, for an invalid value, the field.

    An unknown kind gives the root of the tree.
    """
    if kind == _INVALID_VALUE:
        return InvalidValueError(field, text.removeprefix(f"{field}: "))
    return _KINDS.get(kind, WeftError)(text)
