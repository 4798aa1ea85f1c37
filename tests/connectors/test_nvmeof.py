"""The kernel connector over a kernel that can be killed, and that answers what a real one cannot be made to on demand."""

from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from fakes.kernel_host import SIZE, FakeFabrics, FakeKernel, FakeSysfs, KilledError, PathFault
from weft.config import Config, ConfigFile, ConnectorKind, HostSection, check_config
from weft.connection import ANY_HOST, NvmeofConnection, NvmeofPortal
from weft.connectors import growth, kernel_paths
from weft.connectors.nvmeof import NvmeofConnector
from weft.errors import (
    ConflictError,
    DataError,
    PermissionDeniedError,
    UnavailableError,
    UnsupportedError,
)
from weft.model import DhChapSecrets, Transport, VolumeId
from weft.names import host_nqn, new_id, subsystem_nqn
from weft.nvme.dhchap_key import generate_dhchap_key

FIRST = NvmeofPortal(transport=Transport.TCP, address="192.0.2.1", port=4420)
SECOND = NvmeofPortal(transport=Transport.TCP, address="2001:db8::1", port=4420)


class Setting:
    def __init__(self, folder: Path) -> None:
        self.kernel = FakeKernel(folder / "root")
        self.config = _config(folder)
        self.fabrics = FakeFabrics(self.kernel)
        self.connector = self.new_connector()

    def new_connector(self, config: Config | None = None) -> NvmeofConnector:
        """As another process has it."""
        return NvmeofConnector(
            config or self.config, root=self.kernel.root, sysfs=FakeSysfs(self.kernel), fabrics=self.fabrics
        )

    def rename_host(self) -> None:
        """Give it another NQN and another identifier, as is done with the clone of a machine."""
        host_id = new_id()
        host = msgspec.structs.replace(self.config.host, nqn=host_nqn(host_id), id=host_id)
        self.connector = self.new_connector(replace(self.config, host=host))

    def new_volume(self) -> NvmeofConnection:
        volume_id = VolumeId(new_id())
        nqn = subsystem_nqn(volume_id)
        self.kernel.volumes[nqn] = volume_id
        return NvmeofConnection(
            volume_id=volume_id, nqn=nqn, portals=(FIRST, SECOND), host_nqn=self.config.host.nqn
        )

    def records(self) -> list[str]:
        directory = self.config.attached_dir
        return sorted(each.name for each in directory.iterdir()) if directory.exists() else []


def _config(folder: Path) -> Config:
    host_id = new_id()
    return check_config(
        ConfigFile(
            data_dir=str(folder / "data"),
            runtime_dir=str(folder / "run"),
            host=HostSection(connector=ConnectorKind.KERNEL, nqn=host_nqn(host_id), id=host_id),
        )
    )


@pytest.fixture
def setting(short_path: Path, monkeypatch: pytest.MonkeyPatch) -> Setting:
    monkeypatch.setattr(kernel_paths, "reachable", lambda portals, _: tuple(portals))
    monkeypatch.setattr(kernel_paths, "_GONE_TIMEOUT", 0.1)
    return Setting(short_path)


def _paths(setting: Setting) -> list[NvmeofPortal | None]:
    (volume,) = setting.connector.attached()
    return [each.portal for each in volume.controllers]


@pytest.mark.parametrize("step", range(1, 6))
def test_an_attach_that_is_killed_at_any_step_is_completed_or_undone_by_the_next_command(
    setting: Setting, step: int
) -> None:
    for finish in ("attach", "detach"):
        connection = setting.new_volume()
        setting.kernel.kill_at = step
        try:
            setting.connector.attach(connection)
        except KilledError:
            setting.kernel.revive()
        else:
            assert step > setting.kernel.steps
            setting.kernel.revive()
        if finish == "attach":
            path = setting.new_connector().attach(connection)
            assert _paths(setting) == [FIRST, SECOND]
            assert path.exists()
        setting.new_connector().detach(connection)
        assert (setting.kernel.left(), setting.records()) == ([], [])


@pytest.mark.parametrize("step", [1, 2])
def test_a_detach_that_ends_at_any_step_is_an_error_and_is_completed_by_the_next(
    setting: Setting, step: int
) -> None:
    connection = setting.new_volume()
    setting.connector.attach(connection)
    setting.kernel.revive()
    setting.kernel.kill_at = step
    with pytest.raises(UnavailableError):
        setting.connector.detach(connection)
    assert setting.kernel.left() != []
    setting.kernel.revive()
    setting.new_connector().detach(connection)
    assert (setting.kernel.left(), setting.records()) == ([], [])


def test_a_device_is_gone_when_another_volume_has_taken_its_name(setting: Setting) -> None:
    connection = setting.new_volume()
    path = setting.connector.attach(connection)
    setting.kernel.heir = VolumeId(new_id())
    setting.connector.detach(connection)
    assert path.exists()
    assert setting.records() == []


def test_a_device_that_stays_is_named(setting: Setting) -> None:
    connection = setting.new_volume()
    setting.connector.attach(connection)
    setting.kernel.heir = connection.volume_id
    with pytest.raises(UnavailableError, match="/dev/nvme0n1 did not go"):
        setting.connector.detach(connection)


@pytest.mark.parametrize("changed", ["the host's name", "the target's prefix"])
def test_what_was_attached_under_another_name_is_detached_all_the_same(
    setting: Setting, changed: str
) -> None:
    connection = replace(setting.new_volume(), host_nqn=ANY_HOST)
    setting.connector.attach(connection)
    if changed == "the host's name":
        setting.rename_host()
    else:
        connection = replace(connection, nqn=subsystem_nqn(connection.volume_id, "nqn.2024-01.org.example:"))
    setting.connector.detach(connection)
    assert (setting.kernel.left(), setting.records()) == ([], [])


def test_what_was_attached_under_another_name_is_known_and_not_attached_again(setting: Setting) -> None:
    connection = replace(setting.new_volume(), host_nqn=ANY_HOST)
    path = setting.connector.attach(connection)
    setting.rename_host()
    with pytest.raises(ConflictError, match="which this host was before"):
        setting.connector.attach(connection)
    assert [each.path for each in setting.connector.attached()] == [path]
    assert len(setting.fabrics.requests) == 2
    setting.connector.detach(connection)
    assert (setting.kernel.left(), setting.records()) == ([], [])


def test_a_volume_that_was_lost_is_still_known_after_an_attach_that_failed(setting: Setting) -> None:
    connection = setting.new_volume()
    setting.connector.attach(connection)
    for name in ("nvme0", "nvme1"):
        setting.kernel.remove_controller(name)
    setting.kernel.failing = dict.fromkeys((FIRST, SECOND), UnavailableError("does not answer"))
    with pytest.raises(UnavailableError, match="does not answer"):
        setting.connector.attach(replace(connection, portals=(SECOND,)))
    assert [each.connection for each in setting.connector.abandoned()] == [connection]


def test_attaching_again_changes_nothing(setting: Setting) -> None:
    connection = setting.new_volume()
    path = setting.connector.attach(connection)
    assert setting.new_connector().attach(connection) == path
    assert len(setting.fabrics.requests) == 2
    setting.connector.detach(connection)


def test_a_portal_that_fails_is_left_out_while_another_works_and_tried_again(setting: Setting) -> None:
    connection = setting.new_volume()
    setting.kernel.failing[FIRST] = UnavailableError("does not answer")
    path = setting.connector.attach(connection)
    assert _paths(setting) == [SECOND]
    del setting.kernel.failing[FIRST]
    assert setting.connector.attach(connection) == path
    assert sorted(map(str, _paths(setting))) == sorted(map(str, (FIRST, SECOND)))
    setting.connector.detach(connection)


def test_the_kernel_is_asked_when_no_portal_answers_at_once(
    setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernel_paths, "reachable", lambda _portals, _timeout: ())
    connection = setting.new_volume()
    setting.connector.attach(replace(connection, portals=(FIRST,)))
    setting.connector.attach(connection)
    assert _paths(setting) == [FIRST]
    setting.connector.detach(connection)
    setting.connector.attach(connection)
    assert _paths(setting) == [FIRST, SECOND]
    setting.connector.detach(connection)


def test_when_no_portal_works_a_refusal_is_told_rather_than_silence(setting: Setting) -> None:
    connection = setting.new_volume()
    setting.kernel.failing = {
        FIRST: UnavailableError("does not answer"),
        SECOND: PermissionDeniedError("refused this host"),
    }
    with pytest.raises(PermissionDeniedError, match="refused this host"):
        setting.connector.attach(connection)
    assert (setting.kernel.left(), setting.records()) == ([], [])


def test_a_volume_whose_added_path_fails_stays_attached(setting: Setting) -> None:
    one = replace(setting.new_volume(), portals=(FIRST,))
    path = setting.connector.attach(one)
    setting.kernel.failing[SECOND] = PermissionDeniedError("refused this host")
    assert setting.connector.attach(replace(one, portals=(FIRST, SECOND))) == path
    setting.connector.detach(one)


def test_without_native_multipath_one_path_is_made(setting: Setting) -> None:
    setting.kernel.multipath = False
    connection = setting.new_volume()
    path = setting.connector.attach(connection)
    assert setting.connector.attach(connection) == path
    assert _paths(setting) == [FIRST]
    with pytest.raises(UnsupportedError, match=r"nvme_core\.multipath is off"):
        setting.connector.update_secrets(connection)
    setting.connector.detach(connection)


@pytest.mark.parametrize("path", ["nvme0", "nvme1"])
@pytest.mark.parametrize("fault", [PathFault.CUT, PathFault.BREAKS])
def test_a_volume_grows_by_the_paths_that_work(setting: Setting, path: str, fault: PathFault) -> None:
    connection = setting.new_volume()
    setting.connector.attach(connection)
    setting.kernel.faults[path] = fault
    setting.kernel.size = 2 * SIZE
    assert setting.connector.extend(connection) == 2 * SIZE
    assert FakeSysfs(setting.kernel).size("nvme0n1") == 2 * SIZE


def test_a_volume_whose_target_answers_by_no_path_does_not_grow(setting: Setting) -> None:
    connection = setting.new_volume()
    setting.connector.attach(connection)
    setting.kernel.faults = dict.fromkeys(("nvme0", "nvme1"), PathFault.CUT)
    with pytest.raises(UnavailableError, match="/dev/nvme0 does not tell the size"):
        setting.connector.extend(connection)


def test_a_path_that_answers_and_does_not_grow_is_an_error(
    setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(growth, "_GROWTH_TIMEOUT", 0.1)
    connection = setting.new_volume()
    setting.connector.attach(connection)
    setting.kernel.size = 2 * SIZE
    setting.kernel.faults["nvme1"] = PathFault.STUCK
    with pytest.raises(UnavailableError, match="/dev/nvme0n1 or one of its paths does not show that"):
        setting.connector.extend(connection)


def test_another_hosts_connection_is_not_given(setting: Setting) -> None:
    connection = replace(setting.new_volume(), host_nqn=host_nqn(new_id()))
    with pytest.raises(PermissionDeniedError, match="is for the host"):
        setting.connector.attach(connection)


def test_controllers_of_another_host_nqn_are_left_alone(setting: Setting, tmp_path: Path) -> None:
    connection = replace(setting.new_volume(), host_nqn="ALL")
    other = setting.new_connector(_config(tmp_path))
    other.attach(connection)
    assert setting.connector.attached() == []
    with pytest.raises(ConflictError, match=r"/dev/nvme0n1 still shows .* nvme0, which goes by"):
        setting.connector.detach(connection)
    assert len(other.attached()[0].controllers) == 2
    other.detach(connection)
    setting.connector.detach(connection)
    assert setting.kernel.left() == []


def test_a_device_that_another_host_nqn_shows_too_is_not_called_gone(
    setting: Setting, tmp_path: Path
) -> None:
    connection = replace(setting.new_volume(), host_nqn=ANY_HOST, portals=(FIRST,))
    setting.connector.attach(connection)
    other = setting.new_connector(_config(tmp_path))
    other.attach(replace(connection, portals=(SECOND,)))
    with pytest.raises(ConflictError, match=r"still shows .* nvme1, which goes by"):
        setting.connector.detach(connection)
    assert _paths(setting) == [FIRST]
    with pytest.raises(ConflictError, match=r"still shows .* nvme1, which goes by"):
        setting.connector.detach(connection, force=True)
    assert setting.connector.attached() == []
    other.detach(connection)
    setting.connector.detach(connection)
    assert (setting.kernel.left(), setting.records()) == ([], [])


def test_two_devices_for_one_volume_are_an_error_and_none_is_used(setting: Setting) -> None:
    """As without native multipath, when another program has connected by a second portal."""
    connection = setting.new_volume()
    setting.kernel.volumes["nqn.2014-08.org.example:other"] = connection.volume_id
    setting.connector.attach(connection)
    (controller, _) = setting.connector.attached()[0].controllers
    setting.kernel.show_namespace(controller.name, "nqn.2014-08.org.example:other")
    with pytest.raises(DataError, match="several devices"):
        setting.connector.attach(connection)
    setting.connector.detach(connection)
    assert setting.kernel.left() == []


def test_a_volume_that_is_attached_by_another_subsystem_is_refused(setting: Setting) -> None:
    connection = setting.new_volume()
    setting.connector.attach(connection)
    with pytest.raises(ConflictError, match="detach it first"):
        setting.connector.attach(replace(connection, nqn="nqn.2014-08.org.example:copy"))
    setting.connector.detach(connection)


def test_a_lost_volume_is_abandoned_until_it_is_attached_or_detached(setting: Setting) -> None:
    """The kernel removes the device of a target that has turned the host away."""
    connection = setting.new_volume()
    setting.connector.attach(connection)
    for name in ("nvme0", "nvme1"):
        setting.kernel.remove_controller(name)
    assert setting.connector.attached() == []
    assert [each.volume_id for each in setting.connector.abandoned()] == [connection.volume_id]
    setting.connector.detach(connection)
    assert setting.connector.abandoned() == []


def test_a_record_holds_no_keys_and_is_its_owners_alone(setting: Setting) -> None:
    keys = DhChapSecrets(host_key=generate_dhchap_key(), controller_key=generate_dhchap_key())
    connection = replace(setting.new_volume(), secrets=keys)
    setting.connector.attach(connection)
    (record,) = setting.config.attached_dir.iterdir()
    assert record.stat().st_mode & 0o777 == 0o600
    assert "DHHC" not in record.read_text()
    assert "DHHC" not in repr(setting.fabrics.requests)
    setting.connector.detach(connection)


@pytest.mark.parametrize("step", range(1, 8))
def test_new_keys_come_by_new_paths_before_the_old_ones_go(setting: Setting, step: int) -> None:
    old, new = (DhChapSecrets(host_key=generate_dhchap_key()) for _ in range(2))
    connection = replace(setting.new_volume(), secrets=old)
    path = setting.connector.attach(connection)
    setting.kernel.revive()
    setting.kernel.kill_at = step
    try:
        setting.connector.update_secrets(replace(connection, secrets=new))
    except (KilledError, UnavailableError):
        assert path.exists()
    setting.kernel.revive()
    setting.connector.update_secrets(replace(connection, secrets=new))
    (volume,) = setting.connector.attached()
    sysfs = FakeSysfs(setting.kernel)
    assert all(sysfs.holds(each, new) for each in volume.controllers)
    assert sorted(str(each.portal) for each in volume.controllers) == sorted(map(str, (FIRST, SECOND)))
    setting.connector.detach(connection)
