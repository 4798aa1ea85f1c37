"""Runs in a VM of the lab: one change of configfs after the other fails once, or weft is killed at it, on the real nvmet.

Reads JSON from standard input: {"portals": [...], "path": where the volumes' files go, "way": "before", "after" (killed
before or after a change) or an errno's name, "stride": 1 for every change, 10 for each tenth}. The same two volumes go
through the same life each time; a life that ended early is gone on with by another process, as systemd starts weft
again. Writes JSON: {"changes": of an undisturbed life, "tried": so many lives, "wrong": {change: how the tree differs}}.
"""

import difflib
import errno
import json
import os
import signal
import sys
import time
import traceback
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from weft.config import Config, ConfigFile, TargetKind, TargetSection, check_config
from weft.errors import UnavailableError
from weft.model import DhChapSecrets, Export, ExportHost, HostId, VolumeId
from weft.nvme.dhchap_key import generate_dhchap_key
from weft.targets import NvmetTarget
from weft.targets.configfs import Configfs, KernelCalls
from weft.targets.nvmet_hosts import Patience
from weft.targets.nvmet_modules import NVMET
from weft.targets.nvmet_parts import kernel_parts

ROOT = "/sys/kernel/config/nvmet"
SIZE = 16 * 2**20
HOSTS = [f"nqn.2014-08.org.nvmexpress:uuid:{letter * 8}-0000-4000-8000-000000000000" for letter in "ab"]
OPEN_SECONDS = 60.0
KILLED = -signal.SIGKILL


@dataclass(slots=True)
class Trouble:
    """What happens at a change, and where: counted from 0, through a whole process."""

    at: int
    way: str
    changes: int = 0

    def around(self, change: Callable[[], None]) -> None:
        """Make a change, or not."""
        is_it = self.changes == self.at
        self.changes += 1
        if is_it and self.way == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        if is_it and self.way != "after":
            code = getattr(errno, self.way)
            raise OSError(code, os.strerror(code))
        change()
        if is_it:
            os.kill(os.getpid(), signal.SIGKILL)


class TroubledCalls(KernelCalls):
    """The kernel's configfs, in which some change meets trouble."""

    def __init__(self, trouble: Trouble, directory: int | None = None) -> None:
        super().__init__(directory)
        self._trouble = trouble

    @contextmanager
    def inside(self, path: str) -> Iterator[KernelCalls]:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            yield TroubledCalls(self._trouble, descriptor)
        finally:
            os.close(descriptor)

    def mkdir(self, path: str) -> None:
        self._trouble.around(partial(super().mkdir, path))

    def rmdir(self, path: str) -> None:
        self._trouble.around(partial(super().rmdir, path))

    def symlink(self, target: str, path: str) -> None:
        self._trouble.around(partial(super().symlink, target, path))

    def unlink(self, path: str) -> None:
        self._trouble.around(partial(super().unlink, path))

    def chmod(self, path: str, mode: int) -> None:
        self._trouble.around(partial(super().chmod, path, mode))

    def write(self, path: str, value: bytes) -> None:
        self._trouble.around(partial(super().write, path, value))


class Lives:
    """Two volumes, and what is done with them, in processes that may die of it."""

    def __init__(self, asked: dict[str, Any]) -> None:
        folder = Path(asked["path"])
        folder.mkdir(parents=True, exist_ok=True)
        self._config = config(asked["portals"])
        secrets = DhChapSecrets(host_key=generate_dhchap_key(), controller_key=generate_dhchap_key())
        self._exports = [
            Export(
                volume_id=VolumeId(str(uuid.uuid4())),
                path=folder / name,
                size=SIZE,
                hosts=tuple(ExportHost(host_id=HostId(nqn), initiator=nqn, secrets=secrets) for nqn in HOSTS),
            )
            for name in ("first", "second")
        ]
        for each in self._exports:
            each.path.write_bytes(b"")
            os.truncate(each.path, SIZE)

    def verbs(self, target: NvmetTarget) -> list[Callable[[], object]]:
        first, second = self._exports
        return [
            lambda: target.restore([first, second]),
            lambda: target.create_export(first),
            lambda: target.create_export(second),
            lambda: target.create_export(replace(first, hosts=first.hosts[1:])),
            lambda: target.create_export(first),
            lambda: target.remove_export(second.volume_id),
        ]

    def live(self, trouble: Trouble) -> int:
        """Live through it, as often as it takes; how many changes the first process made or tried."""
        reader, writer = os.pipe()
        status = in_a_child(lambda: self._go(trouble, 0, writer))
        os.close(writer)
        with os.fdopen(reader) as told:
            done = [int(line) for line in told]
        if status == KILLED:
            status = in_a_child(lambda: self._go(Trouble(-1, "after"), max(done, default=0), None))
            if status == 0:
                return -1
        if status != 0:
            raise SystemExit(f"a life with {trouble} ended with status {status}")
        return done[-1]

    def _go(self, trouble: Trouble, verb: int, told: int | None) -> None:
        """Verbs from one on. Tells how many are done after each, and last how many changes that took."""
        parts = replace(
            kernel_parts(self._config),
            configfs=Configfs(NVMET, TroubledCalls(trouble)),
            patience=Patience(underway=0.0, leaving=0.0, ending=0.0),
        )
        target = NvmetTarget(self._config, parts)
        target.start()
        for number in range(verb, len(self.verbs(target))):
            for _ in range(2):  # the loop of the node comes again after a failure
                with suppress(UnavailableError):
                    self.verbs(target)[number]()
            tell(told, number + 1)
        deadline = time.monotonic() + OPEN_SECONDS
        while target.troubles():
            if time.monotonic() > deadline:
                raise SystemExit(f"it does not open: {target.troubles()}")
            time.sleep(0.02)
        target.stop()
        tell(told, trouble.changes)

    def clear(self) -> None:
        in_a_child(self._clear)
        kinds = [Path(ROOT, kind) for kind in ("ports", "subsystems", "hosts")]
        if left := [str(path) for kind in kinds for path in kind.iterdir()]:
            raise SystemExit(f"left in configfs: {left}")

    def _clear(self) -> None:
        target = NvmetTarget(self._config)
        target.start()
        target.stop_target()
        target.stop()


def config(portals: list[str]) -> Config:
    section = TargetSection(kind=TargetKind.NVMET, portals=tuple(portals))
    return check_config(ConfigFile(data_dir="/root/weft-nvmet", target=section))


def tell(told: int | None, number: int) -> None:
    if told is not None:
        os.write(told, f"{number}\n".encode())


def in_a_child(work: Callable[[], None]) -> int:
    """Its status; minus the signal that ended it."""
    if (child := os.fork()) == 0:
        status = 1
        try:
            work()
            status = 0
        finally:
            if status != 0:
                traceback.print_exc()
            sys.stderr.flush()
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def tree() -> list[str]:
    """All that configfs has of nvmet, a line for each directory, link and attribute."""
    lines = []
    for folder, folders, files in os.walk(ROOT):
        lines.append(f"{folder}/ {oct(Path(folder).stat().st_mode)}")
        links = [name for name in folders if Path(folder, name).is_symlink()]
        lines.extend(f"{folder}/{name} -> {Path(folder, name).readlink()}" for name in links)
        for name in files:
            path = Path(folder, name)
            try:
                lines.append(f"{path} {oct(path.stat().st_mode)} {path.read_bytes()!r}")
            except OSError as error:  # those that can only be written
                lines.append(f"{path} {oct(path.stat().st_mode)} {error.strerror}")
    return sorted(lines)


def main() -> None:
    asked = json.load(sys.stdin)
    lives = Lives(asked)
    lives.clear()
    changes = lives.live(Trouble(-1, "after"))
    right = tree()
    lives.clear()
    wrong, tried = {}, range(0, changes, asked["stride"])
    for at in tried:
        lives.live(Trouble(at, asked["way"]))
        if (found := tree()) != right:
            wrong[at] = "\n".join(difflib.unified_diff(right, found, "right", "found", n=0))
        lives.clear()
    json.dump({"changes": changes, "tried": len(tried), "wrong": wrong}, sys.stdout)


main()
