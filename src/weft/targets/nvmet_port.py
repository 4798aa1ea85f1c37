"""One port of nvmet in configfs: how it is found, named, and given its address and options.

    ports/<id>/addr_trtype, addr_adrfam, addr_traddr, addr_trsvcid
    ports/<id>/param_inline_data_size, param_max_queue_size
    ports/<id>/subsystems/<nqn>  ->  subsystems/<nqn>

Files and their rules are those of drivers/nvme/target/configfs.c (Linux 6.12).
"""

import zlib
from collections.abc import Mapping
from typing import Final

from weft.config import PortalSection
from weft.connection import LOOP_PORTAL, NvmeofPortal
from weft.errors import UnsupportedError
from weft.model import Transport
from weft.targets.configfs import Configfs

PORTS: Final = "ports"
_FIRST_ID: Final = 16384
_IDS: Final = 16384

Address = tuple[str, ...]
"""What tells ports apart: the transport and, unless it is loop, where it listens."""


def port_path(port_id: str) -> str:
    return f"{PORTS}/{port_id}"


def address_of(portal: NvmeofPortal) -> Address:
    if portal.transport is Transport.LOOP:
        return (portal.transport.value,)
    return (portal.transport.value, portal.address, str(portal.port))


def portal_at(address: Address) -> NvmeofPortal:
    """Of a port that weft has made."""
    if address[0] == Transport.LOOP:
        return LOOP_PORTAL
    transport, host, port = address
    return NvmeofPortal(transport=Transport(transport), address=host, port=int(port))


def find_ports(configfs: Configfs) -> dict[Address, str]:
    """The ids of all ports there are, weft's or not. The address of one that is half made begins with nothing."""
    return {_read_address(configfs, port_id): port_id for port_id in configfs.names(PORTS)}


def free_port_id(configfs: Configfs, portal: NvmeofPortal) -> str:
    """The same for the same portal on each start, wherever nobody else has taken it.

    Raises UnsupportedError when none is left.
    """
    taken = set(configfs.names(PORTS))
    start = zlib.crc32(str(portal).encode())
    for offset in range(_IDS):
        port_id = str(_FIRST_ID + (start + offset) % _IDS)
        if port_id not in taken or _is_half_made(configfs, port_id):
            return port_id
    raise UnsupportedError("nvmet has no port id left")


def write_address(configfs: Configfs, port_id: str, portal: NvmeofPortal) -> None:
    path = port_path(port_id)
    if portal.transport is not Transport.LOOP:
        configfs.write(f"{path}/addr_adrfam", portal.family.value)
        configfs.write(f"{path}/addr_traddr", portal.address)
        configfs.write(f"{path}/addr_trsvcid", str(portal.port))
    # Last: a port without a transport is one that a crash has left half-made, and is taken up again.
    configfs.write(f"{path}/addr_trtype", portal.transport.value)


def wanted_options(options: PortalSection) -> Mapping[str, str]:
    """The attributes that the configuration has a value for."""
    wanted = {
        "param_inline_data_size": options.inline_data_size,
        "param_max_queue_size": options.max_queue_size,
    }
    return {name: str(value) for name, value in wanted.items() if value}


def write_options(configfs: Configfs, port_id: str, options: PortalSection) -> None:
    """Of a port that does not listen. Raises UnsupportedError for one that this kernel does not have."""
    for name, value in wanted_options(options).items():
        path = f"{port_path(port_id)}/{name}"
        found = configfs.read(path)
        if found is None:
            raise UnsupportedError(
                f"this node's kernel has no {name} for NVMe target ports; take it out of target.portals"
            )
        if found != value:
            configfs.write(path, value)


def _is_half_made(configfs: Configfs, port_id: str) -> bool:
    """Whether a crash of weft has left it so: no other program makes ports with these ids."""
    return not configfs.read(f"{port_path(port_id)}/addr_trtype")


def _read_address(configfs: Configfs, port_id: str) -> Address:
    def read(name: str) -> str:
        return configfs.read(f"{port_path(port_id)}/{name}") or ""

    transport = read("addr_trtype")
    if transport == Transport.LOOP:
        return (transport,)
    return (transport, read("addr_traddr"), read("addr_trsvcid"))
