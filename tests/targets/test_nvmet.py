"""The kernel's target, on a kernel in memory that has nvmet's rules: what an export is there, and what is refused."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from fakes.configfs import ROOT
from targets.nvmet_node import HOST_A, HOST_B, MIB, Node, keys, somebody_else_exports
from weft.config import PortalSection
from weft.errors import (
    ConflictError,
    DataError,
    InvalidValueError,
    NotFoundError,
    UnavailableError,
    UnsupportedError,
)
from weft.model import VolumeId
from weft.names import new_id, subsystem_nqn
from weft.targets.configfs import Configfs


def test_a_volume_has_the_identity_that_its_id_gives(node: Node) -> None:
    export = node.export(HOST_A)
    node.start().create_export(export)
    configfs = Configfs(ROOT, node.kernel)
    path = f"subsystems/{subsystem_nqn(export.volume_id)}"
    assert configfs.read(f"{path}/attr_model") == "weft"
    assert configfs.read(f"{path}/attr_serial") == export.volume_id.replace("-", "")[:20]
    assert configfs.read(f"{path}/attr_qid_max") == "8"
    assert configfs.read(f"{path}/attr_allow_any_host") == "0"
    assert configfs.names(f"{path}/namespaces") == ["1"]
    assert configfs.read(f"{path}/namespaces/1/device_uuid") == export.volume_id
    assert configfs.read(f"{path}/namespaces/1/device_nguid") == export.volume_id
    assert configfs.read(f"{path}/namespaces/1/device_path") == str(export.path)


def test_what_cannot_be_flushed_when_the_target_stops_is_told(
    node: Node, caplog: pytest.LogCaptureFixture
) -> None:
    exports = [node.export(HOST_A) for _ in range(2)]
    target = node.start()
    for export in exports:
        target.create_export(export)
    exports[0].path.unlink()
    target.stop_target()
    assert f"what hosts wrote last to {exports[0].path} may be lost" in caplog.text
    assert str(exports[1].path) not in caplog.text


def test_nothing_is_left_when_the_last_export_goes(node: Node) -> None:
    target, empty = node.start("192.0.2.1", "rdma://192.0.2.2", "loop"), node.kernel.tree()
    exports = [node.export(HOST_A, HOST_B, secrets=keys()) for _ in range(3)]
    for export in exports:
        target.create_export(export)
    for export in exports:
        target.remove_export(export.volume_id)
    assert node.kernel.tree() == empty


def test_each_portal_leads_to_the_volume(node: Node) -> None:
    target = node.start("192.0.2.1", "[2001:db8::1]:4421", "rdma://192.0.2.2:4420", "loop")
    export = node.export(HOST_A)
    connection = target.create_export(export)[export.hosts[0].host_id]
    assert [str(each) for each in connection.portals] == [
        "192.0.2.1:4420", "[2001:db8::1]:4421", "rdma://192.0.2.2:4420", "loop",
    ]  # fmt: skip
    for portal in connection.portals:
        node.connect(export, HOST_A, portal)


def test_a_portal_that_is_configured_no_more_serves_its_volumes_until_they_go(node: Node) -> None:
    empty = node.kernel.tree()
    exports = [node.export(HOST_A) for _ in range(2)]
    target = node.start("192.0.2.1", "rdma://192.0.2.2", "loop")
    for export in exports:
        target.create_export(export)
    node.connect(exports[0], HOST_A)
    target = node.start("[2001:db8::1]:4420")
    connections = target.create_export(exports[0])
    assert [str(each) for each in connections[exports[0].hosts[0].host_id].portals] == ["[2001:db8::1]:4420"]
    node.connect(exports[0], HOST_A)
    target.remove_export(exports[0].volume_id)
    assert node.connected(exports[0]) == frozenset()
    node.connect(exports[1], HOST_A)
    target.remove_export(exports[1].volume_id)
    assert node.kernel.tree() == empty


def test_stopping_the_target_closes_portals_that_are_configured_no_more(node: Node) -> None:
    target, empty = node.start("192.0.2.1", "loop"), node.kernel.tree()
    target.create_export(node.export(HOST_A))
    node.start("[2001:db8::1]:4420").stop_target()
    assert node.kernel.tree() == empty


def test_a_portals_options_are_set_before_it_listens(node: Node) -> None:
    node.start(PortalSection(address="192.0.2.1", inline_data_size=8192, max_queue_size=64)).create_export(
        node.export(HOST_A)
    )
    configfs = Configfs(ROOT, node.kernel)
    (port,) = configfs.names("ports")
    assert configfs.read(f"ports/{port}/param_inline_data_size") == "8192"
    assert configfs.read(f"ports/{port}/param_max_queue_size") == "64"


def test_an_option_that_the_kernel_does_not_know_keeps_its_portal_closed_and_says_so(node: Node) -> None:
    node.kernel.port_parameters = False
    target = node.start(PortalSection(address="192.0.2.1", max_queue_size=64))
    with pytest.raises(UnavailableError, match="no param_max_queue_size"):
        target.create_export(node.export(HOST_A))
    assert "no param_max_queue_size" in target.troubles()[0]


def test_an_option_that_is_changed_under_hosts_is_told_of_and_comes_into_force_later(node: Node) -> None:
    export = node.export(HOST_A)
    node.start("192.0.2.1").create_export(export)
    node.connect(export, HOST_A)
    target = node.start(PortalSection(address="192.0.2.1", inline_data_size=8192))
    target.create_export(export)
    assert "param_inline_data_size -1, not 8192" in target.troubles()[0]
    assert node.connected(export) == {HOST_A}
    target.remove_export(export.volume_id)
    target.create_export(export)
    assert target.troubles() == []


def test_fifty_volumes_are_exported_and_taken_back_at_once(node: Node) -> None:
    target = node.start("192.0.2.1", "rdma://192.0.2.2")
    empty, exports = node.kernel.tree(), [node.export(HOST_A, HOST_B) for _ in range(50)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(target.create_export, exports))
        found = target.exports()
        assert {each.volume_id for each in exports} == set(found)
        assert all(each.complete for each in found.values())
        list(pool.map(target.remove_export, [each.volume_id for each in exports]))
    assert node.kernel.tree() == empty


def test_a_device_is_not_exported_twice_whatever_it_is_called(node: Node) -> None:
    target, export = node.start(), node.export(HOST_A)
    target.create_export(export)
    other_name = node.folder / "other-name"
    other_name.symlink_to(export.path)
    again = replace(export, volume_id=VolumeId(new_id()), path=other_name)
    with pytest.raises(ConflictError, match="one device is exported once"):
        target.create_export(again)
    target = node.start()
    with pytest.raises(ConflictError, match="one device is exported once"):
        target.create_export(again)
    target.remove_export(export.volume_id)
    target.create_export(again)


def test_a_device_that_somebody_elses_subsystem_shows_is_not_exported(node: Node) -> None:
    export = node.export(HOST_A)
    somebody_else_exports(node.kernel, "nqn.2024-01.org.example:theirs", export.path)
    with pytest.raises(ConflictError, match=r"nqn\.2024-01\.org\.example:theirs"):
        node.start().create_export(export)


def test_a_device_is_free_again_once_somebody_elses_subsystem_is_gone(node: Node) -> None:
    export, theirs = node.export(HOST_A), "nqn.2024-01.org.example:theirs"
    somebody_else_exports(node.kernel, theirs, export.path)
    target, configfs = node.start(), Configfs(ROOT, node.kernel)
    configfs.unlink(f"ports/1/subsystems/{theirs}")
    configfs.unlink(f"subsystems/{theirs}/allowed_hosts/{HOST_B}")
    configfs.remove_directory(f"subsystems/{theirs}/namespaces/7")
    configfs.remove_directory(f"subsystems/{theirs}")
    target.create_export(export)


def test_no_namespace_of_somebody_elses_subsystem_is_overlooked(node: Node) -> None:
    exports, theirs = [node.export(HOST_A) for _ in range(2)], "nqn.2024-01.org.example:theirs"
    somebody_else_exports(node.kernel, theirs, exports[0].path)
    node.kernel.mkdir(f"{ROOT}/subsystems/{theirs}/namespaces/8")
    node.kernel.write(f"{ROOT}/subsystems/{theirs}/namespaces/8/device_path", str(exports[1].path).encode())
    target = node.start()
    for export in exports:
        with pytest.raises(ConflictError, match=r"nqn\.2024-01\.org\.example:theirs"):
            target.create_export(export)


def test_bytes_that_are_not_there_are_not_exported_and_nothing_is_left(node: Node) -> None:
    target, empty = node.start(), node.kernel.tree()
    export = node.export(HOST_A)
    with pytest.raises(DataError, match="fewer than"):
        target.create_export(replace(export, size=8 * MIB))
    with pytest.raises(NotFoundError):
        target.create_export(replace(export, path=node.folder / "gone"))
    with pytest.raises(InvalidValueError):
        target.create_export(replace(export, path=node.folder))
    assert node.kernel.tree() == empty


def test_a_live_export_is_never_made_to_show_another_device(node: Node) -> None:
    target, export = node.start(), node.export(HOST_A)
    target.create_export(export)
    node.connect(export, HOST_A)
    with pytest.raises(ConflictError, match="detach its hosts first"):
        target.create_export(replace(export, path=node.export().path))
    assert node.connected(export) == {HOST_A}


def test_writes_of_an_exported_volume_cannot_be_held(node: Node) -> None:
    target, export = node.start(), node.export(HOST_A)
    assert target.hold_writes(export.volume_id, 1) is None
    target.create_export(export)
    with pytest.raises(UnsupportedError, match="detach it first"):
        target.hold_writes(export.volume_id, 1)
