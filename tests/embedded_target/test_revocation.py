"""A host that is cut off is cut off at once, and nobody else notices."""

import os
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from embedded_target.workshop import HOST_A, HOST_B, MIB, MakeWorkshop, Workshop, nqn_of
from eventually import eventually
from nvme_tcp_host import LostError, RawHost
from weft.embedded.target.backend import Backend
from weft.embedded.target.settings import Limits
from weft.errors import ConflictError, DataError, InvalidValueError, NotFoundError, UnavailableError
from weft.model import Export
from weft.names import new_id
from weft.nvme.layout import BytesLike
from weft.nvme.nvm import Flush, Read, Write
from weft.nvme.status import StatusCode


class Worker:
    """Writes and reads what it has written, block by block, until it is told to stop or something is wrong."""

    def __init__(self, host: RawHost, first: int, count: int) -> None:
        self.done = 0
        self.error: BaseException | None = None
        self._host, self._first, self._count = host, first, count
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        queue = self._host.io[0]
        try:
            while not self._stop.is_set():
                slba = self._first + self.done % self._count
                data = os.urandom(512)
                assert queue.call(Write(nsid=1, slba=slba, blocks=1), data=data).status.ok
                assert queue.read(Read(nsid=1, slba=slba, blocks=1), 512) == data
                self.done += 1
        except (LostError, AssertionError, OSError) as error:
            self.error = error

    def wait_for(self, count: int) -> None:
        deadline = time.monotonic() + 10
        while self.done < count and self.error is None and time.monotonic() < deadline:
            time.sleep(0.005)
        assert self.done >= count, self.error

    def join(self) -> None:
        self._stop.set()
        self._thread.join(10)
        assert not self._thread.is_alive()


def without(export: Export, hostnqn: str) -> Export:
    return replace(export, hosts=tuple(each for each in export.hosts if each.initiator != hostnqn))


def test_a_removed_host_loses_its_connections_at_once_and_the_others_notice_nothing(
    workshop: Workshop,
) -> None:
    export = workshop.export(HOST_A, HOST_B)
    removed, staying = workshop.attach(export, HOST_A, queues=2), workshop.attach(export, HOST_B)
    cut, kept = Worker(removed, 0, 64), Worker(staying, 4096, 64)
    cut.wait_for(20)
    kept.wait_for(20)

    began = time.monotonic()
    workshop.target.create_export(without(export, HOST_A))
    took = time.monotonic() - began
    content = export.path.read_bytes()[: 64 * 512]

    assert took < 2
    assert all(queue.is_lost() for queue in (removed.admin, *removed.io))
    kept.wait_for(kept.done + 20)
    cut.join()
    kept.join()
    assert isinstance(cut.error, LostError)
    assert kept.error is None
    assert export.path.read_bytes()[: 64 * 512] == content
    refused = workshop.connection().open().connect(nqn_of(export), HOST_A)
    assert refused.status.code == StatusCode.CONNECT_INVALID_HOST


def test_what_a_removed_host_has_sent_and_the_target_has_not_done_is_never_done(workshop: Workshop) -> None:
    export = workshop.export(HOST_A)
    host = workshop.attach(export)
    with_hold = workshop.target.hold_writes(export.volume_id, 20)
    for index in range(16):
        host.io[0].submit(Write(nsid=1, slba=index, blocks=1), data=b"!" * 512)
    host.admin.call(Flush(nsid=1))  # something, so that the target has seen the connection's thread run
    workshop.target.create_export(without(export, HOST_A))
    with_hold.release()
    assert export.path.read_bytes() == bytes(export.size)


def test_removing_the_export_ends_all_hosts_and_lets_the_file_go(workshop: Workshop) -> None:
    export = workshop.export(HOST_A, HOST_B)
    hosts = [workshop.attach(export, HOST_A), workshop.attach(export, HOST_B)]
    workshop.target.remove_export(export.volume_id)
    workshop.target.remove_export(export.volume_id)
    assert all(host.admin.is_lost() and host.io[0].is_lost() for host in hosts)
    assert workshop.target.exports() == ()
    workshop.target.create_export(replace(export, volume_id=type(export.volume_id)(new_id())))


def test_making_an_export_again_changes_nothing_for_its_hosts(workshop: Workshop) -> None:
    export = workshop.export(HOST_A)
    host = workshop.attach(export)
    record = workshop.folder / "target" / "exports" / f"{export.volume_id}.json"
    before = (record.read_bytes(), record.stat().st_ino)
    workshop.target.create_export(export)
    assert (record.read_bytes(), record.stat().st_ino) == before
    assert host.io[0].call(Flush(nsid=1)).status.ok


def test_a_file_that_takes_the_volume_s_place_is_served_from_then_on(workshop: Workshop) -> None:
    export = workshop.export(HOST_A)
    host = workshop.attach(export)
    other = workshop.file()
    other.write_bytes(b"new" + bytes(export.size - 3))
    other.rename(export.path)
    workshop.target.create_export(export)
    assert host.io[0].read(Read(nsid=1, slba=0, blocks=1), 512).startswith(b"new")


def test_a_device_is_not_exported_twice(workshop: Workshop) -> None:
    export = workshop.export(HOST_A)
    link = workshop.pool / "link"
    link.symlink_to(export.path)
    for path in (export.path, link):
        with pytest.raises(ConflictError):
            workshop.export(HOST_B, path=path)
    assert len(workshop.target.exports()) == 1


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"size": 2 * MIB}, ConflictError),
        ({"size": 8 * MIB}, DataError),
        ({"size": 4 * MIB + 1}, InvalidValueError),
        ({"path": Path("/etc/passwd")}, InvalidValueError),
        ({"path": Path("relative")}, InvalidValueError),
    ],
)
def test_what_cannot_be_exported_so_is_refused_and_nothing_changes(
    workshop: Workshop, change: dict[str, object], error: type[Exception]
) -> None:
    export = workshop.export(HOST_A)
    host = workshop.attach(export)
    before = workshop.target.exports()
    with pytest.raises(error):
        workshop.target.create_export(replace(export, hosts=(), **change))  # type: ignore[arg-type]
    assert workshop.target.exports() == before
    assert host.io[0].call(Flush(nsid=1)).status.ok


def test_a_volume_that_does_not_exist_is_not_exported(workshop: Workshop) -> None:
    with pytest.raises(NotFoundError):
        workshop.export(HOST_A, path=workshop.pool / "nothing")
    assert workshop.target.exports() == ()
    assert not list((workshop.folder / "target" / "exports").iterdir())


class StuckBackend(Backend):
    """A device on which writes do not come to an end until they are let go."""

    def __init__(self, path: Path) -> None:
        super().__init__(os.open(path, os.O_RDWR), path)
        self.stuck = threading.Event()
        self.let_go = threading.Event()

    def write(self, offset: int, data: BytesLike) -> None:
        if not self.let_go.is_set():
            self.stuck.set()
            self.let_go.wait(20)
        super().write(offset, data)


def with_stuck_write(workshop: Workshop) -> tuple[Export, StuckBackend, RawHost]:
    """An export to HOST_A, whose write of "old" to block 0 is stuck."""
    export = workshop.export(HOST_A)
    subsystem = workshop.target._subsystems.get(export.volume_id)
    assert subsystem is not None
    assert subsystem.namespace is not None
    backend = StuckBackend(export.path)
    subsystem.namespace.replace_backend(backend)
    host = workshop.attach(export)
    host.io[0].submit(Write(nsid=1, slba=0, blocks=1), data=b"old".ljust(512))
    assert backend.stuck.wait(10)
    return export, backend, host


def test_a_replay_is_never_overtaken_by_a_write_of_the_connection_before(workshop: Workshop) -> None:
    export, backend, old = with_stuck_write(workshop)
    old.close()
    releaser = threading.Timer(0.3, backend.let_go.set)
    releaser.start()
    began = time.monotonic()
    new = workshop.attach(export)
    assert time.monotonic() - began > 0.2
    assert export.path.read_bytes().startswith(b"old")
    assert new.io[0].call(Write(nsid=1, slba=0, blocks=1), data=b"new".ljust(512)).status.ok
    assert new.io[0].read(Read(nsid=1, slba=0, blocks=1), 512).startswith(b"new")
    releaser.join()


def test_a_write_that_does_not_end_makes_the_host_come_again(make_workshop: MakeWorkshop) -> None:
    workshop = make_workshop(limits=Limits(teardown_seconds=0.2))
    export, backend, old = with_stuck_write(workshop)
    old.close()
    answer = workshop.connection().open().connect(nqn_of(export), HOST_A).status
    assert (answer.code, answer.dnr) == (StatusCode.CONNECT_CONTROLLER_BUSY, False)
    backend.let_go.set()
    eventually(lambda: workshop.connection().open().connect(nqn_of(export), HOST_A).status.ok)


def test_a_host_that_cannot_be_cut_off_in_time_is_an_error_and_doing_it_again_completes_it(
    make_workshop: MakeWorkshop,
) -> None:
    workshop = make_workshop(limits=Limits(teardown_seconds=0.2))
    export, backend, _ = with_stuck_write(workshop)
    with pytest.raises(UnavailableError):
        workshop.target.create_export(without(export, HOST_A))
    with pytest.raises(UnavailableError):
        workshop.target.remove_export(export.volume_id)
    assert not workshop.target.exports()[0].complete
    backend.let_go.set()
    workshop.target.remove_export(export.volume_id)
    assert workshop.target.exports() == ()
