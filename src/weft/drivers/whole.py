"""Files that are there whole or not at all.

A file is made under a name of its own, `.<id>.partial`, beside the place where it will be. Only when it is complete
and synced does it get its name, by rename(2), and the directory is synced. Whoever makes it holds a lock (flock) on
the partial file, which ends with its process; so a partial file without a lock was left by a crash.
"""

import fcntl
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from weft.errors import ConflictError

Step = Callable[[str], None]
"""Told after each change on disk which it was; lets a test end the process at every one of them."""

_ID = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_WHOLE = re.compile(rf"({_ID})\.img")
_PARTIAL = re.compile(rf"\.({_ID})\.partial")


def whole_path(directory: Path, file_id: str) -> Path:
    return directory / f"{file_id}.img"


def id_of(name: str) -> str | None:
    """The id of a complete file by its name, or None for a name that is not weft's."""
    matched = _WHOLE.fullmatch(name)
    return matched[1] if matched else None


@contextmanager
def make_whole(path: Path, step: Step, *, replace: bool = False) -> Iterator[int]:
    """Yield a descriptor of a new, empty file, mode 0600, that is at path once the block ends well.

    When the block raises, nothing is left of it. replace: what is at path stays in use until it is replaced at
    once; without it, a file at path is a ConflictError. So is another process that makes the same file right now.
    """
    partial = _partial_path(path)
    remove_partial(path)
    descriptor = os.open(partial, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        _lock(descriptor, partial)
        step("made partial")
        yield descriptor
        step("filled partial")
        os.fsync(descriptor)
        step("synced file")
        if not replace and os.path.lexists(path):
            raise ConflictError(f"{path} was made by another process meanwhile")
        partial.rename(path)
        step("renamed")
        sync_directory(path.parent)
        step("synced directory")
    except BaseException:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise
    finally:
        os.close(descriptor)


def remove_partial(path: Path) -> None:
    """Remove what a crash left of the making of path.

    Raises ConflictError when it is being made right now.
    """
    partial = _partial_path(path)
    try:
        descriptor = os.open(partial, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        _lock(descriptor, partial)
        partial.unlink(missing_ok=True)
    finally:
        os.close(descriptor)


def remove_whole(path: Path, step: Step) -> None:
    """Remove a file for good, and what a crash left of its making; one that is not there stays so."""
    remove_partial(path)
    path.unlink(missing_ok=True)
    step("removed")
    sync_directory(path.parent)
    step("synced directory")


def sweep(directory: Path) -> None:
    """Remove every partial file in directory that nobody is making; other names are left alone."""
    for path in list(directory.iterdir()):
        matched = _PARTIAL.fullmatch(path.name)
        if matched:
            with suppress(ConflictError):
                remove_partial(whole_path(directory, matched[1]))


def sync_directory(directory: Path) -> None:
    """Have the names in directory survive a loss of power."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _partial_path(path: Path) -> Path:
    return path.with_name(f".{path.stem}.partial")


def _lock(descriptor: int, partial: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise ConflictError(
            f"{partial} is being made by another process; try again when it is done"
        ) from None
