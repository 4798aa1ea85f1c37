"""Where labs run: the folder of each, whose it is, and the end of what is left of one whose process has died."""

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from lab.errors import LabError
from lab.processes import ProcessIdentity

_OWNER = "owner"


def runs_folder() -> Path:
    """Where running labs keep their sockets and disks; short, because a socket's path ends after 107 bytes."""
    return Path(os.environ.get("WEFT_LAB_RUNS") or f"/var/tmp/weft-lab-{os.getuid()}")


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
def own_folder(name: str | None) -> Iterator[Path]:
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


@contextlib.contextmanager
def guarded() -> Iterator[None]:
    """Should this process die meanwhile, in whatever way, the guard ends what is left of its lab.

    A process of its own, because PR_SET_PDEATHSIG goes by the thread that has started a VM, and VMs are started by
    threads that end.
    """
    owner = ProcessIdentity.of(os.getpid())
    guard = subprocess.Popen(
        [sys.executable, "-m", "lab.guard", str(owner.pid), str(owner.start_time)],
        cwd=Path(__file__).resolve().parents[1],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield
    finally:
        guard.kill()
        guard.communicate()
