"""Who may connect to what, who is told of what, and what the others are answered."""

import logging
from dataclasses import replace

import pytest

from embedded_target.workshop import HOST_A, HOST_B, MakeWorkshop, Workshop, free_portal, nqn_of
from nvme_tcp_host import RawConnection, RawHost
from weft.connection import NvmeofPortal
from weft.embedded.target.discovery import DISCOVERY_NQN
from weft.nvme.admin import GetLogPage
from weft.nvme.fabrics import PropertySet
from weft.nvme.logpage import DiscoveryLog, LogPageId, SubsystemType
from weft.nvme.nvm import Read
from weft.nvme.properties import ControllerConfiguration, Property
from weft.nvme.status import StatusCode


def discover(portal: NvmeofPortal, hostnqn: str) -> DiscoveryLog:
    with RawConnection(portal).open() as connection:
        assert connection.connect(DISCOVERY_NQN, hostnqn).status.ok
        enable(connection)
        page = connection.read(GetLogPage(lid=LogPageId.DISCOVERY, length=16384), 16384)
        return DiscoveryLog.decode(page)


def enable(connection: RawConnection) -> None:
    value = ControllerConfiguration(enable=True).encode()
    assert connection.call(PropertySet(offset=Property.CC, value=value)).status.ok


def test_a_host_that_is_not_named_is_refused_and_the_log_says_who(
    workshop: Workshop, caplog: pytest.LogCaptureFixture
) -> None:
    export = workshop.export(HOST_A)
    with caplog.at_level(logging.WARNING):
        refused = workshop.connection().open().connect(nqn_of(export), HOST_B)
    assert (refused.status.code, refused.status.dnr) == (StatusCode.CONNECT_INVALID_HOST, True)
    assert any(HOST_B in line and nqn_of(export) in line for line in caplog.messages)


def test_an_export_without_hosts_lets_nobody_in(workshop: Workshop) -> None:
    export = workshop.export()
    refused = workshop.connection().open().connect(nqn_of(export), HOST_A)
    assert refused.status.code == StatusCode.CONNECT_INVALID_HOST


def test_any_host_is_let_in_where_the_configuration_says_so(make_workshop: MakeWorkshop) -> None:
    workshop = make_workshop(allow_any_host=True)
    host = workshop.attach(workshop.export(), HOST_B)
    assert host.io[0].read(Read(nsid=1, slba=0, blocks=1), 512) == bytes(512)


def test_a_subsystem_that_does_not_exist_is_an_invalid_parameter(workshop: Workshop) -> None:
    refused = workshop.connection().open().connect("nqn.2019-01.com.opensds:nvme:none", HOST_A)
    assert (refused.status.code, refused.status.dnr) == (StatusCode.CONNECT_INVALID_PARAMETERS, True)
    assert refused.result == 256 | 1 << 16


def test_a_removed_export_is_unknown(workshop: Workshop) -> None:
    export = workshop.export(HOST_A)
    workshop.target.remove_export(export.volume_id)
    refused = workshop.connection().open().connect(nqn_of(export), HOST_A)
    assert refused.status.code == StatusCode.CONNECT_INVALID_PARAMETERS


def test_a_refused_host_may_try_again_on_the_same_connection(workshop: Workshop) -> None:
    export = workshop.export(HOST_A)
    connection = workshop.connection().open()
    assert not connection.connect(nqn_of(export), HOST_B).status.ok
    assert connection.connect(nqn_of(export), HOST_A).status.ok


def test_an_io_queue_belongs_to_the_host_of_its_controller(workshop: Workshop) -> None:
    export = workshop.export(HOST_A, HOST_B)
    host = workshop.attach(export, HOST_A)
    others = workshop.connection().open().connect(nqn_of(export), HOST_B, qid=2, cntlid=host.cntlid)
    assert others.status.code == StatusCode.CONNECT_INVALID_PARAMETERS
    same_name = workshop.connection().open().connect(nqn_of(export), HOST_A, qid=2, cntlid=host.cntlid)
    assert same_name.status.code == StatusCode.CONNECT_INVALID_PARAMETERS  # another host identifier


@pytest.mark.parametrize(("qid", "code"), [(1, StatusCode.COMMAND_SEQUENCE_ERROR), (9, None), (65535, None)])
def test_an_io_queue_that_exists_or_was_not_granted_is_refused(
    workshop: Workshop, qid: int, code: StatusCode | None
) -> None:
    export = workshop.export(HOST_A)
    host = workshop.attach(export)
    refused = (
        workshop.connection()
        .open()
        .connect(nqn_of(export), HOST_A, qid=qid, cntlid=host.cntlid, hostid=host.hostid)
    )
    assert refused.status.code == (code or StatusCode.CONNECT_INVALID_PARAMETERS)


def test_an_io_queue_needs_a_controller_that_is_enabled(workshop: Workshop) -> None:
    export = workshop.export(HOST_A)
    admin = workshop.connection().open()
    cntlid = admin.connect(nqn_of(export), HOST_A).result
    refused = workshop.connection().open().connect(nqn_of(export), HOST_A, qid=1, cntlid=cntlid)
    assert refused.status.code == StatusCode.COMMAND_SEQUENCE_ERROR


def test_a_queue_that_is_too_long_and_a_chosen_controller_are_refused(workshop: Workshop) -> None:
    export = workshop.export(HOST_A)
    long = workshop.connection().open().connect(nqn_of(export), HOST_A, sqsize=128)
    static = workshop.connection().open().connect(nqn_of(export), HOST_A, cntlid=5)
    assert long.status.code == static.status.code == StatusCode.CONNECT_INVALID_PARAMETERS


def test_two_paths_of_a_host_are_two_controllers_of_one_subsystem(make_workshop: MakeWorkshop) -> None:
    workshop = make_workshop(portals=(free_portal(), free_portal()))
    export = workshop.export(HOST_A)
    first = workshop.attach(export)
    with RawHost(workshop.portals[1], nqn_of(export), HOST_A) as second:
        assert first.cntlid != second.cntlid
        assert first.namespace().nguid == second.namespace().nguid
        assert first.namespace().nmic == 1


def test_discovery_lists_what_this_host_may_use_once_for_each_portal(make_workshop: MakeWorkshop) -> None:
    workshop = make_workshop(portals=(free_portal(), free_portal(), free_portal("::1")))
    both, only_a = workshop.export(HOST_A, HOST_B), workshop.export(HOST_A)
    workshop.export()
    for portal in workshop.portals:
        of_a, of_b = discover(portal, HOST_A), discover(portal, HOST_B)
        assert {entry.subnqn for entry in of_a.entries} == {nqn_of(both), nqn_of(only_a)}
        assert {entry.subnqn for entry in of_b.entries} == {nqn_of(both)}
        assert {(entry.traddr, int(entry.trsvcid)) for entry in of_b.entries} == {
            (each.address, each.port) for each in workshop.portals
        }
        assert {entry.adrfam for entry in of_b.entries} == {1, 2}
        assert {entry.subtype for entry in of_b.entries} == {SubsystemType.NVM}
    assert not discover(workshop.portal, "nqn.2014-08.org.example:stranger").entries


def test_discovery_sees_hosts_come_and_go(workshop: Workshop) -> None:
    export = workshop.export(HOST_A)
    before = discover(workshop.portal, HOST_A)
    workshop.target.create_export(replace(export, hosts=()))
    after = discover(workshop.portal, HOST_A)
    assert (len(before.entries), len(after.entries)) == (1, 0)
    assert after.genctr > before.genctr


def test_ipv6_carries_data_too(make_workshop: MakeWorkshop) -> None:
    workshop = make_workshop(portals=(free_portal("::1"),))
    host = workshop.attach(workshop.export(HOST_A))
    assert host.io[0].read(Read(nsid=1, slba=0, blocks=8), 4096) == bytes(4096)
