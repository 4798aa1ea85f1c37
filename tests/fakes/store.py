"""A Store whose rows are in memory, and that can crash before and after each transaction."""

import dataclasses
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from fakes.crash import CrashPlan
from weft.errors import RevisionConflictError, UnavailableError
from weft.ports import Changes, Delete, Key, Put, Revision, Row, Table, Write

RowT = TypeVar("RowT")


class Disk:
    """What outlives a MemoryStore: its rows, and the revision of the newest transaction."""

    def __init__(self) -> None:
        self.rows: dict[Key, tuple[Any, Revision]] = {}
        self.revision = Revision(0)


class MemoryStore:
    """Keeps rows as they were given. Its one effect, for the plan, is `store.transact`."""

    def __init__(self, disk: Disk | None = None, plan: CrashPlan | None = None) -> None:
        self._disk = disk or Disk()
        self._plan = plan or CrashPlan()
        self._changed = threading.Condition(threading.RLock())
        self._history: list[tuple[Revision, frozenset[Key]]] = []
        self._known_since = self._disk.revision
        self._closed = False

    def get(self, table: Table[RowT], row_id: str) -> Row[RowT] | None:
        with self._open():
            found = self._disk.rows.get(Key(table.name, row_id))
            return None if found is None else Row(*found)

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
        fields = {each.name for each in dataclasses.fields(table.row)}  # type: ignore[arg-type]
        for field in [*(where or {}), *([order_by] if order_by else [])]:
            if field not in fields:
                raise ValueError(f"{table.name} has no field {field}")
        with self._open():
            found = [
                Row(value, revision)
                for key, (value, revision) in self._disk.rows.items()
                if key.table == table.name
                and all(getattr(value, field) == wanted for field, wanted in (where or {}).items())
            ]
        found.sort(key=lambda row: _order(row.value, order_by), reverse=descending)
        return found[offset : None if limit is None else offset + limit]

    def transact(self, expected: Mapping[Key, Revision], writes: Sequence[Write]) -> Revision:
        with self._open():
            for key, revision in expected.items():
                found = self._disk.rows.get(key)
                if (found[1] if found is not None else 0) != revision:
                    raise RevisionConflictError(
                        f"{key.table} {key.id} was changed by somebody else; try again"
                    )
            with self._plan.effect("store.transact"):
                self._disk.revision = Revision(self._disk.revision + 1)
                touched = frozenset(self._write(each) for each in writes)
                self._history.append((self._disk.revision, touched))
                self._changed.notify_all()
            return self._disk.revision

    def revision(self) -> Revision:
        with self._open():
            return self._disk.revision

    def watch(self, since: Revision, timeout: float) -> Changes:
        with self._open():
            self._changed.wait_for(lambda: self._closed or self._disk.revision > since, timeout)
            if self._closed:
                raise UnavailableError("the memory store was closed")
            if self._disk.revision <= since:
                return Changes(since, frozenset())
            if since < self._known_since:
                return Changes(self._disk.revision, None)
            keys = [keys for revision, keys in self._history if revision > since]
            return Changes(self._disk.revision, frozenset().union(*keys))

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    @contextmanager
    def _open(self) -> Iterator[None]:
        with self._changed:
            if self._closed:
                raise UnavailableError("the memory store was closed")
            yield

    def _write(self, write: Write) -> Key:
        if isinstance(write, Put):
            key = Key(write.table.name, getattr(write.value, "id"))  # noqa: B009 -- rows are typed as objects
            self._disk.rows[key] = (write.value, self._disk.revision)
            return key
        assert isinstance(write, Delete)
        self._disk.rows.pop(write.key, None)
        return write.key


def _order(value: object, order_by: str | None) -> tuple[bool, Any, str]:
    first = getattr(value, order_by) if order_by else None
    return first is not None, "" if first is None else first, str(getattr(value, "id"))  # noqa: B009
