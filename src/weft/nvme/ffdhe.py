"""The Diffie-Hellman groups of DH-HMAC-CHAP: finite fields over the safe primes of RFC 7919, or none (Base 2.0, 8.13.5.2)."""

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from functools import cache
from typing import Final

_GENERATOR: Final = 2
_GUARD_BITS: Final = 64


class DhGroup(IntEnum):
    """Groups, by their identifiers on the wire. NULL: no exchange, and the challenge alone protects the key."""

    NULL = 0
    FFDHE2048 = 1
    FFDHE3072 = 2
    FFDHE4096 = 3
    FFDHE6144 = 4
    FFDHE8192 = 5

    @property
    def size(self) -> int:
        """Bytes of a public value and of the session key."""
        return _PARAMETERS[self].bits // 8 if self else 0

    @property
    def prime(self) -> int:
        """The field's prime p. Not for NULL."""
        return _prime(_PARAMETERS[self])


@dataclass(frozen=True, slots=True)
class _Parameters:
    """bits: of p. offset: X in RFC 7919's formula for p. exponent_bits: of a private exponent, at least."""

    bits: int
    offset: int
    exponent_bits: int


# RFC 7919, appendix A.
_PARAMETERS: Final[Mapping[DhGroup, _Parameters]] = {
    DhGroup.FFDHE2048: _Parameters(2048, 560316, 225),
    DhGroup.FFDHE3072: _Parameters(3072, 2625351, 275),
    DhGroup.FFDHE4096: _Parameters(4096, 5736041, 325),
    DhGroup.FFDHE6144: _Parameters(6144, 15705020, 375),
    DhGroup.FFDHE8192: _Parameters(8192, 10965728, 400),
}


@cache
def _prime(parameters: _Parameters) -> int:
    """p = 2^b - 2^(b-64) + {[2^(b-130) e] + X} 2^64 - 1 (RFC 7919, appendix A)."""
    bits = parameters.bits
    middle = _euler(bits - 130) + parameters.offset
    return (1 << bits) - (1 << bits - 64) + (middle << 64) - 1


def _euler(bits: int) -> int:
    """The number e times 2^bits, rounded down: the sum of 1/k!."""
    term = total = 1 << bits + _GUARD_BITS
    divisor = 1
    while term:
        term //= divisor
        total += term
        divisor += 1
    return total >> _GUARD_BITS


class DhExchange:
    """One side's half of an exchange: a private exponent that is used once."""

    def __init__(self, group: DhGroup, random_bytes: Callable[[int], bytes] = secrets.token_bytes) -> None:
        """group: not NULL."""
        self.group = group
        size = _PARAMETERS[group].exponent_bits // 8 + 1
        self._exponent = 1 << 8 * size | int.from_bytes(random_bytes(size), "big")

    @property
    def public(self) -> bytes:
        """What the other side gets; big-endian, as long as the prime."""
        value = pow(_GENERATOR, self._exponent, self.group.prime)
        return value.to_bytes(self.group.size, "big")

    def session_key(self, public: bytes) -> bytes | None:
        """What both sides share, with leading zeros; None if the other side's public value is none of the group's."""
        value, prime = int.from_bytes(public, "big"), self.group.prime
        if len(public) != self.group.size or not 1 < value < prime - 1:
            return None
        return pow(value, self._exponent, prime).to_bytes(self.group.size, "big")
