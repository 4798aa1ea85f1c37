"""A controller's life as Linux and nvme-cli see it: bring-up, identities, features, log pages, events, shutdown."""

import time
import uuid
from dataclasses import replace

import pytest

from embedded_target.workshop import HOST_A, HOST_B, MIB, MakeWorkshop, Workshop, nqn_of
from nvme_tcp_host import RawConnection
from weft.embedded.target.discovery import DISCOVERY_NQN
from weft.embedded.target.settings import Limits
from weft.model import ExportHost, HostId
from weft.nvme.admin import (
    Abort,
    AsynchronousEventRequest,
    GetFeatures,
    GetLogPage,
    Identify,
    KeepAlive,
    SetFeatures,
)
from weft.nvme.async_event import DISCOVERY_LOG_CHANGED, NAMESPACE_ATTRIBUTE_CHANGED
from weft.nvme.fabrics import Disconnect, PropertyGet, PropertySet
from weft.nvme.features import FeatureId, NumberOfQueues
from weft.nvme.identify import (
    Cns,
    ControllerType,
    IdentifyController,
    NamespaceDescriptors,
    Oaes,
    decode_controller_list,
    decode_namespace_list,
)
from weft.nvme.logpage import LogPageId
from weft.nvme.nvm import Flush, Read
from weft.nvme.properties import (
    Capabilities,
    ControllerConfiguration,
    Property,
    ShutdownNotification,
    ShutdownStatus,
)
from weft.nvme.status import StatusCode

NAMESPACE_EVENTS = SetFeatures(fid=FeatureId.ASYNCHRONOUS_EVENT_CONFIGURATION, cdw11=Oaes.NAMESPACE_ATTRIBUTE)


def read_changed_namespaces(admin: RawConnection, *, retain: bool = False) -> list[int]:
    page = admin.read(GetLogPage(lid=LogPageId.CHANGED_NAMESPACE_LIST, length=4096, rae=retain), 4096)
    return decode_namespace_list(page)


def test_identify_says_what_linux_insists_on(workshop: Workshop) -> None:
    export = workshop.export(HOST_A)
    host = workshop.attach(export)
    page = IdentifyController.decode(host.admin.read(Identify(cns=Cns.CONTROLLER), 4096))
    assert page.cntlid == host.cntlid
    assert page.subnqn == nqn_of(export)
    assert page.sn == uuid.UUID(export.volume_id).hex[:20]
    assert page.kas > 0
    assert page.sgls == 1 | 1 << 20 | 1 << 21
    assert page.ofcs == 1
    assert page.in_capsule_data_size == 8192
    assert page.cntrltype == ControllerType.IO
    assert page.cmic & 2
    assert page.vwc & 1


def test_the_namespace_keeps_the_volume_s_identity(workshop: Workshop) -> None:
    export = workshop.export(HOST_A)
    host = workshop.attach(export)
    assert decode_namespace_list(host.admin.read(Identify(cns=Cns.ACTIVE_NAMESPACE_LIST), 4096)) == [1]
    found = NamespaceDescriptors.decode(
        host.admin.read(Identify(cns=Cns.NAMESPACE_DESCRIPTORS, nsid=1), 4096)
    )
    assert found.uuid == found.nguid == uuid.UUID(export.volume_id).bytes
    namespace = host.namespace()
    assert namespace.nguid == found.nguid
    assert namespace.nsze * namespace.block_size == export.size
    assert (namespace.block_size, namespace.npwg + 1) == (512, 8)


@pytest.mark.parametrize(
    "command",
    [
        Identify(cns=Cns.IO_COMMAND_SET_CONTROLLER),
        Identify(cns=Cns.IO_COMMAND_SET_NAMESPACE, nsid=1),
        Identify(cns=Cns.IO_COMMAND_SET_ACTIVE_NAMESPACE_LIST),
        Identify(cns=Cns.COMMAND_SET_INDEPENDENT_NAMESPACE, nsid=1),
        Identify(cns=Cns.ALLOCATED_NAMESPACE_LIST),
        Identify(cns=Cns.ALLOCATED_NAMESPACE, nsid=1),
        Identify(cns=Cns.PRIMARY_CONTROLLER_CAPABILITIES),
        Identify(cns=Cns.IO_COMMAND_SET_COMBINATIONS),
    ],
)
def test_everything_that_hosts_ask_identify_for_is_answered(workshop: Workshop, command: Identify) -> None:
    host = workshop.attach(workshop.export(HOST_A))
    assert len(host.admin.read(command, 4096)) == 4096


def test_the_controllers_of_a_subsystem_can_be_listed(workshop: Workshop) -> None:
    export = workshop.export(HOST_A, HOST_B)
    hosts = [workshop.attach(export, HOST_A), workshop.attach(export, HOST_B)]
    page = hosts[0].admin.read(Identify(cns=Cns.CONTROLLER_LIST), 4096)
    assert decode_controller_list(page) == sorted(host.cntlid for host in hosts)


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (Identify(cns=Cns.NAMESPACE, nsid=2), StatusCode.INVALID_NAMESPACE_OR_FORMAT),
        (Identify(cns=0x77), StatusCode.INVALID_FIELD_IN_COMMAND),
        (GetLogPage(lid=0x0D, length=4096), StatusCode.INVALID_LOG_PAGE),
        (
            GetLogPage(lid=LogPageId.SMART_HEALTH_INFORMATION, length=4096, offset=4096),
            StatusCode.INVALID_FIELD_IN_COMMAND,
        ),
        (
            GetLogPage(lid=LogPageId.SMART_HEALTH_INFORMATION, length=2**30),
            StatusCode.INVALID_FIELD_IN_COMMAND,
        ),
        (GetLogPage(lid=LogPageId.SMART_HEALTH_INFORMATION, length=8192), StatusCode.DATA_SGL_LENGTH_INVALID),
    ],
)
def test_what_there_is_not_is_refused_for_good(
    workshop: Workshop, command: Identify | GetLogPage, code: StatusCode
) -> None:
    host = workshop.attach(workshop.export(HOST_A))
    refused = host.admin.call(command, size=4096)
    assert (refused.status.code, refused.status.dnr) == (code, True)


@pytest.mark.parametrize(
    ("lid", "length"),
    [
        (LogPageId.SUPPORTED_LOG_PAGES, 1024),
        (LogPageId.ERROR_INFORMATION, 64),
        (LogPageId.SMART_HEALTH_INFORMATION, 512),
        (LogPageId.FIRMWARE_SLOT_INFORMATION, 512),
        (LogPageId.CHANGED_NAMESPACE_LIST, 4096),
        (LogPageId.COMMANDS_SUPPORTED_AND_EFFECTS, 4096),
    ],
)
def test_log_pages_come_whole_and_in_parts(workshop: Workshop, lid: LogPageId, length: int) -> None:
    host = workshop.attach(workshop.export(HOST_A))
    whole = host.admin.read(GetLogPage(lid=lid, length=length), length)
    part = host.admin.read(GetLogPage(lid=lid, length=32, offset=length - 32), 32)
    assert whole[-32:] == part


def test_properties_read_as_the_bring_up_needs_them(workshop: Workshop) -> None:
    host = workshop.attach(workshop.export(HOST_A))
    cap = Capabilities.decode(host.admin.call(PropertyGet(offset=Property.CAP, size=8)).result)
    assert (cap.max_queue_entries, cap.contiguous_queues, cap.nvm_command_set) == (128, True, True)
    assert host.admin.call(PropertyGet(offset=Property.VS)).result == 0x20000
    assert host.admin.call(PropertyGet(offset=Property.CC)).result == 0x460001


@pytest.mark.parametrize("offset", [0x0C, 0x10, 0x18, 0x20, 0x24, 0x28, 0x30, 0x38, 0x3C])
def test_properties_that_fabrics_lack_read_as_zero_or_nvme_show_regs_gives_up(
    workshop: Workshop, offset: int
) -> None:
    host = workshop.attach(workshop.export(HOST_A))
    found = host.admin.call(PropertyGet(offset=offset, size=8 if offset in {0x28, 0x30} else 4))
    assert (found.status.ok, found.result) == (True, 0)


@pytest.mark.parametrize(("offset", "size"), [(0x00, 4), (0x04, 4), (0x14, 8), (0x0E, 4), (0x1000, 4)])
def test_what_is_no_property_is_refused(workshop: Workshop, offset: int, size: int) -> None:
    host = workshop.attach(workshop.export(HOST_A))
    refused = host.admin.call(PropertyGet(offset=offset, size=size))
    assert refused.status.code == StatusCode.INVALID_FIELD_IN_COMMAND


def test_commands_wait_for_the_controller_to_be_enabled(workshop: Workshop) -> None:
    admin = workshop.connection().open()
    assert admin.connect(nqn_of(workshop.export(HOST_A)), HOST_A).status.ok
    assert admin.call(KeepAlive()).status.code == StatusCode.COMMAND_SEQUENCE_ERROR


def test_shutdown_completes_and_reset_makes_the_controller_not_ready(workshop: Workshop) -> None:
    host = workshop.attach(workshop.export(HOST_A))
    host.set_configuration(ControllerConfiguration(enable=True, shn=ShutdownNotification.NORMAL))
    assert host.status().shutdown is ShutdownStatus.COMPLETE
    host.set_configuration(ControllerConfiguration())
    assert not host.status().ready
    assert host.io[0].is_lost(5)


def test_features_are_what_linux_and_nvme_cli_read(workshop: Workshop) -> None:
    host = workshop.attach(workshop.export(HOST_A), kato_ms=5000)
    wanted = NumberOfQueues(submission=64, completion=64).encode()
    granted = host.admin.call(SetFeatures(fid=FeatureId.NUMBER_OF_QUEUES, cdw11=wanted))
    assert NumberOfQueues.decode(granted.result) == NumberOfQueues(submission=8, completion=8)
    assert host.admin.call(GetFeatures(fid=FeatureId.KEEP_ALIVE_TIMER)).result == 5000
    assert host.admin.call(GetFeatures(fid=FeatureId.VOLATILE_WRITE_CACHE)).result == 1
    assert host.admin.read(GetFeatures(fid=FeatureId.HOST_IDENTIFIER, cdw11=1), 16) == host.hostid
    short = host.admin.call(GetFeatures(fid=FeatureId.HOST_IDENTIFIER))
    assert short.status.code == StatusCode.INVALID_FIELD_IN_COMMAND
    unknown = host.admin.call(GetFeatures(fid=0x7F))
    assert unknown.status.code == StatusCode.INVALID_FIELD_IN_COMMAND


def test_abort_is_answered_and_aborts_nothing(workshop: Workshop) -> None:
    host = workshop.attach(workshop.export(HOST_A))
    done = host.admin.call(Abort(sqid=1, aborted_cid=7))
    assert (done.status.ok, done.result) == (True, 1)


def test_growth_is_announced_once_until_the_log_page_is_read(workshop: Workshop) -> None:
    export = workshop.export(HOST_A, path=workshop.file(16 * MIB))
    host = workshop.attach(export)
    assert host.admin.call(NAMESPACE_EVENTS).status.ok
    first = host.admin.submit(AsynchronousEventRequest())

    export = replace(export, size=8 * MIB)
    workshop.target.create_export(export)
    assert host.admin.wait(first).result == NAMESPACE_ATTRIBUTE_CHANGED.encode()
    assert host.namespace().nsze * 512 == 8 * MIB
    assert host.io[0].read(Read(nsid=1, slba=8 * MIB // 512 - 1, blocks=1), 512) == bytes(512)

    second = host.admin.submit(AsynchronousEventRequest())
    export = replace(export, size=12 * MIB)
    workshop.target.create_export(export)
    assert read_changed_namespaces(host.admin, retain=True) == [1]
    assert second not in host.admin.completed
    assert read_changed_namespaces(host.admin) == [1]
    assert read_changed_namespaces(host.admin) == []

    workshop.target.create_export(replace(export, size=16 * MIB))
    assert host.admin.wait(second).result == NAMESPACE_ATTRIBUTE_CHANGED.encode()


def test_growth_is_not_announced_to_a_host_that_did_not_ask(workshop: Workshop) -> None:
    export = workshop.export(HOST_A, path=workshop.file(16 * MIB))
    host = workshop.attach(export)
    request = host.admin.submit(AsynchronousEventRequest())
    workshop.target.create_export(replace(export, size=8 * MIB))
    assert host.namespace().nsze * 512 == 8 * MIB
    assert request not in host.admin.completed


def test_event_requests_are_limited(workshop: Workshop) -> None:
    host = workshop.attach(workshop.export(HOST_A))
    for _ in range(4):
        host.admin.submit(AsynchronousEventRequest())
    refused = host.admin.call(AsynchronousEventRequest())
    assert refused.status.code == StatusCode.ASYNCHRONOUS_EVENT_REQUEST_LIMIT_EXCEEDED


def test_a_discovery_controller_tells_that_its_log_has_changed(workshop: Workshop) -> None:
    connection = workshop.connection().open()
    assert connection.connect(DISCOVERY_NQN, HOST_B, kato_ms=30000).status.ok
    value = ControllerConfiguration(enable=True).encode()
    assert connection.call(PropertySet(offset=Property.CC, value=value)).status.ok
    enabled = SetFeatures(fid=FeatureId.ASYNCHRONOUS_EVENT_CONFIGURATION, cdw11=Oaes.DISCOVERY_LOG_PAGE)
    assert connection.call(enabled).status.ok
    request = connection.submit(AsynchronousEventRequest())
    export = workshop.export(HOST_A)
    added = ExportHost(host_id=HostId("b"), initiator=HOST_B)
    workshop.target.create_export(replace(export, hosts=(*export.hosts, added)))
    assert connection.wait(request).result == DISCOVERY_LOG_CHANGED.encode()


def test_a_silent_host_loses_its_controller_after_its_keep_alive_timeout(workshop: Workshop) -> None:
    host = workshop.attach(workshop.export(HOST_A), kato_ms=200)
    assert host.admin.is_lost(3)
    assert host.io[0].is_lost(3)


def test_any_command_keeps_a_controller_alive(workshop: Workshop) -> None:
    host = workshop.attach(workshop.export(HOST_A), kato_ms=200)
    end = time.monotonic() + 1
    while time.monotonic() < end:
        host.io[0].read(Read(nsid=1, slba=0, blocks=1), 512)
        time.sleep(0.05)
    assert host.admin.call(KeepAlive()).status.ok


def test_a_silent_discovery_controller_is_ended_though_it_has_no_timeout(make_workshop: MakeWorkshop) -> None:
    workshop = make_workshop(limits=Limits(idle_discovery_seconds=0.2))
    connection = workshop.connection().open()
    assert connection.connect(DISCOVERY_NQN, HOST_A).status.ok
    assert connection.is_lost(3)


def test_the_end_of_the_admin_queue_is_the_end_of_the_controller(workshop: Workshop) -> None:
    host = workshop.attach(workshop.export(HOST_A), queues=3)
    host.admin.close()
    assert all(queue.is_lost(5) for queue in host.io)


def test_an_io_queue_can_be_disconnected_and_connected_again(workshop: Workshop) -> None:
    host = workshop.attach(workshop.export(HOST_A), queues=2)
    assert host.io[1].call(Disconnect()).status.ok
    assert host.io[1].is_lost(5)
    assert host.io[0].call(Flush(nsid=1)).status.ok
    deadline = time.monotonic() + 5
    again = host.io[1]
    while time.monotonic() < deadline:  # the queue is free a moment after its connection has ended
        try:
            again = host.add_io_queue(2)
        except AssertionError:
            continue
        break
    assert again.call(Flush(nsid=1)).status.ok
