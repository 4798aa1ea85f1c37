"""RDMA links in software: the command that makes one, and the interface that it belongs on."""

import ipaddress

from weft.doctor.machine import Machine
from weft.doctor.packages import Need, install
from weft.rdma import Addresses

_RDMA_PROGRAMS = ("/usr/bin/rdma", "/usr/sbin/rdma", "/bin/rdma", "/sbin/rdma")


def make_link(machine: Machine, interface: str = "") -> str:
    """The command for a soft link on an interface, by default the first that has an address; empty where none can be.

    RoCE (rxe) before iWARP (siw): it is in more kernels.
    """
    kernel = machine.kernel
    name = interface or _first_interface(machine)
    for module, kind in (("rdma_rxe", "rxe"), ("siw", "siw")):
        if name and kernel.module(module).available:
            taken = {link.device for link in machine.links}
            device = next(f"{kind}{number}" for number in range(1000) if f"{kind}{number}" not in taken)
            made = f"modprobe {module} && rdma link add {device} type {kind} netdev {name}"
            if any(machine.exists(each) for each in _RDMA_PROGRAMS):
                return made
            return f"{install(machine.family, Need.IPROUTE)} && {made}"
    return ""


def _first_interface(machine: Machine) -> str:
    """Not the loopback one where there is another."""
    having = [
        name
        for name, addresses in machine.addresses().items()
        if any(not each.is_link_local for each in addresses)
    ]
    return next((name for name in having if name != "lo"), "")


def interface_with(address: str, addresses: Addresses) -> str | None:
    """The network interface that has an address of this machine; None if none has it."""
    text, _, zone = address.partition("%")
    wanted = ipaddress.ip_address(text)
    having = [name for name, found in addresses.items() if wanted in found and (not zone or name == zone)]
    if having:
        return having[0]
    # Of 127.0.0.0/8 every address leads to this machine, though the interface lists one.
    return "lo" if wanted.version == 4 and wanted.is_loopback and "lo" in addresses else None
