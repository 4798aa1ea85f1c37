"""All connections of hosts: how many there may be, and their end."""

import collections
import logging
import socket
import threading
import time
from collections.abc import Callable
from typing import Final

from weft.connection import NvmeofPortal
from weft.embedded.target.queue_pair import Connector, QueuePair
from weft.embedded.target.settings import Limits

_log = logging.getLogger(__name__)

_QUIET_SECONDS: Final = 1.0
_ROOM_SECONDS: Final = 1.0
_STRANGERS_SHARE: Final = 4
"""One in so many connections may be of somebody who has not been let in yet."""


class Connections:
    """Starts a QueuePair for every accepted socket, up to a maximum. Owns their threads.

    Those that have not connected, or not authenticated though they must, have a share of the maximum; when it is used
    up the one that has waited longest makes room for the next, so that strangers cannot keep hosts out.
    """

    def __init__(self, maximum: int, connect: Connector, limits: Limits) -> None:
        self._maximum = maximum
        self._connect = connect
        self._limits = limits
        self._lock = threading.Lock()
        self._strangers = max(1, maximum // _STRANGERS_SHARE)
        self._pairs: dict[QueuePair, None] = {}
        self._stopping = False
        self._refused = 0
        self._quiet_until = 0.0

    def accept(self, connection: socket.socket, portal: NvmeofPortal) -> None:
        """Serve a connection, or close it at once if there are too many."""
        self._make_room()
        with self._lock:
            full = len(self._pairs) >= self._maximum
            if not (full or self._stopping):
                try:
                    pair = QueuePair(
                        connection, portal, connect=self._connect, ended=self._forget, limits=self._limits
                    )
                    pair.start()
                except (OSError, RuntimeError) as error:  # out of descriptors, out of threads
                    _log.error("a connection to %s cannot be served: %s", portal, error)
                else:
                    self._pairs[pair] = None
                    return
        if full:
            self._log_refusal(portal)
        connection.close()

    def _make_room(self) -> None:
        with self._lock:
            strangers = [each for each in self._pairs if not each.let_in]
            full = len(self._pairs) >= self._maximum
        surplus = strangers[: max(0, len(strangers) - self._strangers + 1)]
        for each in surplus:
            each.stop()
        if full and surplus:
            surplus[0].join(_ROOM_SECONDS)

    def by_host(self) -> dict[str, int]:
        """How many connections each host NQN has."""
        with self._lock:
            return dict(
                collections.Counter(each.host_nqn for each in self._pairs if each.host_nqn and each.let_in)
            )

    def stop(self, timeout: float) -> bool:
        """Let every connection finish what it is carrying out, and wait; whether all ended within timeout seconds."""
        with self._lock:
            self._stopping = True
            pairs = list(self._pairs)
        return self._end(pairs, QueuePair.finish, timeout / 2) or self._end(
            pairs, QueuePair.stop, timeout / 2
        )

    @staticmethod
    def _end(pairs: list[QueuePair], how: Callable[[QueuePair], None], timeout: float) -> bool:
        for pair in pairs:
            how(pair)
        deadline = time.monotonic() + timeout
        return all([pair.join(deadline - time.monotonic()) for pair in pairs])  # noqa: C419 -- join each of them

    def _forget(self, pair: QueuePair) -> None:
        with self._lock:
            self._pairs.pop(pair, None)

    def _log_refusal(self, portal: NvmeofPortal) -> None:
        """One line a second says enough to a person, and does not fill the disk."""
        self._refused += 1
        now = time.monotonic()
        if now >= self._quiet_until:
            _log.warning(
                "%d connections to %s were closed: there are %d, and no more are allowed",
                self._refused,
                portal,
                self._maximum,
            )
            self._refused, self._quiet_until = 0, now + _QUIET_SECONDS
