"""The steps of the demo, in the order in which they are told."""

import mmap
import os
import time
from dataclasses import replace
from pathlib import Path

from attached import AttachedAsObject, AttachedByPath, AttachedVolume, connection_of
from stage import Demo
from tree import MIB, Tree, generate_tree
from verifying_io import VerifyingIo
from weft.embedded.host import HostIdentity, Volume
from weft.errors import PermissionDeniedError
from weft.names import host_nqn, new_id

GIB = 2**30
TREE_SIZE = 200 * MIB
_DAMAGE = 64 * 1024


class Story:
    """One telling: run() goes through every step and raises where one does not hold."""

    def __init__(self, demo: Demo) -> None:
        self._demo = demo
        self._weft = demo.weft
        self._scratch = demo.weft.directory / "scratch"

    def run(self) -> None:
        self._start()
        tree, volume = self._use_volume()
        self._refuse_another_host()
        self._snapshot_and_revert(tree, volume)
        self._extend(volume)
        self._survive_kills()
        self._take_away(volume)
        self._nothing_left()

    def _start(self) -> None:
        with self._demo.step("start weft: one daemon, its NVMe/TCP target, a file pool") as step:
            self._weft.start()
            step.result = f"daemon {self._weft.serve_pid}, target {self._weft.target_pid()}"
        if self._demo.use_fuse:
            reason = self._weft.status()["attaching"]["reason"]
            self._demo.use_fuse = not reason
            if reason:
                self._demo.console.print(f"    no FUSE here ({reason}); the Volume object does the same")

    def _attached(self, name: str) -> AttachedVolume:
        return AttachedByPath(self._weft, name) if self._demo.use_fuse else AttachedAsObject(self._weft, name)

    def _use_volume(self) -> tuple[Tree, AttachedVolume]:
        content = self._demo.content
        with self._demo.step(f"generate a tree of {TREE_SIZE // MIB} MiB to store") as step:
            tree = generate_tree(self._weft.directory / "tree", TREE_SIZE)
            step.result = f"{len(tree.digests)} files, {tree.size / MIB:.0f} MiB"
        with self._demo.step("make a volume of 1 GiB") as step:
            self._weft.weft("volume", "create", "demo", "--size", "1GiB")
            step.result = f"{self._backing('demo').stat().st_blocks * 512} bytes on disk so far"
        volume = self._attached("demo")
        with self._demo.step("export it over NVMe/TCP and attach it") as step:
            step.result = volume.attach()
        with self._demo.step(f"make {content.name} with the tree on it, through NVMe/TCP") as step:
            started = time.monotonic()
            volume.fill(content, tree)
            step.result = f"{tree.size / MIB / (time.monotonic() - started):.0f} MiB/s, flushed"
        with self._demo.step("read every file out of the backing file, past weft") as step:
            self._check(tree)
            step.result = f"{len(tree.digests)} checksums are right"
        return tree, volume

    def _refuse_another_host(self) -> None:
        with self._demo.step("let a host with another NQN try") as step:
            stranger_id = new_id()
            stranger = HostIdentity(nqn=host_nqn(stranger_id), id=stranger_id)
            connection = replace(connection_of(self._weft, "demo"), host_nqn=stranger.nqn)
            try:
                Volume.open(connection, stranger).close()
            except PermissionDeniedError:
                step.result = f"{stranger.nqn} was refused"
            else:
                raise RuntimeError("a host that is not on the list got in")

    def _snapshot_and_revert(self, tree: Tree, volume: AttachedVolume) -> None:
        with self._demo.step("snapshot, overwrite data, see it differ") as step:
            self._weft.weft("snapshot", "create", "demo", "before")
            device = volume.device()
            device.write(self._place_of(tree), os.urandom(_DAMAGE))
            device.flush()
            damaged = self._demo.content.differing(tree, self._backing("demo"), self._scratch)
            if damaged != [tree.landmark]:
                raise RuntimeError(f"{tree.landmark} was overwritten, and these differ: {damaged}")
            step.result = f"{damaged[0]} differs, the other {len(tree.digests) - 1} files do not"
        with self._demo.step("detach, revert to the snapshot, attach again") as step:
            volume.detach()
            self._weft.weft("volume", "revert", "demo", "--to", "before")
            volume.attach()
            self._check(tree)
            step.result = f"{len(tree.digests)} checksums are right again"

    def _extend(self, volume: AttachedVolume) -> None:
        with self._demo.step("extend it to 2 GiB while it is attached") as step:
            self._weft.weft("volume", "extend", "demo", "--size", "2GiB")
            deadline = time.monotonic() + 10
            while volume.size() != 2 * GIB:
                if time.monotonic() > deadline:
                    raise RuntimeError(f"the host sees {volume.size()} bytes, not {2 * GIB}")
                time.sleep(0.02)
            step.result = volume.grow(self._demo.content)

    def _survive_kills(self) -> None:
        self._weft.weft("volume", "create", "busy", "--size", "1GiB")
        busy = self._attached("busy")
        busy.attach()
        io = VerifyingIo(busy.device(), 64 * MIB)
        io.start()
        try:
            with self._demo.step("kill -9 the daemon under running I/O, start it again") as step:
                io.wait_for_operations(100)
                io.longest_pause = 0.0
                self._weft.kill_serve()
                io.wait_for_operations(100)
                self._weft.start()
                io.wait_for_operations(100)
                step.result = f"{io.operations} operations so far, longest pause {io.longest_pause:.2f} s"
            with self._demo.step("kill -9 the target under running I/O") as step:
                before = self._weft.target_pid()
                io.longest_pause = 0.0
                os.kill(before, 9)
                io.wait_for_operations(200)
                after = self._weft.target_pid()
                step.result = f"target {before} -> {after}, longest pause {io.longest_pause:.2f} s"
        finally:
            io.stop()
        with self._demo.step("compare all that was written meanwhile") as step:
            if io.errors:
                raise RuntimeError("; ".join(io.errors[:3]))
            step.result = f"{io.operations} operations, no I/O error, every block right"
        busy.detach()
        self._weft.weft("volume", "delete", "busy")

    def _take_away(self, volume: AttachedVolume) -> None:
        with self._demo.step("detach, delete snapshot and volume") as step:
            volume.detach()
            self._weft.weft("snapshot", "delete", "before")
            self._weft.weft("volume", "delete", "demo")
            if self._weft.weft("volume", "list"):
                raise RuntimeError("a volume is still there")
            step.result = "weft knows of no volume any more"

    def _nothing_left(self) -> None:
        with self._demo.step("stop weft and look for what is left") as step:
            self._weft.stop()
            left = {
                "processes": self._weft.processes(),
                "mounts": self._weft.mounts(),
                "sockets": self._weft.sockets(),
                "files of volumes": self._weft.pool_files(),
            }
            if any(left.values()):
                raise RuntimeError(f"left behind: { {name: found for name, found in left.items() if found} }")
            step.result = f"no {', no '.join(left)}"

    def _check(self, tree: Tree) -> None:
        wrong = self._demo.content.differing(tree, self._backing("demo"), self._scratch)
        if wrong:
            raise RuntimeError(f"{len(wrong)} files are not as they were, {wrong[0]} among them")

    def _backing(self, name: str) -> Path:
        return Path(self._weft.weft("volume", "show", name)["path"])

    def _place_of(self, tree: Tree) -> int:
        """Where the landmark's content lies on the volume, by looking for its first bytes."""
        content = (tree.root / tree.landmark).read_bytes()
        with (
            self._backing("demo").open("rb") as file,
            mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as whole,
        ):
            place = whole.find(content[:64])
        if place < 0:
            raise RuntimeError(f"{tree.landmark} can't be found in the backing file")
        return place
