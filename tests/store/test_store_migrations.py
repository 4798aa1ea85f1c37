"""The database knows its schema version: newer weft brings it up after a backup, older weft keeps its hands off."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from weft.errors import DataError
from weft.model import Claim
from weft.ports import CLAIMS, Put
from weft.store.sqlite import MIGRATIONS, SqliteStore, check_schema


def add_labels(database: sqlite3.Connection) -> None:
    database.execute("CREATE TABLE labels (id TEXT PRIMARY KEY)")
    database.execute("UPDATE rows SET body = replace(body, 'old', 'new')")


def fail_half_way(database: sqlite3.Connection) -> None:
    database.execute("DELETE FROM rows")
    raise KeyError("a bug in a migration")


def fail_in_sql(database: sqlite3.Connection) -> None:
    database.execute("DELETE FROM rows")
    database.execute("ALTER TABLE nowhere ADD COLUMN x")


def version_of(path: Path) -> int:
    with closing(sqlite3.connect(path)) as database:
        version: int = database.execute("PRAGMA user_version").fetchone()[0]
        return version


def owners_in(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as database:
        return [
            row[0] for row in database.execute("SELECT json_extract(body, '$.owner') FROM rows ORDER BY id")
        ]


@pytest.fixture
def first_version(tmp_path: Path) -> Path:
    """A database of schema version 1 with two rows, written and closed."""
    path = tmp_path / "weft.db"
    store = SqliteStore(path, migrations=MIGRATIONS[:1])
    store.transact({}, [Put(CLAIMS, Claim(id="a", owner="old a")), Put(CLAIMS, Claim(id="b", owner="old b"))])
    store.close()
    return path


def test_a_new_database_has_the_newest_version_and_needs_no_backup(tmp_path: Path) -> None:
    SqliteStore(tmp_path / "weft.db", migrations=[*MIGRATIONS, add_labels]).close()
    assert version_of(tmp_path / "weft.db") == len(MIGRATIONS) + 1
    assert [path.name for path in tmp_path.iterdir()] == ["weft.db"]


def test_a_database_is_checked_without_being_changed(first_version: Path) -> None:
    before = first_version.read_bytes()
    check_schema(first_version, known=1)
    check_schema(first_version, known=2)
    with pytest.raises(DataError, match="has schema version 1 and this weft knows 0 at most"):
        check_schema(first_version, known=0)
    check_schema(first_version.with_name("none.db"))
    assert first_version.read_bytes() == before
    assert [each.name for each in first_version.parent.iterdir()] == ["weft.db"]


def test_a_database_that_is_in_use_is_checked(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "weft.db", migrations=MIGRATIONS[:1])
    with pytest.raises(DataError, match="has schema version 1"):
        check_schema(tmp_path / "weft.db", known=0)
    store.transact({}, [Put(CLAIMS, Claim(id="a", owner="b"))])
    store.close()


def test_a_damaged_database_is_an_error_of_the_check(tmp_path: Path) -> None:
    (tmp_path / "weft.db").write_bytes(b"no database at all" * 100)
    with pytest.raises(DataError, match="cannot be used"):
        check_schema(tmp_path / "weft.db")


def test_opening_a_database_of_the_same_version_makes_no_backup(first_version: Path) -> None:
    SqliteStore(first_version, migrations=MIGRATIONS[:1]).close()
    assert [path.name for path in first_version.parent.iterdir()] == ["weft.db"]


def test_a_migration_keeps_the_rows_and_a_backup_of_how_they_were(first_version: Path) -> None:
    store = SqliteStore(first_version, migrations=[*MIGRATIONS[:1], add_labels])
    assert [row.value.owner for row in store.list(CLAIMS)] == ["new a", "new b"]
    assert store.revision() == 1
    store.close()

    backup = first_version.with_name("weft.db.version-1")
    assert version_of(first_version) == 2
    assert version_of(backup) == 1
    assert owners_in(backup) == ["old a", "old b"]
    assert backup.stat().st_mode & 0o777 == 0o600


def test_the_backup_can_take_the_place_of_the_database(first_version: Path) -> None:
    SqliteStore(first_version, migrations=[*MIGRATIONS[:1], add_labels]).close()
    backup = first_version.with_name("weft.db.version-1")
    store = SqliteStore(backup, migrations=MIGRATIONS[:1])
    assert [row.value.owner for row in store.list(CLAIMS)] == ["old a", "old b"]
    store.close()


@pytest.mark.parametrize("failing", [fail_half_way, fail_in_sql])
def test_a_migration_that_fails_leaves_everything_as_it_was(first_version: Path, failing: object) -> None:
    with pytest.raises(DataError, match=r"could not be brought to schema version 3 and stays at 2"):
        SqliteStore(first_version, migrations=[*MIGRATIONS[:1], add_labels, failing])  # type: ignore[list-item]
    assert version_of(first_version) == 2
    assert owners_in(first_version) == ["new a", "new b"]
    assert owners_in(first_version.with_name("weft.db.version-1")) == ["old a", "old b"]
    SqliteStore(first_version, migrations=[*MIGRATIONS[:1], add_labels]).close()


def test_nothing_is_migrated_that_cannot_be_backed_up(first_version: Path) -> None:
    in_the_way = first_version.with_name("weft.db.version-1.partial")
    in_the_way.mkdir()
    with pytest.raises(DataError, match=r"must be backed up to .*version-1 .*cannot be"):
        SqliteStore(first_version, migrations=[*MIGRATIONS[:1], add_labels])
    assert version_of(first_version) == 1
    assert owners_in(first_version) == ["old a", "old b"]


def test_a_backup_that_was_interrupted_is_made_anew(first_version: Path) -> None:
    first_version.with_name("weft.db.version-1.partial").write_bytes(b"half a backup")
    SqliteStore(first_version, migrations=[*MIGRATIONS[:1], add_labels]).close()
    assert owners_in(first_version.with_name("weft.db.version-1")) == ["old a", "old b"]


def test_a_database_of_a_newer_weft_is_refused_and_left_alone(first_version: Path) -> None:
    SqliteStore(first_version, migrations=[*MIGRATIONS[:1], add_labels]).close()
    with pytest.raises(
        DataError, match="schema version 2 and this weft knows 1 at most; install the newer weft"
    ):
        SqliteStore(first_version, migrations=MIGRATIONS[:1])
    assert version_of(first_version) == 2
