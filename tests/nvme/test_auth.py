"""DH-HMAC-CHAP between the two state machines, and against everything that is not a peer."""

import hashlib
import hmac
import struct
from collections.abc import Callable
from dataclasses import replace
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weft.nvme.auth import (
    NEGOTIATIONS_MAX,
    AuthenticationError,
    AuthenticationFault,
    ControllerAuthentication,
    HostAuthentication,
)
from weft.nvme.dhchap_key import DhChapHash, DhChapKey, generate_dhchap_key, parse_dhchap_key
from weft.nvme.dhchap_messages import (
    MESSAGE_MAX,
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
from weft.nvme.dhchap_proof import ANY, DhChapKeys, DhChapPolicy
from weft.nvme.errors import LocalProtocolError
from weft.nvme.ffdhe import DhGroup

HOSTNQN = "nqn.2014-08.org.nvmexpress:uuid:0f01fb42-9f7f-4856-b0b3-51e60b8de349"
SUBNQN = "nqn.2019-01.com.opensds:nvme:one"
QUICK = DhChapPolicy(groups=(DhGroup.NULL,))


def new_key(used_hash: DhChapHash = DhChapHash.SHA_256) -> DhChapKey:
    return parse_dhchap_key(generate_dhchap_key(used_hash))


ONE_WAY = DhChapKeys(new_key())
BOTH_WAYS = DhChapKeys(new_key(), new_key(DhChapHash.SHA_384))


def controller_of(keys: DhChapKeys, policy: DhChapPolicy = QUICK) -> ControllerAuthentication:
    return ControllerAuthentication(host_nqn=HOSTNQN, subsystem_nqn=SUBNQN, keys=lambda: keys, policy=policy)


def host_of(keys: DhChapKeys, policy: DhChapPolicy = ANY, transaction_id: int = 7) -> HostAuthentication:
    return HostAuthentication(
        host_nqn=HOSTNQN,
        subsystem_nqn=SUBNQN,
        keys=keys,
        transaction_id=transaction_id,
        policy=policy,
    )


def converse(
    host: HostAuthentication,
    controller: ControllerAuthentication,
    *,
    change: Callable[[Message], Message | None] = lambda message: message,
) -> None:
    """A whole authentication; `change` may replace a message on its way."""

    def sent(data: bytes) -> bytes:
        changed = change(decode_message(data))
        return data if changed is None else changed.encode()

    def fetched() -> bytes:
        return sent(controller.next_message()).ljust(MESSAGE_MAX, b"\0")

    try:
        controller.receive(sent(host.negotiate()))
        controller.receive(sent(host.answer(fetched())))
        last = host.conclude(fetched())
    except AuthenticationError as error:
        if error.last_words is not None:
            controller.receive(error.last_words)
        raise
    if last is not None:
        controller.receive(sent(last))


def failed_1(controller: ControllerAuthentication) -> int:
    message = decode_message(controller.next_message())
    assert isinstance(message, Failure1)
    assert controller.over
    assert not controller.authenticated
    return message.explanation


@pytest.mark.parametrize("keys", [ONE_WAY, BOTH_WAYS], ids=["one way", "both ways"])
@pytest.mark.parametrize(("used_hash", "group"), list(product(DhChapHash, DhGroup)))
def test_every_hash_with_every_group(used_hash: DhChapHash, group: DhGroup, keys: DhChapKeys) -> None:
    controller = controller_of(keys, DhChapPolicy(hashes=(used_hash,), groups=(group,)))
    converse(host_of(keys), controller)
    assert controller.authenticated
    assert controller.failure is None


@pytest.mark.parametrize("text_hash", [None, *DhChapHash])
@pytest.mark.parametrize("used_hash", DhChapHash)
def test_every_kind_of_key_with_every_hash(text_hash: DhChapHash | None, used_hash: DhChapHash) -> None:
    secret = bytes(range(text_hash.size if text_hash else 48))
    keys = DhChapKeys(DhChapKey(secret, text_hash), DhChapKey(secret[::-1], text_hash))
    controller = controller_of(keys, replace(QUICK, hashes=(used_hash,)))
    converse(host_of(keys), controller)
    assert controller.authenticated


def test_the_responses_are_what_the_specification_says() -> None:
    """Worked out here by hand from the bytes of the messages, with SHA-384 and a group."""
    keys = DhChapKeys(DhChapKey(bytes(range(32)), DhChapHash.SHA_256), DhChapKey(bytes(range(64)), None))
    policy = DhChapPolicy(hashes=(DhChapHash.SHA_384,), groups=(DhGroup.FFDHE2048,))
    secret = b"\x5a" * 29  # every exponent of this test
    host = HostAuthentication(
        host_nqn=HOSTNQN,
        subsystem_nqn=SUBNQN,
        keys=keys,
        transaction_id=0x0102,
        random_bytes=lambda size: b"\x5a" * size,
    )
    controller = ControllerAuthentication(
        host_nqn=HOSTNQN,
        subsystem_nqn=SUBNQN,
        keys=lambda: keys,
        policy=policy,
        random_bytes=lambda size: b"\x5a" * size,
    )
    controller.receive(host.negotiate())
    challenge = controller.next_message()
    reply = host.answer(challenge)
    controller.receive(reply)
    success = controller.next_message()

    prime = DhGroup.FFDHE2048.prime
    exponent = int.from_bytes(b"\1" + secret, "big")
    shared = pow(pow(2, exponent, prime), exponent, prime).to_bytes(256, "big")

    def augmented(value: bytes) -> bytes:
        return hmac.new(hashlib.sha384(shared).digest(), value, "sha384").digest()

    assert challenge[:10] == bytes((1, 1, 0, 0, 2, 1, 48, 0, 2, 1))
    assert challenge[10:12] == struct.pack("<H", 256)
    s1, c1 = challenge[12:16], challenge[16:64]
    transformed = hmac.new(bytes(range(32)), HOSTNQN.encode() + b"NVMe-over-Fabrics", "sha256").digest()
    proven = augmented(c1) + s1 + b"\2\1\0" + b"HostHost" + HOSTNQN.encode() + b"\0" + SUBNQN.encode()
    assert reply[:10] == bytes((1, 2, 0, 0, 2, 1, 48, 0, 1, 0))
    assert reply[16:64] == hmac.new(transformed, proven, "sha384").digest()

    s2, c2 = reply[12:16], reply[64:112]
    proven = augmented(c2) + s2 + b"\2\1\0" + b"Controller" + SUBNQN.encode() + b"\0" + HOSTNQN.encode()
    assert success[:16] == bytes((1, 3, 0, 0, 2, 1, 48, 0, 1)) + bytes(7)
    assert success[16:] == hmac.new(bytes(range(64)), proven, "sha384").digest()


def test_the_controller_takes_what_it_prefers_of_what_the_host_offers() -> None:
    controller = controller_of(ONE_WAY, ANY)
    controller.receive(host_of(ONE_WAY).negotiate())
    challenge = decode_message(controller.next_message())
    assert isinstance(challenge, Challenge)
    assert (challenge.hash, challenge.group) == (ANY.hashes[0], ANY.groups[0])
    offered = DhChapPolicy(hashes=(DhChapHash.SHA_256,), groups=(DhGroup.FFDHE3072, DhGroup.NULL))
    controller.receive(host_of(ONE_WAY, offered).negotiate())
    challenge = decode_message(controller.next_message())
    assert isinstance(challenge, Challenge)
    assert (challenge.hash, challenge.group) == (DhChapHash.SHA_256, DhGroup.FFDHE3072)


def test_a_wrong_key_of_the_host_is_refused() -> None:
    controller = controller_of(ONE_WAY)
    with pytest.raises(AuthenticationError) as refused:
        converse(host_of(DhChapKeys(new_key())), controller)
    assert refused.value.fault is AuthenticationFault.HOST
    assert refused.value.last_words is None
    assert controller.over
    assert controller.wrong_key
    assert controller.failure is FailureExplanation.AUTHENTICATION_FAILED


def test_a_controller_that_cannot_prove_itself_is_not_believed() -> None:
    controller = controller_of(BOTH_WAYS)
    with pytest.raises(AuthenticationError) as refused:
        converse(host_of(replace(BOTH_WAYS, controller=new_key())), controller)
    assert refused.value.fault is AuthenticationFault.CONTROLLER
    assert controller.over
    assert controller.wrong_key
    assert not controller.authenticated


def test_a_controller_that_leaves_its_proof_out_is_not_believed() -> None:
    def leave_out(message: Message) -> Message:
        return replace(message, response=None) if isinstance(message, Success1) else message

    with pytest.raises(AuthenticationError) as refused:
        converse(host_of(BOTH_WAYS), controller_of(BOTH_WAYS), change=leave_out)
    assert refused.value.fault is AuthenticationFault.CONTROLLER


def test_a_controller_without_a_key_of_its_own_cannot_prove_itself() -> None:
    controller = controller_of(DhChapKeys(BOTH_WAYS.host))
    with pytest.raises(AuthenticationError) as refused:
        converse(host_of(BOTH_WAYS), controller)
    assert refused.value.fault is AuthenticationFault.HOST
    assert controller.wrong_key


def test_a_host_that_wants_no_proof_is_let_in_by_a_controller_that_could_give_one() -> None:
    controller = controller_of(BOTH_WAYS)
    converse(host_of(DhChapKeys(BOTH_WAYS.host)), controller)
    assert controller.authenticated


def test_a_proof_of_one_identity_is_none_of_another() -> None:
    controller = ControllerAuthentication(
        host_nqn=HOSTNQN + "0", subsystem_nqn=SUBNQN, keys=lambda: ONE_WAY, policy=QUICK
    )
    with pytest.raises(AuthenticationError):
        converse(host_of(ONE_WAY), controller)
    assert controller.wrong_key


def test_only_success2_makes_a_host_that_wanted_a_proof_known() -> None:
    host, controller = host_of(BOTH_WAYS), controller_of(BOTH_WAYS)
    controller.receive(host.negotiate())
    controller.receive(host.answer(controller.next_message()))
    last = host.conclude(controller.next_message())
    assert not controller.authenticated
    assert last is not None
    controller.receive(last)
    assert controller.authenticated


def test_a_reply_is_good_for_one_challenge_alone() -> None:
    controller = controller_of(ONE_WAY)
    host = host_of(ONE_WAY)
    controller.receive(host.negotiate())
    reply = host.answer(controller.next_message())
    controller.receive(host.negotiate())
    controller.next_message()
    controller.receive(reply)
    assert failed_1(controller) == FailureExplanation.AUTHENTICATION_FAILED
    assert controller.wrong_key


def test_a_live_queue_may_authenticate_again_with_the_key_of_that_time() -> None:
    keys = [ONE_WAY]
    controller = ControllerAuthentication(
        host_nqn=HOSTNQN, subsystem_nqn=SUBNQN, keys=lambda: keys[0], policy=QUICK
    )
    for transaction_id in range(2 * NEGOTIATIONS_MAX):
        converse(host_of(keys[0], transaction_id=transaction_id), controller)
    keys[0] = DhChapKeys(new_key())
    assert controller.authenticated
    again = host_of(keys[0])
    controller.receive(again.negotiate())
    assert controller.authenticated
    controller.receive(again.answer(controller.next_message()))
    assert again.conclude(controller.next_message()) is None
    assert controller.authenticated
    with pytest.raises(AuthenticationError):
        converse(host_of(ONE_WAY), controller)
    assert not controller.authenticated


def test_a_wrong_key_is_not_held_against_who_comes_with_the_right_one() -> None:
    controller, wrong = controller_of(ONE_WAY), host_of(DhChapKeys(new_key()))
    controller.receive(wrong.negotiate())
    controller.receive(wrong.answer(controller.next_message()))
    assert controller.wrong_key
    converse(host_of(ONE_WAY), controller)
    assert controller.authenticated
    controller.receive(b"nonsense")
    assert failed_1(controller) == FailureExplanation.INCORRECT_PROTOCOL_MESSAGE
    assert not controller.wrong_key


def test_a_stranger_cannot_begin_for_ever() -> None:
    controller = controller_of(ONE_WAY)
    for _ in range(NEGOTIATIONS_MAX):
        controller.receive(host_of(ONE_WAY).negotiate())
        assert isinstance(decode_message(controller.next_message()), Challenge)
    controller.receive(host_of(ONE_WAY).negotiate())
    assert failed_1(controller) == FailureExplanation.INCORRECT_PROTOCOL_MESSAGE


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


def test_no_key_is_in_a_repr() -> None:
    assert "secret" not in repr(BOTH_WAYS)
    assert str(BOTH_WAYS.host.secret) not in repr(BOTH_WAYS)
