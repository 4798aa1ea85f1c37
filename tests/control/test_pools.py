"""What is promised in a pool is always known, without a look at every volume; and pools are measured after work."""

import random
import threading
import time
from collections.abc import Mapping
from typing import Any

import pytest

from control.control_plane import ALICE, NODE, POOL, ControlPlane, make_pool
from fakes.driver import FakeVolumeDriver
from fakes.rows import make_volume
from fakes.store import MemoryStore
from weft.control.bookings import Bookings
from weft.control.node import Node
from weft.errors import ConflictError, InvalidValueError, NotFoundError
from weft.model import GIB, Capacity, PoolId, Protocol
from weft.ports import POOLS, VOLUMES, Put


def booked(bookings: Bookings) -> Mapping[PoolId, int]:
    return {pool_id: size for pool_id, size in bookings.totals().items() if size}


@pytest.mark.parametrize("seed", range(5))
def test_bookings_that_follow_every_change_equal_those_counted_anew(plane: ControlPlane, seed: int) -> None:
    rng, followed = random.Random(seed), Bookings(plane.store)
    for number in range(60):
        volumes = plane.service.volumes.list(ALICE)
        verb = rng.choice(["make", "make", "grow", "keep", "drop", "settle", "fail"])
        chosen = rng.choice(volumes).volume if volumes else None
        try:
            if chosen is None or verb == "make":
                plane.volume(f"v{number}", settle=rng.random() < 0.5)
            elif verb == "grow":
                plane.service.volumes.extend(ALICE, chosen.id, rng.randint(2, 9) * GIB)
            elif verb == "keep":
                plane.snapshot(chosen, settle=rng.random() < 0.5)
            elif verb == "drop":
                for snapshot in plane.service.snapshots.list(ALICE, chosen.id):
                    plane.service.snapshots.delete(ALICE, snapshot.snapshot.id)
                    plane.node.settle(chosen.id)
                plane.service.volumes.delete(ALICE, chosen.id)
            elif verb == "settle":
                plane.settle()
            else:
                plane.plan.fail(rng.choice(["driver.create", "driver.extend"]), ConflictError("it failed"))
        except (ConflictError, InvalidValueError):
            pass  # the verb does not fit the volume's status, or the size is no growth
        assert booked(followed) == booked(Bookings(plane.store))
    assert plane.service.pools.get(POOL).booked == booked(followed).get(POOL, 0)


class CountingStore(MemoryStore):
    def __init__(self) -> None:
        super().__init__()
        self.reads = 0

    def get(self, *args: Any, **how: Any) -> Any:
        self.reads += 1
        return super().get(*args, **how)

    def list(self, *args: Any, **how: Any) -> Any:
        self.reads += 1
        return super().list(*args, **how)


def test_the_cost_of_a_booking_does_not_grow_with_the_number_of_volumes() -> None:
    store = CountingStore()
    bookings = Bookings(store)
    store.transact({}, [Put(VOLUMES, make_volume(GIB)) for _ in range(500)])
    assert sum(booked(bookings).values()) == 500 * GIB
    store.reads = 0
    store.transact({}, [Put(VOLUMES, make_volume(GIB))])
    assert sum(booked(bookings).values()) == 501 * GIB
    assert store.reads <= 4


def test_bookings_asked_for_by_many_at_once_stay_right() -> None:
    store = MemoryStore()
    bookings = Bookings(store)
    volumes = [make_volume(GIB) for _ in range(200)]

    def ask() -> None:
        for volume in volumes:
            store.transact({}, [Put(VOLUMES, volume)])
            bookings.totals()

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(booked(bookings).values()) == 200 * GIB


class SlowlyMeasured(FakeVolumeDriver):
    def __init__(self) -> None:
        super().__init__()
        self.measured = 0

    def capacity(self) -> Capacity:
        self.measured += 1
        return super().capacity()


def test_a_pool_is_measured_once_after_many_changes(plane: ControlPlane) -> None:
    driver = plane.drivers[POOL] = SlowlyMeasured()
    node = Node(NODE, plane.store, plane.drivers, {Protocol.NVMEOF: plane.target})
    node.start()
    try:
        deadline = time.monotonic() + 10
        volumes = [plane.volume(f"v{number}", settle=False) for number in range(20)]
        for volume in volumes:
            assert plane.service.wait_for_volume(ALICE, volume.id, 10)
        by_then = driver.measured
        while driver.measured == by_then:
            assert time.monotonic() < deadline, "the pool is not measured after the changes"
            time.sleep(0.02)
        assert driver.measured <= 4
    finally:
        node.stop()


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
