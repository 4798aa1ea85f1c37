"""Who may come in: the owner over the unix socket, holders of the token over TCP, nobody from a web page."""

import logging
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from api.world import BASE, World, free_port, make_config, make_world
from weft.api import gates
from weft.api.token import load_token
from weft.client import Client
from weft.config import ApiAuth
from weft.errors import DataError, PermissionDeniedError, UnauthenticatedError
from weft.logs import RateLimit
from weft.model import GIB, Status
from weft.requests import CreateVolumeRequest

POOLS = f"{BASE}/pools"


@pytest.fixture(scope="module")
def guarded(module_path: Path) -> Iterator[tuple[World, tuple[str, int]]]:
    port = free_port()
    with make_world(make_config(module_path / "guarded", listen=(f"127.0.0.1:{port}",))) as world:
        yield world, ("127.0.0.1", port)


@pytest.fixture(scope="module")
def unguarded(module_path: Path) -> Iterator[tuple[World, tuple[str, int]]]:
    port = free_port()
    config = make_config(module_path / "unguarded", listen=(f"127.0.0.1:{port}",), auth=ApiAuth.NONE)
    with make_world(config) as world:
        yield world, ("127.0.0.1", port)


@pytest.mark.parametrize("header", ["Authorization", "X-Auth-Token"])
def test_the_token_opens_the_api_over_tcp(guarded: tuple[World, tuple[str, int]], header: str) -> None:
    world, tcp = guarded
    token = world.config.token_file.read_text().strip()
    value = f"Bearer {token}" if header == "Authorization" else token
    assert world.ask("GET", POOLS, headers={header: value}, tcp=tcp).status == 200


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer wrong"},
        {"Authorization": "Bearer "},
        {"Authorization": "Bearer é"},
        {"Authorization": "Basic dTpw"},
        {"X-Auth-Token": "wrong"},
        {"Host": "localhost"},
    ],
)
def test_without_the_token_everything_over_tcp_is_a_401(
    guarded: tuple[World, tuple[str, int]], headers: dict[str, str]
) -> None:
    world, tcp = guarded
    for method, path in [
        ("GET", POOLS),
        ("POST", f"{BASE}/block/volumes"),
        ("DELETE", f"{BASE}/pools/x/y/z"),
    ]:
        reply = world.ask(method, path, headers=headers, tcp=tcp)
        if path.endswith("z"):
            assert reply.status == 404
            continue
        assert (reply.status, reply.json["kind"]) == (401, "unauthenticated")
        assert reply.headers["www-authenticate"] == "Bearer"
    assert world.client.volumes() == []


def test_versions_need_no_token(guarded: tuple[World, tuple[str, int]]) -> None:
    world, tcp = guarded
    assert world.ask("GET", "/", tcp=tcp).status == 200
    assert world.ask("GET", "/v1beta", tcp=tcp).status == 200


def test_the_unix_socket_needs_no_token(guarded: tuple[World, tuple[str, int]]) -> None:
    world, _ = guarded
    assert world.ask("GET", POOLS).status == 200


def test_a_client_over_tcp_works_with_the_token_and_says_what_is_wrong_without(
    guarded: tuple[World, tuple[str, int]],
) -> None:
    world, (host, port) = guarded
    url = f"http://{host}:{port}"
    with pytest.raises(UnauthenticatedError, match="token not found in header"):
        Client.for_url(url).pools()
    client = Client.for_url(url, world.config.token_file.read_text().strip())
    volume = client.create_volume(CreateVolumeRequest(name="v", size=GIB), wait=20)
    assert volume.status is Status.AVAILABLE
    assert world.client.volumes() == [volume]
    assert client.delete_volume(volume.volume.id, wait=20)


def test_the_api_listens_on_ipv6_loopback(short_path: Path) -> None:
    port = free_port("::1")
    with make_world(make_config(short_path, listen=(f"[::1]:{port}",))) as world:
        token = world.config.token_file.read_text().strip()
        assert Client.for_url(f"http://[::1]:{port}", token).pools()


def test_where_no_token_is_asked_for_a_program_on_this_machine_comes_in(
    unguarded: tuple[World, tuple[str, int]],
) -> None:
    world, (address, port) = unguarded
    for host in (f"127.0.0.1:{port}", f"localhost:{port}", "localhost", f"[::1]:{port}", "LOCALHOST"):
        assert world.ask("GET", POOLS, headers={"Host": host}, tcp=(address, port)).status == 200
    assert not world.config.token_file.exists()


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Host": "evil.example:50040"},
        {"Host": "localhost.evil.example"},
        {"Host": "localhost@evil.example"},
        {"Host": "192.0.2.1"},
        {"Host": "["},
        {"Host": ""},
        {"Host": "localhost", "Origin": "http://evil.example"},
        {"Host": "localhost", "Origin": "null"},
        {"Host": "localhost:1", "Origin": "http://localhost:2"},
    ],
)
def test_where_no_token_is_asked_for_web_pages_stay_out(
    unguarded: tuple[World, tuple[str, int]], headers: dict[str, str]
) -> None:
    world, tcp = unguarded
    reply = world.ask("POST", f"{BASE}/block/volumes", {"name": "v", "size": 1}, headers, tcp=tcp)
    assert (reply.status, reply.json["kind"]) == (403, "permissionDenied")
    assert world.client.volumes() == []


def test_a_token_file_is_made_once_and_for_its_owner_only(short_path: Path) -> None:
    path = short_path / "data" / "token"
    token = load_token(path)
    assert len(token) >= 32
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert load_token(path) == token
    assert [each.name for each in path.parent.iterdir()] == ["token"]


def test_a_token_that_others_can_read_is_refused(short_path: Path) -> None:
    path = short_path / "token"
    load_token(path)
    path.chmod(0o640)
    with pytest.raises(PermissionDeniedError, match=r"mode 0640.*chmod 600"):
        load_token(path)


@pytest.mark.parametrize("content", [b"", b" \n", b"\xff\xfe", b"a\nb"])
def test_a_token_file_without_a_token_is_refused(short_path: Path, content: bytes) -> None:
    path = short_path / "token"
    path.touch(mode=0o600)
    path.write_bytes(content)
    with pytest.raises(DataError, match="does not hold a token"):
        load_token(path)


def test_a_token_file_that_is_a_link_is_refused(short_path: Path) -> None:
    (short_path / "elsewhere").touch(mode=0o600)
    (short_path / "token").symlink_to(short_path / "elsewhere")
    with pytest.raises(DataError, match="cannot be read"):
        load_token(short_path / "token")


def test_the_token_is_in_no_log_and_no_answer(
    guarded: tuple[World, tuple[str, int]], caplog: pytest.LogCaptureFixture
) -> None:
    world, tcp = guarded
    token = world.config.token_file.read_text().strip()
    with caplog.at_level(logging.DEBUG):
        for path in (POOLS, f"{BASE}/nothing", f"{BASE}/block/volumes/x"):
            reply = world.ask("GET", path, headers={"Authorization": f"Bearer {token}"}, tcp=tcp)
            assert token not in reply.body.decode() + str(reply.headers)
    assert token not in caplog.text
    assert token not in repr(Client.for_url("http://127.0.0.1:1", token))


def test_guessing_fills_no_log_and_is_told_of(
    guarded: tuple[World, tuple[str, int]], caplog: pytest.LogCaptureFixture
) -> None:
    world, tcp = guarded
    _forget_earlier_lines()
    for n in range(30):
        world.ask("GET", POOLS, headers={"Authorization": f"Bearer guess-{n}"}, tcp=tcp)
    told = [each for each in caplog.records if each.name == "weft.api.gates"]
    assert 1 <= len(told) <= 10
    assert "127.0.0.1 came with a token that opens nothing" in told[0].getMessage()
    assert "guess-" not in caplog.text


def _forget_earlier_lines() -> None:
    """Tests share the process, and so the limit."""
    for each in gates._log.filters:
        assert isinstance(each, RateLimit)
        each._began = 0.0
