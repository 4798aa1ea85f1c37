"""After a restart of the machine all exports are brought back at once, and the passes do what is left."""

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import product

import pytest

from control.control_plane import ALICE, POOL, ControlPlane, make_pool, nqn_of
from control.planning import HERE, KEPT, SNAPSHOT, VOLUME, A, B, attachment, snapshot, state
from control.running_node import DOWN, running
from eventually import eventually
from fakes.driver import FakeVolumeDriver
from fakes.target import FakeTarget
from weft.connection import Connection
from weft.control.intent import Intent
from weft.control.locks import IdLocks
from weft.control.reconcile import plan, restorable
from weft.control.restoring import restore_exports
from weft.control.steps import Found, MakeExport, Wanted
from weft.errors import PermissionDeniedError, UnavailableError
from weft.model import (
    GIB,
    Export,
    FoundVolume,
    Host,
    HostId,
    PoolId,
    Protocol,
    Revert,
    StateStatus,
    Status,
    Volume,
    VolumeId,
)
from weft.names import new_id
from weft.ports import POOLS, Put
from weft.requests import CreateVolumeRequest, UpdateRequest


class RecordingTarget(FakeTarget):
    """Remembers which volumes were restored at once, and which were made one by one."""

    def __init__(self) -> None:
        super().__init__()
        self.restored: list[VolumeId] = []
        self.restoring = False
        self.made: list[VolumeId] = []

    def restore(self, exports: Sequence[Export]) -> None:
        self.restored += [each.volume_id for each in exports]
        self.restoring = True
        super().restore(exports)
        self.restoring = False

    def create_export(self, export: Export) -> Mapping[HostId, Connection]:
        if not self.restoring:
            self.made.append(export.volume_id)
        return super().create_export(export)


class SilentDriver(FakeVolumeDriver):
    """Does not answer a question about all of its volumes."""

    def volumes(self) -> Mapping[VolumeId, FoundVolume]:
        raise DOWN


class World:
    """Volumes attached to a host, on a node whose kernel forgets its exports."""

    def __init__(self, plane: ControlPlane, count: int = 3) -> None:
        self.plane = plane
        self.target = plane.target = RecordingTarget()
        plane.restart()
        self.host: Host = plane.host("h")
        self.volumes: list[Volume] = [plane.volume(f"v{number}") for number in range(count)]
        self.attachments = [plane.attach(each, self.host) for each in self.volumes]
        self.reboot()

    def reboot(self) -> None:
        self.target.forget()
        self.target.made.clear()

    def connect(self) -> None:
        for each in self.volumes:
            self.target.connect(each.id, nqn_of(self.host))

    def restore(self, meanwhile: Callable[[], object] = lambda: None) -> list[VolumeId]:
        """What is restored at once, by an intent that was read before meanwhile happened."""
        intent = Intent(self.plane.store)
        everything = intent.read_all()
        meanwhile()
        restore_exports(everything, intent, IdLocks(), self.plane.drivers, {Protocol.NVMEOF: self.target})
        return self.target.restored


@pytest.fixture
def world(plane: ControlPlane) -> World:
    return World(plane)


def ids(volumes: Sequence[Volume]) -> set[VolumeId]:
    return {each.id for each in volumes}


def test_every_export_is_back_after_a_reboot_without_a_pass_that_makes_one(world: World) -> None:
    with running(world.plane):
        eventually(lambda: len(world.target.restored) == len(world.volumes))
        eventually(lambda: all(world.target.shows(each.id) for each in world.volumes))
        world.connect()
    assert world.target.expected == ids(world.volumes)
    assert world.target.made == []
    world.plane.settle()
    assert world.target.made == []
    assert {world.plane.attachment_status(each) for each in world.attachments} == {Status.AVAILABLE}


def test_a_pool_that_does_not_answer_keeps_the_passes_over_others_back_for_a_while_only(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    answered = threading.Event()

    def hang(*_: object) -> None:
        assert answered.wait(10)

    monkeypatch.setattr("weft.control.node._RESTORE_SECONDS", 0.05)
    monkeypatch.setattr("weft.control.settling.restore_exports", hang)
    with running(world.plane):
        eventually(lambda: all(world.target.shows(each.id) for each in world.volumes))
        answered.set()


def test_a_volume_that_has_vanished_is_not_shown_and_keeps_no_other_back(world: World) -> None:
    world.plane.driver.lose(world.volumes[0].id)
    assert set(world.restore()) == ids(world.volumes[1:])


@pytest.mark.parametrize(
    "change",
    [
        lambda at: at.plane.service.attachments.delete(ALICE, at.attachments[0]),
        lambda at: at.plane.service.volumes.extend(ALICE, at.volumes[0].id, 2 * GIB),
    ],
    ids=["a detachment", "growth"],
)
def test_a_volume_of_which_something_else_is_wanted_meanwhile_is_left_to_its_pass(
    world: World, change: Callable[[World], object]
) -> None:
    assert set(world.restore(meanwhile=lambda: change(world))) == ids(world.volumes[1:])


@pytest.mark.parametrize(
    "change",
    [
        lambda at: at.plane.service.volumes.update(ALICE, at.volumes[0].id, UpdateRequest(name="new")),
        lambda at: at.plane.volume("another", settle=False),
    ],
    ids=["a name", "another volume"],
)
def test_what_changes_nothing_about_exports_meanwhile_keeps_none_back(
    world: World, change: Callable[[World], object]
) -> None:
    assert set(world.restore(meanwhile=lambda: change(world))) == ids(world.volumes)


def test_the_hosts_of_now_are_let_in_and_not_those_of_before(world: World) -> None:
    def move() -> None:
        world.plane.service.attachments.delete(ALICE, world.attachments[0])
        world.plane.node.settle(world.volumes[0].id)
        world.plane.attach(world.volumes[0], other, settle=False)

    other = world.plane.host("other")
    world.restore(meanwhile=move)
    world.target.connect(world.volumes[0].id, nqn_of(other))
    with pytest.raises(PermissionDeniedError):
        world.target.connect(world.volumes[0].id, nqn_of(world.host))


def test_a_volume_that_nobody_has_attached_is_not_shown(world: World) -> None:
    world.plane.volume("free")
    assert set(world.restore()) == ids(world.volumes)


def test_a_pool_that_does_not_answer_keeps_no_other_back(
    plane: ControlPlane, caplog: pytest.LogCaptureFixture
) -> None:
    other = PoolId(new_id())
    plane.drivers[other] = FakeVolumeDriver(plane.plan, total=1024 * GIB, exported=plane.target.shows)
    plane.store.transact({}, [Put(POOLS, make_pool(id=other, name="other"))])
    plane.restart()
    plane.node.measure_pools()
    world = World(plane, 2)
    wanted = CreateVolumeRequest(name="there", size=GIB, pool_id=other)
    there = plane.service.volumes.create(ALICE, wanted).volume
    plane.settle()
    plane.attach(there, world.host)
    world.reboot()
    plane.drivers[POOL] = SilentDriver()
    with caplog.at_level(logging.WARNING):
        assert set(world.restore()) == {each.id for each in (*world.volumes, there) if each.pool_id == other}
    assert f"the exports of pool {POOL} are restored one by one: {DOWN}" in caplog.text


class UnreadyTarget(RecordingTarget):
    def restore(self, exports: Sequence[Export]) -> None:  # noqa: ARG002 -- the door's
        raise UnavailableError("there is no nvmet yet")


class BrokenTarget(RecordingTarget):
    def restore(self, exports: Sequence[Export]) -> None:  # noqa: ARG002 -- the door's
        raise KeyError("a bug")


@pytest.mark.parametrize("target", [UnreadyTarget(), BrokenTarget()], ids=["not ready", "a bug"])
def test_where_they_cannot_be_restored_at_once_the_passes_do_it(
    world: World, target: RecordingTarget
) -> None:
    world.target = world.plane.target = target
    with running(world.plane):
        eventually(lambda: all(target.shows(each.id) for each in world.volumes))
    assert set(target.made) == ids(world.volumes)


def test_only_what_a_pass_would_do_nothing_else_with_is_restored_at_once() -> None:
    restored = 0
    volumes = [
        VOLUME,
        replace(VOLUME, size=5 * GIB, generation=2),
        replace(VOLUME, deleting=True, generation=2),
        replace(VOLUME, revert=Revert(snapshot_id=SNAPSHOT.id, generation=2), generation=2),
    ]
    states = [
        None,
        state(),
        state(generation=2),
        state(StateStatus.ERROR),
        state(StateStatus.PENDING, generation=0, size=0),
        state(size=3 * GIB),
    ]
    attachments = [
        (),
        (attachment(A),),
        (attachment(A), attachment(B, connected=False)),
        (attachment(A, deleting=True), attachment(B)),
        (attachment(A, known=False),),
    ]
    snapshots = [
        (),
        (snapshot(),),
        (snapshot(None),),
        (snapshot(StateStatus.PENDING),),
        (snapshot(wanted=replace(SNAPSHOT, deleting=True, generation=2)),),
    ]
    for volume, found, hosts, kept in product(volumes, states, attachments, snapshots):
        wanted = Wanted(volume=volume, state=found, attachments=hosts, snapshots=kept)
        for here in (None, HERE, replace(HERE, size=GIB)):
            export = restorable(wanted, here)
            if export is None:
                continue
            assert here is not None
            restored += 1
            steps = plan(wanted, Found(volume=here, snapshots=KEPT if kept and kept[0].state else {}))
            assert steps == (MakeExport(VOLUME.id, export.hosts),)
            assert (export.path, export.size) == (here.path, here.size)
    assert restored > 10
