"""By which of a volume's portals this host connects, and in which order."""

import errno
import os
import selectors
import socket
import time
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Final

from weft.connection import NvmeofConnection, NvmeofPortal
from weft.errors import UnsupportedError
from weft.model import Transport
from weft.rdma import rdma_links

_BEST_FIRST: Final = (Transport.LOOP, Transport.RDMA, Transport.TCP)


def spoken_transports(connection: NvmeofConnection, root: Path = Path("/")) -> frozenset[Transport]:
    """What this host can speak to the volume's subsystem: tcp; rdma with an active link; loop within the node.

    The node is this machine when its own nvmet holds the subsystem at a port of the loop transport.
    """
    spoken = {Transport.TCP}
    if any(link.active for link in rdma_links(root)):
        spoken.add(Transport.RDMA)
    if _is_looped(connection.nqn, root / "sys/kernel/config/nvmet/ports"):
        spoken.add(Transport.LOOP)
    return frozenset(spoken)


def choose_portals(
    connection: NvmeofConnection, spoken: Collection[Transport], told: str = ""
) -> tuple[NvmeofPortal, ...]:
    """The portals that are to become paths, the best first: loop alone; else rdma, then tcp.

    told: the one transport to use whatever this host seems to speak; empty for the best. Raises UnsupportedError
    when no portal is left.
    """
    wanted = [Transport(told)] if told else [each for each in _BEST_FIRST if each in spoken]
    ordered = [
        portal
        for transport in wanted
        for portal in dict.fromkeys(connection.portals)
        if portal.transport is transport
    ]
    if not ordered:
        offered = ", ".join(map(str, connection.portals)) or "no portal"
        raise UnsupportedError(
            f"volume {connection.volume_id} is offered at {offered}, and this host "
            + (f"is told to use {told} (host.transport)" if told else _lacking(connection.portals))
        )
    if ordered[0].transport is Transport.LOOP:
        return (ordered[0],)
    return tuple(ordered)


def reachable(portals: Sequence[NvmeofPortal], timeout: float) -> tuple[NvmeofPortal, ...]:
    """Those of the tcp portals which take a connection within timeout seconds, and all others, in the same order.

    The kernel makes one controller at a time and waits for some seconds at a dead portal: nobody on this machine
    could attach anything meanwhile.
    """
    silent: set[NvmeofPortal] = set()
    with selectors.DefaultSelector() as selector:
        try:
            for portal in portals:
                if portal.transport is Transport.TCP:
                    opened = _begin(portal)
                    if opened is None:
                        silent.add(portal)
                    else:
                        selector.register(opened, selectors.EVENT_WRITE, portal)
            silent |= _silent(selector, time.monotonic() + timeout)
        finally:
            for key in list(selector.get_map().values()):
                _socket(key).close()
    return tuple(portal for portal in portals if portal not in silent)


def _silent(selector: selectors.BaseSelector, deadline: float) -> set[NvmeofPortal]:
    waited_for = {key.data for key in selector.get_map().values()}
    answered: set[NvmeofPortal] = set()
    failed: set[NvmeofPortal] = set()
    while waited_for - answered - failed and (left := deadline - time.monotonic()) > 0:
        for key, _ in selector.select(left):
            opened = _socket(key)
            good = opened.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
            (answered if good else failed).add(key.data)
            selector.unregister(opened)
            opened.close()
    return waited_for - answered


def _begin(portal: NvmeofPortal) -> socket.socket | None:
    """A connection that is being made; None when the kernel knows no way there."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            portal.address, portal.port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST
        )[0]
        opened = socket.socket(family, kind, protocol)
    except OSError:
        return None
    opened.setblocking(False)
    if opened.connect_ex(address) not in {0, errno.EINPROGRESS}:
        opened.close()
        return None
    return opened


def _socket(key: selectors.SelectorKey) -> socket.socket:
    assert isinstance(key.fileobj, socket.socket)  # noqa: S101 -- nothing else is registered
    return key.fileobj


def _is_looped(nqn: str, ports: Path) -> bool:
    try:
        names = os.listdir(ports)  # noqa: PTH208 -- names are all that is wanted
    except OSError:
        return False
    return any((ports / name / "subsystems" / nqn).exists() and _is_loop(ports / name) for name in names)


def _is_loop(port: Path) -> bool:
    try:
        return port.joinpath("addr_trtype").read_text(encoding="ascii").strip() == Transport.LOOP
    except OSError:
        return False


def _lacking(portals: Iterable[NvmeofPortal]) -> str:
    lacks = {
        Transport.RDMA: "has no active RDMA link (see `rdma link`)",
        Transport.LOOP: "is not the storage node that loop leads to",
    }
    found = {portal.transport for portal in portals}
    return (
        " and ".join(text for transport, text in lacks.items() if transport in found)
        or "speaks none of these"
    )
