"""What every Store does, run on the SQLite store and on the one in memory that other tests trust."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fakes.any_row import any_row
from fakes.rows import make_volume
from fakes.store import Disk, MemoryStore
from weft.errors import RevisionConflictError, UnavailableError
from weft.model import Claim, SnapshotId
from weft.ports import (
    ATTACHMENT_STATES,
    ATTACHMENTS,
    CLAIMS,
    HOSTS,
    POOL_STATES,
    POOLS,
    PROFILES,
    SNAPSHOT_STATES,
    SNAPSHOTS,
    VOLUME_STATES,
    VOLUMES,
    Delete,
    Key,
    Put,
    Revision,
    Store,
    Table,
)
from weft.store.sqlite import SqliteStore

Opener = Callable[[], Store]

TABLES: list[Table[Any]] = [
    VOLUMES,
    VOLUME_STATES,
    SNAPSHOTS,
    SNAPSHOT_STATES,
    ATTACHMENTS,
    ATTACHMENT_STATES,
    HOSTS,
    PROFILES,
    CLAIMS,
    POOLS,
    POOL_STATES,
]


def _sqlite(path: Path) -> Opener:
    return partial(SqliteStore, path / "weft.db")


def _memory(_: Path) -> Opener:
    return partial(MemoryStore, Disk())


IMPLEMENTATIONS = {"sqlite": _sqlite, "memory": _memory}


@pytest.fixture(params=list(IMPLEMENTATIONS))
def opener(request: pytest.FixtureRequest, tmp_path: Path) -> Opener:
    """Opens the same store again and again."""
    return IMPLEMENTATIONS[request.param](tmp_path)


@pytest.fixture
def store(opener: Opener) -> Iterator[Store]:
    opened = opener()
    yield opened
    opened.close()


def claim(number: int, owner: str = "a") -> Claim:
    return Claim(id=f"claim:{number}", owner=owner)


def key(value: Claim) -> Key:
    return Key(CLAIMS.name, value.id)


def owners(store: Store) -> dict[str, str]:
    return {row.value.id: row.value.owner for row in store.list(CLAIMS)}


def test_a_row_that_was_never_written_is_none(store: Store) -> None:
    assert store.get(CLAIMS, "claim:1") is None
    assert store.list(CLAIMS) == []
    assert store.revision() == 0


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=8)
@given(data=st.data())
def test_every_kind_of_row_reads_back_as_it_was_written(
    store: Store, table: Table[Any], data: st.DataObject
) -> None:
    value = data.draw(any_row(table.row))
    revision = store.transact({}, [Put(table, value)])
    found = store.get(table, value.id)
    assert found is not None
    assert (found.value, found.revision) == (value, revision)
    assert value in [row.value for row in store.list(table)]


def test_rows_of_different_tables_do_not_meet(store: Store) -> None:
    volume = make_volume()
    store.transact({}, [Put(VOLUMES, volume)])
    assert store.get(SNAPSHOTS, volume.id) is None
    assert store.list(SNAPSHOTS) == []


def test_all_rows_of_a_transaction_get_its_revision_and_revisions_grow(store: Store) -> None:
    first = store.transact({}, [Put(CLAIMS, claim(1)), Put(CLAIMS, claim(2))])
    second = store.transact({}, [Put(CLAIMS, claim(2, "b"))])
    assert 0 < first < second == store.revision()
    assert {row.value.id: row.revision for row in store.list(CLAIMS)} == {"claim:1": first, "claim:2": second}


def test_a_transaction_with_one_stale_row_writes_nothing(store: Store) -> None:
    seen = store.transact({}, [Put(CLAIMS, claim(1)), Put(CLAIMS, claim(2))])
    store.transact({}, [Put(CLAIMS, claim(2, "somebody"))])
    newest = store.revision()
    with pytest.raises(RevisionConflictError, match="claim:2"):
        store.transact(
            {key(claim(1)): seen, key(claim(2)): seen},
            [Put(CLAIMS, claim(1, "b")), Put(CLAIMS, claim(3)), Delete(key(claim(2)))],
        )
    assert owners(store) == {"claim:1": "a", "claim:2": "somebody"}
    assert store.revision() == newest


def test_revision_zero_expects_that_a_row_is_not_there(store: Store) -> None:
    absent = {key(claim(1)): Revision(0)}
    store.transact(absent, [Put(CLAIMS, claim(1))])
    with pytest.raises(RevisionConflictError):
        store.transact(absent, [Put(CLAIMS, claim(1, "b"))])
    store.transact({}, [Delete(key(claim(1)))])
    store.transact(absent, [Put(CLAIMS, claim(1, "c"))])
    assert owners(store) == {"claim:1": "c"}


def test_a_row_that_was_removed_and_written_again_is_not_the_one_that_was_read(store: Store) -> None:
    seen = store.transact({}, [Put(CLAIMS, claim(1))])
    store.transact({}, [Delete(key(claim(1)))])
    with pytest.raises(RevisionConflictError):
        store.transact({key(claim(1)): seen}, [Put(CLAIMS, claim(2))])
    store.transact({}, [Put(CLAIMS, claim(1))])
    with pytest.raises(RevisionConflictError):
        store.transact({key(claim(1)): seen}, [Put(CLAIMS, claim(2))])


def test_removing_what_is_not_there_changes_nothing_else(store: Store) -> None:
    store.transact({}, [Put(CLAIMS, claim(1))])
    store.transact({}, [Delete(key(claim(2))), Delete(key(claim(2)))])
    assert owners(store) == {"claim:1": "a"}


def test_expecting_without_writing_checks_all_the_same(store: Store) -> None:
    seen = store.transact({}, [Put(CLAIMS, claim(1))])
    store.transact({key(claim(1)): seen}, [Put(CLAIMS, claim(2))])
    assert store.get(CLAIMS, "claim:1") is not None


def test_a_list_is_narrowed_by_texts_numbers_booleans_and_nothing(store: Store) -> None:
    plain = make_volume(size=1)
    many = replace(make_volume(size=2), multi_attach=True)
    copied = replace(make_volume(size=2), source_snapshot_id=SnapshotId("s"), name="Volume")
    store.transact({}, [Put(VOLUMES, each) for each in (plain, many, copied)])

    def found(**where: str | int | bool | None) -> set[str]:
        return {row.value.id for row in store.list(VOLUMES, where=where)}

    assert found(id=plain.id) == {plain.id}
    assert found(size=2) == {many.id, copied.id}
    assert found(multi_attach=True) == {many.id}
    assert found(multi_attach=False, size=2) == {copied.id}
    assert found(source_snapshot_id=None) == {plain.id, many.id}
    assert found(source_snapshot_id="s") == {copied.id}
    assert found(name="volume") == {plain.id, many.id}
    assert found(name="' OR 1=1 --") == set()
    assert found() == {plain.id, many.id, copied.id}


def test_a_list_is_ordered_by_a_field_and_then_by_id(store: Store) -> None:
    sizes = {"d": 3, "a": 2, "c": 10, "b": 2}
    store.transact({}, [Put(VOLUMES, make_volume(size=size, volume_id=name)) for name, size in sizes.items()])

    def listed(**how: Any) -> str:
        return "".join(row.value.id for row in store.list(VOLUMES, **how))

    assert listed() == "abcd"
    assert listed(descending=True) == "dcba"
    assert listed(order_by="size") == "abdc"
    assert listed(order_by="size", descending=True) == "cdba"
    assert listed(limit=2) == "ab"
    assert listed(offset=3) == "d"
    assert listed(order_by="size", limit=2, offset=1) == "bd"
    assert listed(limit=0) == ""
    assert listed(offset=9) == ""


def test_a_field_that_a_table_has_not_is_a_bug_of_the_caller(store: Store) -> None:
    with pytest.raises(ValueError, match="no field colour"):
        store.list(VOLUMES, where={"colour": "red"})
    with pytest.raises(ValueError, match="no field name'"):
        store.list(VOLUMES, order_by="name') --")


def test_a_watcher_is_told_which_rows_were_written_and_removed_since(store: Store) -> None:
    first = store.transact({}, [Put(CLAIMS, claim(1)), Put(CLAIMS, claim(2))])
    store.transact({}, [Put(CLAIMS, claim(3))])
    newest = store.transact({}, [Delete(key(claim(1)))])
    assert store.watch(first, 0).keys == frozenset({key(claim(3)), key(claim(1))})
    assert store.watch(first, 0).revision == newest
    assert store.watch(newest, 0.01).keys == frozenset()
    assert store.watch(newest, 0.01).revision == newest


def test_a_watcher_wakes_up_when_something_is_written(store: Store) -> None:
    with ThreadPoolExecutor() as pool:
        changes = pool.submit(store.watch, Revision(0), 20.0)
        store.transact({}, [Put(CLAIMS, claim(1))])
        assert changes.result(10).keys == frozenset({key(claim(1))})


def test_a_store_that_was_opened_again_has_every_row_and_no_longer_knows_what_changed(opener: Opener) -> None:
    store = opener()
    first = store.transact({}, [Put(CLAIMS, claim(1))])
    newest = store.transact({}, [Put(CLAIMS, claim(2, "b"))])
    store.close()

    store = opener()
    assert owners(store) == {"claim:1": "a", "claim:2": "b"}
    assert store.revision() == newest
    assert store.watch(first, 0).keys is None
    assert store.watch(Revision(0), 0) == store.watch(first, 0)
    assert store.watch(newest, 0).keys == frozenset()
    assert store.transact({key(claim(1)): first}, [Put(CLAIMS, claim(1, "c"))]) > newest
    assert store.watch(newest, 0).keys == frozenset({key(claim(1))})
    store.close()


def test_many_writers_that_expect_what_they_read_lose_no_update(store: Store) -> None:
    threads, each = 4, 25
    store.transact({}, [Put(CLAIMS, claim(1, "0"))])
    start = threading.Barrier(threads)

    def count_up() -> None:
        start.wait(10)
        done = 0
        while done < each:
            row = store.get(CLAIMS, "claim:1")
            assert row is not None
            with suppress(RevisionConflictError):
                number = str(int(row.value.owner) + 1)
                store.transact({key(row.value): row.revision}, [Put(CLAIMS, claim(1, number))])
                done += 1

    with ThreadPoolExecutor(threads) as pool:
        for future in [pool.submit(count_up) for _ in range(threads)]:
            future.result(60)
    assert owners(store) == {"claim:1": str(threads * each)}


def test_a_closed_store_says_so_to_whoever_waits_or_comes_later(opener: Opener) -> None:
    store = opener()
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(store.watch, Revision(0), 60.0)
        store.close()
        with pytest.raises(UnavailableError, match="closed"):
            waiting.result(10)
    for verb in (
        lambda: store.get(CLAIMS, "claim:1"),
        lambda: store.list(CLAIMS),
        lambda: store.transact({}, [Put(CLAIMS, claim(1))]),
        lambda: store.watch(Revision(0), 0),
    ):
        with pytest.raises(UnavailableError, match="closed"):
            verb()
    store.close()
