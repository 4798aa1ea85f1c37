"""Hypothesis's strategy for any row that the types allow, checked by the service or not."""

import dataclasses
import types
import typing
from collections.abc import Mapping
from datetime import UTC, datetime
from enum import Enum
from typing import Any

from hypothesis import strategies as st


def any_row(row: type[Any]) -> st.SearchStrategy[Any]:
    """Instances of a frozen dataclass of weft's model, every field drawn."""
    return st.builds(row, **{name: _any_value(hint) for name, hint in typing.get_type_hints(row).items()})


def _any_value(hint: Any) -> st.SearchStrategy[Any]:
    hint = getattr(hint, "__supertype__", hint)
    arguments = typing.get_args(hint)
    match typing.get_origin(hint):
        case origin if origin in {types.UnionType, typing.Union}:
            return st.one_of([_any_value(each) for each in arguments])
        case origin if origin is Mapping:
            return st.dictionaries(st.text(), st.text(), max_size=3)
        case origin if origin is tuple:
            return st.lists(_any_value(arguments[0]), max_size=3).map(tuple)
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return any_row(hint)
    if issubclass(hint, Enum):
        return st.sampled_from(list(hint))
    return _PLAIN[hint]


_PLAIN: dict[type[Any], st.SearchStrategy[Any]] = {
    str: st.text(max_size=40),
    bool: st.booleans(),
    int: st.integers(-(2**63), 2**63 - 1),
    float: st.floats(allow_nan=False, allow_infinity=False),
    datetime: st.datetimes(timezones=st.just(UTC)),
    type(None): st.none(),
}
