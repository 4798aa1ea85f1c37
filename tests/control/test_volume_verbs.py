"""The verbs on volumes: what they check, what they write, and that a refusal changes nothing."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from control.control_plane import ALICE, BOB, NEW, OLD, POOL, ControlPlane, make_pool
from weft.errors import (
    ConflictError,
    InvalidValueError,
    NoSpaceError,
    NotFoundError,
    UnavailableError,
    WeftError,
)
from weft.model import GIB, Export, PoolId, PoolState, ProfileId, SnapshotId, StateStatus, Status, VolumeId
from weft.names import new_id
from weft.ports import POOL_STATES, POOLS, PROFILES, VOLUMES, Delete, Key, Put
from weft.requests import CreateVolumeRequest, ProfileRequest, UpdateRequest

ASKED = CreateVolumeRequest(name="v", size=GIB)


def refused(plane: ControlPlane, kind: type[WeftError], words: str, verb: Callable[[], object]) -> None:
    """The verb is refused with these words, and nothing was written."""
    before = plane.store.revision()
    with pytest.raises(kind, match=words):
        verb()
    assert plane.store.revision() == before


def test_a_new_volume_is_wanted_as_it_was_asked_for_and_made_by_the_node(plane: ControlPlane) -> None:
    asked = replace(ASKED, name="db 1", description="für alle", metadata={"a": "b"}, multi_attach=True)
    view = plane.service.volumes.create(ALICE, asked)
    volume = view.volume
    assert (view.status, view.size) == (Status.CREATING, GIB)
    assert (volume.name, volume.description, volume.metadata) == ("db 1", "für alle", {"a": "b"})
    assert (volume.tenant_id, volume.user_id, volume.pool_id) == (ALICE.tenant_id, "alice", POOL)
    assert volume.multi_attach
    assert plane.service.volumes.get(ALICE, volume.id) == view

    plane.node.settle(volume.id)
    view = plane.service.volumes.get(ALICE, volume.id)
    assert (view.status, view.size, view.reason) == (Status.AVAILABLE, GIB, "")
    assert view.path == str(plane.driver.path(volume))


@pytest.mark.parametrize(
    ("asked", "refusal"),
    [
        (replace(ASKED, name=""), "name: must not be empty"),
        (replace(ASKED, name="a/b"), "name: 'a/b' may only hold"),
        (replace(ASKED, description="\x1b[2J"), "description: must not hold control characters"),
        (replace(ASKED, size=0), "size: must be whole GiB"),
        (replace(ASKED, size=GIB + 1), "size: must be whole GiB"),
        (replace(ASKED, metadata={"k": "\0"}), "metadata.k: must not hold control characters"),
        (replace(ASKED, metadata={"k" * 256: "v"}), "metadata: is longer than 255"),
        (replace(ASKED, metadata={str(n): "" for n in range(65)}), "metadata: holds more than 64"),
        (replace(ASKED, availability_zone="a/z"), "availabilityZone: 'a/z' may only hold"),
        (replace(ASKED, availability_zone="az2"), "no pool fits: pool is in availability zone default"),
        (replace(ASKED, profile_id=ProfileId(new_id())), "profileId: get profile failed"),
        (replace(ASKED, pool_id=PoolId(new_id())), "poolId: there is no pool"),
        (replace(ASKED, snapshot_id=SnapshotId(new_id())), "snapshotId: snapshot .* can't be found"),
    ],
)
def test_a_wrong_request_is_refused_and_nothing_changes(
    plane: ControlPlane, asked: CreateVolumeRequest, refusal: str
) -> None:
    refused(plane, InvalidValueError, refusal, lambda: plane.service.volumes.create(ALICE, asked))


def test_without_a_default_profile_a_volume_needs_one_by_name(plane: ControlPlane) -> None:
    (default,) = plane.service.profiles.list()
    gold = plane.service.profiles.create(ProfileRequest(name="gold", storage_type="block"))
    plane.service.profiles.delete(default.id)
    refused(
        plane,
        InvalidValueError,
        "profileId: get default profile failed",
        lambda: plane.service.volumes.create(ALICE, ASKED),
    )
    assert (
        plane.service.volumes.create(ALICE, replace(ASKED, profile_id=gold.id)).volume.profile_id == gold.id
    )


def test_a_profile_can_ask_for_capabilities_and_for_several_hosts(plane: ControlPlane) -> None:
    fast = make_pool(id=new_id(), name="fast", capabilities={"diskType": "NVMe", "iops": "5000"})
    plane.store.transact(
        {},
        [
            Put(POOLS, fast),
            Put(
                POOL_STATES, PoolState(id=fast.id, status=StateStatus.AVAILABLE, total=2 * GIB, free=2 * GIB)
            ),
        ],
    )
    wishes = {
        "capabilities:diskType": "nvme",
        "capabilities:iops": ">= 5000",
        "capabilities:multiAttach": "<is> true",
    }
    request = ProfileRequest(name="gold", storage_type="block", custom_properties=wishes)
    profile = plane.service.profiles.create(request)
    volume = plane.service.volumes.create(ALICE, replace(ASKED, profile_id=profile.id)).volume
    assert volume.pool_id == fast.id
    assert volume.multi_attach


def test_a_pool_of_another_zone_can_be_asked_for_without_naming_its_zone(plane: ControlPlane) -> None:
    plane.store.transact({}, [Put(POOLS, make_pool(availability_zone="az2"))])
    volume = plane.service.volumes.create(ALICE, replace(ASKED, pool_id=POOL)).volume
    assert volume.availability_zone == "az2"


def test_a_volume_from_a_snapshot_is_made_in_the_snapshots_pool_with_its_content(plane: ControlPlane) -> None:
    source = plane.volume(gib=2)
    plane.driver.write(source.id, 0, OLD)
    kept = plane.snapshot(source)
    plane.driver.write(source.id, 0, NEW)
    copy = plane.volume("copy", gib=3, snapshot_id=kept)
    assert copy.pool_id == source.pool_id
    assert plane.status(copy) is Status.AVAILABLE
    assert plane.driver.read(copy.id, 0, len(OLD)) == OLD

    create = plane.service.volumes.create
    small = replace(ASKED, size=GIB, snapshot_id=kept)
    elsewhere = replace(ASKED, size=2 * GIB, snapshot_id=kept, pool_id=PoolId(new_id()))
    foreign = replace(ASKED, size=2 * GIB, snapshot_id=kept)
    refused(plane, InvalidValueError, "size: .* equal to or bigger", lambda: create(ALICE, small))
    refused(
        plane,
        InvalidValueError,
        "poolId: .* the pool of what it is a copy of",
        lambda: create(ALICE, elsewhere),
    )
    refused(plane, InvalidValueError, "snapshotId: .* can't be found", lambda: create(BOB, foreign))
    unmade = plane.snapshot(source, "later", settle=False)
    early = replace(ASKED, size=2 * GIB, snapshot_id=unmade)
    refused(plane, ConflictError, "only if the snapshot is available", lambda: create(ALICE, early))


def test_a_volume_from_a_volume_is_made_in_its_pool_with_its_content_also_while_a_host_uses_it(
    plane: ControlPlane,
) -> None:
    source = plane.volume(gib=2)
    plane.driver.write(source.id, 0, OLD)
    plane.attach(source, plane.host("h"))
    asked = replace(ASKED, size=3 * GIB, source_volume_id=source.id)
    create = plane.service.volumes.create
    copy = create(ALICE, asked).volume
    plane.settle()
    plane.driver.write(source.id, 0, NEW)
    assert (copy.pool_id, copy.source_volume_id) == (source.pool_id, source.id)
    assert plane.status(copy) is Status.AVAILABLE
    assert plane.driver.read(copy.id, 0, len(OLD)) == OLD

    elsewhere = replace(asked, pool_id=PoolId(new_id()))
    both = replace(asked, snapshot_id=plane.snapshot(source))
    unknown = replace(asked, source_volume_id=VolumeId(new_id()))
    refused(
        plane, InvalidValueError, "size: must be at least", lambda: create(ALICE, replace(asked, size=GIB))
    )
    refused(plane, InvalidValueError, "poolId: .* the pool of", lambda: create(ALICE, elsewhere))
    refused(plane, InvalidValueError, "sourceVolumeId: .* not both", lambda: create(ALICE, both))
    refused(plane, InvalidValueError, "sourceVolumeId: .* can't be found", lambda: create(ALICE, unknown))
    refused(plane, InvalidValueError, "sourceVolumeId: .* can't be found", lambda: create(BOB, asked))


def test_a_volume_is_neither_deleted_nor_reverted_while_another_is_made_from_it(plane: ControlPlane) -> None:
    source = plane.volume()
    kept = plane.snapshot(source)
    volumes = plane.service.volumes
    unmade = plane.volume("later", settle=False)
    early = replace(ASKED, source_volume_id=unmade.id)
    refused(plane, ConflictError, "it can be copied while", lambda: volumes.create(ALICE, early))
    copy = volumes.create(ALICE, replace(ASKED, name="copy", source_volume_id=source.id)).volume
    refused(plane, ConflictError, "copy is being made from", lambda: volumes.revert(ALICE, source.id, kept))
    plane.service.snapshots.delete(ALICE, kept)
    plane.node.settle(source.id)
    refused(plane, ConflictError, "copy is being made from", lambda: volumes.delete(ALICE, source.id))
    plane.node.settle(copy.id)
    volumes.delete(ALICE, source.id)
    plane.settle()
    assert plane.status(copy) is Status.AVAILABLE


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


# -- growth -------------------------------------------------------------------------------------------------------


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


# -- reverting ------------------------------------------------------------------------------------------------------


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


# -- deleting ---------------------------------------------------------------------------------------------------------


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


def test_a_profile_does_not_go_from_under_a_volume_that_is_just_being_created(plane: ControlPlane) -> None:
    gold = plane.service.profiles.create(ProfileRequest(name="gold", storage_type="block"))
    before = plane.store.get(PROFILES, gold.id)
    plane.service.volumes.create(ALICE, replace(ASKED, profile_id=gold.id))
    assert plane.store.get(PROFILES, gold.id) != before, "a deletion that looked before would not notice"
    refused(
        plane,
        ConflictError,
        r"There are dependent volumes : \['v'\] for the specified profile ID",
        lambda: plane.service.profiles.delete(gold.id),
    )


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
