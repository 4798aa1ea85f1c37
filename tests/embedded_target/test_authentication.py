"""Hosts with keys must prove who they are on every queue, and in time."""

import pytest

from embedded_target.authentication import ENABLE, connected, io_queue, new_secrets, proof, refusals
from embedded_target.workshop import HOST_A, HOST_B, MakeWorkshop, Workshop
from weft.embedded.target.discovery import DISCOVERY_NQN
from weft.embedded.target.settings import Limits
from weft.nvme.admin import KeepAlive
from weft.nvme.fabrics import AUTHREQ_ATR, PropertyGet
from weft.nvme.nvm import Read
from weft.nvme.properties import Property
from weft.nvme.status import StatusCode


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
