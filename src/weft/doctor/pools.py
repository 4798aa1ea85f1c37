"""The storage node's pools: directories, volume groups, thin pools, and volume groups that are not this machine's."""

import os
import shlex
from collections.abc import Iterator, Sequence
from decimal import Decimal
from pathlib import Path

from weft.config import PoolKind, PoolSection
from weft.doctor.case import Case
from weft.doctor.finding import NODE, Finding
from weft.doctor.machine import Machine
from weft.doctor.modules import module_finding
from weft.doctor.packages import Need, install
from weft.drivers.lvm_group import VolumeGroup
from weft.drivers.lvm_report import (
    DEVICE_FIELDS,
    FORMAT,
    PhysicalVolume,
    ThinPool,
    physical_volume,
    records,
)
from weft.model import GIB, Provisioning

_PROGRAM_PLACES = ("/usr/sbin", "/sbin", "/usr/bin", "/bin")
_FULL_METADATA = Decimal(80)


def check_pools(case: Case) -> Iterator[Finding]:
    groups = [pool for pool in case.config.pools if pool.kind is PoolKind.LVM]
    for pool in case.config.pools:
        if pool.kind is PoolKind.FILE:
            yield _directory(case, pool)
    if not groups:
        yield NODE.irrelevant("LVM", "No pool is of kind lvm.")
        return
    is_thin = any(pool.provisioning is Provisioning.THIN for pool in groups)
    yield from _device_mapper(case.machine, is_thin=is_thin)
    if not _has_program(case.machine, "lvm"):
        yield NODE.missing("LVM", "LVM is not installed.", install(case.machine.family, Need.LVM))
        return
    if is_thin and not _has_program(case.machine, "thin_check"):
        yield NODE.warn(
            "thin_check",
            "thin_check is not installed, so LVM activates thin pools without checking them.",
            install(case.machine.family, Need.THIN_TOOLS),
        )
    if not case.machine.is_root:
        names = ", ".join(pool.volume_group for pool in groups)
        yield NODE.unknown(
            "LVM", f"Only root may look at volume groups ({names}).", "sudo weft doctor --node"
        )
        return
    visible = _physical_volumes(case.machine)
    for pool in groups:
        yield from _group(case, pool, visible)
    yield _guests(case, [pool.volume_group for pool in groups], visible)


def _directory(case: Case, pool: PoolSection) -> Finding:
    about, path = f"pool {pool.name}", case.config.pool_path(pool)
    nearest = next(each for each in (path, *path.parents) if case.machine.exists(each))
    where = case.machine.at(nearest)
    quoted = shlex.quote(str(nearest))
    if not where.is_dir():
        return NODE.missing(about, f"{nearest} is not a directory.", f"mv {quoted} {quoted}.old")
    if not os.access(where, os.W_OK | os.X_OK):
        user = case.machine.user_id
        sentence = f"{path} is not there, and {nearest}" if nearest != path else str(path)
        return NODE.missing(
            about,
            f"{sentence} cannot be written to by this user.",
            f"mkdir -p {shlex.quote(str(path))} && chown {user} {shlex.quote(str(path))}",
        )
    room = os.statvfs(where)
    free = room.f_bavail * room.f_frsize / GIB
    there = "is there" if nearest == path else "is made when weft starts"
    return NODE.ok(about, f"The directory {path} {there}; its file system has {free:.1f} GiB free.")


def _device_mapper(machine: Machine, *, is_thin: bool) -> Iterator[Finding]:
    yield module_finding(machine, NODE, "dm-mod", "logical volumes", needed=True)
    if is_thin:
        yield module_finding(machine, NODE, "dm-thin-pool", "thin pools", needed=True)
    else:
        yield module_finding(machine, NODE, "dm-snapshot", "snapshots of thick volumes", needed=True)


def _has_program(machine: Machine, name: str) -> bool:
    return any(machine.exists(f"{each}/{name}") for each in _PROGRAM_PLACES)


def _group(case: Case, pool: PoolSection, visible: Sequence[PhysicalVolume]) -> Iterator[Finding]:
    about = f"pool {pool.name}"
    if pool.volume_group not in {each.group for each in visible}:
        yield NODE.missing(
            about,
            f"There is no volume group {pool.volume_group}.",
            f"{_with_a_disk(pool)}  # DISK: an empty one",
        )
        return
    group = VolumeGroup(pool.volume_group, pool=pool.name, runner=case.machine.run)
    group.find_devices()
    size = group.size()
    if size.missing_devices:
        yield NODE.missing(
            about,
            f"Volume group {size.name} lacks {size.missing_devices} of its devices: some of its volumes cannot be used.",
            "pvs --options pv_name,vg_name,pv_missing  # and bring back the disk that is missing",
        )
        return
    if pool.provisioning is Provisioning.THICK:
        yield NODE.ok(
            about,
            f"Volume group {size.name} is there, {size.free / GIB:.1f} of {size.size / GIB:.1f} GiB free.",
        )
        return
    thin_pool = group.report(f'lv_name="{pool.thin_pool}"').thin_pools.get(pool.thin_pool)
    if thin_pool is None:
        yield NODE.missing(
            about,
            f"Volume group {pool.volume_group} has no thin pool {pool.thin_pool}.",
            f"weft pool prepare {pool.name}",
        )
        return
    yield _thin_pool(pool, thin_pool, free=size.free)


def _with_a_disk(pool: PoolSection) -> str:
    """Makes what the pool lacks, on one disk more."""
    return f"weft pool prepare {pool.name} /dev/DISK"


def _thin_pool(pool: PoolSection, found: ThinPool, *, free: int) -> Finding:
    about, name = f"pool {pool.name}", f"{pool.volume_group}/{pool.thin_pool}"
    more = "" if free > GIB else f"{_with_a_disk(pool)} && "
    if not found.zeroes:
        return NODE.missing(
            about,
            f"Thin pool {name} does not zero the blocks that it gives out: one volume could show what another left.",
            f"lvchange --zero y {name}",
        )
    if found.data_percent is None or found.metadata_percent is None:
        return NODE.missing(
            about,
            f"Thin pool {name} is not active.",
            f"lvchange --activate y {pool.volume_group}/{pool.thin_pool}",
        )
    if found.data_percent >= pool.warn_percent:
        return NODE.warn(
            about,
            f"Thin pool {name} is {found.data_percent:.0f} % full; hosts' writes fail when it is full.",
            f"{more}lvextend --extents +50%FREE {name}",
        )
    if found.metadata_percent >= _FULL_METADATA:
        return NODE.warn(
            about,
            f"The metadata of thin pool {name} is {found.metadata_percent:.0f} % full.",
            f"{more}lvextend --poolmetadatasize +256M {name}",
        )
    return NODE.ok(
        about,
        f"Thin pool {name} is there, zeroes new blocks, and is {found.data_percent:.0f} % full of "
        f"{found.size / GIB:.1f} GiB.",
    )


def _guests(case: Case, groups: Sequence[str], visible: Sequence[PhysicalVolume]) -> Finding:
    """Whether LVM looks into volumes that are exported or attached, and activates what it finds there.

    weft's own commands see the pools' devices alone; udev and whoever types a command see what LVM is set to.
    """
    machine, about = case.machine, "guests' volume groups"
    fabric = _fabric_disks(machine)
    inside = [each for each in visible if _is_inside(each.path, groups, fabric)]
    own = dict.fromkeys(each.group_uuid for each in visible if each.group and each not in inside)
    # By uuid, for a guest may have chosen the same name; and by `lvm`, for Debian 12 has no such command beside it.
    command = (
        "echo devices/use_devicesfile=1 >> /etc/lvm/lvmlocal.conf && "
        f"for uuid in {' '.join(map(shlex.quote, own))}; do lvm vgimportdevices --select vg_uuid=$uuid; done"
    )
    if inside:
        named = ", ".join(f"{each.group or 'a physical volume'} on {each.path}" for each in inside)
        return NODE.warn(
            about,
            f"LVM on this machine sees what guests made inside their volumes ({named}), and may activate it.",
            command,
        )
    settings = _lvm_settings(machine)
    if settings.get("use_devicesfile") == "1" and machine.exists("/etc/lvm/devices/system.devices"):
        return NODE.ok(
            about, "LVM uses the disks in its devices file alone, so what guests make stays theirs."
        )
    if settings.get("global_filter", _EVERYTHING) != _EVERYTHING:
        return NODE.ok(about, "LVM has a global_filter; see that it rejects devices with guests' volumes.")
    if settings.get("scan_lvs") == "1":
        return NODE.warn(
            about,
            "LVM is set to look into logical volumes (scan_lvs = 1): it would see and activate what guests make there.",
            command,
        )
    if fabric:
        return NODE.warn(
            about,
            "This machine has volumes attached itself, and LVM would see and activate what guests make there.",
            command,
        )
    return NODE.ok(
        about, "LVM does not look into logical volumes (scan_lvs = 0), so what guests make stays theirs."
    )


_EVERYTHING = '["a|.*|"]'


def _physical_volumes(machine: Machine) -> list[PhysicalVolume]:
    done = machine.run(["pvs", *FORMAT, "-o", DEVICE_FIELDS], timeout=_LOOK_SECONDS)
    return [physical_volume(row) for row in records(done.stdout, "pv")]


_LOOK_SECONDS = 10.0


def _lvm_settings(machine: Machine) -> dict[str, str]:
    keys = [f"devices/{each}" for each in ("use_devicesfile", "scan_lvs", "global_filter")]
    done = machine.run(["lvmconfig", "--typeconfig", "full", *keys], timeout=_LOOK_SECONDS)
    pairs = (line.partition("=") for line in done.stdout.splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs}


def _is_inside(path: str, groups: Sequence[str], fabric: frozenset[str]) -> bool:
    if Path(path).name in fabric:
        return True
    mapped = tuple(f"/dev/mapper/{group.replace('-', '--')}-" for group in groups)
    return path.startswith((*mapped, *(f"/dev/{group}/" for group in groups)))


def _fabric_disks(machine: Machine) -> frozenset[str]:
    """The disks of subsystems that are reached by a fabric, by their names in /dev."""
    found: set[str] = set()
    for subsystem in machine.names("/sys/class/nvme-subsystem"):
        directory = f"/sys/class/nvme-subsystem/{subsystem}"
        names = [each for each in machine.names(directory) if each.startswith("nvme")]
        transports = {machine.text(f"{directory}/{each}/transport") for each in names} - {None}
        if transports - {"pcie"}:
            found.update(each for each in names if "n" in each.removeprefix("nvme"))
    return frozenset(found)
