"""What the control plane promises whatever happens: the rules of the design, at every moment and once all is settled.

What must hold is told by the rows in the store and by the world, never by what a machine believes to have done.
"""

from typing import Any, TypeVar

from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from control.control_plane import ALICE, BOB, POOL, ControlPlane, nqn_of
from fakes.crash import CrashPlan
from fakes.driver import BLOCK
from fakes.store import MemoryStore
from weft.model import GIB, Attachment, Host, Snapshot, SnapshotId, StateStatus, Status, Volume, VolumeId
from weft.ports import (
    ATTACHMENT_STATES,
    ATTACHMENTS,
    HOSTS,
    SNAPSHOT_STATES,
    SNAPSHOTS,
    VOLUME_STATES,
    VOLUMES,
    Row,
    Table,
)
from weft.requests import Caller

RowT = TypeVar("RowT")

TOTAL = 12 * GIB


class StoreInOrder(MemoryStore):
    """Lists rows in the order in which they were made: by their random ids a run could not be repeated."""

    def list(self, table: Table[RowT], **how: Any) -> list[Row[RowT]]:
        found = {row.value.id: row for row in super().list(table, **how)}  # type: ignore[attr-defined]
        return [found[key.id] for key in self._disk.rows if key.table == table.name and key.id in found]


class ControlPlanePromises(RuleBasedStateMachine):
    """For a machine that does things to the plane, and keeps contents, kept and lost as its data should be."""

    def __init__(self) -> None:
        super().__init__()
        plan = CrashPlan()
        self.plane = ControlPlane(StoreInOrder(plan=plan), total=TOTAL, plan=plan)
        self.contents: dict[VolumeId, set[bytes]] = {}
        """What may be read from a volume: one thing, or two while a revert is under way."""
        self.kept: dict[SnapshotId, set[bytes]] = {}
        """What a snapshot may hold: the content when it was asked for, or what was written until it was taken."""
        self.lost: dict[VolumeId, Any] = {}
        self.cuts_seen = 0
        self.volumes_seen: set[VolumeId] = set()
        self.snapshots_seen: set[tuple[VolumeId, SnapshotId]] = set()

    def rows(self, table: Table[RowT]) -> list[RowT]:
        return [row.value for row in self.plane.store.list(table)]

    def owner(self, row: Volume | Snapshot | Attachment | Host) -> Caller:
        return ALICE if row.tenant_id == ALICE.tenant_id else BOB

    def hosts_of(self, volume_id: VolumeId, *, also_leaving: bool) -> set[str]:
        """The NQNs of the hosts that have an attachment row for the volume."""
        hosts = {host.id: host for host in self.rows(HOSTS)}
        return {
            nqn_of(hosts[each.host_id])
            for each in self.rows(ATTACHMENTS)
            if each.volume_id == volume_id and (also_leaving or not each.deleting)
        }

    def content(self, volume_id: VolumeId) -> bytes:
        return self.plane.driver.read(volume_id, 0, BLOCK)

    # -- the rules that hold at every moment --------------------------------------------------------------------------

    @invariant()
    def no_volume_is_made_anew_or_changed_while_it_is_shown(self) -> None:
        assert self.plane.driver.faults == []

    @invariant()
    def only_hosts_with_an_attachment_are_let_in_and_connected(self) -> None:
        for volume_id, export in self.plane.target.exports().items():
            hosts = self.hosts_of(volume_id, also_leaving=True)
            assert export.initiators <= hosts
            assert self.plane.target.connected(volume_id) <= hosts

    @invariant()
    def only_hosts_that_are_leaving_are_cut_off(self) -> None:
        cuts = self.plane.target.cut
        for volume_id, nqn in cuts[self.cuts_seen :]:
            assert nqn not in self.hosts_of(volume_id, also_leaving=False)
        self.cuts_seen = len(cuts)

    @invariant()
    def no_pool_is_overbooked(self) -> None:
        assert self.plane.service.pools.get(POOL).booked <= TOTAL

    @invariant()
    def data_goes_only_when_its_row_is_going(self) -> None:
        here = set(self.plane.driver.volumes())
        staying = {volume.id for volume in self.rows(VOLUMES) if not volume.deleting}
        assert not (self.volumes_seen - here - set(self.lost)) & staying
        self.volumes_seen = here

        kept = {(volume, each) for volume, some in self.plane.driver._snapshots.items() for each in some}
        wanted = {(each.volume_id, each.id) for each in self.rows(SNAPSHOTS) if not each.deleting}
        assert not (self.snapshots_seen - kept) & wanted
        self.snapshots_seen = kept

    @invariant()
    def data_is_what_was_written(self) -> None:
        zeroes = bytes(BLOCK)
        for volume in self.rows(VOLUMES):
            if self.plane.driver.volume(volume.id) is not None:
                if volume.id not in self.contents:
                    source = volume.source_snapshot_id
                    self.contents[volume.id] = set(self.kept[source]) if source is not None else {zeroes}
                assert self.content(volume.id) in self.contents[volume.id]
        for snapshot in self.rows(SNAPSHOTS):
            content = self.plane.driver._snapshots.get(snapshot.volume_id, {}).get(snapshot.id)
            if content is not None:
                found = content.blocks.get(0, zeroes)
                assert found in self.kept[snapshot.id]
                self.kept[snapshot.id] = {found}

    @invariant()
    def a_volume_that_is_not_shared_has_one_attachment(self) -> None:
        shared = {volume.id for volume in self.rows(VOLUMES) if volume.multi_attach}
        alone = [each.volume_id for each in self.rows(ATTACHMENTS) if each.volume_id not in shared]
        assert len(alone) == len(set(alone))

    @invariant()
    def every_row_belongs_to_something(self) -> None:
        volumes = {volume.id for volume in self.rows(VOLUMES)}
        hosts = {host.id for host in self.rows(HOSTS)}
        assert {state.id for state in self.rows(VOLUME_STATES)} <= volumes
        assert {each.volume_id for each in self.rows(SNAPSHOTS)} <= volumes
        assert {each.volume_id for each in self.rows(ATTACHMENTS)} <= volumes
        assert {each.host_id for each in self.rows(ATTACHMENTS)} <= hosts
        assert {each.id for each in self.rows(SNAPSHOT_STATES)} <= {each.id for each in self.rows(SNAPSHOTS)}
        assert {each.id for each in self.rows(ATTACHMENT_STATES)} <= {
            each.id for each in self.rows(ATTACHMENTS)
        }
        nqns = [nqn_of(host) for host in self.rows(HOSTS)]
        assert len(nqns) == len(set(nqns))

    @invariant()
    def a_tenant_sees_its_own(self) -> None:
        for caller in (ALICE, BOB):
            views = self.plane.service.volumes.list(caller)
            assert {view.volume.tenant_id for view in views} <= {caller.tenant_id}

    # -- once everything is settled, the world is as it is wanted -------------------------------------------------------

    @rule()
    def settle(self) -> None:
        self.plane.plan.clear()
        self.plane.node.sweep()
        self.plane.settle()
        for volume in self.rows(VOLUMES):
            self.check_volume(volume)
        self.check_nothing_else_is_there()

    def check_volume(self, volume: Volume) -> None:
        view = self.plane.service.volumes.get(self.owner(volume), volume.id)
        found = self.plane.driver.volume(volume.id)
        attached = [each for each in self.rows(ATTACHMENTS) if each.volume_id == volume.id]
        assert not [each for each in attached if each.deleting], "a host is still not cut off"
        if volume.deleting:
            assert view.status is Status.ERROR_DELETING
            assert view.reason
            return
        if volume.id in self.lost:
            assert view.status is Status.ERROR
            assert "vanished" in view.reason
            return
        if found is None:
            assert view.status is Status.ERROR
            assert view.reason
            assert volume.id not in self.contents
            return
        assert view.size == found.size
        assert volume.size <= found.size or view.reason, "growth was neither done nor refused"
        assert self.plane.service.volumes.is_settled(volume)
        self.contents[volume.id] = {self.content(volume.id)}
        self.check_snapshots(volume)
        self.check_export(volume, attached)
        assert view.status is (Status.IN_USE if attached else Status.AVAILABLE)

    def check_snapshots(self, volume: Volume) -> None:
        kept = self.plane.driver.snapshots(volume.id)
        for snapshot in self.rows(SNAPSHOTS):
            if snapshot.volume_id != volume.id:
                continue
            view = self.plane.service.snapshots.get(self.owner(snapshot), snapshot.id)
            if snapshot.deleting:
                assert view.status is Status.ERROR_DELETING
            elif snapshot.id in kept:
                assert view.status is Status.AVAILABLE
                assert kept[snapshot.id].size == snapshot.size, "more than what was booked"
            else:
                assert view.status is Status.ERROR
                assert view.reason

    def check_export(self, volume: Volume, attached: list[Attachment]) -> None:
        export = self.plane.target.export(volume.id)
        found = self.plane.driver.volume(volume.id)
        assert (export is not None) == bool(attached)
        if export is None or found is None:
            return
        assert export.complete
        assert export.initiators == self.hosts_of(volume.id, also_leaving=False)
        assert (export.size, export.path) == (found.size, found.path)
        for each in attached:
            view = self.plane.service.attachments.get(self.owner(each), each.id)
            assert (view.status, view.reason) == (Status.AVAILABLE, "")
            assert view.connection is not None
            assert view.connection.host_nqn in export.initiators

    def check_nothing_else_is_there(self) -> None:
        volumes = {volume.id for volume in self.rows(VOLUMES)}
        snapshots = {(each.volume_id, each.id) for each in self.rows(SNAPSHOTS)}
        failed = {state.id for state in self.rows(VOLUME_STATES) if state.status is StateStatus.ERROR}
        assert set(self.plane.driver.volumes()) <= volumes
        assert set(self.plane.target.exports()) <= volumes
        assert self.plane.driver.leftovers <= failed
        for volume_id, kept in self.plane.driver._snapshots.items():
            assert {(volume_id, each) for each in kept} <= snapshots
