"""A volume lives through lost connections: no error, no byte wrong; and it ends where going on would be wrong."""

import dataclasses
import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from embedded_host.checked_writer import checked_writers
from embedded_host.proxy import Proxy
from embedded_host.target_process import MIB, TargetProcess, free_port, new_identity, tcp_portal
from weft.connection import NvmeofConnection
from weft.embedded.host import HostIdentity, Volume, VolumeOptions
from weft.errors import DataError, NotFoundError, PermissionDeniedError, UnavailableError, WeftError


@pytest.fixture
def proxy(target: TargetProcess) -> Iterator[Proxy]:
    between = Proxy(target.ports[0])
    try:
        yield between
    finally:
        between.stop()


def _through(proxy: Proxy, connection: NvmeofConnection) -> NvmeofConnection:
    return dataclasses.replace(connection, portals=(tcp_portal(proxy.port),))


def _until(condition: Callable[[], bool], otherwise: str) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, otherwise
        time.sleep(0.02)


def _read_on(volume: Volume) -> None:
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        volume.read(0, 1)
        time.sleep(0.02)


def test_io_goes_on_while_the_target_is_killed_and_started_again(
    target: TargetProcess, impatient: VolumeOptions
) -> None:
    connection = target.new_volume()
    with Volume.open(connection, target.identity, impatient) as volume:
        with checked_writers(volume) as writers:
            for _ in range(4):
                time.sleep(0.3)
                target.kill()
                time.sleep(random.uniform(0, 0.2))
                target.start()
            time.sleep(0.3)
        volume.flush()
        backing = target.path(connection.volume_id).read_bytes()
        for writer in writers:
            writer.expect_in(backing)


def test_io_goes_on_while_connections_are_cut_anywhere(
    target: TargetProcess, proxy: Proxy, impatient: VolumeOptions
) -> None:
    connection = _through(proxy, target.new_volume())
    with Volume.open(connection, target.identity, impatient) as volume, checked_writers(volume):
        for _ in range(12):
            proxy.cut_after = random.choice([None, 50, 5_000, 100_000, 1_000_000])
            time.sleep(random.uniform(0.05, 0.2))
            accepted = proxy.accepted
            proxy.cut()
            _until(lambda: proxy.accepted > accepted, "nobody came back")  # noqa: B023 -- called here and now
        proxy.cut_after = None
        time.sleep(0.3)


def test_a_slow_network_only_makes_io_slow(
    target: TargetProcess, proxy: Proxy, impatient: VolumeOptions
) -> None:
    proxy.delay = 0.01
    connection = _through(proxy, target.new_volume())
    with Volume.open(connection, target.identity, impatient) as volume, checked_writers(volume):
        time.sleep(0.6)
    assert proxy.accepted == 2


def test_silence_is_noticed_and_survived_without_haste(
    target: TargetProcess, proxy: Proxy, impatient: VolumeOptions
) -> None:
    """Old writes may still be on their way: the target must have given them up before they are sent again."""
    options = dataclasses.replace(impatient, keep_alive=0.6, connect_timeout=0.5)
    connection = _through(proxy, target.new_volume())
    with Volume.open(connection, target.identity, options) as volume, checked_writers(volume) as writers:
        time.sleep(0.3)
        proxy.stall()
        stalled = time.monotonic()
        _until(lambda: proxy.accepted > 2, "silence was not noticed")
        assert time.monotonic() - stalled > 2 * 0.6
        rounds = sum(writer.rounds for writer in writers)
        proxy.flow()
        _until(lambda: sum(writer.rounds for writer in writers) > rounds + 20, "I/O did not go on")


def test_a_target_that_hangs_is_given_up_and_loses_nothing_when_it_goes_on(
    target: TargetProcess, proxy: Proxy, impatient: VolumeOptions
) -> None:
    options = dataclasses.replace(impatient, keep_alive=0.5, connect_timeout=0.5)
    connection = _through(proxy, target.new_volume())
    with Volume.open(connection, target.identity, options) as volume, checked_writers(volume) as writers:
        time.sleep(0.3)
        target.pause()
        _until(lambda: proxy.accepted > 2, "nobody noticed that the target hangs")
        rounds = sum(writer.rounds for writer in writers)
        target.go_on()
        _until(lambda: sum(writer.rounds for writer in writers) > rounds + 20, "I/O did not go on")


def test_the_next_portal_takes_over_at_once(short_path: Path, identity: HostIdentity) -> None:
    target = TargetProcess(short_path, identity, portals=2)
    target.start()
    proxies = [Proxy(port) for port in target.ports]
    try:
        connection = dataclasses.replace(
            target.new_volume(), portals=tuple(tcp_portal(proxy.port) for proxy in proxies)
        )
        options = VolumeOptions(reconnect_delay=30, keep_alive=2)
        with Volume.open(connection, identity, options) as volume:
            volume.write(0, b"before")
            proxies[0].stop()
            started = time.monotonic()
            assert volume.read(0, 6) == b"before"
            assert time.monotonic() - started < 5
        assert proxies[1].accepted == 2
    finally:
        for proxy in proxies:
            proxy.stop()
        target.stop()


def test_opening_passes_over_a_portal_that_is_dead(target: TargetProcess) -> None:
    connection = target.new_volume()
    portals = (tcp_portal(free_port()), *connection.portals)
    with Volume.open(dataclasses.replace(connection, portals=portals), target.identity) as volume:
        assert volume.read(0, 1) == b"\0"


def test_io_fails_with_a_sentence_after_the_time_to_wait(
    target: TargetProcess, impatient: VolumeOptions
) -> None:
    options = dataclasses.replace(impatient, controller_loss_timeout=0.5)
    connection = target.new_volume()
    volume = Volume.open(connection, target.identity, options)
    try:
        target.kill()
        started = time.monotonic()
        with pytest.raises(UnavailableError, match=f"{connection.volume_id} was lost .* ago"):
            volume.read(0, 1)
        assert 0.4 < time.monotonic() - started < 5
        with pytest.raises(UnavailableError):
            volume.write(0, b"x")
    finally:
        with pytest.raises(UnavailableError):
            volume.close()


def test_closing_does_not_wait_for_a_dead_target_for_ever(
    target: TargetProcess, impatient: VolumeOptions
) -> None:
    options = dataclasses.replace(impatient, controller_loss_timeout=-1)
    volume = Volume.open(target.new_volume(), target.identity, options)
    volume.write(0, b"x")
    target.kill()
    started = time.monotonic()
    with pytest.raises(UnavailableError):
        volume.close(timeout=0.5)
    assert time.monotonic() - started < 5


def test_closing_lets_waiting_io_go(target: TargetProcess, impatient: VolumeOptions) -> None:
    options = dataclasses.replace(impatient, controller_loss_timeout=-1)
    volume = Volume.open(target.new_volume(), target.identity, options)
    target.kill()
    errors: list[WeftError] = []

    def read() -> None:
        try:
            volume.read(0, 1)
        except WeftError as error:
            errors.append(error)

    waiting = threading.Thread(target=read)
    waiting.start()
    time.sleep(0.3)
    volume.close(timeout=0.5)
    waiting.join(5)
    assert not waiting.is_alive()
    assert isinstance(errors[0], UnavailableError)


def test_a_host_that_is_removed_gets_an_error_at_once(
    target: TargetProcess, impatient: VolumeOptions
) -> None:
    connection = target.new_volume()
    with Volume.open(connection, target.identity, impatient) as volume:
        target.export(connection.volume_id, 16 * MIB, hosts=(new_identity().nqn,))
        started = time.monotonic()
        with pytest.raises(PermissionDeniedError, match=target.identity.nqn):
            _read_on(volume)
        assert time.monotonic() - started < 5


def test_a_volume_that_is_unexported_gets_an_error_at_once(
    target: TargetProcess, impatient: VolumeOptions
) -> None:
    connection = target.new_volume()
    with Volume.open(connection, target.identity, impatient) as volume:
        target.remove(connection.volume_id)
        with pytest.raises((NotFoundError, PermissionDeniedError), match=connection.nqn):
            _read_on(volume)


def test_growth_while_away_is_seen_afterwards(target: TargetProcess, impatient: VolumeOptions) -> None:
    connection = target.new_volume()
    with Volume.open(connection, target.identity, impatient) as volume:
        target.export(connection.volume_id, 32 * MIB)
        target.kill()
        target.start()
        volume.wait_for_size(32 * MIB, 10)
        volume.write(31 * MIB, b"grown")
        assert volume.read(31 * MIB, 5) == b"grown"


def test_a_volume_that_came_back_smaller_is_an_error_and_never_silent(
    short_path: Path, identity: HostIdentity, impatient: VolumeOptions
) -> None:
    target = TargetProcess(short_path, identity)
    target.start()
    try:
        connection = target.new_volume()
        with Volume.open(connection, identity, impatient) as volume:
            target.kill()
            (record,) = (short_path / "exports").rglob("*.json")
            record.write_text(record.read_text().replace(str(16 * MIB), str(8 * MIB)))
            os.truncate(target.path(connection.volume_id), 8 * MIB)
            target.start()
            with pytest.raises(DataError, match="shrunk"):
                volume.read(0, 1)
    finally:
        target.stop()


def test_another_volume_behind_the_same_name_is_refused(target: TargetProcess) -> None:
    connection = target.new_volume()
    other = target.new_volume()
    with pytest.raises(DataError, match=str(connection.volume_id)):
        Volume.open(dataclasses.replace(other, volume_id=connection.volume_id), target.identity)
