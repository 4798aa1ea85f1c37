"""A block device of this host: who uses it, that nobody begins to, and that its bytes are on the target."""

import contextlib
import errno
import os
import re
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from weft.errors import ConflictError, UnavailableError
from weft.run import start_daemon

_POLL: Final = 0.05
_PASSING: Final = 2.0
"""For how long a process may have the device open before it counts."""
_UDEV_PASSING: Final = 20.0
_UDEV: Final = ("(udev-worker) ", "systemd-udevd ", "udevd ")
"""udev looks at each device that comes, or that was open for writing, for as long as the machine is busy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockDevice:
    """A block device by its kernel name and its node; everything about it is read below root."""

    name: str
    node: Path
    root: Path = Path("/")

    @contextlib.contextmanager
    def claimed(self) -> Iterator[None]:
        """Nobody can mount the device or put another one upon it until the context ends.

        Raises ConflictError naming what uses it. The device's target must answer, else this may wait for it.
        """
        if lasting := self._lasting_users():
            raise self._in_use(lasting)
        try:
            # Not for writing: udev would look at the device again after the close.
            descriptor = os.open(self.node, os.O_RDONLY | os.O_EXCL | os.O_CLOEXEC)
        except OSError as error:
            if error.errno == errno.EBUSY:
                raise self._in_use(
                    self._lasting_users() or ["a mount of another namespace, or the kernel"]
                ) from None
            raise UnavailableError(f"{self.node} cannot be opened: {error.strerror}") from error
        try:
            self._refuse_processes(descriptor)
            yield
        finally:
            os.close(descriptor)

    def flush(self, timeout: float) -> None:
        """Have everything written to the device be on stable storage of its target.

        Done by a process of its own: nothing ends a process that waits for a dead target, and it is left behind then.
        Raises UnavailableError when it fails or takes longer than timeout seconds.
        """
        process = start_daemon(["sync", str(self.node)], log=Path(os.devnull))
        code = process.wait(timeout)
        if code is None:
            process.kill()
            raise UnavailableError(f"{self.node} took longer than {timeout:g} s to be flushed")
        if code != 0:
            raise UnavailableError(f"{self.node} cannot be flushed: the target did not take what was written")

    def unmount(self, timeout: float) -> None:
        """Unmount whatever is mounted from the device or a partition of it, and have the kernel swap to it no more.

        Done by processes, which are left behind where they wait for a dead target. Raises ConflictError when something
        uses what is mounted, UnavailableError when one of them takes longer than timeout seconds.
        """
        parts = self._parts()
        # The last mounted first: it may be below another, or upon it.
        for point in reversed(list(self._mount_points(parts))):
            self._end(["umount", point], f"the mount at {point}", timeout)
        for node in self._swaps(parts):
            self._end(["swapoff", node], "swap", timeout)

    def _end(self, argv: list[str], use: str, timeout: float) -> None:
        process = start_daemon(argv, log=Path(os.devnull))
        code = process.wait(timeout)
        if code is None:
            process.kill()
            raise UnavailableError(f"{self.node}: {argv[0]} of {use} took longer than {timeout:g} s")
        if code != 0:
            raise ConflictError(
                f"{self.node} is in use by {use}, which {argv[0]} could not end: see what uses it"
            )

    def _refuse_processes(self, claim: int) -> None:
        began = time.monotonic()
        while users := self._processes(claim):
            patience = _UDEV_PASSING if all(each.startswith(_UDEV) for each in users) else _PASSING
            if time.monotonic() >= began + patience:
                raise self._in_use(users)
            time.sleep(_POLL)

    def _in_use(self, users: list[str]) -> ConflictError:
        return ConflictError(
            f"{self.node} is in use by {', '.join(users)}: end that first, or detach with --force"
        )

    def _lasting_users(self) -> list[str]:
        parts = self._parts()
        mounts = [f"the mount at {point}" for point in self._mount_points(parts)]
        return [*mounts, *("swap" for _ in self._swaps(parts)), *self._holders(parts)]

    def _parts(self) -> dict[str, str]:
        """The device and its partitions: names by device numbers."""
        block = self.root / "sys/class/block"
        names = [
            self.name,
            *(each for each in _entries(block / self.name) if each.startswith(f"{self.name}p")),
        ]
        return {_read(block / name / "dev").strip(): name for name in names}

    def _mount_points(self, parts: dict[str, str]) -> Iterator[str]:
        for line in _read(self.root / "proc/self/mountinfo").splitlines():
            fields = line.split(" ")
            source = line.partition(" - ")[2].split(" ")[1:2]
            if fields[2] in parts or (
                source and source[0] in self._nodes(parts)
            ):  # btrfs has numbers of its own
                yield _unescaped(fields[4])

    def _swaps(self, parts: dict[str, str]) -> Iterator[str]:
        """Nodes of devices."""
        for line in _read(self.root / "proc/swaps").splitlines()[1:]:
            if (node := line.split()[0]) in self._nodes(parts):
                yield node

    def _holders(self, parts: dict[str, str]) -> Iterator[str]:
        for name in parts.values():
            for holder in _entries(self.root / "sys/class/block" / name / "holders"):
                called = _read(self.root / "sys/class/block" / holder / "dm/name").strip()
                yield f"the device {called or holder} upon it"

    def _nodes(self, parts: dict[str, str]) -> set[str]:
        return {str(self.node.parent / name) for name in parts.values()}

    def _processes(self, claim: int) -> list[str]:
        """claim: the descriptor of this process that does not count."""
        parts, proc = self._parts(), str(self.root / "proc")
        devices, nodes = f"{self.node.parent}/", self._nodes(parts)
        ours = f"{proc}/{os.getpid()}/fd/{claim}"
        return sorted(
            f"{_read(Path(proc, pid, 'comm')).strip() or 'a process'} ({pid})"
            for pid in _entries(proc)
            if pid.isdigit()
            and any(
                each in nodes or (each.startswith(devices) and _number(descriptor) in parts)
                for descriptor, each in _open_files(f"{proc}/{pid}/fd")
                if descriptor != ours
            )
        )


def _open_files(directory: str) -> Iterator[tuple[str, str]]:
    """Descriptors and what they are of. Without path objects: a machine has very many descriptors."""
    for name in _entries(directory):
        descriptor = f"{directory}/{name}"
        with contextlib.suppress(OSError):
            yield descriptor, os.readlink(descriptor)  # noqa: PTH115


def _unescaped(point: str) -> str:
    """As the kernel writes spaces and the like in /proc/self/mountinfo: in octal."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), point)


def _number(descriptor: str) -> str | None:
    """Of the block device that is open, of which a container may have a node by another name; None for other files."""
    try:
        found = os.stat(descriptor)  # noqa: PTH116
    except OSError:
        return None
    number = f"{os.major(found.st_rdev)}:{os.minor(found.st_rdev)}"
    return number if stat.S_ISBLK(found.st_mode) else None


def _entries(directory: Path | str) -> list[str]:
    try:
        return os.listdir(directory)  # noqa: PTH208 -- names are all that is wanted
    except OSError:
        return []


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
