"""A Store between whose calls somebody else does something, at a chosen place."""

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from weft.ports import Changes, Key, Revision, Row, Store, Table, Write

RowT = TypeVar("RowT")


class InterruptedStore:
    """Passes every call on; before one of them, it lets something else happen first."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._calls_left: int | None = None
        self._interruption: Callable[[], object] = lambda: None

    def interrupt(self, calls: int, interruption: Callable[[], object]) -> None:
        """Have interruption happen after so many calls, just before the next one."""
        self._calls_left, self._interruption = calls, interruption

    def is_waiting(self) -> bool:
        """Whether the interruption has not come yet; then it will not come any more."""
        waiting = self._calls_left is not None
        self._calls_left = None
        return waiting

    def get(self, table: Table[RowT], row_id: str) -> Row[RowT] | None:
        self._pass()
        return self._store.get(table, row_id)

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
        self._pass()
        return self._store.list(
            table, where=where, order_by=order_by, descending=descending, limit=limit, offset=offset
        )

    def transact(self, expected: Mapping[Key, Revision], writes: Sequence[Write]) -> Revision:
        self._pass()
        return self._store.transact(expected, writes)

    def revision(self) -> Revision:
        return self._store.revision()

    def watch(self, since: Revision, timeout: float) -> Changes:
        return self._store.watch(since, timeout)

    def close(self) -> None:
        self._store.close()

    def _pass(self) -> None:
        if self._calls_left is None:
            return
        if self._calls_left > 0:
            self._calls_left -= 1
            return
        self._calls_left = None
        self._interruption()
