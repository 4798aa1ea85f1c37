"""limit, offset, sortKey, sortDir and filters, in either capitalisation."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from api.world import BASE, World, make_config, make_world
from weft.model import GIB
from weft.requests import CreateVolumeRequest

NAMES = ["cherry", "apple", "banana"]
SIZES = {"cherry": 10, "apple": 9, "banana": 1}


@pytest.fixture(scope="module")
def listed(module_path: Path) -> Iterator[World]:
    with make_world(make_config(module_path)) as world:
        for name in NAMES:
            request = CreateVolumeRequest(name=name, size=SIZES[name] * GIB, multi_attach=name == "apple")
            world.client.create_volume(request, wait=20)
        yield world


def names(world: World, query: str = "") -> list[str]:
    reply = world.ask("GET", f"{BASE}/block/volumes?{query}")
    assert reply.status == 200
    return [each["name"] for each in reply.json]


def by_id(world: World) -> list[str]:
    return [each.volume.name for each in sorted(world.client.volumes(), key=lambda each: each.volume.id)]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("sortKey=name&sortDir=asc", ["apple", "banana", "cherry"]),
        ("sortKey=name&sortDir=desc", ["cherry", "banana", "apple"]),
        ("sortKey=name", ["cherry", "banana", "apple"]),
        ("sortKey=NAME&sortDir=ASC", ["apple", "banana", "cherry"]),
        ("sortKey=name&sortDir=sideways", ["cherry", "banana", "apple"]),
        ("SortKey=size&SortDir=asc", ["banana", "apple", "cherry"]),
        ("sortKey=name&sortDir=asc&limit=2", ["apple", "banana"]),
        ("sortKey=name&sortDir=asc&limit=2&offset=2", ["cherry"]),
        ("sortKey=name&sortDir=asc&limit=0", []),
        ("sortKey=name&sortDir=asc&limit=-1", ["apple", "banana", "cherry"]),
        ("sortKey=name&sortDir=asc&limit=many", ["apple", "banana", "cherry"]),
        ("sortKey=name&sortDir=asc&offset=-5", ["apple", "banana", "cherry"]),
        ("offset=many", []),
        ("offset=4", []),
    ],
)
def test_a_page_is_sorted_and_cut_as_asked(listed: World, query: str, expected: list[str]) -> None:
    assert names(listed, query) == expected


def test_without_a_sort_key_the_order_is_that_of_the_ids(listed: World) -> None:
    assert names(listed) == names(listed, "sortDir=desc&sortKey=nonsense") == by_id(listed)


def test_osdsctls_usual_query_lists_by_id_from_the_end(listed: World) -> None:
    assert names(listed, "limit=50&offset=0&sortDir=desc&sortKey=id") == by_id(listed)[::-1]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("name=apple", {"apple"}),
        ("Name=apple", {"apple"}),
        ("name=Apple", set()),
        ("name=apple&name=cherry", {"apple", "cherry"}),
        ("name=apple&size=1", set()),
        ("Size=9", {"apple"}),
        ("multiAttach=true", {"apple"}),
        ("MultiAttach=false", {"banana", "cherry"}),
        ("Status=available", set(NAMES)),
        ("status=error", set()),
        ("colour=red", set(NAMES)),
    ],
)
def test_filters_match_exactly(listed: World, query: str, expected: set[str]) -> None:
    assert set(names(listed, query)) == expected


def test_a_durable_name_finds_its_volume_and_nothing_else_counts(listed: World) -> None:
    apple = listed.client.volumes(name="apple")[0].volume.id
    durable = "6" + apple.replace("-", "")[1:]
    assert names(listed, f"DurableName={durable}&name=cherry") == ["apple"]
    assert names(listed, "DurableName=60") == []


def test_an_empty_list_is_a_list(listed: World) -> None:
    assert listed.ask("GET", f"{BASE}/block/snapshots").body == b"[]"


def test_fifty_are_listed_by_default_and_the_client_asks_for_all(short_path: Path) -> None:
    with make_world(make_config(short_path), with_node=False) as world:
        for number in range(51):
            world.client.create_volume(CreateVolumeRequest(name=f"v{number}", size=GIB))
        assert len(world.ask("GET", f"{BASE}/block/volumes").json) == 50
        assert len(world.ask("GET", f"{BASE}/block/volumes?limit=51").json) == 51
        assert len(world.client.volumes()) == 51
