"""What a token opens: everything, or what one host needs; every route has its line here."""

import http.client
import json
import re
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import pytest

from api.world import BASE, Reply, World, free_port, make_config, make_world
from weft.api.app import ROUTES
from weft.client import Client
from weft.errors import (
    ConflictError,
    InvalidValueError,
    NotFoundError,
    PermissionDeniedError,
    UnauthenticatedError,
)
from weft.model import HostId, Initiator, Protocol, TenantId
from weft.names import host_nqn, new_id
from weft.ports import TOKENS, Put
from weft.requests import (
    CreateAttachmentRequest,
    CreateTokenRequest,
    HostRequest,
    UpdateAttachmentRequest,
)
from weft.tokens import TokenScope, digest

NO, YES = 403, 200

OPEN_TO_A_HOST = {
    ("POST", "/block/volumes"): NO,
    ("GET", "/block/volumes"): YES,
    ("GET", "/block/volumes/{id}"): YES,
    ("PUT", "/block/volumes/{id}"): NO,
    ("DELETE", "/block/volumes/{id}"): NO,
    ("POST", "/block/volumes/{id}/resize"): NO,
    ("POST", "/block/volumes/{id}/revert"): NO,
    ("GET", "/block/volumes/{id}/refusals"): YES,
    ("POST", "/block/snapshots"): NO,
    ("GET", "/block/snapshots"): NO,
    ("GET", "/block/snapshots/{id}"): NO,
    ("PUT", "/block/snapshots/{id}"): NO,
    ("DELETE", "/block/snapshots/{id}"): NO,
    ("POST", "/block/attachments"): YES,
    ("GET", "/block/attachments"): YES,
    ("GET", "/block/attachments/{id}"): YES,
    ("PUT", "/block/attachments/{id}"): YES,
    ("DELETE", "/block/attachments/{id}"): YES,
    ("POST", "/host/hosts"): YES,
    ("GET", "/host/hosts"): YES,
    ("GET", "/host/hosts/{id}"): YES,
    ("PUT", "/host/hosts/{id}"): NO,
    ("DELETE", "/host/hosts/{id}"): NO,
    ("GET", "/host/hosts/{id}/secrets"): NO,
    ("PUT", "/host/hosts/{id}/secrets"): NO,
    ("DELETE", "/host/hosts/{id}/secrets"): NO,
    ("GET", "/token"): YES,
    ("POST", "/tokens"): NO,
    ("GET", "/tokens"): NO,
    ("DELETE", "/tokens/{id}"): NO,
    ("GET", "/pools"): NO,
    ("GET", "/pools/{id}"): NO,
    ("GET", "/availabilityZones"): NO,
    ("POST", "/profiles"): NO,
    ("GET", "/profiles"): NO,
    ("GET", "/profiles/{id}"): NO,
    ("PUT", "/profiles/{id}"): NO,
    ("DELETE", "/profiles/{id}"): NO,
    ("POST", "/profiles/{id}/customProperties"): NO,
    ("GET", "/profiles/{id}/customProperties"): NO,
    ("DELETE", "/profiles/{id}/customProperties/{key}"): NO,
}


@dataclass(frozen=True, slots=True)
class Guarded:
    """A world that is reached over TCP."""

    world: World
    tcp: tuple[str, int]

    def client(self, text: str, tenant_id: TenantId | None = None) -> Client:
        url = f"http://{self.tcp[0]}:{self.tcp[1]}"
        return Client.for_url(url, text, tenant_id=tenant_id or self.world.client.tenant_id)

    def token(self, host: str = "", valid_days: int | None = None) -> str:
        request = CreateTokenRequest(name=new_id(), host=host, valid_days=valid_days)
        return self.world.client.create_token(request).text

    def ask(self, text: str, method: str, path: str, body: object = None) -> Reply:
        return self.world.ask(method, path, body, {"Authorization": f"Bearer {text}"}, tcp=self.tcp)


@pytest.fixture
def guarded(short_path: Path) -> Iterator[Guarded]:
    port = free_port()
    with make_world(make_config(short_path, listen=(f"127.0.0.1:{port}",))) as world:
        yield Guarded(world, ("127.0.0.1", port))


@pytest.fixture(scope="module")
def lasting(module_path: Path) -> Iterator[tuple[Guarded, str]]:
    """A world that tests leave as it is, and the token of a host in it."""
    port = free_port()
    with make_world(
        make_config(module_path / "lasting", listen=(f"127.0.0.1:{port}",)), with_node=False
    ) as world:
        guarded = Guarded(world, ("127.0.0.1", port))
        world.host("web1")
        yield guarded, guarded.token("web1")


def test_every_route_has_its_line() -> None:
    assert set(OPEN_TO_A_HOST) == {(method, path) for method, path, _ in ROUTES}


@pytest.mark.parametrize(("method", "path"), [(method, path) for method, path, _ in ROUTES])
def test_a_hosts_token_opens_what_its_host_needs(
    lasting: tuple[Guarded, str], method: str, path: str
) -> None:
    guarded, text = lasting
    reply = guarded.ask(text, method, BASE + re.sub(r"{\w+}", "x", path), {} if method != "GET" else None)
    if OPEN_TO_A_HOST[method, path] == NO:
        assert (reply.status, reply.json["kind"]) == (403, "permissionDenied")
        assert "this token is for one host" in reply.json["message"]
    elif reply.status == 403:
        assert "its own host alone" in reply.json["message"]
    else:
        assert reply.status in {200, 400, 404}


@pytest.mark.parametrize(("method", "path"), [(method, path) for method, path, _ in ROUTES])
def test_an_administrators_token_opens_every_route(
    lasting: tuple[Guarded, str], method: str, path: str
) -> None:
    guarded, _ = lasting
    text = guarded.token()
    reply = guarded.ask(text, method, BASE + re.sub(r"{\w+}", "x", path), {} if method != "GET" else None)
    assert reply.status not in {401, 403, 405, 500}


def test_a_host_registers_itself_and_attaches_and_detaches_by_its_token(guarded: Guarded) -> None:
    volume = guarded.world.volume("data").volume
    nqn = host_nqn(new_id())
    client = guarded.client(guarded.token("web1"))
    host = client.create_host(HostRequest(name="web1", initiators=(_initiator(nqn),)))
    assert client.hosts() == [host]
    view = client.create_attachment(CreateAttachmentRequest(volume_id=volume.id, host_id=host.id), wait=20)
    assert view.connection is not None
    assert view.connection.host_nqn == nqn
    assert [each.volume.name for each in client.volumes(name="data")] == ["data"]
    assert client.attachments(volume.id, host.id) == [view]
    client.update_attachment(view.attachment.id, UpdateAttachmentRequest(metadata={"a": "b"}))
    assert client.delete_attachment(view.attachment.id, wait=20)


def test_a_host_sees_neither_other_hosts_nor_their_attachments(guarded: Guarded) -> None:
    volume = guarded.world.volume("data", multi_attach=True).volume
    other = guarded.world.host("other")
    own = guarded.world.host("web1")
    attached = guarded.world.attachment(volume.id, other)
    client = guarded.client(guarded.token("web1"))
    assert [each.id for each in client.hosts()] == [own]
    assert client.attachments() == []
    for verb in (client.attachment, client.delete_attachment):
        with pytest.raises(NotFoundError, match=attached.attachment.id):
            verb(attached.attachment.id)
    with pytest.raises(NotFoundError):
        client.host(other)
    with pytest.raises(NotFoundError):
        client.update_attachment(attached.attachment.id, UpdateAttachmentRequest(mountpoint="/mnt"))
    for host_id in (other, HostId(new_id())):
        with pytest.raises(PermissionDeniedError, match="its own host alone"):
            client.create_attachment(CreateAttachmentRequest(volume_id=volume.id, host_id=host_id))
    assert guarded.world.client.attachments() == [attached]


def test_the_first_registration_binds_a_token_to_its_nqn(guarded: Guarded) -> None:
    text = guarded.token("web1")
    client, first = guarded.client(text), host_nqn(new_id())
    host = client.create_host(HostRequest(name="web1", initiators=(_initiator(first),)))
    assert (client.own_token().host_id, client.own_token().host_nqn) == (host.id, first)
    with pytest.raises(PermissionDeniedError, match=f"host web1 with NQN {first}, which is registered"):
        client.create_host(HostRequest(name="web2", initiators=(_initiator(),)))
    guarded.world.client.delete_host(host.id)
    with pytest.raises(PermissionDeniedError, match=f"for the host with NQN {first}"):
        client.create_host(HostRequest(name="web1", initiators=(_initiator(),)))
    again = client.create_host(HostRequest(name="web1", initiators=(_initiator(first),)))
    assert client.own_token().host_id == again.id
    assert client.hosts() == [again]


def test_a_token_for_a_name_or_an_nqn_registers_that_and_nothing_else(guarded: Guarded) -> None:
    nqn = host_nqn(new_id())
    by_name, by_nqn = guarded.client(guarded.token("web1")), guarded.client(guarded.token(nqn))
    with pytest.raises(PermissionDeniedError, match="a host named web1, not web2"):
        by_name.create_host(HostRequest(name="web2", initiators=(_initiator(),)))
    with pytest.raises(PermissionDeniedError, match=f"the host with NQN {nqn}"):
        by_nqn.create_host(HostRequest(name="web1", initiators=(_initiator(),)))
    with pytest.raises(PermissionDeniedError, match="one initiator"):
        by_nqn.create_host(HostRequest(name="web1", initiators=(_initiator(nqn), _initiator())))
    with pytest.raises(PermissionDeniedError, match="one initiator"):
        by_name.create_host(HostRequest(name="web1"))
    assert guarded.world.client.hosts() == []
    assert by_nqn.create_host(HostRequest(name="any", initiators=(_initiator(nqn),))).name == "any"


def test_a_token_cannot_take_the_nqn_of_another_host(guarded: Guarded) -> None:
    nqn = host_nqn(new_id())
    guarded.world.client.create_host(HostRequest(name="first", initiators=(_initiator(nqn),)))
    client = guarded.client(guarded.token("second"))
    with pytest.raises(ConflictError, match=f"{nqn} already belongs to another host.*cloned image"):
        client.create_host(HostRequest(name="second", initiators=(_initiator(nqn),)))
    assert client.own_token().host_nqn == ""
    assert client.hosts() == []


def test_a_token_cannot_take_the_nqn_that_another_token_is_for(guarded: Guarded) -> None:
    nqn = host_nqn(new_id())
    stranger, owner = guarded.client(guarded.token("stranger")), guarded.client(guarded.token(nqn))
    taking = HostRequest(name="stranger", initiators=(_initiator(nqn),))
    with pytest.raises(PermissionDeniedError, match=f"another token is for the host with NQN {nqn}"):
        stranger.create_host(taking)
    host = owner.create_host(HostRequest(name="owner", initiators=(_initiator(nqn),)))
    guarded.world.client.delete_host(host.id)
    with pytest.raises(PermissionDeniedError, match="another token"):
        stranger.create_host(taking)
    second = guarded.client(guarded.token(nqn))
    assert second.create_host(replace(taking, name="owner")).name == "owner"


def test_an_nqn_is_free_again_when_its_token_has_expired(guarded: Guarded) -> None:
    nqn = host_nqn(new_id())
    guarded.token(nqn, valid_days=1)
    (row,) = guarded.world.store.list(TOKENS)
    expired = replace(row.value, expires_at=row.value.created_at - timedelta(seconds=1))
    guarded.world.store.transact({}, [Put(TOKENS, expired)])
    client = guarded.client(guarded.token("web1"))
    assert client.create_host(HostRequest(name="web1", initiators=(_initiator(nqn),))).name == "web1"


def test_a_token_for_a_registered_host_is_for_that_host(guarded: Guarded) -> None:
    host_id = guarded.world.host("web1")
    for wanted in ("web1", host_id, guarded.world.client.host(host_id).initiators[0].port_name):
        assert [each.id for each in guarded.client(guarded.token(wanted)).hosts()] == [host_id]


def test_a_hosts_token_is_good_for_its_tenant_alone(guarded: Guarded) -> None:
    client = guarded.client(guarded.token("web1"), TenantId("another"))
    with pytest.raises(PermissionDeniedError, match="another tenant"):
        client.volumes()


def test_a_token_for_a_registered_host_is_good_for_that_hosts_tenant(guarded: Guarded) -> None:
    tenant = TenantId("another")
    of_tenant = Client.for_config(guarded.world.config, tenant_id=tenant)
    host = of_tenant.create_host(HostRequest(name="web1", initiators=(_initiator(),)))
    text = guarded.token("web1")
    assert guarded.client(text, tenant).hosts() == [host]
    with pytest.raises(PermissionDeniedError, match="another tenant"):
        guarded.client(text).hosts()


def test_a_revoked_token_opens_nothing_also_on_a_connection_that_it_has_used(guarded: Guarded) -> None:
    new = guarded.world.client.create_token(CreateTokenRequest(name="short"))
    headers = {"Authorization": f"Bearer {new.text}"}
    connection = http.client.HTTPConnection(*guarded.tcp)
    try:
        connection.request("GET", f"{BASE}/pools", headers=headers)
        first = connection.getresponse()
        first.read()
        guarded.world.client.revoke_token(new.token.id)
        connection.request("GET", f"{BASE}/pools", headers=headers)
        second = connection.getresponse()
        assert (first.status, second.status) == (200, 401)
    finally:
        connection.close()
    with pytest.raises(NotFoundError):
        guarded.world.client.revoke_token(new.token.id)


def test_a_token_that_has_expired_opens_nothing(guarded: Guarded) -> None:
    text = guarded.token(valid_days=1)
    assert guarded.client(text).pools()
    (row,) = guarded.world.store.list(TOKENS)
    assert row.value.expires_at == row.value.created_at + timedelta(days=1)
    guarded.world.store.transact({}, [Put(TOKENS, replace(row.value, expires_at=row.value.created_at))])
    with pytest.raises(UnauthenticatedError):
        guarded.client(text).pools()


def test_what_is_wrong_with_a_token_is_not_told(guarded: Guarded) -> None:
    real = guarded.token()
    same_id = real[:-43] + "A" * 43
    unknown = f"weft_{'0' * 32}_{'A' * 43}"
    replies = [guarded.ask(text, "GET", f"{BASE}/pools") for text in (same_id, unknown, "x", real[:-1])]
    assert {(reply.status, reply.body) for reply in replies} == {(401, replies[0].body)}


def test_a_token_rests_only_as_its_hash(guarded: Guarded) -> None:
    text = guarded.token("web1")
    folder = guarded.world.config.data_dir
    assert not [path for path in folder.iterdir() if text.encode() in path.read_bytes()]
    with sqlite3.connect(guarded.world.config.database) as database:
        (body,) = database.execute("SELECT body FROM rows WHERE name = 'tokens'").fetchone()
    assert json.loads(body)["digest"] == digest(text)
    assert text[-43:] not in guarded.ask(guarded.token(), "GET", f"{BASE}/tokens").body.decode()
    assert digest(text) not in guarded.ask(guarded.token(), "GET", f"{BASE}/tokens").body.decode()


def test_a_client_learns_what_it_comes_with(guarded: Guarded) -> None:
    assert guarded.world.client.own_token().scope is TokenScope.ADMIN
    assert guarded.client(guarded.world.config.token_file.read_text()).own_token().name == ""
    assert guarded.client(guarded.token("web1")).own_token().scope is TokenScope.HOST


def test_a_tokens_name_is_its_own_until_it_is_revoked(guarded: Guarded) -> None:
    client = guarded.world.client
    first = client.create_token(CreateTokenRequest(name="a"))
    with pytest.raises(ConflictError, match="there is a token named a already"):
        client.create_token(CreateTokenRequest(name="a"))
    client.revoke_token(first.token.id)
    assert client.create_token(CreateTokenRequest(name="a")).token.id != first.token.id


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (CreateTokenRequest(name=""), "name"),
        (CreateTokenRequest(name="a", host="no good"), "host"),
        (CreateTokenRequest(name="a", host="nqn.nonsense"), "host"),
        (CreateTokenRequest(name="a", valid_days=0), "validDays"),
        (CreateTokenRequest(name="a", valid_days=99999), "validDays"),
    ],
)
def test_a_token_that_makes_no_sense_is_refused(
    lasting: tuple[Guarded, str], request_: CreateTokenRequest, field: str
) -> None:
    client = lasting[0].world.client
    before = client.tokens()
    with pytest.raises(InvalidValueError) as refusal:
        client.create_token(request_)
    assert refusal.value.field == field
    assert client.tokens() == before


def test_only_administrators_deal_with_tokens(guarded: Guarded) -> None:
    another_tenant = Client.for_config(guarded.world.config, tenant_id=TenantId("another"))
    for verb in (another_tenant.tokens, lambda: another_tenant.create_token(CreateTokenRequest(name="a"))):
        with pytest.raises(PermissionDeniedError, match="only an administrator"):
            verb()


def _initiator(nqn: str = "") -> Initiator:
    return Initiator(port_name=nqn or host_nqn(new_id()), protocol=Protocol.NVMEOF)
