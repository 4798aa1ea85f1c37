"""Portals open with everything that they are to show as soon as they can, and otherwise stay closed."""

import errno
import threading
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from eventually import eventually
from fakes.configfs import ROOT
from targets.nvmet_node import HOST_A, HOST_B, RDMA, TCP, Node, somebody_else_exports
from weft.errors import ConflictError, UnavailableError, UnsupportedError
from weft.model import Transport
from weft.names import subsystem_nqn
from weft.targets.configfs import Configfs


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
    eventually(lambda: not target.troubles())
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


def test_an_rdma_portal_at_which_nvmet_listens_no_more_is_opened_anew(node: Node) -> None:
    """As after the driver of the RDMA device was loaded anew: configfs looks as before."""
    node.kernel.addresses.add(RDMA.address)
    target, export = node.start(str(TCP), str(RDMA)), node.export(HOST_A, HOST_B)
    target.create_export(export)
    node.connect(export, HOST_A, TCP)
    node.connect(export, HOST_B, RDMA)
    look(node)
    node.kernel.addresses.discard(RDMA.address)
    node.listeners.silent.add(RDMA)
    eventually(lambda: bool(target.troubles()))
    assert f"portal {RDMA} cannot be opened yet" in target.troubles()[0]
    node.listeners.silent.clear()
    node.kernel.addresses.add(RDMA.address)
    eventually(lambda: not target.troubles())
    assert node.connected(export) == {HOST_A}
    node.connect(export, HOST_B, RDMA)


def test_a_portal_whose_links_cannot_be_taken_away_at_once_is_opened_anew_all_the_same(
    node: Node, caplog: pytest.LogCaptureFixture
) -> None:
    node.kernel.addresses.add(RDMA.address)
    target, export = node.start(str(RDMA)), node.export(HOST_A)
    target.create_export(export)
    node.connect(export, HOST_A, RDMA)
    look(node)
    node.kernel.refuse_at, node.kernel.refusal = 0, errno.EBUSY
    node.listeners.silent.add(RDMA)
    eventually(lambda: not node.connected(export))
    node.listeners.silent.clear()
    assert f"portal {RDMA} cannot be closed yet" in caplog.text
    assert "met a bug" not in caplog.text
    eventually(
        lambda: str(RDMA) in {portal for found in target.exports().values() for portal in found.portals}
    )
    node.connect(export, HOST_A, RDMA)


def test_a_portal_that_did_not_listen_for_a_moment_is_left_alone(node: Node) -> None:
    node.kernel.addresses.add(RDMA.address)
    target, export = node.start(str(RDMA)), node.export(HOST_A)
    target.create_export(export)
    node.connect(export, HOST_A, RDMA)
    look(node)
    node.listeners.silent_once.add(RDMA)
    eventually(lambda: not node.listeners.silent_once)
    look(node)
    assert node.connected(export) == {HOST_A}


def test_a_portal_that_was_never_heard_is_left_alone(node: Node) -> None:
    """Where nvmet's listeners cannot be seen, as in another namespace of networks, that says nothing."""
    node.kernel.addresses.add(RDMA.address)
    node.listeners.silent.add(RDMA)
    target, export = node.start(str(TCP), str(RDMA)), node.export(HOST_A)
    target.create_export(export)
    node.connect(export, HOST_A, RDMA)
    look(node)
    assert node.connected(export) == {HOST_A}


def test_a_portal_that_was_never_heard_is_opened_anew_once_where_another_is_heard(node: Node) -> None:
    other = replace(RDMA, address="192.0.2.3")
    node.kernel.addresses.update({RDMA.address, other.address})
    node.listeners.silent.add(RDMA)
    target, export = node.start(str(RDMA), str(other)), node.export(HOST_A, HOST_B)
    target.create_export(export)
    node.connect(export, HOST_A, RDMA)
    node.connect(export, HOST_B, other)
    eventually(lambda: node.connected(export) == {HOST_B})
    eventually(lambda: len(target._ports.listening()) == 2)
    node.connect(export, HOST_A, RDMA)
    look(node)
    assert node.connected(export) == {HOST_A, HOST_B}


def test_what_somebody_else_shows_by_a_portal_is_shown_again_when_it_is_opened_anew(node: Node) -> None:
    node.kernel.addresses.add(RDMA.address)
    target, export = node.start(str(RDMA)), node.export(HOST_A)
    target.create_export(export)
    theirs = "nqn.2024-01.org.example:theirs"
    somebody_else_exports(node.kernel, theirs, node.export().path)
    configfs = Configfs(ROOT, node.kernel)
    port = next(each for each in configfs.names("ports") if configfs.is_private(f"ports/{each}"))
    configfs.link(f"subsystems/{theirs}", f"ports/{port}/subsystems/{theirs}")
    look(node)
    node.connect(export, HOST_A, RDMA)
    node.listeners.silent.add(RDMA)
    eventually(lambda: not node.connected(export))
    node.listeners.silent.clear()
    eventually(lambda: RDMA in target._ports.listening())
    assert theirs in configfs.names(f"ports/{port}/subsystems")


def look(node: Node) -> None:
    """Wait until weft has looked twice more where nvmet listens."""
    looks = node.listeners.looks
    eventually(lambda: node.listeners.looks > looks + 2)


def test_a_node_without_nvmet_says_so_and_serves_once_it_has_it(node: Node) -> None:
    node.modules.missing[None] = UnsupportedError("the kernel has no module nvmet")
    target, export = node.start(), node.export(HOST_A)
    with pytest.raises(UnavailableError, match="the kernel has no module nvmet"):
        target.create_export(export)
    assert target.troubles() == ["the kernel's target cannot serve yet: the kernel has no module nvmet"]
    node.modules.missing.clear()
    eventually(lambda: not target.troubles())
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
    eventually(lambda: bool(target._ports.listening()))
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
    eventually(lambda: bool(target._ports.listening()))
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
    eventually(lambda: any("no host can connect" in each for each in target.troubles()))
    node.gate.sticks = False
    eventually(lambda: not target.troubles())
    assert not node.gate.is_now_closed


def test_a_module_that_loads_slowly_keeps_nobody_waiting_but_those_who_need_it(node: Node) -> None:
    target, export = node.start(), node.export(HOST_A)
    node.modules.may_load.clear()
    maker = threading.Thread(target=target.create_export, args=(export,))
    maker.start()
    assert node.modules.loading.wait(10)
    asker = threading.Thread(target=target.troubles)
    asker.start()
    asker.join(5)
    waited_for_the_module = asker.is_alive()
    node.modules.may_load.set()
    maker.join()
    asker.join()
    assert not waited_for_the_module
    node.connect(export, HOST_A)


def test_a_target_that_was_stopped_behind_a_gate_which_stays_closed_says_how_it_opens(node: Node) -> None:
    target, empty = node.start(), node.kernel.tree()
    target.create_export(node.export(HOST_A))
    node.gate.sticks = True
    with pytest.raises(
        UnavailableError, match=r"no host can connect.*: nft .*; do this again, or .*: nft delete"
    ):
        target.stop_target()
    node.gate.sticks = False
    target.stop_target()
    assert node.kernel.tree() == empty
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
