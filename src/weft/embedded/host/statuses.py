"""What a controller's answers mean to weft's callers."""

from typing import Final

from weft.errors import (
    ConflictError,
    DataError,
    InvalidValueError,
    NoSpaceError,
    NotFoundError,
    PermissionDeniedError,
    UnavailableError,
    UnsupportedError,
    WeftError,
)
from weft.nvme.command import Command
from weft.nvme.events import CommandCompleted
from weft.nvme.status import Status, StatusCode

_ERRORS: Final[dict[int, type[WeftError]]] = {
    StatusCode.CAPACITY_EXCEEDED: NoSpaceError,
    StatusCode.NAMESPACE_IS_WRITE_PROTECTED: PermissionDeniedError,
    StatusCode.ACCESS_DENIED: PermissionDeniedError,
    StatusCode.OPERATION_DENIED: PermissionDeniedError,
    StatusCode.RESERVATION_CONFLICT: ConflictError,
    StatusCode.INVALID_COMMAND_OPCODE: UnsupportedError,
}

_PATH_RELATED: Final = 3


def worth_another_try(status: Status) -> bool:
    """Whether the same command may succeed later: the controller did not say Do Not Retry."""
    return not status.ok and not status.dnr


def command_error(command: Command, status: Status) -> WeftError:
    """The error for a command that the controller did not carry out."""
    name = type(command).__name__
    if status.sct == _PATH_RELATED:
        return UnavailableError(f"the target has no way to the data for {name}: {status.text}")
    kind = _ERRORS.get(status.code, DataError)
    return kind(f"the target refused {name}: {status.text}")


def connect_error(completion: CommandCompleted, nqn: str, host: str) -> WeftError:
    """The error for a Connect that a controller refused. UnavailableError: another try may help."""
    status = completion.status
    if not status.dnr:
        return UnavailableError(f"the target does not accept {nqn} now: {status.text}")
    match status.code:
        case StatusCode.CONNECT_INVALID_HOST | StatusCode.ACCESS_DENIED:
            return PermissionDeniedError(
                f"the target does not let {host} use {nqn}: attach the volume to this host first"
            )
        case StatusCode.AUTHENTICATION_REQUIRED:
            return PermissionDeniedError(f"the target wants {host} to authenticate for {nqn}")
        case StatusCode.CONNECT_INVALID_PARAMETERS:
            return NotFoundError(f"the target has no subsystem {nqn} for {host}: {status.text}")
        case _:
            return InvalidValueError("connection", f"the target refused it for {nqn}: {status.text}")
