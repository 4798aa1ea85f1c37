"""The verbs on volumes that are there: what they check, what they write, and that a refusal changes nothing."""

import pytest

from control.control_plane import ALICE, NEW, OLD, POOL, ControlPlane, refused
from weft.errors import ConflictError, InvalidValueError, NoSpaceError, NotFoundError, UnavailableError
from weft.model import GIB, Export, PoolState, SnapshotId, StateStatus, Status, VolumeId
from weft.names import new_id
from weft.ports import POOL_STATES, POOLS, VOLUMES, Delete, Key, Put
from weft.requests import UpdateRequest


def test_a_new_name_or_metadata_is_no_work_for_the_node(plane: ControlPlane) -> None:
    volume = plane.volume()
    request = UpdateRequest(name="w", metadata={"a": "1"})
    view = plane.service.volumes.update(ALICE, volume.id, request)
    assert (view.volume.name, view.volume.metadata, view.status) == ("w", {"a": "1"}, Status.AVAILABLE)
    view = plane.service.volumes.update(ALICE, volume.id, UpdateRequest(metadata={"b": "2"}))
    assert (view.volume.name, view.volume.metadata) == ("w", {"a": "1", "b": "2"})
    assert view.volume.generation == volume.generation
    many = {str(n): "" for n in range(63)}
    update = plane.service.volumes.update
    refused(
        plane,
        InvalidValueError,
        "metadata: holds more",
        lambda: update(ALICE, volume.id, UpdateRequest(metadata=many)),
    )
    refused(plane, InvalidValueError, "name: ", lambda: update(ALICE, volume.id, UpdateRequest(name="a/b")))


def test_a_volume_grows_also_while_a_host_uses_it(plane: ControlPlane) -> None:
    volume, host = plane.volume(), plane.host("h")
    plane.attach(volume, host)
    view = plane.service.volumes.extend(ALICE, volume.id, 3 * GIB)
    assert (view.status, view.size) == (Status.EXTENDING, GIB)
    plane.settle()
    view = plane.service.volumes.get(ALICE, volume.id)
    assert (view.status, view.size) == (Status.IN_USE, 3 * GIB)
    export = plane.target.export(volume.id)
    assert export is not None
    assert export.size == 3 * GIB
    assert plane.target.cut == []


def test_growth_has_to_be_growth_and_find_room(plane: ControlPlane) -> None:
    volume = plane.volume(gib=2)
    extend = plane.service.volumes.extend
    refused(plane, InvalidValueError, "newSize: must be whole GiB", lambda: extend(ALICE, volume.id, GIB + 1))
    words = "newSize: .* greater than current"
    refused(plane, InvalidValueError, words, lambda: extend(ALICE, volume.id, GIB))
    refused(plane, InvalidValueError, words, lambda: extend(ALICE, volume.id, 2 * GIB))
    refused(plane, NoSpaceError, "room for 1022.0 GiB more", lambda: extend(ALICE, volume.id, 1025 * GIB))
    extend(ALICE, volume.id, 1024 * GIB)
    refused(plane, ConflictError, "the volume status is extending", lambda: extend(ALICE, volume.id, 3 * GIB))


def test_nothing_is_promised_in_a_pool_of_which_nobody_knows_the_room(plane: ControlPlane) -> None:
    volume = plane.volume()
    dark = PoolState(id=POOL, status=StateStatus.ERROR, reason="not mounted")
    plane.store.transact({}, [Put(POOL_STATES, dark)])
    words = "pool pool is not available: not mounted"
    refused(plane, UnavailableError, words, lambda: plane.service.volumes.extend(ALICE, volume.id, 2 * GIB))
    refused(plane, UnavailableError, words, lambda: plane.snapshot(volume))


def test_after_a_refused_growth_the_volume_goes_on_as_it_was(plane: ControlPlane) -> None:
    volume = plane.volume()
    plane.driver.write(volume.id, 0, OLD)
    kept = plane.snapshot(volume)
    plane.plan.fail("driver.extend", NoSpaceError("the disk is full"))
    plane.service.volumes.extend(ALICE, volume.id, 900 * GIB)
    assert plane.service.pools.get(POOL).booked == 901 * GIB
    plane.settle()

    view = plane.service.volumes.get(ALICE, volume.id)
    assert (view.status, view.size) == (Status.AVAILABLE, GIB)
    assert view.reason == "extending volume v failed: the disk is full"
    assert plane.service.pools.get(POOL).booked == 2 * GIB
    plane.service.volumes.update(ALICE, volume.id, UpdateRequest(name="w"))
    plane.settle()
    assert plane.reason(volume).endswith("the disk is full"), "a new name made the reason go away"

    plane.service.volumes.revert(ALICE, volume.id, kept)
    plane.settle()
    assert (plane.status(volume), plane.reason(volume)) == (Status.AVAILABLE, "")
    found = plane.driver.volume(volume.id)
    assert found is not None
    assert found.size == GIB, "the revert grew the volume, which nobody asked for any more"

    plane.service.volumes.extend(ALICE, volume.id, 900 * GIB)
    plane.settle()
    assert plane.service.volumes.get(ALICE, volume.id).size == 900 * GIB


def test_growth_that_is_asked_for_again_is_booked_again(plane: ControlPlane) -> None:
    volume = plane.volume()
    plane.plan.fail("driver.extend", NoSpaceError("full"))
    plane.service.volumes.extend(ALICE, volume.id, 900 * GIB)
    plane.settle()
    other = plane.volume("other", gib=800)
    words = "room for 223.0 GiB more, and the growth needs 899 GiB"
    refused(plane, NoSpaceError, words, lambda: plane.service.volumes.extend(ALICE, volume.id, 900 * GIB))
    plane.service.volumes.delete(ALICE, other.id)
    plane.settle()
    pool = plane.store.get(POOLS, POOL)
    plane.service.volumes.extend(ALICE, volume.id, 900 * GIB)
    assert plane.store.get(POOLS, POOL) != pool, "a booking that others cannot see may be made twice"


def test_a_volume_gets_a_snapshots_content_again(plane: ControlPlane) -> None:
    volume = plane.volume()
    plane.driver.write(volume.id, 0, OLD)
    kept = plane.snapshot(volume)
    plane.driver.write(volume.id, 0, NEW)
    assert plane.service.volumes.revert(ALICE, volume.id, kept).status is Status.REVERTING
    plane.settle()
    assert plane.status(volume) is Status.AVAILABLE
    assert plane.driver.read(volume.id, 0, len(OLD)) == OLD
    plane.driver.write(volume.id, 0, NEW)
    plane.service.volumes.extend(ALICE, volume.id, 2 * GIB)
    plane.settle()
    assert plane.driver.read(volume.id, 0, len(NEW)) == NEW, "it was reverted a second time"


def test_only_a_volume_that_nobody_uses_is_reverted_and_only_to_its_own_snapshot(plane: ControlPlane) -> None:
    volume, other, host = plane.volume(), plane.volume("other"), plane.host("h")
    kept, foreign = plane.snapshot(volume), plane.snapshot(other)
    revert = plane.service.volumes.revert
    refused(plane, NotFoundError, "has no snapshot", lambda: revert(ALICE, volume.id, foreign))
    refused(plane, NotFoundError, "has no snapshot", lambda: revert(ALICE, volume.id, SnapshotId(new_id())))
    attachment = plane.attach(volume, host)
    refused(plane, ConflictError, "is inUse; .* detach it first", lambda: revert(ALICE, volume.id, kept))
    plane.service.attachments.delete(ALICE, attachment)
    refused(plane, ConflictError, "is inUse", lambda: revert(ALICE, volume.id, kept))
    plane.settle()
    plane.service.snapshots.delete(ALICE, kept)
    refused(plane, ConflictError, "snapshot s is deleting", lambda: revert(ALICE, volume.id, kept))


def test_a_snapshot_that_is_being_taken_is_not_given_the_content_of_an_older_one(plane: ControlPlane) -> None:
    volume = plane.volume()
    old = plane.snapshot(volume, "old")
    fresh = plane.snapshot(volume, "fresh", settle=False)
    words = "snapshot fresh of volume v is still being taken; revert after it"
    refused(plane, ConflictError, words, lambda: plane.service.volumes.revert(ALICE, volume.id, old))
    plane.settle()
    assert plane.snapshot_status(fresh) is Status.AVAILABLE
    plane.service.volumes.revert(ALICE, volume.id, old)


def test_a_revert_that_failed_says_so_until_something_else_is_asked_for(plane: ControlPlane) -> None:
    volume = plane.volume()
    kept = plane.snapshot(volume)
    plane.plan.fail("driver.revert", NoSpaceError("the disk is full"))
    plane.service.volumes.revert(ALICE, volume.id, kept)
    plane.settle()
    assert plane.status(volume) is Status.AVAILABLE
    assert plane.reason(volume) == "reverting volume v failed: the disk is full"


def test_a_deleted_volume_goes_and_asking_twice_is_asking_once(plane: ControlPlane) -> None:
    volume = plane.volume()
    plane.service.volumes.delete(ALICE, volume.id)
    before = plane.store.revision()
    plane.service.volumes.delete(ALICE, volume.id)
    assert plane.store.revision() == before
    assert plane.status(volume) is Status.DELETING
    plane.settle()
    assert plane.driver.volume(volume.id) is None
    with pytest.raises(NotFoundError, match=f"volume {volume.id} can't be found"):
        plane.service.volumes.get(ALICE, volume.id)
    with pytest.raises(NotFoundError):
        plane.service.volumes.delete(ALICE, volume.id)
    assert plane.volume_ids() == []


def test_a_volume_that_is_not_made_yet_can_be_deleted(plane: ControlPlane) -> None:
    unmade = plane.volume("unmade", settle=False)
    plane.service.volumes.delete(ALICE, unmade.id)
    plane.settle()
    assert plane.service.volumes.list(ALICE) == []
    assert plane.driver.volumes() == {}


def test_a_volume_that_is_used_or_has_snapshots_is_not_deleted(plane: ControlPlane) -> None:
    delete = plane.service.volumes.delete
    volume, host = plane.volume(), plane.host("h")
    attachment = plane.attach(volume, host, settle=False)
    refused(plane, ConflictError, "because it's in use", lambda: delete(ALICE, volume.id))
    plane.settle()
    plane.service.attachments.delete(ALICE, attachment)
    refused(plane, ConflictError, "because it's in use", lambda: delete(ALICE, volume.id))
    plane.settle()

    kept = plane.snapshot(volume)
    refused(plane, ConflictError, "because it still has snapshots", lambda: delete(ALICE, volume.id))
    plane.service.snapshots.delete(ALICE, kept)
    refused(plane, ConflictError, "because it still has snapshots", lambda: delete(ALICE, volume.id))
    plane.settle()
    delete(ALICE, volume.id)


def test_a_volume_that_could_not_be_made_can_be_deleted_and_books_nothing(plane: ControlPlane) -> None:
    plane.plan.fail("driver.create", NoSpaceError("full"))
    volume = plane.volume()
    plane.settle()
    assert (plane.status(volume), plane.reason(volume)) == (Status.ERROR, "creating volume v failed: full")
    assert plane.service.pools.get(POOL).booked == 0
    plane.service.volumes.delete(ALICE, volume.id)
    assert plane.service.pools.get(POOL).booked == 0, "its deletion took room that others may have got"
    stale = Export(volume_id=volume.id, path=plane.driver.path(volume), size=GIB, hosts=())
    plane.target.create_export(stale)
    plane.plan.fail("target.remove", UnavailableError("the target does not answer"))
    plane.node.settle(volume.id)
    assert (plane.status(volume), plane.service.pools.get(POOL).booked) == (Status.DELETING, 0)
    plane.settle()
    assert plane.volume_ids() == []


def test_a_deletion_that_failed_can_be_asked_for_again(plane: ControlPlane) -> None:
    volume = plane.volume()
    plane.plan.fail("driver.delete", ConflictError("the device is busy"))
    plane.service.volumes.delete(ALICE, volume.id)
    plane.settle()
    assert plane.status(volume) is Status.ERROR_DELETING
    assert plane.reason(volume) == "deleting volume v failed: the device is busy"
    host = plane.host("h")
    refused(plane, ConflictError, "errorDeleting", lambda: plane.attach(volume, host))
    plane.service.volumes.delete(ALICE, volume.id)
    assert plane.status(volume) is Status.DELETING
    plane.settle()
    assert plane.driver.volume(volume.id) is None


def test_a_volume_whose_pool_was_forgotten_is_still_shown(plane: ControlPlane) -> None:
    volume = plane.volume()
    plane.store.transact({}, [Delete(Key(POOLS.name, POOL))])
    assert plane.status(volume) is Status.AVAILABLE
    with pytest.raises(NotFoundError, match=r"pool .* can't be found"):
        plane.service.volumes.extend(ALICE, volume.id, 2 * GIB)


def test_an_unknown_volume_is_not_found_by_any_verb(plane: ControlPlane) -> None:
    unknown = VolumeId(new_id())
    volumes = plane.service.volumes
    for verb in (
        lambda: volumes.get(ALICE, unknown),
        lambda: volumes.update(ALICE, unknown, UpdateRequest(name="x")),
        lambda: volumes.extend(ALICE, unknown, GIB),
        lambda: volumes.revert(ALICE, unknown, SnapshotId(new_id())),
        lambda: volumes.delete(ALICE, unknown),
    ):
        refused(plane, NotFoundError, f"volume {unknown} can't be found", verb)
    assert plane.store.list(VOLUMES) == []
