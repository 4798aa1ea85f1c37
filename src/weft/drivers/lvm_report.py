"""LVM's reports, read from `--reportformat json --units b --nosuffix --binary`.

With --binary a field that is true or false is 1, 0, or -1 where LVM cannot tell. Fields are described in
`lvs -o help`, `vgs -o help` and `pvs -o help`.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation

from weft.errors import DataError

FORMAT = ("--reportformat", "json", "--units", "b", "--nosuffix", "--binary")

VOLUME_FIELDS = (
    "lv_name,lv_size,lv_active_locally,lv_device_open,lv_tags,lv_health_status,pool_lv,origin,origin_size,"
    "lv_snapshot_invalid,data_percent,metadata_percent,zero,segtype,vg_missing_pv_count"
)
GROUP_FIELDS = "vg_name,vg_uuid,vg_size,vg_free,vg_extent_size,vg_missing_pv_count"
DEVICE_FIELDS = "pv_name,vg_name,vg_uuid,pv_missing"
RANGE_FIELDS = "lv_name,seg_pe_ranges"

Record = Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class LogicalVolume:
    """One logical volume. Sizes are bytes.

    pool is the thin pool that it is in; origin the logical volume that it is a snapshot of, origin_size that one's
    size when the snapshot was taken (COW snapshots alone). is_partial: a device that holds some of it is missing.
    """

    name: str
    size: int
    is_active: bool
    is_open: bool
    tags: frozenset[str]
    pool: str
    origin: str
    origin_size: int
    is_invalid: bool
    is_partial: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ThinPool:
    """A thin pool. size is bytes; how full its data and its metadata are is percent; None while it is not active."""

    name: str
    size: int
    data_percent: Decimal | None
    metadata_percent: Decimal | None
    zeroes: bool
    health: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Logical volumes by their names, and the thin pools among them."""

    volumes: Mapping[str, LogicalVolume]
    thin_pools: Mapping[str, ThinPool]
    is_group_partial: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupSize:
    """A volume group. Sizes are bytes."""

    name: str
    uuid: str
    size: int
    free: int
    extent_size: int
    missing_devices: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PhysicalVolume:
    """A device of a volume group, as it can be seen now."""

    path: str
    group: str
    group_uuid: str
    is_missing: bool


def records(text: str, kind: str) -> Iterator[Record]:
    """The rows of one kind (`lv`, `vg`, `pv`, `seg`) in a report. Raises DataError when it is none."""
    try:
        for report in json.loads(text)["report"]:
            for row in report.get(kind, ()):
                yield {str(key): str(value) for key, value in row.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"LVM's report cannot be read ({error}): {text[:200]!r}") from None


def volume_report(text: str) -> Report:
    """What a report of VOLUME_FIELDS says."""
    rows = list(records(text, "lv"))
    return Report(
        volumes={each.name: each for each in map(_logical_volume, rows)},
        thin_pools={row["lv_name"]: _thin_pool(row) for row in rows if row["segtype"] == "thin-pool"},
        is_group_partial=any(row["vg_missing_pv_count"] != "0" for row in rows),
    )


def _logical_volume(row: Record) -> LogicalVolume:
    return LogicalVolume(
        name=row["lv_name"].strip("[]"),
        size=_bytes(row, "lv_size"),
        is_active=row["lv_active_locally"] == "1",
        is_open=row["lv_device_open"] == "1",
        tags=frozenset(filter(None, row["lv_tags"].split(","))),
        pool=row["pool_lv"],
        origin=row["origin"].strip("[]"),
        origin_size=_bytes(row, "origin_size"),
        is_invalid=row["lv_snapshot_invalid"] == "1",
        is_partial="partial" in row["lv_health_status"],
    )


def _thin_pool(row: Record) -> ThinPool:
    return ThinPool(
        name=row["lv_name"],
        size=_bytes(row, "lv_size"),
        data_percent=_percent(row, "data_percent"),
        metadata_percent=_percent(row, "metadata_percent"),
        zeroes=row["zero"] == "1",
        health=row["lv_health_status"],
    )


def group_size(row: Record) -> GroupSize:
    return GroupSize(
        name=row["vg_name"],
        uuid=row["vg_uuid"],
        size=_bytes(row, "vg_size"),
        free=_bytes(row, "vg_free"),
        extent_size=_bytes(row, "vg_extent_size"),
        missing_devices=_bytes(row, "vg_missing_pv_count"),
    )


def physical_volume(row: Record) -> PhysicalVolume:
    return PhysicalVolume(
        path=row["pv_name"],
        group=row["vg_name"],
        group_uuid=row["vg_uuid"],
        is_missing=row["pv_missing"] == "1",
    )


def _bytes(row: Record, field: str) -> int:
    """A whole number; an empty field is 0, as LVM leaves out what does not apply."""
    try:
        return int(row[field] or 0)
    except ValueError:
        raise DataError(f"LVM reports {field} as {row[field]!r}, which is no whole number") from None


def _percent(row: Record, field: str) -> Decimal | None:
    if not row[field]:
        return None
    try:
        return Decimal(row[field])
    except InvalidOperation:
        raise DataError(f"LVM reports {field} as {row[field]!r}, which is no percentage") from None
