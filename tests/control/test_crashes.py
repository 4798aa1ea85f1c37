"""A process that ends at any instant loses nothing and leaves nothing half-made.

One life of a volume is lived again and again, each time with the process ending one effect later: before or after a
change of the bytes, of an export, or of the store. A new process over the same store and world goes on from there.
"""

import itertools
from collections.abc import Callable, Iterable

from control.control_plane import ALICE, NEW, OLD, ControlPlane, nqn_of
from fakes.crash import crashes
from weft.model import GIB, AttachmentId, Host, SnapshotId, Status, Volume
from weft.ports import ATTACHMENTS, SNAPSHOTS


class Life:
    """A client that wants one thing after the other, and asks again when it did not hear whether it was done."""

    def __init__(self, crash_again_after: Iterable[int] = ()) -> None:
        self.plane = ControlPlane()
        self._crash_again_after = iter(crash_again_after)
        self._detached: set[str] = set()
        self.one, self.two = self.plane.host("one"), self.plane.host("two")
        self.steps: list[Callable[[], None]] = [
            self.make,
            self.keep,
            lambda: self.attach(self.one),
            lambda: self.attach(self.two),
            self.grow,
            lambda: self.detach(self.one),
            lambda: self.detach(self.two),
            self.revert,
            self.copy,
            self.forget_snapshot,
            lambda: self.delete("v"),
            lambda: self.delete("copy"),
        ]

    def live(self) -> int:
        """Live through all steps; how often the process ended on the way."""
        ended = 0
        for step in self.steps:
            while self.is_ended_by(self.plane.settle) or self.is_ended_by(step):
                ended += 1
                self.check_rules()
                self.begin_again()
        self.check_that_nothing_is_left()
        return ended

    def is_ended_by(self, step: Callable[[], None]) -> bool:
        return crashes(step) or crashes(self.plane.settle)

    def begin_again(self) -> None:
        self.plane.restart()
        points = next(self._crash_again_after, None)
        if points is not None:
            self.plane.plan.crash_after(points)

    # -- the steps ----------------------------------------------------------------------------------------------

    def make(self) -> None:
        if self.volume("v") is None:
            self.plane.volume("v", multi_attach=True, settle=False)

    def keep(self) -> None:
        volume = self.there("v")
        if self.snapshot() is None:
            self.plane.driver.write(volume.id, 0, OLD)
            self.plane.snapshot(volume, settle=False)

    def attach(self, host: Host) -> None:
        assert self.plane.snapshot_status(self.kept()) is Status.AVAILABLE
        if self.attachment(host) is None:
            self.plane.attach(self.there("v"), host, settle=False)
        self.plane.settle()
        self.plane.target.connect(self.there("v").id, nqn_of(host))

    def grow(self) -> None:
        if self.there("v").size == GIB:
            self.plane.service.volumes.extend(ALICE, self.there("v").id, 2 * GIB)

    def detach(self, host: Host) -> None:
        found = self.plane.driver.volume(self.there("v").id)
        assert found is not None
        assert found.size == 2 * GIB
        self._detached.add(nqn_of(host))
        attachment = self.attachment(host)
        if attachment is not None:
            self.plane.service.attachments.delete(ALICE, attachment)

    def revert(self) -> None:
        volume = self.there("v")
        if volume.revert is None:
            self.plane.driver.write(volume.id, 0, NEW)
            self.plane.service.volumes.revert(ALICE, volume.id, self.kept())

    def copy(self) -> None:
        assert self.plane.driver.read(self.there("v").id, 0, len(OLD)) == OLD
        if self.volume("copy") is None:
            self.plane.volume("copy", gib=2, snapshot_id=self.kept(), settle=False)

    def forget_snapshot(self) -> None:
        assert self.plane.driver.read(self.there("copy").id, 0, len(OLD)) == OLD
        kept = self.snapshot()
        if kept is not None:
            self.plane.service.snapshots.delete(ALICE, kept)

    def delete(self, name: str) -> None:
        assert self.snapshot() is None
        volume = self.volume(name)
        if volume is not None:
            self.plane.service.volumes.delete(ALICE, volume.id)

    # -- what there is --------------------------------------------------------------------------------------------

    def volume(self, name: str) -> Volume | None:
        views = self.plane.service.volumes.list(ALICE)
        return next((view.volume for view in views if view.volume.name == name), None)

    def there(self, name: str) -> Volume:
        volume = self.volume(name)
        assert volume is not None
        assert self.plane.status(volume) in {Status.AVAILABLE, Status.IN_USE, Status.ATTACHING}
        return volume

    def snapshot(self) -> SnapshotId | None:
        return next((row.value.id for row in self.plane.store.list(SNAPSHOTS)), None)

    def kept(self) -> SnapshotId:
        kept = self.snapshot()
        assert kept is not None
        return kept

    def attachment(self, host: Host) -> AttachmentId | None:
        rows = self.plane.store.list(ATTACHMENTS, where={"host_id": host.id})
        return next((row.value.id for row in rows), None)

    # -- what must hold at any instant ------------------------------------------------------------------------------

    def check_rules(self) -> None:
        plane = self.plane
        assert plane.driver.faults == []
        wanted = {nqn_of(host) for host in (self.one, self.two) if self.attachment(host) is not None}
        for volume_id, export in plane.target.exports().items():
            assert plane.target.connected(volume_id) <= wanted, "a row went before its host was cut off"
            assert export.initiators <= wanted, "a row went before its host was shut out"
        assert {nqn for _, nqn in plane.target.cut} <= self._detached, (
            "a host was cut off that nobody detached"
        )

    def check_that_nothing_is_left(self) -> None:
        plane = self.plane
        assert plane.driver.volumes() == {}
        assert plane.target.exports() == {}
        assert plane.driver.leftovers == frozenset()
        assert not any(plane.driver._snapshots.values())
        assert [nqn for _, nqn in plane.target.cut] == [nqn_of(self.one), nqn_of(self.two)]
        rows = {key.table for key in plane.store._disk.rows}  # type: ignore[attr-defined]
        assert rows == {"pools", "pool_states", "profiles", "hosts", "claims"}


def test_a_process_that_ends_at_any_one_effect_loses_nothing_and_leaves_nothing() -> None:
    for points in range(1000):
        life = Life()
        life.plane.plan.crash_after(points)
        if life.live() == 0:
            assert points > 60, f"only {points} places to end at were found"
            return
    raise AssertionError("the life does not end")


def test_a_process_that_ends_again_and_again_gets_there_all_the_same() -> None:
    for points in range(4, 20):
        life = Life(itertools.count(points))
        life.plane.plan.crash_after(points)
        assert life.live() > 1
