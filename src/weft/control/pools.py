"""Pools and what is booked in them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from weft.control.bookings import Bookings
from weft.errors import NoSpaceError, NotFoundError, UnavailableError
from weft.model import GIB, Pool, PoolId, PoolState, StateStatus
from weft.ports import POOL_STATES, POOLS, Key, Put, Revision, Row, Store, Write
from weft.views import PoolView


@dataclass(frozen=True, slots=True)
class Offer:
    """A pool with its room, and what makes a booking safe: every booking writes the pool's row, and expects the
    revision that the row had before the room was counted.
    """

    row: Row[Pool]
    view: PoolView

    @property
    def expected(self) -> dict[Key, Revision]:
        return {Key(POOLS.name, self.row.value.id): self.row.revision}

    @property
    def booking(self) -> Write:
        return Put(POOLS, self.row.value)

    def check_room(self, size: int, what: str) -> None:
        """Raises NoSpaceError when fewer than size bytes can still be promised, UnavailableError when nobody knows."""
        view = self.view
        if view.status is not StateStatus.AVAILABLE:
            raise UnavailableError(
                f"pool {view.pool.name} is not available: {view.reason or 'it was not looked at yet'}"
            )
        if size > view.room:
            raise NoSpaceError(
                f"pool {view.pool.name} has room for {view.room / GIB:.1f} GiB more, and {what} needs"
                f" {size / GIB:g} GiB"
            )


class Pools:
    """Reads pools; the configuration makes them, the node measures them."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._bookings = Bookings(store)

    def get(self, pool_id: PoolId) -> PoolView:
        return self.offer(pool_id).view

    def list(self) -> list[PoolView]:
        return [each.view for each in self.offers()]

    def offer(self, pool_id: PoolId) -> Offer:
        row = self._store.get(POOLS, pool_id)
        if row is None:
            raise NotFoundError(f"pool {pool_id} can't be found")
        return Offer(row, self._view(row.value, self._bookings.totals()))

    def offers(self) -> Sequence[Offer]:
        rows = self._store.list(POOLS)
        booked = self._bookings.totals()
        return [Offer(row, self._view(row.value, booked)) for row in rows]

    def _view(self, pool: Pool, booked: Mapping[PoolId, int]) -> PoolView:
        found = self._store.get(POOL_STATES, pool.id)
        state = found.value if found is not None else PoolState(id=pool.id, status=StateStatus.PENDING)
        return PoolView(
            pool=pool,
            status=state.status,
            total=state.total,
            free=state.free,
            booked=booked.get(pool.id, 0),
            reason=state.reason,
        )
