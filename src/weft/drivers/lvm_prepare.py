"""Makes the volume group and the thin pool of an LVM pool, on devices that hold nothing, or that are named to be erased."""

import errno
import json
import os
import stat
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from weft.config import PoolKind, PoolSection
from weft.drivers.lvm_report import DEVICE_FIELDS, FORMAT, PhysicalVolume, physical_volume, records
from weft.drivers.lvm_runner import Runner, command
from weft.errors import ConflictError, DataError, InvalidValueError
from weft.model import Provisioning
from weft.run import run

_SECONDS = 300.0
_PHYSICAL_VOLUME = "LVM2_member"
_ROOM_FOR_METADATA = "95%FREE"
"""Of the volume group for a new thin pool; the rest lets its metadata grow and be repaired (lvmthin(7))."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """What was done; all of it empty when the pool was there already."""

    erased: tuple[Path, ...]
    added: tuple[Path, ...]
    made_group: bool
    made_thin_pool: bool


def prepare_pool(
    pool: PoolSection, devices: Sequence[Path], *, erase: Collection[Path] = (), runner: Runner = run
) -> Prepared:
    """Have the volume group of a pool on these devices, and its thin pool; what is there already stays as it is.

    Every device is looked at before the first is changed. Raises ConflictError, naming what was found, for a device
    that is in use, is a physical volume already, or holds something and is not in erase; InvalidValueError for what is
    no block device or no LVM pool.
    """
    if pool.kind is not PoolKind.LVM:
        raise InvalidValueError(
            "pool", f"pool {pool.name} is of kind {pool.kind}; only LVM pools are prepared"
        )
    if needless := set(erase) - set(devices):
        named = ", ".join(str(each) for each in sorted(needless))
        raise InvalidValueError("erase", f"{named} is not among the devices that the pool is to be made on")
    return _Preparation(pool, runner).done(devices, erase)


class _Preparation:
    def __init__(self, pool: PoolSection, runner: Runner) -> None:
        self._pool = pool
        self._group = pool.volume_group
        self._runner = runner

    def done(self, devices: Sequence[Path], erase: Collection[Path]) -> Prepared:
        known = self._physical_volumes()
        group = {each.group_uuid for each in known if each.group == self._group}
        if len(group) > 1:
            raise ConflictError(
                f"more than one volume group is called {self._group}; rename one: vgrename UUID NAME"
            )
        if not devices and not group:
            raise InvalidValueError(
                "device", f"there is no volume group {self._group} yet; name devices for it"
            )
        added = [each for each in dict.fromkeys(devices) if not self._is_in_group(each, known)]
        erased = [each for each in added if self._must_be_erased(each, erase)]
        for each in erased:
            self._run("wipefs", "--all", str(each))
        if added:
            # Without --yes: should a signature have appeared meanwhile, LVM asks, gets no answer and stops.
            self._run("vgextend" if group else "vgcreate", self._group, *(str(each) for each in added))
        return Prepared(
            erased=tuple(erased),
            added=tuple(added),
            made_group=bool(added) and not group,
            made_thin_pool=self._pool.provisioning is Provisioning.THIN and self._have_thin_pool(),
        )

    def _physical_volumes(self) -> list[PhysicalVolume]:
        text = self._run("pvs", *FORMAT, "-o", DEVICE_FIELDS)
        return [physical_volume(row) for row in records(text, "pv")]

    def _is_in_group(self, device: Path, known: Sequence[PhysicalVolume]) -> bool:
        """Raises ConflictError for a device of another group, InvalidValueError for what is no block device."""
        number = _device_number(device)
        for each in known:
            if not each.is_missing and _device_number(Path(each.path)) == number:
                if each.group and each.group != self._group:
                    raise ConflictError(
                        f"{device} belongs to volume group {each.group}; take it out of that first:"
                        f" vgreduce {each.group} {device} && pvremove {device}"
                    )
                return bool(each.group)
        return False

    def _must_be_erased(self, device: Path, erase: Collection[Path]) -> bool:
        """Raises ConflictError for a device that is in use or LVM's, or holds something and is not to be erased."""
        self._check_unused(device)
        held = self._held(device)
        if (
            _PHYSICAL_VOLUME in held
        ):  # also one that LVM does not show, for its devices file or filter leaves it out
            raise ConflictError(
                f"{device} is a physical volume of LVM's, which weft never erases; see what it belongs to (pvs --devices"
                f" {device}), and where that may be lost: vgreduce GROUP {device} && pvremove {device}"
            )
        if held and device not in erase:
            raise ConflictError(
                f"{device} holds {', '.join(held)}, which would be lost; where that is meant:"
                f" weft pool prepare {self._pool.name} {device} --erase {device}"
            )
        return bool(held)

    def _check_unused(self, device: Path) -> None:
        tree = self._json("lsblk", "--json", "--paths", "--output", "NAME,TYPE,MOUNTPOINTS", str(device))
        for each in _nodes(tree.get("blockdevices")):
            mounted = [str(point) for point in _list(each.get("mountpoints")) if point]
            if mounted:
                raise ConflictError(f"{device} is in use: {each['name']} is mounted at {', '.join(mounted)}")
        try:
            os.close(os.open(device, os.O_RDONLY | os.O_EXCL | os.O_CLOEXEC))
        except OSError as error:
            if error.errno == errno.EBUSY:
                used = [str(each["name"]) for each in _nodes(tree.get("blockdevices"))][1:]
                by = f" by {', '.join(used)}" if used else ""
                raise ConflictError(f"{device} is in use{by}, and not for weft to take") from None
            raise InvalidValueError("device", f"{device} cannot be opened: {error.strerror}") from error

    def _held(self, device: Path) -> list[str]:
        """What is on a device and its partitions by their signatures, and these partitions."""
        tree = self._json("lsblk", "--json", "--paths", "--output", "NAME,TYPE", str(device))
        parts = [str(each["name"]) for each in _nodes(tree.get("blockdevices")) if each.get("type") == "part"]
        kinds = [kind for each in (str(device), *parts) for kind in self._signatures(each)]
        # One kind can have several signatures, as GPT has at both ends.
        return [*dict.fromkeys(kinds), *parts]

    def _signatures(self, device: str) -> list[str]:
        found = self._json("wipefs", "--no-act", "--json", device)
        return [str(_dict(each).get("type")) for each in _list(found.get("signatures"))]

    def _have_thin_pool(self) -> bool:
        """Make the thin pool if it is not there; whether it was made."""
        name = f"{self._group}/{self._pool.thin_pool}"
        text = self._run("lvs", *FORMAT, "-o", "lv_name,segtype,zero", self._group)
        present = next((row for row in records(text, "lv") if row["lv_name"] == self._pool.thin_pool), None)
        if present is None:
            self._run(
                "lvcreate",
                *("--type", "thin-pool", "--zero", "y", "--extents", _ROOM_FOR_METADATA),
                *("--name", self._pool.thin_pool, self._group),
            )
            return True
        if present["segtype"] != "thin-pool":
            raise ConflictError(
                f"{name} is there, and no thin pool; rename it or give thin_pool another name"
            )
        if present["zero"] != "1":
            raise ConflictError(
                f"thin pool {name} does not zero the blocks that it gives out; turn it on: lvchange --zero y {name}"
            )
        return False

    def _run(self, *argv: str) -> str:
        return command(self._runner, argv, pool=self._pool.name, timeout=_SECONDS).stdout

    def _json(self, *argv: str) -> dict[str, object]:
        text = self._run(*argv)
        try:
            return _dict(json.loads(text or "{}"))
        except ValueError:
            raise DataError(f"what {argv[0]} says cannot be read: {text[:200]!r}") from None


def _device_number(device: Path) -> int:
    try:
        found = device.stat()
    except OSError as error:
        raise InvalidValueError("device", f"{device} cannot be looked at: {error.strerror}") from None
    if not stat.S_ISBLK(found.st_mode):
        raise InvalidValueError("device", f"{device} is no block device")
    return found.st_rdev


def _nodes(value: object) -> list[dict[str, object]]:
    """Every device in a tree of lsblk's, parents first."""
    found: list[dict[str, object]] = []
    for each in map(_dict, _list(value)):
        found += [each, *_nodes(each.get("children"))]
    return found


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else []


def _dict(value: object) -> dict[str, object]:
    return value if isinstance(value, dict) else {}
