"""The RDMA links of this machine and the addresses of its network interfaces. Read only; no program is needed.

An RDMA link is one port of an RDMA device, as `rdma link` lists them; software links (rxe, siw) are among them.
"""

import errno
import ipaddress
import os
import re
import socket
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final, TypeAlias

from weft.errors import UnavailableError

IPAddress: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
Addresses: TypeAlias = Mapping[str, tuple[IPAddress, ...]]
"""By network interface."""


class RdmaTransport(StrEnum):
    """How a link moves bytes: over InfiniBand's own wire, or over Ethernet as RoCE or as iWARP (on TCP)."""

    INFINIBAND = "InfiniBand"
    ROCE = "RoCE"
    IWARP = "iWARP"


@dataclass(frozen=True, slots=True, kw_only=True)
class RdmaLink:
    """state is the kernel's word, such as ACTIVE or DOWN. gid_types: for RoCE, of `RoCE v1`, `RoCE v2`.

    interfaces are the network interfaces that belong to it; they lead to its addresses.
    """

    device: str
    port: int
    transport: RdmaTransport
    state: str
    interfaces: tuple[str, ...]
    gid_types: frozenset[str] = frozenset()
    software: bool = False

    @property
    def active(self) -> bool:
        return self.state == "ACTIVE"

    def __str__(self) -> str:
        return f"{self.device}/{self.port}"

    def addresses(self, known: Addresses) -> tuple[IPAddress, ...]:
        return tuple(address for interface in self.interfaces for address in known.get(interface, ()))


def rdma_links(root: Path = Path("/")) -> tuple[RdmaLink, ...]:
    """The links that the kernel has, by sysfs below root; none where RDMA is not loaded."""
    return tuple(
        _link(root, device, port)
        for device in _entries(root / "sys/class/infiniband")
        for port in _entries(device / "ports")
        if port.name.isdigit()
    )


def link_with(address: str, links: Sequence[RdmaLink], known: Addresses) -> RdmaLink | None:
    """The link by which an address of this machine speaks RDMA, an active one first; None if there is none."""
    text, _, zone = address.partition("%")
    wanted = ipaddress.ip_address(text)
    found = [
        link for link in links if wanted in link.addresses(known) and (not zone or zone in link.interfaces)
    ]
    return next((link for link in found if link.active), found[0] if found else None)


def _link(root: Path, device: Path, port: Path) -> RdmaLink:
    transport = _transport(device, port)
    return RdmaLink(
        device=device.name,
        port=int(port.name),
        transport=transport,
        state=_read(port / "state").partition(":")[2].strip() or "unknown",
        interfaces=_interfaces(root, device, port, transport),
        gid_types=frozenset(
            kind for each in _entries(port / "gid_attrs/types") if (kind := _read(each)).startswith("RoCE")
        ),
        # Only rxe has the attribute `parent` (drivers/infiniband/sw/rxe/rxe_verbs.c), and siw says what it is.
        software=(device / "parent").exists() or _read(device / "node_desc") == "Software iWARP stack",
    )


def _transport(device: Path, port: Path) -> RdmaTransport:
    """drivers/infiniband/core/sysfs.c: node_type is `1: CA` or, for iWARP alone, `4: RNIC`."""
    if _read(device / "node_type").startswith("4"):
        return RdmaTransport.IWARP
    return RdmaTransport.INFINIBAND if _read(port / "link_layer") == "InfiniBand" else RdmaTransport.ROCE


def _interfaces(root: Path, device: Path, port: Path, transport: RdmaTransport) -> tuple[str, ...]:
    """By the kernel's table of GIDs; else by the device's card, or for iWARP by the MAC address that is its GID."""
    by_gid = [_read(each) for each in _entries(port / "gid_attrs/ndevs")]
    found = [name for name in by_gid if name]
    if not found and transport is RdmaTransport.IWARP:
        found = list(_interfaces_of_gid(root, _read(port / "gids/0")))
    if not found and transport is not RdmaTransport.IWARP:
        found = [each.name for each in _entries(device / "device/net") if _same_port(each, port)]
    return tuple(dict.fromkeys(found))


def _interfaces_of_gid(root: Path, gid: str) -> Iterator[str]:
    digits = gid.replace(":", "")[:12]
    if not digits.strip("0"):
        return
    for interface in _entries(root / "sys/class/net"):
        if _read(interface / "address").replace(":", "") == digits:
            yield interface.name


def _same_port(interface: Path, port: Path) -> bool:
    """A card with two ports has two interfaces; dev_port counts from 0."""
    number = _read(interface / "dev_port")
    return not number.isdigit() or int(number) + 1 == int(port.name)


def _entries(directory: Path) -> list[Path]:
    try:
        found = list(directory.iterdir())
    except OSError:
        return []
    return sorted(found, key=lambda each: _natural(each.name))


def _natural(name: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name) if part]


def _read(path: Path) -> str:
    """Empty entries of the table of GIDs answer EINVAL."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


# rtnetlink(7): struct nlmsghdr, struct ifaddrmsg, struct rtattr.
_HEADER: Final = struct.Struct("=IHHII")
_ADDRESS: Final = struct.Struct("=BBBBI")
_ATTRIBUTE: Final = struct.Struct("=HH")
_RTM_GETADDR: Final = 22
_NLM_F_REQUEST_DUMP: Final = 0x301
_NLMSG_ERROR: Final = 2
_NLMSG_DONE: Final = 3
_IFA_ADDRESS: Final = 1
_IFA_LOCAL: Final = 2
_REPLY_BYTES: Final = 64 * 1024
_ANSWER_SECONDS: Final = 5.0


def interface_addresses() -> Addresses:
    """The addresses of this machine's network interfaces, by rtnetlink.

    Raises UnavailableError when the kernel does not tell.
    """
    found: dict[str, list[IPAddress]] = {name: [] for _, name in socket.if_nameindex()}
    try:
        for index, address in _dump_addresses():
            found.setdefault(socket.if_indextoname(index), []).append(address)
    except OSError as error:
        reason = error.strerror or str(error)
        raise UnavailableError(f"the kernel does not tell this machine's addresses: {reason}") from error
    return {name: tuple(addresses) for name, addresses in found.items()}


def _dump_addresses() -> Iterator[tuple[int, IPAddress]]:
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as kernel:
        kernel.settimeout(_ANSWER_SECONDS)
        size = _HEADER.size + _ADDRESS.size
        request = _HEADER.pack(size, _RTM_GETADDR, _NLM_F_REQUEST_DUMP, 1, 0)
        kernel.send(request + _ADDRESS.pack(socket.AF_UNSPEC, 0, 0, 0, 0))
        while True:
            reply = memoryview(kernel.recv(_REPLY_BYTES))
            while len(reply) >= _HEADER.size:
                length, kind, _, _, _ = _HEADER.unpack_from(reply)
                if kind == _NLMSG_DONE:
                    return
                if kind == _NLMSG_ERROR or length < size:
                    raise OSError(errno.EPROTO, os.strerror(errno.EPROTO))
                body = reply[_HEADER.size : length]
                _, _, _, _, index = _ADDRESS.unpack_from(body)
                if (address := _address_in(body[_ADDRESS.size :])) is not None:
                    yield index, address
                reply = reply[_aligned(length) :]


def _address_in(attributes: memoryview) -> IPAddress | None:
    """The interface's own: of a point-to-point link IFA_ADDRESS is the other end's and IFA_LOCAL its own."""
    found: dict[int, bytes] = {}
    while len(attributes) >= _ATTRIBUTE.size:
        length, kind = _ATTRIBUTE.unpack_from(attributes)
        if length < _ATTRIBUTE.size:
            break
        found[kind] = bytes(attributes[_ATTRIBUTE.size : length])
        attributes = attributes[_aligned(length) :]
    packed = found.get(_IFA_LOCAL, found.get(_IFA_ADDRESS))
    return ipaddress.ip_address(packed) if packed is not None else None


def _aligned(length: int) -> int:
    return (length + 3) & ~3
