"""What is proven in DH-HMAC-CHAP, and how: keys, the choice of functions and groups, and the responses (Base 2.0, 8.13.5)."""

import hashlib
import hmac
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from weft.nvme.dhchap_key import DhChapHash, DhChapKey
from weft.nvme.dhchap_messages import FailureExplanation, InvalidMessageError
from weft.nvme.ffdhe import DhExchange, DhGroup

RandomBytes = Callable[[int], bytes]

_NUMBERS: Final = struct.Struct("<IHB")  # sequence number, T_ID, SC_C
_NO_SECURE_CHANNEL: Final = 0
_SEQUENCE_NUMBER_MAX: Final = 2**32 - 1


@dataclass(frozen=True, slots=True)
class DhChapKeys:
    """A host's key and, to prove the controller to the host, the controller's."""

    host: DhChapKey
    controller: DhChapKey | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DhChapPolicy:
    """What may be used, the preferred first; only a controller has a choice.

    A larger group costs each queue of each host that connects more time of the processor, 8192 bits twenty times as
    much as 2048; that protects a key of 32 random bytes no better.
    """

    hashes: tuple[DhChapHash, ...] = (DhChapHash.SHA_512, DhChapHash.SHA_384, DhChapHash.SHA_256)
    groups: tuple[DhGroup, ...] = (
        DhGroup.FFDHE2048,
        DhGroup.FFDHE3072,
        DhGroup.FFDHE4096,
        DhGroup.FFDHE6144,
        DhGroup.FFDHE8192,
        DhGroup.NULL,
    )


ANY: Final = DhChapPolicy()


@dataclass(frozen=True, slots=True, kw_only=True)
class Transaction:
    """What both sides know between Challenge and Success1."""

    keys: DhChapKeys
    host_nqn: str
    subsystem_nqn: str
    transaction_id: int
    hash: DhChapHash
    session_key: bytes | None = field(default=None, repr=False)

    def host_response(self, challenge: bytes, sequence_number: int) -> bytes:
        """R1, what the host proves itself with."""
        key = self.keys.host.transformed(self.host_nqn)
        identities = f"HostHost{self.host_nqn}\0{self.subsystem_nqn}"
        return self._response(key, challenge, sequence_number, identities)

    def controller_response(self, key: DhChapKey, challenge: bytes, sequence_number: int) -> bytes:
        """R2, what the controller proves itself with."""
        identities = f"Controller{self.subsystem_nqn}\0{self.host_nqn}"
        return self._response(key.transformed(self.subsystem_nqn), challenge, sequence_number, identities)

    def _response(self, key: bytes, challenge: bytes, sequence_number: int, identities: str) -> bytes:
        algorithm = self.hash.algorithm
        if self.session_key is not None:
            session = hashlib.new(algorithm, self.session_key).digest()
            challenge = hmac.digest(session, challenge, algorithm)
        numbers = _NUMBERS.pack(sequence_number, self.transaction_id, _NO_SECURE_CHANNEL)
        return hmac.digest(key, challenge + numbers + identities.encode(), algorithm)


def session_key_of(exchange: DhExchange | None, public: bytes) -> bytes | None:
    """None without an exchange. Raises InvalidMessageError for a public value that cannot be one."""
    if exchange is None:
        if public:
            raise InvalidMessageError(FailureExplanation.INCORRECT_PAYLOAD)
        return None
    key = exchange.session_key(public)
    if key is None:
        raise InvalidMessageError(FailureExplanation.INCORRECT_PAYLOAD)
    return key


def first_sequence_number(random_bytes: RandomBytes) -> int:
    """Random, and not 0, which has a meaning of its own."""
    return int.from_bytes(random_bytes(4), "little") or 1


def next_sequence_number(number: int) -> int:
    """Those that follow, again without 0."""
    return number % _SEQUENCE_NUMBER_MAX + 1
