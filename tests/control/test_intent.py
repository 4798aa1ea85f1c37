"""What was read of all volumes at once is what reading each of them tells, whatever has changed since."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from control.control_plane import ALICE, POOL, ControlPlane
from fakes.store import MemoryStore
from weft.control.intent import Intent
from weft.model import DhChapSecrets, Host, HostSecrets, PoolState, StateStatus, Volume
from weft.nvme.dhchap_key import generate_dhchap_key
from weft.ports import HOST_SECRETS, HOSTS, POOL_STATES, POOLS, VOLUMES, Put, Row, Table
from weft.requests import UpdateRequest


class CountingStore(MemoryStore):
    """Counts what it is asked for."""

    asked = 0

    def get(self, table: Table[Any], row_id: str) -> Row[Any] | None:
        self.asked += 1
        return super().get(table, row_id)

    def list(self, table: Table[Any], **selection: Any) -> list[Row[Any]]:
        self.asked += 1
        return super().list(table, **selection)


class World:
    """Two volumes: one with two snapshots and two hosts, and one made from a snapshot."""

    def __init__(self) -> None:
        self.store = CountingStore()
        self.plane = ControlPlane(self.store)
        self.host, self.other_host = self.plane.host("a"), self.plane.host("b")
        self.volume = self.plane.volume(multi_attach=True)
        self.snapshots = [self.plane.snapshot(self.volume, name) for name in ("s", "t")]
        self.attachments = [self.plane.attach(self.volume, each) for each in (self.host, self.other_host)]
        self.copy = self.plane.volume("copy", snapshot_id=self.snapshots[0])
        self.plane.settle()

    @property
    def volumes(self) -> list[Volume]:
        return [self.volume, self.copy]


def keys(host: Host) -> HostSecrets:
    return HostSecrets(id=host.id, secrets=DhChapSecrets(host_key=generate_dhchap_key()))


def delete_copy(at: World) -> None:
    at.plane.service.volumes.delete(ALICE, at.copy.id)
    at.plane.settle()


CHANGES: dict[str, Callable[[World], object]] = {
    "nothing": lambda _: None,
    "a name": lambda at: at.plane.service.volumes.update(ALICE, at.volume.id, UpdateRequest(name="new")),
    "growth": lambda at: at.plane.service.volumes.extend(ALICE, at.volume.id, 2 * at.volume.size),
    "an attachment": lambda at: at.plane.attach(at.copy, at.host, settle=False),
    "a detachment": lambda at: at.plane.service.attachments.delete(ALICE, at.attachments[0]),
    "a pass over a volume": lambda at: at.plane.attach(at.copy, at.host),
    "a snapshot": lambda at: at.plane.snapshot(at.volume, "u"),
    "a snapshot's deletion": lambda at: at.plane.service.snapshots.delete(ALICE, at.snapshots[1]),
    "a deletion": lambda at: at.plane.service.volumes.delete(ALICE, at.copy.id),
    "a host": lambda at: at.store.transact({}, [Put(HOSTS, replace(at.host, ip="192.0.2.9"))]),
    "a key": lambda at: at.store.transact({}, [Put(HOST_SECRETS, keys(at.host))]),
    "another volume": lambda at: at.plane.volume("third"),
    "a pool": lambda at: at.store.transact(
        {}, [Put(POOLS, replace(at.store.list(POOLS)[0].value, description="new"))]
    ),
    "a volume that is gone": delete_copy,
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_what_was_foreseen_never_differs_from_what_is(change: Callable[[World], object]) -> None:
    world = World()
    intent = Intent(world.store)
    intent.read_all()
    change(world)
    for volume in world.volumes:
        assert intent.read(volume.id) == Intent(world.store).read(volume.id)


def test_a_look_at_everything_asks_nothing_about_single_volumes() -> None:
    world = World()
    intent = Intent(world.store)
    assert {each.volume.id for each in intent.read_all()} == {each.id for each in world.volumes}
    # Rows that say nothing about volumes change nothing, and nor does what is written about others.
    state = PoolState(id=POOL, status=StateStatus.AVAILABLE, total=1)
    world.store.transact({}, [Put(POOL_STATES, state), Put(VOLUMES, replace(world.copy, description="new"))])
    world.store.asked = 0
    assert intent.read(world.volume.id)[0] is not None
    assert world.store.asked == 0


def test_what_was_foreseen_is_told_once() -> None:
    world = World()
    intent = Intent(world.store)
    intent.read_all()
    intent.read(world.volume.id)
    world.store.asked = 0
    assert intent.read(world.volume.id) == Intent(world.store).read(world.volume.id)
    assert world.store.asked > 0
