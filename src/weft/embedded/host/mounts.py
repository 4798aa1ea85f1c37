"""Is a mount there, and taking it away. Nothing here asks the file system behind it, which may be dead."""

import ctypes
import errno
import os
import re
from pathlib import Path
from typing import Final

from weft.embedded.host.fuse import find_fusermount
from weft.embedded.host.process import users_below
from weft.errors import CommandError, ConflictError, UnavailableError, UnsupportedError
from weft.run import run

_MNT_DETACH: Final = 2
_UMOUNT_NOFOLLOW: Final = 8
_TIMEOUT: Final = 20.0


def is_mounted(directory: Path) -> bool:
    """Whether something is mounted at directory, dead or alive."""
    wanted = os.path.abspath(directory)  # noqa: PTH100 -- resolve() would ask the mount
    table = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape")
    return any(_unescape(line.split(" ")[4]) == wanted for line in table.splitlines())


def unmount(directory: Path, *, lazy: bool = False) -> None:
    """Take the mount at directory away; nothing if there is none. lazy: also while it is in use.

    Raises ConflictError naming who uses it, and UnavailableError when it stays for another reason.
    """
    if not is_mounted(directory):
        return
    busy, reason = _as_root(directory, lazy=lazy) if os.geteuid() == 0 else _as_user(directory, lazy=lazy)
    if not is_mounted(directory):
        return
    if busy:
        users = ", ".join(users_below(directory)) or "a process that this user may not see, or a loop device"
        raise ConflictError(f"{directory} is in use by {users}: close it first, or detach with --force")
    raise UnavailableError(f"{directory} cannot be unmounted: {reason}")


def _as_root(directory: Path, *, lazy: bool) -> tuple[bool, str]:
    libc = ctypes.CDLL(None, use_errno=True)
    flags = _UMOUNT_NOFOLLOW | (_MNT_DETACH if lazy else 0)
    if libc.umount2(os.fsencode(directory), flags) == 0:
        return False, ""
    number = ctypes.get_errno()
    return number == errno.EBUSY, os.strerror(number)


def _as_user(directory: Path, *, lazy: bool) -> tuple[bool, str]:
    """Only the set-user-id fusermount3 may unmount for an ordinary user."""
    fusermount = find_fusermount()
    if fusermount is None:
        raise UnsupportedError("fusermount3 is not installed (Debian's package is fuse3)")
    argv = [fusermount, "-u", *(["-z"] if lazy else []), "--", str(directory)]
    try:
        run(argv, timeout=_TIMEOUT)
    except CommandError as error:
        return os.strerror(errno.EBUSY) in error.stderr, error.stderr.strip()
    return False, ""


def _unescape(field: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), field)
