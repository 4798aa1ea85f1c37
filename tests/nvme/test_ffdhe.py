"""The groups of RFC 7919: that the primes are those, and that two sides come to one key."""

import random

import pytest

from weft.nvme.ffdhe import DhExchange, DhGroup

GROUPS = [group for group in DhGroup if group]

# The last 64 bits before the 64 ones that end every prime, and the bits that all of them begin with: RFC 7919, appendix A.
ENDS = {
    DhGroup.FFDHE2048: "886b423861285c97",
    DhGroup.FFDHE3072: "25e41d2b66c62e37",
    DhGroup.FFDHE4096: "c68a007e5e655f6a",
    DhGroup.FFDHE6144: "a40e329cd0e40e65",
    DhGroup.FFDHE8192: "d68c8bb7c5c6424c",
}
BEGIN = "ffffffffffffffffadf85458a2bb4a9aafdc5620273d3cf1d8b9c583ce2d3695"


def is_probably_prime(number: int, rounds: int = 2) -> bool:
    """Miller and Rabin's test."""
    odd, twos = number - 1, 0
    while odd % 2 == 0:
        odd, twos = odd // 2, twos + 1
    for _ in range(rounds):
        value = pow(random.randrange(2, number - 1), odd, number)
        if value in {1, number - 1}:
            continue
        for _ in range(twos - 1):
            value = value * value % number
            if value == number - 1:
                break
        else:
            return False
    return True


@pytest.mark.parametrize("group", GROUPS)
def test_the_primes_are_those_of_the_rfc(group: DhGroup) -> None:
    written = f"{group.prime:x}"
    assert len(written) == group.size * 2
    assert written.startswith(BEGIN)
    assert written.endswith(ENDS[group] + "f" * 16)


@pytest.mark.parametrize("group", [DhGroup.FFDHE2048, DhGroup.FFDHE3072])
def test_the_primes_are_safe(group: DhGroup) -> None:
    assert is_probably_prime(group.prime)
    assert is_probably_prime(group.prime // 2)


@pytest.mark.slow
@pytest.mark.parametrize("group", [DhGroup.FFDHE4096, DhGroup.FFDHE6144, DhGroup.FFDHE8192])
def test_the_large_primes_are_safe(group: DhGroup) -> None:
    assert is_probably_prime(group.prime, rounds=1)
    assert is_probably_prime(group.prime // 2, rounds=1)


@pytest.mark.parametrize("group", GROUPS)
def test_both_sides_come_to_the_same_key(group: DhGroup) -> None:
    one, other = DhExchange(group), DhExchange(group)
    assert one.public != other.public
    key = one.session_key(other.public)
    assert key == other.session_key(one.public)
    assert key is not None
    assert len(key) == len(one.public) == group.size


def test_a_key_keeps_its_leading_zeros() -> None:
    group = DhGroup.FFDHE2048
    # With 2 from the other side the key is one's own public value, whatever that begins with.
    for number in range(64):
        exchange = DhExchange(group, lambda size, number=number: number.to_bytes(size, "big"))  # type: ignore[misc]
        key = exchange.session_key((2).to_bytes(group.size, "big"))
        assert key == exchange.public
        assert len(key) == group.size


@pytest.mark.parametrize("group", GROUPS)
def test_values_that_would_give_the_key_away_are_refused(group: DhGroup) -> None:
    exchange = DhExchange(group)
    for value in (0, 1, group.prime - 1, group.prime, group.prime + 1):
        assert exchange.session_key(value.to_bytes(group.size, "big")) is None
    assert exchange.session_key(b"") is None
    assert exchange.session_key(exchange.public + b"\0") is None
    assert exchange.session_key(b"\0" + exchange.public) is None
    assert exchange.session_key(exchange.public[1:]) is None
