"""The discovery subsystem, the same on every portal: tells each host what it may use, and no more."""

import ipaddress
import threading
import time
from collections.abc import Callable, Sequence
from typing import Final

from weft import __version__
from weft.connection import NvmeofPortal
from weft.embedded.target.admin_queue import ABORT_LIMIT, EVENT_REQUEST_LIMIT, TRANSFER_PAGES_LOG2, VERSION
from weft.embedded.target.controller import MAXIMUM_QUEUE_ENTRIES, Controller, Controllers
from weft.embedded.target.nvm_pages import CTRATT, KEEP_ALIVE_GRANULARITY, MODEL_NUMBER
from weft.embedded.target.subsystem import SubsystemTable
from weft.model import AddressFamily
from weft.nvme import logpage
from weft.nvme.admin import GetLogPage, Identify
from weft.nvme.async_event import DISCOVERY_LOG_CHANGED
from weft.nvme.identify import Cns, ControllerType, IdentifyController, Oaes
from weft.nvme.logpage import DiscoveryEntry, DiscoveryLog, LogPageId, encode_supported_log_pages
from weft.nvme.status import StatusCode

DISCOVERY_NQN: Final = "nqn.2014-08.org.nvmexpress.discovery"

_FAMILIES: Final = {
    AddressFamily.IPV4: logpage.AddressFamily.IPV4,
    AddressFamily.IPV6: logpage.AddressFamily.IPV6,
}
_EXTENDED_LOG_DATA: Final = 1 << 2
_ADMIN_QUEUE_ENTRIES: Final = 32


class Discovery:
    """Makes discovery log pages. Safe to use from any thread."""

    def __init__(self, subsystems: SubsystemTable, portals: Callable[[], Sequence[NvmeofPortal]]) -> None:
        """portals: those that are bound now."""
        self.controllers = Controllers()
        self._subsystems = subsystems
        self._portals = portals
        self._lock = threading.Lock()
        # Larger than in any life of this target before, so that a host sees a restart as a change.
        self._generation = time.time_ns() // 1_000_000

    def changed(self) -> None:
        """Some host's log page is another one now: those that listen are told to read it again."""
        with self._lock:
            self._generation += 1
        for controller in self.controllers.all():
            controller.notify()

    def log_for(self, host_nqn: str, local_address: str) -> bytes:
        """The log page of a host that is connected to local_address."""
        with self._lock:
            generation = self._generation
        ways = list(enumerate(self._portals(), start=1))
        entries = [
            DiscoveryEntry(
                adrfam=_FAMILIES[portal.family],
                portid=port_id,
                asqsz=_ADMIN_QUEUE_ENTRIES,
                trsvcid=str(portal.port),
                subnqn=subsystem.nqn,
                traddr=_reachable(portal.address, local_address),
            )
            for subsystem in self._subsystems.all()
            if subsystem.allows(host_nqn)
            for port_id, portal in ways
        ]
        return DiscoveryLog(genctr=generation, entries=entries).encode()


class DiscoveryPages:
    """The Pages of a discovery controller."""

    notice = DISCOVERY_LOG_CHANGED
    notice_bit = Oaes.DISCOVERY_LOG_PAGE
    has_io_queues = False

    def __init__(self, discovery: Discovery, controller: Controller, local_address: str) -> None:
        self._discovery = discovery
        self._controller = controller
        self._local_address = local_address

    def identify(self, command: Identify) -> bytes | StatusCode:
        if command.cns != Cns.CONTROLLER:
            return StatusCode.INVALID_FIELD_IN_COMMAND
        return IdentifyController(
            mn=MODEL_NUMBER,
            fr=__version__[:8],
            mdts=TRANSFER_PAGES_LOG2,
            cntlid=self._controller.cntlid,
            ver=VERSION,
            oaes=Oaes.DISCOVERY_LOG_PAGE,
            ctratt=CTRATT,
            cntrltype=ControllerType.DISCOVERY,
            acl=ABORT_LIMIT - 1,
            aerl=EVENT_REQUEST_LIMIT - 1,
            lpa=_EXTENDED_LOG_DATA,
            kas=KEEP_ALIVE_GRANULARITY,
            maxcmd=MAXIMUM_QUEUE_ENTRIES,
            subnqn=DISCOVERY_NQN,
        ).encode()

    def log_page(self, command: GetLogPage) -> bytes | StatusCode:
        match command.lid:
            case LogPageId.SUPPORTED_LOG_PAGES:
                return encode_supported_log_pages((LogPageId.SUPPORTED_LOG_PAGES, LogPageId.DISCOVERY))
            case LogPageId.DISCOVERY:
                self._controller.read_log(retain=command.rae)
                return self._discovery.log_for(self._controller.host_nqn, self._local_address)
        return StatusCode.INVALID_LOG_PAGE

    def shut_down(self) -> None:
        """Nothing is written through discovery."""


def _reachable(address: str, local_address: str) -> str:
    """A portal on every address is reached under the one that the host has used."""
    return local_address if ipaddress.ip_address(address).is_unspecified else address
