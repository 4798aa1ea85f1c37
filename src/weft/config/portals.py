"""Portals as they are written: `address:port` and the like, or a table with options."""

import re

from weft.config.section import Section, check_range
from weft.connection import LOOP_PORTAL, NvmeofPortal
from weft.errors import InvalidValueError
from weft.model import Transport
from weft.names import NVMEOF_PORT, check_address, check_port


class PortalSection(Section, frozen=True):
    """A portal with options of its own, kernel target only; 0 stands for the kernel's default.

    `inline_data_size`: bytes that a host may send with a command (nvmet's param_inline_data_size).
    `max_queue_size`: entries of a queue (nvmet's param_max_queue_size, from Linux 6.9).
    """

    address: str = ""
    port: int = NVMEOF_PORT
    transport: Transport = Transport.TCP
    inline_data_size: int = 0
    max_queue_size: int = 0


def parse_portal(field: str, value: str) -> NvmeofPortal:
    """What str(NvmeofPortal) writes: `address:port` for tcp, `rdma://address:port`, `loop`.

    An IPv6 address is in brackets; without a port it is the registered one, 4420.
    """
    if value == Transport.LOOP.value:
        return LOOP_PORTAL
    matched = re.fullmatch(
        r"(?:(?P<transport>tcp|rdma)://)?(?:\[(?P<v6>[^\]]+)\]|(?P<v4>[^:/\[\]]+))(?::(?P<port>\d+))?", value
    )
    if matched is None:
        raise InvalidValueError(
            field,
            f"{value!r} is not address:port, such as 192.0.2.1:4420, [2001:db8::1]:4420 or rdma://192.0.2.1:4420",
        )
    return NvmeofPortal(
        transport=Transport(matched["transport"] or Transport.TCP),
        address=check_address(field, matched["v6"] or matched["v4"]),
        port=check_port(field, matched["port"] or NVMEOF_PORT),
    )


def portal_of(written: str | PortalSection) -> NvmeofPortal:
    """What an entry of `target.portals` stands for."""
    if isinstance(written, str):
        return parse_portal("target.portals", written)
    if written.transport is Transport.LOOP:
        return LOOP_PORTAL
    return NvmeofPortal(
        transport=written.transport,
        address=check_address("target.portals.address", written.address),
        port=check_port("target.portals.port", written.port),
    )


def options_of(written: str | PortalSection) -> PortalSection:
    """The entry's own options, or the kernel's defaults."""
    return written if isinstance(written, PortalSection) else PortalSection()


def check_portal_options(options: PortalSection) -> None:
    """From 1: nvmet takes no connection with an inline data size of 0, which here stands for its default."""
    check_range("target.portals.inline_data_size", options.inline_data_size, 0, 16384)
    check_range("target.portals.max_queue_size", options.max_queue_size, 0, 1024)
    if 0 < options.max_queue_size < 16:
        raise InvalidValueError("target.portals.max_queue_size", f"{options.max_queue_size} is less than 16")
