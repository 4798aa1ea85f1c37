"""Small files that are whole or not there at all; those that hold secrets have mode 0600."""

import os
import stat
import tempfile
from pathlib import Path

from weft.errors import DataError, PermissionDeniedError

_LONGEST = 64 * 1024


def read_private(path: Path, what: str) -> bytes | None:
    """What the file holds, 64 KiB at most; None if it is not there. what names its content in errors.

    Raises PermissionDeniedError when others can read it, DataError when it cannot be read or is a link.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise DataError(f"{what} in {path} cannot be read: {error.strerror}") from error
    try:
        mode = os.fstat(descriptor).st_mode
        content = os.read(descriptor, _LONGEST)
    except OSError as error:
        raise DataError(f"{what} in {path} cannot be read: {error.strerror}") from error
    finally:
        os.close(descriptor)
    if stat.S_IMODE(mode) & 0o077:
        raise PermissionDeniedError(
            f"{path} can be read by others (mode {stat.S_IMODE(mode):04o}), and it holds {what}; take it to be known,"
            " remove the file and have another one made, or run chmod 600 on it if nobody can have read it"
        )
    return content


def write_private(path: Path, content: bytes, what: str, *, replace: bool = True) -> bool:
    """Write a file for its owner alone, as write_whole does; a directory that is made for it is the owner's alone too."""
    return write_whole(path, content, what, mode=0o600, replace=replace)


def write_whole(path: Path, content: bytes, what: str, *, mode: int, replace: bool = True) -> bool:
    """Write the file, synced, in one step; returns whether it was written.

    Without replace a file that is there stays, and so the first of two writers wins. Its directory is made if it is
    missing, for those who may read the file; those above that are made by the umask. Raises DataError when it cannot be
    written.
    """
    try:
        path.parent.mkdir(mode=mode | (mode & 0o444) >> 2, parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # made with mode 0600
        partial = Path(name)
        try:
            with os.fdopen(descriptor, "wb") as file:
                os.fchmod(file.fileno(), mode)
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            written = _put_in_place(partial, path, replace=replace)
        finally:
            partial.unlink(missing_ok=True)
        _sync_directory(path.parent)
    except OSError as error:
        raise DataError(f"{what} cannot be written to {path}: {error.strerror}") from error
    return written


def _put_in_place(partial: Path, path: Path, *, replace: bool) -> bool:
    if replace:
        partial.rename(path)
        return True
    try:
        os.link(partial, path)
    except FileExistsError:
        return False
    return True


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
