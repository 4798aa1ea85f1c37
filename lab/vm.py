"""One virtual machine of the lab."""

import dataclasses
import enum
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from lab.errors import CommandFailedError, LabError
from lab.identity import Identity, personality
from lab.layers import BOOT_SECONDS, Built, make_data_disk, make_disk
from lab.qemu import DATA_DISKS, WIRES, Machine, Qemu
from lab.ssh import Command, RemoteProcess, Result, Ssh
from lab.wheels import weft_wheel
from lab.wire import Direction, Wire

DEFAULT_TIMEOUT = 120.0  # seconds for a command, unless its caller knows better
_RESUME_SECONDS = 120.0
_INSTALL_SECONDS = 300.0
_SETTLE = "udevadm settle; sleep 30"  # what the boot began shall not be measured; idle time passes at once in such a run


class Rdma(enum.StrEnum):
    """Soft RDMA over an Ethernet NIC."""

    RXE = "rxe"  # RoCE v2
    SIW = "siw"  # iWARP


class Vm:
    """A VM with two NICs on the lab's wires (`wire0`, `wire1`) and four empty data disks.

    Made and ended by `Lab`. The outer machine reaches it by ssh only.
    """

    def __init__(
        self, name: str, *, built: Built, folder: Path, wires: Mapping[str, Wire], icount: bool = False
    ) -> None:
        """icount: its clock counts instructions, on one processor; it cannot go on from the saved state and is booted."""
        self.name = name
        self.identity = Identity.of(name)
        self._built = built
        self._wires = wires
        self._machine = Machine(
            name=name,
            kernel=built.kernel,
            initrd=built.initrd,
            root_disk=folder / f"{name}.qcow2",
            data_disks=[folder / f"{name}.disk{number}" for number in range(1, DATA_DISKS + 1)],
            macs=self.identity.macs,
            folder=folder,
            icount=icount,
        )
        self._ssh = Ssh(name, folder, built.ssh_key)
        self._qemu: Qemu | None = None
        make_disk(self._machine.root_disk, backing=built.root_disk)
        for disk in self._machine.data_disks:
            make_data_disk(disk)

    def __repr__(self) -> str:
        return f"Vm({self.name!r})"

    # --- being there

    @property
    def is_running(self) -> bool:
        return self._qemu is not None and self._qemu.is_alive

    def resume(self) -> None:
        """The VM's first start, from the saved state if it can; it becomes this VM and no other."""
        self._power_on(None if self._machine.icount else self._built.state)
        self._ssh.wait(time.monotonic() + BOOT_SECONDS)
        self.run(personality(self.identity), timeout=_RESUME_SECONDS)

    def start(self, *, wait: bool = True) -> None:
        """Boot from the disks as they are, after `kill` or `power_off`: 20 to 30 s. With wait, until ssh answers."""
        if self.is_running:
            raise LabError(f"{self.name} runs already")
        self._power_on()
        if wait:
            self.wait()

    def wait(self, timeout: float = BOOT_SECONDS) -> None:
        """Until the VM answers ssh. Raises LabError when it does not within timeout seconds."""
        self._ssh.wait(time.monotonic() + timeout)

    def kill(self) -> None:
        """Cut the power: what was written to the disks stays, what the guest's kernel still held is lost. Idempotent."""
        if self._qemu is not None:
            self._qemu.stop()
            self._qemu = None
        self._ssh.close()

    def reboot(self, *, wait: bool = True) -> None:
        """Reboot in order, as `systemctl reboot` does. With wait, until ssh answers again."""
        before = self.boot_id()
        self.run("systemctl --no-block reboot", timeout=30)
        self._ssh.close()
        if wait:
            self.wait_rebooted(before)

    def boot_id(self) -> str:
        """Another one after each boot."""
        return self.run(["cat", "/proc/sys/kernel/random/boot_id"], timeout=60).stdout.strip()

    def wait_rebooted(self, before: str, timeout: float = BOOT_SECONDS) -> None:
        """Until the VM answers with another boot_id than before. Raises LabError after timeout seconds."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            self._ssh.wait(deadline)
            try:
                if self.boot_id() != before:
                    return
            except LabError:  # it went down under the command
                pass
            self._ssh.close()
            time.sleep(1)
        raise LabError(f"{self.name} did not reboot within {timeout:g} s")

    # --- commands and files

    def run(
        self,
        command: Command,
        timeout: float = DEFAULT_TIMEOUT,
        *,
        stdin: str | None = None,
        check: bool = True,
    ) -> Result:
        """Run a program (a list) or a bash script (a string, under set -euo pipefail) as root, to its end.

        Raises CommandFailedError when check is set and the status is not 0, LabError when timeout seconds are over.
        Each call costs about 0.1 s here and a few processes in a slow VM: put what belongs together into one script.
        """
        return self._ssh.run(command, timeout=timeout, stdin=stdin, check=check)

    def spawn(self, command: Command) -> RemoteProcess:
        """Start a command that runs beside others; the caller stops it or waits for its end."""
        return self._ssh.spawn(command)

    def install_weft(self) -> None:
        """Install weft from this checkout as a user would: its wheel into /opt/weft, where its dependencies are."""
        wheel = weft_wheel()
        self.put(wheel, f"/root/{wheel.name}")
        self.run(
            f"/opt/weft/bin/python -m pip --quiet --disable-pip-version-check --no-cache-dir"
            f" install --no-index --no-deps --force-reinstall /root/{wheel.name}; sync",
            timeout=_INSTALL_SECONDS,
        )

    def measure(self, script: str, timeout: float) -> str:
        """Boot the VM anew for a bash script whose times are steady, and return what it printed on both streams.

        Time in this run is the count of instructions on one processor: figures hold to about 1 % whatever else this
        machine does, and are good for comparing what runs on one VM; the wires and ssh are of no use in it. The
        script starts when the VM is up. Afterwards the VM is off, with all that the script wrote on its disks; `start`
        boots it as usual. Raises CommandFailedError when the script fails, LabError when it does not end in time.
        """
        self.run("cat >/root/lab-measure; sync", stdin=f"{_SETTLE}\nset -euo pipefail\n{script}\n")
        self.kill()
        printed = self._machine.folder / f"{self.name}.measured"
        self._power_on(measured=printed)
        ended = self._running().wait(timeout)
        self.kill()
        text = printed.read_text("utf-8", errors="replace").replace("\r\n", "\n")
        output, marker, status = text.rpartition("lab-measure: ")
        if not ended or not marker:
            raise LabError(f"{self.name} did not measure this within {timeout:g} s: {script}\n{text}")
        if int(status) != 0:
            raise CommandFailedError(self.name, script, int(status), output, "")
        return output

    def put(self, source: Path, target: str, timeout: float = DEFAULT_TIMEOUT) -> None:
        """Copy a file into the VM."""
        self._ssh.put(source, target, timeout=timeout)

    def get(self, source: str, target: Path, timeout: float = DEFAULT_TIMEOUT) -> None:
        """Copy a file out of the VM."""
        self._ssh.get(source, target, timeout=timeout)

    @property
    def ssh_words(self) -> Sequence[str]:
        """The command that gives a person a shell in the VM."""
        return self._ssh.words

    @property
    def folder(self) -> Path:
        """Where the lab keeps what belongs to this run, on the outer machine; gone with the lab."""
        return self._machine.folder

    # --- disks, network, RDMA

    @property
    def disks(self) -> Sequence[str]:
        """The VM's empty disks of 4 GiB, by names that are the same after a reboot."""
        return [f"/dev/disk/by-id/virtio-disk{number}" for number in range(1, DATA_DISKS + 1)]

    @property
    def wires(self) -> Sequence[str]:
        """The wires that the VM is on, which are also its NICs' names."""
        return tuple(self._wires)

    def address(self, wire: str = WIRES[0], *, ipv6: bool = False) -> str:
        """The VM's address on a wire."""
        return self.identity.address(wire, ipv6=ipv6)

    def cut(self, wire: str, direction: Direction = Direction.BOTH) -> None:
        """Let frames vanish silently, from or to this VM or both; carrier stays."""
        self._wires[wire].cut(self.name, direction)

    def restore(self, wire: str) -> None:
        """The end of `cut`."""
        self._wires[wire].restore(self.name)

    def unplug(self, wire: str) -> None:
        """Take the NIC's carrier away, as a pulled cable does. A restarted VM is plugged in again."""
        self._running().set_link(wire, up=False)

    def plug(self, wire: str) -> None:
        """The end of `unplug`."""
        self._running().set_link(wire, up=True)

    @contextmanager
    def without(self, wire: str, direction: Direction = Direction.BOTH) -> Iterator[None]:
        """`cut` for the length of a with block."""
        self.cut(wire, direction)
        try:
            yield
        finally:
            self.restore(wire)

    def delay_addresses(self, seconds: float) -> None:
        """From the next boot on the addresses on the wires come up this long after the boot has reached them."""
        self.run(f"echo {seconds:g} >/etc/lab/delay; sync")

    def rdma(self, kind: Rdma, wire: str = WIRES[0]) -> str:
        """Make the NIC on this wire an RDMA device of that kind, also after reboots. Returns the device's name."""
        device = f"{kind}_{wire}"
        self.run(f"mkdir -p /etc/lab/rdma; echo {wire} >/etc/lab/rdma/{device}; sync; lab-network rdma")
        return device

    def remove_rdma(self) -> None:
        """Take all RDMA devices away."""
        self.run("rm -rf /etc/lab/rdma; sync; lab-network rdma")

    # --- what it says

    def kernel_log(self, since: int = 0) -> str:
        """The kernel's messages from all boots, also those of a VM that is dead or hung; since as by `kernel_log_mark`."""
        try:
            with self._console.open("rb") as console:
                console.seek(since)
                return console.read().decode("utf-8", errors="replace").replace("\r\n", "\n")
        except FileNotFoundError:
            return ""

    def kernel_log_mark(self) -> int:
        """What to give to `kernel_log` later, for the messages from now on."""
        return self._console.stat().st_size if self._console.exists() else 0

    @property
    def _console(self) -> Path:
        return self._machine.folder / f"{self.name}.console"

    # --- inside

    def _running(self) -> Qemu:
        if self._qemu is None or not self._qemu.is_alive:
            raise LabError(f"{self.name} does not run")
        return self._qemu

    def _power_on(self, state: Path | None = None, measured: Path | None = None) -> None:
        self.kill()
        machine = dataclasses.replace(self._machine, icount=self._machine.icount or measured is not None)
        ends = {name: wire.plug(self.name) for name, wire in self._wires.items()}
        try:
            self._qemu = Qemu(machine, ends, state=state, measured=measured)
        finally:
            for end in ends.values():
                end.close()
        self._ssh.point_at(self._qemu.ssh_port(), lambda: self.is_running)
