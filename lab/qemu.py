"""One QEMU process: its command line, its monitor and its end."""

import contextlib
import json
import re
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lab.errors import LabError
from lab.processes import ProcessIdentity

PROGRAM = "qemu-system-x86_64"
WIRES = ("wire0", "wire1")
DATA_DISKS = 4
DATA_DISK_BYTES = 4 << 30
MEMORY_MIB = 1024
CPUS = 2
KERNEL_COMMAND_LINE = (
    "console=ttyS0 net.ifnames=0 panic=30 systemd.show_status=false systemd.log_target=journal"
    # what costs an emulated machine time and shows nothing about weft
    " mitigations=off no5lvl audit=0 apparmor=0 nowatchdog cryptomgr.notests"
)
MEASURE_WORD = "lab.measure"  # on the kernel's command line: what the recipe's lab-measure.service waits for
# A saved state fits the devices that it was saved with, at the places where they were: all of them are given here,
# because q35 takes no device into a running machine. The recipe's .link files name the NICs by these places.
_FIRST_DISK, _FIRST_NIC = 0x04, 0x10
_QUIT_SECONDS = 10.0
_MONITOR_SECONDS = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What one VM is made of."""

    name: str
    kernel: Path
    initrd: Path
    root_disk: Path  # qcow2
    data_disks: Sequence[Path]  # raw, DATA_DISKS of them
    macs: Sequence[str]  # of each NIC in WIRES
    folder: Path  # for the console's log, the monitor and the process's identity
    icount: bool = False  # one processor, and time that counts its instructions


def command_line(
    machine: Machine, wire_fds: Mapping[str, int], *, state: Path | None = None, measured: Path | None = None
) -> list[str]:
    """QEMU's arguments. wire_fds gives the datagram socket of each wire.

    state is a RAM snapshot to go on from. measured has the VM run what `Vm.measure` left in it, and takes its output.
    """
    kernel_command_line = KERNEL_COMMAND_LINE + (f" {MEASURE_WORD}" if measured else "")
    arguments = [PROGRAM, "-name", machine.name, "-nodefaults", "-display", "none", "-rtc", "base=utc"]
    arguments += ["-machine", "q35,smm=off,vmport=off", "-cpu", "max,-smap,-la57", "-m", f"{MEMORY_MIB}M"]
    if machine.icount:
        arguments += ["-accel", "tcg,thread=single,tb-size=256", "-icount", "shift=1,sleep=off", "-smp", "1"]
    else:
        arguments += ["-accel", "tcg,thread=multi,tb-size=256", "-smp", str(CPUS)]
    arguments += ["-kernel", str(machine.kernel), "-initrd", str(machine.initrd)]
    arguments += ["-append", kernel_command_line]
    arguments += ["-serial", f"file:{machine.folder}/{machine.name}.console"]
    arguments += ["-qmp", f"unix:{machine.folder}/{machine.name}.qmp,server=on,wait=off"]
    arguments += [*_disks(machine), *_nics(machine, wire_fds)]
    if measured:
        arguments += ["-no-reboot", "-serial", f"file:{measured}"]
    if state:
        arguments += ["-incoming", f"exec:cat '{state}'"]
    return arguments


def _disks(machine: Machine) -> Iterator[str]:
    yield from ("-device", "virtio-rng-pci,addr=0x03")
    disks = [("root", machine.root_disk, "qcow2")]
    disks += [(f"disk{number}", disk, "raw") for number, disk in enumerate(machine.data_disks, 1)]
    for place, (name, path, form) in enumerate(disks, _FIRST_DISK):
        # unsafe: survives the end of QEMU, which is the VM's power cut, and saves this machine's disk the flushes
        yield from ("-drive", f"if=none,id={name},file={path},format={form},discard=unmap,cache=unsafe")
        yield from ("-device", f"virtio-blk-pci,drive={name},serial={name},addr={place:#x}")


def _nics(machine: Machine, wire_fds: Mapping[str, int]) -> Iterator[str]:
    yield from ("-netdev", "user,id=ssh0,hostfwd=tcp:127.0.0.1:0-:22")
    yield from ("-device", f"virtio-net-pci,netdev=ssh0,mac=52:54:00:00:00:01,romfile=,addr={_FIRST_NIC:#x}")
    for place, (wire, mac) in enumerate(zip(WIRES, machine.macs, strict=True), _FIRST_NIC + 1):
        yield from ("-netdev", f"dgram,id={wire},local.type=fd,local.str={wire_fds[wire]}")
        yield from ("-device", f"virtio-net-pci,netdev={wire},mac={mac},romfile=,addr={place:#x}")


class Qemu:
    """A running QEMU. `stop` ends it as a power cut would end the VM."""

    def __init__(
        self,
        machine: Machine,
        wires: Mapping[str, socket.socket],
        *,
        state: Path | None = None,
        measured: Path | None = None,
    ) -> None:
        """Starts it; with a saved state the VM goes on from there as soon as it is read.

        Raises LabError, with what QEMU said, when it does not start.
        """
        self._machine = machine
        self._log = machine.folder / f"{machine.name}.qemu"
        fds = {wire: end.fileno() for wire, end in wires.items()}
        (machine.folder / f"{machine.name}.qmp").unlink(missing_ok=True)
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                command_line(machine, fds, state=state, measured=measured),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                pass_fds=list(fds.values()),
                start_new_session=True,  # an interrupt at the terminal is for the lab, which then ends its VMs
            )
        ProcessIdentity.of(self._process.pid).write(machine.folder / f"{machine.name}.pid")
        try:
            self._monitor = self._connect()
            if state is not None:
                self._wait_for_state()
        except BaseException:
            self.stop()
            raise

    @property
    def is_alive(self) -> bool:
        return self._process.poll() is None

    def ssh_port(self) -> int:
        """The port on 127.0.0.1 that leads to the VM's ssh."""
        table = str(self.execute("human-monitor-command", {"command-line": "info usernet"}))
        found = re.search(r"TCP\[HOST_FORWARD\]\s+\d+\s+127\.0\.0\.1\s+(\d+)", table)
        if not found:
            raise LabError(f"{self._machine.name}: QEMU forwards no port to ssh")
        return int(found[1])

    def set_link(self, wire: str, *, up: bool) -> None:
        """Give the VM's NIC on this wire its carrier, or take it away."""
        self.execute("set_link", {"name": wire, "up": up})

    def save_state(self, path: Path) -> None:
        """Stop the VM and write its RAM and devices to a file; the disks keep what they hold at that moment."""
        self.execute("stop")
        self.execute("migrate-set-parameters", {"max-bandwidth": 1 << 40})
        self.execute("migrate", {"uri": f"exec:cat >'{path}'"})
        deadline = time.monotonic() + _MONITOR_SECONDS
        while (status := self._migration()) != "completed":
            if status == "failed" or time.monotonic() > deadline:
                raise LabError(f"QEMU could not save the VM's state: {status}")
            time.sleep(0.1)

    def execute(self, command: str, arguments: Mapping[str, object] | None = None) -> object:
        """One QMP command and its answer. Raises LabError when QEMU refuses it or is gone."""
        self._monitor.send({"execute": command, **({"arguments": arguments} if arguments else {})})
        while True:
            answer = self._monitor.receive()
            if "return" in answer:
                return answer["return"]
            if "error" in answer:
                raise LabError(f"{self._machine.name}: QEMU refuses {command}: {answer['error']}")

    def quit(self) -> None:
        """End QEMU in order, with everything written to the disks' files."""
        self.execute("quit")
        self._process.wait(_QUIT_SECONDS)
        self.stop()

    def wait(self, timeout: float) -> bool:
        """Whether the VM has switched itself off within timeout seconds."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout)
        return not self.is_alive

    def stop(self) -> None:
        """End QEMU now. Idempotent."""
        if hasattr(self, "_monitor"):
            self._monitor.close()
        self._process.kill()
        self._process.wait(_QUIT_SECONDS)
        (self._machine.folder / f"{self._machine.name}.pid").unlink(missing_ok=True)

    def _connect(self) -> "_Monitor":
        path = self._machine.folder / f"{self._machine.name}.qmp"
        deadline = time.monotonic() + _MONITOR_SECONDS
        while self.is_alive and time.monotonic() < deadline:
            try:
                return _Monitor(path)
            except (FileNotFoundError, ConnectionRefusedError):
                time.sleep(0.02)
        said = self._log.read_text("utf-8", errors="replace").strip()
        raise LabError(f"{self._machine.name}: QEMU did not start: {said or 'it says nothing'}")

    def _wait_for_state(self) -> None:
        deadline = time.monotonic() + _MONITOR_SECONDS
        while (status := self._run_state()) == "inmigrate":
            if time.monotonic() > deadline:
                raise LabError(
                    f"{self._machine.name}: the saved state was not read within {_MONITOR_SECONDS:g} s"
                )
            time.sleep(0.05)
        if status != "running":
            self.execute("cont")

    def _run_state(self) -> str:
        answer = self.execute("query-status")
        return str(answer["status"]) if isinstance(answer, dict) else "unknown"

    def _migration(self) -> str:
        answer = self.execute("query-migrate")
        return str(answer.get("status", "none")) if isinstance(answer, dict) else "unknown"


class _Monitor:
    """QMP: one JSON object a line."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(_MONITOR_SECONDS)
        try:
            self._socket.connect(str(path))
        except OSError:
            self._socket.close()
            raise
        self._lines = self._socket.makefile("r", encoding="utf-8")
        self.receive()  # the greeting
        self.send({"execute": "qmp_capabilities"})
        self.receive()

    def send(self, message: Mapping[str, object]) -> None:
        try:
            self._socket.sendall(json.dumps(message).encode() + b"\n")
        except OSError as error:
            raise LabError(f"QEMU's monitor takes no more commands: {error}") from None

    def receive(self) -> dict[str, object]:
        try:
            line = self._lines.readline()
        except OSError as error:
            raise LabError(f"QEMU's monitor does not answer: {error}") from None
        if not line:
            raise LabError("QEMU has ended")
        message: dict[str, object] = json.loads(line)
        return message

    def close(self) -> None:
        self._lines.close()
        self._socket.close()
