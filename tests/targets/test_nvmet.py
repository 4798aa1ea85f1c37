"""The kernel's target, on a kernel in memory that has nvmet's rules."""

import errno
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from fakes.configfs import ROOT, FakeNvmet
from fakes.crash import Crash
from fakes.nvmet import FakeGate, FakeModules, nvmet_config, start_nvmet
from weft.config import PortalSection
from weft.connection import NvmeofPortal
from weft.errors import (
    ConflictError,
    DataError,
    InvalidValueError,
    NotFoundError,
    PermissionDeniedError,
    UnavailableError,
    UnsupportedError,
    WeftError,
)
from weft.model import DhChapSecrets, Export, ExportHost, HostId, Transport, VolumeId
from weft.names import new_id, subsystem_nqn
from weft.nvme.dhchap_key import DhChapHash, generate_dhchap_key
from weft.targets import NvmetTarget
from weft.targets.configfs import Configfs

MIB = 2**20
HOST_A = "nqn.2014-08.org.nvmexpress:uuid:aaaaaaaa-0000-4000-8000-000000000000"
HOST_B = "nqn.2014-08.org.nvmexpress:uuid:bbbbbbbb-0000-4000-8000-000000000000"
TCP = NvmeofPortal(transport=Transport.TCP, address="192.0.2.1", port=4420)
SECONDS = 10.0


class Node:
    """A storage node: its kernel, and weft's target on it, which can be started again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.kernel = FakeNvmet()
        self.gate = FakeGate()
        self.modules = FakeModules()
        self.config = nvmet_config(folder)
        self._running: NvmetTarget | None = None

    def start(
        self, *portals: str | PortalSection, restore_seconds: float = 120.0, any_host: bool = False
    ) -> NvmetTarget:
        self.stop()
        self.config = nvmet_config(
            self.folder, *portals, restore_seconds=restore_seconds, allow_any_host=any_host
        )
        self._running = start_nvmet(self.config, self.kernel, gate=self.gate, modules=self.modules)
        return self._running

    def stop(self) -> None:
        if self._running is not None:
            self._running.stop()
            self._running = None

    def export(self, *hosts: str, size: int = 4 * MIB, secrets: DhChapSecrets | None = None) -> Export:
        """A volume that is not exported yet."""
        path = self.folder / new_id()
        with path.open("wb") as file:
            file.truncate(size)
        return Export(
            volume_id=VolumeId(new_id()),
            path=path,
            size=size,
            hosts=tuple(
                ExportHost(host_id=HostId(new_id()), initiator=each, secrets=secrets) for each in hosts
            ),
        )

    def connect(self, export: Export, host: str, portal: NvmeofPortal = TCP) -> None:
        self.kernel.connect(portal, subsystem_nqn(export.volume_id), host)

    def connected(self, export: Export) -> frozenset[str]:
        return self.kernel.connected(subsystem_nqn(export.volume_id))


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    node = Node(tmp_path)
    yield node
    node.stop()


def wait_until(condition: Callable[[], bool]) -> None:
    waiting = threading.Event()
    for _ in range(int(SECONDS / 0.01)):
        if condition():
            return
        waiting.wait(0.01)
    pytest.fail("it did not come true")


def without(export: Export, host: str) -> Export:
    return replace(export, hosts=tuple(each for each in export.hosts if each.initiator != host))


def keys(*, both: bool = False, used_hash: DhChapHash = DhChapHash.SHA_256) -> DhChapSecrets:
    return DhChapSecrets(
        host_key=generate_dhchap_key(used_hash), controller_key=generate_dhchap_key() if both else None
    )


# -- what an export is in configfs -----------------------------------------------------------------------------


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


# -- what is refused -------------------------------------------------------------------------------------------


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


# -- what belongs to others ------------------------------------------------------------------------------------


def somebody_else_exports(kernel: FakeNvmet, nqn: str, path: Path, address: str = "192.0.2.9") -> None:
    root = str(ROOT)
    kernel.addresses.add(address)
    kernel.mkdir(f"{root}/subsystems/{nqn}")
    kernel.mkdir(f"{root}/subsystems/{nqn}/namespaces/7")
    kernel.write(f"{root}/subsystems/{nqn}/namespaces/7/device_path", str(path).encode())
    kernel.write(f"{root}/subsystems/{nqn}/namespaces/7/enable", b"1")
    kernel.mkdir(f"{root}/hosts/{HOST_B}")
    kernel.symlink(f"{root}/hosts/{HOST_B}", f"{root}/subsystems/{nqn}/allowed_hosts/{HOST_B}")
    kernel.mkdir(f"{root}/ports/1")
    for name, value in (("trtype", "tcp"), ("adrfam", "ipv4"), ("traddr", address), ("trsvcid", "4420")):
        kernel.write(f"{root}/ports/1/addr_{name}", value.encode())
    kernel.symlink(f"{root}/subsystems/{nqn}", f"{root}/ports/1/subsystems/{nqn}")


@pytest.mark.parametrize("address", ["192.0.2.9", "192.0.2.1"], ids=["beside", "on the same portal"])
def test_what_others_have_in_nvmet_stays_as_it_is(node: Node, address: str) -> None:
    somebody_else_exports(node.kernel, "nqn.2024-01.org.example:theirs", node.export().path, address)
    before = node.kernel.tree()
    export, target = node.export(HOST_A, HOST_B), node.start()
    target.create_export(export)
    node.connect(export, HOST_B)
    target.create_export(without(export, HOST_B))
    assert set(target.exports()) == {export.volume_id}
    target.remove_export(export.volume_id)
    node.start()
    assert node.kernel.tree() == before


def test_a_subsystem_of_somebody_elses_by_the_same_name_is_not_touched(node: Node) -> None:
    export, target = node.export(HOST_A), node.start()
    somebody_else_exports(node.kernel, subsystem_nqn(export.volume_id), node.export().path)
    before = node.kernel.tree()
    with pytest.raises(ConflictError, match="was not made by weft"):
        target.create_export(export)
    target.remove_export(export.volume_id)
    assert target.export(export.volume_id) is None
    assert not target.exports()
    assert node.kernel.tree() == before


def test_the_keys_that_somebody_else_gave_a_host_are_not_changed(node: Node) -> None:
    somebody_else_exports(node.kernel, "nqn.2024-01.org.example:theirs", node.export().path)
    theirs = keys()
    node.kernel.write(f"{ROOT}/hosts/{HOST_B}/dhchap_key", theirs.host_key.encode())
    target = node.start()
    with pytest.raises(ConflictError, match="made by someone else"):
        target.create_export(node.export(HOST_B, secrets=keys()))
    target.create_export(node.export(HOST_B, secrets=theirs))


# -- portals that cannot be opened yet -------------------------------------------------------------------------


def test_a_portal_whose_address_comes_late_is_opened_with_everything_once_it_is_there(node: Node) -> None:
    node.kernel.addresses.clear()
    target = node.start()
    first, second = node.export(HOST_A), node.export(HOST_A)
    for export in (first, second):
        with pytest.raises(UnavailableError, match="does not have that address"):
            target.create_export(export)
    found = target.export(first.volume_id)
    assert found is not None
    assert (found.complete, found.portals) == (False, ())
    assert "192.0.2.1:4420 cannot be opened yet" in target.troubles()[0]
    node.kernel.addresses.add("192.0.2.1")
    wait_until(lambda: not target.troubles())
    node.connect(first, HOST_A)
    node.connect(second, HOST_A)
    assert node.gate.closed[-1] == TCP
    assert not node.gate.is_now_closed
    assert target.create_export(first)[first.hosts[0].host_id].portals == (TCP,)


def test_the_portals_that_can_be_opened_do_not_wait_for_the_others(node: Node) -> None:
    node.modules.missing[Transport.RDMA] = UnsupportedError("the kernel has no module nvmet-rdma")
    target, export = node.start("rdma://192.0.2.2", "192.0.2.1"), node.export(HOST_A)
    connection = target.create_export(export)[export.hosts[0].host_id]
    assert connection.portals == (TCP,)
    found = target.export(export.volume_id)
    assert found is not None
    assert not found.complete
    assert "nvmet-rdma" in target.troubles()[0]


def test_a_node_without_nvmet_says_so_and_serves_once_it_has_it(node: Node) -> None:
    node.modules.missing[None] = UnsupportedError("the kernel has no module nvmet")
    target, export = node.start(), node.export(HOST_A)
    with pytest.raises(UnavailableError, match="the kernel has no module nvmet"):
        target.create_export(export)
    assert target.troubles() == ["the kernel's target cannot serve yet: the kernel has no module nvmet"]
    node.modules.missing.clear()
    wait_until(lambda: not target.troubles())
    target.create_export(export)
    node.connect(export, HOST_A)


def test_a_second_weft_with_another_store_leaves_the_firsts_exports_alone(node: Node) -> None:
    export = node.export(HOST_A)
    node.start().create_export(export)
    node.connect(export, HOST_A)
    node.kernel.is_locked_by_another = True
    second = node.start()
    assert "another weft serves by" in second.troubles()[0]
    for verb in (second.exports, lambda: second.remove_export(export.volume_id)):
        with pytest.raises(UnavailableError, match="another weft serves by"):
            verb()
    assert node.connected(export) == {HOST_A}


def test_a_directory_is_locked_by_one_process_at_a_time(tmp_path: Path) -> None:
    first, second = Configfs(tmp_path), Configfs(tmp_path)
    first.lock()
    first.lock()
    with pytest.raises(ConflictError, match="another weft serves"):
        second.lock()
    first.unlock()
    second.lock()
    second.unlock()


def test_a_port_that_somebody_took_away_is_made_anew(node: Node) -> None:
    target, first, second = node.start(), node.export(HOST_A), node.export(HOST_A)
    target.create_export(first)
    configfs = Configfs(ROOT, node.kernel)
    (port,) = configfs.names("ports")
    configfs.unlink(f"ports/{port}/subsystems/{subsystem_nqn(first.volume_id)}")
    configfs.remove_directory(f"ports/{port}")
    target.create_export(second)
    node.connect(first, HOST_A)
    node.connect(second, HOST_A)


def test_when_all_was_taken_away_no_portal_opens_before_all_is_made_anew(node: Node) -> None:
    target, exports = node.start(), [node.export(HOST_A) for _ in range(3)]
    for export in exports:
        target.create_export(export)
    node.kernel.forget()
    for export in exports:
        for _ in range(2):
            with suppress(UnavailableError):
                target.create_export(export)
        if export is not exports[-1]:
            with pytest.raises(UnavailableError, match="nothing listens"):
                node.connect(exports[0], HOST_A)
    wait_until(lambda: bool(target._ports.listening()))
    for export in exports:
        node.connect(export, HOST_A)
    assert node.kernel.lost == []


def test_one_that_was_taken_away_and_cannot_be_made_anew_does_not_keep_portals_closed(node: Node) -> None:
    target, exports = node.start(restore_seconds=0.2), [node.export(HOST_A) for _ in range(2)]
    for export in exports:
        target.create_export(export)
    node.kernel.forget()
    for _ in range(2):
        with suppress(UnavailableError):
            target.create_export(exports[0])
    wait_until(lambda: bool(target._ports.listening()))
    node.connect(exports[0], HOST_A)


def test_a_portal_that_cannot_show_everything_shows_nothing(node: Node) -> None:
    exports = [node.export(HOST_A) for _ in range(3)]
    target = node.start()
    target.expect(frozenset(each.volume_id for each in exports))
    for export in exports[:-1]:
        target.create_export(export)
    node.stop()  # so that this thread opens the portals
    target._restore.removed(subsystem_nqn(exports[-1].volume_id))
    links = Configfs(ROOT, node.kernel)
    node.kernel.refuse_link = subsystem_nqn(exports[1].volume_id)
    target._ports.open()
    assert [links.names(f"ports/{each}/subsystems") for each in links.names("ports")] == [[]]
    assert not node.gate.is_now_closed


def test_a_gate_that_cannot_be_opened_at_once_is_opened_later(node: Node) -> None:
    exports = [node.export(HOST_A) for _ in range(2)]
    target = node.start()
    target.expect(frozenset(each.volume_id for each in exports))
    node.gate.sticks = True
    for export in exports:
        target.create_export(export)
    wait_until(lambda: any("no host can connect" in each for each in target.troubles()))
    node.gate.sticks = False
    wait_until(lambda: not target.troubles())
    assert not node.gate.is_now_closed


def test_a_portal_has_the_same_port_id_after_each_start(node: Node) -> None:
    configfs = Configfs(ROOT, node.kernel)
    found = set()
    for portals in (("192.0.2.1", "192.0.2.2"), ("192.0.2.2", "192.0.2.1")):
        node.kernel.forget()
        node.start(*portals).create_export(node.export(HOST_A))
        found.add(
            tuple(
                sorted((each, configfs.read(f"ports/{each}/addr_traddr")) for each in configfs.names("ports"))
            )
        )
    assert len(found) == 1


# -- after a restart of the machine ----------------------------------------------------------------------------


def test_no_portal_opens_before_every_volume_that_hosts_wait_for_is_there(node: Node) -> None:
    exports = [node.export(HOST_A) for _ in range(5)]
    target = node.start()
    target.expect(frozenset(each.volume_id for each in exports))
    for export in exports[:-1]:
        connection = target.create_export(export)[export.hosts[0].host_id]
        assert connection.portals == (TCP,), "it is where it will be"
        found = target.export(export.volume_id)
        assert found is not None
        assert found.complete
        with pytest.raises(UnavailableError, match="nothing listens"):
            node.connect(export, HOST_A)
    assert "1 of 5 are missing" in target.troubles()[0]
    target.create_export(exports[-1])
    wait_until(lambda: not target.troubles() and bool(target._ports.listening()))
    for export in exports:
        node.connect(export, HOST_A)
    assert node.kernel.lost == []
    assert node.gate.closed == [TCP]


def test_a_volume_that_nobody_waits_for_is_told_when_portals_open(node: Node) -> None:
    expected, new = node.export(HOST_A), node.export(HOST_A)
    target = node.start()
    target.expect(frozenset({expected.volume_id}))
    with pytest.raises(UnavailableError, match="portals open once the exports of all volumes are there"):
        target.create_export(new)
    target.create_export(expected)
    wait_until(lambda: bool(target._ports.listening()))
    node.connect(new, HOST_A)


def test_portals_wait_no_longer_than_configured_and_then_open_with_what_is_there(node: Node) -> None:
    there, missing = node.export(HOST_A), node.export(HOST_A)
    target = node.start(restore_seconds=0.2)
    target.expect(frozenset({there.volume_id, missing.volume_id}))
    target.create_export(there)
    wait_until(lambda: bool(target._ports.listening()))
    node.connect(there, HOST_A)
    assert target.troubles() == []


def test_the_time_for_restoring_begins_when_the_node_has_nvmet(node: Node) -> None:
    exports = [node.export(HOST_A) for _ in range(2)]
    node.modules.missing[None] = UnsupportedError("the kernel has no module nvmet")
    target = node.start(restore_seconds=20)
    target.expect(frozenset(each.volume_id for each in exports))
    target._restore._deadline = 0.0  # so much later
    target._keep_once()
    node.modules.missing.clear()
    wait_until(lambda: "2 of 2 are missing" in " ".join(target.troubles()))
    target.create_export(exports[0])
    with pytest.raises(UnavailableError, match="nothing listens"):
        node.connect(exports[0], HOST_A)


def test_a_portal_waits_though_another_listens_that_somebody_else_has_opened(node: Node) -> None:
    exports, theirs = [node.export(HOST_A) for _ in range(2)], "nqn.2024-01.org.example:theirs"
    somebody_else_exports(node.kernel, theirs, node.export().path, "192.0.2.1")
    target = node.start("192.0.2.1", "192.0.2.2")
    target.expect(frozenset(each.volume_id for each in exports))
    target.create_export(exports[0])
    node.connect(exports[0], HOST_A)
    with pytest.raises(UnavailableError, match="nothing listens"):
        node.connect(exports[1], HOST_A, replace(TCP, address="192.0.2.2"))
    target.create_export(exports[1])
    wait_until(lambda: len(target._ports.listening()) == 2)
    node.connect(exports[1], HOST_A, replace(TCP, address="192.0.2.2"))


def test_a_volume_that_is_deleted_meanwhile_is_not_waited_for(node: Node) -> None:
    there, deleted = node.export(HOST_A), node.export(HOST_A)
    target = node.start()
    target.expect(frozenset({there.volume_id, deleted.volume_id}))
    target.create_export(there)
    target.remove_export(deleted.volume_id)
    wait_until(lambda: bool(target._ports.listening()))


def test_a_restart_of_weft_alone_holds_nothing_up(node: Node) -> None:
    first, second = node.export(HOST_A), node.export(HOST_A)
    node.start().create_export(first)
    node.connect(first, HOST_A)
    target = node.start()
    target.expect(frozenset({first.volume_id, second.volume_id}))
    target.create_export(second)
    node.connect(second, HOST_A)
    assert node.connected(first) == {HOST_A}


def test_a_crash_while_portals_open_leaves_the_gate_closed_and_the_next_start_goes_on(node: Node) -> None:
    exports = [node.export(HOST_A) for _ in range(5)]
    target = node.start()
    target.expect(frozenset(each.volume_id for each in exports))
    for export in exports[:-1]:
        target.create_export(export)
    node.stop()  # so that this thread opens the portals
    node.kernel.plan.crash_at("configfs.symlink")
    target._restore.made(subsystem_nqn(exports[0].volume_id))
    with pytest.raises(Crash):
        target._ports.open()
    links = Configfs(ROOT, node.kernel)
    (port,) = links.names("ports")
    node.kernel.symlink(
        f"{ROOT}/subsystems/{subsystem_nqn(exports[0].volume_id)}",
        f"{ROOT}/ports/{port}/subsystems/{subsystem_nqn(exports[0].volume_id)}",
    )
    node.gate.is_now_closed = True  # as a killed process leaves it
    node.start()
    assert not node.gate.is_now_closed
    for export in exports[:-1]:
        node.connect(export, HOST_A)


# -- one host is cut off ---------------------------------------------------------------------------------------


def test_a_host_that_has_disconnected_is_removed_unnoticed_by_the_others(node: Node) -> None:
    target, export = node.start(), node.export(HOST_A, HOST_B)
    target.create_export(export)
    node.connect(export, HOST_A)
    node.connect(export, HOST_B)
    node.kernel.disconnect(subsystem_nqn(export.volume_id), HOST_A)
    target.create_export(without(export, HOST_A))
    assert node.kernel.cuts == 0
    with pytest.raises(PermissionDeniedError):
        node.connect(export, HOST_A)


@pytest.mark.parametrize("log", ["complete", "not complete"])
def test_a_host_that_is_still_connected_is_cut_off_and_the_others_come_back(node: Node, log: str) -> None:
    node.kernel.log_is_complete = log == "complete"
    target, export = node.start(), node.export(HOST_A, HOST_B)
    target.create_export(export)
    node.connect(export, HOST_A)
    node.connect(export, HOST_B)
    target.create_export(without(export, HOST_A))
    assert node.connected(export) == {HOST_B}
    assert node.kernel.cuts == 1


def test_without_a_complete_log_a_host_is_cut_off_also_if_it_may_have_gone(node: Node) -> None:
    node.kernel.log_is_complete = False
    target, export = node.start(), node.export(HOST_A, HOST_B)
    target.create_export(export)
    node.connect(export, HOST_B)
    target.create_export(without(export, HOST_A))
    assert node.kernel.cuts == 1


def test_a_host_is_cut_off_that_is_connected_by_a_portal_which_is_configured_no_more(node: Node) -> None:
    target, export = node.start(), node.export(HOST_A, HOST_B)
    target.create_export(export)
    node.connect(export, HOST_A)
    target = node.start("192.0.2.2")
    target.create_export(without(export, HOST_A))
    assert node.connected(export) == frozenset()


def test_where_nobody_can_ask_nvmet_who_is_connected_a_host_is_cut_off_once(node: Node) -> None:
    node.kernel.probe_answers = False
    target, export = node.start(), node.export(HOST_A, HOST_B)
    target.create_export(export)
    node.connect(export, HOST_A)
    node.connect(export, HOST_B)
    target.create_export(without(export, HOST_A))
    target.create_export(without(export, HOST_A))
    assert node.connected(export) == {HOST_B}
    assert node.kernel.cuts == 1


def test_a_crash_between_the_list_and_the_cut_does_not_leave_the_host_connected(node: Node) -> None:
    target, export = node.start(), node.export(HOST_A, HOST_B)
    target.create_export(export)
    node.connect(export, HOST_A)
    node.connect(export, HOST_B)
    node.kernel.plan.crash_at("configfs.write")  # the one of attr_qid_max
    with pytest.raises(Crash):
        target.create_export(without(export, HOST_A))
    assert node.connected(export) == {HOST_A, HOST_B}
    target = node.start()
    found = target.export(export.volume_id)
    assert found is not None
    assert not found.complete
    target.create_export(without(export, HOST_A))
    assert node.connected(export) == {HOST_B}
    assert f"hosts/{HOST_A}" not in str(node.kernel.tree())


# -- keys ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("both", [False, True], ids=["one way", "both ways"])
def test_keys_are_written_to_closed_files_and_found_again_by_their_digest(node: Node, both: bool) -> None:  # noqa: FBT001
    target = node.start()
    secrets = keys(both=both, used_hash=DhChapHash.SHA_384)
    export = node.export(HOST_A, secrets=secrets)
    target.create_export(export)
    found = target.export(export.volume_id)
    assert found is not None
    assert found.key_digests == {HOST_A: secrets.digest}
    assert node.kernel.mode(f"{ROOT}/hosts/{HOST_A}") == 0o700
    assert node.kernel.mode(f"{ROOT}/hosts/{HOST_A}/dhchap_key") == 0o600
    assert node.kernel.mode(f"{ROOT}/hosts/{HOST_A}/dhchap_ctrl_key") == 0o600
    assert node.kernel.read(f"{ROOT}/hosts/{HOST_A}/dhchap_hash") == b"hmac(sha384)\n"


def test_keys_can_be_exchanged_and_taken_away_under_a_live_session(node: Node) -> None:
    target, export = node.start(), node.export(HOST_A, secrets=keys(both=True))
    target.create_export(export)
    node.connect(export, HOST_A)
    for secrets in (keys(), keys(both=True), None):
        (host,) = export.hosts
        target.create_export(replace(export, hosts=(replace(host, secrets=secrets),)))
        found = target.export(export.volume_id)
        assert found is not None
        assert found.key_digests == ({HOST_A: secrets.digest} if secrets else {})
    assert node.connected(export) == {HOST_A}


def test_who_shows_a_key_is_watched_also_after_a_restart(node: Node) -> None:
    node.start().create_export(node.export(HOST_A, secrets=keys()))
    assert node.kernel.keys_watched
    node.kernel.keys_watched = False
    node.start().exports()
    assert node.kernel.keys_watched


def test_a_key_that_the_kernel_would_take_and_never_accept_is_refused(node: Node) -> None:
    target, empty = node.start(), node.kernel.tree()
    with pytest.raises(InvalidValueError) as refused:
        target.create_export(node.export(HOST_A, secrets=DhChapSecrets(host_key="DHHC-1:00:abc:")))
    assert "abc" not in str(refused.value)
    assert node.kernel.tree() == empty


def test_a_kernel_without_authentication_is_named_as_the_reason(node: Node) -> None:
    node.kernel.has_keys = False
    target = node.start()
    with pytest.raises(UnsupportedError, match="no DH-HMAC-CHAP"):
        target.create_export(node.export(HOST_A, secrets=keys()))
    target.create_export(node.export(HOST_A))


def test_no_key_is_in_any_error(node: Node) -> None:
    secrets = keys(both=True)
    export = node.export(HOST_A, secrets=secrets)
    said = []
    for each in range(20):
        target = node.start()
        node.kernel.refuse_at = each
        try:
            target.create_export(export)
        except WeftError as error:
            said.append(str(error))
        node.kernel.refuse_at = None
        target.remove_export(export.volume_id)
    assert any("dhchap_key" in each for each in said)
    assert not any(secrets.host_key in each or str(secrets.controller_key) in each for each in said)


# -- any host --------------------------------------------------------------------------------------------------


def test_any_host_is_let_in_only_when_the_configuration_says_so(node: Node) -> None:
    target, export = node.start(any_host=True), node.export(HOST_A)
    target.create_export(export)
    node.connect(export, HOST_B)
    found = target.export(export.volume_id)
    assert found is not None
    assert found.complete
    assert found.initiators == {HOST_A}
    with pytest.raises(UnsupportedError, match="allow_any_host"):
        target.create_export(node.export(HOST_A, secrets=keys()))
    target = node.start()
    target.create_export(export)
    assert node.connected(export) <= {HOST_A}
    with pytest.raises(PermissionDeniedError):
        node.connect(export, HOST_B)


# -- whatever fails --------------------------------------------------------------------------------------------


def a_life(target: NvmetTarget, exports: list[Export]) -> Iterator[Callable[[], object]]:
    """The verbs that bring two volumes through all that exports go through."""
    first, second = exports
    yield lambda: target.create_export(first)
    yield lambda: target.create_export(second)
    yield lambda: target.create_export(without(first, HOST_A))
    yield lambda: target.create_export(first)
    yield lambda: target.remove_export(second.volume_id)


def changes_of_a_life(folder: Path) -> int:
    node = Node(folder)
    exports = [node.export(HOST_A, HOST_B, secrets=keys()) for _ in range(2)]
    for verb in a_life(node.start("192.0.2.1", "loop"), exports):
        verb()
    node.stop()
    return node.kernel.changes


class Lives:
    """The same two volumes on one new node after another."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._secrets = keys()
        self._ids = [VolumeId(new_id()), VolumeId(new_id())]
        for each in self._ids:
            (folder / each).write_bytes(bytes(4 * MIB))

    def exports(self, node: Node) -> list[Export]:
        return [
            replace(
                node.export(HOST_A, HOST_B, size=1, secrets=self._secrets),
                volume_id=each,
                path=self._folder / each,
            )
            for each in self._ids
        ]

    def undisturbed(self) -> tuple[str, int]:
        """The tree at the end, and how many changes it took."""
        node = Node(self._folder)
        for verb in a_life(node.start("192.0.2.1", "loop"), self.exports(node)):
            verb()
        node.stop()
        return str(node.kernel.tree()), node.kernel.changes


def has_opened(target: NvmetTarget) -> Callable[[], bool]:
    return lambda: not target.troubles()


@pytest.mark.parametrize("code", [errno.ENOMEM, errno.EBUSY, errno.EINVAL, errno.EACCES])
def test_whichever_change_the_kernel_refuses_once_the_next_try_makes_it_right(
    tmp_path: Path, code: int
) -> None:
    lives = Lives(tmp_path)
    tree, changes = lives.undisturbed()
    for at in range(changes):
        node = Node(tmp_path)
        target = node.start("192.0.2.1", "loop")
        node.kernel.refuse_at, node.kernel.refusal = at, code
        for verb in a_life(target, lives.exports(node)):
            for _ in range(2):
                with suppress(UnavailableError):
                    verb()
        wait_until(has_opened(target))
        assert str(node.kernel.tree()) == tree, f"after change {at}"
        node.stop()


def test_wherever_weft_is_killed_the_next_start_makes_it_right(tmp_path: Path) -> None:
    lives = Lives(tmp_path)
    tree, changes = lives.undisturbed()
    for at in range(2 * changes):
        node = Node(tmp_path)
        target, exports = node.start("192.0.2.1", "loop"), lives.exports(node)
        node.kernel.plan.crash_after(at)
        for number in range(5):
            try:
                list(a_life(target, exports))[number]()
            except Crash:
                target = node.start("192.0.2.1", "loop")
                list(a_life(target, exports))[number]()
        assert str(node.kernel.tree()) == tree, f"after point {at}"
        node.stop()
