"""Which pool a volume is made in. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from weft.control.requirements import Requirement
from weft.errors import InvalidValueError, NoSpaceError, UnavailableError
from weft.model import GIB, PoolId, Protocol, StateStatus
from weft.views import PoolView


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacementRequest:
    """What a new volume asks of a pool. size is bytes; what is None may be any."""

    size: int
    availability_zone: str | None
    multi_attach: bool = False
    pool_id: PoolId | None = None
    protocol: Protocol | None = None
    requirements: tuple[Requirement, ...] = ()


def choose(pools: Sequence[PoolView], request: PlacementRequest) -> PoolView:
    """The pool with the most room among those that fit.

    Raises UnavailableError when one would fit but cannot be used now, so that nobody knows its room; NoSpaceError when
    pools fit but for their room, and InvalidValueError when none fits at all. All name for each pool why it was passed
    over.
    """
    if request.pool_id is not None and all(each.pool.id != request.pool_id for each in pools):
        raise InvalidValueError("poolId", f"there is no pool {request.pool_id}")
    refusals: list[str] = []
    only_room_missing = out_of_use = False
    fitting: list[PoolView] = []
    for view in pools:
        refusal = _refusal(view, request)
        if refusal is not None:
            refusals.append(f"{view.pool.name} {refusal}")
        elif view.status is not StateStatus.AVAILABLE:
            out_of_use = True
            refusals.append(f"{view.pool.name} is not available ({view.reason or 'not looked at yet'})")
        elif view.room < request.size:
            only_room_missing = True
            refusals.append(f"{view.pool.name} has room for {view.room / GIB:.1f} GiB more")
        else:
            fitting.append(view)
    if fitting:
        return max(fitting, key=lambda view: (view.room, view.pool.id))
    why = "; ".join(refusals) or "there are no pools"
    if out_of_use:
        raise UnavailableError(f"no pool can take the volume now: {why}; try again")
    if only_room_missing:
        raise NoSpaceError(f"no pool has room for {request.size // GIB} GiB: {why}")
    raise InvalidValueError("volume", f"no pool fits: {why}")


def _refusal(view: PoolView, request: PlacementRequest) -> str | None:
    pool = view.pool
    if request.pool_id is not None and pool.id != request.pool_id:
        return "is not the pool asked for"
    if request.availability_zone not in {None, pool.availability_zone}:
        return f"is in availability zone {pool.availability_zone}"
    if request.protocol is not None and pool.protocol is not request.protocol:
        return f"serves {pool.protocol}, not {request.protocol}"
    if request.multi_attach and not pool.multi_attach:
        return "does not let several hosts use a volume"
    unmet = next((each for each in request.requirements if not each.met_by(pool.capabilities)), None)
    return f"does not meet {unmet}" if unmet else None
