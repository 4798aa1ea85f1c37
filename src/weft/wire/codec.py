"""Bytes <-> wire structs."""

import re
from collections.abc import Mapping
from typing import TypeVar

import msgspec
from msgspec import inspect

from weft.described import described
from weft.errors import DataError, InvalidValueError

DecodedT = TypeVar("DecodedT")

_EXPECTED = re.compile(
    r"Expected `(?P<wanted>[^`]+)`(?P<bound>[^`-]*)(?:, got `(?P<got>[^`]+)`)?(?: - at `\$(?P<path>.*)`)?"
)
_KINDS = {
    "int": "a whole number",
    "float": "a number",
    "str": "a string",
    "bool": "true or false",
    "object": "an object",
    "array": "a list",
    "null": "null",
}


def encode(value: object) -> bytes:
    return msgspec.json.encode(value)


def decode_body(body: bytes, shape: type[DecodedT]) -> DecodedT:
    """Read what a client sent, as Go's encoding/json would: keys match without regard to case, null leaves a key
    open, unknown keys are ignored.

    Raises InvalidValueError naming the key whose value has the wrong type.
    """
    if not body.strip():
        raise InvalidValueError("body", "is empty; it must be a JSON object")
    try:
        value = msgspec.json.decode(body)
        return msgspec.convert(
            {} if value is None else _fold(value, inspect.type_info(shape)), described(shape)
        )
    except msgspec.ValidationError as error:
        raise _refusal(str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidValueError("body", f"is not valid JSON: {error}") from None
    except RecursionError:
        raise InvalidValueError("body", "is nested too deeply") from None


def decode_reply(body: bytes, shape: type[DecodedT]) -> DecodedT:
    """Read what a server answered. Raises DataError when it is not what weft's API answers."""
    try:
        return msgspec.json.decode(body, type=described(shape))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise DataError(f"the answer is not one of weft's API ({error}); is the endpoint right?") from None


def _fold(value: object, shape: inspect.Type) -> object:
    """value with the keys that shape knows, spelled as shape spells them, and without nulls."""
    if isinstance(shape, inspect.UnionType):
        shape = next((each for each in shape.types if not isinstance(each, inspect.NoneType)), shape)
    if isinstance(shape, inspect.StructType) and isinstance(value, dict):
        known = {each.encode_name.lower(): each for each in shape.fields}
        return {
            known[key.lower()].encode_name: _fold(each, known[key.lower()].type)
            for key, each in value.items()
            if each is not None and key.lower() in known
        }
    if isinstance(shape, inspect.DictType) and isinstance(value, dict):
        return _without_nulls(value)
    if isinstance(shape, inspect.ListType | inspect.VarTupleType) and isinstance(value, list):
        return [_fold(each, shape.item_type) for each in value if each is not None]
    return value


def _without_nulls(value: Mapping[object, object]) -> dict[object, object]:
    return {key: each for key, each in value.items() if each is not None}


def _refusal(message: str) -> InvalidValueError:
    matched = _EXPECTED.fullmatch(message)
    if matched is None:
        return InvalidValueError("body", f"cannot be read: {message}")
    field = re.sub(r"\[[^\]]*\]", "", matched["path"] or "").strip(".") or "body"
    wanted = _KINDS.get(matched["wanted"], matched["wanted"])
    if not matched["got"]:
        return InvalidValueError(field, f"must be {wanted}{matched['bound']}")
    got = _KINDS.get(matched["got"], matched["got"])
    if matched["wanted"] == "int" and got == _KINDS["float"]:
        got = "one with a fraction or an exponent"
    return InvalidValueError(field, f"must be {wanted}, not {got}")
