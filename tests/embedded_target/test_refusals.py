"""The target remembers and says why it turned somebody away."""

import logging
from dataclasses import replace
from pathlib import Path

import pytest

from embedded_target.authentication import connected, new_secrets, proof, refusals
from embedded_target.workshop import HOST_A, HOST_B, Workshop, nqn_of
from eventually import eventually
from weft.embedded.target.control import ControlClient, ListRefusals, Refusals
from weft.embedded.target.control_server import ControlServer
from weft.embedded.target.refusals import REMEMBERED_HOSTS
from weft.model import RefusalReason
from weft.nvme.auth import AuthenticationError, AuthenticationFault
from weft.nvme.dhchap_key import generate_dhchap_key


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
