"""Keys over the API: written by administrators, read with one attachment, answered nowhere else."""

import logging
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from api.world import BASE, World, free_port, make_config, make_world
from eventually import eventually
from weft.client import Client
from weft.connection import NvmeofConnection
from weft.errors import ConflictError, InvalidValueError, NotFoundError, PermissionDeniedError
from weft.model import DhChapSecrets, HostId, Refusal, RefusalReason
from weft.names import new_id
from weft.nvme.dhchap_key import generate_dhchap_key
from weft.requests import CreateTokenRequest
from weft.views import AttachmentView, HeldKeys


@pytest.fixture
def guarded(short_path: Path) -> Iterator[World]:
    with make_world(make_config(short_path, listen=(f"127.0.0.1:{free_port()}",))) as world:
        yield world


def for_host(world: World, host_id: HostId) -> Client:
    text = world.client.create_token(CreateTokenRequest(name=new_id(), host=host_id)).text
    return Client.for_url(f"http://{world.config.api.listen[0]}", text)


def attached(world: World) -> tuple[HostId, AttachmentView]:
    host_id = world.host(f"h-{new_id()}")
    return host_id, world.attachment(world.volume().volume.id, host_id)


def shown_connection(world: World, view: AttachmentView) -> NvmeofConnection:
    """With the keys; it is held back until the target has those that count now."""
    shown: list[NvmeofConnection] = []

    def is_shown() -> bool:
        found = world.client.attachment(view.attachment.id, secrets=True).connection
        if isinstance(found, NvmeofConnection):
            shown.append(found)
        return bool(shown)

    eventually(is_shown)
    return shown[0]


def test_keys_are_set_read_with_the_attachment_and_removed(world: World) -> None:
    host_id = world.host()
    wanted = DhChapSecrets(host_key=generate_dhchap_key(), controller_key=generate_dhchap_key())
    held = world.client.set_host_secrets(host_id, wanted)
    assert held == HeldKeys(host_key=True, controller_key=True) == world.client.held_secrets(host_id)
    view = world.attachment(world.volume().volume.id, host_id)
    assert view.connection is not None
    assert view.connection.secrets is None
    assert shown_connection(world, view).secrets == wanted
    world.client.remove_host_secrets(host_id, force=True)
    assert shown_connection(world, view).secrets is None
    assert world.client.held_secrets(host_id) == HeldKeys(host_key=False, controller_key=False)


@pytest.mark.parametrize("both_ways", [False, True])
def test_keys_are_made_if_asked_for(world: World, *, both_ways: bool) -> None:
    host_id, view = attached(world)
    held = world.client.generate_host_secrets(host_id, both_ways=both_ways, force=True)
    assert held == HeldKeys(host_key=True, controller_key=both_ways)
    first = shown_connection(world, view)
    world.client.generate_host_secrets(host_id, both_ways=both_ways, force=True)
    second = shown_connection(world, view)
    assert first.secrets != second.secrets
    assert second.secrets is not None
    digests = {view.connection.host_nqn: second.secrets.digest} if view.connection else {}

    def is_in_force() -> bool:
        found = world.target.export(view.attachment.volume_id)
        return found is not None and found.key_digests == digests

    eventually(is_in_force)


def test_a_change_under_a_hosts_feet_needs_force(world: World) -> None:
    host_id, _ = attached(world)
    with pytest.raises(ConflictError, match="volumes are attached"):
        world.client.generate_host_secrets(host_id)
    world.client.generate_host_secrets(host_id, force=True)
    with pytest.raises(ConflictError, match="volumes are attached"):
        world.client.remove_host_secrets(host_id)


def test_a_host_reads_its_own_keys_by_its_token_and_no_others(guarded: World) -> None:
    (own, view), (other, others_view) = attached(guarded), attached(guarded)
    for host_id in (own, other):
        guarded.client.generate_host_secrets(host_id, force=True)
    client = for_host(guarded, own)
    shown = client.attachment(view.attachment.id, secrets=True).connection
    assert shown is not None
    assert shown.secrets is not None
    with pytest.raises(NotFoundError):
        client.attachment(others_view.attachment.id, secrets=True)
    for verb in (client.held_secrets, client.generate_host_secrets, client.remove_host_secrets):
        with pytest.raises(PermissionDeniedError):
            verb(own)


def test_keys_are_in_no_other_answer_and_in_no_log(guarded: World, caplog: pytest.LogCaptureFixture) -> None:
    host_id, view = attached(guarded)
    secrets = DhChapSecrets(host_key=generate_dhchap_key(), controller_key=generate_dhchap_key())
    mistyped = secrets.host_key[:-3] + "!!:"
    volume = f"{BASE}/block/volumes/{view.attachment.volume_id}"
    attachment = f"{BASE}/block/attachments/{view.attachment.id}"
    host = f"{BASE}/host/hosts/{host_id}"
    body = {"dhchapSecret": secrets.host_key, "dhchapCtrlSecret": secrets.controller_key, "force": True}
    with caplog.at_level(logging.DEBUG):
        replies = [
            guarded.ask("PUT", f"{host}/secrets", body),
            guarded.ask("PUT", f"{host}/secrets", {**body, "dhchapSecret": mistyped}),
            guarded.ask("PUT", f"{host}/secrets", {**body, "dhchapSecret": [secrets.host_key]}),
            guarded.ask("PUT", f"{host}/secrets", {**body, "generate": True}),
            guarded.ask("GET", f"{host}/secrets"),
            guarded.ask("GET", host),
            guarded.ask("GET", f"{BASE}/host/hosts"),
            guarded.ask("GET", attachment),
            guarded.ask("GET", f"{attachment}?secrets=false"),
            guarded.ask("PUT", f"{attachment}?secrets=true", {"mountpoint": "/mnt"}),
            guarded.ask("GET", f"{BASE}/block/attachments?secrets=true"),
            guarded.ask("GET", f"{volume}/refusals"),
            guarded.ask("GET", volume),
        ]
    read = guarded.ask("GET", f"{attachment}?secrets=true")
    assert read.json["connectionInfo"]["data"]["dhchapSecret"] == secrets.host_key
    assert read.json["connectionInfo"]["data"]["dhchapCtrlSecret"] == secrets.controller_key
    assert read.headers["cache-control"] == "no-store"
    told = caplog.text + "".join(reply.body.decode() for reply in replies)
    for text in (secrets.host_key, secrets.controller_key, mistyped[:-3]):
        assert text is not None
        assert text not in told
    assert [reply.status for reply in replies[:4]] == [200, 400, 400, 400]


@pytest.mark.parametrize(
    ("host_key", "controller_key", "field"),
    [
        ("", None, "dhchapSecret"),
        ("DHHC-1:00:abc:", None, "dhchapSecret"),
        ("secret", None, "dhchapSecret"),
        (generate_dhchap_key(), "secret", "dhchapCtrlSecret"),
    ],
)
def test_what_is_no_key_is_refused_without_being_quoted(
    world: World, host_key: str, controller_key: str | None, field: str
) -> None:
    host_id = world.host()
    with pytest.raises(InvalidValueError) as refused:
        world.client.set_host_secrets(
            host_id, DhChapSecrets(host_key=host_key, controller_key=controller_key)
        )
    assert refused.value.field == field
    assert not any(each and each in str(refused.value) for each in (host_key, controller_key))
    assert world.client.held_secrets(host_id) == HeldKeys(host_key=False, controller_key=False)


def test_one_key_for_both_sides_is_refused(world: World) -> None:
    key = generate_dhchap_key()
    with pytest.raises(InvalidValueError, match=r"dhchapCtrlSecret: is the host's own key"):
        world.client.set_host_secrets(world.host(), DhChapSecrets(host_key=key, controller_key=key))


def test_a_client_learns_why_a_host_was_not_let_in(guarded: World) -> None:
    host_id, view = attached(guarded)
    assert view.connection is not None
    volume_id, nqn = view.attachment.volume_id, view.connection.host_nqn
    guarded.target.refused = [
        Refusal(volume_id=volume_id, initiator=nqn, reason=RefusalReason.WRONG_KEY, at=datetime.now(UTC))
    ]
    for client in (guarded.client, for_host(guarded, host_id)):
        (told,) = client.refusals(volume_id, nqn)
        assert (told.reason, told.initiator) == (RefusalReason.WRONG_KEY, nqn)
        assert "authenticated with another key" in told.message
        assert told.age is not None
        assert told.at is not None
    (told,) = guarded.client.refusals(volume_id, "nqn.2024-01.com.example:nobody")
    assert (told.reason, told.at, told.age) == (RefusalReason.NOT_LISTED, None, None)
