"""OpenSDS's language for what a profile asks of a pool: `capabilities:<pool key>` = `<operator> <value>`."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

from weft.errors import InvalidValueError

ComparedT = TypeVar("ComparedT", float, str)

CAPABILITY_PREFIX = "capabilities:"

_REPETITION = re.compile(r"[*+?{]")
_UNBOUNDED = re.compile(r"\)[*+?{]|\\[1-9]|\(\?")
_MAXIMUM_REPETITIONS = 2

_NUMERIC = {"=", "==", "!=", ">=", "<="}
_TEXTUAL = {"s==", "s!=", "s<", "s<=", "s>", "s>="}
_BOOLEAN = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


@dataclass(frozen=True, slots=True)
class Requirement:
    key: str
    operator: str
    value: str

    def __str__(self) -> str:
        return f"{self.key} {self.operator} {self.value}".replace("  ", " ")

    def met_by(self, capabilities: Mapping[str, str]) -> bool:
        """A pool that does not have the key does not meet the requirement."""
        found = capabilities.get(self.key)
        return found is not None and _holds(found, self.operator, self.value)


def requirements(custom_properties: Mapping[str, str]) -> tuple[Requirement, ...]:
    """The requirements among a profile's custom properties; a key that begins with a colon is skipped."""
    return tuple(
        parse_requirement(key.removeprefix(CAPABILITY_PREFIX), value)
        for key, value in sorted(custom_properties.items())
        if key.startswith(CAPABILITY_PREFIX)
    )


def parse_requirement(key: str, text: str) -> Requirement:
    """`>= 10`, `<is> true`, `<in> pattern`, `<or> a <or> b`, or a bare value for equality without case."""
    operator, _, value = text.strip().partition(" ")
    if operator == "<or>":
        return Requirement(key, operator, value.strip())
    if operator == "<in>":
        _check_pattern(f"{CAPABILITY_PREFIX}{key}", value.strip())
        return Requirement(key, operator, value.strip())
    if operator in _NUMERIC and _number(value) is None:
        raise InvalidValueError(
            f"{CAPABILITY_PREFIX}{key}", f"{text!r} compares with something that is no number"
        )
    if operator == "<is>" and value.strip().lower() not in _BOOLEAN:
        raise InvalidValueError(f"{CAPABILITY_PREFIX}{key}", f"{value!r} is neither true nor false")
    if operator in _NUMERIC | _TEXTUAL | {"<is>"}:
        return Requirement(key, operator, value.strip())
    return Requirement(key, "", text.strip())


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _holds(found: str, operator: str, value: str) -> bool:
    if operator == "":
        return found.lower().split()[:1] == value.lower().split()[:1]
    if operator == "<is>":
        return _BOOLEAN.get(found.lower()) is _BOOLEAN[value.lower()]
    if operator == "<in>":
        return re.search(value, found) is not None
    if operator == "<or>":
        return found in [each.strip() for each in value.split("<or>")]
    if operator in _NUMERIC:
        left, right = _number(found), _number(value)
        return left is not None and right is not None and _compare(left, operator, right)
    return _compare(found, operator.removeprefix("s"), value)


def _check_pattern(field: str, pattern: str) -> None:
    """A regular expression whose matching takes no more than the square of a capability's length.

    Repeated groups and references backwards can take for ever, and a client could keep the scheduler busy with them.
    """
    try:
        re.compile(pattern)
    except re.error as error:
        raise InvalidValueError(field, f"{pattern!r} is not a pattern: {error}") from None
    if len(_REPETITION.findall(pattern)) > _MAXIMUM_REPETITIONS or _UNBOUNDED.search(pattern):
        raise InvalidValueError(
            field,
            f"{pattern!r} repeats a group, refers backwards or repeats more than {_MAXIMUM_REPETITIONS} times",
        )


def _compare(left: ComparedT, operator: str, right: ComparedT) -> bool:
    match operator:
        case "=" | "==":
            return left == right
        case "!=":
            return left != right
        case ">=":
            return left >= right
        case "<=":
            return left <= right
        case ">":
            return left > right
        case _:
            return left < right
