"""The section `target`: whose NVMe-oF target serves, where it listens and how much it takes on."""

import ipaddress
from collections.abc import Sequence
from enum import StrEnum

from weft.config.portals import PortalSection, check_portal_options, options_of, portal_of
from weft.config.section import Section, check_range
from weft.connection import NvmeofPortal
from weft.errors import InvalidValueError
from weft.model import Transport
from weft.names import DEFAULT_NQN_PREFIX, NVMEOF_PORT, check_nqn, new_id


class TargetKind(StrEnum):
    """Whose NVMe-oF target serves: the kernel's (nvmet), weft's own, or the kernel's where there is one."""

    AUTO = "auto"
    NVMET = "nvmet"
    EMBEDDED = "embedded"


class TargetSection(Section, frozen=True):
    """`portals`: where the target listens. Times in seconds.

    `restore_seconds`: for how long, after a restart of the machine, the kernel's target waits for all volumes to be
    there before it lets hosts connect again.
    """

    kind: TargetKind = TargetKind.AUTO
    portals: tuple[str | PortalSection, ...] = (f"127.0.0.1:{NVMEOF_PORT}",)
    restore_seconds: float = 120.0
    nqn_prefix: str = DEFAULT_NQN_PREFIX
    allow_any_host: bool = False
    snapshot_hold_seconds: float = 20.0
    max_connections: int = 1024
    max_io_queues: int = 8


def check_target(target: TargetSection) -> None:
    if not target.portals:
        raise InvalidValueError("target.portals", "must name at least one address:port")
    portals = [portal_of(each) for each in target.portals]
    if len({(portal.transport is Transport.RDMA, portal.endpoint) for portal in portals}) != len(portals):
        raise InvalidValueError("target.portals", "names the same address and port twice")
    if target.kind is TargetKind.EMBEDDED:
        check_embedded_portals(portals)
    for each in target.portals:
        check_portal_options(options_of(each))
    for portal in portals:
        if portal.transport is not Transport.LOOP and ipaddress.ip_address(portal.address).is_unspecified:
            raise InvalidValueError(
                "target.portals", f"{portal} stands for any address; name those that hosts are to connect to"
            )
    if ":" not in target.nqn_prefix:
        raise InvalidValueError(
            "target.nqn_prefix", f"{target.nqn_prefix!r} has no colon before the volume id"
        )
    check_nqn("target.nqn_prefix", target.nqn_prefix + new_id())
    check_range("target.snapshot_hold_seconds", target.snapshot_hold_seconds, 0.1, 3600)
    check_range("target.restore_seconds", target.restore_seconds, 0, 3600)
    check_range("target.max_connections", target.max_connections, 2, 65536)
    check_range("target.max_io_queues", target.max_io_queues, 1, 128)


def check_embedded_portals(portals: Sequence[NvmeofPortal]) -> None:
    """Raises InvalidValueError for a portal that the embedded target cannot serve."""
    for portal in portals:
        if portal.transport is not Transport.TCP:
            raise InvalidValueError(
                "target.portals",
                f"{portal}: the embedded target serves tcp alone; the kernel's serves rdma and loop",
            )
