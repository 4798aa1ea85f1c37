"""What the command line ends with: one exit code for each kind of failure."""

from enum import IntEnum

from weft.errors import (
    CommandError,
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


class ExitCode(IntEnum):
    """A program may rely on these; the sentence on standard error is for people."""

    OK = 0
    FAILED = 1
    USAGE = 2
    INVALID_VALUE = 3
    NOT_FOUND = 4
    CONFLICT = 5
    NO_SPACE = 6
    NOT_PERMITTED = 7
    UNSUPPORTED = 8
    UNAVAILABLE = 9
    DATA = 10
    NOT_SETTLED = 11
    DEFECT = 70
    INTERRUPTED = 130
    BROKEN_PIPE = 141

    @property
    def kind(self) -> str:
        """The word for it in JSON."""
        return self.name.lower()


MEANINGS = {
    ExitCode.OK: "done",
    ExitCode.FAILED: "weft tried and it failed, or a question was not answered with yes",
    ExitCode.USAGE: "the command line is not one that weft understands",
    ExitCode.INVALID_VALUE: "a value, or a key of the configuration, was refused; nothing changed",
    ExitCode.NOT_FOUND: "what was named does not exist",
    ExitCode.CONFLICT: "its state does not allow that: in use, busy, a name already taken",
    ExitCode.NO_SPACE: "not enough room",
    ExitCode.NOT_PERMITTED: "not allowed, or not known who asks",
    ExitCode.UNSUPPORTED: "weft, as installed or configured here, cannot do that",
    ExitCode.UNAVAILABLE: "a service or device does not answer; trying again may help",
    ExitCode.DATA: "stored data is missing or damaged",
    ExitCode.NOT_SETTLED: "asked for, but not done within --wait; weft goes on with it",
    ExitCode.DEFECT: "a defect of weft itself",
    ExitCode.INTERRUPTED: "interrupted; weft goes on with what it was asked for already",
    ExitCode.BROKEN_PIPE: "the reader of the output went away",
}


class NotConfirmedError(WeftError):
    """A person was asked and did not say yes."""


class NotSettledError(WeftError):
    """What was asked for is not done yet; weft goes on with it."""


_EXITS: tuple[tuple[type[WeftError], ExitCode], ...] = (
    (InvalidValueError, ExitCode.INVALID_VALUE),
    (NotFoundError, ExitCode.NOT_FOUND),
    (ConflictError, ExitCode.CONFLICT),
    (NoSpaceError, ExitCode.NO_SPACE),
    (UnauthenticatedError, ExitCode.NOT_PERMITTED),
    (PermissionDeniedError, ExitCode.NOT_PERMITTED),
    (UnsupportedError, ExitCode.UNSUPPORTED),
    (UnavailableError, ExitCode.UNAVAILABLE),
    (DataError, ExitCode.DATA),
    (NotSettledError, ExitCode.NOT_SETTLED),
    (CommandError, ExitCode.FAILED),
)


def exit_code(error: WeftError) -> ExitCode:
    return next((code for kind, code in _EXITS if isinstance(error, kind)), ExitCode.FAILED)
