"""One volume group, and the LVM commands that look at it and change it.

Every command sees the devices of this group and no others (`--devices`). So a volume group that a guest has made
inside an exported volume is neither read nor activated nor mistaken for this one, though its devices appear on the
node, through a loop device or an NVMe connection of its own.

Commands are the same ones that a person would type, so the log and the errors can be followed by hand.
"""

import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager

from weft.drivers.lvm_report import (
    DEVICE_FIELDS,
    FORMAT,
    GROUP_FIELDS,
    RANGE_FIELDS,
    VOLUME_FIELDS,
    GroupSize,
    PhysicalVolume,
    Report,
    group_size,
    physical_volume,
    records,
    volume_report,
)
from weft.drivers.lvm_runner import Runner
from weft.drivers.lvm_runner import command as run_command
from weft.errors import NotFoundError, UnavailableError
from weft.run import Completed, run

_LOOK_SECONDS = 120.0
_CHANGE_SECONDS = 600.0
"""Long, for a command that is ended while it has devices suspended leaves their I/O hanging."""


class VolumeGroup:
    """Runs commands on one volume group. Commands that change it run one at a time.

    Every method raises UnavailableError when the group is not there or LVM fails for a reason that is not known to
    be another, UnsupportedError where LVM is not installed.
    """

    def __init__(self, name: str, *, pool: str, runner: Runner = run) -> None:
        self.name = name
        self.uuid = ""
        self._pool = pool
        self._run = runner
        self._devices: tuple[str, ...] = ()
        self._changing = threading.RLock()

    def find_devices(self) -> None:
        """Learn which devices the group is on; to be called first, and again when some were missing.

        Raises UnavailableError when there is no such group, or more than one.
        """
        found = [each for each in self._visible_devices() if each.group == self.name]
        if self.uuid:
            found = [each for each in found if each.group_uuid == self.uuid]
        groups = {each.group_uuid for each in found}
        if not groups:
            raise UnavailableError(
                f"pool {self._pool}: there is no volume group {self.name}. Where its devices are to become one:"
                f" weft pool prepare {self._pool} DEVICE..."
            )
        if len(groups) > 1:
            where = "; ".join(
                f"{uuid} on {', '.join(each.path for each in found if each.group_uuid == uuid)}"
                for uuid in sorted(groups)
            )
            raise UnavailableError(
                f"pool {self._pool}: more than one volume group is called {self.name} ({where}), and weft does not"
                " guess. Hide the wrong one's devices from LVM: global_filter in lvm.conf, or lvm vgimportdevices"
            )
        self.uuid = groups.pop()
        self._devices = tuple(each.path for each in found if not each.is_missing)

    @contextmanager
    def changing(self) -> Iterator[None]:
        """Within the block nobody else of this process changes the group."""
        with self._changing:
            yield

    # -- looking ----------------------------------------------------------------------------------------------

    def report(self, selection: str) -> Report:
        """The logical volumes that a selection of LVM's (lvmreport(7)) names, hidden ones left out."""
        found = self._report_now(selection)
        if found.is_group_partial:
            # A device was added to the group since it was opened, has another name now, or is really missing.
            self.find_devices()
            found = self._report_now(selection)
        return found

    def size(self) -> GroupSize:
        found = self._size_now()
        if found.missing_devices:
            self.find_devices()  # as in report()
            found = self._size_now()
        return found

    def extents(self, name: str) -> list[str]:
        """Where a linear logical volume lies: `device:first-last`, as lvextend takes it."""
        text = self._look("lvs", *FORMAT, "-o", RANGE_FIELDS, f"{self.name}/{name}")
        rows = [*records(text, "lv"), *records(text, "seg")]
        return [piece for row in rows for piece in row["seg_pe_ranges"].split()]

    # -- changing ---------------------------------------------------------------------------------------------

    def change(self, command: str, *arguments: str) -> None:
        """Run a command that changes the group."""
        with self._changing:
            self._restricted(command, *arguments, timeout=_CHANGE_SECONDS)

    def rename(self, old: str, new: str) -> None:
        self.change("lvrename", self.name, old, new)

    def remove(self, *names: str) -> None:
        """Remove logical volumes; those that are not there stay so.

        Raises ConflictError when one is in use.
        """
        for name in names:
            try:
                self.change("lvremove", "--yes", f"{self.name}/{name}")
            except NotFoundError:
                continue

    def activate(self, names: Collection[str]) -> None:
        if names:
            # Activating a COW snapshot activates its origin, about which LVM would ask.
            self.change("lvchange", "--yes", "--activate", "y", *(f"{self.name}/{name}" for name in names))

    def deactivate(self, name: str) -> None:
        """Take a logical volume's device away. Raises ConflictError when it is in use."""
        self.change("lvchange", "--yes", "--activate", "n", f"{self.name}/{name}")

    # -- running ----------------------------------------------------------------------------------------------

    def _visible_devices(self) -> list[PhysicalVolume]:
        done = self._completed("pvs", *FORMAT, "-o", DEVICE_FIELDS, timeout=_LOOK_SECONDS)
        return [physical_volume(row) for row in records(done.stdout, "pv")]

    def _report_now(self, selection: str) -> Report:
        return volume_report(self._look("lvs", *FORMAT, "-o", VOLUME_FIELDS, "-S", selection, self.name))

    def _size_now(self) -> GroupSize:
        text = self._look("vgs", *FORMAT, "-o", GROUP_FIELDS, self.name)
        return next(group_size(row) for row in records(text, "vg"))

    def _look(self, command: str, *arguments: str) -> str:
        return self._restricted(command, *arguments, timeout=_LOOK_SECONDS).stdout

    def _restricted(self, command: str, *arguments: str, timeout: float) -> Completed:
        return self._completed(command, "--devices", ",".join(self._devices), *arguments, timeout=timeout)

    def _completed(self, command: str, *arguments: str, timeout: float) -> Completed:
        return run_command(self._run, [command, *arguments], pool=self._pool, timeout=timeout)
