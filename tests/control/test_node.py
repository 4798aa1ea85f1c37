"""The node with its threads: two volumes never wait for each other, and what fails holds nobody up."""

import threading
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest

from control.control_plane import ALICE, POOL, ControlPlane, nqn_of
from control.running_node import DOWN, running
from eventually import eventually
from fakes.driver import FakeVolumeDriver
from weft.errors import PermissionDeniedError, UnavailableError
from weft.model import GIB, Snapshot, Status, Volume, VolumeId
from weft.ports import POOL_STATES, SNAPSHOTS, VOLUME_STATES, VOLUMES, Put


class SlowDriver(FakeVolumeDriver):
    """Waits at the gate before it works on volumes of this name."""

    def __init__(self, name: str = "slow") -> None:
        super().__init__()
        self._name = name
        self.gate = threading.Event()
        self.waiting: set[VolumeId] = set()
        self.reading = threading.Event()

    def create(self, volume: Volume, source: Snapshot | Volume | None = None) -> None:
        if volume.name == self._name:
            self.waiting.add(volume.id)
            self.reading.set()
            assert self.gate.wait(10)
        super().create(volume, source)


@pytest.fixture
def slow(plane: ControlPlane) -> Iterator[SlowDriver]:
    driver = SlowDriver()
    plane.drivers[POOL] = plane.driver = driver
    plane.restart()
    yield driver
    driver.gate.set()


def test_a_node_does_what_is_wanted_as_soon_as_it_is_written(plane: ControlPlane) -> None:
    with running(plane):
        volume, host = plane.volume(settle=False), plane.host("h")
        plane.service.wait_for_volume(ALICE, volume.id, 10)
        assert plane.status(volume) is Status.AVAILABLE
        kept = plane.snapshot(volume, settle=False)
        plane.service.wait_for_snapshot(ALICE, kept, 10)
        attachment = plane.attach(volume, host, settle=False)
        plane.service.wait_for_attachment(ALICE, attachment, 10)
        plane.target.connect(volume.id, nqn_of(host))
        plane.service.attachments.delete(ALICE, attachment)
        plane.service.wait_for_attachment(ALICE, attachment, 10)
        with pytest.raises((PermissionDeniedError, UnavailableError)):
            plane.target.connect(volume.id, nqn_of(host))
        plane.service.snapshots.delete(ALICE, kept)
        plane.service.wait_for_snapshot(ALICE, kept, 10)
        plane.service.volumes.delete(ALICE, volume.id)
        plane.service.wait_for_volume(ALICE, volume.id, 10)
        assert plane.driver.volumes() == {}
    assert not [each for each in threading.enumerate() if each.name.startswith("node-")]


def test_a_node_that_starts_finds_what_was_written_before(plane: ControlPlane) -> None:
    volumes = [plane.volume(f"v{n}", settle=False) for n in range(10)]
    with running(plane):
        eventually(lambda: all(plane.status(each) is Status.AVAILABLE for each in volumes))


def test_a_creation_that_takes_long_delays_no_other_volume(plane: ControlPlane, slow: SlowDriver) -> None:
    volume, host = plane.volume(), plane.host("h")
    with running(plane, workers=4):
        blocked = [plane.volume("slow", settle=False) for _ in range(12)]
        eventually(lambda: len(slow.waiting) == 2, "as many creations at once as there are turns")
        attachment = plane.attach(volume, host, settle=False)
        plane.service.wait_for_attachment(ALICE, attachment, 10)
        assert plane.attachment_status(attachment) is Status.AVAILABLE
        plane.service.attachments.delete(ALICE, attachment)
        plane.service.wait_for_attachment(ALICE, attachment, 10)
        assert {plane.status(each) for each in blocked} == {Status.CREATING}
        slow.gate.set()
        eventually(lambda: all(plane.status(each) is Status.AVAILABLE for each in blocked))


def test_a_host_is_cut_off_while_copies_of_other_volumes_take_every_turn(
    plane: ControlPlane, slow: SlowDriver
) -> None:
    volume, leaving, staying = plane.volume(multi_attach=True), plane.host("leaving"), plane.host("staying")
    attachment, _ = plane.attach(volume, leaving), plane.attach(volume, staying)
    with running(plane, workers=4):
        for _ in range(2):
            plane.volume("slow", settle=False)
        eventually(lambda: len(slow.waiting) == 2, "copies take every turn")
        snapshot = plane.snapshot(volume, settle=False)
        plane.service.volumes.extend(ALICE, volume.id, 2 * GIB)
        plane.service.attachments.delete(ALICE, attachment)
        plane.service.wait_for_attachment(ALICE, attachment, 10)
        assert [each.attachment.host_id for each in plane.service.attachments.list(ALICE)] == [staying.id]
        assert (plane.status(volume), plane.snapshot_status(snapshot)) == (Status.EXTENDING, Status.CREATING)
        slow.gate.set()
        eventually(lambda: plane.status(volume) is Status.IN_USE, "the growth")
        assert plane.snapshot_status(snapshot) is Status.AVAILABLE
        found = plane.target.export(volume.id)
        assert found is not None
        assert found.size == 2 * GIB


def test_copies_of_one_snapshot_go_on_side_by_side_and_keep_it(plane: ControlPlane, slow: SlowDriver) -> None:
    source, host = plane.volume(), plane.host("h")
    kept = plane.snapshot(source)
    with running(plane, workers=6):
        copies = [plane.volume("slow", snapshot_id=kept, settle=False) for _ in range(3)]
        eventually(lambda: len(slow.waiting) == 3, "three copies at once")
        attachment = plane.attach(source, host, settle=False)
        plane.service.wait_for_attachment(ALICE, attachment, 10)
        assert plane.attachment_status(attachment) is Status.AVAILABLE, "the source volume was locked"
        # The service refuses this; here it is written behind its back.
        row = plane.service.snapshots.row(ALICE, kept)
        plane.store.transact({}, [Put(SNAPSHOTS, replace(row.value, deleting=True, generation=2))])
        time.sleep(0.1)
        assert kept in plane.driver.snapshots(source.id), "the snapshot was deleted while it was copied"
        slow.gate.set()
        eventually(lambda: all(plane.status(each) is Status.AVAILABLE for each in copies))
        eventually(lambda: plane.driver.snapshots(source.id) == {}, "its deletion")


def test_volumes_that_are_copied_for_long_keep_no_worker_waiting(
    plane: ControlPlane, slow: SlowDriver
) -> None:
    sources, other, host = [plane.volume(f"source {n}") for n in range(2)], plane.volume(), plane.host("h")
    with running(plane, workers=4) as node:
        copies = [plane.volume("slow", source_volume_id=each.id, settle=False) for each in sources]
        eventually(lambda: len(slow.waiting) == 2, "copies take every turn")
        node.sweep()  # so a pass over each source is due, which must wait for its copy
        time.sleep(0.1)
        attachment = plane.attach(other, host, settle=False)
        plane.service.wait_for_attachment(ALICE, attachment, 5)
        assert plane.attachment_status(attachment) is Status.AVAILABLE
        slow.gate.set()
        eventually(lambda: all(plane.status(each) is Status.AVAILABLE for each in copies))


def test_a_failing_volume_is_tried_again_less_and_less_often_and_holds_nobody_up(plane: ControlPlane) -> None:
    plane.plan.fail("driver.create", DOWN, times=4)
    with running(plane, first_retry_seconds=0.02):
        failing = plane.volume("failing", settle=False)
        eventually(lambda: "does not answer" in plane.reason(failing))
        other = plane.volume("other", settle=False)
        eventually(lambda: plane.status(failing) is Status.AVAILABLE)
        eventually(lambda: plane.status(other) is Status.AVAILABLE)


def test_a_volume_that_fails_for_days_ends_no_worker(plane: ControlPlane) -> None:
    """The delay doubles with each try; doubled a thousand times it would be no number any more."""
    plane.plan.fail("driver.create", DOWN, times=1100)
    volume = plane.volume(settle=False)
    for _ in range(1100):
        plane.node.settle(volume.id)
    assert len(plane.node._queue._due) == 1, "retries pile up"
    plane.settle()
    assert plane.status(volume) is Status.AVAILABLE


def test_a_volume_that_portals_stay_closed_for_is_tried_again_often(plane: ControlPlane) -> None:
    """Else its pool could come, and the time for which portals wait be over before anybody has looked."""
    plane.plan.fail("driver.create", DOWN, times=20)
    volume = plane.volume(settle=False)
    plane.target.expect(frozenset({volume.id}))
    for _ in range(20):
        plane.node.settle(volume.id)
    assert plane.node._queue._due[volume.id] < time.monotonic() + 3


def test_a_store_that_fails_is_asked_again(memory: ControlPlane) -> None:
    with running(memory, first_retry_seconds=0.01):
        volume = memory.volume(settle=False)
        memory.plan.fail("store.transact", UnavailableError("the database is locked"), times=3)
        eventually(lambda: memory.status(volume) is Status.AVAILABLE)
    assert memory.driver.faults == []


def test_a_node_looks_at_everything_now_and_then(plane: ControlPlane) -> None:
    volume, host = plane.volume(), plane.host("h")
    plane.attach(volume, host)
    with running(plane, sweep_seconds=0.05):
        eventually(lambda: plane.store.get(POOL_STATES, POOL) is not None)
        plane.target.forget()
        eventually(lambda: plane.target.shows(volume.id), "the export's return")


def test_stopping_a_node_that_was_not_started_takes_no_time(plane: ControlPlane) -> None:
    plane.node.stop()


def test_nothing_is_written_when_nothing_has_changed(plane: ControlPlane) -> None:
    volume, host = plane.volume(), plane.host("h")
    plane.attach(volume, host)
    plane.settle()
    before = plane.store.revision()
    plane.node.sweep()
    plane.settle()
    assert plane.store.revision() == before
    assert plane.store.get(VOLUME_STATES, volume.id) is not None
    assert plane.store.get(VOLUMES, volume.id) is not None
