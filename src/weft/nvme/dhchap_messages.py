"""The messages of DH-HMAC-CHAP, carried by Authentication Send and Receive (Base 2.0, 8.13.4 and 8.13.5).

Every message has `encode() -> bytes`; `decode_message` is the other way. What is behind a message is ignored: a
controller fills the host's buffer up.
"""

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import ClassVar, Final, TypeAlias

from weft.nvme.layout import BytesLike, pack

MESSAGE_MAX: Final = 4096
"""Bytes that any message fits in; Linux fetches each with a buffer of so many."""

_COMMON: Final = 0x00
_DH_HMAC_CHAP: Final = 0x01
_PROTOCOL_DH_HMAC_CHAP: Final = 0x01  # AUTHID in a protocol descriptor
_NO_SECURE_CHANNEL: Final = 0

_HEADER: Final = struct.Struct("<BBxxH")
_NEGOTIATE: Final = struct.Struct("<BBxxHBB")
_DESCRIPTOR: Final = struct.Struct("<BxBB30s30s")
_CHALLENGE: Final = struct.Struct("<BBxxHBxBBHI")
_REPLY: Final = struct.Struct("<BBxxHBxBxHI")
_SUCCESS1: Final = struct.Struct("<BBxxHBxB7x")
_SUCCESS2: Final = struct.Struct("<BBxxH10x")
_FAILURE: Final = struct.Struct("<BBxxHBB")

_REASON_FAILED: Final = 0x01


class FailureExplanation(IntEnum):
    """Why authentication failed: the reason code explanation of AUTH_Failure1 and AUTH_Failure2 (Base 2.0, 8.13.4.2)."""

    AUTHENTICATION_FAILED = 0x01
    AUTHENTICATION_PROTOCOL_NOT_USABLE = 0x02
    SECURE_CHANNEL_CONCATENATION_MISMATCH = 0x03
    HASH_FUNCTION_NOT_USABLE = 0x04
    DH_GROUP_NOT_USABLE = 0x05
    INCORRECT_PAYLOAD = 0x06
    INCORRECT_PROTOCOL_MESSAGE = 0x07

    @property
    def text(self) -> str:
        return self.name.replace("_", " ").lower().replace("dh group", "DH group")


class InvalidMessageError(Exception):
    """Inside this package: what came is not a message, and is answered with a failure."""

    def __init__(self, explanation: FailureExplanation) -> None:
        super().__init__(explanation.text)
        self.explanation = explanation


@dataclass(frozen=True, slots=True, kw_only=True)
class Negotiate:
    """AUTH_Negotiate, from the host: which hash functions and DH groups it can use, by their identifiers.

    secure_channel: what SC_C asks for; 0 for authentication alone. dh_hmac_chap: whether it offers this protocol.
    """

    KIND: ClassVar = (_COMMON, 0x00)
    transaction_id: int
    hashes: tuple[int, ...]
    groups: tuple[int, ...]
    secure_channel: int = _NO_SECURE_CHANNEL
    dh_hmac_chap: bool = True

    def encode(self) -> bytes:
        head = pack(_NEGOTIATE, *self.KIND, self.transaction_id, self.secure_channel, 1)
        return head + pack(
            _DESCRIPTOR,
            _PROTOCOL_DH_HMAC_CHAP,
            len(self.hashes),
            len(self.groups),
            bytes(self.hashes),
            bytes(self.groups),
        )

    @classmethod
    def decode(cls, data: BytesLike) -> "Negotiate":
        _, _, transaction_id, secure_channel, count = _unpack(_NEGOTIATE, data)
        hashes = groups = b""
        found = False
        _require(data, _NEGOTIATE.size + count * _DESCRIPTOR.size)
        for position in range(count):
            descriptor = _DESCRIPTOR.unpack_from(data, _NEGOTIATE.size + position * _DESCRIPTOR.size)
            protocol, hash_count, group_count, hash_list, group_list = descriptor
            if protocol == _PROTOCOL_DH_HMAC_CHAP and not found:
                if hash_count > len(hash_list) or group_count > len(group_list):
                    raise InvalidMessageError(FailureExplanation.INCORRECT_PAYLOAD)
                hashes, groups, found = hash_list[:hash_count], group_list[:group_count], True
        return cls(
            transaction_id=transaction_id,
            hashes=tuple(hashes),
            groups=tuple(groups),
            secure_channel=secure_channel,
            dh_hmac_chap=found,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Challenge:
    """DH-HMAC-CHAP_Challenge, from the controller: its choice, C1, S1 and its public DH value, empty with NULL."""

    KIND: ClassVar = (_DH_HMAC_CHAP, 0x01)
    transaction_id: int
    hash: int
    group: int
    sequence_number: int
    challenge: bytes
    public: bytes = b""

    def encode(self) -> bytes:
        head = pack(
            _CHALLENGE,
            *self.KIND,
            self.transaction_id,
            len(self.challenge),
            self.hash,
            self.group,
            len(self.public),
            self.sequence_number,
        )
        return head + self.challenge + self.public

    @classmethod
    def decode(cls, data: BytesLike) -> "Challenge":
        _, _, transaction_id, size, used_hash, group, public_size, sequence_number = _unpack(_CHALLENGE, data)
        challenge, public = _parts(data, _CHALLENGE.size, size, public_size)
        return cls(
            transaction_id=transaction_id,
            hash=used_hash,
            group=group,
            sequence_number=sequence_number,
            challenge=challenge,
            public=public,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """DH-HMAC-CHAP_Reply, from the host: R1 and its public DH value, and C2 and S2 if the controller is to answer."""

    KIND: ClassVar = (_DH_HMAC_CHAP, 0x02)
    transaction_id: int
    response: bytes = field(repr=False)
    challenge: bytes | None = None
    sequence_number: int = 0
    public: bytes = b""

    def encode(self) -> bytes:
        head = pack(
            _REPLY,
            *self.KIND,
            self.transaction_id,
            len(self.response),
            int(self.challenge is not None),
            len(self.public),
            self.sequence_number,
        )
        return head + self.response + (self.challenge or bytes(len(self.response))) + self.public

    @classmethod
    def decode(cls, data: BytesLike) -> "Reply":
        _, _, transaction_id, size, valid, public_size, sequence_number = _unpack(_REPLY, data)
        response, challenge, public = _parts(data, _REPLY.size, size, size, public_size)
        return cls(
            transaction_id=transaction_id,
            response=response,
            challenge=challenge if valid & 1 else None,
            sequence_number=sequence_number,
            public=public,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Success1:
    """DH-HMAC-CHAP_Success1, from the controller: the host is who it says, and R2 if it was asked for."""

    KIND: ClassVar = (_DH_HMAC_CHAP, 0x03)
    transaction_id: int
    response_size: int
    """Bytes of a response with the hash function in use, whether there is one or not."""
    response: bytes | None = field(default=None, repr=False)

    def encode(self) -> bytes:
        valid = int(self.response is not None)
        head = pack(_SUCCESS1, *self.KIND, self.transaction_id, self.response_size, valid)
        return head + (self.response or bytes(self.response_size))

    @classmethod
    def decode(cls, data: BytesLike) -> "Success1":
        _, _, transaction_id, size, valid = _unpack(_SUCCESS1, data)
        response = _parts(data, _SUCCESS1.size, size)[0] if valid & 1 else None
        return cls(transaction_id=transaction_id, response_size=size, response=response)


@dataclass(frozen=True, slots=True, kw_only=True)
class Success2:
    """DH-HMAC-CHAP_Success2, from the host: the controller is who it says, too."""

    KIND: ClassVar = (_DH_HMAC_CHAP, 0x04)
    transaction_id: int

    def encode(self) -> bytes:
        return pack(_SUCCESS2, *self.KIND, self.transaction_id)

    @classmethod
    def decode(cls, data: BytesLike) -> "Success2":
        _, _, transaction_id = _unpack(_SUCCESS2, data)
        return cls(transaction_id=transaction_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure1:
    """AUTH_Failure1, from the controller."""

    KIND: ClassVar = (_COMMON, 0xF1)
    transaction_id: int
    explanation: int

    def encode(self) -> bytes:
        return pack(_FAILURE, *self.KIND, self.transaction_id, _REASON_FAILED, self.explanation)

    @classmethod
    def decode(cls, data: BytesLike) -> "Failure1":
        _, _, transaction_id, _, explanation = _unpack(_FAILURE, data)
        return cls(transaction_id=transaction_id, explanation=explanation)


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure2:
    """AUTH_Failure2, from the host."""

    KIND: ClassVar = (_COMMON, 0xF0)
    transaction_id: int
    explanation: int

    def encode(self) -> bytes:
        return pack(_FAILURE, *self.KIND, self.transaction_id, _REASON_FAILED, self.explanation)

    @classmethod
    def decode(cls, data: BytesLike) -> "Failure2":
        _, _, transaction_id, _, explanation = _unpack(_FAILURE, data)
        return cls(transaction_id=transaction_id, explanation=explanation)


HostMessage: TypeAlias = Negotiate | Reply | Success2 | Failure2
ControllerMessage: TypeAlias = Challenge | Success1 | Failure1
Message: TypeAlias = HostMessage | ControllerMessage

_DECODERS: Final[Mapping[tuple[int, int], Callable[[BytesLike], Message]]] = {
    Negotiate.KIND: Negotiate.decode,
    Challenge.KIND: Challenge.decode,
    Reply.KIND: Reply.decode,
    Success1.KIND: Success1.decode,
    Success2.KIND: Success2.decode,
    Failure1.KIND: Failure1.decode,
    Failure2.KIND: Failure2.decode,
}


def decode_message(data: BytesLike) -> Message:
    """Raises InvalidMessageError."""
    kind, identifier, _ = _unpack(_HEADER, data)
    decoder = _DECODERS.get((kind, identifier))
    if decoder is None:
        raise InvalidMessageError(FailureExplanation.INCORRECT_PROTOCOL_MESSAGE)
    return decoder(data)


def _unpack(layout: struct.Struct, data: BytesLike) -> tuple[int, ...]:
    _require(data, layout.size)
    return layout.unpack_from(data)


def _parts(data: BytesLike, offset: int, *sizes: int) -> tuple[bytes, ...]:
    """Pieces that lie one behind the other from offset on."""
    _require(data, offset + sum(sizes))
    found = []
    for size in sizes:
        found.append(bytes(data[offset : offset + size]))
        offset += size
    return tuple(found)


def _require(data: BytesLike, size: int) -> None:
    if len(data) < size:
        raise InvalidMessageError(FailureExplanation.INCORRECT_PAYLOAD)
