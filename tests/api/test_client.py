"""The typed client: every verb over a real server, and the service's own errors."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from api.world import POOL_ID, World
from weft.client import Client
from weft.errors import (
    ConflictError,
    InvalidValueError,
    NoSpaceError,
    NotFoundError,
    UnavailableError,
    UnsupportedError,
    WeftError,
)
from weft.model import GIB, AccessMode, HostId, Initiator, Protocol, StateStatus, Status, TenantId, VolumeId
from weft.names import new_id
from weft.requests import (
    CreateAttachmentRequest,
    CreateSnapshotRequest,
    CreateVolumeRequest,
    HostRequest,
    ProfileRequest,
    UpdateAttachmentRequest,
    UpdateRequest,
)


def test_a_volume_is_made_changed_and_deleted(world: World) -> None:
    client = world.client
    profile = client.profiles(name="default_block")[0]
    request = CreateVolumeRequest(
        name="v",
        size=GIB,
        description="d",
        pool_id=POOL_ID,
        profile_id=profile.id,
        availability_zone="default",
        multi_attach=True,
        metadata={"owner": "me"},
    )
    made = client.create_volume(request, wait=20)
    volume = made.volume
    assert (made.status, made.size, volume.size) == (Status.AVAILABLE, GIB, GIB)
    assert (volume.name, volume.description, volume.pool_id, volume.profile_id) == (
        "v",
        "d",
        POOL_ID,
        profile.id,
    )
    assert (volume.multi_attach, volume.metadata) == (True, {"owner": "me"})
    assert made.path
    assert client.volume(volume.id) == made
    assert client.volumes() == client.volumes(name="v") == [made]
    assert client.volumes(name="w") == []
    renamed = client.update_volume(volume.id, UpdateRequest(name="w", metadata={"more": "x"}))
    assert (renamed.volume.name, renamed.volume.metadata) == ("w", {"owner": "me", "more": "x"})
    assert renamed.volume.updated_at is not None
    assert client.extend_volume(volume.id, 2 * GIB, wait=20).size == 2 * GIB
    assert client.delete_volume(volume.id, wait=20) is True
    assert client.volumes() == []


def test_growth_that_is_under_way_tells_both_sizes(world: World) -> None:
    volume = world.volume()
    world.plan.fail("driver.extend", UnavailableError("busy"), times=1000)
    growing = world.client.extend_volume(volume.volume.id, 3 * GIB)
    assert (growing.status, growing.size, growing.volume.size) == (Status.EXTENDING, GIB, 3 * GIB)


def test_a_volume_is_reverted_and_made_from_a_snapshot(world: World) -> None:
    client = world.client
    volume = world.volume()
    request = CreateSnapshotRequest(name="s", volume_id=volume.volume.id, metadata={"k": "v"})
    snapshot = client.create_snapshot(request, wait=20)
    assert (snapshot.status, snapshot.size, snapshot.snapshot.metadata) == (Status.AVAILABLE, GIB, {"k": "v"})
    assert client.snapshot(snapshot.snapshot.id) == snapshot
    assert (
        client.snapshots(volume.volume.id) == client.snapshots() == client.snapshots(name="s") == [snapshot]
    )
    assert client.snapshots(VolumeId(new_id())) == []
    assert client.update_snapshot(snapshot.snapshot.id, UpdateRequest(name="t")).snapshot.name == "t"
    assert client.revert_volume(volume.volume.id, snapshot.snapshot.id, wait=20).status is Status.AVAILABLE
    copy = client.create_volume(
        CreateVolumeRequest(name="copy", size=2 * GIB, snapshot_id=snapshot.snapshot.id), wait=20
    )
    assert (copy.status, copy.volume.source_snapshot_id) == (Status.AVAILABLE, snapshot.snapshot.id)
    assert client.delete_snapshot(snapshot.snapshot.id, wait=20) is True


def test_a_volume_is_attached_and_detached(world: World) -> None:
    client = world.client
    volume, host_id = world.volume(), world.host()
    request = CreateAttachmentRequest(volume_id=volume.volume.id, host_id=host_id, mountpoint="/mnt")
    made = client.create_attachment(request, wait=20)
    assert (made.status, made.attachment.mountpoint) == (Status.AVAILABLE, "/mnt")
    assert made.connection is not None
    assert made.connection.volume_id == volume.volume.id
    assert made.connection.host_nqn == client.host(host_id).initiator(Protocol.NVMEOF)
    assert client.attachment(made.attachment.id) == made
    assert client.attachments(volume.volume.id) == client.attachments(host_id=host_id) == [made]
    assert client.attachments(host_id=HostId(new_id())) == []
    moved = client.update_attachment(made.attachment.id, UpdateAttachmentRequest(mountpoint="/srv"))
    assert moved.attachment.mountpoint == "/srv"
    with pytest.raises(ConflictError, match="please detach them first"):
        client.delete_host(host_id)
    assert client.delete_attachment(made.attachment.id, wait=20) is True
    client.delete_host(host_id)
    assert client.hosts() == []


def test_a_deletion_that_was_not_waited_for_tells_whether_the_thing_is_gone(still_world: World) -> None:
    client = still_world.client
    volume = still_world.client.create_volume(CreateVolumeRequest(name="v", size=GIB))
    assert not client.delete_volume(volume.volume.id)
    assert client.volume(volume.volume.id).status is Status.DELETING


def test_a_host_keeps_what_it_was_registered_with(world: World) -> None:
    initiator = Initiator(port_name="nqn.2014-08.org.nvmexpress:uuid:h", protocol=Protocol.NVMEOF)
    request = HostRequest(
        name="h",
        os_type="linux",
        access_mode="agent",
        ip="2001:db8::1",
        port=22,
        username="u",
        availability_zones=("default", "az2"),
        initiators=(initiator,),
    )
    host = world.client.create_host(request)
    assert (host.name, host.ip, host.port, host.availability_zones) == (
        "h",
        "2001:db8::1",
        22,
        ("default", "az2"),
    )
    assert host.initiators == (initiator,)
    assert world.client.host(host.id) == host
    assert world.client.hosts(name="h") == [host]
    assert world.client.update_host(host.id, HostRequest(ip="192.0.2.1")).ip == "192.0.2.1"


def test_a_pool_is_told_to_the_byte(world: World) -> None:
    world.volume()
    (pool,) = world.client.pools()
    assert world.client.pool(POOL_ID) == pool
    assert world.client.pools(name="default") == [pool]
    assert pool == world.service.pools.get(POOL_ID)
    assert (pool.status, pool.booked) == (StateStatus.AVAILABLE, GIB)
    assert world.client.availability_zones() == ["default"]


def test_a_profile_is_made_changed_and_deleted(world: World) -> None:
    client = world.client
    request = ProfileRequest(
        name="p",
        storage_type="block",
        access_protocol=Protocol.NVMEOF,
        custom_properties={"capabilities:diskType": "SSD"},
    )
    profile = client.create_profile(request)
    assert profile.access_protocol is Protocol.NVMEOF
    assert client.profile(profile.id) == profile
    assert client.update_profile(profile.id, ProfileRequest(description="d")).description == "d"
    assert client.add_profile_properties(profile.id, {"a": "b"}) == {**profile.custom_properties, "a": "b"}
    client.remove_profile_property(profile.id, "capabilities:diskType")
    assert client.profile(profile.id).custom_properties == {"a": "b"}
    client.delete_profile(profile.id)
    assert client.profiles(name="p") == []


def test_the_services_errors_come_through_as_they_are(world: World) -> None:
    client = world.client
    with pytest.raises(InvalidValueError, match="may only hold") as refused:
        client.create_volume(CreateVolumeRequest(name="a/b", size=GIB))
    assert refused.value.field == "name"
    assert str(refused.value) == f"name: {refused.value.reason}"
    with pytest.raises(NoSpaceError, match="no pool has room"):
        client.create_volume(CreateVolumeRequest(name="v", size=4096 * GIB))
    with pytest.raises(NotFoundError, match="can't be found"):
        client.volume(VolumeId(new_id()))
    host_id = world.host()
    request = CreateAttachmentRequest(
        volume_id=world.volume().volume.id, host_id=host_id, access_mode=AccessMode.READ_ONLY
    )
    with pytest.raises(UnsupportedError, match="cannot be read-only"):
        client.create_attachment(request)
    with pytest.raises(ConflictError, match="already exists"):
        client.create_host(HostRequest(name="h1"))


def test_an_id_can_name_nothing_but_one_thing(world: World) -> None:
    for odd in ("..", "?limit=0", "%2e%2e", "a b\r\nX: y", "é"):
        with pytest.raises(NotFoundError):
            world.client.volume(VolumeId(odd))
    with pytest.raises(InvalidValueError, match="must not be empty"):
        world.client.delete_volume(VolumeId(""))
    with pytest.raises(InvalidValueError, match="hold a slash"):
        world.client.delete_volume(VolumeId("x/resize"))


def test_a_client_acts_for_its_tenant(world: World) -> None:
    tenant = Client.for_config(world.config, tenant_id=TenantId("tenant-a"))
    made = tenant.create_volume(CreateVolumeRequest(name="v", size=GIB))
    assert made.volume.tenant_id == "tenant-a"
    assert Client.for_config(world.config, tenant_id=TenantId("tenant-b")).volumes() == []


@pytest.mark.parametrize(
    "endpoint",
    ["", "localhost", "unix://x", "https://", "https://h:port", "https://h/path", "https://u@h", "file:///x"],
)
def test_an_endpoint_that_is_none_is_refused(endpoint: str) -> None:
    with pytest.raises(InvalidValueError, match="endpoint"):
        Client(endpoint)


@pytest.mark.parametrize("endpoint", ["http://node1", "http://192.0.2.1:50040", "http://localhost.example"])
def test_nothing_is_said_in_clear_off_this_machine(endpoint: str) -> None:
    with pytest.raises(InvalidValueError, match="leads off this machine without TLS; use https://"):
        Client(endpoint)


def test_a_token_may_have_its_line_end_and_nothing_else_odd() -> None:
    Client.for_url("http://127.0.0.1:1", "abc\n")
    for odd in ("", " ", "a\nb", "é"):
        with pytest.raises(InvalidValueError, match="token"):
            Client.for_url("http://127.0.0.1:1", odd)


@contextmanager
def answering(reply: bytes | None) -> Iterator[str]:
    """A server that gives one answer, whatever it is asked; None: it never answers."""
    ended = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                if reply is None:
                    ended.wait(10)
                else:
                    connection.sendall(reply)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            ended.set()
            thread.join()


@pytest.mark.parametrize(
    ("reply", "says"),
    [
        (b"", "connection to weft serve at http://.* failed"),
        (b"SSH-2.0-OpenSSH\r\n", "connection to weft serve at http://.* failed"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n[", "connection to weft serve at http://.* failed"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n<html>", "is the endpoint right"),
        (b'HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n[{"id":"x"}]', "is the endpoint right"),
        (b"HTTP/1.1 502 Bad\r\nContent-Length: 6\r\n\r\n<html>", "HTTP status 502"),
        (b'HTTP/1.1 500 Bad\r\nContent-Length: 26\r\n\r\n{"code":500,"message":"m"}', "m"),
    ],
)
def test_whatever_else_answers_is_one_of_wefts_errors(reply: bytes, says: str) -> None:
    with answering(reply) as url, pytest.raises(WeftError, match=says):
        Client.for_url(url).volumes()


def test_a_server_that_does_not_answer_is_given_up() -> None:
    with answering(None) as url, pytest.raises(UnavailableError, match=r"did not answer within 0\.2 s"):
        Client.for_url(url, timeout=0.2).volumes()
