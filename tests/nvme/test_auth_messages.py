"""DH-HMAC-CHAP against everything that is not a peer: no wrong message lets anybody in."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nvme.auth_pair import BOTH_WAYS, ONE_WAY, QUICK, controller_of, converse, failed_1, host_of
from weft.nvme.auth import AuthenticationError, AuthenticationFault
from weft.nvme.dhchap_key import DhChapHash
from weft.nvme.dhchap_messages import (
    MESSAGE_MAX,
    Challenge,
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
from weft.nvme.dhchap_proof import DhChapPolicy
from weft.nvme.errors import LocalProtocolError
from weft.nvme.ffdhe import DhGroup

NEGOTIATE = Negotiate(transaction_id=7, hashes=(1, 2, 3), groups=(0,))


@pytest.mark.parametrize(
    ("negotiate", "explanation"),
    [
        (replace(NEGOTIATE, secure_channel=2), FailureExplanation.SECURE_CHANNEL_CONCATENATION_MISMATCH),
        (replace(NEGOTIATE, hashes=()), FailureExplanation.HASH_FUNCTION_NOT_USABLE),
        (replace(NEGOTIATE, hashes=(0, 4, 255)), FailureExplanation.HASH_FUNCTION_NOT_USABLE),
        (replace(NEGOTIATE, groups=(1, 2, 6)), FailureExplanation.DH_GROUP_NOT_USABLE),
    ],
)
def test_what_cannot_be_agreed_on_is_said(negotiate: Negotiate, explanation: FailureExplanation) -> None:
    controller = controller_of(ONE_WAY)
    controller.receive(negotiate.encode())
    assert failed_1(controller) == explanation
    assert not controller.wrong_key


def test_another_protocol_is_not_usable() -> None:
    controller = controller_of(ONE_WAY)
    message = bytearray(NEGOTIATE.encode())
    message[8] = 2
    controller.receive(message)
    assert failed_1(controller) == FailureExplanation.AUTHENTICATION_PROTOCOL_NOT_USABLE


def test_the_descriptor_of_the_protocol_is_found_among_others() -> None:
    message = bytearray(NEGOTIATE.encode())
    message[7] = 2
    message[8:8] = b"\x77" + bytes(63)
    assert decode_message(message) == NEGOTIATE


@pytest.mark.parametrize(
    ("change", "explanation"),
    [
        (lambda reply: replace(reply, response=reply.response[:-1]), FailureExplanation.INCORRECT_PAYLOAD),
        (lambda reply: replace(reply, public=b"\2"), FailureExplanation.INCORRECT_PAYLOAD),
        (lambda reply: replace(reply, transaction_id=8), FailureExplanation.INCORRECT_PAYLOAD),
        (lambda _: Success2(transaction_id=7), FailureExplanation.INCORRECT_PROTOCOL_MESSAGE),
        (
            lambda _: Challenge(transaction_id=7, hash=1, group=0, sequence_number=1, challenge=bytes(32)),
            FailureExplanation.INCORRECT_PROTOCOL_MESSAGE,
        ),
    ],
)
def test_a_wrong_message_in_place_of_the_reply_ends_it(
    change: Callable[[Reply], Message], explanation: FailureExplanation
) -> None:
    def changed(message: Message) -> Message:
        return change(message) if isinstance(message, Reply) else message

    controller = controller_of(ONE_WAY)
    with pytest.raises(AuthenticationError) as refused:
        converse(host_of(ONE_WAY), controller, change=changed)
    assert refused.value.explanation is explanation
    assert not controller.authenticated


@pytest.mark.parametrize(
    ("change", "explanation"),
    [
        (lambda found: replace(found, hash=1), FailureExplanation.INCORRECT_PAYLOAD),
        (lambda found: replace(found, hash=0), FailureExplanation.HASH_FUNCTION_NOT_USABLE),
        (lambda found: replace(found, group=6), FailureExplanation.DH_GROUP_NOT_USABLE),
        (lambda found: replace(found, group=1), FailureExplanation.INCORRECT_PAYLOAD),
        (lambda found: replace(found, public=b"\2"), FailureExplanation.INCORRECT_PAYLOAD),
        (lambda found: replace(found, transaction_id=8), FailureExplanation.INCORRECT_PAYLOAD),
        (
            lambda _: Success1(transaction_id=7, response_size=32),
            FailureExplanation.INCORRECT_PROTOCOL_MESSAGE,
        ),
    ],
)
def test_a_host_takes_no_wrong_challenge(
    change: Callable[[Challenge], Message], explanation: FailureExplanation
) -> None:
    def changed(message: Message) -> Message:
        return change(message) if isinstance(message, Challenge) else message

    controller = controller_of(ONE_WAY)
    with pytest.raises(AuthenticationError) as refused:
        converse(host_of(ONE_WAY), controller, change=changed)
    assert (refused.value.fault, refused.value.explanation) == (AuthenticationFault.PROTOCOL, explanation)
    assert controller.over


def test_a_host_does_not_use_what_it_did_not_offer() -> None:
    controller = controller_of(ONE_WAY, replace(QUICK, hashes=(DhChapHash.SHA_512,)))
    host = host_of(ONE_WAY, DhChapPolicy(hashes=(DhChapHash.SHA_256,)))
    controller.receive(host_of(ONE_WAY).negotiate())
    with pytest.raises(AuthenticationError) as refused:
        host.answer(controller.next_message())
    assert refused.value.explanation is FailureExplanation.HASH_FUNCTION_NOT_USABLE


def test_nothing_concludes_before_a_challenge() -> None:
    with pytest.raises(LocalProtocolError):
        host_of(ONE_WAY).conclude(Success1(transaction_id=7, response_size=32).encode())


def test_fetching_what_is_not_due_ends_it() -> None:
    controller = controller_of(ONE_WAY)
    assert failed_1(controller) == FailureExplanation.INCORRECT_PROTOCOL_MESSAGE
    controller.receive(host_of(ONE_WAY).negotiate())
    assert failed_1(controller) == FailureExplanation.INCORRECT_PROTOCOL_MESSAGE


def test_a_failure_of_the_host_ends_it() -> None:
    controller = controller_of(ONE_WAY)
    controller.receive(host_of(ONE_WAY).negotiate())
    controller.receive(Failure2(transaction_id=7, explanation=0x99).encode())
    assert controller.over
    assert not controller.wrong_key


messages = st.one_of(
    st.builds(
        Negotiate,
        transaction_id=st.integers(0, 1) | st.integers(0, 0xFFFF),
        hashes=st.lists(st.integers(0, 4), max_size=30).map(tuple),
        groups=st.just((0,)),
        secure_channel=st.sampled_from((0, 0, 0, 1)),
    ),
    st.builds(Success2, transaction_id=st.integers(0, 1)),
    st.builds(Failure2, transaction_id=st.integers(0, 1), explanation=st.integers(0, 255)),
    st.builds(
        Reply,
        transaction_id=st.integers(0, 1),
        response=st.sampled_from((32, 48, 64)).map(bytes),
        challenge=st.none(),
        sequence_number=st.integers(0, 0xFFFFFFFF),
    ),
).map(lambda message: message.encode())


@given(st.lists(st.none() | messages | st.binary(max_size=200), max_size=12))
def test_nothing_that_a_stranger_sends_lets_it_in_or_breaks_the_controller(steps: list[bytes | None]) -> None:
    controller = controller_of(BOTH_WAYS)
    for step in steps:
        if step is None:
            decode_message(controller.next_message())
        else:
            controller.receive(step)
        assert not controller.authenticated


challenges = st.builds(
    Challenge,
    transaction_id=st.integers(7, 8),
    hash=st.integers(0, 4),
    group=st.integers(0, 6),
    sequence_number=st.integers(0, 0xFFFFFFFF),
    challenge=st.binary(max_size=64),
    public=st.binary(max_size=8),
).map(lambda message: message.encode())


@given(challenges | messages | st.binary(max_size=200))
def test_whatever_a_host_is_challenged_with_it_answers_or_gives_up(data: bytes) -> None:
    host = host_of(BOTH_WAYS)
    try:
        reply = decode_message(host.answer(data))
    except AuthenticationError:
        return
    assert isinstance(reply, Reply)
    assert reply.challenge is not None


@given(messages | st.binary(max_size=200))
def test_nothing_but_the_proof_makes_a_host_believe_a_controller(data: bytes) -> None:
    host, controller = host_of(BOTH_WAYS), controller_of(BOTH_WAYS)
    controller.receive(host.negotiate())
    host.answer(controller.next_message())
    with pytest.raises(AuthenticationError):
        host.conclude(data)


@given(messages, st.integers(0, 300))
def test_a_message_cut_short_is_none(message: bytes, length: int) -> None:
    if length >= len(message):
        assert decode_message(message + bytes(length)) == decode_message(message)
    else:
        with pytest.raises(InvalidMessageError):
            decode_message(message[:length])


def test_no_message_is_longer_than_what_is_fetched() -> None:
    keys, policy = BOTH_WAYS, DhChapPolicy(hashes=(DhChapHash.SHA_512,), groups=(DhGroup.FFDHE8192,))
    host, controller = host_of(keys), controller_of(keys, policy)
    controller.receive(host.negotiate())
    challenge = controller.next_message()
    assert max(len(challenge), len(host.answer(challenge))) <= MESSAGE_MAX
