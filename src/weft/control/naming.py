"""How clients name and describe volumes and snapshots, and what they may write down with any resource."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TypeVar

from weft.control.rows import now, retry_on_conflict
from weft.errors import InvalidValueError
from weft.model import Snapshot, Volume
from weft.names import check_name, check_text
from weft.ports import Key, Put, Row, Store, Table
from weft.requests import UpdateRequest

NamedT = TypeVar("NamedT", Volume, Snapshot)

_MAXIMUM_METADATA = 64


def rename(
    store: Store, table: Table[NamedT], read: Callable[[], Row[NamedT]], request: UpdateRequest
) -> NamedT:
    """Rename or describe what read() finds, or merge metadata into what it has; returns it as it is then."""
    if request.name:
        check_name("name", request.name)
    if request.description:
        check_text("description", request.description)
    check_metadata(request.metadata or {})

    def attempt() -> NamedT:
        row = read()
        changed = replace(
            row.value,
            name=request.name or row.value.name,
            description=request.description or row.value.description,
            metadata={**row.value.metadata, **(request.metadata or {})},
            updated_at=now(),
        )
        check_metadata(changed.metadata)
        store.transact({Key(table.name, row.value.id): row.revision}, [Put(table, changed)])
        return changed

    return retry_on_conflict(attempt)


def check_metadata(metadata: Mapping[str, str]) -> None:
    """At most 64 short texts by short names."""
    if len(metadata) > _MAXIMUM_METADATA:
        raise InvalidValueError("metadata", f"holds more than {_MAXIMUM_METADATA} entries")
    for key, value in metadata.items():
        check_text("metadata", key, maximum=255)
        check_text(f"metadata.{key}", value, maximum=1024)
