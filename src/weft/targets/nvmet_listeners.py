"""By which portals nvmet can be heard over RDMA.

nvmet-rdma stops listening when the RDMA device of a port goes, as it does when a driver is loaded anew, and does not
begin again when the device comes back; configfs shows no difference (drivers/nvme/target/rdma.c,
nvmet_rdma_device_removal).
"""

import ipaddress
import logging
from typing import Final, Protocol

import msgspec

from weft.connection import NvmeofPortal
from weft.errors import WeftError
from weft.model import Transport
from weft.run import run

_log = logging.getLogger(__name__)

_SECONDS: Final = 10.0


class Listeners(Protocol):
    def deaf(self, portals: frozenset[NvmeofPortal]) -> frozenset[NvmeofPortal]:
        """Those of nvmet's open portals at which it is known to listen no more."""


class _Identifier(msgspec.Struct, frozen=True):
    """What `rdma -j resource show cm_id` tells of one; those of user space have a pid beside comm."""

    state: str = ""
    comm: str = ""
    source: str = msgspec.field(name="src-addr", default="")

    def endpoint(self) -> tuple[str, str]:
        """Without the brackets and the zone that an IPv6 address may have."""
        address, _, port = self.source.rpartition(":")
        return str(ipaddress.ip_address(address.strip("[]").partition("%")[0])), port


class RdmaListeners:
    """By the identifiers of the kernel's RDMA connection manager. Where they cannot be read no portal is called deaf."""

    def __init__(self) -> None:
        self._said = ""

    def deaf(self, portals: frozenset[NvmeofPortal]) -> frozenset[NvmeofPortal]:
        asked = {each for each in portals if each.transport is Transport.RDMA}
        if not asked:
            return frozenset()
        try:
            heard = listening_in(run(["rdma", "-j", "resource", "show", "cm_id"], timeout=_SECONDS).stdout)
        except (WeftError, ValueError) as error:
            if str(error) != self._said:
                self._said = str(error)
                _log.warning("whether nvmet listens over RDMA cannot be found out: %s", error)
            return frozenset()
        return frozenset(each for each in asked if _endpoint(each) not in heard)


def listening_in(report: str) -> set[tuple[str, str]]:
    """Addresses and ports where nvmet-rdma listens, by what `rdma -j resource show cm_id` printed.

    Raises ValueError when it is not to be understood.
    """
    found = msgspec.json.decode(report.strip() or "[]", type=list[_Identifier])
    return {each.endpoint() for each in found if each.state == "LISTEN" and "nvmet_rdma" in each.comm}


def _endpoint(portal: NvmeofPortal) -> tuple[str, str]:
    return str(ipaddress.ip_address(portal.address.partition("%")[0])), str(portal.port)
