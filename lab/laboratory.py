"""The lab: wires, and the VMs on them."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Self

from lab.errors import LabError
from lab.layers import ensure_built
from lab.processes import ProcessIdentity
from lab.qemu import WIRES
from lab.vm import Vm
from lab.wire import Wire

DEFAULT_VMS = ("node", "host1", "host2")
SSH_CONFIG = "ssh_config"  # is there as soon as all VMs of a lab answer
_OWNER = "owner"


def runs_folder() -> Path:
    """Where running labs keep their sockets and disks; short, because a socket's path ends after 107 bytes."""
    return Path(os.environ.get("WEFT_LAB_RUNS") or f"/var/tmp/weft-lab-{os.getuid()}")


def end_orphans() -> None:
    """End the VMs and remove the files of labs whose process died without doing so."""
    if not runs_folder().is_dir():
        return
    for folder in runs_folder().iterdir():
        owner = ProcessIdentity.read(folder / _OWNER)
        if owner is None or owner.is_alive():
            continue
        for path in folder.glob("*.pid"):
            vm = ProcessIdentity.read(path)
            if vm is not None:
                vm.end(patience=5)
        shutil.rmtree(folder, ignore_errors=True)


class Lab:
    """Starts VMs when it is entered and leaves nothing of them when it is left.

        with Lab() as lab:
            lab["node"].run("lvs")

    Everything is built first where it is missing (`say` is told of that). Raises LabUnavailableError, in one line,
    where there can be no lab.
    """

    def __init__(
        self,
        vms: Sequence[str] = DEFAULT_VMS,
        *,
        name: str | None = None,
        icount: bool = False,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        """name: what the lab's folder below `runs_folder` is called, for people; without it some unused name.

        icount: VMs whose clocks count instructions, see `Vm`; they are booted, in half a minute.
        """
        self._names = tuple(dict.fromkeys(vms))
        self._name = name
        self._icount = icount
        self._say = say
        self._cleanup = contextlib.ExitStack()
        self.vms: Mapping[str, Vm] = {}
        self.wires: Mapping[str, Wire] = {}

    def __enter__(self) -> Self:
        built = ensure_built(self._say)
        end_orphans()
        with contextlib.ExitStack() as stack:
            self.folder = stack.enter_context(_own_folder(self._name))
            self.wires = {name: stack.enter_context(Wire(name)) for name in WIRES}
            vms = {
                name: Vm(name, built=built, folder=self.folder, wires=self.wires, icount=self._icount)
                for name in self._names
            }
            for vm in vms.values():
                stack.callback(vm.kill)
            self.vms = vms
            self.everywhere(Vm.resume)
            (self.folder / SSH_CONFIG).write_text(f"Include {self.folder}/*.ssh\n", "utf-8")
            self._cleanup = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._cleanup.close()

    def everywhere(self, work: Callable[[Vm], object]) -> None:
        """Do the same to all VMs at once; when all are done, raises the first failure if there was one."""
        with ThreadPoolExecutor(len(self.vms)) as pool:
            try:
                list(pool.map(work, self.vms.values()))
            except (KeyboardInterrupt, SystemExit):  # the lab ends: nobody shall wait for a VM any more
                for vm in self.vms.values():
                    vm.kill()
                raise

    def __getitem__(self, name: str) -> Vm:
        return self.vms[name]


def owner_of(name: str) -> ProcessIdentity:
    """The process whose lab has this name. Raises LabError when there is no such lab."""
    owner = ProcessIdentity.read(runs_folder() / name / _OWNER)
    if owner is None or not owner.is_alive():
        raise LabError(f"no lab called {name} runs; python -m lab list shows those that do")
    return owner


def running_labs() -> list[str]:
    """The names of all labs that run on this machine."""
    if not runs_folder().is_dir():
        return []
    owners = {folder.name: ProcessIdentity.read(folder / _OWNER) for folder in runs_folder().iterdir()}
    return sorted(name for name, owner in owners.items() if owner and owner.is_alive())


@contextlib.contextmanager
def _own_folder(name: str | None) -> Iterator[Path]:
    """A folder that says whose it is from the moment it can be seen, removed at the end."""
    runs_folder().mkdir(mode=0o700, parents=True, exist_ok=True)
    new = Path(tempfile.mkdtemp(prefix=".", dir=runs_folder()))
    folder = runs_folder() / (name or new.name.lstrip("."))
    try:
        ProcessIdentity.of(os.getpid()).write(new / _OWNER)
        try:
            new.rename(folder)
        except OSError:
            raise LabError(f"a lab called {name} runs already") from None
    except BaseException:
        shutil.rmtree(new, ignore_errors=True)
        raise
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
