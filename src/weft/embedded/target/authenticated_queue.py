"""A queue whose host must prove by DH-HMAC-CHAP who it is."""

import logging
import time
from typing import Final

from weft.embedded.target.controller import Controller
from weft.embedded.target.responder import EndOfAssociationError, Queue, Responder
from weft.embedded.target.subsystem import Subsystem
from weft.model import RefusalReason
from weft.nvme.auth import ControllerAuthentication
from weft.nvme.dhchap_messages import MESSAGE_MAX
from weft.nvme.dhchap_proof import DhChapKeys, DhChapPolicy
from weft.nvme.events import CommandReceived
from weft.nvme.fabrics import AUTHENTICATION_SECP, AuthenticationReceive, AuthenticationSend
from weft.nvme.status import StatusCode, do_not_retry

_log = logging.getLogger(__name__)

_BUFFER_MAX: Final = 64 * 1024
"""Bytes that a host may fetch a message into: answers fill the whole buffer."""
_SPECIFIC: Final = 0x01  # SPSP0 and SPSP1 of every message (Base 2.0, 8.13.2)


class AuthenticatedQueue:
    """Stands before another queue and hands it nothing until the host has authenticated.

    A live queue may authenticate again, with the keys of that time. Once that has failed it gets nothing more, and the
    connection ends when the host has been told.
    """

    def __init__(
        self,
        queue: Queue,
        controller: Controller,
        subsystem: Subsystem,
        responder: Responder,
        *,
        keys: DhChapKeys,
        policy: DhChapPolicy,
        seconds: float,
    ) -> None:
        """keys: those in force now. seconds: how long the host may take."""
        self._queue = queue
        self._controller = controller
        self._subsystem = subsystem
        self._responder = responder
        self._keys = keys
        self._seconds = seconds
        self._due: float | None = time.monotonic() + seconds
        """When the host must have authenticated, None while it has."""
        self._let_in = False
        self._authentication = ControllerAuthentication(
            host_nqn=controller.host_nqn,
            subsystem_nqn=subsystem.nqn,
            keys=self._present_keys,
            policy=policy,
        )

    def execute(self, received: CommandReceived, data: memoryview | None) -> None:
        command = received.command
        if isinstance(command, AuthenticationSend):
            self._take_message(received, command, data)
        elif isinstance(command, AuthenticationReceive):
            self._give_message(received, command)
        elif self._authentication.authenticated:
            self._queue.execute(received, data)
        else:
            self._refuse(received.cid, StatusCode.AUTHENTICATION_REQUIRED)

    def resume(self) -> None:
        """Raises EndOfAssociationError when the host has not authenticated in time."""
        if self._due is None:
            self._queue.resume()
        elif time.monotonic() >= self._due:
            raise EndOfAssociationError(f"the host did not authenticate within {self._seconds:g} s")

    def deadline(self) -> float | None:
        return self._queue.deadline() if self._due is None else self._due

    def closed(self) -> None:
        if not self._authentication.begun:
            self._turned_away(RefusalReason.NO_KEY, "it has no key for the volume, and one is asked for")
        elif self._authentication.wrong_key and not self._authentication.over:
            self._turned_away_by_its_key()
        self._queue.closed()

    def _present_keys(self) -> DhChapKeys:
        """A host that needs no key any more may still prove that it has the last one."""
        self._keys = self._subsystem.keys_of(self._controller.host_nqn) or self._keys
        return self._keys

    def _take_message(
        self, received: CommandReceived, command: AuthenticationSend, data: memoryview | None
    ) -> None:
        self._controller.last_command = time.monotonic()
        if data is None or not _is_dh_hmac_chap(command) or command.length > MESSAGE_MAX:
            self._refuse(received.cid, StatusCode.INVALID_FIELD_IN_COMMAND)
        elif command.length != received.length:
            self._refuse(received.cid, StatusCode.DATA_SGL_LENGTH_INVALID)
        else:
            self._authentication.receive(data)
            self._responder.complete(received.cid)
            self._follow_up()

    def _give_message(self, received: CommandReceived, command: AuthenticationReceive) -> None:
        self._controller.last_command = time.monotonic()
        if not _is_dh_hmac_chap(command) or not 0 < command.length <= _BUFFER_MAX:
            self._refuse(received.cid, StatusCode.INVALID_FIELD_IN_COMMAND)
            return
        if command.length != received.length:
            self._refuse(received.cid, StatusCode.DATA_SGL_LENGTH_INVALID)
            return
        message = self._authentication.next_message()
        if len(message) > received.length:
            self._refuse(received.cid, StatusCode.DATA_SGL_LENGTH_INVALID)
            self._responder.finish()
            return
        # As much as was asked for: newer Linux hosts take a shorter answer for an error.
        self._responder.send(received.cid, message.ljust(received.length, b"\0"))
        self._follow_up()

    def _follow_up(self) -> None:
        if self._authentication.over:
            self._failed()
        elif not self._authentication.authenticated:
            self._due = self._due or time.monotonic() + self._seconds
        elif self._due is not None:
            self._due = None
            self._subsystem.refusals.forget(self._controller.host_nqn)
            if not self._let_in:
                self._let_in = True
                self._responder.authenticated()
            self._responder.wake()  # what the queue waited for may have come meanwhile

    def _failed(self) -> None:
        """The host has been told: end the connection, as the kernel's target does."""
        failure = self._authentication.failure
        why = "authentication failed" if failure is None else failure.text
        if self._authentication.wrong_key:
            self._turned_away_by_its_key()
        else:
            _log.warning("%s was refused %s: %s", self._controller.host_nqn, self._subsystem.nqn, why)
        self._responder.finish()

    def _turned_away_by_its_key(self) -> None:
        self._turned_away(RefusalReason.WRONG_KEY, "it has another key than the volume asks for")

    def _turned_away(self, reason: RefusalReason, why: str) -> None:
        host_nqn = self._controller.host_nqn
        self._subsystem.refusals.remember(host_nqn, reason)
        _log.warning("%s was refused %s: %s", host_nqn, self._subsystem.nqn, why)

    def _refuse(self, cid: int, code: StatusCode) -> None:
        self._responder.complete(cid, do_not_retry(code))


def _is_dh_hmac_chap(command: AuthenticationSend | AuthenticationReceive) -> bool:
    return (command.secp, command.spsp0, command.spsp1) == (AUTHENTICATION_SECP, _SPECIFIC, _SPECIFIC)
