"""What every connector does.

Run on the fake, on the embedded one where FUSE works, and on the kernel's where kernel_host.kernel_setting says that this
machine's kernel may be used: in the VM lab.
"""

import dataclasses
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import pytest

from embedded_host.fuse_setting import Setting, needs_fuse
from embedded_host.target_process import MIB, shared_target
from fakes.connector import FakeConnector
from kernel_host.kernel_setting import KernelSetting, needs_kernel
from weft.connection import Connection, NvmeofPortal
from weft.errors import ConflictError, InvalidValueError, NotFoundError, WeftError
from weft.model import Protocol as AccessProtocol
from weft.model import Transport, VolumeId
from weft.names import check_nqn, host_nqn, new_id, subsystem_nqn
from weft.ports import Connector

__all__ = ["shared_target"]


class Bench(Protocol):
    """A connector, and the storage behind it."""

    connector: Connector

    def new_volume(self, size: int = 16 * MIB) -> Connection: ...

    def grow(self, connection: Connection, size: int) -> None: ...

    def remove(self, connection: Connection) -> None: ...

    def content(self, connection: Connection) -> bytes: ...

    def open_file(self, connection: Connection, path: Path) -> int: ...

    def close_file(self, connection: Connection, descriptor: int) -> None: ...


class FakeBench:
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._fake = FakeConnector(folder / "attached", host_nqn(new_id()), self._backing)
        self.connector: Connector = self._fake

    def new_volume(self, size: int = 16 * MIB) -> Connection:
        volume_id = VolumeId(new_id())
        self._backing(volume_id).write_bytes(bytes(size))
        portal = NvmeofPortal(transport=Transport.TCP, address="127.0.0.1", port=4420)
        return Connection(
            volume_id=volume_id, nqn=subsystem_nqn(volume_id), portals=(portal,), host_nqn="ALL"
        )

    def grow(self, connection: Connection, size: int) -> None:
        os.truncate(self._backing(connection.volume_id), size)

    def remove(self, connection: Connection) -> None:
        self._backing(connection.volume_id).unlink()

    def content(self, connection: Connection) -> bytes:
        return self._backing(connection.volume_id).read_bytes()

    def open_file(self, connection: Connection, path: Path) -> int:
        self._fake.in_use.add(connection.volume_id)
        return os.open(path, os.O_RDWR)

    def close_file(self, connection: Connection, descriptor: int) -> None:
        os.close(descriptor)
        self._fake.in_use.discard(connection.volume_id)

    def _backing(self, volume_id: VolumeId) -> Path:
        return self._folder / f"{volume_id}.bytes"


class EmbeddedBench:
    def __init__(self, setting: Setting) -> None:
        self._setting = setting
        self.connector: Connector = setting.connector

    def new_volume(self, size: int = 16 * MIB) -> Connection:
        return self._setting.target.new_volume(size)

    def grow(self, connection: Connection, size: int) -> None:
        self._setting.target.export(connection.volume_id, size)

    def remove(self, connection: Connection) -> None:
        self._setting.target.remove(connection.volume_id)

    def content(self, connection: Connection) -> bytes:
        return self._setting.target.path(connection.volume_id).read_bytes()

    def open_file(self, connection: Connection, path: Path) -> int:
        del connection
        return os.open(path, os.O_RDWR)

    def close_file(self, connection: Connection, descriptor: int) -> None:
        del connection
        os.close(descriptor)


class KernelBench:
    def __init__(self, setting: KernelSetting) -> None:
        self._target = setting.target
        self.connector: Connector = setting.connector

    def new_volume(self, size: int = 16 * MIB) -> Connection:
        return self._target.new_volume(size)

    def grow(self, connection: Connection, size: int) -> None:
        self._target.grow(connection.volume_id, size)

    def remove(self, connection: Connection) -> None:
        self._target.remove(connection.volume_id)

    def content(self, connection: Connection) -> bytes:
        return self._target.backing(connection.volume_id).read_bytes()

    def open_file(self, connection: Connection, path: Path) -> int:
        del connection
        return os.open(path, os.O_RDWR)

    def close_file(self, connection: Connection, descriptor: int) -> None:
        del connection
        os.close(descriptor)


@pytest.fixture(
    params=["fake", pytest.param("embedded", marks=needs_fuse), pytest.param("kernel", marks=needs_kernel)]
)
def bench(request: pytest.FixtureRequest, short_path: Path) -> Iterator[Bench]:
    if request.param == "fake":
        yield FakeBench(short_path)
        return
    if request.param == "kernel":
        with KernelSetting(short_path) as kernel:
            yield KernelBench(kernel)
            kernel.assert_nothing_is_left()
        return
    setting = Setting(short_path, request.getfixturevalue("shared_target"))
    try:
        yield EmbeddedBench(setting)
        setting.assert_nothing_is_left()
    finally:
        setting.stop()


def size_of(path: Path) -> int:
    """Of a file or a block device."""
    with path.open("rb") as file:
        return file.seek(0, os.SEEK_END)


def test_a_connector_knows_who_its_host_is(bench: Bench) -> None:
    initiator = bench.connector.initiator()
    assert initiator.protocol is AccessProtocol.NVMEOF
    check_nqn("port_name", initiator.port_name)
    assert bench.connector.initiator() == initiator


def test_an_attached_volume_is_a_path_to_its_bytes(bench: Bench) -> None:
    connection = bench.new_volume()
    path = bench.connector.attach(connection)
    assert size_of(path) == 16 * MIB
    with path.open("r+b") as file:
        file.seek(MIB)
        file.write(b"through the path")
        file.flush()
        os.fsync(file.fileno())
    assert bench.content(connection)[MIB : MIB + 16] == b"through the path"
    bench.connector.detach(connection)
    assert not os.path.lexists(path)


def test_attaching_twice_is_attaching_once(bench: Bench) -> None:
    connection = bench.new_volume()
    path = bench.connector.attach(connection)
    assert bench.connector.attach(connection) == path
    bench.connector.detach(connection)
    assert not os.path.lexists(path)


def test_attaching_from_many_threads_gives_one_path(bench: Bench) -> None:
    connection = bench.new_volume()
    paths: list[Path] = []
    threads = [
        threading.Thread(target=lambda: paths.append(bench.connector.attach(connection))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(paths) == 4
    assert len(set(paths)) == 1
    bench.connector.detach(connection)


def test_detaching_twice_or_what_was_never_attached_is_fine(bench: Bench) -> None:
    connection = bench.new_volume()
    bench.connector.detach(connection)
    bench.connector.attach(connection)
    bench.connector.detach(connection)
    bench.connector.detach(connection)
    bench.connector.detach(connection, force=True)


def test_bytes_outlive_detaching(bench: Bench) -> None:
    connection = bench.new_volume()
    with bench.connector.attach(connection).open("r+b") as file:
        file.write(b"kept")
    bench.connector.detach(connection)
    assert bench.content(connection)[:4] == b"kept"
    with bench.connector.attach(connection).open("rb") as file:
        assert file.read(4) == b"kept"
    bench.connector.detach(connection)


def test_a_volume_in_use_is_not_detached(bench: Bench) -> None:
    connection = bench.new_volume()
    path = bench.connector.attach(connection)
    descriptor = bench.open_file(connection, path)
    try:
        with pytest.raises(ConflictError, match="in use"):
            bench.connector.detach(connection)
        os.pwrite(descriptor, b"goes on", 0)
        os.fsync(descriptor)
    finally:
        bench.close_file(connection, descriptor)
    bench.connector.detach(connection)
    assert bench.content(connection)[:7] == b"goes on"


def test_detaching_one_volume_leaves_another_alone(bench: Bench) -> None:
    first, second = bench.new_volume(), bench.new_volume()
    bench.connector.attach(first)
    path = bench.connector.attach(second)
    bench.connector.detach(first)
    with path.open("r+b") as file:
        file.write(b"untouched")
    bench.connector.detach(second)
    assert bench.content(second)[:9] == b"untouched"


def test_growth_is_seen_in_use(bench: Bench) -> None:
    connection = bench.new_volume()
    path = bench.connector.attach(connection)
    bench.grow(connection, 32 * MIB)
    assert bench.connector.extend(connection) == 32 * MIB
    assert bench.connector.extend(connection) == 32 * MIB
    assert size_of(path) == 32 * MIB
    bench.connector.detach(connection)


def test_growth_of_what_is_not_attached_is_not_found(bench: Bench) -> None:
    connection = bench.new_volume()
    with pytest.raises(NotFoundError, match=str(connection.volume_id)):
        bench.connector.extend(connection)


def test_a_volume_that_is_not_there_leaves_nothing_behind(bench: Bench) -> None:
    connection = bench.new_volume()
    bench.remove(connection)
    with pytest.raises(WeftError, match=str(connection.volume_id)):
        bench.connector.attach(connection)
    bench.connector.detach(connection)


def test_a_volume_id_from_outside_never_becomes_a_path(bench: Bench) -> None:
    connection = dataclasses.replace(bench.new_volume(), volume_id=VolumeId("../escape"))
    for verb in (bench.connector.attach, bench.connector.extend, bench.connector.detach):
        with pytest.raises(InvalidValueError, match="volumeId"):
            verb(connection)
