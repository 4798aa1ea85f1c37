"""A runner that answers LVM's looking commands with what real ones have printed, and notes those that change something."""

import json
from collections.abc import Callable, Sequence

from weft.errors import CommandError
from weft.run import Completed

GROUP_UUID = "3UlnVE-10Zn-zd1A-BUsM-YDW3-hNI0-4EZx4C"

# As lvs 2.03.16 printed them for a thin pool of 2 GiB, a volume in it, and a snapshot of that.
_THIN_POOL = {
    "lv_name": "thinpool",
    "lv_size": "2147483648",
    "lv_active_locally": "1",
    "lv_device_open": "1",
    "lv_tags": "",
    "lv_health_status": "",
    "pool_lv": "",
    "origin": "",
    "origin_size": "",
    "lv_snapshot_invalid": "-1",
    "data_percent": "0.00",
    "metadata_percent": "12.30",
    "zero": "1",
    "segtype": "thin-pool",
    "vg_missing_pv_count": "0",
}


def thin_pool(**different: str) -> dict[str, str]:
    return {**_THIN_POOL, **different}


def thin_volume(name: str, size: int, **different: str) -> dict[str, str]:
    told = {"pool_lv": "thinpool", "segtype": "thin", "metadata_percent": "", "lv_device_open": "0"}
    return {**_THIN_POOL, **told, "lv_name": name, "lv_size": str(size), **different}


def thin_snapshot(name: str, size: int, volume_id: str, **different: str) -> dict[str, str]:
    inactive = {"lv_active_locally": "0", "lv_device_open": "-1", "data_percent": ""}
    tag = {"lv_tags": f"weft.volume={volume_id}", "origin": f"weft-{volume_id}"}
    return {**thin_volume(name, size), **inactive, **tag, **different}


def linear(name: str, size: int, **different: str) -> dict[str, str]:
    told = {
        "segtype": "linear",
        "zero": "-1",
        "data_percent": "",
        "metadata_percent": "",
        "lv_device_open": "0",
    }
    return {**_THIN_POOL, **told, "lv_name": name, "lv_size": str(size), **different}


def cow_snapshot(name: str, size: int, volume_id: str, **different: str) -> dict[str, str]:
    told = {
        "lv_snapshot_invalid": "0",
        "data_percent": "12.37",
        "origin": f"weft-{volume_id}",
        "origin_size": str(size),
        "lv_tags": f"weft.volume={volume_id}",
    }
    return {**linear(name, size + 2**20), **told, **different}


class RecordedLvm:
    """volumes and devices are what lvs and pvs say; commands is what was done, without --devices."""

    def __init__(self, *volumes: dict[str, str], devices: Sequence[str] = ("/dev/sdb", "/dev/sdc")) -> None:
        self.volumes = list(volumes)
        self.devices = [
            {"pv_name": each, "vg_name": "vg", "vg_uuid": GROUP_UUID, "pv_missing": "0"} for each in devices
        ]
        self.free = 10 * 2**30
        self.commands: list[str] = []
        self.restrictions: list[str] = []
        self.failures: dict[str, str] = {}
        """By a command's name, what it says when it fails."""
        self.after: Callable[[str], None] = lambda _command: None

    def __call__(self, argv: Sequence[str], *, timeout: float) -> Completed:
        assert timeout > 0
        command, *rest = argv
        if rest[:1] == ["--devices"]:
            self.restrictions.append(rest[1])
            rest = rest[2:]
        said = self.failures.get(command)
        if said is not None:
            raise CommandError(tuple(argv), 5, said)
        if command == "pvs":
            return _report("pv", self.devices)
        if command == "vgs":
            return _report("vg", [self._group()])
        if command == "lvs":
            return _report("lv", self.volumes)
        self.commands.append(" ".join([command, *rest]))
        self.after(command)
        return Completed("", "")

    def _group(self) -> dict[str, str]:
        return {
            "vg_name": "vg",
            "vg_uuid": GROUP_UUID,
            "vg_size": str(20 * 2**30),
            "vg_free": str(self.free),
            "vg_extent_size": str(4 * 2**20),
            "vg_missing_pv_count": str(len(self.devices) - len(self.restrictions[-1].split(","))),
        }


def _report(kind: str, rows: Sequence[dict[str, str]]) -> Completed:
    return Completed(json.dumps({"report": [{kind: list(rows)}]}), "  WARNING: nothing to worry about\n")
