"""The kernel's host on one machine whose own nvmet is the target, over tcp, rdma and loop."""

import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from kernel_host.kernel_setting import KernelSetting, loopback, needs_kernel
from weft.config import ConfigFile, ConnectorKind, HostSection, check_config
from weft.connection import LOOP_PORTAL, NvmeofConnection, to_data
from weft.connectors import open_connector
from weft.connectors.nvmeof import NvmeofConnector
from weft.errors import (
    ConflictError,
    DataError,
    PermissionDeniedError,
    UnavailableError,
    UnsupportedError,
)
from weft.model import DhChapSecrets, Transport
from weft.names import host_nqn, new_id
from weft.nvme.dhchap_key import generate_dhchap_key
from weft.rdma import interface_addresses, rdma_links
from weft.run import run

pytestmark = needs_kernel

MIB = 2**20


@pytest.fixture
def setting(short_path: Path) -> Iterator[KernelSetting]:
    with KernelSetting(short_path) as made:
        yield made
        made.assert_nothing_is_left()


@pytest.fixture
def two_portals(short_path: Path) -> Iterator[KernelSetting]:
    with KernelSetting(short_path, loopback(), loopback(address="::1")) as made:
        yield made
        made.assert_nothing_is_left()


@pytest.fixture
def rdma_address() -> Iterator[str]:
    """An address of this machine that speaks RDMA, by soft-RoCE."""
    interface, addresses = next(
        (name, found) for name, found in interface_addresses().items() if name != "lo" and found
    )
    run(["modprobe", "rdma_rxe"], timeout=60)
    run(["rdma", "link", "add", "rxe_test", "type", "rxe", "netdev", interface], timeout=60)
    try:
        assert _becomes_true(lambda: any(link.active for link in rdma_links()))
        yield str(next(each for each in addresses if each.version == 4))
    finally:
        run(["rdma", "link", "delete", "rxe_test"], timeout=60)


def _becomes_true(look: Callable[[], bool], seconds: float = 20.0) -> bool:
    deadline = time.monotonic() + seconds
    while not look():
        if time.monotonic() >= deadline:
            return False
        time.sleep(0.05)
    return True


def _transports(setting: KernelSetting) -> list[str]:
    (volume,) = setting.connector.attached()
    return [each.transport for each in volume.controllers]


def _size_of(path: Path) -> int:
    with path.open("rb") as file:
        return file.seek(0, os.SEEK_END)


def test_several_portals_are_paths_of_one_device(two_portals: KernelSetting) -> None:
    connection = two_portals.target.new_volume()
    path = two_portals.connector.attach(connection)
    (volume,) = two_portals.connector.attached()
    assert (volume.path, volume.volume_id) == (path, connection.volume_id)
    assert [each.portal for each in volume.controllers] == list(connection.portals)
    two_portals.target.grow(connection.volume_id, 32 * MIB)
    assert two_portals.connector.extend(connection) == _size_of(path) == 32 * MIB
    two_portals.connector.detach(connection)


def test_a_portal_that_is_added_later_becomes_a_path(two_portals: KernelSetting) -> None:
    one = two_portals.target.new_volume(number_of_portals=1)
    path = two_portals.connector.attach(one)
    assert len(two_portals.controllers()) == 1
    two_portals.target.link(one.volume_id, two_portals.target.portals[1])
    both = two_portals.target.connection(one.volume_id)
    assert two_portals.connector.attach(both) == path
    assert len(two_portals.controllers()) == 2
    two_portals.connector.detach(one)


def test_a_portal_where_nobody_listens_does_not_keep_the_others_from_working(setting: KernelSetting) -> None:
    connection = setting.target.new_volume()
    dead_first = replace(connection, portals=(loopback(), *connection.portals))
    path = setting.connector.attach(dead_first)
    assert path.is_block_device()
    assert len(setting.controllers()) == 1
    setting.connector.detach(dead_first)


def test_rdma_comes_first_and_tcp_is_beside_it(short_path: Path, rdma_address: str) -> None:
    portals = (loopback(address=rdma_address), loopback(Transport.RDMA, rdma_address))
    with KernelSetting(short_path, *portals) as setting:
        connection = setting.target.new_volume()
        path = setting.connector.attach(connection)
        assert _transports(setting) == ["rdma", "tcp"]
        with path.open("r+b") as file:
            file.write(b"by both")
        setting.connector.detach(connection)
        assert setting.target.backing(connection.volume_id).read_bytes()[:7] == b"by both"
        setting.assert_nothing_is_left()


def test_loop_is_taken_where_the_node_is_this_machine(short_path: Path) -> None:
    with KernelSetting(short_path, loopback(), LOOP_PORTAL) as setting:
        connection = setting.target.new_volume()
        path = setting.connector.attach(connection)
        assert setting.connector.attach(connection) == path
        assert _transports(setting) == ["loop"]
        setting.connector.detach(connection)
        setting.assert_nothing_is_left()


def test_the_configuration_may_tell_the_transport(short_path: Path) -> None:
    with KernelSetting(short_path, loopback(), LOOP_PORTAL, transport="tcp") as setting:
        connection = setting.target.new_volume()
        setting.connector.attach(connection)
        assert _transports(setting) == ["tcp"]
        setting.connector.detach(connection)


def test_a_volume_that_this_host_can_speak_no_portal_of_is_refused(setting: KernelSetting) -> None:
    connection = replace(setting.target.new_volume(), portals=(loopback(Transport.RDMA, "192.0.2.1"),))
    with pytest.raises(UnsupportedError, match="no active RDMA link"):
        setting.connector.attach(connection)


def test_queues_and_times_are_as_configured(short_path: Path) -> None:
    with KernelSetting(short_path, io_queues=1, reconnect_delay=2.5, keep_alive=7) as setting:
        connection = setting.target.new_volume()
        setting.connector.attach(connection)
        (name,) = setting.controllers()
        attributes = {
            each: (Path("/sys/class/nvme") / name / each).read_text().strip()
            for each in ("queue_count", "reconnect_delay", "kato", "ctrl_loss_tmo")
        }
        assert attributes == {"queue_count": "2", "reconnect_delay": "3", "kato": "7", "ctrl_loss_tmo": "60"}
        setting.connector.detach(connection)


def test_a_subsystem_whose_name_begins_alike_is_another(setting: KernelSetting) -> None:
    """Its controllers are neither taken for the volume's nor disconnected with it."""
    short = setting.target.new_volume()
    setting.connector.attach(short)
    other = replace(setting.target.new_volume(), nqn=short.nqn[:-1])
    setting.connector.detach(other)
    assert len(setting.controllers()) == 1
    setting.connector.detach(short)


def test_a_mounted_volume_is_not_detached_and_the_mount_is_named(
    setting: KernelSetting, tmp_path: Path
) -> None:
    connection = setting.target.new_volume()
    path = setting.connector.attach(connection)
    run(["mkfs.ext4", "-q", str(path)], timeout=60)
    run(["mount", str(path), str(tmp_path)], timeout=60)
    try:
        with pytest.raises(ConflictError, match=f"in use by the mount at {tmp_path}"):
            setting.connector.detach(connection)
        (tmp_path / "file").write_text("goes on")
    finally:
        run(["umount", str(tmp_path)], timeout=60)
    setting.connector.detach(connection)
    assert setting.connector.attach(connection) == path
    run(["fsck.ext4", "-fn", str(path)], timeout=60)
    setting.connector.detach(connection)


def test_a_volume_under_another_device_is_not_detached(setting: KernelSetting) -> None:
    connection = setting.target.new_volume()
    path = setting.connector.attach(connection)
    run(["dmsetup", "create", "weft-test", "--table", f"0 2048 linear {path} 0"], timeout=60)
    try:
        with pytest.raises(ConflictError, match="weft-test upon it"):
            setting.connector.detach(connection)
    finally:
        run(["dmsetup", "remove", "--retry", "weft-test"], timeout=60)
    setting.connector.detach(connection)


def test_detaching_by_force_takes_a_used_volume_away(setting: KernelSetting) -> None:
    connection = setting.target.new_volume()
    with setting.connector.attach(connection).open("rb"):
        setting.connector.detach(connection, force=True)
        setting.assert_nothing_is_left()


def test_a_dead_target_is_detached_by_force_alone(setting: KernelSetting) -> None:
    connection = setting.target.new_volume()
    path = setting.connector.attach(connection)
    writer = os.open(path, os.O_RDWR)
    os.pwrite(writer, b"never flushed", 0)
    os.close(writer)
    (portal,) = connection.portals
    run(["nft", "add table inet weft_test"], timeout=60)
    try:
        run(
            ["nft", "add chain inet weft_test input { type filter hook input priority 0 ; }"],
            timeout=60,
        )
        run(["nft", f"add rule inet weft_test input tcp dport {portal.port} drop"], timeout=60)
        (name,) = setting.controllers()
        state = Path("/sys/class/nvme") / name / "state"
        assert _becomes_true(lambda: state.read_text().strip() != "live", 60)
        with pytest.raises(UnavailableError, match=r"stays attached.*does not answer.*--force"):
            setting.connector.detach(connection)
        assert path.is_block_device()
        setting.connector.detach(connection, force=True)
        setting.assert_nothing_is_left()
        assert not path.exists()
    finally:
        run(["nft", "delete table inet weft_test"], timeout=60)


def test_a_host_that_is_not_let_in_is_told_so_and_nothing_is_left(setting: KernelSetting) -> None:
    connection = setting.target.new_volume()
    setting.target.forbid(connection.volume_id)
    with pytest.raises(PermissionDeniedError, match="refused this host"):
        setting.connector.attach(connection)
    setting.assert_nothing_is_left()


def test_a_namespace_that_is_another_volume_is_not_taken_for_this_one(
    setting: KernelSetting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("weft.connectors.nvmeof._DEVICE_TIMEOUT", 2.0)
    connection = replace(setting.target.new_volume(), volume_id=setting.target.new_volume().volume_id)
    with pytest.raises(UnavailableError, match="does not show a namespace with that uuid"):
        setting.connector.attach(connection)
    setting.assert_nothing_is_left()


def test_a_second_identity_is_refused_while_the_kernel_holds_the_first(setting: KernelSetting) -> None:
    connection = setting.target.new_volume()
    setting.connector.attach(connection)
    identity = setting.connector.identity()
    for nqn, host_id in ((host_nqn(new_id()), identity.id), (identity.nqn, new_id())):
        config = check_config(
            ConfigFile(
                data_dir=str(setting.config.data_dir),
                runtime_dir=str(setting.config.runtime_dir),
                host=HostSection(nqn=nqn, id=host_id),
            )
        )
        with pytest.raises(ConflictError, match="a machine has one identity"):
            NvmeofConnector(config).attach(replace(setting.target.new_volume(), host_nqn="ALL"))
    setting.connector.detach(connection)


def test_many_volumes_are_attached_and_detached_at_once(setting: KernelSetting) -> None:
    connections = [setting.target.new_volume(MIB) for _ in range(10)]
    paths: dict[str, Path] = {}

    def attach(connection: NvmeofConnection) -> None:
        paths[connection.volume_id] = setting.connector.attach(connection)

    for work in (attach, setting.connector.detach):
        threads = [threading.Thread(target=work, args=(each,)) for each in connections]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(90)
    assert len(set(paths.values())) == 10


def test_what_is_attached_is_known_without_records_and_by_data(setting: KernelSetting) -> None:
    """Also what another program attached, or an earlier weft whose runtime directory is gone."""
    connection = setting.target.new_volume()
    connector = open_connector("nvmeof", setting.config)
    path = connector.attach(
        {
            "targetDiscovered": True,
            "targetNQN": connection.nqn,
            "targetIP": connection.portals[0].address,
            "targetPort": str(connection.portals[0].port),
            "transporType": "tcp",
            "hostNqn": connection.host_nqn,
        }
    )
    for record in setting.config.attached_dir.glob("*.connection"):
        record.unlink()
    (volume,) = connector.attached()
    assert (volume.path, volume.connection) == (path, connection)
    connector.detach(to_data(connection))


def test_auto_takes_the_kernel_where_root_has_it(setting: KernelSetting) -> None:
    host = HostSection(nqn=setting.config.host.nqn, id=setting.config.host.id, connector=ConnectorKind.AUTO)
    connector = open_connector("nvmeof", replace(setting.config, host=host))
    connection = setting.target.new_volume()
    assert connector.attach(connection).is_block_device()
    connector.detach(connection)


def _keys(*, both_ways: bool) -> DhChapSecrets:
    return DhChapSecrets(
        host_key=generate_dhchap_key(), controller_key=generate_dhchap_key() if both_ways else None
    )


@pytest.mark.parametrize("both_ways", [False, True])
def test_keys_let_a_host_in_and_can_be_replaced_under_way(setting: KernelSetting, *, both_ways: bool) -> None:
    connection = setting.target.new_volume()
    for renewed in range(2):
        keys = _keys(both_ways=both_ways)
        setting.target.set_secrets(keys)
        path = setting.connector.attach(replace(connection, secrets=keys))
        (name,) = setting.controllers()
        state = Path("/sys/class/nvme") / name / "state"
        with path.open("r+b") as file:
            file.write(b"%d" % renewed)
        run(["nvme", "reset", f"/dev/{name}"], timeout=60)  # it comes back with the keys that it has now
        assert _becomes_true(lambda at=state: at.read_text().strip() == "live")  # type: ignore[misc]
    assert "DHHC" not in "".join(each.read_text() for each in setting.config.attached_dir.iterdir())
    setting.connector.detach(connection)


def test_wrong_and_missing_keys_are_refused_without_showing_any(setting: KernelSetting) -> None:
    connection = setting.target.new_volume()
    setting.target.set_secrets(_keys(both_ways=False))
    wrong = _keys(both_ways=False)
    for secrets in (wrong, None):
        with pytest.raises(PermissionDeniedError) as refused:
            setting.connector.attach(replace(connection, secrets=secrets))
        assert wrong.host_key[10:] not in str(refused.value)
    setting.assert_nothing_is_left()


def test_a_record_that_cannot_be_written_is_an_error_before_anything_is_connected(
    setting: KernelSetting,
) -> None:
    connection = setting.target.new_volume()
    record = setting.config.attached_dir / f"{connection.volume_id}.connection"
    record.mkdir(parents=True)
    with pytest.raises(DataError, match="cannot be written"):
        setting.connector.attach(connection)
    assert setting.controllers() == []
    record.rmdir()
