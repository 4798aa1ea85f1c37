"""The keys under which clients know a connection: the design's, OpenSDS's later ones, os-brick's."""

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weft.connection import ANY_HOST, LOOP_PORTAL, NvmeofConnection, NvmeofPortal, from_data, to_data
from weft.errors import InvalidValueError
from weft.model import AddressFamily, DhChapSecrets, Protocol, Transport, VolumeId
from weft.names import host_nqn, subsystem_nqn

VOLUME = VolumeId("3f2b8c1e-5d4a-4f6b-9c7d-0123456789ab")
NQN = subsystem_nqn(VOLUME)
HOST = host_nqn("11111111-2222-4333-8444-555555555555")
ONE = NvmeofPortal(transport=Transport.TCP, address="192.0.2.1", port=4420)
SIX = NvmeofPortal(transport=Transport.RDMA, address="2001:db8::1", port=4421)


def connection(*portals: NvmeofPortal, host: str = HOST) -> NvmeofConnection:
    return NvmeofConnection(volume_id=VOLUME, nqn=NQN, portals=portals or (ONE,), host_nqn=host)


portals = st.builds(
    NvmeofPortal,
    transport=st.sampled_from([Transport.TCP, Transport.RDMA]),
    address=st.ip_addresses().map(str),
    port=st.integers(1, 65535),
)
connections = st.builds(
    lambda volume, portals, host: NvmeofConnection(
        volume_id=VolumeId(str(volume)),
        nqn=subsystem_nqn(VolumeId(str(volume))),
        portals=tuple(portals),
        host_nqn=host,
    ),
    st.uuids(),
    st.lists(portals, min_size=1, max_size=4),
    st.one_of(st.just(ANY_HOST), st.uuids().map(str).map(host_nqn)),
)


@given(connections)
def test_what_was_written_reads_back_the_same_also_through_json(wanted: NvmeofConnection) -> None:
    assert from_data(to_data(wanted)) == wanted
    assert from_data(json.loads(json.dumps(to_data(wanted)))) == wanted


@given(connections)
def test_each_of_the_three_forms_alone_says_enough(wanted: NvmeofConnection) -> None:
    data = to_data(wanted)
    first = NvmeofConnection(
        volume_id=wanted.volume_id, nqn=wanted.nqn, portals=wanted.portals[:1], host_nqn=wanted.host_nqn
    )
    design = ("targetDiscovered", "targetNqn", "targetPortal", "transporType", "volumeId", "hostNqn")
    opensds = ("targetNQN", "targetIP", "targetPort", "hostNqn", "transporType")
    brick = ("target_nqn", "portals", "vol_uuid", "host_nqn")
    assert from_data({key: data[key] for key in design}) == first
    assert from_data({key: data[key] for key in opensds}) == first
    assert from_data({key: data[key] for key in brick}) == wanted


def test_what_is_written_has_the_keys_and_types_that_clients_expect() -> None:
    assert to_data(connection(SIX, ONE)) == {
        "targetDiscovered": True,
        "targetNqn": NQN,
        "targetPortal": "[2001:db8::1]:4421",
        "transporType": "rdma",
        "volumeId": VOLUME,
        "targetNQN": NQN,
        "targetIP": "2001:db8::1",
        "targetPort": "4421",
        "hostNqn": HOST,
        "discard": False,
        "target_nqn": NQN,
        "vol_uuid": VOLUME,
        "host_nqn": HOST,
        "portals": [["2001:db8::1", "4421", "rdma"], ["192.0.2.1", "4420", "tcp"]],
    }


def test_an_early_opensds_server_is_understood() -> None:
    data = {"targetDiscovered": True, "targetNQN": NQN, "targetIP": "192.0.2.1", "targetPort": "4420"}
    assert from_data(data) == connection(host=ANY_HOST)


def test_a_later_opensds_server_is_understood() -> None:
    data = {
        "targetDiscovered": True,
        "targetNQN": NQN,
        "targetIP": "192.0.2.1",
        "targetPort": "4420",
        "hostNqn": "ALL",
        "discard": False,
        "transporType": "tcp",
    }
    assert from_data(data) == connection(host=ANY_HOST)


def test_older_os_brick_properties_are_understood() -> None:
    data = {
        "nqn": NQN,
        "target_portal": "192.0.2.1",
        "target_port": 4420,
        "transport_type": "tcp",
        "vol_uuid": VOLUME,
        "host_nqn": HOST,
    }
    assert from_data(data) == connection()


def test_newer_os_brick_properties_are_understood() -> None:
    data = {
        "target_nqn": NQN,
        "vol_uuid": None,
        "volume_nguid": VOLUME.replace("-", ""),
        "portals": [("192.0.2.1", 4420, "TCP"), ["2001:db8::1", "4421", "RoCEv2"]],
    }
    assert from_data(data) == connection(ONE, SIX, host=ANY_HOST)


def test_numbers_that_became_floats_on_the_way_are_ports_all_the_same() -> None:
    data: dict[str, object] = {"targetNQN": NQN, "targetIP": "192.0.2.1", "targetPort": 4420.0}
    assert from_data(data).portals == (ONE,)
    assert from_data({"targetNqn": NQN, "portals": [["192.0.2.1", 4420.0, "tcp"]]}).portals == (ONE,)


@pytest.mark.parametrize("key", ["transporType", "transportType", "transport_type"])
@pytest.mark.parametrize("spelled", ["rdma", "RDMA", "rocev2", "RoCE", "iwarp"])
def test_the_transport_is_known_under_each_spelling(key: str, spelled: str) -> None:
    found = from_data({"targetNqn": NQN, "targetPortal": "[2001:db8::1]:4421", key: spelled})
    assert found.portals == (SIX,)


def test_a_portal_knows_its_family_and_writes_ipv6_in_brackets() -> None:
    assert (str(ONE), ONE.family) == ("192.0.2.1:4420", AddressFamily.IPV4)
    assert (str(SIX), SIX.endpoint) == ("rdma://[2001:db8::1]:4421", "[2001:db8::1]:4421")
    assert SIX.family is AddressFamily.IPV6
    assert (str(LOOP_PORTAL), LOOP_PORTAL.endpoint) == ("loop", "")
    assert connection().protocol is Protocol.NVMEOF


def test_loop_leads_to_the_node_itself_and_comes_last_for_those_who_take_one_portal() -> None:
    wanted = replace(connection(), portals=(LOOP_PORTAL, ONE))
    data = to_data(wanted)
    assert (data["targetPortal"], data["transporType"]) == ("192.0.2.1:4420", "tcp")
    assert from_data(data) == wanted
    only = replace(connection(), portals=(LOOP_PORTAL,))
    assert from_data(to_data(only)) == only
    assert from_data({"targetNqn": NQN, "transporType": "loop"}).portals == (LOOP_PORTAL,)


def test_keys_travel_with_a_connection_that_holds_them_and_are_in_no_repr() -> None:
    secrets = DhChapSecrets(host_key="DHHC-1:00:abc:", controller_key="DHHC-1:00:def:")
    wanted = replace(connection(), secrets=secrets)
    assert from_data(to_data(wanted)) == wanted
    assert "DHHC-1" not in f"{wanted!r}{secrets!r}"
    assert "DHHC-1" not in str(to_data(connection()))


GOOD: dict[str, Any] = {
    "targetNqn": NQN,
    "targetPortal": "192.0.2.1:4420",
    "transporType": "tcp",
    "volumeId": VOLUME,
    "hostNqn": HOST,
}


@pytest.mark.parametrize(
    ("changed", "refusal"),
    [
        ({"targetNqn": None}, "targetNqn: is missing from the connection information"),
        ({"targetNqn": ""}, "targetNqn: is missing"),
        ({"targetNqn": "nqn.2019-1.opensds"}, "targetNqn: .* is not an NQN"),
        ({"targetNqn": ["x"]}, "targetNqn: must be a string"),
        ({"volumeId": "../../etc/cron.d/x"}, "volumeId: .* is not a UUID"),
        ({"volumeId": 7}, "volumeId: '7' is not a UUID"),
        ({"hostNqn": "a host"}, "hostNqn: .* is not an NQN"),
        ({"hostNqn": True}, "hostNqn: must be a string"),
        ({"targetPortal": None}, "targetPortal: is missing"),
        ({"targetPortal": "192.0.2.1"}, "targetPortal: .* is not address:port"),
        ({"targetPortal": "2001:db8::1:4420"}, "targetPortal: .* is not address:port"),
        ({"targetPortal": "[[::1]]:4420"}, "targetPortal: .* is not address:port"),
        ({"targetPortal": "store.example:4420"}, "targetPortal: .* is not an IPv4 or IPv6 address"),
        ({"targetPortal": "192.0.2.1:0"}, "targetPortal: .* is not a port"),
        ({"targetPortal": "[fe80::1%eth0,x=y]:4420"}, "targetPortal: .* is not an IPv4"),
        ({"targetIP": "x", "targetPort": "4420"}, "targetIP: .* is not an IPv4"),
        ({"targetIP": "192.0.2.1"}, "targetPort: is missing"),
        ({"targetIP": "192.0.2.1", "targetPort": 44.2}, "targetPort: must be a string"),
        ({"targetIP": "192.0.2.1", "targetPort": float("inf")}, "targetPort: must be a string"),
        ({"transporType": "fc"}, "transporType: 'fc' is none of tcp, rdma and loop"),
        ({"dhchapCtrlSecret": "DHHC-1:"}, "dhchapSecret: is not a string"),
        ({"portals": "192.0.2.1"}, "portals: must be a list"),
        ({"portals": [["192.0.2.1", "4420"]]}, r"portals: each must be \[address, port, transport\]"),
        ({"portals": [["192.0.2.1", {}, "tcp"]]}, "portals: must be a string"),
        ({"portals": [["192.0.2.1", "99999", "tcp"]]}, "portals: .* is not a port"),
    ],
)
def test_a_wrong_value_is_refused_by_the_name_of_its_key(changed: dict[str, object], refusal: str) -> None:
    from_data(GOOD)
    with pytest.raises(InvalidValueError, match=f"^{refusal}"):
        from_data({**GOOD, **changed})


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(
    st.dictionaries(
        st.sampled_from([*to_data(connection()), "nqn", "target_port", "volume_nguid"]), json_values
    )
)
def test_whatever_a_server_sends_is_a_connection_or_a_refusal(data: dict[str, object]) -> None:
    for received in (data, {**GOOD, **data}):
        try:
            found = from_data(received)
        except InvalidValueError:
            continue
        assert from_data(to_data(found)) == found
