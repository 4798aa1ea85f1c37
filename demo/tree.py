"""A directory tree to fill a file system with, and whether it came back as it was."""

import hashlib
import random
from dataclasses import dataclass
from pathlib import Path

MIB = 2**20


@dataclass(frozen=True)
class Tree:
    """Files below root by their relative path, with the SHA-256 of each; size is bytes of content."""

    root: Path
    digests: dict[str, str]
    size: int
    landmark: str
    """A file of random bytes, whose place on the volume can be found by its content."""


def generate_tree(root: Path, size: int, *, seed: int = 20190101) -> Tree:
    """Many small files and some large ones, size bytes or a little more in all."""
    source = random.Random(seed)
    digests: dict[str, str] = {}
    made = 0
    for name, length in _files(size):
        content = source.randbytes(length)
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        digests[name] = hashlib.sha256(content).hexdigest()
        made += length
    return Tree(root=root, digests=digests, size=made, landmark="large/file-0")


def _files(size: int) -> list[tuple[str, int]]:
    small = [(f"small/{n // 50}/file-{n}", 1 + 173 * n % 20_000) for n in range(1000)]
    middle = [(f"middle/{n % 10}/file-{n}", 200_000 + 1009 * n) for n in range(100)]
    rest = size - sum(length for _, length in small + middle)
    count = max(1, -(-rest // (8 * MIB)))
    return small + middle + [(f"large/file-{n}", 8 * MIB) for n in range(count)]


def differing(tree: Tree, copy: Path) -> list[str]:
    """The files whose content below copy is not the tree's."""
    return [name for name, digest in tree.digests.items() if _digest(copy / name) != digest]


def _digest(path: Path) -> str:
    if not path.is_file():
        return ""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
