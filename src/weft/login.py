"""What a machine keeps of a login: where the API is, how it is known, and the token to show it; a file of mode 0600."""

from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from weft.described import described
from weft.errors import DataError
from weft.private import read_private, write_private

_WHAT = "the token that this machine was logged in with"


@dataclass(frozen=True, slots=True, kw_only=True)
class Login:
    """pin: None when one of the system's authorities vouches for the server, or when it is on this machine."""

    url: str
    token: str = field(repr=False)
    pin: str | None = None


def load_login(path: Path) -> Login | None:
    """The login that is kept there; None if this machine is not logged in.

    Raises PermissionDeniedError when others can read the file, DataError when it is damaged.
    """
    content = read_private(path, _WHAT)
    if content is None:
        return None
    try:
        return msgspec.json.decode(content, type=described(Login))
    except (msgspec.DecodeError, UnicodeDecodeError):  # not what it says: that could quote the token
        raise DataError(f"{path} is damaged; run `weft logout` and `weft login` again") from None


def save_login(path: Path, login: Login) -> None:
    write_private(path, msgspec.json.encode(login) + b"\n", _WHAT)


def forget_login(path: Path) -> bool:
    """Remove the file; returns whether there was one."""
    try:
        path.unlink()
    except FileNotFoundError:
        return False
    except OSError as error:
        raise DataError(f"{path} cannot be removed: {error.strerror}") from error
    return True
