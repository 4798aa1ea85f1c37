"""Whatever a stranger sends instead of a proof is refused and costs the target little."""

import pytest

from embedded_target.authentication import connected, new_secrets, proof
from embedded_target.workshop import HOST_A, Workshop, nqn_of
from nvme_tcp_host import RawConnection
from weft.nvme.dhchap_messages import Failure1, Success2, decode_message
from weft.nvme.fabrics import AuthenticationReceive, AuthenticationSend
from weft.nvme.pdu import PduType
from weft.nvme.status import StatusCode


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (AuthenticationSend(length=16, secp=0), StatusCode.INVALID_FIELD_IN_COMMAND),
        (AuthenticationSend(length=16, spsp0=0), StatusCode.INVALID_FIELD_IN_COMMAND),
        (AuthenticationSend(length=16, spsp1=2), StatusCode.INVALID_FIELD_IN_COMMAND),
        (AuthenticationSend(length=15), StatusCode.DATA_SGL_LENGTH_INVALID),
    ],
)
def test_a_command_that_carries_something_else_is_refused(
    workshop: Workshop, command: AuthenticationSend, code: StatusCode
) -> None:
    export = workshop.export(HOST_A, secrets={HOST_A: new_secrets()})
    admin = connected(workshop, export)
    assert admin.call(command, data=Success2(transaction_id=1).encode()).status.code == code
    assert not admin.is_lost()


def test_a_message_that_is_too_long_is_refused(workshop: Workshop) -> None:
    export = workshop.export(HOST_A, secrets={HOST_A: new_secrets()})
    admin = connected(workshop, export)
    for length in (4097, 2**20):
        assert admin.send_message(bytes(length)).status.code == StatusCode.INVALID_FIELD_IN_COMMAND
    empty = admin.call(AuthenticationSend(length=0))
    assert empty.status.code == StatusCode.INVALID_FIELD_IN_COMMAND


def test_a_stranger_makes_the_target_keep_little_room_for_its_data(workshop: Workshop) -> None:
    export = workshop.export(HOST_A, secrets={HOST_A: new_secrets()})
    admin = connected(workshop, export)
    too_much = admin.send_message(bytes(2**20))
    assert (too_much.status.code, admin.r2ts) == (StatusCode.INVALID_FIELD_IN_COMMAND, 0)
    unheard = RawConnection(workshop.portal, in_capsule_data_size=1024)
    workshop.stack.callback(unheard.close)
    unheard.open().connect(nqn_of(export), HOST_A)
    for _ in range(100):
        unheard.submit(AuthenticationSend(length=4096), data=bytes(4096))
    unheard.submit(AuthenticationSend(length=0))
    asked = 0
    with unheard.socket.makefile("rb") as answers:
        while (pdu := answers.read(24))[0] == PduType.R2T:
            asked += 1
    assert (pdu[0], asked) == (PduType.CAPSULE_RESP, 4)


@pytest.mark.parametrize("length", [2**17, 2**32 - 1])
def test_no_answer_is_longer_than_any_message_needs(workshop: Workshop, length: int) -> None:
    export = workshop.export(HOST_A, secrets={HOST_A: new_secrets()})
    admin = connected(workshop, export)
    done = admin.call(AuthenticationReceive(length=length), size=2**17)
    assert done.status.code == StatusCode.INVALID_FIELD_IN_COMMAND


def test_a_challenge_does_not_fit_into_a_few_bytes(workshop: Workshop) -> None:
    secrets = new_secrets()
    export = workshop.export(HOST_A, secrets={HOST_A: secrets})
    admin = connected(workshop, export)
    admin.send_message(proof(export, secrets).negotiate())
    done = admin.call(AuthenticationReceive(length=16), size=16)
    assert done.status.code == StatusCode.DATA_SGL_LENGTH_INVALID
    admin.wait_until_lost()


@pytest.mark.parametrize("message", [b"\1\2", b"\xff" * 100, bytes(8), bytes(16)])
def test_what_is_no_message_ends_the_connection(workshop: Workshop, message: bytes) -> None:
    export = workshop.export(HOST_A, secrets={HOST_A: new_secrets()})
    admin = connected(workshop, export)
    assert admin.send_message(message).status.ok
    assert isinstance(decode_message(admin.fetch_message()), Failure1)
    admin.wait_until_lost()
