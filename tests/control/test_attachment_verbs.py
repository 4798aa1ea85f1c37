"""The verbs on attachments: who is let in, who is cut off, and what is refused."""

from dataclasses import replace

import pytest

from control.control_plane import ALICE, ControlPlane, host_request, nqn_of
from weft.errors import ConflictError, InvalidValueError, NotFoundError, UnsupportedError
from weft.model import GIB, AccessMode, HostId, Initiator, Protocol, Status, VolumeId
from weft.requests import CreateAttachmentRequest, HostRequest, UpdateAttachmentRequest


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
