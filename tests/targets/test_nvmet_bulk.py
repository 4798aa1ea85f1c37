"""All exports are brought back at once after a restart of the machine."""

import errno
import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from eventually import eventually
from fakes.configfs import ROOT
from fakes.crash import Crash
from targets.nvmet_node import HOST_A, HOST_B, MIB, TCP, Node, keys, somebody_else_exports
from weft.errors import PermissionDeniedError, UnavailableError, UnsupportedError
from weft.model import DhChapSecrets, Export, VolumeId
from weft.names import new_id, subsystem_nqn
from weft.targets import NvmetTarget
from weft.targets.configfs import Configfs, KernelCalls

PORTALS = ("192.0.2.1", "rdma://192.0.2.2", "loop")


def ids(exports: list[Export]) -> frozenset[VolumeId]:
    return frozenset(each.volume_id for each in exports)


def restarted(node: Node, exports: list[Export], *portals: str) -> NvmetTarget:
    """weft's target after a restart of the machine, with hosts that wait for these."""
    node.kernel.forget()
    target = node.start(*portals)
    target.expect(ids(exports))
    return target


def test_what_is_restored_at_once_is_what_is_made_one_by_one(node: Node) -> None:
    exports = [node.export(HOST_A, HOST_B, secrets=keys(both=True)) for _ in range(3)]
    exports.append(node.export("nqn.2014-08.org.nvmexpress:other"))
    target = node.start(*PORTALS)
    for export in exports:
        target.create_export(export)
    one_by_one = node.kernel.tree()
    target = restarted(node, exports, *PORTALS)
    target.restore(exports)
    assert node.kernel.tree() == one_by_one
    assert all(each.complete for each in target.exports().values())


def test_portals_open_with_everything_once_all_is_restored(node: Node) -> None:
    exports = [node.export(HOST_A) for _ in range(5)]
    target = restarted(node, exports)
    target.restore(exports)
    for export in exports:
        node.connect(export, HOST_A)
    assert node.kernel.lost == []
    assert node.gate.closed == [TCP]
    assert not node.gate.is_now_closed


def test_portals_stay_closed_while_one_is_missing_that_hosts_wait_for(node: Node) -> None:
    exports = [node.export(HOST_A) for _ in range(3)]
    target = restarted(node, exports)
    exports[1].path.unlink()
    target.restore(exports)
    assert "1 of 3 are missing" in target.troubles()[0]
    with pytest.raises(UnavailableError, match="nothing listens"):
        node.connect(exports[0], HOST_A)
    exports[1].path.write_bytes(bytes(4 * MIB))
    target.create_export(exports[1])
    eventually(lambda: bool(target._ports.listening()))
    for export in exports:
        node.connect(export, HOST_A)


def test_what_cannot_be_restored_keeps_nothing_else_from_it(node: Node) -> None:
    good, gone, small, strange = (node.export(HOST_A) for _ in range(4))
    gone.path.unlink()
    hosts = (replace(strange.hosts[0], secrets=DhChapSecrets(host_key="DHHC-1:00:abc:")),)
    wrong = [gone, replace(small, size=8 * MIB), replace(strange, hosts=hosts)]
    target = restarted(node, [good])
    target.restore([*wrong, good])
    assert set(target.exports()) == {good.volume_id}
    node.connect(good, HOST_A)


def test_what_is_there_already_is_left_as_it_is(node: Node) -> None:
    exports, theirs = [node.export(HOST_A) for _ in range(3)], node.export()
    target = node.start()
    target.create_export(exports[0])
    somebody_else_exports(node.kernel, subsystem_nqn(exports[1].volume_id), theirs.path)
    node.connect(exports[0], HOST_A)
    path = f"{ROOT}/subsystems/{subsystem_nqn(exports[1].volume_id)}"
    before = [node.kernel.names(f"{path}/{each}") for each in ("namespaces", "allowed_hosts")]
    target.restore([replace(exports[0], hosts=()), *exports[1:]])
    assert node.connected(exports[0]) == {HOST_A}
    assert [node.kernel.names(f"{path}/{each}") for each in ("namespaces", "allowed_hosts")] == before
    assert node.kernel.read(f"{path}/attr_model") == b"Linux\n"
    node.connect(exports[2], HOST_A)


def test_a_device_that_another_shows_is_not_restored(node: Node) -> None:
    export = node.export(HOST_A)
    somebody_else_exports(node.kernel, "nqn.2024-01.org.example:theirs", export.path)
    target = node.start()
    target.restore([export, replace(export, volume_id=VolumeId(new_id()))])
    assert not target.exports()


def test_while_a_portal_listens_already_what_is_restored_is_shown_there(node: Node) -> None:
    first, second = node.export(HOST_A), node.export(HOST_A)
    target = node.start()
    target.create_export(first)
    target.restore([first, second])
    node.connect(second, HOST_A)


def test_any_host_is_let_in_where_the_configuration_says_so(node: Node) -> None:
    export = node.export(HOST_A)
    target = node.start(any_host=True)
    target.expect(ids([export]))
    target.restore([export])
    node.connect(export, HOST_B)
    found = target.export(export.volume_id)
    assert found is not None
    assert found.complete
    assert found.initiators == {HOST_A}


def test_without_nvmet_nothing_is_restored_and_the_reason_is_told(node: Node) -> None:
    node.modules.missing[None] = UnsupportedError("the kernel has no module nvmet")
    with pytest.raises(UnavailableError, match="the kernel has no module nvmet"):
        node.start().restore([node.export(HOST_A)])


def test_a_gate_that_a_crash_left_closed_is_opened_when_nothing_is_exported_any_more(node: Node) -> None:
    node.gate.is_now_closed = True
    node.start().expect(frozenset())
    eventually(lambda: not node.gate.is_now_closed)


def test_a_gate_that_a_crash_left_closed_is_opened_for_a_single_export(node: Node) -> None:
    node.gate.is_now_closed = True
    node.start().create_export(node.export(HOST_A))
    assert not node.gate.is_now_closed


def has_opened(target: NvmetTarget) -> Callable[[], bool]:
    """Both portals."""
    return lambda: not target.troubles() and len(target._ports.listening()) == 2


def undisturbed(folder: Path, exports: list[Export]) -> tuple[str, int]:
    """The tree that an undisturbed restoring leaves, and how many changes that takes."""
    node = Node(folder)
    target = restarted(node, exports, "192.0.2.1", "loop")
    node.kernel.changes = 0
    target.restore(exports)
    changes = node.kernel.changes
    node.stop()
    return str(node.kernel.tree()), changes


@pytest.mark.parametrize("code", [errno.ENOMEM, errno.EBUSY, errno.EINVAL])
def test_whichever_change_the_kernel_refuses_the_others_are_restored_and_the_next_pass_mends_it(
    tmp_path: Path, node: Node, code: int
) -> None:
    exports = [node.export(HOST_A, HOST_B, secrets=keys()) for _ in range(2)]
    tree, changes = undisturbed(tmp_path, exports)
    for at in range(changes):
        target = restarted(node, exports, "192.0.2.1", "loop")
        node.kernel.refuse_at, node.kernel.refusal = at, code
        target.restore(exports)
        for export in exports:
            with suppress(UnavailableError):
                target.create_export(export)
        eventually(has_opened(target))
        assert str(node.kernel.tree()) == tree, f"after change {at}"
        assert node.kernel.lost == []


def test_wherever_weft_is_killed_the_next_start_restores_everything(tmp_path: Path, node: Node) -> None:
    exports = [node.export(HOST_A, HOST_B, secrets=keys()) for _ in range(2)]
    tree, changes = undisturbed(tmp_path, exports)
    for at in range(2 * changes):
        target = restarted(node, exports, "192.0.2.1", "loop")
        node.kernel.plan.crash_after(at)
        with suppress(Crash):
            target.restore(exports)
        node.kernel.plan.clear()
        target = node.start("192.0.2.1", "loop")
        everyone_tries(node, exports)
        target.expect(ids(exports))
        target.restore(exports)
        everyone_tries(node, exports)
        for export in exports:
            target.create_export(export)
            everyone_tries(node, exports)
        eventually(has_opened(target))
        assert str(node.kernel.tree()) == tree, f"after point {at}"
        assert node.kernel.lost == [], f"after point {at}"


def everyone_tries(node: Node, exports: list[Export]) -> None:
    """As hosts do every other second, which lose their device for good when a portal turns them away."""
    for export in exports:
        for host in (HOST_A, HOST_B):
            with suppress(UnavailableError, PermissionDeniedError):
                node.connect(export, host)


def test_no_key_is_in_the_log_when_restoring_fails(node: Node, caplog: pytest.LogCaptureFixture) -> None:
    secrets = keys(both=True)
    export = node.export(HOST_A, secrets=secrets)
    with caplog.at_level(logging.DEBUG):
        for at in range(20):
            target = restarted(node, [export])
            node.kernel.refuse_at = at
            target.restore([export])
            node.kernel.refuse_at = None
    assert "dhchap_key" in caplog.text
    assert secrets.host_key not in caplog.text
    assert str(secrets.controller_key) not in caplog.text


def test_a_directory_that_is_opened_is_changed_by_the_same_paths(tmp_path: Path) -> None:
    root = tmp_path / "nvmet"
    root.mkdir()
    outer = Configfs(root, KernelCalls())
    with outer.opened() as configfs:
        configfs.make_directory("hosts")
        configfs.make_directory("hosts/a")
        (root / "hosts/a/key").touch()
        configfs.write("hosts/a/key", "value")
        configfs.set_mode("hosts/a/key", 0o600)
        configfs.link("hosts/a", "link")
        assert configfs.read("hosts/a/key") == outer.read("hosts/a/key") == "value"
        assert configfs.mode("hosts/a/key") == outer.mode("hosts/a/key") == 0o600
        assert sorted(configfs.names("hosts")) == ["a"]
        assert (root / "link").readlink() == root / "hosts/a"
        with pytest.raises(UnavailableError, match=str(root / "no/where")):
            configfs.make_directory("no/where")
        configfs.unlink("link")
        configfs.make_directory("gone")
        configfs.remove_directory("gone")
        assert not outer.exists("gone")
    with pytest.raises(UnavailableError, match="opening"), Configfs(tmp_path / "not-there").opened():
        pass
