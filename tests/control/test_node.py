"""The node: failures are written down and tried again or not, and two volumes never wait for each other."""

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace

import pytest

from control.control_plane import ALICE, NEW, NODE, OLD, POOL, ControlPlane, make_pool, nqn_of
from fakes.driver import FakeVolumeDriver
from fakes.rows import make_volume
from fakes.target import FakeTarget
from weft.control.node import Node
from weft.errors import NoSpaceError, PermissionDeniedError, UnavailableError, UnsupportedError, WeftError
from weft.model import (
    GIB,
    Capacity,
    Export,
    FoundExport,
    FoundVolume,
    NodeId,
    Protocol,
    Snapshot,
    StateStatus,
    Status,
    Volume,
    VolumeId,
)
from weft.names import new_id
from weft.ports import POOL_STATES, POOLS, SNAPSHOTS, VOLUME_STATES, VOLUMES, Put

DOWN = UnavailableError("the pool does not answer")


def eventually(holds: Callable[[], bool], what: str = "it") -> None:
    deadline = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < deadline, f"{what} did not happen"
        time.sleep(0.005)


@contextmanager
def running(plane: ControlPlane, **settings: float) -> Iterator[Node]:
    """The plane's node as a daemon runs it, with its threads."""
    workers = int(settings.pop("workers", 4))
    node = Node(
        NODE, plane.store, plane.drivers, {Protocol.NVMEOF: plane.target}, workers=workers, **settings
    )
    node.start()
    try:
        yield node
    finally:
        node.stop()


# -- failures -----------------------------------------------------------------------------------------------------

FAILURES: list[tuple[Exception, str]] = [
    (NoSpaceError("the disk is full"), "the disk is full"),
    (UnavailableError("it does not answer"), "it does not answer"),
    (OSError(5, "Input/output error"), "an unexpected error, see the log: [Errno 5] Input/output error"),
    (RuntimeError("a bug"), "an unexpected error, see the log: a bug"),
]


@pytest.mark.parametrize(("error", "said"), FAILURES)
def test_a_creation_that_failed_says_why(plane: ControlPlane, error: Exception, said: str) -> None:
    plane.plan.fail("driver.create", error)
    volume = plane.volume()
    assert plane.reason(volume) == f"creating volume v failed: {said}"
    passing = isinstance(error, UnavailableError)
    assert plane.status(volume) is (Status.CREATING if passing else Status.ERROR)
    plane.settle()
    assert plane.status(volume) is (Status.AVAILABLE if passing else Status.ERROR)
    assert plane.reason(volume) == ("" if passing else f"creating volume v failed: {said}")


@pytest.mark.parametrize(("error", "said"), FAILURES)
def test_a_growth_that_failed_says_why_and_the_volume_stays_usable(
    plane: ControlPlane, error: Exception, said: str
) -> None:
    volume, host = plane.volume(), plane.host("h")
    plane.attach(volume, host)
    plane.plan.fail("driver.extend", error)
    plane.service.volumes.extend(ALICE, volume.id, 2 * GIB)
    plane.node.settle(volume.id)
    assert plane.reason(volume) == f"extending volume v failed: {said}"
    plane.settle()
    passing = isinstance(error, UnavailableError)
    assert plane.service.volumes.get(ALICE, volume.id).size == (2 if passing else 1) * GIB
    assert plane.status(volume) is Status.IN_USE
    plane.target.connect(volume.id, nqn_of(host))


@pytest.mark.parametrize(("error", "said"), FAILURES)
def test_a_snapshot_that_failed_says_why(plane: ControlPlane, error: Exception, said: str) -> None:
    volume = plane.volume()
    plane.plan.fail("driver.snapshot", error)
    kept = plane.snapshot(volume)
    view = plane.service.snapshots.get(ALICE, kept)
    assert view.reason == f"taking snapshot s failed: {said}"
    plane.settle()
    passing = isinstance(error, UnavailableError)
    assert plane.snapshot_status(kept) is (Status.AVAILABLE if passing else Status.ERROR)
    assert plane.status(volume) is Status.AVAILABLE


@pytest.mark.parametrize(("error", "said"), FAILURES)
@pytest.mark.parametrize("effect", ["target.subsystem", "target.allow", "target.bind"])
def test_an_export_that_failed_says_why_and_is_always_tried_again(
    plane: ControlPlane, effect: str, error: Exception, said: str
) -> None:
    volume, host = plane.volume(), plane.host("h")
    plane.plan.fail(effect, error)
    attachment = plane.attach(volume, host)
    view = plane.service.attachments.get(ALICE, attachment)
    assert (view.status, view.reason) == (Status.CREATING, said)
    plane.settle()
    assert plane.attachment_status(attachment) is Status.AVAILABLE


def test_an_export_that_the_target_cannot_make_is_an_error_and_no_busy_loop(plane: ControlPlane) -> None:
    volume, host = plane.volume(), plane.host("h")
    attachment = plane.attach(volume, host, settle=False)
    plane.plan.fail("target.bind", UnsupportedError("no such transport here"), times=1000)
    with running(plane, first_retry_seconds=0.05):
        eventually(lambda: plane.attachment_status(attachment) is Status.ERROR)
        plane.plan.passed.clear()
        time.sleep(0.3)
        tries = sum(point.effect == "target.bind" for point in plane.plan.passed)
        assert 1 <= tries <= 5, f"{tries} tries in 0.3 s"
        plane.plan.clear()
        eventually(lambda: plane.attachment_status(attachment) is Status.AVAILABLE)


@pytest.mark.parametrize(("error", "said"), FAILURES)
@pytest.mark.parametrize("effect", ["target.unbind", "target.remove"])
def test_a_cut_that_failed_keeps_the_attachment_and_is_tried_until_it_is_done(
    plane: ControlPlane, effect: str, error: Exception, said: str
) -> None:
    volume, host = plane.volume(), plane.host("h")
    attachment = plane.attach(volume, host)
    plane.target.connect(volume.id, nqn_of(host))
    plane.service.attachments.delete(ALICE, attachment)
    plane.plan.fail(effect, error)
    plane.node.settle(volume.id)
    view = plane.service.attachments.get(ALICE, attachment)
    assert (view.status, view.reason) == (Status.DELETING, said)
    plane.settle()
    assert plane.service.attachments.list(ALICE) == []
    assert not plane.target.shows(volume.id)


def test_nothing_is_deleted_or_reverted_while_its_export_cannot_be_ended(plane: ControlPlane) -> None:
    volume = plane.volume()
    plane.target.create_export(
        Export(volume_id=volume.id, path=plane.driver.path(volume), size=GIB, hosts=())
    )
    plane.service.volumes.delete(ALICE, volume.id)
    plane.plan.fail("target.remove", UnavailableError("the target does not answer"))
    plane.node.settle(volume.id)
    assert plane.driver.volume(volume.id) is not None
    assert plane.status(volume) is Status.DELETING
    assert "the target does not answer" in plane.reason(volume)
    plane.settle()
    assert plane.driver.volume(volume.id) is None
    assert plane.driver.faults == []


def test_a_growth_that_waits_for_a_snapshot_happens_though_the_snapshot_fails(plane: ControlPlane) -> None:
    volume = plane.volume()
    snapshot = plane.snapshot(volume, settle=False)
    plane.service.volumes.extend(ALICE, volume.id, 3 * GIB)
    plane.plan.fail("driver.snapshot", NoSpaceError("the disk is full"))
    plane.node.settle(volume.id)
    assert plane.status(volume) is Status.EXTENDING
    plane.settle()
    assert plane.snapshot_status(snapshot) is Status.ERROR
    assert plane.status(volume) is Status.AVAILABLE
    assert plane.service.volumes.get(ALICE, volume.id).size == 3 * GIB


def test_a_revert_that_waits_for_the_end_of_an_export_happens(plane: ControlPlane) -> None:
    volume = plane.volume()
    plane.driver.write(volume.id, 0, OLD)
    snapshot = plane.snapshot(volume)
    plane.driver.write(volume.id, 0, NEW)
    plane.target.create_export(
        Export(volume_id=volume.id, path=plane.driver.path(volume), size=GIB, hosts=())
    )
    plane.service.volumes.revert(ALICE, volume.id, snapshot)
    plane.plan.fail("target.remove", UnavailableError("the target does not answer"))
    plane.node.settle(volume.id)
    assert plane.status(volume) is Status.REVERTING
    plane.settle()
    assert plane.status(volume) is Status.AVAILABLE
    assert plane.driver.read(volume.id, 0, len(OLD)) == OLD


class Unseen:
    """Stands before a fake and lets nothing through while it is down."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error

    def check(self) -> None:
        if self.error is not None:
            raise self.error


class UnseenDriver(FakeVolumeDriver):
    def __init__(self, unseen: Unseen) -> None:
        super().__init__()
        self._unseen = unseen

    def volume(self, volume_id: VolumeId) -> FoundVolume | None:
        self._unseen.check()
        return super().volume(volume_id)

    def capacity(self) -> Capacity:
        self._unseen.check()
        return super().capacity()


class UnseenTarget(FakeTarget):
    def __init__(self, unseen: Unseen) -> None:
        super().__init__()
        self._unseen = unseen

    def export(self, volume_id: VolumeId) -> FoundExport | None:
        self._unseen.check()
        return super().export(volume_id)

    def exports(self) -> Mapping[VolumeId, FoundExport]:
        self._unseen.check()
        return super().exports()


@pytest.mark.parametrize("error", [UnavailableError("no answer"), OSError(5, "no answer")])
def test_a_pool_that_cannot_be_seen_changes_nothing_but_the_reason(
    plane: ControlPlane, error: Exception
) -> None:
    unseen = Unseen()
    plane.drivers[POOL] = plane.driver = UnseenDriver(unseen)
    plane.restart()
    volume = plane.volume()
    unseen.error = error
    plane.node.settle(volume.id)
    assert plane.status(volume) is Status.AVAILABLE
    assert "no answer" in plane.reason(volume)
    fresh = plane.volume("fresh")
    assert plane.status(fresh) is Status.CREATING
    assert "no answer" in plane.reason(fresh)
    plane.node.measure_pools()
    view = plane.service.pools.get(POOL)
    assert (view.status, view.total) == (StateStatus.ERROR, 0)
    assert "no answer" in view.reason

    unseen.error = None
    plane.node.measure_pools()
    plane.settle()
    assert {plane.status(each) for each in (volume, fresh)} == {Status.AVAILABLE}
    assert {plane.reason(each) for each in (volume, fresh)} == {""}
    assert plane.service.pools.get(POOL).status is StateStatus.AVAILABLE
    assert plane.driver.faults == []


def test_a_target_that_is_down_is_waited_for(plane: ControlPlane) -> None:
    unseen = Unseen()
    plane.target = UnseenTarget(unseen)
    plane.restart()
    volume, host = plane.volume(), plane.host("h")
    unseen.error = UnavailableError("the target does not run")
    attachment = plane.attach(volume, host)
    view = plane.service.attachments.get(ALICE, attachment)
    assert (view.status, view.reason) == (Status.CREATING, "the target does not run")
    plane.node.sweep()
    unseen.error = None
    plane.settle()
    assert plane.attachment_status(attachment) is Status.AVAILABLE
    assert plane.reason(volume) == ""


def test_a_pool_without_a_target_for_its_protocol_says_so(plane: ControlPlane) -> None:
    plane.store.transact({}, [Put(POOLS, make_pool(protocol=Protocol.ISCSI))])
    volume = plane.volume()
    assert plane.reason(volume) == "this node has no iscsi target"
    assert plane.driver.volumes() == {}


# -- what is lost and what comes back ----------------------------------------------------------------------------------


def test_a_volume_that_vanished_is_an_error_is_never_made_anew_and_may_come_back(plane: ControlPlane) -> None:
    volume, host = plane.volume(), plane.host("h")
    plane.driver.write(volume.id, 0, OLD)
    attachment = plane.attach(volume, host)
    content = plane.driver._volumes[volume.id]
    plane.driver.lose(volume.id)
    plane.settle()
    assert plane.status(volume) is Status.ERROR
    assert (
        plane.reason(volume) == f"volume {volume.id} has vanished from its pool; weft does not make data anew"
    )
    assert plane.driver.volumes() == {}
    assert plane.target.shows(volume.id), "an export that hosts may still use was taken away"
    with pytest.raises(WeftError, match="is error; only an available volume can be attached"):
        plane.attach(volume, plane.host("other"))

    plane.driver._volumes[volume.id] = content
    plane.settle()
    assert plane.status(volume) is Status.IN_USE
    assert plane.reason(volume) == ""
    assert plane.driver.read(volume.id, 0, len(OLD)) == OLD
    assert plane.attachment_status(attachment) is Status.AVAILABLE
    assert plane.driver.faults == []


def test_a_volume_that_vanished_can_be_detached_and_deleted_also_after_a_reboot(plane: ControlPlane) -> None:
    volume, one, two = plane.volume(multi_attach=True), plane.host("one"), plane.host("two")
    first, second = plane.attach(volume, one), plane.attach(volume, two)
    plane.driver.lose(volume.id)
    plane.target.forget()
    plane.settle()
    plane.service.attachments.delete(ALICE, first)
    plane.settle()
    plane.service.attachments.delete(ALICE, second)
    plane.settle()
    assert plane.service.attachments.list(ALICE) == []
    plane.service.volumes.delete(ALICE, volume.id)
    plane.settle()
    assert plane.volume_ids() == []


def test_what_was_asked_before_a_volume_vanished_is_done_when_it_is_back(plane: ControlPlane) -> None:
    volume = plane.volume()
    plane.driver.write(volume.id, 0, OLD)
    kept = plane.snapshot(volume)
    plane.driver.write(volume.id, 0, NEW)
    plane.service.volumes.revert(ALICE, volume.id, kept)
    content = plane.driver._volumes[volume.id]
    plane.driver.lose(volume.id)
    plane.settle()
    assert plane.status(volume) is Status.ERROR
    plane.service.wait_for_volume(ALICE, volume.id, 60)
    plane.driver._volumes[volume.id] = content
    plane.settle()
    assert plane.status(volume) is Status.AVAILABLE
    assert plane.driver.read(volume.id, 0, len(OLD)) == OLD


def test_a_snapshot_of_a_volume_that_vanished_is_an_error_that_can_be_deleted(plane: ControlPlane) -> None:
    volume = plane.volume()
    kept = plane.snapshot(volume, settle=False)
    plane.driver.lose(volume.id)
    plane.settle()
    assert plane.snapshot_status(kept) is Status.ERROR
    plane.service.snapshots.delete(ALICE, kept)
    plane.settle()
    plane.service.volumes.delete(ALICE, volume.id)
    plane.settle()
    assert plane.volume_ids() == []


def test_after_a_reboot_every_export_comes_back_as_it_was(plane: ControlPlane) -> None:
    host = plane.host("h")
    volumes = [plane.volume(f"v{n}") for n in range(5)]
    attachments = [plane.attach(volume, host) for volume in volumes]
    before = [plane.service.attachments.get(ALICE, each).connection for each in attachments]
    plane.target.forget()
    plane.restart()
    plane.settle()
    for volume in volumes:
        plane.target.connect(volume.id, nqn_of(host))
    assert [plane.service.attachments.get(ALICE, each).connection for each in attachments] == before
    assert plane.target.cut == []


def test_a_sweep_ends_exports_that_no_row_knows_and_never_touches_data(plane: ControlPlane) -> None:
    volume, host = plane.volume(), plane.host("h")
    plane.attach(volume, host)
    orphan = _orphan(plane)
    plane.driver.create(orphan)
    plane.driver.write(orphan.id, 0, OLD)
    plane.node.sweep()
    plane.settle()
    assert set(plane.target.exports()) == {volume.id}
    assert plane.driver.read(orphan.id, 0, len(OLD)) == OLD


def test_a_sweep_goes_on_when_one_orphan_cannot_be_ended(
    plane: ControlPlane, caplog: pytest.LogCaptureFixture
) -> None:
    plane.volume()
    orphan = _orphan(plane)
    plane.plan.fail("target.remove", DOWN)
    with caplog.at_level(logging.WARNING):
        plane.node.sweep()
    assert "the pool does not answer; trying again later" in caplog.text
    assert orphan.id in plane.target.exports()
    plane.node.sweep()
    assert plane.target.exports() == {}


def test_a_sweep_over_a_database_that_was_lost_ends_no_export(
    plane: ControlPlane, caplog: pytest.LogCaptureFixture
) -> None:
    orphans = [_orphan(plane) for _ in range(2)]
    plane.node.sweep()
    assert all(plane.target.shows(each.id) for each in orphans)
    assert "the database holds no volume" in caplog.text
    assert all(each.id in caplog.text for each in orphans)


def _orphan(plane: ControlPlane) -> Volume:
    """A volume that is exported, and that no row knows."""
    orphan = make_volume(GIB)
    plane.target.create_export(
        Export(volume_id=orphan.id, path=plane.driver.path(orphan), size=GIB, hosts=())
    )
    return orphan


def test_volumes_of_pools_that_this_node_does_not_have_are_left_alone(plane: ControlPlane) -> None:
    volume, host = plane.volume(), plane.host("h")
    plane.attach(volume, host)
    node = Node(NodeId("node-2"), plane.store, {}, {Protocol.NVMEOF: plane.target})
    before = plane.store.revision()
    node.settle(volume.id)
    node.sweep()
    node.settle(VolumeId(new_id()))
    assert plane.store.revision() == before
    assert plane.target.shows(volume.id)


def test_volumes_of_a_pool_that_is_not_configured_any_more_say_so_and_keep_everything(
    plane: ControlPlane,
) -> None:
    volume, host = plane.volume(), plane.host("h")
    attachment = plane.attach(volume, host)
    node = Node(NODE, plane.store, {}, {Protocol.NVMEOF: plane.target})
    plane.service.attachments.delete(ALICE, attachment)
    node.settle(volume.id)
    said = "pool pool is no longer in the configuration of this node; put it there again for this to go on"
    assert (plane.status(volume), plane.reason(volume)) == (Status.IN_USE, said)
    view = plane.service.attachments.get(ALICE, attachment)
    assert (view.status, view.reason) == (Status.DELETING, said)
    assert plane.target.shows(volume.id)
    plane.settle()
    assert (plane.status(volume), plane.reason(volume)) == (Status.AVAILABLE, "")
    assert plane.service.attachments.list(ALICE) == []


# -- the threads ------------------------------------------------------------------------------------------------------


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
