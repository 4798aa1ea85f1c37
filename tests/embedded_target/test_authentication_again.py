"""Live hosts may prove themselves again, by the key of that time; those that fail are cut off."""

import pytest

from embedded_target.authentication import ENABLE, connected, io_queue, new_secrets, proof, rotate
from embedded_target.workshop import HOST_A, HOST_B, MakeWorkshop, Workshop
from weft.embedded.target.settings import Limits
from weft.nvme.admin import KeepAlive
from weft.nvme.auth import AuthenticationError
from weft.nvme.nvm import Read, Write
from weft.nvme.status import StatusCode


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
