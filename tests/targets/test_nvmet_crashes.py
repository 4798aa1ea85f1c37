"""Whichever change fails, and wherever weft is killed, the next try makes it right."""

import errno
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from eventually import eventually
from fakes.crash import Crash
from targets.nvmet_node import HOST_A, HOST_B, MIB, Node, keys, without
from weft.errors import UnavailableError
from weft.model import Export, VolumeId
from weft.names import new_id
from weft.targets import NvmetTarget


def a_life(target: NvmetTarget, exports: list[Export]) -> Iterator[Callable[[], object]]:
    """The verbs that bring two volumes through all that exports go through."""
    first, second = exports
    yield lambda: target.create_export(first)
    yield lambda: target.create_export(second)
    yield lambda: target.create_export(without(first, HOST_A))
    yield lambda: target.create_export(first)
    yield lambda: target.remove_export(second.volume_id)


class Lives:
    """The same two volumes on one new node after another."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._secrets = keys()
        self._ids = [VolumeId(new_id()), VolumeId(new_id())]
        for each in self._ids:
            (folder / each).write_bytes(bytes(4 * MIB))

    def exports(self, node: Node) -> list[Export]:
        return [
            replace(
                node.export(HOST_A, HOST_B, size=1, secrets=self._secrets),
                volume_id=each,
                path=self._folder / each,
            )
            for each in self._ids
        ]

    def undisturbed(self) -> tuple[str, int]:
        """The tree at the end, and how many changes it took."""
        node = Node(self._folder)
        for verb in a_life(node.start("192.0.2.1", "loop"), self.exports(node)):
            verb()
        node.stop()
        return str(node.kernel.tree()), node.kernel.changes


def has_opened(target: NvmetTarget) -> Callable[[], bool]:
    return lambda: not target.troubles()


@pytest.mark.parametrize("code", [errno.ENOMEM, errno.EBUSY, errno.EINVAL, errno.EACCES])
def test_whichever_change_the_kernel_refuses_once_the_next_try_makes_it_right(
    tmp_path: Path, code: int
) -> None:
    lives = Lives(tmp_path)
    tree, changes = lives.undisturbed()
    for at in range(changes):
        node = Node(tmp_path)
        target = node.start("192.0.2.1", "loop")
        node.kernel.refuse_at, node.kernel.refusal = at, code
        for verb in a_life(target, lives.exports(node)):
            for _ in range(2):
                with suppress(UnavailableError):
                    verb()
        eventually(has_opened(target))
        assert str(node.kernel.tree()) == tree, f"after change {at}"
        node.stop()


def test_wherever_weft_is_killed_the_next_start_makes_it_right(tmp_path: Path) -> None:
    lives = Lives(tmp_path)
    tree, changes = lives.undisturbed()
    for at in range(2 * changes):
        node = Node(tmp_path)
        target, exports = node.start("192.0.2.1", "loop"), lives.exports(node)
        node.kernel.plan.crash_after(at)
        for number in range(5):
            try:
                list(a_life(target, exports))[number]()
            except Crash:
                target = node.start("192.0.2.1", "loop")
                list(a_life(target, exports))[number]()
        assert str(node.kernel.tree()) == tree, f"after point {at}"
        node.stop()
