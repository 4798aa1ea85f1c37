"""The tables `pools`: what volumes are made of, and that no two pools count the same room."""

import os
import re
from collections.abc import Sequence
from enum import StrEnum
from itertools import combinations
from pathlib import Path

import msgspec

from weft.config.section import Section, check_range, directory
from weft.errors import InvalidValueError
from weft.model import Provisioning
from weft.names import check_name, check_text

_LVM_NAME = re.compile(r"[A-Za-z0-9_+][A-Za-z0-9_+.-]{0,126}")
"""Names of volume groups and logical volumes, lvm(8)."""


class PoolKind(StrEnum):
    FILE = "file"
    LVM = "lvm"


class PoolSection(Section, frozen=True):
    """One pool. `over_commit`: bytes promised for each byte there is.

    `path`: the directory of a file pool. `volume_group`, `provisioning`, `thin_pool`, `warn_percent`: of an LVM pool.
    """

    name: str = "default"
    kind: PoolKind = PoolKind.FILE
    path: str = ""
    volume_group: str = ""
    provisioning: Provisioning = Provisioning.THIN
    thin_pool: str = "thinpool"
    warn_percent: int = 80
    over_commit: float = 1.0
    availability_zone: str = "default"
    multi_attach: bool = True
    description: str = ""
    capabilities: dict[str, str] = msgspec.field(default_factory=dict)


def pool_path(pool: PoolSection, data_dir: Path) -> Path:
    """Below it are the paths of the pool's volumes."""
    if pool.kind is PoolKind.LVM:
        return Path("/dev") / pool.volume_group
    return Path(pool.path) if pool.path else data_dir / "pools" / pool.name


def check_pools(pools: Sequence[PoolSection], data_dir: Path) -> None:
    if not pools:
        raise InvalidValueError("pools", "must hold at least one pool")
    names = [check_name("pools.name", pool.name, maximum=64) for pool in pools]
    if len(set(names)) != len(names):
        raise InvalidValueError("pools.name", "two pools have the same name")
    for pool in pools:
        directory("pools.path", pool.path, Path())
        if pool.name.strip(".") == "":
            raise InvalidValueError("pools.name", f"{pool.name!r} cannot be the name of a directory")
        check_range("pools.over_commit", pool.over_commit, 1.0, 1000)
        _check_volume_group(pool)
        check_name("pools.availability_zone", pool.availability_zone)
        check_text("pools.description", pool.description)
        for key, value in pool.capabilities.items():
            check_text("pools.capabilities", key, maximum=255)
            check_text(f"pools.capabilities.{key}", value)
    _check_room_is_counted_once(pools, data_dir)


def _check_volume_group(pool: PoolSection) -> None:
    if pool.kind is not PoolKind.LVM:
        if pool.volume_group:
            raise InvalidValueError("pools.volume_group", f"pool {pool.name} is of kind {pool.kind}, not lvm")
        return
    if pool.path:
        raise InvalidValueError("pools.path", f"pool {pool.name} is of kind lvm: give volume_group instead")
    if not pool.volume_group:
        raise InvalidValueError("pools.volume_group", f"pool {pool.name} is of kind lvm and needs one")
    names = {"pools.volume_group": pool.volume_group}
    if pool.provisioning is Provisioning.THIN:
        names["pools.thin_pool"] = pool.thin_pool
    for field, name in names.items():
        if not _LVM_NAME.fullmatch(name):
            raise InvalidValueError(field, f"{name!r} is not a name that LVM takes")
    check_range("pools.warn_percent", pool.warn_percent, 1, 100)


def _check_room_is_counted_once(pools: Sequence[PoolSection], data_dir: Path) -> None:
    """Pools that share a directory, by whatever name, would count and sweep each other's volumes."""
    groups = [
        (pool.volume_group, pool.thin_pool if pool.provisioning is Provisioning.THIN else "")
        for pool in pools
        if pool.kind is PoolKind.LVM
    ]
    if len(set(groups)) != len(groups):
        raise InvalidValueError("pools.volume_group", "two pools have the same volume group and thin pool")
    real = [
        (pool.name, Path(os.path.realpath(pool_path(pool, data_dir))))
        for pool in pools
        if pool.kind is PoolKind.FILE
    ]
    for (name, path), (other, its_path) in combinations(real, 2):
        if path == its_path or path in its_path.parents or its_path in path.parents:
            raise InvalidValueError(
                "pools.path",
                f"pools {name} and {other} have the same path or one within the other's, so each would count the"
                " other's volumes",
            )
