"""Telling the kernel that a dead node cannot be reached over RDMA, so that nobody waits for its tries to.

A try to connect over RDMA lasts more than a minute when nobody answers, nothing ends it, and a controller that tries is
deleted only afterwards. But RDMA's connection manager calls a peer unreachable at once when its link address changes
(drivers/infiniband/core/cma.c, cma_netevent_callback, from Linux 6.0 on; for peers on the same Ethernet).
"""

import contextlib
import threading
from collections.abc import Collection, Iterator
from itertools import cycle
from typing import Final

import msgspec

from weft.errors import WeftError
from weft.run import run

_SECONDS: Final = 5.0
_AGAIN_SECONDS: Final = 1.0
_NOBODYS: Final = ("02:00:00:00:00:01", "02:00:00:00:00:02")
"""Locally administered link addresses. Two, for only a change is told on, and a try may begin after the first."""


class _Route(msgspec.Struct, frozen=True):
    """What `ip -json route get` tells of a way. gateway: empty for a neighbour."""

    dev: str = ""
    gateway: str = ""
    type: str = ""


@contextlib.contextmanager
def called_unreachable(addresses: Collection[str]) -> Iterator[None]:
    """While the context lasts, tries to connect to these neighbours over RDMA end at once. Nobody else reaches them either.

    Addresses behind a router, and all where `ip` cannot be run, are left as they are.
    """
    neighbours = {
        address: interface for address in addresses if (interface := _interface_to(address)) is not None
    }
    end = threading.Event()
    thread = threading.Thread(target=_change, args=(neighbours, end), name="unreachable")
    thread.start()
    try:
        yield
    finally:
        end.set()
        thread.join()
        for address, interface in neighbours.items():
            _ip("neigh", "delete", address, "dev", interface)


def _change(neighbours: dict[str, str], end: threading.Event) -> None:
    for link_address in cycle(_NOBODYS):
        for address, interface in neighbours.items():
            _ip("neigh", "replace", address, "lladdr", link_address, "dev", interface, "nud", "reachable")
        if not neighbours or end.wait(_AGAIN_SECONDS):
            return


def _interface_to(address: str) -> str | None:
    try:
        told = run(["ip", "-json", "route", "get", address], timeout=_SECONDS).stdout
        (route,) = msgspec.json.decode(told, type=list[_Route])
    except (WeftError, ValueError):
        return None
    return None if route.gateway or route.type == "local" else route.dev or None


def _ip(*words: str) -> None:
    with contextlib.suppress(WeftError):
        run(["ip", *words], timeout=_SECONDS)
