"""LVM drivers on a real volume group, which the environment names, and processes that die between its commands.

WEFT_TEST_LVM_DEVICES names block devices, separated by commas, whose content is lost: `make test` gives those of a
VM. Without it the tests that need LVM are not there.
"""

import os
import signal
import traceback
from collections.abc import Callable, Sequence
from functools import cache

from contract.volume_benches import read_from, write_to
from weft.config import PoolKind, PoolSection
from weft.drivers.lvm import open_lvm
from weft.errors import CommandError
from weft.model import Provisioning, Snapshot, Volume
from weft.ports import VolumeDriver
from weft.run import Completed, run

DEVICES = tuple(filter(None, os.environ.get("WEFT_TEST_LVM_DEVICES", "").split(",")))
KINDS = {"lvm-thin": Provisioning.THIN, "lvm-thick": Provisioning.THICK} if DEVICES else {}

_GROUP = os.environ.get("WEFT_TEST_LVM_GROUP", "wefttest")
_LOOKS = frozenset({"lvs", "vgs", "pvs"})


class Points:
    """The places where a process can end: before and after each command that changes something, and between the
    pieces of a copy. At the point that is due it does what it was told to do.
    """

    def __init__(self) -> None:
        self.passed = 0
        self._due: int | None = None
        self._do: Callable[[], None] = lambda: None

    def at(self, point: int, do: Callable[[], None]) -> None:
        self.passed, self._due, self._do = 0, point, do

    def never(self) -> None:
        self._due = None

    def pass_one(self) -> None:
        due = self.passed == self._due
        self.passed += 1
        if due:
            self._do()

    def run(self, argv: Sequence[str], *, timeout: float) -> Completed:
        """The runner of a driver under test."""
        if argv[0] in _LOOKS:
            return run(argv, timeout=timeout)
        self.pass_one()
        done = run(argv, timeout=timeout)
        self.pass_one()
        return done

    def progress(self, _made: str, _done: int, _total: int) -> None:
        self.pass_one()


@cache
def lvm_bench(kind: str) -> "LvmBench":
    """The one bench of a kind; opening it takes several commands, which are slow in a VM."""
    return LvmBench(KINDS[kind])


class LvmBench:
    """A pool in a volume group of its own; empty() empties it after a test."""

    def __init__(self, provisioning: Provisioning) -> None:
        make_group()
        self.points = Points()
        self.section = PoolSection(
            name="test", kind=PoolKind.LVM, volume_group=_GROUP, provisioning=provisioning, over_commit=1.0
        )
        self.driver: VolumeDriver = self.opened()

    def opened(self) -> VolumeDriver:
        """The driver as a new process of weft has it."""
        return open_lvm(self.section, progress=self.points.progress, runner=self.points.run)

    def write(self, volume: Volume, offset: int, data: bytes) -> None:
        write_to(self.driver.path(volume), offset, data)

    def read(self, volume: Volume, offset: int, length: int) -> bytes:
        # As weft does: it looks at a volume before it shows it to anyone, which mends what a crash has left.
        found = self.driver.volume(volume.id)
        assert found is not None
        return read_from(found.path, offset, length)

    def dies_in(self, verb: str, *arguments: Volume | Snapshot, at: int) -> bool:
        child = os.fork()
        if child == 0:
            try:
                self.points.at(at, lambda: os.kill(os.getpid(), signal.SIGKILL))
                getattr(self.driver, verb)(*arguments)
            except BaseException:  # noqa: BLE001 -- told to the parent by the exit code
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert status in {0, -signal.SIGKILL}, f"{verb} failed in its process"
        return status == -signal.SIGKILL

    def leftovers(self) -> list[str]:
        half_made = ("weft-new-", "weft-old-", "weft-copy-", "weft-deleted-")
        return [name for name in volume_names() if name.startswith(half_made)]

    def empty(self) -> None:
        self.points.never()
        lvm("lvremove", "--yes", "--select", 'lv_name=~"^weft-"', _GROUP)


def lvm(*argv: str, may_fail: bool = False) -> str:
    """A command that the test itself gives."""
    try:
        return run(argv, timeout=120).stdout
    except CommandError:
        if not may_fail:
            raise
        return ""


def volume_names() -> list[str]:
    return lvm("lvs", "--noheadings", "-o", "lv_name", _GROUP).split()


def make_group() -> None:
    """Have the volume group, with extents of 1 MiB and a thin pool."""
    if not lvm("vgs", "--noheadings", "-o", "vg_name", _GROUP, may_fail=True):
        lvm("vgcreate", "--yes", "--physicalextentsize", "1m", _GROUP, *DEVICES)
    if "thinpool" not in volume_names():
        lvm("lvcreate", "--yes", "--type", "thin-pool", "--size", "512m", "--name", "thinpool", _GROUP)
