"""The token that callers over TCP show, in a file that only its owner can read."""

import os
import secrets
import stat
from pathlib import Path

from weft.errors import DataError, PermissionDeniedError

_BYTES = 32
_LONGEST = 4096


def load_token(path: Path) -> str:
    """The token in the file, which is made, mode 0600, when it is not there.

    Raises PermissionDeniedError when others can read it, DataError when it holds no token.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _make(path)
        mode, text = _read(path)
    except OSError as error:
        raise DataError(f"the token in {path} cannot be read: {error.strerror}") from error
    if stat.S_IMODE(mode) & 0o077:
        raise PermissionDeniedError(
            f"{path} can be read by others (mode {stat.S_IMODE(mode):04o}); run chmod 600 on it, or remove it to have"
            " another token made"
        )
    try:
        token = text.decode("ascii").strip()
    except UnicodeDecodeError:
        token = ""
    if not token.isprintable() or not token:
        raise DataError(f"{path} does not hold a token; remove it to have one made")
    return token


def _read(path: Path) -> tuple[int, bytes]:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        return os.fstat(descriptor).st_mode, os.read(descriptor, _LONGEST)
    finally:
        os.close(descriptor)


def _make(path: Path) -> None:
    """Write a new token beside path and link it there, so that it is whole or not there at all."""
    if path.exists():
        return
    partial = path.with_name(f"{path.name}.{os.getpid()}")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        try:
            os.write(descriptor, secrets.token_urlsafe(_BYTES).encode() + b"\n")
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.link(partial, path)
    except FileExistsError:
        pass
    finally:
        partial.unlink(missing_ok=True)
