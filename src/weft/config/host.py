"""The section `host`: who this host is, and how it attaches."""

from enum import StrEnum

from weft.config.section import Section, check_range
from weft.errors import InvalidValueError
from weft.model import Transport
from weft.names import check_id, check_nqn


class ConnectorKind(StrEnum):
    """Whose NVMe-oF host attaches: the kernel's, weft's own (FUSE), or the kernel's where there is one."""

    AUTO = "auto"
    KERNEL = "kernel"
    EMBEDDED = "embedded"


class HostSection(Section, frozen=True):
    """`nqn` and `id`: this host's identity, made once when they are not given. Times in seconds.

    `transport`: the only one to connect by; empty: the best that this host and the portals have. `io_queues`: for
    each controller; 0: as many as the kernel sees fit.
    """

    connector: ConnectorKind = ConnectorKind.AUTO
    nqn: str = ""
    id: str = ""
    transport: str = ""
    io_queues: int = 0
    reconnect_delay: float = 1.0
    controller_loss_timeout: float = 3600.0
    keep_alive: float = 5.0


def check_host(host: HostSection) -> None:
    if host.transport not in {"", *Transport}:
        raise InvalidValueError(
            "host.transport",
            f"{host.transport!r} is none of {', '.join(Transport)}; empty: the best there is",
        )
    check_range("host.io_queues", host.io_queues, 0, 1024)
    if host.nqn:
        check_nqn("host.nqn", host.nqn)
    if bool(host.nqn) != bool(host.id):
        raise InvalidValueError("host.id", "host.nqn and host.id belong together: give both or neither")
    if host.id:
        check_id("host.id", host.id)
    check_range("host.reconnect_delay", host.reconnect_delay, 0.1, 3600)
    check_range("host.controller_loss_timeout", host.controller_loss_timeout, -1, 10**9)
    check_range("host.keep_alive", host.keep_alive, 1, 3600)
