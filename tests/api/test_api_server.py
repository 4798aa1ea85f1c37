"""The listeners: their modes, who else is there, and how they end."""

import fcntl
import http.client
import os
import socket
import stat
import threading
import time
from contextlib import ExitStack, closing, suppress
from functools import partial
from pathlib import Path

import pytest

from api.world import BASE, InBackground, World, free_port, make_config, make_world
from eventually import eventually
from weft.api.idle import IdleClosingProtocol
from weft.api.server import ApiServer
from weft.api.sockets import UnixListener, listen_tcp
from weft.client import Client
from weft.errors import ConflictError, UnavailableError
from weft.model import GIB, Status
from weft.requests import CreateVolumeRequest
from weft.views import VolumeView


def test_the_socket_is_for_its_owner_only_whatever_the_umask(short_path: Path) -> None:
    before = os.umask(0)
    try:
        with make_world(make_config(short_path)) as world:
            mode = world.config.api_socket.stat().st_mode
            assert stat.S_IMODE(mode) == 0o600
            assert stat.S_ISSOCK(mode)
    finally:
        os.umask(before)


def test_after_the_end_no_socket_file_is_left(short_path: Path) -> None:
    config = make_config(short_path)
    with make_world(config):
        assert [each.name for each in config.runtime_dir.iterdir()] == ["api.sock"]
    assert list(config.runtime_dir.iterdir()) == []


def test_a_socket_that_a_dead_process_left_is_replaced(short_path: Path) -> None:
    config = make_config(short_path)
    config.runtime_dir.mkdir()
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(config.api_socket))
    with make_world(config) as world:
        assert world.client.api_versions() == ["v1beta"]


def test_a_second_server_on_one_socket_is_refused_and_the_first_goes_on(world: World) -> None:
    second = ApiServer(world.service, world.config)
    try:
        with pytest.raises(ConflictError, match="already answers at"):
            second.start()
    finally:
        second.stop()
    assert world.client.api_versions() == ["v1beta"]


def test_of_two_servers_that_start_at_once_one_wins(short_path: Path) -> None:
    path = short_path / "api.sock"
    for _ in range(10):
        outcomes = [InBackground(lambda: UnixListener(path)) for _ in range(4)]
        winners, losers = [], []
        for each in outcomes:
            try:
                winners.append(each.result())
            except ConflictError as error:
                losers.append(error)
        for each in winners:
            each.close()
        assert (len(winners), len(losers)) == (1, 3)
        assert not path.exists()


def test_nobody_takes_a_socket_while_another_is_at_it(short_path: Path) -> None:
    directory = os.open(short_path, os.O_RDONLY)
    fcntl.flock(directory, fcntl.LOCK_EX)
    starting = InBackground(lambda: UnixListener(short_path / "api.sock"))
    time.sleep(0.2)
    assert not starting.is_done
    os.close(directory)
    starting.result().close()


class ImpatientProtocol(IdleClosingProtocol):
    idle_seconds = 0.2


def test_connections_that_never_ask_for_anything_are_closed(still_world: World, short_path: Path) -> None:
    server = ApiServer(still_world.service, make_config(short_path / "2"), http_protocol=ImpatientProtocol)
    server.start()
    path = str(make_config(short_path / "2").api_socket)
    try:
        with socket.socket(socket.AF_UNIX) as silent, socket.socket(socket.AF_UNIX) as slow:
            for each in (silent, slow):
                each.settimeout(5)
                each.connect(path)
            with suppress(BrokenPipeError):
                for byte in b"GET / HTTP/1.1\r\n" * 10:
                    slow.send(bytes([byte]))
                    time.sleep(0.01)
            assert silent.recv(1) == b""
        waiting = Client(f"unix://{path}")
        volume = waiting.create_volume(CreateVolumeRequest(name="v", size=GIB), wait=1)
        assert volume.status is Status.CREATING, "a request that takes its time is not idle"
    finally:
        server.stop()


class CrowdedProtocol(IdleClosingProtocol):
    most_connections = 5


def test_strangers_who_keep_silent_make_room_and_those_who_wait_for_an_answer_do_not(
    still_world: World, short_path: Path
) -> None:
    config = make_config(short_path / "2", listen=(f"127.0.0.1:{free_port()}",))
    server = ApiServer(still_world.service, config, http_protocol=CrowdedProtocol)
    server.start()
    address, port = config.api.listen[0].rsplit(":", 1)
    with ExitStack() as stack:
        stack.callback(server.stop)
        silent = [stack.enter_context(socket.create_connection((address, int(port)), 20)) for _ in range(5)]
        eventually(lambda: _answers(address, int(port)))
        with suppress(ConnectionResetError):
            assert silent[0].recv(1) == b""
        token = config.token_file.read_text()
        client = Client.for_url(f"http://{address}:{port}", token)
        calls = [InBackground(partial(_create, client, f"v{n}")) for n in range(5)]
        eventually(lambda: len(still_world.client.volumes()) == 5)
        with (
            socket.create_connection((address, int(port)), 5) as one_too_many,
            suppress(ConnectionResetError),
        ):
            assert one_too_many.recv(1) == b""
        assert Client.for_config(config).api_versions() == ["v1beta"], "another listener suffers"
        server.stop()
        assert [each.result().status for each in calls] == [Status.CREATING] * 5


def test_strangers_who_are_answered_again_and_again_make_room_too(
    still_world: World, short_path: Path
) -> None:
    config = make_config(short_path / "2", listen=(f"127.0.0.1:{free_port()}",))
    server = ApiServer(still_world.service, config, http_protocol=CrowdedProtocol)
    server.start()
    host, port = config.api.listen[0].rsplit(":", 1)
    address = (host, int(port))
    token = config.token_file.read_text().strip()
    with ExitStack() as stack:
        stack.callback(server.stop)
        known = stack.enter_context(closing(http.client.HTTPConnection(*address)))
        assert _status(known, token) == 200
        assert _status(known, "wrong") == 401
        strangers = [http.client.HTTPConnection(*address) for _ in range(4)]
        for number, each in enumerate(strangers):
            stack.enter_context(closing(each))
            assert _status(each, "wrong" if number % 2 else None) == (401 if number % 2 else 200)
        for _ in range(8):
            assert Client.for_url(f"http://{host}:{port}", token).pools()
        assert _status(known, token) == 200, "who was let in once stays"
        assert strangers[0].sock.recv(1) == b""


def _status(connection: http.client.HTTPConnection, token: str | None) -> int:
    """Of an answer to a request that shows the token, or that nobody needs one for."""
    if token is None:
        connection.request("GET", "/")
    else:
        connection.request("GET", f"{BASE}/pools", headers={"Authorization": f"Bearer {token}"})
    response = connection.getresponse()
    response.read()
    return response.status


def _create(client: Client, name: str) -> VolumeView:
    return client.create_volume(CreateVolumeRequest(name=name, size=GIB), wait=60)


def _answers(address: str, port: int) -> bool:
    try:
        return Client.for_url(f"http://{address}:{port}").api_versions() == ["v1beta"]
    except UnavailableError:
        return False


def test_what_is_not_a_socket_is_left_alone(short_path: Path) -> None:
    path = short_path / "api.sock"
    path.write_text("precious")
    with pytest.raises(ConflictError, match="is not a socket"):
        UnixListener(path)
    assert path.read_text() == "precious"


def test_a_socket_that_somebody_replaced_is_not_removed(short_path: Path) -> None:
    path = short_path / "api.sock"
    listener = UnixListener(path)
    path.unlink()
    path.write_text("another's")
    listener.close()
    assert path.exists()


def test_a_port_that_is_taken_is_a_conflict_and_leaves_nothing_behind(short_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        config = make_config(short_path, listen=(f"127.0.0.1:{port}",))
        with (
            pytest.raises(ConflictError, match=f"127.0.0.1 port {port}: another program does"),
            make_world(config),
        ):
            pass
    assert not config.api_socket.exists()


def test_a_place_where_nobody_can_listen_is_unavailable(short_path: Path) -> None:
    (short_path / "file").touch()
    with pytest.raises(UnavailableError, match="cannot listen at"):
        UnixListener(short_path / "file" / "api.sock")
    with pytest.raises(UnavailableError, match=r"cannot listen at ff02::1 port 31999"):
        listen_tcp("ff02::1", 31999)


@pytest.mark.parametrize("address", ["192.0.2.1", "2001:db8::1"])
def test_an_address_that_comes_later_is_listened_at_already(
    address: str, caplog: pytest.LogCaptureFixture
) -> None:
    with listen_tcp(address, 0) as listener:
        assert listener.getsockname()[0] == address
    assert (
        f"the API listens at {address} port 0, an address that this machine does not have yet" in caplog.text
    )


def test_an_answer_waits_for_no_acknowledgement() -> None:
    with (
        listen_tcp("127.0.0.1", 0) as listener,
        socket.create_connection(listener.getsockname()) as client,
    ):
        connection, _ = listener.accept()
        with connection:
            assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert client.recv(1) == b""


def test_stop_answers_those_who_wait_at_once(still_world: World) -> None:
    world = still_world
    volume = world.client.create_volume(CreateVolumeRequest(name="v", size=GIB))
    waiting = [InBackground(lambda: world.client.volume(volume.volume.id, wait=120)) for _ in range(8)]
    time.sleep(0.3)
    started = time.monotonic()
    world.server.stop()
    assert time.monotonic() - started < 5
    assert {each.result().status for each in waiting} == {Status.CREATING}


def test_stop_does_not_wait_for_idle_or_half_sent_requests(still_world: World) -> None:
    world = still_world
    with socket.socket(socket.AF_UNIX) as idle, socket.socket(socket.AF_UNIX) as half:
        idle.connect(str(world.config.api_socket))
        half.connect(str(world.config.api_socket))
        half.sendall(f"POST {BASE}/pools HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n".encode())
        assert world.client.api_versions()
        started = time.monotonic()
        world.server.stop()
        assert time.monotonic() - started < 5


def test_stop_ends_every_thread_and_may_be_repeated(short_path: Path) -> None:
    before = set(threading.enumerate())
    with make_world(make_config(short_path, listen=(f"127.0.0.1:{free_port()}",))) as world:
        assert world.client.pools()
        world.server.stop()
        world.server.stop()
    eventually(lambda: set(threading.enumerate()) <= before)


def test_a_server_that_is_not_there_is_named_with_what_to_do(short_path: Path) -> None:
    config = make_config(short_path)
    with pytest.raises(UnavailableError, match=r"is not running at unix:///.*start it with `weft serve`"):
        Client.for_config(config).volumes()
    with pytest.raises(UnavailableError, match=r"is not running at http://127\.0\.0\.1"):
        Client.for_url(f"http://127.0.0.1:{free_port()}").volumes()


def test_many_clients_at_once_are_all_served(world: World) -> None:
    def create(number: int) -> Status:
        request = CreateVolumeRequest(name=f"v{number}", size=GIB)
        return world.client.create_volume(request, wait=30).status

    calls = [InBackground(lambda number=number: create(number)) for number in range(20)]  # type: ignore[misc]
    assert {each.result(60) for each in calls} == {Status.AVAILABLE}
    assert len(world.client.volumes()) == 20
