"""The addresses that the target listens on: bound as soon as that is possible, and accepted from by one thread."""

import errno
import logging
import select
import socket
import threading
import time
from collections.abc import Callable, Sequence
from typing import Final

from weft.connection import NvmeofPortal
from weft.embedded.target.control import PortalStatus
from weft.embedded.target.wake import Wake
from weft.model import AddressFamily

_log = logging.getLogger(__name__)

_BACKLOG: Final = 512
_FIRST_RETRY: Final = 0.1
_LAST_RETRY: Final = 5.0
_PAUSE_WITHOUT_DESCRIPTORS: Final = 0.1
_OUT_OF_RESOURCES: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


class _Listener:
    def __init__(self, portal: NvmeofPortal) -> None:
        self.portal = portal
        self.socket: socket.socket | None = None
        self.reason = "it was not tried yet"
        self.retry_after = _FIRST_RETRY
        self.retry_at = 0.0

    def bind(self) -> bool:
        """Try to listen; whether that is possible."""
        family = socket.AF_INET6 if self.portal.family is AddressFamily.IPV6 else socket.AF_INET
        try:
            listening = socket.socket(family, socket.SOCK_STREAM)
        except OSError as error:
            return self._failed(error)
        try:
            # The port of connections that are still in TIME_WAIT can be taken again after a restart.
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            listening.bind((self.portal.address, self.portal.port))
            listening.listen(_BACKLOG)
            listening.setblocking(False)
        except OSError as error:
            listening.close()
            return self._failed(error)
        self.socket = listening
        _log.info("listening on %s", self.portal)
        return True

    def _failed(self, error: OSError) -> bool:
        reason = error.strerror or str(error)
        if reason != self.reason:
            _log.warning("cannot listen on %s, and will try again: %s", self.portal, reason)
        self.reason = reason
        self.retry_at = time.monotonic() + self.retry_after
        self.retry_after = min(self.retry_after * 2, _LAST_RETRY)
        return False


class Portals:
    """Listens on portals and hands every connection, with the portal it came by, to accepted.

    changed is called when a portal that could not be bound before is bound.
    """

    def __init__(
        self,
        portals: Sequence[NvmeofPortal],
        accepted: Callable[[socket.socket, NvmeofPortal], None],
        changed: Callable[[], None],
    ) -> None:
        self._listeners = [_Listener(portal) for portal in portals]
        self._accepted = accepted
        self._changed = changed
        self._wake = Wake()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="portals")

    @property
    def bound(self) -> tuple[NvmeofPortal, ...]:
        return tuple(each.portal for each in self._listeners if each.socket)

    def status(self) -> tuple[PortalStatus, ...]:
        return tuple(
            PortalStatus(
                portal=str(each.portal),
                bound=each.socket is not None,
                reason="" if each.socket else each.reason,
            )
            for each in self._listeners
        )

    def start(self) -> None:
        """Bind what can be bound now, and start to accept."""
        for listener in self._listeners:
            listener.bind()
        self._thread.start()

    def stop(self) -> None:
        """Stop to listen. Connections that were accepted live on."""
        self._stopping = True
        self._wake.set()
        if self._thread.ident is not None:
            self._thread.join()
        for listener in self._listeners:
            if listener.socket:
                listener.socket.close()
                listener.socket = None
        self._wake.close()

    def _run(self) -> None:
        while not self._stopping:
            poller = select.poll()
            poller.register(self._wake, select.POLLIN)
            for listener in self._listeners:
                if listener.socket:
                    poller.register(listener.socket, select.POLLIN)
            ready = {descriptor for descriptor, _ in poller.poll(self._milliseconds_to_retry())}
            for listener in self._listeners:
                if listener.socket and listener.socket.fileno() in ready:
                    self._accept(listener.socket, listener.portal)
            self._retry()

    def _milliseconds_to_retry(self) -> float | None:
        waiting = [each.retry_at for each in self._listeners if each.socket is None]
        return max(0.0, min(waiting) - time.monotonic()) * 1000 if waiting else None

    def _retry(self) -> None:
        now = time.monotonic()
        for listener in self._listeners:
            if listener.socket is None and listener.retry_at <= now and listener.bind():
                self._changed()

    def _accept(self, listening: socket.socket, portal: NvmeofPortal) -> None:
        try:
            connection, _ = listening.accept()
        except OSError as error:
            if error.errno in _OUT_OF_RESOURCES:
                _log.error("a connection to %s cannot be accepted now: %s", portal, error.strerror)
                time.sleep(_PAUSE_WITHOUT_DESCRIPTORS)
            return
        self._accepted(connection, portal)
