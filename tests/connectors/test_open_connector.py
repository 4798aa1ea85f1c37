"""One door to several connectors."""

from pathlib import Path

import pytest

from fakes.connector import FakeConnector
from weft.config import ConfigFile, check_config
from weft.connection import Connection, NvmeofPortal, to_data
from weft.connectors import HostConnector, open_connector, why_not_kernel
from weft.errors import InvalidValueError, NotFoundError, UnsupportedError
from weft.model import Transport, VolumeId
from weft.names import host_nqn, new_id, subsystem_nqn


class Unable(FakeConnector):
    """Holds what it is told to, and can attach nothing."""

    def missing(self) -> str | None:
        return "there is no kernel"

    def attach(self, connection: Connection) -> Path:
        raise UnsupportedError(f"it is asked for {connection.volume_id} all the same")


class Setting:
    def __init__(self, folder: Path) -> None:
        nqn = host_nqn(new_id())
        self.folder = folder
        self.first = FakeConnector(folder / "first", nqn, self.backing)
        self.second = FakeConnector(folder / "second", nqn, self.backing)
        self.unable = Unable(folder / "unable", nqn, self.backing)

    def backing(self, volume_id: VolumeId) -> Path:
        return self.folder / volume_id

    def new_volume(self) -> Connection:
        volume_id = VolumeId(new_id())
        self.backing(volume_id).write_bytes(bytes(4096))
        portal = NvmeofPortal(transport=Transport.TCP, address="192.0.2.1", port=4420)
        return Connection(
            volume_id=volume_id, nqn=subsystem_nqn(volume_id), portals=(portal,), host_nqn="ALL"
        )


@pytest.fixture
def setting(tmp_path: Path) -> Setting:
    return Setting(tmp_path)


def test_connection_data_does_as_well_as_a_connection(setting: Setting) -> None:
    connector, connection = HostConnector([setting.first]), setting.new_volume()
    data = to_data(connection)
    assert connector.attach(data) == connector.attach(connection)
    assert connector.extend(data) == 4096
    connector.detach(data)
    assert connector.attached() == []
    with pytest.raises(InvalidValueError, match="targetNqn"):
        connector.attach({})


def test_the_first_that_can_attaches(setting: Setting) -> None:
    connector = HostConnector([setting.unable, setting.second])
    connection = setting.new_volume()
    assert connector.missing() is None
    assert connector.attach(connection).parent == setting.folder / "second"


def test_when_none_can_every_reason_is_told(setting: Setting) -> None:
    connector = HostConnector([setting.unable])
    assert connector.missing() == "there is no kernel"
    with pytest.raises(UnsupportedError, match="asked for"):
        connector.attach(setting.new_volume())


def test_whoever_holds_a_volume_keeps_it(setting: Setting) -> None:
    """A volume that is a file stays one when the kernel could have it now."""
    connection = setting.new_volume()
    path = setting.second.attach(connection)
    connector = HostConnector([setting.first, setting.second])
    assert connector.attach(connection) == path
    assert connector.extend(connection) == 4096
    connector.detach(connection)
    assert setting.second.attached() == []
    with pytest.raises(NotFoundError):
        connector.extend(connection)


def test_an_unknown_protocol_is_an_error_that_names_it(tmp_path: Path) -> None:
    config = check_config(ConfigFile(data_dir=str(tmp_path), runtime_dir=str(tmp_path)))
    with pytest.raises(UnsupportedError, match="'rbd'"):
        open_connector("rbd", config)


def test_a_machine_without_modules_is_told_so(tmp_path: Path) -> None:
    config = check_config(ConfigFile(data_dir=str(tmp_path), runtime_dir=str(tmp_path)))
    reason = why_not_kernel(config, tmp_path)
    assert reason is not None
    assert "nvme-fabrics" in reason or "only root" in reason
