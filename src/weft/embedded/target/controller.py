"""A controller: one association between a host and a subsystem, over one admin queue and some I/O queues."""

import random
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from weft.embedded.target.responder import Responder

MAXIMUM_QUEUE_ENTRIES: Final = 128
"""Entries of a queue; CAP.MQES says so, 0-based."""

_LAST_CNTLID: Final = 0xFFEF  # FFF0h and above are reserved (Base 2.0, 5.17.2.1)
_SETTLE_STEP: Final = 0.02


@dataclass(slots=True)
class _Notice:
    """An asynchronous event: told once, and again only after the host has read its log page.

    enabled: the host has asked for it. pending: it is to be told. changed: the log page has something to say.
    """

    enabled: bool = False
    pending: bool = False
    masked: bool = False
    changed: bool = False


class Controller:
    """What is shared between the connections of one association. Safe to use from any thread."""

    def __init__(
        self,
        *,
        cntlid: int,
        host_nqn: str,
        hostid: bytes,
        kato: float,
        io_queues: int,
        admin: Responder,
        forgotten: Callable[["Controller"], None],
    ) -> None:
        """kato: seconds, 0 for none. admin: the connection of queue 0.

        forgotten is called once, after the controller's last connection has closed.
        """
        self.cntlid = cntlid
        self.host_nqn = host_nqn
        self.hostid = hostid
        self.kato = kato
        self.io_queues = io_queues
        self.ready = False
        self.last_command = time.monotonic()
        self._forgotten = forgotten
        self._lock = threading.Lock()
        self._by_qid: dict[int, Responder] = {0: admin}
        self._ended = False
        self._notice = _Notice()

    @property
    def ended(self) -> bool:
        return self._ended

    @property
    def keep_alive_deadline(self) -> float | None:
        """When the host counts as dead unless it sends a command before, in the time of time.monotonic().

        With traffic-based keep alive a host may stay silent for up to two intervals (Base 2.0, 3.9).
        """
        return self.last_command + 2 * self.kato if self.kato else None

    def attach(self, qid: int, responder: Responder) -> bool:
        """Add a connection as I/O queue qid; False if that queue exists or the controller has ended."""
        with self._lock:
            if self._ended or qid in self._by_qid:
                return False
            self._by_qid[qid] = responder
            return True

    def detach(self, qid: int) -> None:
        """The connection of queue qid has closed. With the admin queue the controller ends."""
        with self._lock:
            del self._by_qid[qid]
            self._ended |= qid == 0
            last = self._ended and not self._by_qid
        if last:
            self._forgotten(self)
        elif qid == 0:
            self.end()

    def end(self) -> None:
        """Stop all connections, without waiting for them."""
        with self._lock:
            self._ended = True
            responders = list(self._by_qid.values())
        for responder in responders:
            responder.stop()

    def end_io_queues(self) -> None:
        """Stop the connections of I/O queues, without waiting for them: the host resets the controller."""
        with self._lock:
            responders = [each for qid, each in self._by_qid.items() if qid != 0]
        for responder in responders:
            responder.stop()

    def end_if_host_gone(self) -> None:
        """Stop connections whose host has closed its end, all of them if that is the admin queue."""
        with self._lock:
            gone = {qid: each for qid, each in self._by_qid.items() if each.peer_gone()}
        if 0 in gone:
            self.end()
            return
        for responder in gone.values():
            responder.stop()

    @property
    def winding_up(self) -> bool:
        """Whether a connection is still there that has been stopped, or whose host has closed its end."""
        with self._lock:
            return self._ended or any(each.peer_gone() for each in self._by_qid.values())

    def notify(self) -> None:
        """What the controller's notice is about has changed: tell the host, if it wants to know."""
        with self._lock:
            self._notice.changed = self._notice.pending = True
            admin = self._by_qid.get(0)
        if admin is not None:
            admin.wake()

    def enable_notice(self, *, enabled: bool) -> None:
        with self._lock:
            self._notice.enabled = enabled

    def take_notice(self) -> bool:
        """Whether an Asynchronous Event Request is to be answered now; if so, the caller does that."""
        with self._lock:
            notice = self._notice
            if not (notice.enabled and notice.pending) or notice.masked:
                return False
            notice.pending, notice.masked = False, True
            return True

    def read_log(self, *, retain: bool) -> bool:
        """The host reads the notice's log page: whether it has something to say. Without retain it may be told anew."""
        with self._lock:
            changed = self._notice.changed
            if not retain:
                self._notice.changed = self._notice.pending = self._notice.masked = False
            return changed


class Controllers:
    """The controllers of one subsystem, each under a CNTLID of its own. Safe to use from any thread."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._by_cntlid: dict[int, Controller] = {}
        # Not from 1: a host that still means a controller of this target's last life must not meet a new one.
        self._last = random.randrange(_LAST_CNTLID)  # noqa: S311 -- a number, not a secret

    def create(
        self, *, host_nqn: str, hostid: bytes, kato: float, io_queues: int, admin: Responder
    ) -> Controller:
        """A new controller; see Controller for the arguments."""
        with self._changed:
            controller = Controller(
                cntlid=self._free_cntlid(),
                host_nqn=host_nqn,
                hostid=hostid,
                kato=kato,
                io_queues=io_queues,
                admin=admin,
                forgotten=self._forget,
            )
            self._by_cntlid[controller.cntlid] = controller
            return controller

    def get(self, cntlid: int) -> Controller | None:
        with self._changed:
            return self._by_cntlid.get(cntlid)

    def all(self) -> list[Controller]:
        with self._changed:
            return list(self._by_cntlid.values())

    def end(self, controllers: Iterable[Controller], timeout: float) -> bool:
        """Stop them and wait until all their connections are closed; whether that was within timeout seconds."""
        ending = list(controllers)
        for controller in ending:
            controller.end()
        with self._changed:
            return self._changed.wait_for(
                lambda: not any(self._by_cntlid.get(each.cntlid) is each for each in ending), timeout
            )

    def settle(self, host_nqn: str, timeout: float) -> bool:
        """Let connections that this host has closed come to their end; whether they did within timeout seconds.

        What the host sent on them may still wait in their sockets and must not be carried out after what it sends on
        a new connection.
        """
        deadline = time.monotonic() + timeout
        of_host = [each for each in self.all() if each.host_nqn == host_nqn]
        for controller in of_host:
            controller.end_if_host_gone()
        while any(each.winding_up for each in of_host if self.get(each.cntlid) is each):
            if time.monotonic() >= deadline:
                return False
            with self._changed:
                self._changed.wait(_SETTLE_STEP)
        return True

    def _forget(self, controller: Controller) -> None:
        with self._changed:
            del self._by_cntlid[controller.cntlid]
            self._changed.notify_all()

    def _free_cntlid(self) -> int:
        while True:
            self._last = self._last % _LAST_CNTLID + 1
            if self._last not in self._by_cntlid:
                return self._last
