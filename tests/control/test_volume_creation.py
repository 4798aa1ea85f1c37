"""How volumes are asked for, new ones and copies: what is checked, what is written, what the node makes of it."""

from dataclasses import replace

import pytest

from control.control_plane import ALICE, BOB, NEW, OLD, POOL, ControlPlane, make_pool, refused
from weft.errors import ConflictError, InvalidValueError
from weft.model import GIB, PoolId, PoolState, ProfileId, SnapshotId, StateStatus, Status, VolumeId
from weft.names import new_id
from weft.ports import POOL_STATES, POOLS, Put
from weft.requests import CreateVolumeRequest, ProfileRequest

ASKED = CreateVolumeRequest(name="v", size=GIB)


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
