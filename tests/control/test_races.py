"""Verbs that meet each other: whatever the order, one of them wins and the rules hold.

Each pair of verbs is run once for every place at which the one can come between two steps of the other, so nothing
is left to chance; the thread tests then show the same on a real database.
"""

import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest

from control.control_plane import ALICE, POOL, ControlPlane, host_request, make_pool
from fakes.interrupted_store import InterruptedStore
from fakes.store import MemoryStore
from weft.errors import ConflictError, NoSpaceError, WeftError
from weft.model import GIB, PoolState, StateStatus, Status
from weft.names import host_nqn, new_id
from weft.ports import ATTACHMENTS, HOSTS, POOL_STATES, POOLS, PROFILES, SNAPSHOTS, VOLUMES, Put
from weft.requests import CreateVolumeRequest, HostRequest, ProfileRequest, UpdateRequest

Verb = Callable[[], object]
Race = tuple[Verb, Verb, Callable[[list[bool]], object]]
"""Two verbs, and what must hold when both have ended; it is told which of them was done."""
Scene = Callable[[ControlPlane], Race]


def limit_room(plane: ControlPlane, total: int) -> None:
    state = PoolState(id=POOL, status=StateStatus.AVAILABLE, total=total, free=total)
    plane.store.transact({}, [Put(POOL_STATES, state)])


def is_done(verb: Verb) -> bool:
    try:
        verb()
    except WeftError:
        return False
    return True


def exactly_one(done: list[bool]) -> None:
    assert sorted(done) == [False, True]


# -- the scenes -------------------------------------------------------------------------------------------------------


def two_hosts_with_one_identity(plane: ControlPlane) -> Race:
    nqn = host_nqn(new_id())
    create = plane.service.hosts.create
    return (
        partial(create, ALICE, host_request("one", nqn)),
        partial(create, ALICE, host_request("two", nqn)),
        exactly_one,
    )


def two_hosts_that_change_to_one_identity(plane: ControlPlane) -> Race:
    wanted = HostRequest(initiators=host_request("x").initiators)
    update = plane.service.hosts.update
    return (
        partial(update, ALICE, plane.host("one").id, wanted),
        partial(update, ALICE, plane.host("two").id, wanted),
        exactly_one,
    )


def two_profiles_with_one_name(plane: ControlPlane) -> Race:
    request = ProfileRequest(name="gold", storage_type="block")
    create = partial(plane.service.profiles.create, request)
    return create, create, exactly_one


def two_volumes_for_the_last_room(plane: ControlPlane) -> Race:
    limit_room(plane, 3 * GIB)
    create = partial(plane.volume, gib=2, settle=False)
    return create, create, exactly_one


def a_growth_and_a_volume_for_the_last_room(plane: ControlPlane) -> Race:
    volume = plane.volume()
    limit_room(plane, 3 * GIB)
    return (
        partial(plane.service.volumes.extend, ALICE, volume.id, 3 * GIB),
        partial(plane.volume, gib=2, settle=False),
        exactly_one,
    )


def a_repeated_growth_and_a_volume_for_the_last_room(plane: ControlPlane) -> Race:
    volume = plane.volume()
    plane.plan.fail("driver.extend", NoSpaceError("full"))
    plane.service.volumes.extend(ALICE, volume.id, 3 * GIB)
    plane.settle()
    limit_room(plane, 3 * GIB)
    return (
        partial(plane.service.volumes.extend, ALICE, volume.id, 3 * GIB),
        partial(plane.volume, gib=2, settle=False),
        exactly_one,
    )


def a_snapshot_and_a_volume_for_the_last_room(plane: ControlPlane) -> Race:
    volume = plane.volume()
    limit_room(plane, 2 * GIB)
    return partial(plane.snapshot, volume, settle=False), partial(plane.volume, settle=False), exactly_one


def two_hosts_for_one_volume(plane: ControlPlane) -> Race:
    volume, one, two = plane.volume(), plane.host("one"), plane.host("two")
    attach = partial(plane.attach, volume, settle=False)
    return partial(attach, one), partial(attach, two), exactly_one


def one_host_twice_for_one_volume(plane: ControlPlane) -> Race:
    volume, host = plane.volume(multi_attach=True), plane.host("one")
    attach = partial(plane.attach, volume, host, settle=False)
    return attach, attach, exactly_one


def a_deletion_and_an_attachment(plane: ControlPlane) -> Race:
    volume, host = plane.volume(), plane.host("h")
    return (
        partial(plane.service.volumes.delete, ALICE, volume.id),
        partial(plane.attach, volume, host, settle=False),
        exactly_one,
    )


def a_deletion_and_a_snapshot(plane: ControlPlane) -> Race:
    volume = plane.volume()
    return (
        partial(plane.service.volumes.delete, ALICE, volume.id),
        partial(plane.snapshot, volume, settle=False),
        exactly_one,
    )


def a_revert_and_an_attachment(plane: ControlPlane) -> Race:
    volume, host = plane.volume(), plane.host("h")
    kept = plane.snapshot(volume)
    return (
        partial(plane.service.volumes.revert, ALICE, volume.id, kept),
        partial(plane.attach, volume, host, settle=False),
        exactly_one,
    )


def a_revert_and_another_snapshot(plane: ControlPlane) -> Race:
    volume = plane.volume()
    kept = plane.snapshot(volume)
    return (
        partial(plane.service.volumes.revert, ALICE, volume.id, kept),
        partial(plane.snapshot, volume, "fresh", settle=False),
        exactly_one,
    )


def a_snapshots_deletion_and_a_copy(plane: ControlPlane) -> Race:
    kept = plane.snapshot(plane.volume())
    return (
        partial(plane.service.snapshots.delete, ALICE, kept),
        partial(plane.volume, "copy", snapshot_id=kept, settle=False),
        exactly_one,
    )


def a_snapshots_deletion_and_a_revert(plane: ControlPlane) -> Race:
    volume = plane.volume()
    kept = plane.snapshot(volume)
    return (
        partial(plane.service.snapshots.delete, ALICE, kept),
        partial(plane.service.volumes.revert, ALICE, volume.id, kept),
        exactly_one,
    )


def a_hosts_removal_and_an_attachment(plane: ControlPlane) -> Race:
    volume, host = plane.volume(), plane.host("h")
    return (
        partial(plane.service.hosts.delete, ALICE, host.id),
        partial(plane.attach, volume, host, settle=False),
        exactly_one,
    )


def a_hosts_new_identity_and_an_attachment(plane: ControlPlane) -> Race:
    volume, host = plane.volume(), plane.host("h")
    wanted = HostRequest(initiators=host_request("x").initiators)

    def the_export_names_the_hosts_present_identity(done: list[bool]) -> None:
        assert done[1]
        plane.settle()
        row, export = plane.store.get(HOSTS, host.id), plane.target.export(volume.id)
        assert row is not None
        assert export is not None
        assert export.initiators == {row.value.initiators[0].port_name}

    return (
        partial(plane.service.hosts.update, ALICE, host.id, wanted),
        partial(plane.attach, volume, host, settle=False),
        the_export_names_the_hosts_present_identity,
    )


def a_profiles_removal_and_a_volume(plane: ControlPlane) -> Race:
    profile = plane.service.profiles.create(ProfileRequest(name="gold", storage_type="block"))
    request = CreateVolumeRequest(name="v", size=GIB, profile_id=profile.id)
    return (
        partial(plane.service.profiles.delete, profile.id),
        partial(plane.service.volumes.create, ALICE, request),
        exactly_one,
    )


def a_new_name_and_the_nodes_removal(plane: ControlPlane) -> Race:
    volume = plane.volume()
    plane.service.volumes.delete(ALICE, volume.id)

    def it_stays_away(done: list[bool]) -> None:
        assert done[1]
        plane.settle()
        assert plane.volume_ids() == []

    return (
        partial(plane.service.volumes.update, ALICE, volume.id, UpdateRequest(name="x")),
        partial(plane.node.settle, volume.id),
        it_stays_away,
    )


def two_growths(plane: ControlPlane) -> Race:
    volume = plane.volume()

    def one_size_is_reached(done: list[bool]) -> None:
        exactly_one(done)
        plane.settle()
        assert plane.service.volumes.get(ALICE, volume.id).size == (2 if done[0] else 3) * GIB

    extend = partial(plane.service.volumes.extend, ALICE, volume.id)
    return partial(extend, 2 * GIB), partial(extend, 3 * GIB), one_size_is_reached


SCENES: list[Scene] = [
    two_hosts_with_one_identity,
    two_hosts_that_change_to_one_identity,
    two_profiles_with_one_name,
    two_volumes_for_the_last_room,
    a_growth_and_a_volume_for_the_last_room,
    a_repeated_growth_and_a_volume_for_the_last_room,
    a_snapshot_and_a_volume_for_the_last_room,
    two_hosts_for_one_volume,
    one_host_twice_for_one_volume,
    a_deletion_and_an_attachment,
    a_deletion_and_a_snapshot,
    a_revert_and_an_attachment,
    a_revert_and_another_snapshot,
    a_snapshots_deletion_and_a_copy,
    a_snapshots_deletion_and_a_revert,
    a_hosts_removal_and_an_attachment,
    a_hosts_new_identity_and_an_attachment,
    a_profiles_removal_and_a_volume,
    a_new_name_and_the_nodes_removal,
    two_growths,
]


@pytest.mark.parametrize("swapped", [False, True], ids=["", "swapped"])
@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.__name__)
def test_a_verb_that_comes_between_two_steps_of_another_breaks_no_rule(
    scene: Scene, *, swapped: bool
) -> None:
    for calls in range(100):
        store = InterruptedStore(MemoryStore())
        plane = ControlPlane(store)
        first, second, holds = scene(plane)
        verbs = [second, first] if swapped else [first, second]
        between: list[bool] = []
        store.interrupt(calls, lambda verb=verbs[1], done=between: done.append(is_done(verb)))  # type: ignore[misc]
        done = [is_done(verbs[0])]
        if store.is_waiting():
            assert calls >= 2, "nothing came between anything"
            return
        done += between
        holds(done[::-1] if swapped else done)
        assert all(view.booked <= view.total for view in plane.service.pools.list())
        plane.settle()
        assert plane.driver.faults == []
    raise AssertionError("the verb does not end")


# -- threads on a real database -----------------------------------------------------------------------------------------


@pytest.fixture
def switch_often() -> Iterator[None]:
    """Have Python's threads take turns every few instructions, so that races happen."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


def together(verbs: Sequence[Verb]) -> list[WeftError | None]:
    """Run the verbs at the same moment; what refused each of them, None for those that were done."""
    start = threading.Barrier(len(verbs))

    def run(verb: Verb) -> WeftError | None:
        start.wait(10)
        try:
            verb()
        except WeftError as error:
            return error
        return None

    with ThreadPoolExecutor(len(verbs)) as pool:
        return list(pool.map(run, verbs))


@pytest.mark.usefixtures("switch_often")
def test_of_many_hosts_with_one_identity_exactly_one_is_registered(plane: ControlPlane) -> None:
    for number in range(10):
        nqn = host_nqn(new_id())
        requests = [host_request(f"h-{number}-{n}", nqn) for n in range(4)]
        refusals = together([partial(plane.service.hosts.create, ALICE, each) for each in requests])
        assert [type(each) for each in refusals if each] == [ConflictError] * 3
        assert len(plane.store.list(HOSTS)) == number + 1


@pytest.mark.usefixtures("switch_often")
def test_a_pool_is_never_overbooked_and_all_its_room_can_be_used(plane: ControlPlane) -> None:
    limit_room(plane, 12 * GIB)

    def create_until_full() -> None:
        for number in range(20):
            plane.service.volumes.create(ALICE, CreateVolumeRequest(name=f"v{number}", size=GIB))

    refusals = together([create_until_full] * 4)
    assert [type(each) for each in refusals] == [NoSpaceError] * 4
    assert len(plane.store.list(VOLUMES)) == 12
    assert plane.service.pools.get(POOL).booked == 12 * GIB


@pytest.mark.usefixtures("switch_often")
def test_volumes_made_at_once_are_spread_over_the_pools_and_fill_them(plane: ControlPlane) -> None:
    pools = [make_pool(), make_pool(id=new_id(), name="second")]
    states = [PoolState(id=pool.id, status=StateStatus.AVAILABLE, total=4 * GIB, free=0) for pool in pools]
    plane.store.transact(
        {}, [*(Put(POOLS, pool) for pool in pools), *(Put(POOL_STATES, each) for each in states)]
    )
    refusals = together([partial(plane.volume, settle=False)] * 10)
    assert sorted(type(each).__name__ for each in refusals) == ["NoSpaceError"] * 2 + ["NoneType"] * 8
    assert [view.room for view in plane.service.pools.list()] == [0, 0]


@pytest.mark.usefixtures("switch_often")
def test_of_many_hosts_that_want_one_volume_exactly_one_gets_it(plane: ControlPlane) -> None:
    for number in range(10):
        volume = plane.volume()
        hosts = [plane.host(f"h-{number}-{n}") for n in range(4)]
        refusals = together([partial(plane.attach, volume, each, settle=False) for each in hosts])
        assert [type(each) for each in refusals if each] == [ConflictError] * 3
        assert len(plane.store.list(ATTACHMENTS, where={"volume_id": volume.id})) == 1


@pytest.mark.usefixtures("switch_often")
def test_a_volume_is_deleted_attached_or_snapshotted(plane: ControlPlane) -> None:
    for number in range(10):
        volume, host = plane.volume(), plane.host(f"h-{number}")
        refusals = together(
            [
                partial(plane.service.volumes.delete, ALICE, volume.id),
                partial(plane.attach, volume, host, settle=False),
                partial(plane.snapshot, volume, settle=False),
            ]
        )
        of_volume = {"volume_id": volume.id}
        attached = plane.store.list(ATTACHMENTS, where=of_volume)
        kept = plane.store.list(SNAPSHOTS, where=of_volume)
        assert (plane.status(volume) is Status.DELETING) == (refusals[0] is None)
        assert (refusals[0] is None) == (not attached and not kept)
    assert len(plane.store.list(PROFILES)) == 1
