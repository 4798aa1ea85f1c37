"""What the lab is built of: Debian, a kernel, weft's dependencies, a disk made of these, and a VM's saved RAM."""

import os
import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from lab.cache import Layer, build, run_script
from lab.debian import Debian
from lab.errors import LabError, LabUnavailableError
from lab.qemu import DATA_DISK_BYTES, DATA_DISKS, PROGRAM, WIRES, Machine, Qemu, command_line
from lab.ssh import Ssh
from lab.wheels import CHECKOUT, download_wheels
from lab.wire import Wire

RECIPE = CHECKOUT / "lab" / "recipe"
REQUIREMENTS = CHECKOUT / "requirements" / "runtime.txt"
BOOT_SECONDS = 300.0  # for a cold boot; 20 to 30 s on a machine that does nothing else
_SNAPSHOT_MACS = ("52:54:00:00:01:00", "52:54:00:00:02:00")

# What building and running the lab takes, and the package that brings each.
_PROGRAMS = {
    PROGRAM: "qemu-system-x86",
    "qemu-img": "qemu-utils",
    "mmdebstrap": "mmdebstrap",
    "dpkg-deb": "dpkg",
    "mke2fs": "e2fsprogs",
    "ssh": "openssh-client",
    "gcc": "gcc",
    "make": "make",
    "xz": "xz-utils",
}
_NEEDED_TO_RUN = (PROGRAM, "qemu-img", "ssh")

# Read into the page cache before the RAM is saved, so that the first use in a VM costs no disk reads; the soft RDMA
# drivers stand in for hardware and are therefore there from the start, as are nobody else's modules.
_WARM_UP = """
modprobe -a rdma_rxe siw
/opt/weft/bin/python -m pip install --help >/dev/null
/opt/weft/bin/python -c 'import click, msgspec, rich, starlette, uvicorn, crc32c, asyncio, http.client, email, uuid'
for program in lvs nvme fio nft rdma tc jq dd timeout setsid blkdiscard mkfs.ext4; do
    command -v $program >/dev/null && cat "$(command -v $program)" >/dev/null
done
for command in lvs "nvme list" "rdma link" "nft list ruleset" "ip address" "systemctl is-system-running"; do $command || true; done
sync
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """The finished pieces of which VMs are started."""

    kernel: Path
    initrd: Path
    root_disk: Path  # qcow2, at the moment of the saved state
    state: Path
    ssh_key: Path


def missing_programs(*, to_build: bool) -> list[str]:
    """Debian packages that this machine lacks."""
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    return sorted(
        package
        for program, package in _PROGRAMS.items()
        if (to_build or program in _NEEDED_TO_RUN) and shutil.which(program, path=path) is None
    )


def is_built(debian: Debian = Debian.BOOKWORM) -> bool:
    return shutil.which(PROGRAM) is not None and all(layer.is_built for layer in _layers(debian))


def ensure_built(
    say: Callable[[str], None], debian: Debian = Debian.BOOKWORM, *, install_packages: bool = False
) -> Built:
    """Everything a VM is started from, built where it is missing: about three minutes, once.

    Raises LabUnavailableError when it cannot be built here, LabError when building it failed.
    """
    _require_programs(debian, install_packages=install_packages)
    layers = _layers(debian)
    if not all(layer.is_built for layer in layers):
        if os.geteuid() != 0:
            raise LabUnavailableError("building the VM lab takes root: run make lab as root")
        say(f"Building the VM lab, once, from the packages of Debian {debian.value}")
    build(layers, say)
    kernel, image, snapshot = layers[1].folder, layers[3].folder, layers[4].folder
    return Built(
        kernel=kernel / "vmlinuz",
        initrd=image / "initrd",
        root_disk=snapshot / "root.qcow2",
        state=snapshot / "state",
        ssh_key=image / "ssh_key",
    )


def make_disk(path: Path, *, backing: Path) -> None:
    """An overlay that holds what a VM writes over a disk that others share."""
    backing_format = "raw" if backing.suffix == ".raw" else "qcow2"
    command = ["qemu-img", "create", "-q", "-f", "qcow2", "-F", backing_format, "-b", str(backing), str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise LabError(f"no disk {path}: {done.stderr.strip()}")


def make_data_disk(path: Path) -> None:
    """An empty disk that takes no room until it is written."""
    with path.open("wb") as disk:
        disk.truncate(DATA_DISK_BYTES)


def _require_programs(debian: Debian, *, install_packages: bool) -> None:
    built = is_built(debian)
    missing = missing_programs(to_build=not built)
    if not missing:
        return
    line = ["apt-get", "install", "--yes", "--no-install-recommends", *missing]
    if install_packages and os.geteuid() == 0 and shutil.which("apt-get"):
        subprocess.run(["apt-get", "update"], capture_output=True, check=False)
        subprocess.run(
            line, capture_output=True, check=False, env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        )
        missing = missing_programs(to_build=not built)
    if missing:
        raise LabUnavailableError(f"the VM lab needs programs that are not here; as root: {' '.join(line)}")


def wheels_folder(debian: Debian = Debian.BOOKWORM) -> Path:
    """Where the wheels of weft's dependencies for the VMs are, once the lab is built."""
    return _layers(debian)[2].folder


@cache
def _layers(debian: Debian) -> tuple[Layer, Layer, Layer, Layer, Layer]:
    """In the order in which they are built. The kernel and Debian are of the day of the build: they are not pinned."""
    system = Layer(
        name="system",
        build=lambda folder: run_script(RECIPE / "system.sh", RECIPE, debian.value, folder=folder),
        files=[RECIPE / "system.sh", RECIPE / "packages"],
        words=[debian.value],
    )
    kernel = Layer(
        name="kernel",
        build=lambda folder: run_script(RECIPE / "kernel.sh", folder=folder),
        files=[RECIPE / "kernel.sh"],
    )
    wheels = Layer(
        name="wheels",
        build=lambda folder: download_wheels(REQUIREMENTS, folder, debian),
        files=[REQUIREMENTS],
        words=[debian.python],
    )
    image = Layer(
        name="image",
        build=lambda folder: run_script(
            RECIPE / "image.sh",
            RECIPE,
            system.folder,
            kernel.folder,
            wheels.folder,
            REQUIREMENTS,
            folder=folder,
        ),
        files=[
            RECIPE / "image.sh",
            RECIPE / "initrd-init",
            *sorted(path for path in (RECIPE / "files").rglob("*") if path.is_file()),
        ],
        below=[system, kernel, wheels],
    )
    snapshot = Layer(
        name="snapshot",
        build=lambda folder: _save_snapshot(folder, kernel.folder, image.folder),
        words=[
            _WARM_UP,
            _qemu_version(),
            *command_line(_snapshot_machine(Path(), Path(), Path()), dict.fromkeys(WIRES, 0)),
        ],
        below=[image],
    )
    return system, kernel, wheels, image, snapshot


def _qemu_version() -> str:
    """A saved state is read by the QEMU that wrote it, and by no other for certain."""
    try:
        return subprocess.run([PROGRAM, "--version"], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        raise LabUnavailableError(f"{PROGRAM} does not run: {error}") from None


def _save_snapshot(folder: Path, kernel: Path, image: Path) -> None:
    machine = _snapshot_machine(folder, kernel, image)
    make_disk(machine.root_disk, backing=image / "disk.raw")
    for disk in machine.data_disks:
        make_data_disk(disk)
    wires = [Wire(name) for name in WIRES]
    ends = {wire.name: wire.plug(machine.name) for wire in wires}
    ssh = Ssh(machine.name, folder, image / "ssh_key")
    qemu = Qemu(machine, ends)
    try:
        ssh.point_at(qemu.ssh_port(), lambda: qemu.is_alive)
        ssh.wait(time.monotonic() + BOOT_SECONDS)
        ssh.run(_WARM_UP, timeout=BOOT_SECONDS)
        ssh.close()
        time.sleep(2)  # for the session to end in the VM
        qemu.save_state(folder / "state")
        qemu.quit()
    finally:
        ssh.close()
        qemu.stop()
        for wire in wires:
            wire.close()
            ends[wire.name].close()
    for disk in machine.data_disks:
        disk.unlink()


def _snapshot_machine(folder: Path, kernel: Path, image: Path) -> Machine:
    return Machine(
        name="snapshot",
        kernel=kernel / "vmlinuz",
        initrd=image / "initrd",
        root_disk=folder / "root.qcow2",
        data_disks=[folder / f"disk{number}.raw" for number in range(1, DATA_DISKS + 1)],
        macs=_SNAPSHOT_MACS,
        folder=folder,
    )
