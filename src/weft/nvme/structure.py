"""Data structures of fixed layout, written as the specification's tables: `field: Annotated[int, At(offset, size)]`."""

from dataclasses import Field, dataclass, fields
from functools import cache
from typing import Any, ClassVar, Protocol, TypeVar, get_args, get_origin, get_type_hints

from weft.nvme.errors import LocalProtocolError
from weft.nvme.layout import BytesLike, padded_text, read_text


@dataclass(frozen=True, slots=True)
class At:
    """A field's place, in bytes. Integers are little-endian, texts are filled with `pad`."""

    offset: int
    size: int
    pad: bytes = b" "


class Structure(Protocol):
    """A dataclass whose fields all have places."""

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]


StructureT = TypeVar("StructureT", bound=Structure)


@dataclass(frozen=True, slots=True)
class _Place:
    name: str
    kind: type
    at: At


@cache
def _places(cls: type) -> tuple[_Place, ...]:
    hints = get_type_hints(cls, include_extras=True)
    places = []
    for field in fields(cls):
        kind, at = get_args(hints[field.name])
        places.append(_Place(field.name, get_origin(kind) or kind, at))
    return tuple(places)


def encode_structure(structure: Structure, size: int) -> bytes:
    """`size` bytes, zero wherever no field lies. Raises LocalProtocolError for a value that does not fit."""
    page = bytearray(size)
    for place in _places(type(structure)):
        value, at = getattr(structure, place.name), place.at
        page[at.offset : at.offset + at.size] = _encode_field(place, value)
    return bytes(page)


def decode_structure(cls: type[StructureT], page: BytesLike) -> StructureT:
    """Raises LocalProtocolError if the page is too short to hold every field."""
    values: dict[str, int | str | bytes] = {}
    for place in _places(cls):
        at = place.at
        raw = bytes(page[at.offset : at.offset + at.size])
        if len(raw) < at.size:
            raise LocalProtocolError(f"A page of {len(page)} bytes is too short for {cls.__name__}.")
        if place.kind is int:
            values[place.name] = int.from_bytes(raw, "little")
        else:
            values[place.name] = read_text(raw) if place.kind is str else raw
    return cls(**values)


def _encode_field(place: _Place, value: int | str | bytes) -> bytes:
    if isinstance(value, int):
        try:
            return value.to_bytes(place.at.size, "little")
        except OverflowError as error:
            raise LocalProtocolError(
                f"{place.name} {value} does not fit into {place.at.size} bytes."
            ) from error
    if isinstance(value, str):
        return padded_text(value, place.at.size, pad=place.at.pad)
    if len(value) != place.at.size:
        raise LocalProtocolError(f"{place.name} has {place.at.size} bytes, not {len(value)}.")
    return value
