"""Which resources of a list a client asked for, and in which order.

OpenSDS's parameters, in either capitalisation: limit (50), offset (0), sortKey, sortDir (desc) and filters, where a
key names a field of the resource. Values of one key are alternatives, different keys must all match, unknown keys
do not count. Without a sortKey the order is that of the ids.
"""

import re
from collections import defaultdict
from collections.abc import Sequence
from typing import TypeVar

import msgspec

from weft.wire.base import Resource

ResourceT = TypeVar("ResourceT", bound=Resource)

_DEFAULT_LIMIT = 50
_NUMBER = re.compile(r"-?[0-9]{1,15}")


def select(resources: Sequence[ResourceT], query: Sequence[tuple[str, str]]) -> list[ResourceT]:
    """The page of resources that query asks for. Nothing in query is an error: what makes no sense gets the default."""
    if not resources:
        return []
    asked: dict[str, list[str]] = defaultdict(list)
    for key, value in query:
        asked[key.lower()].append(value)
    fields = _fields(type(resources[0]))
    chosen = [each for each in resources if _matches(each, fields, asked)]
    _sort(chosen, fields, asked)
    limit = _number(_last(asked, "limit"))
    count = limit if limit is not None and limit >= 0 else _DEFAULT_LIMIT
    start = _offset(asked, len(chosen))
    return chosen[start : start + count]


def _fields(shape: type[Resource]) -> dict[str, str]:
    """Attributes by their key in lower case."""
    return {each.encode_name.lower(): each.name for each in msgspec.structs.fields(shape)}


def _matches(resource: Resource, fields: dict[str, str], asked: dict[str, list[str]]) -> bool:
    return all(
        _printed(getattr(resource, fields[key])) in values for key, values in asked.items() if key in fields
    )


def _printed(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def _sort(resources: list[ResourceT], fields: dict[str, str], asked: dict[str, list[str]]) -> None:
    resources.sort(key=lambda each: each.id)
    attribute = fields.get(_last(asked, "sortkey").lower())
    if attribute is None:
        return
    descending = _last(asked, "sortdir").lower() != "asc"
    resources.sort(key=lambda each: _sortable(getattr(each, attribute)), reverse=descending)


def _sortable(value: object) -> tuple[float, str]:
    """Numbers by size, everything else by its text."""
    return (value, "") if isinstance(value, int | float) else (0.0, str(value))


def _offset(asked: dict[str, list[str]], size: int) -> int:
    if "offset" not in asked:
        return 0
    offset = _number(_last(asked, "offset"))
    return size if offset is None else max(0, offset)


def _number(text: str) -> int | None:
    return int(text) if _NUMBER.fullmatch(text) else None


def _last(asked: dict[str, list[str]], key: str) -> str:
    return asked[key][-1] if key in asked else ""
