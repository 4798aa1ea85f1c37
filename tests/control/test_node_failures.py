"""What fails is written down with its reason, and tried again or not."""

import time

import pytest

from control.control_plane import ALICE, NEW, OLD, ControlPlane, nqn_of
from control.running_node import running
from eventually import eventually
from weft.errors import NoSpaceError, UnavailableError, UnsupportedError
from weft.model import GIB, Export, Status

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
