"""The administrator's token that rests in a file which only its owner can read."""

import secrets
from pathlib import Path

from weft.errors import DataError
from weft.private import read_private, write_private

_BYTES = 32
_WHAT = "the administrator's token"


def load_token(path: Path) -> str:
    """The token in the file, which is made, mode 0600, when it is not there.

    Raises PermissionDeniedError when others can read it, DataError when it holds no token.
    """
    content = read_private(path, _WHAT)
    if content is None:
        write_private(path, secrets.token_urlsafe(_BYTES).encode() + b"\n", _WHAT, replace=False)
        content = read_private(path, _WHAT) or b""
    try:
        token = content.decode("ascii").strip()
    except UnicodeDecodeError:
        token = ""
    if not token.isprintable() or not token:
        raise DataError(f"{path} does not hold a token; remove it to have one made")
    return token
