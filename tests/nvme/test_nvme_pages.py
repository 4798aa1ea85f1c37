"""Identify pages, log pages, features and properties. Offsets are the specification's, written out."""

import random
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weft.nvme.async_event import (
    ANA_CHANGED,
    DISCOVERY_LOG_CHANGED,
    NAMESPACE_ATTRIBUTE_CHANGED,
    AsyncEvent,
)
from weft.nvme.errors import LocalProtocolError
from weft.nvme.features import NumberOfQueues
from weft.nvme.identify import (
    Cmic,
    IdentifyController,
    IdentifyIndependentNamespace,
    IdentifyNamespace,
    IdentifyNvmController,
    NamespaceDescriptors,
    Oncs,
    decode_controller_list,
    decode_namespace_list,
    encode_command_set_combinations,
    encode_controller_list,
    encode_namespace_list,
    encode_primary_controller_capabilities,
    ioccsz,
)
from weft.nvme.logpage import (
    AnaGroup,
    AnaLog,
    DiscoveryEntry,
    DiscoveryLog,
    Effects,
    SmartLog,
    decode_discovery_header,
    encode_changed_namespaces,
    encode_command_effects,
    encode_empty_error_log,
    encode_firmware_slots,
    encode_supported_log_pages,
    part_of_log,
)
from weft.nvme.properties import (
    Capabilities,
    ControllerConfiguration,
    ControllerStatus,
    ShutdownNotification,
    ShutdownStatus,
    version,
)

CONTROLLER = IdentifyController(
    vid=0x1B36,
    sn="0123456789abcdef0123",
    mn="weft",
    fr="0.1",
    cmic=Cmic.MULTIPLE_CONTROLLERS,
    mdts=8,
    cntlid=0x1234,
    ver=version(2, 0),
    oaes=1 << 8,
    aerl=3,
    lpa=6,
    kas=10,
    maxcmd=128,
    nn=1,
    oncs=Oncs.COMPARE | Oncs.DATASET_MANAGEMENT | Oncs.WRITE_ZEROES | Oncs.VERIFY,
    vwc=1,
    mnan=1,
    subnqn="nqn.2019-01.com.opensds:nvme:one",
    ioccsz=ioccsz(8192),
)


def u16(page: bytes, offset: int) -> int:
    return int.from_bytes(page[offset : offset + 2], "little")


def u32(page: bytes, offset: int) -> int:
    return int.from_bytes(page[offset : offset + 4], "little")


def test_identify_controller_lies_as_specified() -> None:
    page = CONTROLLER.encode()
    assert len(page) == 4096
    assert u16(page, 0) == 0x1B36
    assert page[4:24] == b"0123456789abcdef0123"
    assert page[24:64] == b"weft".ljust(40)
    assert page[64:72] == b"0.1     "
    assert (page[76], page[77], u16(page, 78)) == (2, 8, 0x1234)
    assert (u32(page, 80), u32(page, 92), page[111]) == (0x20000, 0x100, 1)
    assert (page[259], page[261], u16(page, 320)) == (3, 6, 10)
    assert (page[512], page[513], u16(page, 514), u32(page, 516)) == (0x66, 0x44, 128, 1)
    assert (u16(page, 520), page[525]) == (0b10001101, 1)
    assert (u32(page, 536) & 3, u32(page, 536) >> 20 & 1, u32(page, 540)) == (1, 1, 1)
    assert page[768:1024] == b"nqn.2019-01.com.opensds:nvme:one".ljust(256, b"\0")
    assert (u32(page, 1792), u32(page, 1796), u16(page, 1800)) == (516, 1, 0)


def test_identify_controller_comes_back_as_it_went() -> None:
    decoded = IdentifyController.decode(CONTROLLER.encode())
    assert decoded == CONTROLLER
    assert decoded.in_capsule_data_size == 8192


def test_identify_namespace_lies_as_specified() -> None:
    namespace = IdentifyNamespace(
        nsze=2048,
        ncap=2047,
        nuse=1,
        nsfeat=16,
        dlfeat=9,
        nmic=1,
        nguid=bytes(range(16)),
        anagrpid=1,
        lbads=12,
    )
    page = namespace.encode()
    assert len(page) == 4096
    assert struct.unpack_from("<QQQ", page) == (2048, 2047, 1)
    assert (page[24], page[30], page[33], u32(page, 92)) == (16, 1, 9, 1)
    assert page[104:120] == bytes(range(16))
    assert page[128:132] == bytes([0, 0, 12, 0])
    decoded = IdentifyNamespace.decode(page)
    assert decoded == namespace
    assert decoded.block_size == 4096


def test_the_lba_format_in_use_counts() -> None:
    page = bytearray(IdentifyNamespace(nsze=1, ncap=1, nuse=1, lbads=9, nlbaf=16, flbas=0b0100000).encode())
    page[128 + 4 * 16 + 2] = 12
    assert IdentifyNamespace.decode(page).block_size == 4096


def test_other_identify_pages_lie_as_specified() -> None:
    page = IdentifyNvmController(dmrl=255, dmrsl=1 << 20, dmsl=1 << 40, wzsl=3).encode()
    assert (page[1], page[3], u32(page, 4), page[8:16]) == (3, 255, 1 << 20, (1 << 40).to_bytes(8, "little"))
    assert IdentifyNvmController.decode(page).dmsl == 1 << 40
    page = IdentifyIndependentNamespace(nmic=1, anagrpid=2).encode()
    assert (page[1], u32(page, 4), page[14]) == (1, 2, 1)
    assert IdentifyIndependentNamespace.decode(page).nmic == 1
    assert encode_command_set_combinations()[:9] == bytes([1, 0, 0, 0, 0, 0, 0, 0, 0])
    assert u16(encode_primary_controller_capabilities(7), 0) == 7


def test_namespace_descriptors_lie_as_specified() -> None:
    descriptors = NamespaceDescriptors(nguid=b"n" * 16, uuid=b"u" * 16)
    page = descriptors.encode()
    assert page[:45] == b"\2\x10\0\0" + b"n" * 16 + b"\3\x10\0\0" + b"u" * 16 + b"\4\1\0\0\0"
    assert len(page) == 4096
    assert not any(page[45:])
    assert NamespaceDescriptors.decode(page) == descriptors


@given(st.binary(max_size=300))
def test_no_namespace_descriptors_raise_an_exception(page: bytes) -> None:
    NamespaceDescriptors.decode(page)


def test_lists_are_sorted_bounded_and_continued() -> None:
    page = encode_namespace_list([9, 1, 5], after=1)
    assert len(page) == 4096
    assert struct.unpack_from("<III", page) == (5, 9, 0)
    assert decode_namespace_list(page) == [5, 9]
    assert len(decode_namespace_list(encode_namespace_list(range(1, 3000)))) == 1024
    page = encode_controller_list([3, 1, 2], first=2)
    assert struct.unpack_from("<HHH", page) == (2, 2, 3)
    assert decode_controller_list(page) == [2, 3]
    assert len(decode_controller_list(encode_controller_list(range(3000)))) == 2047


def test_the_discovery_log_lies_as_specified() -> None:
    entry = DiscoveryEntry(adrfam=2, trsvcid="4420", subnqn="nqn.a", traddr="::1", portid=3)
    log = DiscoveryLog(genctr=7, entries=(entry, entry))
    page = log.encode()
    assert len(page) == 3 * 1024
    assert struct.unpack_from("<QQH", page) == (7, 2, 0)
    assert page[1024:1028] == bytes([3, 2, 2, 0])
    assert struct.unpack_from("<HHH", page, 1028) == (3, 0xFFFF, 32)
    assert page[1024 + 32 : 1024 + 64] == b"4420".ljust(32)
    assert page[1024 + 256 : 1024 + 512] == b"nqn.a".ljust(256, b"\0")
    assert page[1024 + 512 : 1024 + 768] == b"::1".ljust(256)
    assert page[1024 + 768] == 0
    assert DiscoveryLog.decode(page) == log
    assert DiscoveryLog.decode(page[: 2 * 1024 + 100]).entries == (entry,)
    assert decode_discovery_header(page[:16]) == (7, 2)


def test_a_part_of_a_log_page_is_padded_and_may_not_begin_behind_it() -> None:
    assert part_of_log(b"abcdef", 4, 4) == b"ef\0\0"
    assert part_of_log(b"abcdef", 6, 4) == bytes(4)
    assert part_of_log(b"abcdef", 7, 4) is None


def test_other_log_pages_lie_as_specified() -> None:
    assert decode_namespace_list(encode_changed_namespaces({3, 1})) == [1, 3]
    assert decode_namespace_list(encode_changed_namespaces(range(1, 1026))) == [0xFFFFFFFF]
    smart = SmartLog(composite_temperature=300, data_units_written=5, power_on_hours=9)
    page = smart.encode()
    assert (len(page), u16(page, 1), page[3], page[48], page[128]) == (512, 300, 100, 5, 9)
    assert SmartLog.decode(page) == smart
    page = encode_command_effects({0x06: Effects.CSUPP}, {0x01: Effects.CSUPP | Effects.LBCC})
    assert (len(page), u32(page, 4 * 6), u32(page, 1024 + 4)) == (4096, 1, 3)
    page = encode_firmware_slots("0.1")
    assert (len(page), page[0], page[8:16]) == (512, 1, b"0.1     ")
    assert encode_empty_error_log(2) == bytes(128)
    page = encode_supported_log_pages([0x02, 0x70])
    assert (len(page), u32(page, 8), u32(page, 4 * 0x70), u32(page, 4)) == (1024, 1, 1, 0)


def test_the_ana_log_lies_as_specified() -> None:
    log = AnaLog(change_count=4, groups=(AnaGroup(group_id=1, state=3, nsids=(1, 2), change_count=6),))
    page = log.encode()
    assert struct.unpack_from("<QH", page) == (4, 1)
    assert struct.unpack_from("<IIQB", page, 16) == (1, 2, 6, 3)
    assert struct.unpack_from("<II", page, 48) == (1, 2)
    assert len(page) == 56
    assert AnaLog.decode(page) == log
    assert len(log.encode(groups_only=True)) == 48
    with pytest.raises(LocalProtocolError):
        AnaLog.decode(page[:50])


def test_a_page_that_does_not_fit_is_the_callers_error() -> None:
    with pytest.raises(LocalProtocolError):
        IdentifyController(sn="x" * 21).encode()
    with pytest.raises(LocalProtocolError):
        IdentifyController(mdts=256).encode()
    with pytest.raises(LocalProtocolError):
        IdentifyNamespace(nsze=1, ncap=1, nuse=1, nguid=bytes(15)).encode()
    with pytest.raises(LocalProtocolError):
        NamespaceDescriptors(uuid=bytes(15)).encode()
    with pytest.raises(LocalProtocolError):
        IdentifyController.decode(bytes(1000))


@given(st.integers())
def test_no_page_of_the_right_size_raises_an_exception(seed: int) -> None:
    page = random.Random(seed).randbytes(4096)
    IdentifyController.decode(page)
    IdentifyNamespace.decode(page)
    DiscoveryLog.decode(page)
    SmartLog.decode(page)
    decode_namespace_list(page)
    decode_controller_list(page)


def test_events_lie_as_specified() -> None:
    assert NAMESPACE_ATTRIBUTE_CHANGED.encode() == 0x040002
    assert ANA_CHANGED.encode() == 0x0C0302
    assert DISCOVERY_LOG_CHANGED.encode() == 0x70F002
    assert AsyncEvent.decode(0x70F002) == DISCOVERY_LOG_CHANGED


def test_the_number_of_queues_is_0_based_on_the_wire_only() -> None:
    assert NumberOfQueues(submission=4, completion=2).encode() == 3 | 1 << 16
    assert NumberOfQueues.decode(3 | 1 << 16) == NumberOfQueues(submission=4, completion=2)
    assert NumberOfQueues.decode(0xFFFF) is None


def test_properties_lie_as_specified() -> None:
    cap = Capabilities(max_queue_entries=128, timeout=0.5)
    assert cap.encode() == 127 | 1 << 16 | 1 << 24 | 1 << 37
    assert Capabilities(max_queue_entries=1, timeout=0.6).encode() >> 24 & 0xFF == 2
    assert Capabilities.decode(cap.encode()) == cap
    assert version(1, 4) == 0x10400
    enabled = ControllerConfiguration.decode(0x460001)
    assert enabled == ControllerConfiguration(enable=True)
    shutting_down = ControllerConfiguration.decode(0x464001)
    assert (shutting_down.shn, shutting_down.encode()) == (ShutdownNotification.NORMAL, 0x464001)
    assert ControllerStatus(ready=True).encode() == 1
    assert ControllerStatus(shutdown=ShutdownStatus.COMPLETE).encode() == 8
    assert ControllerStatus.decode(0b1011).fatal


@given(st.integers(0, 0xFFFFFFFF))
def test_no_property_value_raises_an_exception(value: int) -> None:
    ControllerConfiguration.decode(value)
    ControllerStatus.decode(value)
    Capabilities.decode(value << 32 | value)
