"""The embedded store: one SQLite file, used by one process."""

import dataclasses
import os
import sqlite3
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from itertools import takewhile
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from weft.described import decoder
from weft.errors import DataError, NoSpaceError, RevisionConflictError, UnavailableError, WeftError
from weft.ports import Changes, Delete, Key, Revision, Row, Table, Write

RowT = TypeVar("RowT")

Migration = Callable[[sqlite3.Connection], None]
Rows = list[Row[RowT]]

_REMEMBERED_TRANSACTIONS = 4096
_BUSY_SECONDS = 10.0
_FIRST_INDEXED = ("volume_id", "host_id", "source_snapshot_id", "profile_id")
_INDEXED = (*_FIRST_INDEXED, "source_volume_id")


def _first_schema(database: sqlite3.Connection) -> None:
    database.execute(
        "CREATE TABLE rows (name TEXT NOT NULL, id TEXT NOT NULL, revision INTEGER NOT NULL, body TEXT NOT NULL,"
        " PRIMARY KEY (name, id)) WITHOUT ROWID"
    )
    database.execute("CREATE TABLE history (revision INTEGER NOT NULL)")
    database.execute("INSERT INTO history VALUES (0)")
    for field in _FIRST_INDEXED:
        database.execute(f"CREATE INDEX rows_by_{field} ON rows (name, json_extract(body, '$.{field}'))")


def _index_copies(database: sqlite3.Connection) -> None:
    database.execute(
        "CREATE INDEX rows_by_source_volume_id ON rows (name, json_extract(body, '$.source_volume_id'))"
    )


MIGRATIONS: tuple[Migration, ...] = (_first_schema, _index_copies)
"""Migration n takes a database from schema version n to n + 1. Changes are additive for one release."""


class SqliteStore:
    """Rows as JSON in one SQLite database in WAL mode, synced before a transaction is called done.

    Raises DataError when the file is damaged or was written by a newer weft.
    """

    def __init__(self, path: Path, *, migrations: Sequence[Migration] = MIGRATIONS) -> None:
        self._path = path
        self._closed = False
        self._changed = threading.Condition()
        self._history: deque[tuple[Revision, frozenset[Key]]] = deque(maxlen=_REMEMBERED_TRANSACTIONS)
        _make_private(path)
        with self._errors():
            self._database = sqlite3.connect(
                path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
            )
            try:
                self._database.execute("PRAGMA journal_mode = WAL")
                self._database.execute("PRAGMA synchronous = FULL")
                self._database.execute("PRAGMA secure_delete = ON")  # hosts' keys are among the rows
                self._migrate(migrations)
                row = self._database.execute("SELECT revision FROM history").fetchone()
            except BaseException:
                self._database.close()
                raise
        self._revision = Revision(row[0])

    def get(self, table: Table[RowT], row_id: str) -> Row[RowT] | None:
        with self._changed, self._errors():
            found = self._database.execute(
                "SELECT body, revision FROM rows WHERE name = ? AND id = ?", (table.name, row_id)
            ).fetchone()
        return None if found is None else self._rows(table, [found])[0]

    def list(
        self,
        table: Table[RowT],
        *,
        where: Mapping[str, str | int | bool | None] | None = None,
        order_by: str | None = None,
        descending: bool = False,
        limit: int | None = None,
        offset: int = 0,
    ) -> list[Row[RowT]]:
        indexed = next((field for field in where or {} if field in _INDEXED), None)
        # Without statistics SQLite takes the primary key to be as good, and reads the whole table.
        hint = f"INDEXED BY rows_by_{indexed}" if indexed else ""
        query = ["SELECT body, revision FROM rows", hint, "WHERE name = ?"]
        values: list[str | int | None] = [table.name]
        for field, value in (where or {}).items():
            query.append(f"AND {_column(table, field)} IS ?")
            values.append(value)
        direction = "DESC" if descending else "ASC"
        first = f"{_column(table, order_by)} {direction}, " if order_by else ""
        query.append(f"ORDER BY {first}id {direction} LIMIT ? OFFSET ?")
        values += [-1 if limit is None else limit, offset]
        with self._changed, self._errors():
            found = self._database.execute(" ".join(query), values).fetchall()
        return self._rows(table, found)

    def transact(self, expected: Mapping[Key, Revision], writes: Sequence[Write]) -> Revision:
        with self._changed:
            with self._errors(), self._transaction():
                # Asked anew, for a commit that failed half-way may have happened all the same.
                newest: int = self._database.execute("SELECT revision FROM history").fetchone()[0]
                revision = Revision(newest + 1)
                for key, wanted in expected.items():
                    self._expect(key, wanted)
                touched = frozenset(self._write(each, revision) for each in writes)
                self._database.execute("UPDATE history SET revision = ?", (revision,))
            if newest != self._revision:
                self._history.clear()
            self._revision = revision
            self._history.append((revision, touched))
            self._changed.notify_all()
            return revision

    def revision(self) -> Revision:
        with self._changed:
            return self._revision

    def watch(self, since: Revision, timeout: float) -> Changes:
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._revision > since, timeout)
            if self._closed:
                raise UnavailableError(f"the database {self._path} was closed")
            if self._revision <= since:
                return Changes(since, frozenset())
            oldest = self._history[0][0] - 1 if self._history else self._revision
            if since < oldest:
                return Changes(self._revision, None)
            # From the newest on, for thousands are remembered and few are asked for.
            newer = takewhile(lambda each: each[0] > since, reversed(self._history))
            return Changes(self._revision, frozenset().union(*(keys for _, keys in newer)))

    def close(self) -> None:
        """Close the file; whoever waits or comes later gets UnavailableError."""
        with self._changed:
            self._closed = True
            self._database.close()
            self._changed.notify_all()

    def _expect(self, key: Key, wanted: Revision) -> None:
        found = self._database.execute(
            "SELECT revision FROM rows WHERE name = ? AND id = ?", (key.table, key.id)
        ).fetchone()
        if (found[0] if found else 0) != wanted:
            raise RevisionConflictError(
                f"{key.table} {key.id} was changed by somebody else meanwhile; try again"
            )

    def _write(self, write: Write, revision: Revision) -> Key:
        if isinstance(write, Delete):
            self._database.execute(
                "DELETE FROM rows WHERE name = ? AND id = ?", (write.key.table, write.key.id)
            )
            return write.key
        key = Key(write.table.name, _row_id(write.value))
        self._database.execute(
            "INSERT INTO rows VALUES (?, ?, ?, ?)"
            " ON CONFLICT (name, id) DO UPDATE SET revision = excluded.revision, body = excluded.body",
            (key.table, key.id, revision, msgspec.json.encode(write.value).decode()),
        )
        return key

    def _rows(self, table: Table[RowT], found: Iterable[tuple[str, Revision]]) -> Rows[RowT]:
        decode = decoder(table.row).decode
        try:
            return [Row(decode(body), revision) for body, revision in found]
        except msgspec.DecodeError as error:
            raise DataError(f"a row of {table.name} in {self._path} cannot be read: {error}") from error

    def _migrate(self, migrations: Sequence[Migration]) -> None:
        version = _known_version(self._database, self._path, len(migrations))
        if 0 < version < len(migrations):
            self._back_up(version)
        for target, migrate in enumerate(migrations[version:], start=version + 1):
            try:
                with self._transaction():
                    migrate(self._database)
                    self._database.execute(f"PRAGMA user_version = {target}")
            except Exception as error:
                raise DataError(
                    f"{self._path} could not be brought to schema version {target} and stays at {target - 1}: {error}"
                ) from error

    def _back_up(self, version: int) -> None:
        final = self._path.with_name(f"{self._path.name}.version-{version}")
        partial = final.with_name(final.name + ".partial")
        try:
            partial.unlink(missing_ok=True)
            os.close(os.open(partial, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            with closing(sqlite3.connect(partial)) as copy:
                self._database.backup(copy)
            _sync(partial)
            partial.rename(final)
            _sync(final.parent)
        except (OSError, sqlite3.Error) as error:
            raise DataError(
                f"{self._path} must be backed up to {final} before its schema changes, and cannot be: {error}"
            ) from error

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._database.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._database.execute("COMMIT")
        except BaseException:
            if self._database.in_transaction:
                self._database.execute("ROLLBACK")
            raise

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise self._translated(error) from error

    def _translated(self, error: sqlite3.Error) -> WeftError:
        if self._closed:
            return UnavailableError(f"the database {self._path} was closed")
        code = getattr(error, "sqlite_errorcode", None)
        if code == sqlite3.SQLITE_FULL:
            return NoSpaceError(f"the file system that holds {self._path} is full; make room there")
        if code in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
            return UnavailableError(f"{self._path} is locked by another process")
        return DataError(f"the database {self._path} cannot be used: {error}")


def check_schema(path: Path, *, known: int = len(MIGRATIONS)) -> None:
    """Raises DataError when this weft, which knows so many versions, could not open the database; changes nothing.

    One that is not there yet can be opened.
    """
    if not path.exists():
        return
    # Without a log beside it nothing but the file counts, and SQLite is to leave no log there.
    how = "mode=ro" if path.with_name(f"{path.name}-wal").exists() else "immutable=1"
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?{how}", uri=True)) as database:
            _known_version(database, path, known)
    except sqlite3.Error as error:
        raise DataError(f"the database {path} cannot be used: {error}") from error


def _known_version(database: sqlite3.Connection, path: Path, known: int) -> int:
    version: int = database.execute("PRAGMA user_version").fetchone()[0]
    if version > known:
        raise DataError(
            f"{path} has schema version {version} and this weft knows {known} at most;"
            " install the newer weft again or restore the backup that lies beside the file"
        )
    return version


def _make_private(path: Path) -> None:
    """Make the file if it is not there, readable by its owner alone; SQLite gives its other files the same mode."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise DataError(f"the database {path} cannot be opened: {error.strerror}") from error
    try:
        os.fchmod(descriptor, 0o600)
    except PermissionError as error:
        raise DataError(f"the database {path} belongs to another user") from error
    finally:
        os.close(descriptor)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _row_id(value: object) -> str:
    row_id: Any = getattr(value, "id", None)
    if not isinstance(row_id, str):
        raise TypeError(f"{type(value).__name__} has no string id")
    return row_id


def _column(table: Table[Any], field: str) -> str:
    if field not in {each.name for each in dataclasses.fields(table.row)}:
        raise ValueError(f"{table.name} has no field {field}")
    return f"json_extract(body, '$.{field}')"
