"""What a volume is filled with: an ext4 file system where e2fsprogs is installed, else a tar archive."""

import hashlib
import os
import shutil
import subprocess
import tarfile
from pathlib import Path
from typing import Protocol

from tree import Tree, differing

_ADMIN_PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/local/sbin", "/usr/sbin", "/sbin"])
_MINUTES = 120.0


class Content(Protocol):
    """A way to lay a tree out on a volume."""

    name: str

    def fill(self, tree: Tree, destination: Path) -> None:
        """Lay the tree out in the file destination, which is a volume or an image."""

    def differing(self, tree: Tree, backing: Path, scratch: Path) -> list[str]:
        """Read the tree from the file backing, and tell which files are not as they were."""

    def grow(self, destination: Path) -> str:
        """Use the room that destination has gained; tells what was done."""


def find_tool(name: str) -> str | None:
    return shutil.which(name, path=_ADMIN_PATH)


def run_tool(*argv: str, accept: tuple[int, ...] = (0,)) -> str:
    """Run a tool of e2fsprogs; raises RuntimeError with what it said when its exit code is not accepted."""
    done = subprocess.run(
        [find_tool(argv[0]) or argv[0], *argv[1:]],
        capture_output=True,
        text=True,
        timeout=_MINUTES,
        check=False,
        stdin=subprocess.DEVNULL,
        env={**os.environ, "LC_ALL": "C"},
    )
    if done.returncode not in accept:
        raise RuntimeError(
            f"{' '.join(argv)} exited with {done.returncode}: {(done.stderr or done.stdout).strip()}"
        )
    return done.stdout


class Ext4:
    name = "an ext4 file system"

    def fill(self, tree: Tree, destination: Path) -> None:
        run_tool("mke2fs", "-q", "-F", "-t", "ext4", "-d", str(tree.root), str(destination))

    def differing(self, tree: Tree, backing: Path, scratch: Path) -> list[str]:
        run_tool("e2fsck", "-f", "-n", str(backing), accept=(0,))
        scratch.mkdir()
        try:
            for top in sorted({name.split("/")[0] for name in tree.digests}):
                run_tool("debugfs", "-R", f"rdump /{top} {scratch}", str(backing))
            return differing(tree, scratch)
        finally:
            shutil.rmtree(scratch)

    def grow(self, destination: Path) -> str:
        run_tool("e2fsck", "-f", "-p", str(destination), accept=(0, 1))
        run_tool("resize2fs", str(destination))
        run_tool("e2fsck", "-f", "-n", str(destination))
        return "resize2fs took the new room, e2fsck is clean"


class TarArchive:
    name = "a tar archive"

    def fill(self, tree: Tree, destination: Path) -> None:
        with destination.open("r+b") as file, tarfile.open(fileobj=file, mode="w|") as archive:
            for name in tree.digests:
                archive.add(tree.root / name, arcname=name)

    def differing(self, tree: Tree, backing: Path, scratch: Path) -> list[str]:
        del scratch
        digests: dict[str, str] = {}
        with backing.open("rb") as file, tarfile.open(fileobj=file, mode="r|") as archive:
            for member in archive:
                content = archive.extractfile(member)
                if content is not None:
                    digests[member.name] = hashlib.sha256(content.read()).hexdigest()
        return [name for name, digest in tree.digests.items() if digests.get(name) != digest]

    def grow(self, destination: Path) -> str:
        return f"{destination.name} is larger now"


def best_content() -> Content:
    needed = ("mke2fs", "debugfs", "e2fsck", "resize2fs")
    return Ext4() if all(find_tool(each) for each in needed) else TarArchive()
