"""The verbs on hosts: nobody has another's name or identity."""

from dataclasses import replace

import pytest

from control.control_plane import ALICE, BOB, ControlPlane, host_request
from weft.errors import ConflictError, InvalidValueError, NotFoundError
from weft.model import Initiator, Protocol
from weft.names import host_nqn, new_id
from weft.ports import CLAIMS
from weft.requests import HostRequest


def test_two_hosts_never_have_one_identity_or_one_name(plane: ControlPlane) -> None:
    nqn = host_nqn(new_id())
    plane.service.hosts.create(ALICE, host_request("h", nqn))
    before = plane.store.revision()
    with pytest.raises(ConflictError, match=f"initiators: {nqn} already belongs to another host; .* cloned"):
        plane.service.hosts.create(BOB, host_request("other", nqn))
    with pytest.raises(ConflictError, match="the host with name h already exists in the system"):
        plane.service.hosts.create(ALICE, host_request("h"))
    assert plane.store.revision() == before


def test_a_host_that_goes_gives_its_name_and_identity_back(plane: ControlPlane) -> None:
    request = host_request("h")
    host = plane.service.hosts.create(ALICE, request)
    plane.service.hosts.delete(ALICE, host.id)
    assert plane.store.list(CLAIMS, where={"owner": host.id}) == []
    plane.service.hosts.create(BOB, request)
    with pytest.raises(NotFoundError):
        plane.service.hosts.delete(ALICE, host.id)


def test_a_changed_host_gives_back_what_it_no_longer_has_and_nothing_else(plane: ControlPlane) -> None:
    request = host_request("h")
    host, other = plane.service.hosts.create(ALICE, request), plane.host("other")
    changed = plane.service.hosts.update(ALICE, host.id, HostRequest(name="g", ip="192.0.2.7", port=22))
    assert (changed.name, changed.initiators, changed.ip) == ("g", host.initiators, "192.0.2.7")
    plane.host("h")
    with pytest.raises(ConflictError, match="initiators: "):
        plane.service.hosts.create(ALICE, replace(request, name="another"))
    with pytest.raises(ConflictError, match="initiators: "):
        plane.service.hosts.update(ALICE, host.id, HostRequest(initiators=other.initiators))
    assert plane.service.hosts.get(ALICE, host.id) == changed


def test_the_identity_of_a_host_does_not_change_under_its_sessions(plane: ControlPlane) -> None:
    first, second = (Initiator(port_name=host_nqn(new_id()), protocol=Protocol.NVMEOF) for _ in "12")
    volume = plane.volume()
    host = plane.service.hosts.create(ALICE, HostRequest(name="h", initiators=(first, second)))
    attachment = plane.attach(volume, host)
    update = plane.service.hosts.update
    for initiators in ((second,), (second, first), (first,)):
        with pytest.raises(
            ConflictError, match="some volumes are attached to host: h, please detach them first"
        ):
            update(ALICE, host.id, HostRequest(initiators=initiators))
    update(ALICE, host.id, HostRequest(username="root", initiators=(first, second)))
    with pytest.raises(ConflictError, match="some volumes are attached"):
        plane.service.hosts.delete(ALICE, host.id)
    plane.service.attachments.delete(ALICE, attachment)
    with pytest.raises(ConflictError, match="some volumes are attached"):
        update(ALICE, host.id, HostRequest(initiators=(second,)))
    plane.settle()
    update(ALICE, host.id, HostRequest(initiators=(second, first)))


@pytest.mark.parametrize(
    ("changes", "refusal"),
    [
        ({"name": ""}, "hostName: '' is not a host name"),
        ({"name": "a_b"}, "hostName: 'a_b' is not a host name"),
        ({"os_type": "beos"}, "osType: 'beos' is none of esxi, linux, windows"),
        ({"access_mode": "magic"}, "accessMode: 'magic' is neither agent nor agentless"),
        ({"ip": "h.example"}, "ip: 'h.example' is not an IPv4 or IPv6 address"),
        ({"port": 70000}, "port: 70000 is not a port"),
        ({"username": "x\n\0"}, "username: must not hold"),
        ({"availability_zones": ("",)}, "availabilityZones: must not be empty"),
        (
            {"initiators": (Initiator(port_name="x", protocol=Protocol.NVMEOF),)},
            "initiators.portName: 'x' is not",
        ),
        (
            {"initiators": (Initiator(port_name="", protocol=Protocol.ISCSI),)},
            "initiators.portName: must not be empty",
        ),
        (
            {"initiators": tuple(Initiator(port_name=f"i{n}", protocol=Protocol.ISCSI) for n in range(65))},
            "initiators: a host has at most 64",
        ),
    ],
)
def test_a_wrong_host_is_refused(plane: ControlPlane, changes: dict[str, object], refusal: str) -> None:
    before = plane.store.revision()
    with pytest.raises(InvalidValueError, match=f"^{refusal}"):
        plane.service.hosts.create(ALICE, replace(host_request("h"), **changes))  # type: ignore[arg-type]
    assert plane.store.revision() == before
