"""What the verbs on all resources share: finding rows for a caller, and repeating after a lost race."""

import time
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import TypeVar

from weft.errors import ConflictError, NotFoundError, RevisionConflictError, UnavailableError
from weft.model import Attachment, Claim, Host, Snapshot, Volume
from weft.ports import CLAIMS, Delete, Key, Put, Revision, Row, Store, Table, Write
from weft.requests import Caller

OwnedT = TypeVar("OwnedT", Volume, Snapshot, Attachment, Host)
ResultT = TypeVar("ResultT")

_TRIES = 100
_PAUSE_SECONDS = 0.002


def now() -> datetime:
    """The time in UTC, to the second, as rows keep it."""
    return datetime.now(UTC).replace(microsecond=0)


def owned(store: Store, table: Table[OwnedT], caller: Caller, row_id: str, noun: str) -> Row[OwnedT]:
    """The row, if it is there and the caller's; NotFoundError says the same in both cases."""
    row = store.get(table, row_id)
    if row is None or not is_visible(caller, row.value):
        raise NotFoundError(f"{noun} {row_id} can't be found")
    return row


def is_visible(caller: Caller, row: Volume | Snapshot | Attachment | Host) -> bool:
    if not (caller.is_admin or caller.tenant_id == row.tenant_id):
        return False
    if caller.only is None:
        return True
    match row:
        case Volume():
            return True
        case Attachment():
            return row.host_id == caller.only.host_id
        case Host():
            return row.id == caller.only.host_id
        case Snapshot():
            return False


def owned_rows(store: Store, table: Table[OwnedT], caller: Caller) -> list[OwnedT]:
    """All rows that the caller may see, by id."""
    where = None if caller.is_admin else {"tenant_id": caller.tenant_id}
    return [row.value for row in store.list(table, where=where) if is_visible(caller, row.value)]


def claims(
    store: Store, owner: str, wanted: Mapping[str, str], released: Iterable[str] = ()
) -> tuple[dict[Key, Revision], list[Write]]:
    """What to expect and to write so that owner alone has the wanted names, and no longer the released ones.

    wanted maps each claim's id to the sentence that tells why it is refused when another owner has it; then
    ConflictError is raised with it.
    """
    expected: dict[Key, Revision] = {}
    writes: list[Write] = []
    for claim_id, refusal in wanted.items():
        found = store.get(CLAIMS, claim_id)
        if found is not None and found.value.owner != owner:
            raise ConflictError(refusal)
        expected[Key(CLAIMS.name, claim_id)] = found.revision if found is not None else Revision(0)
        writes.append(Put(CLAIMS, Claim(id=claim_id, owner=owner)))
    writes += [Delete(Key(CLAIMS.name, claim_id)) for claim_id in released if claim_id not in wanted]
    return expected, writes


def retry_on_conflict(attempt: Callable[[], ResultT]) -> ResultT:
    """Repeat attempt, which reads, checks and writes, until no other writer came between."""
    for tries in range(_TRIES):
        try:
            return attempt()
        except RevisionConflictError:
            time.sleep(_PAUSE_SECONDS * min(tries, 10))
    raise UnavailableError("too many writers at once; try again")
