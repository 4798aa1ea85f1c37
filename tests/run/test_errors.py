"""Errors that cross from one process to another stay what they are."""

import pytest

from weft.errors import (
    CommandError,
    ConflictError,
    DataError,
    InvalidValueError,
    NoSpaceError,
    NotFoundError,
    PermissionDeniedError,
    RevisionConflictError,
    UnauthenticatedError,
    UnavailableError,
    UnsupportedError,
    WeftError,
    error_of,
    kind_of,
)


@pytest.mark.parametrize(
    "kind",
    [
        ConflictError,
        DataError,
        NoSpaceError,
        NotFoundError,
        PermissionDeniedError,
        UnauthenticatedError,
        UnavailableError,
        UnsupportedError,
        WeftError,
    ],
)
def test_an_error_is_made_again_from_its_kind_and_text(kind: type[WeftError]) -> None:
    again = error_of(kind_of(kind("volume v is away")), "volume v is away")
    assert type(again) is kind
    assert str(again) == "volume v is away"


def test_an_invalid_value_keeps_its_field() -> None:
    error = InvalidValueError("size", "must be whole GiB")
    again = error_of(kind_of(error), str(error), error.field)
    assert isinstance(again, InvalidValueError)
    assert (again.field, again.reason, str(again)) == ("size", "must be whole GiB", str(error))


def test_a_finer_class_travels_as_the_kind_that_it_is_of() -> None:
    assert kind_of(RevisionConflictError("again")) == "conflict"
    assert type(error_of(kind_of(CommandError(("lvs",), 5, "no")), "lvs failed")) is WeftError


def test_an_unknown_kind_is_an_error_all_the_same() -> None:
    assert type(error_of("ofANewerWeft", "something")) is WeftError
