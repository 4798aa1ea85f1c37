"""The verbs on snapshots, attachments, hosts and profiles, and who may see what."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from control.control_plane import ADMIN, ALICE, BOB, POOL, ControlPlane, host_request, make_pool, nqn_of
from weft.errors import ConflictError, InvalidValueError, NoSpaceError, NotFoundError, UnsupportedError
from weft.model import (
    GIB,
    AccessMode,
    AttachmentId,
    HostId,
    Initiator,
    PoolId,
    ProfileId,
    Protocol,
    SnapshotId,
    Status,
    VolumeId,
)
from weft.names import host_nqn, new_id
from weft.ports import CLAIMS, POOLS, Put
from weft.requests import (
    Caller,
    CreateAttachmentRequest,
    CreateSnapshotRequest,
    HostRequest,
    ProfileRequest,
    UpdateAttachmentRequest,
    UpdateRequest,
)

# -- tenancy ------------------------------------------------------------------------------------------------------


def test_what_belongs_to_one_tenant_does_not_exist_for_another(plane: ControlPlane) -> None:
    volume, host = plane.volume(), plane.host("h")
    snapshot, attachment = plane.snapshot(volume), plane.attach(volume, host)
    service = plane.service
    for resources in (service.volumes, service.snapshots, service.attachments, service.hosts):
        assert resources.list(BOB) == []
    before = plane.store.revision()
    for verb in (
        lambda: service.volumes.get(BOB, volume.id),
        lambda: service.volumes.update(BOB, volume.id, UpdateRequest(name="mine")),
        lambda: service.volumes.extend(BOB, volume.id, 2 * GIB),
        lambda: service.volumes.revert(BOB, volume.id, snapshot),
        lambda: service.volumes.delete(BOB, volume.id),
        lambda: service.snapshots.get(BOB, snapshot),
        lambda: service.snapshots.update(BOB, snapshot, UpdateRequest(name="mine")),
        lambda: service.snapshots.delete(BOB, snapshot),
        lambda: service.attachments.get(BOB, attachment),
        lambda: service.attachments.update(BOB, attachment, UpdateAttachmentRequest(mountpoint="/x")),
        lambda: service.attachments.delete(BOB, attachment),
        lambda: service.hosts.get(BOB, host.id),
        lambda: service.hosts.update(BOB, host.id, HostRequest(name="mine")),
        lambda: service.hosts.delete(BOB, host.id),
    ):
        with pytest.raises(NotFoundError, match="can't be found"):
            verb()
    assert plane.store.revision() == before
    own_host, own_volume = plane.host("own", BOB), plane.volume("own", caller=BOB)
    taken = plane.store.revision()
    with pytest.raises(InvalidValueError, match=r"volumeId: .* can't be found"):
        plane.snapshot(volume, caller=BOB)
    with pytest.raises(InvalidValueError, match=r"volumeId: .* can't be found"):
        plane.attach(volume, own_host, caller=BOB)
    with pytest.raises(InvalidValueError, match=r"hostId: .* can't be found"):
        plane.attach(own_volume, host, caller=BOB)
    assert plane.store.revision() == taken


def test_an_administrator_sees_every_tenants_things(plane: ControlPlane) -> None:
    alices, bobs = plane.volume("a"), plane.volume("b", caller=BOB)
    assert {view.volume.id for view in plane.service.volumes.list(ADMIN)} == {alices.id, bobs.id}
    assert [view.volume.id for view in plane.service.volumes.list(ALICE)] == [alices.id]
    host = plane.host("h", ADMIN)
    attachment = plane.attach(bobs, host, caller=ADMIN)
    assert plane.service.attachments.get(BOB, attachment).attachment.tenant_id == BOB.tenant_id
    plane.service.volumes.delete(ADMIN, alices.id)


# -- snapshots ----------------------------------------------------------------------------------------------------


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


# -- attachments --------------------------------------------------------------------------------------------------


def test_an_attached_host_is_let_in_and_told_how_to_connect(plane: ControlPlane) -> None:
    volume, host = plane.volume(), plane.host("h")
    request = CreateAttachmentRequest(
        volume_id=volume.id, host_id=host.id, mountpoint="/mnt", metadata={"a": "b"}
    )
    view = plane.service.attachments.create(ALICE, request)
    assert (view.status, view.connection) == (Status.CREATING, None)
    assert plane.status(volume) is Status.ATTACHING
    plane.settle()
    view = plane.service.attachments.get(ALICE, view.attachment.id)
    assert view.status is Status.AVAILABLE
    assert view.connection is not None
    assert view.connection.host_nqn == nqn_of(host)
    plane.target.connect(volume.id, nqn_of(host))
    assert plane.status(volume) is Status.IN_USE
    changed = plane.service.attachments.update(
        ALICE, view.attachment.id, UpdateAttachmentRequest(mountpoint="/srv", metadata={"c": "d"})
    )
    assert (changed.attachment.mountpoint, changed.attachment.metadata) == ("/srv", {"a": "b", "c": "d"})


def test_a_host_is_cut_off_before_its_attachment_is_gone_and_detaching_twice_is_detaching_once(
    plane: ControlPlane,
) -> None:
    volume, host = plane.volume(), plane.host("h")
    attachment = plane.attach(volume, host)
    plane.target.connect(volume.id, nqn_of(host))
    plane.service.attachments.delete(ALICE, attachment)
    plane.service.attachments.delete(ALICE, attachment)
    assert plane.attachment_status(attachment) is Status.DELETING
    assert plane.service.attachments.get(ALICE, attachment).connection is None
    plane.settle()
    assert plane.target.cut == [(volume.id, nqn_of(host))]
    assert not plane.target.shows(volume.id)
    assert plane.status(volume) is Status.AVAILABLE
    with pytest.raises(NotFoundError):
        plane.service.attachments.delete(ALICE, attachment)


@pytest.mark.parametrize(
    ("changes", "refusal"),
    [
        ({"mountpoint": "\0"}, "mountpoint: must not hold"),
        ({"metadata": {"k": "\0"}}, "metadata.k: must not hold"),
        ({"volume_id": VolumeId("x")}, "volumeId: get volume failed .* volume x can't be found"),
        ({"host_id": HostId("x")}, "hostId: host x can't be found"),
    ],
)
def test_a_wrong_attachment_is_refused(plane: ControlPlane, changes: dict[str, object], refusal: str) -> None:
    asked = CreateAttachmentRequest(volume_id=plane.volume().id, host_id=plane.host("h").id)
    before = plane.store.revision()
    with pytest.raises(InvalidValueError, match=refusal):
        plane.service.attachments.create(ALICE, replace(asked, **changes))  # type: ignore[arg-type]
    assert plane.store.revision() == before


def test_what_an_export_cannot_do_is_refused_and_not_quietly_left_out(plane: ControlPlane) -> None:
    volume, host = plane.volume(), plane.host("h")
    asked = CreateAttachmentRequest(volume_id=volume.id, host_id=host.id, access_mode=AccessMode.READ_ONLY)
    with pytest.raises(UnsupportedError, match=r"attachMode: .* use rw"):
        plane.service.attachments.create(ALICE, asked)


def test_a_host_needs_an_identity_for_the_pools_protocol_and_the_volumes_zone(plane: ControlPlane) -> None:
    volume = plane.volume()
    iqn = Initiator(port_name="iqn.2004-01.org.example:h", protocol=Protocol.ISCSI)
    other = plane.service.hosts.create(ALICE, HostRequest(name="iscsi", initiators=(iqn,)))
    with pytest.raises(InvalidValueError, match="hostId: host iscsi has no nvmeof initiator; register it"):
        plane.attach(volume, other)
    far = plane.service.hosts.create(ALICE, replace(host_request("far"), availability_zones=("az2",)))
    words = r"hostId: availability zone of volume: default is not in the host availability zones: \[az2\]"
    with pytest.raises(InvalidValueError, match=words):
        plane.attach(volume, far)


def test_a_volume_is_shared_only_if_it_was_made_to_be(plane: ControlPlane) -> None:
    one, two = plane.host("one"), plane.host("two")
    alone, shared = plane.volume("alone"), plane.volume("shared", multi_attach=True)
    plane.attach(alone, one, settle=False)
    with pytest.raises(ConflictError, match="volume multiattach must be true"):
        plane.attach(alone, two)
    plane.attach(shared, one)
    plane.attach(shared, two)
    export = plane.target.export(shared.id)
    assert export is not None
    assert export.initiators == {nqn_of(one), nqn_of(two)}
    with pytest.raises(ConflictError, match="volume shared is already attached to host two"):
        plane.attach(shared, two)


def test_a_host_comes_back_only_after_it_was_cut_off(plane: ControlPlane) -> None:
    volume, host = plane.volume(multi_attach=True), plane.host("h")
    plane.service.attachments.delete(ALICE, plane.attach(volume, host))
    with pytest.raises(ConflictError, match="still being detached from host h; try again soon"):
        plane.attach(volume, host)
    plane.settle()
    plane.attach(volume, host)


def test_detaching_one_host_leaves_the_others_alone(plane: ControlPlane) -> None:
    volume, one, two = plane.volume(multi_attach=True), plane.host("one"), plane.host("two")
    first, _ = plane.attach(volume, one), plane.attach(volume, two)
    for host in (one, two):
        plane.target.connect(volume.id, nqn_of(host))
    plane.service.attachments.delete(ALICE, first)
    plane.settle()
    assert plane.target.cut == [(volume.id, nqn_of(one))]
    assert plane.target.connected(volume.id) == {nqn_of(two)}
    assert plane.status(volume) is Status.IN_USE


def test_only_a_volume_that_is_there_is_attached(plane: ControlPlane) -> None:
    volume, host = plane.volume(settle=False), plane.host("h")
    with pytest.raises(ConflictError, match="volume v is creating; only an available volume"):
        plane.attach(volume, host)
    plane.settle()
    plane.service.volumes.extend(ALICE, volume.id, 2 * GIB)
    with pytest.raises(ConflictError, match="volume v is extending"):
        plane.attach(volume, host)
    plane.settle()
    plane.service.volumes.delete(ALICE, volume.id)
    with pytest.raises(ConflictError, match="volume v is deleting"):
        plane.attach(volume, host)


# -- hosts --------------------------------------------------------------------------------------------------------


def test_two_hosts_never_have_one_identity_or_one_name(plane: ControlPlane) -> None:
    nqn = host_nqn(new_id())
    plane.service.hosts.create(ALICE, host_request("h", nqn))
    before = plane.store.revision()
    with pytest.raises(ConflictError, match=f"initiators: {nqn} already belongs to another host; .* cloned"):
        plane.service.hosts.create(BOB, host_request("other", nqn))
    with pytest.raises(ConflictError, match="the host with name h already exists in the system"):
        plane.service.hosts.create(ALICE, host_request("h"))
    assert plane.store.revision() == before


def test_a_host_that_goes_gives_its_name_and_identity_back(plane: ControlPlane) -> None:
    request = host_request("h")
    host = plane.service.hosts.create(ALICE, request)
    plane.service.hosts.delete(ALICE, host.id)
    assert plane.store.list(CLAIMS, where={"owner": host.id}) == []
    plane.service.hosts.create(BOB, request)
    with pytest.raises(NotFoundError):
        plane.service.hosts.delete(ALICE, host.id)


def test_a_changed_host_gives_back_what_it_no_longer_has_and_nothing_else(plane: ControlPlane) -> None:
    request = host_request("h")
    host, other = plane.service.hosts.create(ALICE, request), plane.host("other")
    changed = plane.service.hosts.update(ALICE, host.id, HostRequest(name="g", ip="192.0.2.7", port=22))
    assert (changed.name, changed.initiators, changed.ip) == ("g", host.initiators, "192.0.2.7")
    plane.host("h")
    with pytest.raises(ConflictError, match="initiators: "):
        plane.service.hosts.create(ALICE, replace(request, name="another"))
    with pytest.raises(ConflictError, match="initiators: "):
        plane.service.hosts.update(ALICE, host.id, HostRequest(initiators=other.initiators))
    assert plane.service.hosts.get(ALICE, host.id) == changed


def test_the_identity_of_a_host_does_not_change_under_its_sessions(plane: ControlPlane) -> None:
    first, second = (Initiator(port_name=host_nqn(new_id()), protocol=Protocol.NVMEOF) for _ in "12")
    volume = plane.volume()
    host = plane.service.hosts.create(ALICE, HostRequest(name="h", initiators=(first, second)))
    attachment = plane.attach(volume, host)
    update = plane.service.hosts.update
    for initiators in ((second,), (second, first), (first,)):
        with pytest.raises(
            ConflictError, match="some volumes are attached to host: h, please detach them first"
        ):
            update(ALICE, host.id, HostRequest(initiators=initiators))
    update(ALICE, host.id, HostRequest(username="root", initiators=(first, second)))
    with pytest.raises(ConflictError, match="some volumes are attached"):
        plane.service.hosts.delete(ALICE, host.id)
    plane.service.attachments.delete(ALICE, attachment)
    with pytest.raises(ConflictError, match="some volumes are attached"):
        update(ALICE, host.id, HostRequest(initiators=(second,)))
    plane.settle()
    update(ALICE, host.id, HostRequest(initiators=(second, first)))


@pytest.mark.parametrize(
    ("changes", "refusal"),
    [
        ({"name": ""}, "hostName: '' is not a host name"),
        ({"name": "a_b"}, "hostName: 'a_b' is not a host name"),
        ({"os_type": "beos"}, "osType: 'beos' is none of esxi, linux, windows"),
        ({"access_mode": "magic"}, "accessMode: 'magic' is neither agent nor agentless"),
        ({"ip": "h.example"}, "ip: 'h.example' is not an IPv4 or IPv6 address"),
        ({"port": 70000}, "port: 70000 is not a port"),
        ({"username": "x\n\0"}, "username: must not hold"),
        ({"availability_zones": ("",)}, "availabilityZones: must not be empty"),
        (
            {"initiators": (Initiator(port_name="x", protocol=Protocol.NVMEOF),)},
            "initiators.portName: 'x' is not",
        ),
        (
            {"initiators": (Initiator(port_name="", protocol=Protocol.ISCSI),)},
            "initiators.portName: must not be empty",
        ),
        (
            {"initiators": tuple(Initiator(port_name=f"i{n}", protocol=Protocol.ISCSI) for n in range(65))},
            "initiators: a host has at most 64",
        ),
    ],
)
def test_a_wrong_host_is_refused(plane: ControlPlane, changes: dict[str, object], refusal: str) -> None:
    before = plane.store.revision()
    with pytest.raises(InvalidValueError, match=f"^{refusal}"):
        plane.service.hosts.create(ALICE, replace(host_request("h"), **changes))  # type: ignore[arg-type]
    assert plane.store.revision() == before


# -- profiles and pools ---------------------------------------------------------------------------------------------


def test_profiles_are_known_by_names_that_nobody_else_has(plane: ControlPlane) -> None:
    profiles = plane.service.profiles
    profiles.ensure_default()
    assert [each.name for each in profiles.list()] == ["default_block"]
    gold = profiles.create(ProfileRequest(name="gold", storage_type="block", description="fast"))
    with pytest.raises(ConflictError, match="the profile name 'gold' already exists"):
        profiles.create(ProfileRequest(name="gold", storage_type="block"))
    with pytest.raises(ConflictError, match="the profile name 'default_block' already exists"):
        profiles.update(gold.id, ProfileRequest(name="default_block"))
    renamed = profiles.update(gold.id, ProfileRequest(name="silver", custom_properties={"a": "1"}))
    assert (renamed.name, renamed.description, renamed.custom_properties) == ("silver", "fast", {"a": "1"})
    profiles.create(ProfileRequest(name="gold", storage_type="block"))
    profiles.update(gold.id, ProfileRequest(custom_properties={"b": "2"}))
    assert profiles.remove_property(gold.id, "a").custom_properties == {"b": "2"}
    with pytest.raises(NotFoundError, match="has no custom property a"):
        profiles.remove_property(gold.id, "a")
    profiles.delete(gold.id)
    profiles.create(ProfileRequest(name="silver", storage_type="block"))
    with pytest.raises(NotFoundError, match=f"profile {gold.id} can't be found"):
        profiles.get(gold.id)


@pytest.mark.parametrize(
    ("changes", "refusal"),
    [
        ({"name": ""}, "name: must not be empty"),
        ({"storage_type": "file"}, "storageType: 'file' is invalid"),
        ({"storage_type": ""}, "storageType: '' is invalid"),
        ({"description": "\0"}, "description: must not hold"),
        ({"custom_properties": {"": "x"}}, "customProperties: must not be empty"),
        ({"custom_properties": {"a/b": "x"}}, "customProperties: .* may only hold"),
        ({"custom_properties": {"a": "\0"}}, "customProperties.a: must not hold"),
        ({"custom_properties": {"capabilities:iops": ">= many"}}, "capabilities:iops: .* no number"),
        ({"custom_properties": {str(n): "" for n in range(257)}}, "customProperties: holds more than 256"),
    ],
)
def test_a_wrong_profile_is_refused(plane: ControlPlane, changes: dict[str, object], refusal: str) -> None:
    before = plane.store.revision()
    asked = ProfileRequest(name="gold", storage_type="block")
    with pytest.raises(InvalidValueError, match=f"^{refusal}"):
        plane.service.profiles.create(replace(asked, **changes))  # type: ignore[arg-type]
    assert plane.store.revision() == before


def test_a_pool_shows_what_is_promised_of_it(plane: ControlPlane) -> None:
    volume = plane.volume(gib=3)
    plane.snapshot(volume, settle=False)
    plane.volume("unmade", gib=2, settle=False)
    plane.store.transact({}, [Put(POOLS, make_pool(over_commit=1.5))])
    (view,) = plane.service.pools.list()
    assert view == plane.service.pools.get(POOL)
    assert (view.total, view.booked, view.room) == (1024 * GIB, 8 * GIB, (1536 - 8) * GIB)
    with pytest.raises(NotFoundError, match="pool x can't be found"):
        plane.service.pools.get(PoolId("x"))


# -- waiting --------------------------------------------------------------------------------------------------------


def waits(plane: ControlPlane, caller: Caller) -> dict[str, Callable[[str, float], object]]:
    service = plane.service
    return {
        "volume": lambda row_id, seconds: service.wait_for_volume(caller, VolumeId(row_id), seconds),
        "snapshot": lambda row_id, seconds: service.wait_for_snapshot(caller, SnapshotId(row_id), seconds),
        "attachment": lambda row_id, seconds: service.wait_for_attachment(
            caller, AttachmentId(row_id), seconds
        ),
    }


@pytest.mark.parametrize("kind", ["volume", "snapshot", "attachment"])
def test_waiting_for_what_is_settled_or_not_there_takes_no_time(plane: ControlPlane, kind: str) -> None:
    volume, host = plane.volume(), plane.host("h")
    ids = {"volume": volume.id, "snapshot": plane.snapshot(volume), "attachment": plane.attach(volume, host)}
    waits(plane, ALICE)[kind](ids[kind], 60)
    waits(plane, BOB)[kind](ids[kind], 60)
    waits(plane, ALICE)[kind]("x", 60)


def test_waiting_ends_with_its_time_when_nothing_happens(plane: ControlPlane) -> None:
    volume = plane.volume(settle=False)
    plane.service.wait_for_volume(ALICE, volume.id, 0.02)
    assert plane.status(volume) is Status.CREATING
