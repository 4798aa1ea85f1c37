"""The figures that take the real kernel, measured in VMs of the lab."""

import json
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.figures import FIGURES, Measured
from lab import Lab, Rdma, Vm
from lab.packages import archive_packages, put_packages

_HERE: Final = Path(__file__).parent
_OS_BRICK: Final = _HERE.parent / "tests" / "lab" / "os_brick_requirements.txt"
_FOLDER: Final = "/root/measured"
_SECONDS: Final = 3600.0

METHOD: Final = {
    "ratio": "weft's time / the other's, in each round one after the other; a figure is the median of its rounds",
    "clock": "one CPU whose clock counts instructions (QEMU -icount shift=1,sleep=off): what a disk takes is hardly in it",
}

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Program:
    """What measures a figure in a VM: a module of bench.inside and its arguments."""

    words: Sequence[str]
    prepare: Callable[[Vm], None]


def _nothing(_: Vm) -> None:
    pass


def _logical_volume_in_ram(vm: Vm) -> None:
    """A disk costs nothing here: what is compared is what lies before it."""
    vm.run(
        """
        [ -e /dev/bench/latency ] || {
            modprobe brd rd_nr=1 rd_size=98304
            vgcreate -qq --yes bench /dev/ram0; lvcreate -qq --yes --size 64M --name latency bench
            dd if=/dev/urandom of=/dev/bench/latency bs=1M count=64 oflag=direct status=none
        }
        mkdir -p /etc/nvme; [ -e /etc/nvme/hostid ] || uuidgen >/etc/nvme/hostid
        echo "nqn.2014-08.org.nvmexpress:uuid:$(cat /etc/nvme/hostid)" >/etc/nvme/hostnqn
        modprobe -a nvmet nvmet-tcp nvme-tcp nvmet-rdma nvme-rdma
        """,
        timeout=_SECONDS,
    )


def _logical_volume_and_siw(vm: Vm) -> None:
    _logical_volume_in_ram(vm)
    vm.rdma(Rdma.SIW)


def _thin_pool(vm: Vm) -> None:
    vm.run(
        f"[ -e /dev/mapper/bench-thinpool ] || {{ vgcreate -qq --yes bench {vm.disks[0]}"
        "; lvcreate -qq --yes --type thin-pool --extents 90%FREE --name thinpool bench; }",
        timeout=_SECONDS,
    )


def _thin_pool_and_os_brick(vm: Vm) -> None:
    _thin_pool(vm)
    with tempfile.TemporaryDirectory(prefix="weft-bench-") as work:
        archive = Path(work, "os-brick.tar")
        archive_packages(_OS_BRICK, archive)
        put_packages(vm, archive, "/opt/os-brick")


_PROGRAMS: Final[Mapping[str, _Program]] = {
    "tcp_latency_vs_hand": _Program(words=["latency", "tcp", "10.77.0.1"], prepare=_logical_volume_in_ram),
    "rdma_latency_vs_hand": _Program(words=["latency", "rdma", "10.77.0.1"], prepare=_logical_volume_and_siw),
    "attach_vs_shell": _Program(words=["attach", "tcp", "10.77.0.1"], prepare=_logical_volume_in_ram),
    "export_at_1000_vs_10": _Program(words=["one_more"], prepare=_nothing),
    "attach_vs_os_brick": _Program(words=["api_attach", "10.77.0.1"], prepare=_thin_pool_and_os_brick),
    "restore_1000_vs_configfs": _Program(words=["restore", "--exports", "1000"], prepare=_nothing),
    "restore_lvm_vs_configfs": _Program(
        words=["restore", "--exports", "100", "--pool", "lvm"], prepare=_thin_pool
    ),
}


def measure(only: Sequence[str], say: Say) -> list[Measured]:
    """Measure the named figures, or all; in one VM. Raises LabError when one cannot be measured."""
    wanted = [each for each in FIGURES if not only or each.name in only]
    measured: list[Measured] = []
    say("Starting a VM whose clock counts instructions ...")
    with _machine(say) as vm:
        for figure in wanted:
            say(f"  {figure.name}: {figure.says} ...")
            measured.append(Measured(figure=figure, rounds=_run(vm, _PROGRAMS[figure.name])))
            say(f"  {figure.name}: {measured[-1].value:.3f} ({figure.limit})")
    return measured


@contextmanager
def _machine(say: Say) -> Iterator[Vm]:
    """A VM with weft, and with the inner half of the benchmarks in _FOLDER."""
    with (
        Lab(["node"], icount=True, say=say) as lab,
        tempfile.TemporaryDirectory(prefix="weft-bench-") as work,
    ):
        vm = lab["node"]
        vm.install_weft()
        archive = Path(work, "inside.tar")
        with tarfile.open(archive, "w") as tar:
            for path in (_HERE / "__init__.py", *sorted((_HERE / "inside").glob("*.*"))):
                tar.add(path, Path("bench") / path.relative_to(_HERE))
        vm.put(archive, "/root/inside.tar")
        vm.run(f"mkdir -p {_FOLDER}; tar --extract --file /root/inside.tar --directory {_FOLDER}")
        yield vm


def _run(vm: Vm, program: _Program) -> list[dict[str, float]]:
    program.prepare(vm)
    module, *arguments = program.words
    words = " ".join(["/opt/weft/bin/python", "-m", f"bench.inside.{module}", *arguments])
    printed = vm.run(f"cd {_FOLDER}; {words}", timeout=_SECONDS).stdout
    return [json.loads(line) for line in printed.splitlines()]
