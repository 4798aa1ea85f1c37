"""DH-HMAC-CHAP between the two state machines: who is let in, and who is believed."""

import hashlib
import hmac
import struct
from dataclasses import replace
from itertools import product

import pytest

from nvme.auth_pair import (
    BOTH_WAYS,
    HOSTNQN,
    ONE_WAY,
    QUICK,
    SUBNQN,
    controller_of,
    converse,
    failed_1,
    host_of,
    new_key,
)
from weft.nvme.auth import (
    NEGOTIATIONS_MAX,
    AuthenticationError,
    AuthenticationFault,
    ControllerAuthentication,
    HostAuthentication,
)
from weft.nvme.dhchap_key import DhChapHash, DhChapKey
from weft.nvme.dhchap_messages import Challenge, FailureExplanation, Message, Success1, decode_message
from weft.nvme.dhchap_proof import ANY, DhChapKeys, DhChapPolicy
from weft.nvme.ffdhe import DhGroup


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


def test_no_key_is_in_a_repr() -> None:
    assert "secret" not in repr(BOTH_WAYS)
    assert str(BOTH_WAYS.host.secret) not in repr(BOTH_WAYS)
