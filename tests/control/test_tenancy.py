"""What belongs to one tenant does not exist for another; an administrator sees everything."""

import pytest

from control.control_plane import ADMIN, ALICE, BOB, ControlPlane
from weft.errors import InvalidValueError, NotFoundError
from weft.model import GIB
from weft.requests import HostRequest, UpdateAttachmentRequest, UpdateRequest


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
