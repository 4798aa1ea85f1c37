"""The lab: wires, and the VMs on them."""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Self

from lab.debian import Debian
from lab.layers import ensure_built
from lab.qemu import WIRES
from lab.runs import end_orphans, guarded, own_folder
from lab.vm import Vm
from lab.wire import Wire

DEFAULT_VMS = ("node", "host1", "host2")
SSH_CONFIG = "ssh_config"  # is there as soon as all VMs of a lab answer


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
        debian: Debian = Debian.BOOKWORM,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        """name: what the lab's folder below `runs_folder` is called, for people; without it some unused name.

        icount: VMs whose clocks count instructions, see `Vm`; they are booted, in half a minute.
        """
        self._names = tuple(dict.fromkeys(vms))
        self._name = name
        self._icount = icount
        self.debian = debian
        self._say = say
        self._cleanup = contextlib.ExitStack()
        self.vms: Mapping[str, Vm] = {}
        self.wires: Mapping[str, Wire] = {}

    def __enter__(self) -> Self:
        built = ensure_built(self._say, self.debian)
        end_orphans()
        with contextlib.ExitStack() as stack:
            stack.enter_context(guarded())
            self.folder = stack.enter_context(own_folder(self._name))
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
