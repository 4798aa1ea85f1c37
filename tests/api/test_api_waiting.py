"""`Prefer: wait=N`: the answer comes once the node has dealt with the request, or after N seconds."""

import socket
import time
from contextlib import ExitStack

import pytest

from api.world import BASE, InBackground, World
from eventually import eventually
from weft.api.preference import preferred_wait
from weft.errors import DataError
from weft.model import GIB, Status
from weft.requests import CreateVolumeRequest

BODY = {"name": "v", "size": 1}


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ([], 0.0),
        (["wait=10"], 10.0),
        (["respond-async, wait=10"], 10.0),
        (["respond-async", "wait=10"], 10.0),
        (["WAIT = 10"], 10.0),
        (['wait="10"'], 10.0),
        (["wait=10; foo=bar"], 10.0),
        (["wait=10, wait=20"], 10.0),
        (["wait=100000"], 300.0),
        (["wait"], 0.0),
        (["wait="], 0.0),
        (["wait=-1"], 0.0),
        (["wait=1.5"], 0.0),
        (["wait=" + "9" * 5000], 0.0),
        (["waiting=10"], 0.0),
        (["\x00"], 0.0),
    ],
)
def test_a_preference_that_makes_no_sense_is_ignored(headers: list[str], seconds: float) -> None:
    assert preferred_wait(headers) == seconds


def test_the_answer_is_the_row_as_it_is_once_it_is_settled(world: World) -> None:
    reply = world.ask("POST", f"{BASE}/block/volumes", BODY, {"Prefer": "wait=20"})
    assert reply.json["status"] == "available"
    assert reply.headers["preference-applied"] == "wait=20"


def test_without_the_preference_nothing_is_waited_for(still_world: World) -> None:
    reply = still_world.ask("POST", f"{BASE}/block/volumes", BODY)
    assert reply.json["status"] == "creating"
    assert "preference-applied" not in reply.headers


def test_after_the_time_the_answer_is_the_row_as_it_is_then(still_world: World) -> None:
    started = time.monotonic()
    reply = still_world.ask("POST", f"{BASE}/block/volumes", BODY, {"Prefer": "wait=1"})
    assert time.monotonic() - started >= 1
    assert (reply.status, reply.json["status"]) == (202, "creating")
    assert reply.headers["preference-applied"] == "wait=1"


def test_a_deletion_that_is_waited_for_tells_whether_it_is_done(world: World) -> None:
    volume = world.volume()
    world.plan.fail("driver.delete", DataError("no"))
    assert world.client.delete_volume(volume.volume.id, wait=20) is False
    assert world.client.volume(volume.volume.id).status is Status.ERROR_DELETING
    assert world.client.delete_volume(volume.volume.id, wait=20) is True


def test_a_get_can_wait_too(world: World) -> None:
    volume = world.client.create_volume(CreateVolumeRequest(name="v", size=GIB))
    assert world.client.volume(volume.volume.id, wait=20).status is Status.AVAILABLE


def test_waiting_ends_when_the_resource_vanishes(world: World) -> None:
    assert world.ask("GET", f"{BASE}/block/volumes/none", headers={"Prefer": "wait=20"}).status == 404


def test_too_many_waiters_are_answered_at_once_and_others_are_served(still_world: World) -> None:
    world = still_world
    volume = world.client.create_volume(CreateVolumeRequest(name="v", size=GIB))
    waiting = [InBackground(lambda: world.client.volume(volume.volume.id, wait=60)) for _ in range(40)]
    eventually(lambda: sum(each.is_done for each in waiting) == 40 - 24)
    started = time.monotonic()
    assert len(world.client.volumes()) == 1
    reply = world.ask("GET", f"{BASE}/block/volumes/{volume.volume.id}", headers={"Prefer": "wait=60"})
    assert reply.status == 200
    assert "preference-applied" not in reply.headers
    assert time.monotonic() - started < 5
    world.server.stop()
    assert {each.result().status for each in waiting} == {Status.CREATING}


def test_a_client_that_hangs_up_leaves_its_place(still_world: World) -> None:
    world = still_world
    volume = world.client.create_volume(CreateVolumeRequest(name="v", size=GIB))
    path = f"{BASE}/block/volumes/{volume.volume.id}"
    with ExitStack() as impatient:

        def wait() -> None:
            raw = impatient.enter_context(socket.socket(socket.AF_UNIX))
            raw.connect(str(world.config.api_socket))
            raw.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nPrefer: wait=60\r\n\r\n".encode())

        def the_last_place_is_taken() -> bool:
            wait()
            return not _is_waited(world, path)

        for _ in range(23):
            wait()
        eventually(the_last_place_is_taken)
    eventually(lambda: _is_waited(world, path))


def _is_waited(world: World, path: str) -> bool:
    return "preference-applied" in world.ask("GET", path, headers={"Prefer": "wait=1"}).headers
