"""Any order of verbs, passes, crashes, failures, reboots and losses: the promises of the control plane hold.

Two tenants use one pool through the service; the node is stepped by hand; the process ends at random effects.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule

from control.control_plane import ALICE, BOB, host_request, nqn_of
from control.control_plane_promises import ControlPlanePromises, RowT
from fakes.crash import Crash
from fakes.driver import BLOCK
from weft.errors import NoSpaceError, UnavailableError, UnsupportedError, WeftError
from weft.model import GIB, Export, VolumeId
from weft.ports import ATTACHMENTS, HOSTS, SNAPSHOTS, VOLUME_STATES, VOLUMES
from weft.requests import Caller, HostRequest, UpdateRequest

EFFECTS = [
    *("driver.create", "driver.copy", "driver.extend", "driver.revert", "driver.delete"),
    *("driver.snapshot", "driver.delete_snapshot"),
    *("target.subsystem", "target.allow", "target.revoke", "target.resize"),
    *("target.bind", "target.unbind", "target.remove", "store.transact"),
]
TROUBLES: list[type[Exception]] = [UnavailableError, NoSpaceError, UnsupportedError, OSError]

callers = st.sampled_from([ALICE, BOB])
picks = st.integers(0, 1000)


@dataclass(frozen=True, slots=True)
class Aftermath:
    """What follows a verb at once: passes over its volume, the first of them in trouble or ended half-way."""

    passes: int
    trouble: type[Exception] | None = None
    end_after: int | None = None


aftermaths = st.one_of(
    st.just(Aftermath(0)),
    st.builds(Aftermath, st.integers(1, 2)),
    st.builds(Aftermath, st.integers(1, 2), trouble=st.sampled_from(TROUBLES)),
    st.builds(Aftermath, st.integers(1, 2), end_after=st.integers(0, 5)),
)


class ControlPlaneMachine(ControlPlanePromises):
    def __init__(self) -> None:
        super().__init__()
        self.identities = 0
        self.writes = 0

    @initialize()
    def a_volume_in_use(self) -> None:
        """Alice's two hosts use one volume that has a snapshot; Bob has a volume and a host."""
        alices = self.plane.volume("shared", gib=2, multi_attach=True)
        self.data_is_what_was_written()
        for _ in range(2):
            host = self.plane.service.hosts.create(ALICE, self.new_host())
            self.plane.attach(alices, host)
            self.plane.target.connect(alices.id, nqn_of(host))
        self.write(0)
        self.take_snapshot(0, Aftermath(1))
        self.plane.settle()
        self.write(0)
        self.plane.service.hosts.create(BOB, self.new_host())
        self.plane.volume("bobs", caller=BOB)

    # -- helpers ------------------------------------------------------------------------------------------------

    def do(self, verb: Callable[[], object]) -> bool:
        """Run a verb; whether it was done. When the process ends in it, a new one begins."""
        try:
            verb()
        except WeftError:
            return False
        except Crash:
            self.plane.restart()
            return False
        return True

    def follow(self, volume_id: VolumeId | None, then: Aftermath, *effects: str) -> None:
        if volume_id is None:
            return
        if then.trouble is not None:
            for effect in effects:
                self.plane.plan.fail(effect, then.trouble("trouble"))
        if then.end_after is not None:
            self.plane.plan.crash_after(then.end_after)
        for _ in range(then.passes):
            self.do(lambda: self.plane.node.settle(volume_id))

    def newest(self) -> VolumeId | None:
        return self.rows(VOLUMES)[-1].id if self.has_volumes() else None

    def pick(self, rows: Sequence[RowT], pick: int) -> RowT:
        return rows[pick % len(rows)]

    def has_volumes(self) -> bool:
        return bool(self.rows(VOLUMES))

    def has_hosts(self) -> bool:
        return bool(self.rows(HOSTS))

    def has_snapshots(self) -> bool:
        return bool(self.rows(SNAPSHOTS))

    def has_attachments(self) -> bool:
        return bool(self.rows(ATTACHMENTS))

    # -- what clients do ------------------------------------------------------------------------------------------

    @rule(caller=callers, gib=st.integers(1, 4), shared=st.booleans(), then=aftermaths)
    def create_volume(self, caller: Caller, gib: int, then: Aftermath, *, shared: bool) -> None:
        self.do(lambda: self.plane.volume(gib=gib, caller=caller, multi_attach=shared, settle=False))
        self.follow(self.newest(), then, "driver.create")

    @precondition(has_snapshots)
    @rule(pick=picks, gib=st.integers(1, 4), then=aftermaths)
    def create_from_snapshot(self, pick: int, gib: int, then: Aftermath) -> None:
        source = self.pick(self.rows(SNAPSHOTS), pick)
        caller = self.owner(source)
        self.do(lambda: self.plane.volume(gib=gib, caller=caller, snapshot_id=source.id, settle=False))
        self.follow(self.newest(), then, "driver.copy", "driver.create")

    @precondition(has_volumes)
    @rule(pick=picks, gib=st.integers(1, 6), then=aftermaths)
    def extend(self, pick: int, gib: int, then: Aftermath) -> None:
        volume = self.pick(self.rows(VOLUMES), pick)
        self.do(lambda: self.plane.service.volumes.extend(self.owner(volume), volume.id, gib * GIB))
        self.follow(volume.id, then, "driver.snapshot", "driver.extend", "target.resize")

    @precondition(has_volumes)
    @rule(pick=picks)
    def rename(self, pick: int) -> None:
        volume = self.pick(self.rows(VOLUMES), pick)
        request = UpdateRequest(name="renamed")
        self.do(lambda: self.plane.service.volumes.update(self.owner(volume), volume.id, request))

    @precondition(has_volumes)
    @rule(pick=picks, then=aftermaths)
    def delete_volume(self, pick: int, then: Aftermath) -> None:
        volume = self.pick(self.rows(VOLUMES), pick)
        self.do(lambda: self.plane.service.volumes.delete(self.owner(volume), volume.id))
        self.follow(volume.id, then, "target.remove", "driver.delete")

    @precondition(has_volumes)
    @rule(pick=picks, then=aftermaths)
    def take_snapshot(self, pick: int, then: Aftermath) -> None:
        volume = self.pick(self.rows(VOLUMES), pick)
        before = {each.id for each in self.rows(SNAPSHOTS)}
        self.do(lambda: self.plane.snapshot(volume, caller=self.owner(volume), settle=False))
        for each in self.rows(SNAPSHOTS):
            if each.id not in before:
                self.kept[each.id] = set(self.contents.get(volume.id, set()))
        self.follow(volume.id, then, "driver.snapshot")

    @precondition(has_snapshots)
    @rule(pick=picks, then=aftermaths)
    def delete_snapshot(self, pick: int, then: Aftermath) -> None:
        snapshot = self.pick(self.rows(SNAPSHOTS), pick)
        self.do(lambda: self.plane.service.snapshots.delete(self.owner(snapshot), snapshot.id))
        self.follow(snapshot.volume_id, then, "driver.delete_snapshot")

    @precondition(has_snapshots)
    @rule(pick=picks, then=aftermaths)
    def revert(self, pick: int, then: Aftermath) -> None:
        snapshot = self.pick(self.rows(SNAPSHOTS), pick)
        generation = self.generation(snapshot.volume_id)
        self.do(
            lambda: self.plane.service.volumes.revert(self.owner(snapshot), snapshot.volume_id, snapshot.id)
        )
        if self.generation(snapshot.volume_id) != generation:
            self.contents.setdefault(snapshot.volume_id, set()).update(self.kept[snapshot.id])
        self.follow(snapshot.volume_id, then, "target.remove", "driver.revert")

    def generation(self, volume_id: VolumeId) -> int:
        row = self.plane.store.get(VOLUMES, volume_id)
        return row.value.generation if row is not None else 0

    @rule(caller=callers, pick=picks, cloned=st.booleans())
    def register_host(self, caller: Caller, pick: int, *, cloned: bool) -> None:
        hosts = self.rows(HOSTS)
        if len(hosts) >= 4:
            return
        request = self.new_host()
        if cloned and hosts:
            request = host_request(request.name, nqn_of(self.pick(hosts, pick)))
            assert not self.do(lambda: self.plane.service.hosts.create(caller, request))
        else:
            self.do(lambda: self.plane.service.hosts.create(caller, request))

    def new_host(self) -> HostRequest:
        self.identities += 1
        return host_request(f"h{self.identities}", f"nqn.2020-02.org.example:h{self.identities:06}")

    @precondition(has_hosts)
    @rule(pick=picks, remove=st.booleans())
    def change_host(self, pick: int, *, remove: bool) -> None:
        host = self.pick(self.rows(HOSTS), pick)
        if remove:
            self.do(lambda: self.plane.service.hosts.delete(self.owner(host), host.id))
        else:
            request = HostRequest(initiators=self.new_host().initiators)
            self.do(lambda: self.plane.service.hosts.update(self.owner(host), host.id, request))

    @precondition(has_hosts)
    @precondition(has_volumes)
    @rule(volume_pick=picks, host_pick=picks, caller=callers, then=aftermaths)
    def attach(self, volume_pick: int, host_pick: int, caller: Caller, then: Aftermath) -> None:
        volume, host = self.pick(self.rows(VOLUMES), volume_pick), self.pick(self.rows(HOSTS), host_pick)
        done = self.do(lambda: self.plane.attach(volume, host, caller=caller, settle=False))
        assert not done or volume.tenant_id == host.tenant_id == caller.tenant_id
        self.follow(volume.id, then, "target.subsystem", "target.allow", "target.bind")

    @precondition(has_attachments)
    @rule(pick=picks, then=aftermaths)
    def detach(self, pick: int, then: Aftermath) -> None:
        attachment = self.pick(self.rows(ATTACHMENTS), pick)
        self.do(lambda: self.plane.service.attachments.delete(self.owner(attachment), attachment.id))
        self.follow(attachment.volume_id, then, "target.revoke", "target.unbind", "target.remove")

    # -- what hosts do ----------------------------------------------------------------------------------------------

    @precondition(has_hosts)
    @precondition(has_volumes)
    @rule(volume_pick=picks, host_pick=picks)
    def connect(self, volume_pick: int, host_pick: int) -> None:
        volume, host = self.pick(self.rows(VOLUMES), volume_pick), self.pick(self.rows(HOSTS), host_pick)
        if self.do(lambda: self.plane.target.connect(volume.id, nqn_of(host))):
            assert nqn_of(host) in self.hosts_of(volume.id, also_leaving=True), "a stranger was let in"

    @precondition(has_volumes)
    @rule(pick=picks)
    def write(self, pick: int) -> None:
        volume = self.pick(self.rows(VOLUMES), pick)
        is_used = bool(self.plane.target.connected(volume.id))
        if not is_used or self.plane.driver.volume(volume.id) is None:
            return
        self.writes += 1
        data = self.writes.to_bytes(8) * (BLOCK // 8)
        self.plane.driver.write(volume.id, 0, data)
        self.contents[volume.id] = {data}
        taken = self.plane.driver.snapshots(volume.id)
        for each in self.rows(SNAPSHOTS):
            if each.volume_id == volume.id and each.id not in taken:
                self.kept[each.id].add(data)

    # -- what happens to the node -----------------------------------------------------------------------------------

    @precondition(has_volumes)
    @rule(pick=picks)
    def step(self, pick: int) -> None:
        volume = self.pick(self.rows(VOLUMES), pick)
        self.do(lambda: self.plane.node.settle(volume.id))

    @rule()
    def step_all(self) -> None:
        for volume in self.rows(VOLUMES):
            self.do(lambda v=volume: self.plane.node.settle(v.id))  # type: ignore[misc]

    @rule()
    def sweep(self) -> None:
        self.do(self.plane.node.sweep)

    @rule()
    def end_and_begin_again(self) -> None:
        self.plane.restart()

    @rule(points=st.integers(0, 12))
    def end_soon(self, points: int) -> None:
        self.plane.plan.crash_after(points)

    @rule(effect=st.sampled_from(EFFECTS), trouble=st.sampled_from(TROUBLES), times=st.integers(1, 2))
    def fail_soon(self, effect: str, trouble: type[Exception], times: int) -> None:
        if effect == "store.transact" and not issubclass(trouble, WeftError):
            return
        self.plane.plan.fail(effect, trouble("trouble"), times)

    @rule()
    def reboot(self) -> None:
        """The target forgets every export; the process begins again."""
        self.plane.target.forget()
        self.plane.restart()

    @precondition(has_volumes)
    @rule(pick=picks)
    def lose_portals(self, pick: int) -> None:
        volume = self.pick(self.rows(VOLUMES), pick)
        if self.plane.target.shows(volume.id):
            self.plane.target.unbind(volume.id)

    @precondition(has_volumes)
    @rule(pick=picks)
    def an_export_for_nobody_comes_up(self, pick: int) -> None:
        """A target that restores itself may show a volume that nobody is attached to any more."""
        volume = self.pick(self.rows(VOLUMES), pick)
        found = self.plane.driver.volume(volume.id)
        if found is not None and not self.plane.target.shows(volume.id):
            export = Export(volume_id=volume.id, path=found.path, size=found.size, hosts=())
            with suppress(OSError):  # a trouble that was meant for the node
                self.do(lambda: self.plane.target.create_export(export))

    @precondition(has_volumes)
    @rule(pick=picks)
    def lose_volume(self, pick: int) -> None:
        volume = self.pick(self.rows(VOLUMES), pick)
        state = self.plane.store.get(VOLUME_STATES, volume.id)
        if state is not None and state.value.size and self.plane.driver.volume(volume.id) is not None:
            self.lost[volume.id] = self.plane.driver._volumes[volume.id]
            self.plane.driver.lose(volume.id)

    @precondition(lambda self: bool(self.lost))
    @rule()
    def volumes_come_back(self) -> None:
        for volume_id, content in self.lost.items():
            if self.plane.store.get(VOLUMES, volume_id) is not None:
                self.plane.driver._volumes[volume_id] = content
        self.lost.clear()


TestControlPlane = ControlPlaneMachine.TestCase
TestControlPlane.settings = settings(
    settings(),
    max_examples=max(150, settings().max_examples),
    stateful_step_count=40,
    phases=set(Phase) - {Phase.explain},  # it traces every line, which takes minutes
)
