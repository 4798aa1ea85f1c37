"""What every target does, whatever is behind it.

A target slots in as a Subject: the target, files or devices for it to export, and hosts that connect.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Protocol as Door

import pytest

from embedded_target.processes import configure
from embedded_target.workshop import free_portal
from fakes.configfs import FakeNvmet
from fakes.nvmet import nvmet_config, start_nvmet
from fakes.target import FakeTarget
from nvme_tcp_host import RawConnection
from weft.connection import Connection
from weft.errors import InvalidValueError, PermissionDeniedError, UnavailableError
from weft.model import DhChapSecrets, Export, ExportHost, HostId, VolumeId
from weft.names import new_id, subsystem_nqn
from weft.nvme.dhchap_key import generate_dhchap_key
from weft.nvme.status import StatusCode
from weft.ports import Target
from weft.targets import EmbeddedTarget

MIB = 2**20
HOST_A = "nqn.2014-08.org.nvmexpress:uuid:aaaaaaaa-0000-4000-8000-000000000000"
HOST_B = "nqn.2014-08.org.nvmexpress:uuid:bbbbbbbb-0000-4000-8000-000000000000"
HOST_C = "nqn.2014-08.org.nvmexpress:uuid:cccccccc-0000-4000-8000-000000000000"


class Subject(Door):
    """A target under test."""

    target: Target

    def volume(self, size: int) -> Path:
        """The bytes of a new volume of size bytes."""

    def extend(self, path: Path, size: int) -> None: ...

    def connect(self, connection: Connection) -> None:
        """As connection's host; the session stays. Raises PermissionDeniedError."""

    def connected(self, volume_id: VolumeId) -> frozenset[str]:
        """The NQNs of hosts whose sessions with the volume live."""

    def reopen(self) -> None:
        """Have another object for the same target, as a control plane that starts again."""

    def close(self) -> None: ...


class FakeSubject:
    def __init__(self, folder: Path) -> None:
        self.target = self._fake = FakeTarget()
        self._folder = folder

    def volume(self, size: int) -> Path:
        return self._folder / str(size)

    def extend(self, path: Path, size: int) -> None:
        pass

    def connect(self, connection: Connection) -> None:
        self._fake.connect(connection.volume_id, connection.host_nqn)

    def connected(self, volume_id: VolumeId) -> frozenset[str]:
        return self._fake.connected(volume_id)

    def reopen(self) -> None:
        pass

    def close(self) -> None:
        pass


class EmbeddedSubject:
    """The embedded target in a process of its own, and hosts over TCP."""

    def __init__(self, folder: Path) -> None:
        self._config = configure(folder, (free_portal(),))
        self._folder = folder
        self._sessions: list[tuple[Connection, RawConnection]] = []
        self._started = self.target = EmbeddedTarget(self._config)
        self.target.ensure_running().close()

    def volume(self, size: int) -> Path:
        path = self._folder / "pool" / new_id()
        self.extend(path, size)
        return path

    def extend(self, path: Path, size: int) -> None:
        with path.open("ab") as file:
            file.truncate(size)

    def connect(self, connection: Connection) -> None:
        opened = RawConnection(connection.portals[0]).open()
        status = opened.connect(connection.nqn, connection.host_nqn).status
        if status.ok:
            self._sessions.append((connection, opened))
            return
        opened.close()
        unknown = status.code == StatusCode.CONNECT_INVALID_PARAMETERS
        assert status.code == StatusCode.CONNECT_INVALID_HOST or unknown, status.text
        raise PermissionDeniedError(status.text)

    def connected(self, volume_id: VolumeId) -> frozenset[str]:
        return frozenset(
            connection.host_nqn
            for connection, opened in self._sessions
            if connection.volume_id == volume_id and not opened.is_lost()
        )

    def reopen(self) -> None:
        self.target = EmbeddedTarget(self._config)

    def close(self) -> None:
        for _, opened in self._sessions:
            opened.close()
        self._started.stop_target()


class NvmetSubject:
    """The kernel's target, on a kernel in memory."""

    def __init__(self, folder: Path) -> None:
        self._kernel = FakeNvmet()
        self._folder = folder
        self._config = nvmet_config(folder)
        self.target = self._started = start_nvmet(self._config, self._kernel)

    def volume(self, size: int) -> Path:
        path = self._folder / new_id()
        self.extend(path, size)
        return path

    def extend(self, path: Path, size: int) -> None:
        with path.open("ab") as file:
            file.truncate(size)

    def connect(self, connection: Connection) -> None:
        try:
            self._kernel.connect(connection.portals[0], connection.nqn, connection.host_nqn)
        except UnavailableError as error:
            raise PermissionDeniedError(str(error)) from None

    def connected(self, volume_id: VolumeId) -> frozenset[str]:
        return self._kernel.connected(subsystem_nqn(volume_id))

    def reopen(self) -> None:
        self._started.stop()
        self.target = self._started = start_nvmet(self._config, self._kernel)

    def close(self) -> None:
        self._started.stop()


@pytest.fixture(params=[FakeSubject, EmbeddedSubject, NvmetSubject])
def subject(request: pytest.FixtureRequest, short_path: Path) -> Iterator[Subject]:
    subject: Subject = request.param(short_path)
    yield subject
    subject.close()


def an_export(subject: Subject, *hosts: str, size: int = 4 * MIB) -> Export:
    return Export(
        volume_id=VolumeId(new_id()),
        path=subject.volume(size),
        size=size,
        hosts=tuple(ExportHost(host_id=HostId(new_id()), initiator=each) for each in hosts),
    )


def with_hosts(export: Export, *hosts: str) -> Export:
    known = {each.initiator: each for each in export.hosts}
    return replace(
        export,
        hosts=tuple(
            known.get(each) or ExportHost(host_id=HostId(new_id()), initiator=each) for each in hosts
        ),
    )


def connect_all(subject: Subject, export: Export) -> None:
    for connection in subject.target.create_export(export).values():
        subject.connect(connection)


def test_each_host_is_told_how_to_reach_its_volume(subject: Subject) -> None:
    export = an_export(subject, HOST_A, HOST_B)
    connections = subject.target.create_export(export)
    assert {host.host_id for host in export.hosts} == set(connections)
    for host in export.hosts:
        connection = connections[host.host_id]
        assert connection.volume_id == export.volume_id
        assert connection.nqn == subsystem_nqn(export.volume_id)
        assert connection.host_nqn == host.initiator
        assert connection.portals


def test_an_export_is_found_as_it_was_made(subject: Subject) -> None:
    export = an_export(subject, HOST_A, HOST_B)
    subject.target.create_export(export)
    found = subject.target.export(export.volume_id)
    assert found is not None
    assert (found.volume_id, found.path, found.size) == (export.volume_id, export.path, export.size)
    assert found.initiators == {HOST_A, HOST_B}
    assert found.complete
    assert found.portals


def test_an_export_lets_its_hosts_in_and_no_others(subject: Subject) -> None:
    export = an_export(subject, HOST_A, HOST_B)
    connections = subject.target.create_export(export)
    for connection in connections.values():
        subject.connect(connection)
    stranger = replace(next(iter(connections.values())), host_nqn=HOST_C)
    with pytest.raises(PermissionDeniedError):
        subject.connect(stranger)
    assert subject.connected(export.volume_id) == {HOST_A, HOST_B}


def test_an_export_without_hosts_is_there_and_lets_nobody_in(subject: Subject) -> None:
    export = an_export(subject, HOST_A)
    connection = next(iter(subject.target.create_export(export).values()))
    assert subject.target.create_export(with_hosts(export)) == {}
    with pytest.raises(PermissionDeniedError):
        subject.connect(connection)
    assert subject.target.export(export.volume_id) is not None


def test_making_an_export_twice_is_making_it_once(subject: Subject) -> None:
    export = an_export(subject, HOST_A)
    first = subject.target.create_export(export)
    subject.connect(first[export.hosts[0].host_id])
    found = subject.target.exports()
    assert subject.target.create_export(export) == first
    assert subject.target.exports() == found
    assert subject.connected(export.volume_id) == {HOST_A}


def test_restoring_touches_no_export_that_is_there_and_fails_for_none_that_cannot_be_made(
    subject: Subject,
) -> None:
    export, lost = an_export(subject, HOST_A), an_export(subject, HOST_A)
    connect_all(subject, export)
    found = subject.target.exports()
    subject.target.restore([with_hosts(export, HOST_B), replace(lost, path=Path("/nowhere"), size=1 << 40)])
    assert subject.target.exports()[export.volume_id] == found[export.volume_id]
    assert subject.connected(export.volume_id) == {HOST_A}


def test_what_was_restored_is_what_making_it_gives(subject: Subject) -> None:
    exports = [an_export(subject, HOST_A, HOST_B, size=size * MIB) for size in (4, 8)]
    subject.target.expect(frozenset(each.volume_id for each in exports))
    subject.target.restore(exports)
    for export in exports:
        connect_all(subject, export)
        found = subject.target.export(export.volume_id)
        assert found is not None
        assert (found.path, found.size, found.complete) == (export.path, export.size, True)


def test_a_host_that_comes_does_not_disturb_those_that_are_there(subject: Subject) -> None:
    export = an_export(subject, HOST_A)
    connect_all(subject, export)
    grown = with_hosts(export, HOST_A, HOST_B)
    subject.connect(subject.target.create_export(grown)[grown.hosts[1].host_id])
    assert subject.connected(export.volume_id) == {HOST_A, HOST_B}


def test_a_host_that_is_no_longer_named_has_lost_its_session_when_the_verb_returns(subject: Subject) -> None:
    export = an_export(subject, HOST_A, HOST_B)
    connect_all(subject, export)
    former = subject.target.create_export(export)[export.hosts[0].host_id]
    subject.target.create_export(with_hosts(export, HOST_B))
    assert subject.connected(export.volume_id) == {HOST_B}
    with pytest.raises(PermissionDeniedError):
        subject.connect(former)


def test_hosts_can_be_exchanged_for_others(subject: Subject) -> None:
    export = an_export(subject, HOST_A)
    connect_all(subject, export)
    connect_all(subject, with_hosts(export, HOST_B, HOST_C))
    assert subject.connected(export.volume_id) == {HOST_B, HOST_C}


def test_an_export_grows_under_its_hosts(subject: Subject) -> None:
    export = an_export(subject, HOST_A)
    connect_all(subject, export)
    subject.extend(export.path, 8 * MIB)
    subject.target.create_export(replace(export, size=8 * MIB))
    found = subject.target.export(export.volume_id)
    assert found is not None
    assert found.size == 8 * MIB
    assert subject.connected(export.volume_id) == {HOST_A}


def test_removing_an_export_ends_all_sessions_and_is_done_twice_as_well_as_once(subject: Subject) -> None:
    export = an_export(subject, HOST_A, HOST_B)
    connect_all(subject, export)
    subject.target.remove_export(export.volume_id)
    assert not subject.connected(export.volume_id)
    assert subject.target.export(export.volume_id) is None
    subject.target.remove_export(export.volume_id)
    assert export.volume_id not in subject.target.exports()


def test_a_removed_export_can_be_made_again_with_the_same_identity(subject: Subject) -> None:
    export = an_export(subject, HOST_A)
    before = subject.target.create_export(export)
    subject.target.remove_export(export.volume_id)
    assert subject.target.create_export(export) == before
    subject.connect(before[export.hosts[0].host_id])
    assert subject.connected(export.volume_id) == {HOST_A}


def test_removing_what_was_never_exported_is_done(subject: Subject) -> None:
    subject.target.remove_export(VolumeId(new_id()))
    assert subject.target.export(VolumeId(new_id())) is None


def test_two_volumes_have_nothing_to_do_with_each_other(subject: Subject) -> None:
    first, second = an_export(subject, HOST_A), an_export(subject, HOST_A)
    connect_all(subject, first)
    connect_all(subject, second)
    assert set(subject.target.exports()) == {first.volume_id, second.volume_id}
    subject.target.remove_export(first.volume_id)
    assert set(subject.target.exports()) == {second.volume_id}
    assert subject.connected(second.volume_id) == {HOST_A}


def test_exports_and_sessions_outlive_the_control_plane(subject: Subject) -> None:
    export = an_export(subject, HOST_A)
    connect_all(subject, export)
    found = subject.target.exports()
    subject.reopen()
    assert subject.target.exports() == found
    subject.target.create_export(export)
    assert subject.connected(export.volume_id) == {HOST_A}


def new_secrets() -> DhChapSecrets:
    return DhChapSecrets(host_key=generate_dhchap_key(), controller_key=generate_dhchap_key())


def with_secrets(export: Export, nqn: str, secrets: DhChapSecrets | None) -> Export:
    hosts = (replace(each, secrets=secrets) if each.initiator == nqn else each for each in export.hosts)
    return replace(export, hosts=tuple(hosts))


def test_an_export_tells_whose_keys_it_asks_for_and_not_which(subject: Subject) -> None:
    old, new = new_secrets(), new_secrets()
    export = an_export(subject, HOST_A, HOST_B)
    connections = subject.target.create_export(with_secrets(export, HOST_A, old)).values()
    assert all(connection.secrets is None for connection in connections)
    for secrets in (old, new, replace(new, controller_key=None), None):
        changed = with_secrets(export, HOST_A, secrets)
        subject.target.create_export(changed)
        found = subject.target.export(export.volume_id)
        assert found is not None
        assert found.key_digests == ({HOST_A: secrets.digest} if secrets else {})
        assert found == subject.target.exports()[export.volume_id]
        assert not any(key[10:-1] in repr(found) for key in (old.host_key, new.host_key))


def test_a_new_key_ends_no_session(subject: Subject) -> None:
    export = an_export(subject, HOST_A, HOST_B)
    connect_all(subject, export)
    subject.target.create_export(with_secrets(export, HOST_A, new_secrets()))
    assert subject.connected(export.volume_id) == {HOST_A, HOST_B}


@pytest.mark.parametrize("text", ["", "DHHC-1:00:abc:", "DHHC-1:01:" + "A" * 47 + "B:"])
def test_a_key_that_is_none_is_refused_unseen_and_nothing_changes(subject: Subject, text: str) -> None:
    export = an_export(subject, HOST_A)
    subject.target.create_export(export)
    found = subject.target.exports()
    for secrets in (
        replace(new_secrets(), host_key=text),
        replace(new_secrets(), controller_key=text),
    ):
        with pytest.raises(InvalidValueError, match=HOST_A) as refused:
            subject.target.create_export(with_secrets(export, HOST_A, secrets))
        assert secrets.host_key[10:] not in str(refused.value) or not secrets.host_key[10:]
    assert subject.target.exports() == found


@pytest.mark.parametrize("volume_id", ["", "../escape", "A" * 36])
def test_an_id_that_is_none_is_refused_and_nothing_changes(subject: Subject, volume_id: str) -> None:
    export = replace(an_export(subject, HOST_A), volume_id=VolumeId(volume_id))
    with pytest.raises(InvalidValueError):
        subject.target.create_export(export)
    with pytest.raises(InvalidValueError):
        subject.target.remove_export(export.volume_id)
    with pytest.raises(InvalidValueError):
        subject.target.export(export.volume_id)
    assert not subject.target.exports()
