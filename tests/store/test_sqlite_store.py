"""What only the SQLite store has: a file with a mode, indices, damage, a full disk."""

import os
import sqlite3
import stat
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from fakes.rows import make_volume
from weft.errors import DataError, NoSpaceError, RevisionConflictError
from weft.model import Claim
from weft.ports import ATTACHMENTS, CLAIMS, SNAPSHOT_STATES, SNAPSHOTS, VOLUMES, Key, Put, Revision
from weft.store.sqlite import SqliteStore


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "weft.db"


@pytest.fixture
def store(path: Path) -> Iterator[SqliteStore]:
    opened = SqliteStore(path)
    yield opened
    opened.close()


def statements(store: SqliteStore, verb: Callable[[], object]) -> list[str]:
    """What SQLite was asked for while verb ran."""
    asked: list[str] = []
    store._database.set_trace_callback(asked.append)
    verb()
    store._database.set_trace_callback(None)
    return asked


def plans(store: SqliteStore, verb: Callable[[], object]) -> str:
    found = []
    for statement in statements(store, verb):
        found += [row[3] for row in store._database.execute(f"EXPLAIN QUERY PLAN {statement}")]
    return "\n".join(found)


def modes(folder: Path) -> dict[str, int]:
    return {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}


def test_only_the_owner_may_read_the_database_whatever_the_umask(path: Path) -> None:
    before = os.umask(0)
    try:
        store = SqliteStore(path)
        store.transact({}, [Put(CLAIMS, Claim(id="a", owner="b"))])
        assert modes(path.parent) == {"weft.db": 0o600, "weft.db-wal": 0o600, "weft.db-shm": 0o600}
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        store.close()
    finally:
        os.umask(before)


def test_a_database_that_others_could_read_is_closed_to_them(path: Path, store: SqliteStore) -> None:
    store.close()
    path.chmod(0o644)
    SqliteStore(path).close()
    assert modes(path.parent)["weft.db"] == 0o600


def test_a_transaction_is_on_disk_before_it_is_acknowledged(store: SqliteStore) -> None:
    assert store._database.execute("PRAGMA journal_mode").fetchone()[0] == "wal"
    assert store._database.execute("PRAGMA synchronous").fetchone()[0] == 2


@pytest.mark.parametrize(
    ("table", "field"),
    [
        (SNAPSHOTS, "volume_id"),
        (SNAPSHOT_STATES, "volume_id"),
        (ATTACHMENTS, "volume_id"),
        (ATTACHMENTS, "host_id"),
        (VOLUMES, "source_snapshot_id"),
        (VOLUMES, "profile_id"),
    ],
    ids=["snapshots", "snapshot_states", "attachments", "attachments-host", "copies", "profile"],
)
def test_what_belongs_to_one_thing_is_found_by_an_index(
    store: SqliteStore, table: object, field: str
) -> None:
    plan = plans(store, lambda: store.list(table, where={field: "x"}))  # type: ignore[arg-type]
    assert f"USING INDEX rows_by_{field} (name=? AND <expr>=?)" in plan
    assert "SCAN" not in plan
    assert "TEMP B-TREE" not in plan


def test_one_row_is_found_by_its_key(store: SqliteStore) -> None:
    assert "USING PRIMARY KEY (name=? AND id=?)" in plans(store, lambda: store.get(VOLUMES, "x"))


def test_a_file_that_is_no_database_is_refused_in_a_sentence(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"this is not a database, " * 100)
    with pytest.raises(DataError, match=r"the database .*weft\.db cannot be used: file is not a database"):
        SqliteStore(path)
    assert path.read_bytes().startswith(b"this is not")


def test_a_damaged_page_is_an_error_and_never_a_wrong_answer(path: Path, store: SqliteStore) -> None:
    store.transact({}, [Put(CLAIMS, Claim(id=f"{n:04}", owner="x" * 500)) for n in range(400)])
    store.close()
    with path.open("r+b") as file:
        file.seek(8192)
        file.write(os.urandom(path.stat().st_size - 8192))
    with pytest.raises(DataError, match=r"weft\.db cannot be used"), closing(SqliteStore(path)) as damaged:
        damaged.list(CLAIMS)


@pytest.mark.parametrize("body", ['{"id":"a"}', '{"id":"a","owner":5}', '"a"', "[]"])
def test_a_row_that_is_not_what_its_table_holds_is_named(store: SqliteStore, path: Path, body: str) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("INSERT INTO rows VALUES ('claims', 'a', 1, ?)", (body,))
    with pytest.raises(DataError, match=r"a row of claims in .* cannot be read"):
        store.get(CLAIMS, "a")


def test_a_row_that_a_newer_weft_gave_another_field_is_read(store: SqliteStore, path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute(
            "INSERT INTO rows VALUES ('claims', 'a', 1, ?)", ('{"id":"a","owner":"b","colour":"red"}',)
        )
    row = store.get(CLAIMS, "a")
    assert row is not None
    assert row.value == Claim(id="a", owner="b")


@pytest.mark.parametrize("hindrance", ["a folder", "no folder"])
def test_a_place_where_no_database_can_be_is_named(tmp_path: Path, hindrance: str) -> None:
    if hindrance == "a folder":
        (tmp_path / "weft.db").mkdir()
        path = tmp_path / "weft.db"
    else:
        (tmp_path / "file").touch()
        path = tmp_path / "file" / "weft.db"
    with pytest.raises(DataError, match="cannot be opened"):
        SqliteStore(path)


def test_a_full_disk_is_said_and_the_transaction_left_out(store: SqliteStore) -> None:
    store.transact({}, [Put(CLAIMS, Claim(id="a", owner="b"))])
    pages = store._database.execute("PRAGMA page_count").fetchone()[0]
    store._database.execute(f"PRAGMA max_page_count = {pages + 5}")
    with pytest.raises(NoSpaceError, match=r"the file system that holds .* is full; make room there"):
        store.transact({}, [Put(VOLUMES, make_volume()), Put(CLAIMS, Claim(id="c", owner="x" * 10**6))])
    assert store.list(VOLUMES) == []
    assert store.revision() == 1
    store._database.execute("PRAGMA max_page_count = 1000000")
    assert store.transact({}, [Put(VOLUMES, make_volume())]) == 2


def test_a_commit_that_happened_unseen_is_counted(store: SqliteStore, path: Path) -> None:
    first = store.transact({}, [Put(CLAIMS, Claim(id="a", owner="b"))])
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("UPDATE rows SET revision = 2 WHERE id = 'a'")
        other.execute("UPDATE history SET revision = 2")
    with pytest.raises(RevisionConflictError):
        store.transact({Key(CLAIMS.name, "a"): first}, [])
    assert store.transact({}, [Put(CLAIMS, Claim(id="c", owner="d"))]) == 3
    assert store.watch(first, 0).keys is None
    assert store.watch(Revision(2), 0).keys == frozenset({Key(CLAIMS.name, "c")})


def test_who_looks_away_for_too_long_is_told_to_look_at_everything(store: SqliteStore) -> None:
    store._history = type(store._history)(maxlen=3)
    for number in range(5):
        store.transact({}, [Put(CLAIMS, Claim(id=str(number), owner="x"))])
    assert store.watch(Revision(1), 0).keys is None
    assert store.watch(Revision(2), 0).keys == frozenset(Key(CLAIMS.name, each) for each in "234")
