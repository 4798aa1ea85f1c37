"""Which pool a volume is made in, and OpenSDS's language for what a profile asks of a pool."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control.control_plane import make_pool
from weft.control.requirements import Requirement, parse_requirement, requirements
from weft.control.schedule import PlacementRequest, choose
from weft.errors import InvalidValueError, NoSpaceError, UnavailableError
from weft.model import GIB, PoolId, Protocol, StateStatus
from weft.views import PoolView

SMALL = PoolView(
    pool=make_pool(id="small", name="small"),
    status=StateStatus.AVAILABLE,
    total=10 * GIB,
    free=0,
    booked=8 * GIB,
)
LARGE = PoolView(
    pool=make_pool(id="large", name="large"),
    status=StateStatus.AVAILABLE,
    total=10 * GIB,
    free=0,
    booked=4 * GIB,
)
ASKED = PlacementRequest(size=GIB, availability_zone="default")


def test_the_pool_with_the_most_room_is_chosen_whatever_the_order() -> None:
    assert choose([SMALL, LARGE], ASKED) is LARGE
    assert choose([LARGE, SMALL], ASKED) is LARGE


def test_equal_pools_are_chosen_between_in_the_same_way_each_time() -> None:
    twin = replace(LARGE, pool=make_pool(id="other", name="other"))
    assert choose([twin, LARGE], ASKED) == choose([LARGE, twin], ASKED)


def test_room_is_what_was_promised_taken_from_what_may_be_promised() -> None:
    assert LARGE.room == 6 * GIB
    assert replace(LARGE, pool=make_pool(over_commit=2.5)).room == 21 * GIB
    assert replace(LARGE, booked=11 * GIB).room == 0


def test_the_last_byte_of_room_can_be_used_and_not_one_more() -> None:
    assert choose([LARGE, SMALL], replace(ASKED, size=6 * GIB)) is LARGE
    with pytest.raises(
        NoSpaceError,
        match=r"no pool has room for 7 GiB: large has room for 6\.0 GiB more; small has room for 2\.0 GiB more",
    ):
        choose([LARGE, SMALL], replace(ASKED, size=7 * GIB))


@pytest.mark.parametrize(
    ("pool", "request_", "refusal"),
    [
        ({}, {"availability_zone": "az2"}, "is in availability zone default"),
        ({"availability_zone": "az2"}, {}, "is in availability zone az2"),
        ({"protocol": Protocol.ISCSI}, {"protocol": Protocol.NVMEOF}, "serves iscsi, not nvmeof"),
        ({"multi_attach": False}, {"multi_attach": True}, "does not let several hosts use a volume"),
        (
            {"capabilities": {"diskType": "hdd"}},
            {"requirements": (Requirement("diskType", "s==", "ssd"),)},
            "does not meet diskType s== ssd",
        ),
        ({}, {"requirements": (Requirement("iops", "", "5"),)}, "does not meet iops 5"),
    ],
)
def test_a_pool_that_does_not_fit_is_passed_over_with_the_reason(
    pool: dict[str, object], request_: dict[str, object], refusal: str
) -> None:
    unfit = replace(LARGE, pool=make_pool(name="unfit", **pool))
    asked = replace(ASKED, **request_)  # type: ignore[arg-type]
    with pytest.raises(InvalidValueError, match=f"volume: no pool fits: unfit {refusal}"):
        choose([unfit], asked)


def test_a_pool_that_is_not_available_gets_no_volume_and_its_client_may_try_again() -> None:
    for status, reason in ((StateStatus.PENDING, ""), (StateStatus.ERROR, "not mounted")):
        dark = replace(LARGE, status=status, reason=reason)
        assert choose([dark, SMALL], ASKED) is SMALL
        for full in ([], [SMALL]):
            said = f"large is not available .{reason or 'not looked at yet'}.*; try again"
            with pytest.raises(UnavailableError, match=said):
                choose([dark, *full], replace(ASKED, size=5 * GIB))
        with pytest.raises(InvalidValueError, match="large is in availability zone default"):
            choose([dark], replace(ASKED, availability_zone="az2"))


def test_a_pool_that_was_asked_for_by_name_is_the_only_one_considered() -> None:
    assert choose([LARGE, SMALL], replace(ASKED, pool_id=PoolId("small"))) is SMALL
    with pytest.raises(NoSpaceError, match=r"small has room for 2\.0 GiB"):
        choose([LARGE, SMALL], replace(ASKED, pool_id=PoolId("small"), size=3 * GIB))
    with pytest.raises(InvalidValueError, match="poolId: there is no pool x"):
        choose([LARGE], replace(ASKED, pool_id=PoolId("x")))


def test_any_zone_will_do_when_none_is_asked_for() -> None:
    far = replace(LARGE, pool=make_pool(availability_zone="az2"))
    assert choose([far], replace(ASKED, availability_zone=None)) is far


def test_without_pools_there_is_no_volume() -> None:
    with pytest.raises(InvalidValueError, match="there are no pools"):
        choose([], ASKED)


@pytest.mark.parametrize(
    ("text", "meets", "fails"),
    [
        ("= 10", ["10", "10.0"], ["11", "x", ""]),
        ("== 10", ["10"], ["9"]),
        ("!= 10", ["9", "11"], ["10", "10.0", "x"]),
        (">= 10", ["10", "10.5"], ["9", "x"]),
        ("<= 10", ["10", "-1"], ["11"]),
        ("s== abc", ["abc"], ["ABC", "abcd"]),
        ("s!= abc", ["abd"], ["abc"]),
        ("s< b", ["a"], ["b", "c"]),
        ("s<= b", ["a", "b"], ["c"]),
        ("s> b", ["c"], ["a", "b"]),
        ("s>= b", ["b", "c"], ["a"]),
        ("<is> true", ["true", "True", "1", "yes"], ["false", "0", "no", "maybe"]),
        ("<is> False", ["false", "0", "no"], ["true", "maybe"]),
        ("<in> ^nv.e$", ["nvme"], ["nvme2", "x"]),
        ("<in> ss", ["ssd"], ["hdd"]),
        ("<or> ssd <or> nvme", ["ssd", "nvme"], ["hdd", "ssd nvme", "s"]),
        ("ssd", ["ssd", "SSD", "ssd fast"], ["hdd", "ssds", ""]),
        ("Thin and more", ["thin", "THIN pool"], ["thick"]),
        ("", ["", "  "], ["x"]),
    ],
)
def test_each_operator_holds_for_what_it_should(text: str, meets: list[str], fails: list[str]) -> None:
    requirement = parse_requirement("key", text)
    assert [value for value in meets if not requirement.met_by({"key": value})] == []
    assert [value for value in fails if requirement.met_by({"key": value})] == []
    assert not requirement.met_by({"another": meets[0]})


@pytest.mark.parametrize(
    ("text", "refusal"),
    [
        (">= many", "compares with something that is no number"),
        ("=", "compares with something that is no number"),
        ("<is> maybe", "is neither true nor false"),
        ("<in> (", "is not a pattern"),
        ("<in> (a+)+$", "repeats a group"),
        ("<in> .*.*.*x", "more than 2 times"),
        (r"<in> (a)\1", "refers backwards"),
    ],
)
def test_a_requirement_that_can_never_be_understood_is_refused_at_once(text: str, refusal: str) -> None:
    with pytest.raises(InvalidValueError, match=f"capabilities:key: .*{refusal}"):
        parse_requirement("key", text)


def test_only_custom_properties_about_capabilities_are_requirements() -> None:
    properties = {"capabilities:b": "1", "capabilities:a": ">= 2", "colour": "red", ":capabilities:c": "x"}
    assert requirements(properties) == (Requirement("a", ">=", "2"), Requirement("b", "", "1"))


@given(st.text(max_size=20), st.text(max_size=20))
def test_any_text_is_a_requirement_or_refused_and_any_value_meets_it_or_not(text: str, value: str) -> None:
    try:
        requirement = parse_requirement("key", text)
    except InvalidValueError:
        return
    assert requirement.met_by({"key": value}) in {True, False}
