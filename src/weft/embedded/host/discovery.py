"""Asking a discovery controller which subsystems this host may use (Base Specification 2.0, 3.1.2.3 and 5.16.1.23)."""

import time
from typing import Final

from weft.connection import NvmeofPortal
from weft.embedded.host.exchange import Exchange
from weft.embedded.host.queue_pair import ConnectionLostError, SilenceError
from weft.embedded.host.statuses import command_error, connect_error
from weft.errors import PermissionDeniedError, UnavailableError
from weft.model import HostIdentity
from weft.nvme.admin import GetLogPage
from weft.nvme.command import Command
from weft.nvme.events import CommandCompleted
from weft.nvme.fabrics import AUTHREQ_ASCR, AUTHREQ_ATR, Connect, ConnectData, PropertyGet, PropertySet
from weft.nvme.logpage import (
    DISCOVERY_ENTRY_SIZE,
    DISCOVERY_HEADER_SIZE,
    DiscoveryEntry,
    DiscoveryLog,
    LogPageId,
    decode_discovery_header,
)
from weft.nvme.properties import ControllerConfiguration, ControllerStatus, Property

DISCOVERY_NQN: Final = "nqn.2014-08.org.nvmexpress.discovery"

_QUEUE_SIZE: Final = 32
_ENTRIES_PER_READ: Final = 63
"""With the header 64 KiB, which every transfer limit allows."""
_MAXIMUM_ENTRIES: Final = 65536
_TRIES: Final = 5
_POLL: Final = 0.02


def discover(portal: NvmeofPortal, identity: HostIdentity, timeout: float = 10.0) -> list[DiscoveryEntry]:
    """The entries of the discovery log, as they stood at one moment.

    Raises UnavailableError when the portal cannot be reached or did not answer within timeout seconds, and
    PermissionDeniedError when this host is not let in.
    """
    deadline = time.monotonic() + timeout
    exchange = Exchange(portal, _Listener(), timeout)
    try:
        client = _Client(exchange, identity, portal, deadline)
        client.connect()
        for _ in range(_TRIES):
            entries = client.read()
            if entries is not None:
                return entries
        raise UnavailableError(f"the discovery log of {portal} changes faster than it can be read")
    finally:
        exchange.queue_pair.close()


class _Client:
    def __init__(
        self, exchange: Exchange, identity: HostIdentity, portal: NvmeofPortal, deadline: float
    ) -> None:
        self._exchange = exchange
        self._identity = identity
        self._portal = portal
        self._deadline = deadline

    def connect(self) -> None:
        data = ConnectData(
            hostid=self._identity.hostid, subnqn=DISCOVERY_NQN, hostnqn=self._identity.nqn
        ).encode()
        command = Connect(qid=0, sqsize=_QUEUE_SIZE - 1)
        completion = self._exchange.execute(command, self._left(), data=data)
        if not completion.status.ok:
            raise connect_error(completion, DISCOVERY_NQN, self._identity.nqn)
        if completion.result & (AUTHREQ_ATR | AUTHREQ_ASCR):
            raise PermissionDeniedError(
                f"{self._portal} wants {self._identity.nqn} to authenticate even for discovery, which weft cannot do"
            )
        enable = ControllerConfiguration(enable=True).encode()
        self._expect(PropertySet(offset=Property.CC, value=enable))
        while not self._status().ready:
            time.sleep(_POLL)

    def read(self) -> list[DiscoveryEntry] | None:
        """The whole log; None if it changed meanwhile."""
        genctr, count = self._header()
        entries: list[DiscoveryEntry] = []
        if count > _MAXIMUM_ENTRIES:
            raise UnavailableError(f"the discovery log of {self._portal} claims to have {count} entries")
        while len(entries) < count:
            wanted = min(count - len(entries), _ENTRIES_PER_READ)
            offset = DISCOVERY_HEADER_SIZE + len(entries) * DISCOVERY_ENTRY_SIZE
            page = self._log(offset, wanted * DISCOVERY_ENTRY_SIZE)
            header = genctr.to_bytes(8, "little") + wanted.to_bytes(8, "little")
            entries += DiscoveryLog.decode(header.ljust(DISCOVERY_HEADER_SIZE, b"\0") + page).entries
        return entries if self._header()[0] == genctr else None

    def _header(self) -> tuple[int, int]:
        return decode_discovery_header(self._log(0, DISCOVERY_HEADER_SIZE))

    def _log(self, offset: int, length: int) -> bytearray:
        page = bytearray(length)
        self._expect(GetLogPage(lid=LogPageId.DISCOVERY, offset=offset, length=length), into=page)
        return page

    def _status(self) -> ControllerStatus:
        return ControllerStatus.decode(self._expect(PropertyGet(offset=Property.CSTS)).result)

    def _expect(self, command: Command, *, into: bytearray | None = None) -> CommandCompleted:
        completion = self._exchange.execute(command, self._left(), into=b"" if into is None else into)
        if not completion.status.ok:
            raise command_error(command, completion.status)
        return completion

    def _left(self) -> float:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise SilenceError(f"{self._portal} did not tell its discovery log in time")
        return left


class _Listener:
    def completed(self, completion: CommandCompleted) -> None:
        """Nothing but what is waited for is ever sent."""

    def lost(self, error: ConnectionLostError) -> None:
        """Who waits is told by the exchange."""
