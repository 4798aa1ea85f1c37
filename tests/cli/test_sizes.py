"""Sizes as people write them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weft.cli.sizes import format_size, parse_byte_count, parse_volume_size
from weft.model import GIB
from weft.names import MAXIMUM_VOLUME_SIZE

_SPELLINGS = ("{}", "{}G", "{}GiB", "{} GiB", "{}g", "{}gib", "{}Gi", "{}.0G", "{}.00")
gibs = st.integers(min_value=1, max_value=MAXIMUM_VOLUME_SIZE // GIB)


@given(gibs, st.sampled_from(_SPELLINGS))
def test_every_spelling_of_whole_gib_means_the_same(number: int, spelling: str) -> None:
    assert parse_volume_size(spelling.format(number)) == number * GIB


@given(st.integers(min_value=1, max_value=1023))
def test_other_units_are_taken_when_they_come_to_whole_gib(number: int) -> None:
    assert parse_volume_size(f"{number}TiB") == number * 1024 * GIB
    assert parse_volume_size(f"{number * 1024}MiB") == number * GIB
    assert parse_volume_size(f"{number}.5T") == number * 1024 * GIB + 512 * GIB


@given(st.integers(min_value=0, max_value=10**6), st.integers(min_value=1, max_value=999))
def test_fractions_of_a_gib_are_refused(whole: int, thousandths: int) -> None:
    with pytest.raises(ValueError, match="whole GiB, from 1 to 1048576"):
        parse_volume_size(f"{whole}.{thousandths:03}GiB")


@pytest.mark.parametrize("text", ["0", "0GiB", "1048577", "1M", "9" * 20])
def test_sizes_that_no_volume_can_have_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a size that a volume can have"):
        parse_volume_size(text)


@pytest.mark.parametrize("text", ["10GB", "10gb", "1 TB"])
def test_units_that_two_people_read_in_two_ways_are_refused_with_what_to_write(text: str) -> None:
    with pytest.raises(ValueError, match=r"write 10?[GT]iB or 10?[GT]"):
        parse_volume_size(text)


@given(st.text())
def test_any_text_is_a_size_or_refused_with_a_sentence(text: str) -> None:
    for parse in (parse_volume_size, parse_byte_count):
        try:
            assert parse(text) >= 0
        except ValueError as error:
            assert repr(text) in str(error)  # noqa: PT017 -- both outcomes are right


@given(st.integers(min_value=0, max_value=2**50))
def test_a_plain_number_of_bytes_is_bytes(number: int) -> None:
    assert parse_byte_count(str(number)) == number
    assert parse_byte_count(f"{number}B") == number
    assert parse_byte_count(f"{number}KiB") == number * 1024


def test_half_a_byte_is_refused() -> None:
    assert parse_byte_count("0.5K") == 512
    with pytest.raises(ValueError, match="whole number of bytes"):
        parse_byte_count("0.5")


@given(gibs)
def test_a_volumes_size_is_printed_as_it_can_be_typed(number: int) -> None:
    assert parse_volume_size(format_size(number * GIB)) == number * GIB


def test_sizes_between_are_printed_for_people() -> None:
    assert format_size(0) == "0 GiB"
    assert format_size(4096) == "4096 bytes"
    assert format_size(GIB + GIB // 2) == "1.50 GiB"
