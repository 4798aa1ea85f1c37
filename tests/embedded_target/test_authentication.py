"""Hosts with keys must prove who they are on every queue, and the target says why it turned somebody away."""

import logging
import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from embedded_target.processes import eventually
from embedded_target.workshop import HOST_A, HOST_B, MakeWorkshop, Workshop, nqn_of
from nvme_tcp_host import RawConnection
from weft.embedded.target.control import ControlClient, ListRefusals, Refusals, encode_line
from weft.embedded.target.control_server import ControlServer
from weft.embedded.target.discovery import DISCOVERY_NQN
from weft.embedded.target.refusals import REMEMBERED_HOSTS
from weft.embedded.target.settings import Limits
from weft.errors import InvalidValueError
from weft.model import DhChapSecrets, Export, RefusalReason
from weft.nvme.admin import KeepAlive
from weft.nvme.auth import AuthenticationError, AuthenticationFault, HostAuthentication
from weft.nvme.dhchap_key import DhChapHash, generate_dhchap_key, parse_dhchap_key
from weft.nvme.dhchap_messages import Failure1, Success2, decode_message
from weft.nvme.dhchap_proof import DhChapKeys
from weft.nvme.fabrics import AUTHREQ_ATR, AuthenticationReceive, AuthenticationSend, PropertyGet, PropertySet
from weft.nvme.nvm import Read, Write
from weft.nvme.pdu import PduType
from weft.nvme.properties import ControllerConfiguration, Property
from weft.nvme.status import StatusCode

ENABLE = PropertySet(offset=Property.CC, value=ControllerConfiguration(enable=True).encode())


def new_secrets(*, both_ways: bool = False) -> DhChapSecrets:
    return DhChapSecrets(
        host_key=generate_dhchap_key(),
        controller_key=generate_dhchap_key(DhChapHash.SHA_512) if both_ways else None,
    )


def keys(secrets: DhChapSecrets) -> DhChapKeys:
    controller = secrets.controller_key
    return DhChapKeys(
        parse_dhchap_key(secrets.host_key), parse_dhchap_key(controller) if controller else None
    )


def proof(export: Export, secrets: DhChapSecrets, host: str = HOST_A) -> HostAuthentication:
    return HostAuthentication(
        host_nqn=host, subsystem_nqn=nqn_of(export), keys=keys(secrets), transaction_id=1
    )


def connected(workshop: Workshop, export: Export, host: str = HOST_A) -> RawConnection:
    """An admin queue that was asked to authenticate."""
    connection = workshop.connection().open()
    completion = connection.connect(nqn_of(export), host)
    assert completion.status.ok
    assert completion.result & AUTHREQ_ATR
    return connection


def io_queue(workshop: Workshop, export: Export, secrets: DhChapSecrets) -> RawConnection:
    """Of HOST_A, behind an admin queue that has authenticated; it has yet to."""
    admin = workshop.connection().open()
    cntlid = admin.connect(nqn_of(export), HOST_A).result & 0xFFFF
    admin.authenticate(proof(export, secrets))
    assert admin.call(ENABLE).status.ok
    queue = workshop.connection().open()
    completion = queue.connect(nqn_of(export), HOST_A, qid=1, cntlid=cntlid)
    assert completion.result == cntlid | AUTHREQ_ATR
    return queue


def refusals(workshop: Workshop, export: Export) -> list[tuple[str, RefusalReason]]:
    return [(each.initiator, each.reason) for each in workshop.target.refusals(export.volume_id)]


def rotate(workshop: Workshop, export: Export, secrets: DhChapSecrets | None) -> None:
    """HOST_A gets other keys, and everybody else keeps his."""
    hosts = tuple(
        replace(each, secrets=secrets) if each.initiator == HOST_A else each for each in export.hosts
    )
    workshop.target.create_export(replace(export, hosts=hosts))


@pytest.mark.parametrize("both_ways", [False, True])
def test_a_host_with_the_key_is_let_in(workshop: Workshop, *, both_ways: bool) -> None:
    secrets = new_secrets(both_ways=both_ways)
    export = workshop.export(HOST_A, secrets={HOST_A: secrets})
    admin = connected(workshop, export)
    admin.authenticate(proof(export, secrets))
    assert admin.call(ENABLE).status.ok
    assert refusals(workshop, export) == []


def test_nothing_but_authentication_is_done_for_a_host_that_has_not_authenticated(workshop: Workshop) -> None:
    export = workshop.export(HOST_A, secrets={HOST_A: new_secrets()})
    admin = connected(workshop, export)
    admin.machine.authenticated()  # it only says so to itself
    for command in (PropertyGet(offset=Property.VS), ENABLE, KeepAlive()):
        status = admin.call(command).status
        assert (status.code, status.dnr) == (StatusCode.AUTHENTICATION_REQUIRED, True)


def test_every_queue_must_authenticate(workshop: Workshop) -> None:
    secrets = new_secrets()
    export = workshop.export(HOST_A, secrets={HOST_A: secrets})
    queue = io_queue(workshop, export, secrets)
    queue.machine.authenticated()
    read = Read(nsid=1, slba=0, blocks=1)
    refused = queue.wait(queue.submit(read, size=512)).status
    assert refused.code == StatusCode.AUTHENTICATION_REQUIRED
    queue.authenticate(proof(export, secrets))
    assert queue.read(read, 512) == bytes(512)


def test_a_host_without_keys_on_the_same_export_is_asked_for_none(workshop: Workshop) -> None:
    export = workshop.export(HOST_A, HOST_B, secrets={HOST_A: new_secrets()})
    host = workshop.attach(export, HOST_B)
    assert host.io[0].read(Read(nsid=1, slba=0, blocks=1), 512) == bytes(512)


def test_discovery_asks_for_no_key(workshop: Workshop) -> None:
    workshop.export(HOST_A, secrets={HOST_A: new_secrets()})
    completion = workshop.connection().open().connect(DISCOVERY_NQN, HOST_A)
    assert completion.status.ok
    assert not completion.result & AUTHREQ_ATR


def test_a_wrong_key_is_refused_and_remembered_until_the_right_one_comes(workshop: Workshop) -> None:
    secrets = new_secrets()
    export = workshop.export(HOST_A, secrets={HOST_A: secrets})
    admin = connected(workshop, export)
    with pytest.raises(AuthenticationError) as refused:
        admin.authenticate(proof(export, new_secrets()))
    assert refused.value.fault is AuthenticationFault.HOST
    admin.wait_until_lost()
    assert refusals(workshop, export) == [(HOST_A, RefusalReason.WRONG_KEY)]
    connected(workshop, export).authenticate(proof(export, secrets))
    assert refusals(workshop, export) == []


def test_a_host_that_does_not_believe_the_target_has_another_key(workshop: Workshop) -> None:
    secrets = new_secrets(both_ways=True)
    export = workshop.export(HOST_A, secrets={HOST_A: secrets})
    admin = connected(workshop, export)
    with pytest.raises(AuthenticationError) as refused:
        admin.authenticate(proof(export, replace(secrets, controller_key=generate_dhchap_key())))
    assert refused.value.fault is AuthenticationFault.CONTROLLER
    assert refused.value.last_words is not None
    assert admin.send_message(refused.value.last_words).status.ok
    admin.wait_until_lost()
    assert refusals(workshop, export) == [(HOST_A, RefusalReason.WRONG_KEY)]


def test_a_host_that_hangs_up_instead_of_authenticating_has_no_key(workshop: Workshop) -> None:
    export = workshop.export(HOST_A, secrets={HOST_A: new_secrets()})
    connected(workshop, export).close()
    eventually(lambda: refusals(workshop, export) == [(HOST_A, RefusalReason.NO_KEY)])


def test_a_host_that_hangs_up_on_a_wrong_key_is_remembered_with_it(workshop: Workshop) -> None:
    export = workshop.export(HOST_A, secrets={HOST_A: new_secrets()})
    admin, machine = connected(workshop, export), proof(export, new_secrets())
    admin.send_message(machine.negotiate())
    admin.send_message(machine.answer(admin.fetch_message()))
    admin.close()
    eventually(lambda: refusals(workshop, export) == [(HOST_A, RefusalReason.WRONG_KEY)])


def test_a_host_that_is_not_listed_is_remembered_as_such(workshop: Workshop) -> None:
    export = workshop.export(HOST_A, secrets={HOST_A: new_secrets()})
    assert not workshop.connection().open().connect(nqn_of(export), HOST_B).status.ok
    connected(workshop, export).close()
    eventually(lambda: len(refusals(workshop, export)) == 2)
    assert refusals(workshop, export) == [
        (HOST_A, RefusalReason.NO_KEY),
        (HOST_B, RefusalReason.NOT_LISTED),
    ]


def test_a_host_that_is_listed_at_last_is_no_longer_remembered(workshop: Workshop) -> None:
    export = workshop.export(HOST_A)
    connection = workshop.connection().open()
    assert not connection.connect(nqn_of(export), HOST_B).status.ok
    host = replace(export.hosts[0], initiator=HOST_B)
    workshop.target.create_export(replace(export, hosts=(host,)))
    assert connection.connect(nqn_of(export), HOST_B).status.ok
    assert refusals(workshop, export) == []


def test_strangers_cannot_make_the_target_remember_without_end(workshop: Workshop) -> None:
    export = workshop.export(HOST_A)
    connection = workshop.connection().open()
    for number in range(REMEMBERED_HOSTS + 5):
        connection.connect(nqn_of(export), f"nqn.2019-01.org.example:{number}")
    found = refusals(workshop, export)
    assert len(found) == REMEMBERED_HOSTS
    assert found[0][0] == f"nqn.2019-01.org.example:{REMEMBERED_HOSTS + 4}"


def test_refusals_are_told_over_the_control_socket(workshop: Workshop) -> None:
    export = workshop.export(HOST_A)
    workshop.connection().open().connect(nqn_of(export), HOST_B)
    socket = Path(workshop.settings.socket)
    server = ControlServer(socket, workshop.target, lambda: None)
    server.start()
    workshop.stack.callback(server.stop)
    with ControlClient(socket) as client:
        (refusal,) = client.call(ListRefusals(export.volume_id), Refusals).refusals
    assert (refusal.volume_id, refusal.initiator) == (export.volume_id, HOST_B)
    assert refusal.at.tzinfo is not None


def test_a_host_that_takes_too_long_is_dropped(make_workshop: MakeWorkshop) -> None:
    workshop = make_workshop(limits=Limits(authentication_seconds=0.3))
    secrets = new_secrets()
    export = workshop.export(HOST_A, secrets={HOST_A: secrets})
    patient = connected(workshop, export)
    patient.authenticate(proof(export, secrets))
    slow = connected(workshop, export)
    assert slow.send_message(proof(export, secrets).negotiate()).status.ok
    slow.wait_until_lost()
    assert not patient.is_lost(0.4)


def test_a_host_that_has_not_authenticated_makes_room_for_the_next(make_workshop: MakeWorkshop) -> None:
    workshop = make_workshop(max_connections=4)
    export = workshop.export(HOST_A, secrets={HOST_A: new_secrets()})
    first = connected(workshop, export)
    connected(workshop, export)
    first.wait_until_lost()
    assert workshop.target.status().connections == {}


def test_a_live_host_may_prove_itself_again(workshop: Workshop) -> None:
    secrets = new_secrets(both_ways=True)
    export = workshop.export(HOST_A, secrets={HOST_A: secrets})
    admin = connected(workshop, export)
    for _ in range(3):
        admin.authenticate(proof(export, secrets))
    assert admin.call(ENABLE).status.ok


def test_a_new_key_leaves_live_hosts_alone_and_counts_from_their_next_proof_on(workshop: Workshop) -> None:
    old, new = new_secrets(), new_secrets()
    export = workshop.export(HOST_A, HOST_B, secrets={HOST_A: old})
    other = workshop.attach(export, HOST_B)
    admin = connected(workshop, export)
    admin.authenticate(proof(export, old))
    rotate(workshop, export, new)
    assert admin.call(ENABLE).status.ok
    admin.authenticate(proof(export, new))
    with pytest.raises(AuthenticationError):
        connected(workshop, export).authenticate(proof(export, old))
    assert admin.call(KeepAlive()).status.ok
    assert not other.io[0].is_lost()


def test_a_live_host_that_fails_to_prove_itself_again_is_cut_off(workshop: Workshop) -> None:
    secrets = new_secrets()
    export = workshop.export(HOST_A, secrets={HOST_A: secrets})
    admin = connected(workshop, export)
    admin.authenticate(proof(export, secrets))
    with pytest.raises(AuthenticationError):
        admin.authenticate(proof(export, new_secrets()))
    admin.wait_until_lost()


def test_a_live_host_that_has_failed_can_do_nothing_but_prove_itself(make_workshop: MakeWorkshop) -> None:
    workshop = make_workshop(limits=Limits(authentication_seconds=0.5))
    secrets = new_secrets()
    export = workshop.export(HOST_A, secrets={HOST_A: secrets})
    admin = connected(workshop, export)
    admin.authenticate(proof(export, secrets))
    spoilt = bytearray(proof(export, secrets).negotiate())
    spoilt[6] = 1  # a secure channel, too
    for _ in range(2):
        assert admin.send_message(bytes(spoilt)).status.ok
        assert admin.call(ENABLE).status.code == StatusCode.AUTHENTICATION_REQUIRED
        admin.authenticate(proof(export, secrets))
        assert admin.call(ENABLE).status.ok
    assert admin.send_message(bytes(spoilt)).status.ok
    admin.wait_until_lost()


def test_a_write_that_was_held_while_its_host_had_failed_is_done_once_it_has_proven_itself(
    workshop: Workshop,
) -> None:
    secrets = new_secrets()
    export = workshop.export(HOST_A, secrets={HOST_A: secrets})
    queue = io_queue(workshop, export, secrets)
    queue.authenticate(proof(export, secrets))
    hold = workshop.target.hold_writes(export.volume_id, 20)
    held = queue.submit(Write(nsid=1, slba=0, blocks=1), data=b"w" * 512)
    assert queue.send_message(bytes(16)).status.ok
    hold.release()
    read = Read(nsid=1, slba=0, blocks=1)
    refused = queue.wait(queue.submit(read, size=512)).status
    assert refused.code == StatusCode.AUTHENTICATION_REQUIRED
    queue.authenticate(proof(export, secrets))
    assert queue.wait(held).status.ok
    assert queue.read(read, 512) == b"w" * 512


def test_a_host_whose_key_is_taken_away_is_asked_for_none_any_more(workshop: Workshop) -> None:
    secrets = new_secrets()
    export = workshop.export(HOST_A, secrets={HOST_A: secrets})
    admin = connected(workshop, export)
    admin.authenticate(proof(export, secrets))
    rotate(workshop, export, None)
    admin.authenticate(proof(export, secrets))
    workshop.attach(export, HOST_A)


def test_a_key_that_a_live_host_had_none_of_is_asked_for_at_its_next_connect(workshop: Workshop) -> None:
    export = workshop.export(HOST_A)
    host = workshop.attach(export, HOST_A)
    rotate(workshop, export, new_secrets())
    assert host.io[0].read(Read(nsid=1, slba=0, blocks=1), 512) == bytes(512)
    connected(workshop, export)


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


@pytest.mark.parametrize(
    "spoil",
    [
        lambda secrets: replace(secrets, host_key="DHHC-1:00:abc:"),
        lambda secrets: replace(secrets, host_key=""),
        lambda secrets: replace(secrets, controller_key=secrets.controller_key[:-3] + "x:"),
    ],
)
def test_what_is_no_key_is_refused_and_changes_nothing(
    workshop: Workshop, spoil: Callable[[DhChapSecrets], DhChapSecrets]
) -> None:
    secrets = new_secrets(both_ways=True)
    export = workshop.export(HOST_A, secrets={HOST_A: secrets})
    before = workshop.target.exports()
    spoilt = spoil(secrets)
    with pytest.raises(InvalidValueError, match=HOST_A) as refused:
        rotate(workshop, export, spoilt)
    assert not any(key and key in str(refused.value) for key in (spoilt.host_key, spoilt.controller_key))
    assert workshop.target.exports() == before


def test_keys_survive_a_restart_and_rest_in_files_of_the_owner(make_workshop: MakeWorkshop) -> None:
    workshop = make_workshop()
    secrets = new_secrets(both_ways=True)
    export = workshop.export(HOST_A, HOST_B, secrets={HOST_A: secrets})
    workshop.target.stop()
    holding = [each for each in workshop.folder.rglob("*") if each.is_file() and _holds(each, secrets)]
    assert [each.parent.name for each in holding] == ["exports"]
    assert [stat.S_IMODE(each.stat().st_mode) for each in holding] == [0o600]
    workshop.target = workshop.start()
    connected(workshop, export).authenticate(proof(export, secrets))
    workshop.attach(export, HOST_B)


def _holds(path: Path, secrets: DhChapSecrets) -> bool:
    text = path.read_text(errors="replace")
    return secrets.host_key in text or str(secrets.controller_key) in text


def test_keys_are_told_to_nobody(workshop: Workshop, caplog: pytest.LogCaptureFixture) -> None:
    secrets = new_secrets(both_ways=True)
    with caplog.at_level(logging.DEBUG):
        export = workshop.export(HOST_A, HOST_B, secrets={HOST_A: secrets})
        connected(workshop, export).authenticate(proof(export, secrets))
        with pytest.raises(AuthenticationError):
            connected(workshop, export).authenticate(proof(export, new_secrets()))
    (found,) = workshop.target.exports()
    assert found.key_digests == {HOST_A: secrets.digest}
    said = "\n".join(
        (*caplog.messages, repr(found), repr(export), encode_line(workshop.target.status()).decode())
    )
    for key in (secrets.host_key, secrets.controller_key):
        assert key is not None
        assert key[10:-1] not in said


def test_the_log_says_why_a_host_was_turned_away(
    workshop: Workshop, caplog: pytest.LogCaptureFixture
) -> None:
    export = workshop.export(HOST_A, secrets={HOST_A: new_secrets()})
    with caplog.at_level(logging.WARNING):
        connected(workshop, export).close()
        eventually(lambda: any("no key" in line for line in caplog.messages))
        with pytest.raises(AuthenticationError):
            connected(workshop, export).authenticate(proof(export, new_secrets()))
        eventually(lambda: any("another key" in line for line in caplog.messages))
    assert all(HOST_A in line and nqn_of(export) in line for line in caplog.messages)
