"""What the operating system's errors mean for a pool that is a directory, said in weft's errors."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from weft.errors import DataError, NoSpaceError, UnavailableError, WeftError

_NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT})
_MEDIUM = frozenset({errno.EIO, errno.EUCLEAN, errno.EILSEQ})


@dataclass(frozen=True, slots=True)
class PoolFailures:
    """Maps OSError to weft's errors for one pool."""

    pool: str
    root: Path

    @contextmanager
    def mapped(self, doing: str, need: int = 0) -> Iterator[None]:
        """Within the block an OSError becomes a sentence: the pool could not do this, which needs so many bytes."""
        try:
            yield
        except OSError as error:
            raise self._error(doing, need, error) from error

    def check_room(self, doing: str, need: int) -> None:
        """Raise NoSpaceError when need bytes are certain not to fit, before anything is written."""
        if need > self.free():
            raise self._no_space(doing, need, "it is too full")

    def free(self) -> int:
        """Bytes that a user without privileges may still write."""
        found = os.statvfs(self.root)
        return found.f_bavail * found.f_frsize

    def _error(self, doing: str, need: int, error: OSError) -> WeftError:
        reason = error.strerror or str(error)
        if error.errno in _NO_SPACE:
            return self._no_space(doing, need, reason)
        if error.errno == errno.EFBIG:
            return NoSpaceError(
                f"pool {self.pool} ({self.root}) cannot {doing}: a file of {need} bytes is larger than its file "
                "system, or the limit of weft's process (ulimit -f), allows"
            )
        if error.errno in _MEDIUM:
            return DataError(
                f"pool {self.pool} ({self.root}) cannot {doing}: {reason}; check the medium and its file system"
            )
        return UnavailableError(
            f"pool {self.pool} ({self.root}) cannot {doing}: {reason}; "
            "see that the directory is mounted and that weft's user may write to it"
        )

    def _no_space(self, doing: str, need: int, reason: str) -> NoSpaceError:
        try:
            free = f"{self.free()} are free"
        except OSError:
            free = "how many are free cannot be told"
        return NoSpaceError(
            f"pool {self.pool} ({self.root}) cannot {doing}: {reason}; up to {need} bytes are needed and {free}. "
            "Delete volumes or snapshots, or give the pool more room"
        )
