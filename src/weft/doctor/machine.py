"""The machine that doctor looks at, as files below a root and programs that answer. Nothing here changes it."""

import ctypes
import os
import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from weft.client import Client
from weft.config import Config
from weft.connectors import why_not_kernel
from weft.doctor.packages import Family, family_of
from weft.embedded.host.fuse import missing_for_fuse
from weft.embedded.target.control import ControlClient, StatusRequest, TargetStatus
from weft.errors import PermissionDeniedError, UnavailableError, WeftError
from weft.kernel import Kernel
from weft.rdma import Addresses, RdmaLink, interface_addresses, rdma_links
from weft.run import Completed, run
from weft.targets import why_not_nvmet

COMMAND_SECONDS: Final = 10.0
_ANSWER_SECONDS: Final = 5.0

_CONTAINER_FILES: Final = ("/.dockerenv", "/run/.containerenv", "/run/systemd/container")


class Runner(Protocol):
    """weft.run.run, or what a test puts in its place."""

    def __call__(self, argv: Sequence[str], *, timeout: float) -> Completed: ...


def _run(argv: Sequence[str], *, timeout: float) -> Completed:
    return run(argv, timeout=min(timeout, COMMAND_SECONDS))


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """Paths are those of the machine.

    why_no_daemon tells of the control plane on this machine, why_no_node of the one that it is logged in to.
    embedded_portals are those that a running embedded target has bound.
    """

    root: Path
    user_id: int
    kernel: Kernel
    run: Runner
    addresses: Callable[[], Addresses]
    clock_is_set: Callable[[], bool | None]
    why_not_fuse: Callable[[], str | None]
    why_no_daemon: Callable[[Config], str | None]
    why_no_node: Callable[[Config], str | None]
    embedded_portals: Callable[[Config], frozenset[str]]
    why_not_nvmet: Callable[[Config], str | None]
    why_not_kernel: Callable[[Config], str | None]

    @property
    def is_root(self) -> bool:
        return self.user_id == 0

    @property
    def links(self) -> tuple[RdmaLink, ...]:
        return rdma_links(self.root)

    @property
    def family(self) -> Family:
        return family_of(self.text("/etc/os-release") or self.text("/usr/lib/os-release") or "")

    @property
    def in_container(self) -> bool:
        """As far as the usual files tell; a container has the kernel of the machine around it."""
        return any(self.exists(each) for each in _CONTAINER_FILES)

    def at(self, path: str | Path) -> Path:
        return self.root / str(path).lstrip("/")

    def exists(self, path: str | Path) -> bool:
        try:
            return self.at(path).exists()
        except OSError:
            return False

    def text(self, path: str | Path) -> str | None:
        """What a file holds, without space around it; None when it is not there.

        Raises PermissionDeniedError when this user may not read it, UnavailableError when it cannot be read.
        """
        try:
            return self.at(path).read_text(encoding="utf-8", errors="replace").strip()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except PermissionError:
            raise PermissionDeniedError(f"this user may not read {path}") from None
        except OSError as error:
            raise UnavailableError(f"{path} cannot be read: {error.strerror}") from error

    def names(self, path: str | Path) -> list[str]:
        """The names in a directory, sorted; none when it is not there or not to be read."""
        try:
            return sorted(each.name for each in self.at(path).iterdir())
        except OSError:
            return []

    def status(self, path: str | Path) -> os.stat_result | None:
        """None when it is not there. Raises PermissionDeniedError when this user may not look."""
        try:
            return self.at(path).stat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except PermissionError:
            raise PermissionDeniedError(f"this user may not look at {path}") from None

    def mounted(self, kind: str) -> bool:
        """Whether a file system of this kind is mounted somewhere."""
        lines = (self.text("/proc/self/mounts") or "").splitlines()
        return any(line.split(" ")[2:3] == [kind] for line in lines)

    def is_character_device(self, path: str) -> bool:
        found = self.status(path)
        return found is not None and stat.S_ISCHR(found.st_mode)


def this_machine() -> Machine:
    return Machine(
        root=Path("/"),
        user_id=os.geteuid(),
        kernel=Kernel(),
        run=_run,
        addresses=interface_addresses,
        clock_is_set=_clock_is_set,
        why_not_fuse=missing_for_fuse,
        why_no_daemon=_why_no_daemon,
        why_no_node=_why_no_node,
        embedded_portals=_embedded_portals,
        why_not_nvmet=why_not_nvmet,
        why_not_kernel=why_not_kernel,
    )


def _why_no_daemon(config: Config) -> str | None:
    return _why_no_answer(Client(f"unix://{config.api_socket}", timeout=_ANSWER_SECONDS))


def _why_no_node(config: Config) -> str | None:
    return _why_no_answer(Client.for_config(config, timeout=_ANSWER_SECONDS))


def _why_no_answer(client: Client) -> str | None:
    try:
        client.api_versions()
    except WeftError as error:
        return str(error)
    return None


def _embedded_portals(config: Config) -> frozenset[str]:
    try:
        with ControlClient(config.target_socket) as client:
            status = client.call(StatusRequest(), TargetStatus, timeout=_ANSWER_SECONDS)
    except WeftError:
        return frozenset()
    return frozenset(each.portal for each in status.portals if each.bound)


class _Timex(ctypes.Structure):
    """The head of struct timex, adjtimex(2), with room for the rest."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_char * 256),
    )


_STA_UNSYNC: Final = 0x40


def _clock_is_set() -> bool | None:
    """Whether something keeps the clock right, as the kernel was told; None when it does not say. Only reads."""
    state = _Timex()
    if ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.byref(state)) < 0:
        return None
    return not state.status & _STA_UNSYNC
