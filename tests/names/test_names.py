"""How names are made, and which ones from outside are refused."""

import string
import uuid
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weft.errors import InvalidValueError
from weft.model import GIB, VolumeId
from weft.names import (
    MAXIMUM_VOLUME_SIZE,
    check_address,
    check_host_name,
    check_id,
    check_name,
    check_nqn,
    check_port,
    check_size,
    check_text,
    durable_name,
    host_nqn,
    namespace_nguid,
    new_id,
    serial_number,
    subsystem_nqn,
    volume_id_of_nqn,
)

VOLUME = VolumeId("3f2b8c1e-5d4a-4f6b-9c7d-0123456789ab")


def test_ids_are_lower_case_random_uuids_and_never_the_same() -> None:
    ids = {new_id() for _ in range(1000)}
    assert len(ids) == 1000
    assert all(check_id("id", each) == each and uuid.UUID(each).version == 4 for each in ids)


def test_what_a_volume_is_called_on_the_wire_derives_from_its_id_alone() -> None:
    """The example of docs/identities.md: these values must never change."""
    assert subsystem_nqn(VOLUME) == "nqn.2019-01.com.opensds:nvme:3f2b8c1e-5d4a-4f6b-9c7d-0123456789ab"
    assert namespace_nguid(VOLUME).hex() == "3f2b8c1e5d4a4f6b9c7d0123456789ab"
    assert serial_number(VOLUME) == "3f2b8c1e5d4a4f6b9c7d"
    assert durable_name(VOLUME) == "6f2b8c1e5d4a4f6b9c7d0123456789ab"
    assert host_nqn(VOLUME) == "nqn.2014-08.org.nvmexpress:uuid:3f2b8c1e-5d4a-4f6b-9c7d-0123456789ab"


@given(st.uuids())
def test_a_subsystem_of_wefts_leads_back_to_its_volume(found: uuid.UUID) -> None:
    volume_id = VolumeId(str(found))
    assert volume_id_of_nqn(check_nqn("nqn", subsystem_nqn(volume_id))) == volume_id
    assert volume_id_of_nqn(subsystem_nqn(volume_id, "nqn.2020-02.org.other:")) is None
    assert (
        volume_id_of_nqn(subsystem_nqn(volume_id, "nqn.2020-02.org.other:"), "nqn.2020-02.org.other:")
        == volume_id
    )


@pytest.mark.parametrize(
    "nqn",
    [
        "nqn.2014-08.org.nvmexpress.discovery",
        "nqn.2019-01.com.opensds:nvme:",
        f"nqn.2019-01.com.opensds:nvme:{VOLUME}x",
        f"nqn.2019-01.com.opensds:nvme:{VOLUME.upper()}",
        f"nqn.2019-01.com.opensds:nvme:../{VOLUME}",
        str(VOLUME),
        "",
    ],
)
def test_an_nqn_that_names_no_volume_of_wefts_leads_nowhere(nqn: str) -> None:
    assert volume_id_of_nqn(nqn) is None


@pytest.mark.parametrize(
    "value",
    [
        "",
        "..",
        "../../etc/passwd",
        VOLUME.upper(),
        VOLUME.replace("-", ""),
        f"{{{VOLUME}}}",
        f"urn:uuid:{VOLUME}",
        f"{VOLUME}\n",
        f" {VOLUME}",
        VOLUME.replace("0", "\u0660"),
    ],
)
def test_only_a_lower_case_uuid_is_an_id(value: str) -> None:
    with pytest.raises(InvalidValueError, match=r"volumeId: .* is not a lower-case UUID"):
        check_id("volumeId", value)


@pytest.mark.parametrize("value", ["v", "db 1", "a.b-c_d", "9", "x" * 255])
def test_a_name_of_letters_digits_and_a_few_signs_is_taken_as_it_is(value: str) -> None:
    assert check_name("name", value) == value


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("", "must not be empty"),
        ("   ", "must not be empty"),
        ("x" * 256, "is longer than 255 characters"),
        ("a/b", "may only hold"),
        ("a\n", "may only hold"),
        ("a\0", "may only hold"),
        ("$(reboot)", "may only hold"),
        ("größe", "may only hold"),
    ],
)
def test_another_name_is_refused_with_the_field_and_the_reason(value: str, reason: str) -> None:
    with pytest.raises(InvalidValueError, match=f"^name: .*{reason}") as caught:
        check_name("name", value)
    assert caught.value.field == "name"


def test_free_text_has_lines_and_tabs_and_nothing_that_a_terminal_obeys() -> None:
    assert check_text("description", "für alle\n\tund später 💾") == "für alle\n\tund später 💾"
    for character in ("\0", "\x1b", "\r", "\x7f", "\ud800"):
        with pytest.raises(InvalidValueError, match=r"description: must not hold control characters"):
            check_text("description", f"a{character}b")
    with pytest.raises(InvalidValueError, match=r"longer than 1024"):
        check_text("description", "x" * 1025)


@pytest.mark.parametrize("value", ["h", "node-1", "a.b.c", "x" * 64])
def test_a_host_name_is_that_of_rfc_1123(value: str) -> None:
    assert check_host_name("hostName", value) == value


@pytest.mark.parametrize("value", ["", "-a", "a-", "a..b", ".a", "a_b", "x" * 65, "a b", "a\n"])
def test_what_is_no_host_name_is_refused(value: str) -> None:
    with pytest.raises(InvalidValueError, match=r"hostName: .* is not a host name"):
        check_host_name("hostName", value)


@pytest.mark.parametrize(
    "nqn",
    [
        "nqn.2014-08.org.nvmexpress:uuid:3f2b8c1e-5d4a-4f6b-9c7d-0123456789ab",
        "nqn.2014-08.org.nvmexpress.discovery",
        "nqn.1988-11.com.dell:powerstore:00:2a64abf1c5b81F6C4549",
        "nqn.2014-08.org.nvmexpress:" + "x" * 196,
    ],
)
def test_an_nqn_is_taken_as_it_is(nqn: str) -> None:
    assert check_nqn("nqn", nqn) == nqn


@pytest.mark.parametrize(
    "nqn",
    [
        "",
        "nqn.2019-1.opensds:x",  # the month has two digits
        "nqn.2019-13.com.opensds:x",
        "nqn.2019-01.com.OPENSDS:x",
        "iqn.2019-01.com.opensds:x",
        "nqn.2019-01.com.opensds:",
        "nqn.2019-01.com.opensds:a b",
        "nqn.2019-01.com.opensds:größe",
        "nqn.2019-01.com.opensds:\ud800",
        "nqn.2019-01.com.opensds:x\n",
        "nqn.2019-01.com.opensds:../../../etc",  # would leave its directory in configfs
        "nqn.2019-01.com.opensds:x,transport=loop",  # would be another option of /dev/nvme-fabrics
        "nqn.2019-01.com.opensds:$(reboot)",
        "nqn.2019-01.com.opensds:'\"",
    ],
)
def test_what_is_no_nqn_or_could_mean_something_else_is_refused(nqn: str) -> None:
    with pytest.raises(InvalidValueError, match=r"nqn: .* is not an NQN such as"):
        check_nqn("nqn", nqn)


def test_an_nqn_has_at_most_223_bytes() -> None:
    with pytest.raises(InvalidValueError, match=r"longer than 223 bytes"):
        check_nqn("nqn", "nqn.2014-08.org.nvmexpress:" + "x" * 197)


@pytest.mark.parametrize(
    ("given_address", "normal"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:DB8:0::1", "2001:db8::1"),
        ("::ffff:192.0.2.1", "::ffff:c000:201"),
        ("fe80::1%eth0.100", "fe80::1%eth0.100"),
    ],
)
def test_an_address_is_brought_to_its_normal_form(given_address: str, normal: str) -> None:
    assert ipaddress_text(check_address("ip", given_address)) == ipaddress_text(normal)


def ipaddress_text(address: str) -> str:
    """Newer Pythons write mapped addresses with dots."""
    return address.replace("::ffff:192.0.2.1", "::ffff:c000:201")


@pytest.mark.parametrize(
    "value",
    [
        "",
        "localhost",
        "192.0.2.256",
        "192.0.2.01",
        "[::1]",
        "192.0.2.1%eth0",
        "fe80::1%",
        "fe80::1%eth0,host_traddr=::1",
        "fe80::1%../../x",
        "fe80::1%a%b",
        "::1\n",
    ],
)
def test_what_is_no_address_is_refused(value: str) -> None:
    with pytest.raises(InvalidValueError, match=r"ip: .* is not an IPv4 or IPv6 address"):
        check_address("ip", value)


@pytest.mark.parametrize(("value", "port"), [("4420", 4420), (1, 1), ("65535", 65535)])
def test_a_port_is_a_number_given_as_such_or_as_text(value: str | int, port: int) -> None:
    assert check_port("port", value) == port


@pytest.mark.parametrize(
    "value", ["", "0", "65536", "-1", "4_420", " 4420", "0x10", "\uff14\uff14\uff12\uff10", 0, 65536, -1]
)
def test_what_is_no_port_is_refused(value: str | int) -> None:
    with pytest.raises(InvalidValueError, match=r"port: .* is not a port between 1 and 65535"):
        check_port("port", value)


@pytest.mark.parametrize("size", [GIB, 2 * GIB, MAXIMUM_VOLUME_SIZE])
def test_a_size_is_whole_gibibytes(size: int) -> None:
    assert check_size("size", size) == size


@pytest.mark.parametrize("size", [0, -GIB, 1, GIB - 1, GIB + 512, MAXIMUM_VOLUME_SIZE + GIB])
def test_another_size_is_refused(size: int) -> None:
    with pytest.raises(InvalidValueError, match=r"size: must be whole GiB between 1 and 1048576"):
        check_size("size", size)


@given(st.text(st.sampled_from(string.printable + "é\u0660\ud800"), max_size=30))
def test_no_text_makes_a_check_fail_in_another_way_than_its_own(text: str) -> None:
    for check in (check_id, check_name, check_text, check_host_name, check_nqn, check_address, check_port):
        with suppress(InvalidValueError):
            taken = check("field", text)
            assert str(taken) == text or check in {check_address, check_port}
