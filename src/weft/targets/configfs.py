"""The only writer to configfs: one system call for each change, and an error for each that the kernel refuses.

Python's buffered files report what the kernel says to a write when they are closed, if at all; so files are written
with os.open and os.write here. Every verb is idempotent: what is as it should be already is left alone.
"""

import errno
import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Final, Protocol

from weft.errors import ConflictError, UnavailableError

PRIVATE: Final = 0o700
"""The mode of a directory that weft marks as its own, see Configfs.is_private."""
PUBLIC: Final = 0o755
SECRET: Final = 0o600

_LARGEST_ATTRIBUTE: Final = 4096
_HINTS: Final = {
    errno.EACCES: "run weft as root",
    errno.EPERM: "run weft as root",
    errno.EBUSY: "it is in use",
    errno.EADDRNOTAVAIL: "this machine does not have that address",
    errno.EADDRINUSE: "another program or another nvmet port listens there",
    errno.ENODEV: "no RDMA device of this machine has that address; see `rdma link`",
    errno.EINVAL: "the kernel's log may say why, see `dmesg`",
    errno.EOPNOTSUPP: "the kernel's log may say why, see `dmesg`",
}


class ConfigfsError(UnavailableError):
    """The kernel refused a change of configfs. code is its errno."""

    def __init__(self, doing: str, path: str, error: OSError) -> None:
        self.code = error.errno or 0
        name = errno.errorcode.get(self.code, "no errno")
        hint = _HINTS.get(self.code)
        super().__init__(
            f"{doing} {path} failed: {os.strerror(self.code)} ({name})" + (f": {hint}" if hint else "")
        )


class Calls(Protocol):
    """System calls on paths; each raises OSError."""

    def mkdir(self, path: str) -> None: ...

    def rmdir(self, path: str) -> None: ...

    def symlink(self, target: str, path: str) -> None: ...

    def unlink(self, path: str) -> None: ...

    def chmod(self, path: str, mode: int) -> None: ...

    def write(self, path: str, value: bytes) -> None: ...

    def read(self, path: str) -> bytes: ...

    def names(self, path: str) -> list[str]: ...

    def mode(self, path: str) -> int:
        """Permission bits, of a link itself."""

    def lock(self, path: str) -> int:
        """A descriptor of a directory, on which nobody else has a lock until it is closed."""

    def unlock(self, descriptor: int) -> None: ...

    def inside(self, path: str) -> AbstractContextManager["Calls"]:
        """The same calls on paths that begin in a directory; a link's target stays as it is."""


class KernelCalls:
    """The real ones. directory: a descriptor of the one that relative paths begin in, if not the working directory."""

    def __init__(self, directory: int | None = None) -> None:
        self._directory = directory

    def mkdir(self, path: str) -> None:
        os.mkdir(path, dir_fd=self._directory)

    def rmdir(self, path: str) -> None:
        os.rmdir(path, dir_fd=self._directory)

    def symlink(self, target: str, path: str) -> None:
        os.symlink(target, path, dir_fd=self._directory)

    def unlink(self, path: str) -> None:
        os.unlink(path, dir_fd=self._directory)

    def chmod(self, path: str, mode: int) -> None:
        os.chmod(path, mode, dir_fd=self._directory)

    def write(self, path: str, value: bytes) -> None:
        descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC, dir_fd=self._directory)
        try:
            written = os.write(descriptor, value)
        finally:
            os.close(descriptor)
        if written != len(value):
            raise OSError(errno.EIO, f"only {written} of {len(value)} bytes were taken")

    def read(self, path: str) -> bytes:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC, dir_fd=self._directory)
        try:
            return os.read(descriptor, _LARGEST_ATTRIBUTE)
        finally:
            os.close(descriptor)

    def names(self, path: str) -> list[str]:
        descriptor = self._open_directory(path)
        try:
            return os.listdir(descriptor)  # noqa: PTH208
        finally:
            os.close(descriptor)

    def mode(self, path: str) -> int:
        return stat.S_IMODE(os.stat(path, dir_fd=self._directory, follow_symlinks=False).st_mode)

    def lock(self, path: str) -> int:
        descriptor = self._open_directory(path)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    def unlock(self, descriptor: int) -> None:
        os.close(descriptor)

    @contextmanager
    def inside(self, path: str) -> Iterator["KernelCalls"]:
        descriptor = self._open_directory(path)
        try:
            yield KernelCalls(descriptor)
        finally:
            os.close(descriptor)

    def _open_directory(self, path: str) -> int:
        return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=self._directory)


class Configfs:
    """A directory of configfs, such as /sys/kernel/config/nvmet; paths are relative to it. Safe to use from any thread.

    Every verb raises ConfigfsError when the kernel refuses it.
    """

    def __init__(self, root: Path, calls: Calls | None = None, *, is_inside: bool = False) -> None:
        """is_inside: the calls' paths begin in root."""
        self.root = root
        self._root = f"{root}/"
        self._prefix = "" if is_inside else self._root
        self._calls = calls if calls is not None else KernelCalls()
        self._lock: int | None = None

    @contextmanager
    def opened(self) -> Iterator["Configfs"]:
        """The same directory, opened while the block lasts: for a row of changes, for the kernel walks each path."""
        with ExitStack() as stack:
            try:
                calls = stack.enter_context(self._calls.inside(str(self.root)))
            except OSError as error:
                raise ConfigfsError("opening", str(self.root), error) from None
            yield Configfs(self.root, calls, is_inside=True)

    def lock(self) -> None:
        """Keep other processes that lock it too from it, until unlock() or the end of this one. Locked already: nothing.

        Raises ConflictError when another has it, in whatever container of this machine.
        """
        if self._lock is not None:
            return
        try:
            self._lock = self._calls.lock(str(self.root))
        except BlockingIOError:
            raise ConflictError(
                f"another weft serves by {self.root} on this machine; end that one first"
            ) from None
        except OSError as error:
            raise ConfigfsError("locking", str(self.root), error) from None

    def unlock(self) -> None:
        if self._lock is not None:
            self._calls.unlock(self._lock)
            self._lock = None

    def make_directory(self, path: str) -> None:
        try:
            self._calls.mkdir(self._prefix + path)
        except FileExistsError:
            pass
        except OSError as error:
            raise self._error("making", path, error) from None

    def remove_directory(self, path: str) -> None:
        try:
            self._calls.rmdir(self._prefix + path)
        except FileNotFoundError:
            pass
        except OSError as error:
            raise self._error("removing", path, error) from None

    def remove_unless_used(self, path: str) -> bool:
        """Remove a directory that nothing links to; whether it is gone."""
        try:
            self.remove_directory(path)
        except ConfigfsError as error:
            if error.code not in {errno.EBUSY, errno.ENOTEMPTY}:
                raise
            return False
        return True

    def link(self, target: str, path: str) -> None:
        try:
            self._calls.symlink(self._root + target, self._prefix + path)
        except FileExistsError:
            pass
        except OSError as error:
            raise self._error("linking", path, error) from None

    def unlink(self, path: str) -> None:
        try:
            self._calls.unlink(self._prefix + path)
        except FileNotFoundError:
            pass
        except OSError as error:
            raise self._error("unlinking", path, error) from None

    def write(self, path: str, value: str) -> None:
        """Write an attribute; the value is in no error, for it may be a key."""
        try:
            self._calls.write(self._prefix + path, value.encode())
        except OSError as error:
            raise self._error("writing", path, error) from None

    def read(self, path: str) -> str | None:
        """An attribute without the blanks around it; None if it is not there."""
        try:
            return self._calls.read(self._prefix + path).decode(errors="replace").strip()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._error("reading", path, error) from None

    def names(self, path: str) -> list[str]:
        """What is in a directory; nothing when there is no such directory."""
        try:
            return self._calls.names(self._prefix + path)
        except FileNotFoundError:
            return []
        except OSError as error:
            raise self._error("listing", path, error) from None

    def exists(self, path: str) -> bool:
        return self.mode(path) is not None

    def is_private(self, path: str) -> bool:
        """Whether a directory has the mode by which weft marks it.

        configfs keeps modes as long as the directory is there, and nothing else of a directory can be chosen freely.
        """
        return self.mode(path) == PRIVATE

    def set_mode(self, path: str, mode: int) -> None:
        try:
            self._calls.chmod(self._prefix + path, mode)
        except OSError as error:
            raise self._error("setting the mode of", path, error) from None

    def mode(self, path: str) -> int | None:
        """Permission bits, of a link itself; None if there is nothing."""
        try:
            return self._calls.mode(self._prefix + path)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._error("looking at", path, error) from None

    def _error(self, doing: str, path: str, error: OSError) -> ConfigfsError:
        return ConfigfsError(doing, self._root + path, error)
