"""What the node makes of a world that is not as the store says: gone, unseen, restarted, somebody else's."""

import logging
from collections.abc import Mapping

import pytest

from control.control_plane import ALICE, NEW, NODE, OLD, POOL, ControlPlane, make_pool, nqn_of
from control.running_node import DOWN
from fakes.driver import FakeVolumeDriver
from fakes.rows import make_volume
from fakes.target import FakeTarget
from weft.control.node import Node
from weft.errors import UnavailableError, WeftError
from weft.model import (
    GIB,
    Capacity,
    Export,
    FoundExport,
    FoundVolume,
    NodeId,
    Protocol,
    StateStatus,
    Status,
    Volume,
    VolumeId,
)
from weft.names import new_id
from weft.ports import POOLS, Put


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
