"""After a restart of the machine portals wait for the volumes that hosts wait for."""

from dataclasses import replace

import pytest

from eventually import eventually
from fakes.configfs import ROOT
from fakes.crash import Crash
from targets.nvmet_node import HOST_A, RDMA, TCP, Node, somebody_else_exports
from weft.errors import UnavailableError, UnsupportedError
from weft.names import subsystem_nqn
from weft.targets.configfs import Configfs


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
    eventually(lambda: not target.troubles() and bool(target._ports.listening()))
    for export in exports:
        node.connect(export, HOST_A)
    assert node.kernel.lost == []
    assert node.gate.closed == [TCP]


def test_no_portal_opens_before_weft_knows_what_hosts_wait_for(node: Node) -> None:
    """As when weft is ended while it restores, and started again: it looks after an RDMA portal from the start."""
    node.kernel.addresses.add(RDMA.address)
    made, missing = node.export(HOST_A), node.export(HOST_A)
    expected = frozenset({made.volume_id, missing.volume_id})
    target = node.start(str(TCP), str(RDMA))
    target.expect(expected)
    target.create_export(made)
    target = node.start(str(TCP), str(RDMA))
    looks = node.listeners.looks
    eventually(lambda: node.listeners.looks > looks + 2)
    assert not target._ports.listening()
    target.expect(expected)
    target.create_export(missing)
    eventually(lambda: len(target._ports.listening()) == 2)
    node.connect(missing, HOST_A)


def test_a_volume_that_nobody_waits_for_is_told_when_portals_open(node: Node) -> None:
    expected, new = node.export(HOST_A), node.export(HOST_A)
    target = node.start()
    target.expect(frozenset({expected.volume_id}))
    with pytest.raises(UnavailableError, match="portals open once the exports of all volumes are there"):
        target.create_export(new)
    target.create_export(expected)
    eventually(lambda: bool(target._ports.listening()))
    node.connect(new, HOST_A)


def test_portals_wait_no_longer_than_configured_and_then_open_with_what_is_there(node: Node) -> None:
    there, missing = node.export(HOST_A), node.export(HOST_A)
    target = node.start(restore_seconds=0.2)
    target.expect(frozenset({there.volume_id, missing.volume_id}))
    target.create_export(there)
    eventually(lambda: bool(target._ports.listening()))
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
    eventually(lambda: "2 of 2 are missing" in " ".join(target.troubles()))
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
    eventually(lambda: len(target._ports.listening()) == 2)
    node.connect(exports[1], HOST_A, replace(TCP, address="192.0.2.2"))


def test_a_volume_that_is_deleted_meanwhile_is_not_waited_for(node: Node) -> None:
    there, deleted = node.export(HOST_A), node.export(HOST_A)
    target = node.start()
    target.expect(frozenset({there.volume_id, deleted.volume_id}))
    target.create_export(there)
    target.remove_export(deleted.volume_id)
    eventually(lambda: bool(target._ports.listening()))


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
    target._restore.removed(subsystem_nqn(exports[-1].volume_id))  # nobody waits for it any more
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
