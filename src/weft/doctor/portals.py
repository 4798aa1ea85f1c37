"""The storage node's portals: their addresses, RDMA links and ports, and firewalls before them."""

import ipaddress
import sys
from collections.abc import Iterator
from typing import Final

from weft.config import parse_portal
from weft.connection import NvmeofPortal
from weft.doctor.case import Case
from weft.doctor.finding import NODE, Finding
from weft.doctor.machine import COMMAND_SECONDS, Machine
from weft.doctor.soft_rdma import interface_with, make_link
from weft.errors import CommandError, WeftError
from weft.model import Transport
from weft.rdma import Addresses, IPAddress, link_with

_NVMET_PORTS: Final = "/sys/kernel/config/nvmet/ports"
_LISTENING: Final = "0A"  # include/net/tcp_states.h


def check_portals(case: Case) -> Iterator[Finding]:
    addresses = case.machine.addresses()
    for portal in case.config.portals():
        if portal.transport is Transport.LOOP:
            yield NODE.ok(_about(portal), "The portal loop leads to this machine alone.")
        else:
            yield _portal(case, portal, addresses)


def check_api(case: Case) -> Iterator[Finding]:
    """The addresses at which the API is to listen for other machines."""
    addresses = case.machine.addresses()
    running = case.machine.why_no_daemon(case.config) is None
    for written in case.config.api.listen:
        about = f"API {written}"
        portal = parse_portal("api.listen", written)
        interface = interface_with(portal.address, addresses)
        if ipaddress.ip_address(portal.address.partition("%")[0]).is_unspecified:
            interface = "every interface"
        if interface is None:
            sentence = f"This machine has no address {portal.address}, so weft does not start."
            yield NODE.missing(about, sentence, _give_address(portal, addresses))
        elif not running and _listener_on(case.machine, portal) is not None:
            sentence = (
                f"Another program listens on {written} already: end it, or choose another in api.listen."
            )
            yield NODE.missing(about, sentence, _show_listener(portal))
        else:
            held = "weft listens there" if running else f"port {portal.port} is free"
            yield NODE.ok(about, f"{portal.address} is on {interface}, and {held}.")


def _about(portal: NvmeofPortal) -> str:
    return f"portal {portal}"


def _portal(case: Case, portal: NvmeofPortal, addresses: Addresses) -> Finding:
    about = _about(portal)
    interface = interface_with(portal.address, addresses)
    if interface is None:
        return NODE.missing(
            about,
            f"This machine has no address {portal.address}; weft opens the portal once it is there.",
            _give_address(portal, addresses),
        )
    if portal.transport is Transport.RDMA:
        return _rdma_portal(case, portal, interface, addresses)
    listening = _listener_on(case.machine, portal)
    if listening is None:
        return NODE.ok(about, f"{portal.address} is on {interface}, and port {portal.port} is free.")
    if str(portal) in case.machine.embedded_portals(case.config):
        return NODE.ok(about, f"{portal.address} is on {interface}, and the embedded target listens there.")
    if portal.endpoint in _nvmet_endpoints(case.machine):
        return NODE.ok(about, f"{portal.address} is on {interface}, and the kernel's target listens there.")
    return NODE.missing(
        about,
        f"Another program listens on port {portal.port} of {listening} already: end it, or choose another port in "
        "target.portals.",
        _show_listener(portal),
    )


def _show_listener(portal: NvmeofPortal) -> str:
    return f"ss --listening --tcp --numeric --processes 'sport = :{portal.port}'"


def _rdma_portal(case: Case, portal: NvmeofPortal, interface: str, addresses: Addresses) -> Finding:
    about = _about(portal)
    link = link_with(portal.address, case.machine.links, addresses)
    if link is None:
        return NODE.missing(
            about,
            f"{portal.address} is on {interface}, which has no RDMA link.",
            make_link(case.machine, interface),
        )
    if not link.active:
        return NODE.missing(
            about,
            f"The RDMA link {link} of {portal.address} is {link.state}, not ACTIVE.",
            f"ip link set {interface} up",
        )
    return NODE.ok(about, f"{portal.address} is on {interface}, with the RDMA link {link}.")


def _give_address(portal: NvmeofPortal, addresses: Addresses) -> str:
    """On the interface that it most likely belongs on: in its network, or without an address of its family yet."""
    text, _, zone = portal.address.partition("%")
    wanted = ipaddress.ip_address(text)

    def distance(name: str) -> int:
        if any(_same_network(wanted, each) for each in addresses[name]):
            return 0
        if not addresses[name]:
            return 2  # perhaps not even connected
        return 3 if any(each.version == wanted.version for each in addresses[name]) else 1

    others = sorted((name for name in addresses if name != "lo"), key=distance)
    interface = zone or next(iter(others), "")
    if not interface:
        return ""
    return f"ip address add {text}/{24 if wanted.version == 4 else 64} dev {interface}"


def _same_network(one: IPAddress, other: IPAddress) -> bool:
    length = 24 if one.version == 4 else 64
    return one.version == other.version and other in ipaddress.ip_network(f"{one}/{length}", strict=False)


def _listener_on(machine: Machine, portal: NvmeofPortal) -> IPAddress | None:
    """The address that a program listens on so that it has the portal's."""
    wanted = ipaddress.ip_address(portal.address.partition("%")[0])
    for address, port in _listeners(machine):
        if port == portal.port and (
            address == wanted or _stands_for_all(address, wanted) or _stands_for_all(wanted, address)
        ):
            return address
    return None


def _stands_for_all(address: IPAddress, wanted: IPAddress) -> bool:
    return address.is_unspecified and address.version in {wanted.version, 6}


def _listeners(machine: Machine) -> Iterator[tuple[IPAddress, int]]:
    """/proc/net/tcp and tcp6: addresses are 32-bit words in the machine's byte order, in hex."""
    for name in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in (machine.text(name) or "").splitlines()[1:]:
            fields = line.split()
            if len(fields) < 4 or fields[3] != _LISTENING:
                continue
            address, _, port = fields[1].partition(":")
            words = (int(address[i : i + 8], 16) for i in range(0, len(address), 8))
            packed = b"".join(word.to_bytes(4, sys.byteorder) for word in words)
            yield ipaddress.ip_address(packed), int(port, 16)


def _nvmet_endpoints(machine: Machine) -> frozenset[str]:
    """`address:port` of nvmet's ports."""
    found: set[str] = set()
    for each in machine.names(_NVMET_PORTS):
        address = machine.text(f"{_NVMET_PORTS}/{each}/addr_traddr") or ""
        port = machine.text(f"{_NVMET_PORTS}/{each}/addr_trsvcid")
        found.add(f"[{address}]:{port}" if ":" in address else f"{address}:{port}")
    return frozenset(found)


def check_firewall(case: Case) -> Iterator[Finding]:
    """Only whether a firewall that is known asks for a rule; whether hosts get through is theirs to see."""
    outer = [
        portal
        for portal in case.config.portals()
        if portal.transport is not Transport.LOOP
        and not ipaddress.ip_address(portal.address.partition("%")[0]).is_loopback
    ]
    services = dict.fromkeys(
        service
        for portal in outer
        # iWARP uses the TCP port itself, RoCE v2 this UDP port whatever the service is (IANA: roce).
        for service in (
            [f"{portal.port}/tcp", "4791/udp"]
            if portal.transport is Transport.RDMA
            else [f"{portal.port}/tcp"]
        )
    )
    if services:
        yield from _firewalld(case.machine, list(services)) or _ufw(case.machine, list(services))


def _firewalld(machine: Machine, services: list[str]) -> list[Finding]:
    if not machine.exists("/run/firewalld"):
        return []
    closed = [service for service in services if not _is_open(machine, service)]
    if not closed:
        return [NODE.ok("firewall", f"firewalld lets {', '.join(services)} in.")]
    options = " ".join(f"--add-port={service}" for service in closed)
    return [
        NODE.warn(
            "firewall",
            f"firewalld does not let {', '.join(closed)} in by its port, so hosts may not reach the portals.",
            f"firewall-cmd --permanent {options} && firewall-cmd --reload",
        )
    ]


def _is_open(machine: Machine, service: str) -> bool:
    try:
        machine.run(["firewall-cmd", f"--query-port={service}"], timeout=COMMAND_SECONDS)
    except CommandError:
        return False
    return True


def _ufw(machine: Machine, services: list[str]) -> list[Finding]:
    if "ENABLED=yes" not in (machine.text("/etc/ufw/ufw.conf") or ""):
        return []
    try:
        rules = f"{machine.text('/etc/ufw/user.rules')}\n{machine.text('/etc/ufw/user6.rules')}"
    except WeftError:
        return [NODE.warn("firewall", "ufw is on, and only root may look at its rules.", "sudo ufw status")]
    closed = [service for service in services if f"--dport {service.partition('/')[0]} " not in rules]
    if not closed:
        return [NODE.ok("firewall", f"ufw lets {', '.join(services)} in.")]
    return [
        NODE.warn(
            "firewall",
            f"ufw has no rule for {', '.join(closed)}, so hosts may not reach the portals.",
            " && ".join(f"ufw allow {service}" for service in closed),
        )
    ]
