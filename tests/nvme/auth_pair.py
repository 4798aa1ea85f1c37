"""A host and a controller that authenticate each other, without anything between them."""

from collections.abc import Callable

from weft.nvme.auth import AuthenticationError, ControllerAuthentication, HostAuthentication
from weft.nvme.dhchap_key import DhChapHash, DhChapKey, generate_dhchap_key, parse_dhchap_key
from weft.nvme.dhchap_messages import MESSAGE_MAX, Failure1, Message, decode_message
from weft.nvme.dhchap_proof import ANY, DhChapKeys, DhChapPolicy
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
