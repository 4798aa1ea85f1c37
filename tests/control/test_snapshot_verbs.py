"""The verbs on snapshots."""

from dataclasses import replace

import pytest

from control.control_plane import ALICE, ControlPlane
from weft.errors import ConflictError, InvalidValueError, NoSpaceError, NotFoundError
from weft.model import GIB, ProfileId, Status, VolumeId
from weft.names import new_id
from weft.requests import CreateSnapshotRequest, UpdateRequest


def test_a_snapshot_has_the_size_and_profile_of_its_volume(plane: ControlPlane) -> None:
    volume = plane.volume(gib=2)
    request = CreateSnapshotRequest(name="s", volume_id=volume.id, metadata={"a": "b"})
    view = plane.service.snapshots.create(ALICE, request)
    assert (view.status, view.size) == (Status.CREATING, 2 * GIB)
    assert view.snapshot.profile_id == volume.profile_id
    plane.settle()
    assert plane.snapshot_status(view.snapshot.id) is Status.AVAILABLE
    assert [each.snapshot.id for each in plane.service.snapshots.list(ALICE, volume.id)] == [view.snapshot.id]
    assert plane.service.snapshots.list(ALICE, VolumeId(new_id())) == []
    changed = plane.service.snapshots.update(ALICE, view.snapshot.id, UpdateRequest(description="x"))
    assert (changed.snapshot.name, changed.snapshot.description) == ("s", "x")


@pytest.mark.parametrize(
    ("changes", "refusal"),
    [
        ({"name": ""}, "name: must not be empty"),
        ({"description": "\0"}, "description: must not hold"),
        ({"metadata": {"k": "\0"}}, "metadata.k: must not hold"),
        ({"volume_id": VolumeId("x")}, "volumeId: volume x can't be found"),
        ({"profile_id": ProfileId("x")}, "profileId: profile x can't be found"),
    ],
)
def test_a_wrong_snapshot_is_refused(plane: ControlPlane, changes: dict[str, object], refusal: str) -> None:
    asked = CreateSnapshotRequest(name="s", volume_id=plane.volume().id)
    before = plane.store.revision()
    with pytest.raises(InvalidValueError, match=refusal):
        plane.service.snapshots.create(ALICE, replace(asked, **changes))  # type: ignore[arg-type]
    assert plane.store.revision() == before


def test_a_snapshot_needs_a_volume_that_is_there_and_room(plane: ControlPlane) -> None:
    unmade = plane.volume(settle=False)
    with pytest.raises(ConflictError, match="the volume status is creating"):
        plane.snapshot(unmade)
    large = plane.volume("large", gib=600)
    with pytest.raises(NoSpaceError, match=r"room for 423\.0 GiB more, and the snapshot needs 600 GiB"):
        plane.snapshot(large)


def test_a_deleted_snapshot_goes_and_asking_twice_is_asking_once(plane: ControlPlane) -> None:
    volume = plane.volume()
    kept = plane.snapshot(volume)
    plane.service.snapshots.delete(ALICE, kept)
    before = plane.store.revision()
    plane.service.snapshots.delete(ALICE, kept)
    assert plane.store.revision() == before
    plane.settle()
    assert plane.driver.snapshots(volume.id) == {}
    with pytest.raises(NotFoundError):
        plane.service.snapshots.get(ALICE, kept)


def test_a_snapshot_is_not_deleted_while_it_is_read(plane: ControlPlane) -> None:
    volume = plane.volume()
    kept = plane.snapshot(volume)
    copy = plane.volume("copy", snapshot_id=kept, settle=False)
    with pytest.raises(ConflictError, match="volume copy is being made from this snapshot"):
        plane.service.snapshots.delete(ALICE, kept)
    plane.settle()
    plane.service.volumes.revert(ALICE, volume.id, kept)
    with pytest.raises(ConflictError, match="volume v is being reverted to this snapshot"):
        plane.service.snapshots.delete(ALICE, kept)
    plane.settle()
    plane.service.snapshots.delete(ALICE, kept)
    plane.settle()
    assert plane.status(copy) is Status.AVAILABLE


def test_a_snapshot_can_be_deleted_before_it_is_taken_and_when_that_failed(plane: ControlPlane) -> None:
    volume = plane.volume()
    unmade = plane.snapshot(volume, settle=False)
    plane.service.snapshots.delete(ALICE, unmade)
    plane.settle()
    assert plane.service.snapshots.list(ALICE) == []
    unmade = plane.snapshot(volume, settle=False)
    plane.plan.fail("driver.snapshot", NoSpaceError("full"))
    plane.settle()
    view = plane.service.snapshots.get(ALICE, unmade)
    assert (view.status, view.reason) == (Status.ERROR, "taking snapshot s failed: full")
    plane.service.snapshots.delete(ALICE, unmade)
    plane.settle()
    plane.service.volumes.delete(ALICE, volume.id)
