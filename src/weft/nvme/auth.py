"""DH-HMAC-CHAP: a host proves to a controller that it has a key, and if asked the controller to the host (Base 2.0, 8.13.5).

    host                                  controller
    Authentication Send     Negotiate  -> ControllerAuthentication.receive
    Authentication Receive             <- next_message: Challenge
    Send                    Reply      -> receive
    Receive                            <- next_message: Success1, with the controller's proof if the host wanted one
    Send                    Success2   -> receive, only after a proof

Either side may end it by a failure message. It runs on every queue, and again on a live one when the host wishes so.
Nothing here concatenates a secure channel (TLS) to it: who asks for that is refused.
"""

import hmac
import secrets
from collections.abc import Callable
from dataclasses import replace
from enum import Enum, auto
from typing import Final

from weft.nvme.dhchap_key import DhChapHash
from weft.nvme.dhchap_messages import (
    Challenge,
    Failure1,
    Failure2,
    FailureExplanation,
    InvalidMessageError,
    Message,
    Negotiate,
    Reply,
    Success1,
    Success2,
    decode_message,
)
from weft.nvme.dhchap_proof import (
    ANY,
    DhChapKeys,
    DhChapPolicy,
    RandomBytes,
    Transaction,
    first_sequence_number,
    next_sequence_number,
    session_key_of,
)
from weft.nvme.errors import LocalProtocolError
from weft.nvme.ffdhe import DhExchange, DhGroup
from weft.nvme.layout import BytesLike

NEGOTIATIONS_MAX: Final = 4
"""How often a host may begin that has not authenticated: each time costs the controller a DH exchange."""


class _Step(Enum):
    """What a controller waits for: a message of the host's, or that the host fetches one."""

    NEGOTIATE = auto()
    FETCH_CHALLENGE = auto()
    REPLY = auto()
    FETCH_SUCCESS1 = auto()
    SUCCESS2 = auto()
    FETCH_FAILURE1 = auto()
    OVER = auto()  # it failed, and both know


class ControllerAuthentication:
    """The controller's side on one queue: `receive` what the host sends, give it `next_message` when it fetches.

    Whatever comes, nothing is raised: a failure is told to the host, and then the connection is to be closed (`over`).
    """

    def __init__(
        self,
        *,
        host_nqn: str,
        subsystem_nqn: str,
        keys: Callable[[], DhChapKeys],
        policy: DhChapPolicy = ANY,
        random_bytes: RandomBytes = secrets.token_bytes,
    ) -> None:
        """keys: asked each time that the host begins, so that a new key counts from then on."""
        self.authenticated = False
        """The host has proven who it is; a live connection stays so while it authenticates again."""
        self.failure: FailureExplanation | None = None
        """Why it failed last."""
        self.begun = False
        """The host has tried."""
        self.wrong_key = False
        """It failed because the two sides have different keys, or one lacks the controller's."""
        self._host_nqn = host_nqn
        self._subsystem_nqn = subsystem_nqn
        self._keys = keys
        self._policy = policy
        self._random = random_bytes
        self._step = _Step.NEGOTIATE
        self._negotiations = 0
        self._transaction: Transaction
        self._transaction_id = 0
        self._group = DhGroup.NULL
        self._exchange: DhExchange | None = None
        self._challenge = b""
        self._sequence_number = first_sequence_number(random_bytes)
        self._proof: bytes | None = None

    @property
    def over(self) -> bool:
        """It failed, and the host has been told or has told us."""
        return self._step is _Step.OVER

    def receive(self, data: BytesLike) -> None:
        """Take a message of the host's."""
        if self._step is _Step.OVER:
            return
        try:
            self._take(decode_message(data))
        except InvalidMessageError as error:
            self._fail(error.explanation)

    def next_message(self) -> bytes:
        """What the host is to get now."""
        match self._step:
            case _Step.FETCH_CHALLENGE:
                self._step = _Step.REPLY
                return self._make_challenge()
            case _Step.FETCH_SUCCESS1:
                self._conclude()
                size = self._transaction.hash.size
                message = Success1(
                    transaction_id=self._transaction_id, response_size=size, response=self._proof
                )
                return message.encode()
            case _Step.NEGOTIATE | _Step.REPLY | _Step.SUCCESS2:
                self._fail(FailureExplanation.INCORRECT_PROTOCOL_MESSAGE)
            case _:
                pass
        self._step = _Step.OVER
        explanation = self.failure or FailureExplanation.AUTHENTICATION_FAILED
        return Failure1(transaction_id=self._transaction_id, explanation=explanation).encode()

    def _take(self, message: Message) -> None:
        if isinstance(message, Negotiate):
            self._negotiate(message)
            return
        if message.transaction_id != self._transaction_id:
            raise InvalidMessageError(FailureExplanation.INCORRECT_PAYLOAD)
        match message:
            case Reply() if self._step is _Step.REPLY:
                self._check(message)
            case Success2() if self._step is _Step.SUCCESS2:
                self._succeed()
            case Failure2():
                self._refused_by_host(message)
            case _:
                raise InvalidMessageError(FailureExplanation.INCORRECT_PROTOCOL_MESSAGE)

    def _negotiate(self, message: Negotiate) -> None:
        self.begun, self.wrong_key = True, False
        self._transaction_id = message.transaction_id
        self._negotiations += 1
        if not self.authenticated and self._negotiations > NEGOTIATIONS_MAX:
            raise InvalidMessageError(FailureExplanation.INCORRECT_PROTOCOL_MESSAGE)
        if message.secure_channel:
            raise InvalidMessageError(FailureExplanation.SECURE_CHANNEL_CONCATENATION_MISMATCH)
        if not message.dh_hmac_chap:
            raise InvalidMessageError(FailureExplanation.AUTHENTICATION_PROTOCOL_NOT_USABLE)
        used_hash = next((each for each in self._policy.hashes if each in message.hashes), None)
        if used_hash is None:
            raise InvalidMessageError(FailureExplanation.HASH_FUNCTION_NOT_USABLE)
        group = next((each for each in self._policy.groups if each in message.groups), None)
        if group is None:
            raise InvalidMessageError(FailureExplanation.DH_GROUP_NOT_USABLE)
        self._group = group
        self._transaction = Transaction(
            keys=self._keys(),
            host_nqn=self._host_nqn,
            subsystem_nqn=self._subsystem_nqn,
            transaction_id=self._transaction_id,
            hash=used_hash,
        )
        self._step = _Step.FETCH_CHALLENGE

    def _make_challenge(self) -> bytes:
        used_hash = self._transaction.hash
        self._challenge = self._random(used_hash.size)
        self._sequence_number = next_sequence_number(self._sequence_number)
        self._exchange = DhExchange(self._group, self._random) if self._group else None
        return Challenge(
            transaction_id=self._transaction_id,
            hash=used_hash,
            group=self._group,
            sequence_number=self._sequence_number,
            challenge=self._challenge,
            public=self._exchange.public if self._exchange else b"",
        ).encode()

    def _check(self, reply: Reply) -> None:
        if len(reply.response) != self._transaction.hash.size:
            raise InvalidMessageError(FailureExplanation.INCORRECT_PAYLOAD)
        session_key = session_key_of(self._exchange, reply.public)
        transaction = replace(self._transaction, session_key=session_key)
        expected = transaction.host_response(self._challenge, self._sequence_number)
        if not hmac.compare_digest(expected, reply.response):
            self.wrong_key = True
            raise InvalidMessageError(FailureExplanation.AUTHENTICATION_FAILED)
        self._proof = None
        # S2 0 says that C2 only goes into a TLS key, and the controller has nothing to prove.
        if reply.challenge is not None and reply.sequence_number:
            key = transaction.keys.controller
            if key is None:
                self.wrong_key = True
                raise InvalidMessageError(FailureExplanation.AUTHENTICATION_FAILED)
            self._proof = transaction.controller_response(key, reply.challenge, reply.sequence_number)
        self._step = _Step.FETCH_SUCCESS1

    def _conclude(self) -> None:
        self._exchange = None
        if self._proof is None:
            self._succeed()
        else:
            self._step = _Step.SUCCESS2

    def _succeed(self) -> None:
        self.authenticated = True
        self._negotiations = 0
        self._step = _Step.NEGOTIATE

    def _refused_by_host(self, message: Failure2) -> None:
        self.wrong_key = (
            self._step is _Step.SUCCESS2 and message.explanation == FailureExplanation.AUTHENTICATION_FAILED
        )
        self._fail(_explanation(message.explanation))
        self._step = _Step.OVER

    def _fail(self, explanation: FailureExplanation) -> None:
        self.authenticated = False
        self.failure = explanation
        self._step = _Step.FETCH_FAILURE1


class AuthenticationFault(Enum):
    """Whose proof failed, as a host sees it."""

    HOST = auto()  # the controller does not accept the host's key
    CONTROLLER = auto()  # the controller did not prove that it has its key
    PROTOCOL = auto()  # the two did not agree on how, or one of them broke the protocol


class AuthenticationError(Exception):
    """Authentication failed. `last_words`: a message to send to the controller before the connection is closed."""

    def __init__(
        self, fault: AuthenticationFault, explanation: FailureExplanation, last_words: bytes | None
    ) -> None:
        super().__init__(explanation.text)
        self.fault = fault
        self.explanation = explanation
        self.last_words = last_words


class HostAuthentication:
    """The host's side on one queue: send `negotiate`, fetch and `answer` the challenge, fetch and `conclude`.

    With a controller's key among the keys the controller must prove itself.
    """

    def __init__(
        self,
        *,
        host_nqn: str,
        subsystem_nqn: str,
        keys: DhChapKeys,
        transaction_id: int,
        policy: DhChapPolicy = ANY,
        random_bytes: RandomBytes = secrets.token_bytes,
    ) -> None:
        self._host_nqn = host_nqn
        self._subsystem_nqn = subsystem_nqn
        self._keys = keys
        self._transaction_id = transaction_id
        self._policy = policy
        self._random = random_bytes
        self._hash_size: int | None = None
        self._expected_proof: bytes | None = None

    def negotiate(self) -> bytes:
        return Negotiate(
            transaction_id=self._transaction_id,
            hashes=tuple(sorted(self._policy.hashes)),
            groups=tuple(sorted(self._policy.groups)),
        ).encode()

    def answer(self, data: BytesLike) -> bytes:
        """The reply to the controller's challenge. Raises AuthenticationError."""
        try:
            challenge = self._decode(data)
            if not isinstance(challenge, Challenge):
                raise InvalidMessageError(FailureExplanation.INCORRECT_PROTOCOL_MESSAGE)
            return self._reply(challenge)
        except InvalidMessageError as error:
            raise self._error(AuthenticationFault.PROTOCOL, error.explanation) from None

    def conclude(self, data: BytesLike) -> bytes | None:
        """Success2 to send, None if nothing more is due. Raises AuthenticationError."""
        if self._hash_size is None:
            raise LocalProtocolError("There was no challenge yet.")
        try:
            success = self._decode(data)
            if not isinstance(success, Success1):
                raise InvalidMessageError(FailureExplanation.INCORRECT_PROTOCOL_MESSAGE)
        except InvalidMessageError as error:
            raise self._error(AuthenticationFault.PROTOCOL, error.explanation) from None
        if self._expected_proof is None:
            return None
        if success.response is None or not hmac.compare_digest(self._expected_proof, success.response):
            raise self._error(AuthenticationFault.CONTROLLER, FailureExplanation.AUTHENTICATION_FAILED)
        return Success2(transaction_id=self._transaction_id).encode()

    def _reply(self, challenge: Challenge) -> bytes:
        if challenge.hash not in self._policy.hashes:
            raise InvalidMessageError(FailureExplanation.HASH_FUNCTION_NOT_USABLE)
        if challenge.group not in self._policy.groups:
            raise InvalidMessageError(FailureExplanation.DH_GROUP_NOT_USABLE)
        used_hash, group = DhChapHash(challenge.hash), DhGroup(challenge.group)
        if len(challenge.challenge) != used_hash.size:
            raise InvalidMessageError(FailureExplanation.INCORRECT_PAYLOAD)
        exchange = DhExchange(group, self._random) if group else None
        transaction = Transaction(
            keys=self._keys,
            host_nqn=self._host_nqn,
            subsystem_nqn=self._subsystem_nqn,
            transaction_id=self._transaction_id,
            hash=used_hash,
            session_key=session_key_of(exchange, challenge.public),
        )
        self._hash_size = used_hash.size
        reply = Reply(
            transaction_id=self._transaction_id,
            response=transaction.host_response(challenge.challenge, challenge.sequence_number),
            public=exchange.public if exchange else b"",
        )
        return self._challenged(reply, transaction).encode()

    def _challenged(self, reply: Reply, transaction: Transaction) -> Reply:
        key = self._keys.controller
        if key is None:
            return reply
        challenge = self._random(transaction.hash.size)
        sequence_number = first_sequence_number(self._random)
        self._expected_proof = transaction.controller_response(key, challenge, sequence_number)
        return replace(reply, challenge=challenge, sequence_number=sequence_number)

    def _decode(self, data: BytesLike) -> Message:
        message = decode_message(data)
        if isinstance(message, Failure1):
            explanation = _explanation(message.explanation)
            refused = explanation is FailureExplanation.AUTHENTICATION_FAILED
            fault = AuthenticationFault.HOST if refused else AuthenticationFault.PROTOCOL
            raise AuthenticationError(fault, explanation, None)
        if message.transaction_id != self._transaction_id:
            raise InvalidMessageError(FailureExplanation.INCORRECT_PAYLOAD)
        return message

    def _error(self, fault: AuthenticationFault, explanation: FailureExplanation) -> AuthenticationError:
        last_words = Failure2(transaction_id=self._transaction_id, explanation=explanation).encode()
        return AuthenticationError(fault, explanation, last_words)


def _explanation(value: int) -> FailureExplanation:
    try:
        return FailureExplanation(value)
    except ValueError:
        return FailureExplanation.AUTHENTICATION_FAILED
