"""I/O in a VM that knows what it must read: fio that verifies what it wrote, and digests past every cache."""

import json
import time
from dataclasses import dataclass
from typing import Any, Final, Self

from lab.errors import LabError
from lab.vm import Vm

MIB: Final = 2**20
_DIGEST_SECONDS: Final = 300.0
_FINISH_SECONDS: Final = 120.0
_STALLED_SECONDS: Final = 300.0


def digest(vm: Vm, path: str, mib: int, *, skip_mib: int = 0) -> str:
    """SHA-256 of so many MiBs of a device, read with O_DIRECT: a node's page cache is stale beside its hosts."""
    script = f"dd if={path} bs=1M skip={skip_mib} count={mib} iflag=direct status=none | sha256sum"
    return vm.run(script, timeout=_DIGEST_SECONDS).stdout.split()[0]


def size_of(vm: Vm, path: str) -> int:
    """Bytes of a block device."""
    return int(vm.run(["blockdev", "--getsize64", path]).stdout)


def make_ext4(vm: Vm, path: str, *, mib: int = 32) -> str:
    """Make ext4 on a device, fill it with files, unmount it. Returns what `ext4_content` must read afterwards."""
    vm.run(
        f"""
        mkfs.ext4 -q -F {path}; mkdir -p /mnt/volume; mount {path} /mnt/volume; trap 'umount /mnt/volume' EXIT
        mkdir /mnt/volume/files
        head -c {mib}M /dev/urandom | split --bytes 997k --suffix-length 4 - /mnt/volume/files/
        """,
        timeout=_DIGEST_SECONDS,
    )
    return ext4_content(vm, path)


def ext4_content(vm: Vm, path: str) -> str:
    """A digest of all files of an ext4 file system, which is checked first; raises LabError when fsck finds fault."""
    return vm.run(
        f"""
        e2fsck -f -n {path} >&2
        mkdir -p /mnt/volume; mount -o ro {path} /mnt/volume; trap 'umount /mnt/volume' EXIT
        cd /mnt/volume; find files -type f | sort | xargs cat | sha256sum; cd /
        """,
        timeout=_DIGEST_SECONDS,
    ).stdout.split()[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class FioReport:
    """What fio found, by the clock of its VM. longest_pause: seconds that the slowest I/O took; error: an errno."""

    reads: int
    writes: int
    longest_pause: float
    error: int
    output: str


class VerifyingFio:
    """fio that writes blocks to a device, reads them back soon after and compares, between __enter__ and finish().

    It ends at its first I/O error or wrong block. iops bounds what it asks of a slow machine.
    """

    def __init__(
        self, vm: Vm, path: str, *, offset_mib: int = 0, size_mib: int = 64, iops: int = 200
    ) -> None:
        self._vm = vm
        self._device = path.rsplit("/", 1)[-1]
        self._report = f"/tmp/fio-{self._device}-{offset_mib}.json"
        self._words = [
            "fio", "--name=verifying", f"--filename={path}", "--direct=1", "--ioengine=libaio", "--iodepth=4",
            "--thread", "--rw=randwrite", "--bs=4k", f"--offset={offset_mib}M", f"--size={size_mib}M",
            f"--rate_iops={iops}", "--verify=crc32c", "--verify_fatal=1", "--verify_backlog=32",
            "--verify_state_save=0", "--time_based", "--runtime=3600", "--output-format=json", f"--output={self._report}",
        ]  # fmt: skip

    def __enter__(self) -> Self:
        self._vm.run(["rm", "-f", self._report])
        self._process = self._vm.spawn(self._words)
        return self

    def __exit__(self, *_: object) -> None:
        self._process.stop()

    @property
    def is_running(self) -> bool:
        return self._process.is_running

    def wait_for_progress(self, operations: int = 100, timeout: float = _STALLED_SECONDS) -> None:
        """Until so many more I/Os of the device have ended. Raises LabError when fio ended, with what it said, or time is over."""
        script = f"""
            count() {{ awk '{{ print $1 + $5 }}' /sys/class/block/{self._device}/stat; }}
            wanted=$(($(count) + {operations}))
            until [ "$(count)" -ge "$wanted" ]; do
                [ -n "$(pgrep --exact fio)" ] || {{ echo "fio has ended" >&2; exit 1; }}
                sleep 0.1
            done
        """
        done = self._vm.run(script, timeout=timeout, check=False)
        if done.status != 0:
            raise LabError(
                f"{done.stderr.strip()} on {self._vm.name}: {self.wait_for_end(_FINISH_SECONDS).output}"
            )

    def wait_for_end(self, timeout: float) -> FioReport:
        """Until fio has ended by itself, which it does at an error. Raises LabError after timeout seconds."""
        self._process.wait(timeout, check=False)
        return self._read_report()

    def finish(self) -> FioReport:
        """End it and say what it found. Raises LabError when it does not end: its I/O is stuck."""
        self._process.signal("INT")
        self._process.wait(_FINISH_SECONDS, check=False)
        return self._read_report()

    def _read_report(self) -> FioReport:
        text = self._vm.run(["cat", self._report]).stdout
        try:
            job: dict[str, Any] = json.loads(text[text.index("{") :])["jobs"][0]
        except (ValueError, KeyError, IndexError):
            raise LabError(
                f"fio on {self._vm.name} left no report: {text}{self._process.stdout}{self._process.stderr}"
            ) from None
        slowest = max(int(job[way]["lat_ns"]["max"]) for way in ("read", "write"))
        return FioReport(
            reads=int(job["read"]["total_ios"]),
            writes=int(job["write"]["total_ios"]),
            longest_pause=slowest / 1e9,
            error=int(job["error"]),
            output=f"{text}{self._process.stderr}",
        )


def wait_until(condition: str, vm: Vm, *, timeout: float, what: str) -> float:
    """Until a bash condition holds in a VM; returns after how many seconds. Raises LabError after timeout seconds."""
    began = time.monotonic()
    done = vm.run(f"until {condition}; do sleep 0.05; done", timeout=timeout, check=False)
    if done.status != 0:
        raise LabError(f"{what} did not happen on {vm.name} within {timeout:g} s: {done.stderr}")
    return time.monotonic() - began
