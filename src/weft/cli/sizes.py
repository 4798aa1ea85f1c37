"""Sizes as people write and read them. Inside weft a size is bytes."""

import re
from collections.abc import Callable
from fractions import Fraction

import click

from weft.model import GIB
from weft.names import MAXIMUM_VOLUME_SIZE

_POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4, "p": 5}
_SIZE = re.compile(
    r"(?P<number>[0-9]{1,20}(\.[0-9]{1,20})?) ?((?P<unit>[kmgtp])(?P<suffix>b|ib?|)|(?P<bytes>b?))",
    re.IGNORECASE,
)


def parse_volume_size(text: str) -> int:
    """The bytes of a volume's size: `10GiB`, `10G` and `10` are the same.

    Raises ValueError, whose text is a sentence, for anything but whole GiB that weft can serve.
    """
    size = _parse(text, plain_unit=GIB)
    if size < GIB or size % GIB or size > MAXIMUM_VOLUME_SIZE:
        raise ValueError(
            f"{text!r} is not a size that a volume can have: whole GiB, from 1 to {MAXIMUM_VOLUME_SIZE // GIB}"
        )
    return int(size)


def parse_byte_count(text: str) -> int:
    """A number of bytes: `4096`, `4KiB`, `1G`.

    Raises ValueError, whose text is a sentence.
    """
    size = _parse(text, plain_unit=1)
    if size % 1:
        raise ValueError(f"{text!r} is not a whole number of bytes")
    return int(size)


def _parse(text: str, *, plain_unit: int) -> Fraction:
    matched = _SIZE.fullmatch(text.strip())
    if matched is None:
        raise ValueError(f"{text!r} is not a size such as 10GiB")
    unit = (matched["unit"] or "").lower()
    if unit and matched["suffix"].lower() == "b":
        raise ValueError(
            f"{text!r} means powers of 1000 to some and of 1024 to others; weft counts in powers of 1024:"
            f" write {matched['number']}{unit.upper()}iB or {matched['number']}{unit.upper()}"
        )
    factor = 1024 ** _POWERS[unit] if unit or matched["bytes"] else plain_unit
    return Fraction(matched["number"]) * factor


def format_size(size: int) -> str:
    """`10 GiB`, `1.5 GiB`, or bytes for what is less than a hundredth of a GiB."""
    if 0 < size < GIB / 100:
        return f"{size} bytes"
    if size % GIB == 0:
        return f"{size // GIB} GiB"
    return f"{size / GIB:.2f} GiB"


def volume_size(text: str) -> int:
    """parse_volume_size for an option."""
    return _checked(parse_volume_size, text)


def byte_count(text: str) -> int:
    """parse_byte_count for an option."""
    return _checked(parse_byte_count, text)


def _checked(parse: Callable[[str], int], text: str) -> int:
    try:
        return parse(text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None
