"""What the sections of the configuration share: no key goes unknown, and the checks of single values."""

import os
from pathlib import Path

import msgspec

from weft.errors import InvalidValueError
from weft.names import check_text


class Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A table of the file."""


def check_range(field: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise InvalidValueError(field, f"{value:g} is not between {low:g} and {high:g}")


def directory(field: str, value: str, default: Path) -> Path:
    """Check what is to be an absolute path, and tidy it; default stands for an empty value."""
    if value and not Path(value).is_absolute():
        raise InvalidValueError(field, f"{value!r} is not an absolute path")
    check_text(field, value)
    return Path(os.path.normpath(value)) if value else default
