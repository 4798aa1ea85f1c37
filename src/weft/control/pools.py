"""Pools and what is booked in them."""

from collections import defaultdict

from weft.errors import NotFoundError
from weft.model import Pool, PoolId, PoolState, StateStatus
from weft.ports import POOL_STATES, POOLS, SNAPSHOTS, VOLUME_STATES, VOLUMES, Row, Store
from weft.views import PoolView


class Pools:
    """Reads pools; the configuration makes them, the node measures them."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def get(self, pool_id: PoolId) -> PoolView:
        row = self._store.get(POOLS, pool_id)
        if row is None:
            raise NotFoundError(f"pool {pool_id} can't be found")
        return self._view(row.value, self.booked())

    def list(self) -> list[PoolView]:
        booked = self.booked()
        return [self._view(row.value, booked) for row in self._store.list(POOLS)]

    def row(self, pool_id: PoolId) -> Row[Pool]:
        row = self._store.get(POOLS, pool_id)
        if row is None:
            raise NotFoundError(f"pool {pool_id} can't be found")
        return row

    def booked(self) -> dict[PoolId, int]:
        """Bytes promised in each pool: each volume at the larger of what it has and what it was asked to be, and
        each snapshot at its full size, for that is what it may come to.
        """
        sizes = {row.value.id: row.value for row in self._store.list(VOLUME_STATES)}
        booked: dict[PoolId, int] = defaultdict(int)
        pool_of = {}
        for row in self._store.list(VOLUMES):
            volume, state = row.value, sizes.get(row.value.id)
            settled = state is not None and state.generation == volume.generation
            booked[volume.pool_id] += state.size if settled and state is not None else volume.size
            pool_of[volume.id] = volume.pool_id
        for snapshot in self._store.list(SNAPSHOTS):
            booked[pool_of[snapshot.value.volume_id]] += snapshot.value.size
        return booked

    def _view(self, pool: Pool, booked: dict[PoolId, int]) -> PoolView:
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
