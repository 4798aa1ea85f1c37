"""Proving to a controller who this host is, and having it prove itself, by DH-HMAC-CHAP (Base Specification 2.0, 8.13.5)."""

import contextlib
import secrets
from collections.abc import Callable
from typing import Final

from weft.embedded.host.exchange import Exchange
from weft.embedded.host.statuses import command_error
from weft.errors import PermissionDeniedError, UnavailableError, WeftError
from weft.nvme.auth import AuthenticationError, AuthenticationFault, HostAuthentication
from weft.nvme.dhchap_messages import MESSAGE_MAX
from weft.nvme.dhchap_proof import DhChapKeys
from weft.nvme.fabrics import AuthenticationReceive, AuthenticationSend
from weft.nvme.layout import BytesLike

_TRANSACTION_IDS: Final = 2**16


class Authenticator:
    """Authenticates the queues of one association."""

    def __init__(
        self,
        *,
        host_nqn: str,
        subsystem_nqn: str,
        keys: DhChapKeys | None,
        target: str,
        left: Callable[[], float],
    ) -> None:
        """target: what to call it in errors. left: how many seconds there still are; may raise."""
        self._host_nqn = host_nqn
        self._subsystem_nqn = subsystem_nqn
        self._keys = keys
        self._target = target
        self._left = left

    def check_not_needed(self) -> None:
        """For a controller that asks for no authentication. Raises PermissionDeniedError if it was to prove itself."""
        if self._keys is not None and self._keys.controller is not None:
            raise PermissionDeniedError(
                f"{self._target} asks {self._host_nqn} for no proof and gives none of its own for "
                f"{self._subsystem_nqn}, though this host was given the target's key: it may be another target"
            )

    def authenticate(self, queue: Exchange) -> None:
        """Make a queue that was connected ready.

        Raises PermissionDeniedError when one of the two does not believe the other, and UnavailableError when
        another try may help.
        """
        if self._keys is None:
            raise PermissionDeniedError(
                f"{self._target} wants {self._host_nqn} to authenticate for {self._subsystem_nqn}, and this host was "
                "given no key: attach with a connection that holds it"
            )
        machine = HostAuthentication(
            host_nqn=self._host_nqn,
            subsystem_nqn=self._subsystem_nqn,
            keys=self._keys,
            transaction_id=secrets.randbelow(_TRANSACTION_IDS),
        )
        try:
            self._send(queue, machine.negotiate())
            self._send(queue, machine.answer(self._receive(queue)))
            last = machine.conclude(self._receive(queue))
        except AuthenticationError as error:
            if error.last_words is not None:
                with contextlib.suppress(WeftError):  # the reason is known already
                    self._send(queue, error.last_words)
            raise self._error(error) from None
        if last is not None:
            self._send(queue, last)
        queue.queue_pair.authenticated()

    def _send(self, queue: Exchange, message: bytes) -> None:
        self._execute(queue, AuthenticationSend(length=len(message)), data=message)

    def _receive(self, queue: Exchange) -> bytearray:
        message = bytearray(MESSAGE_MAX)
        self._execute(queue, AuthenticationReceive(length=MESSAGE_MAX), into=message)
        return message

    def _execute(
        self,
        queue: Exchange,
        command: AuthenticationSend | AuthenticationReceive,
        *,
        data: BytesLike = b"",
        into: BytesLike = b"",
    ) -> None:
        completion = queue.execute(command, self._left(), data=data, into=into)
        if not completion.status.ok:
            raise UnavailableError(f"{self._target}: {command_error(command, completion.status)}")

    def _error(self, error: AuthenticationError) -> WeftError:
        target, host, subsystem = self._target, self._host_nqn, self._subsystem_nqn
        if error.fault is AuthenticationFault.HOST:
            return PermissionDeniedError(
                f"{target} does not accept the key of {host} for {subsystem}: the two sides have different keys"
            )
        if error.fault is AuthenticationFault.CONTROLLER:
            return PermissionDeniedError(
                f"{target} did not prove to {host} that it has the target's key for {subsystem}: it has another one, or "
                "it is another target"
            )
        return PermissionDeniedError(
            f"{target} and {host} cannot agree on how to authenticate for {subsystem}: {error}"
        )
