"""What every resource on the wire has, and how single values are spelled."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated

import msgspec

from weft.errors import DataError
from weft.model import GIB

Whole = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
"""A whole number as Go's int64 holds it."""

DERIVED_METADATA = frozenset({"lvpath", "lvspath"})
"""Keys of metadata, in lower case, that the server writes. What a client writes there is ignored: paths are never
taken from outside."""

_TIME_FORMAT = "%Y-%m-%dT%H:%M:%S"


class Resource(msgspec.Struct, kw_only=True, rename="camel", omit_defaults=True):
    """Keys without a default here are always present, the others only when they say something."""

    id: str
    created_at: str
    updated_at: str


class Body(msgspec.Struct, kw_only=True, rename="camel", omit_defaults=True):
    """Every key is optional."""


def format_time(time: datetime | None) -> str:
    """UTC, to the second, without a zone; empty for a time that has not come."""
    return "" if time is None else time.astimezone(UTC).strftime(_TIME_FORMAT)


def parse_time(text: str) -> datetime | None:
    if not text:
        return None
    try:
        return datetime.strptime(text, _TIME_FORMAT).replace(tzinfo=UTC)
    except ValueError:
        raise DataError(f"{text!r} is not a time such as 2026-01-31T12:00:00") from None


def parse_creation_time(text: str) -> datetime:
    time = parse_time(text)
    if time is None:
        raise DataError("a resource without createdAt was answered")
    return time


def whole_gib(size: int) -> int:
    """Bytes in GiB, rounded down."""
    return size // GIB


def written_metadata(metadata: Mapping[str, str]) -> dict[str, str]:
    """What a client may have written of metadata."""
    return {key: value for key, value in metadata.items() if key.lower() not in DERIVED_METADATA}


def merge_derived(metadata: Mapping[str, str], key: str, path: str) -> dict[str, str]:
    """metadata as it is answered: what clients wrote, and the path that was found."""
    return {**written_metadata(metadata), **({key: path} if path else {})}
