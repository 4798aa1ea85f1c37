"""Keeps a volume's association alive: keep-alives, changes of the namespace, and a new one when it is lost."""

import math
import threading
import time
from collections.abc import Callable
from typing import Final

from weft.connection import NvmeofConnection
from weft.embedded.dhchap import keys_of
from weft.embedded.host.association import Association, Limits, Namespace
from weft.embedded.host.command_queue import CommandQueue
from weft.embedded.host.options import VolumeOptions
from weft.embedded.host.queue_pair import ConnectionLostError, SilenceError
from weft.errors import DataError, UnavailableError, UnsupportedError, WeftError
from weft.model import HostIdentity

_JOIN_MARGIN: Final = 30.0


class Session:
    """Owns the association in force, the queue of commands and one thread. Open it, and close it in any case."""

    def __init__(self, connection: NvmeofConnection, identity: HostIdentity, options: VolumeOptions) -> None:
        self.queue = CommandQueue(options.queue_depth, self._on_lost)
        self.namespace: Namespace
        self.limits: Limits
        self._connection = connection
        self._identity = identity
        self._keys = None if connection.secrets is None else keys_of(connection.secrets)
        self._options = options
        self._changed = threading.Condition()
        self._lost: ConnectionLostError | None = None
        self._event = False
        self._rescans = 0
        self._closing = False
        self._give_up_at = math.inf
        self._failure: WeftError | None = None
        self._association: Association
        self._portal_index = 0
        self._thread = threading.Thread(target=self._run, name=f"weft-{connection.volume_id}", daemon=True)

    def open(self) -> None:
        """Connect through the first portal that lets us, and check that it leads to the volume.

        Raises UnavailableError when none can be reached, PermissionDeniedError when the host is not let in,
        NotFoundError when there is no such subsystem, DataError when it holds another volume.
        """
        try:
            self._try_portals()
        except WeftError as error:
            self.queue.fail(error)
            raise
        self._thread.start()

    def rescan(self, timeout: float) -> None:
        """Look at the namespace anew. Raises UnavailableError after timeout seconds, or what the volume failed with."""
        with self._changed:
            seen = self._rescans
            self._event = True
            self._changed.notify_all()
            self._wait(lambda: self._rescans > seen, timeout, "the target did not say how large it is")

    def wait_for_size(self, size: int, timeout: float) -> None:
        """Until the volume has at least size bytes; errors as of rescan."""
        with self._changed:
            self._wait(lambda: self.namespace.size >= size, timeout, f"it has not grown to {size} bytes")

    def hurry(self, timeout: float) -> None:
        """From now on, do not look for a lost target for longer than timeout seconds."""
        with self._changed:
            self._give_up_at = min(self._give_up_at, time.monotonic() + timeout)
            self._changed.notify_all()

    def close(self) -> None:
        """Leave the controller and wait until all threads have ended; unanswered commands get an error."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        if self._thread.ident is not None:
            self._thread.join(self._options.connect_timeout + self._options.keep_alive + _JOIN_MARGIN)
        if self._lost is None and self._failure is None:
            self._association.shut_down()
        self._association.close()
        self.queue.fail(UnavailableError(f"volume {self._connection.volume_id} was closed"))

    def _wait(self, done: Callable[[], bool], timeout: float, what: str) -> None:
        if not self._changed.wait_for(lambda: self._failure or self._closing or done(), timeout):
            raise UnavailableError(f"volume {self._connection.volume_id}: {what} within {timeout:g} s")
        if self._failure is not None:
            raise self._failure
        if not done():
            raise UnavailableError(f"volume {self._connection.volume_id} was closed")

    def _on_lost(self, error: ConnectionLostError) -> None:
        with self._changed:
            self._lost = error
            self._changed.notify_all()

    def _on_event(self) -> None:
        with self._changed:
            self._event = True
            self._changed.notify_all()

    def _run(self) -> None:
        failure: WeftError = DataError(f"volume {self._connection.volume_id} failed by a defect in weft")
        try:
            while not self._closing:
                self._watch()
                if not self._closing:
                    self._replace()
        except WeftError as error:
            failure = error
        finally:
            if not self._closing:
                self._fail(failure)

    def _fail(self, error: WeftError) -> None:
        self._association.abort(ConnectionLostError(str(error)))
        self._association.close()
        with self._changed:
            self._failure = error
            self._changed.notify_all()
        self.queue.fail(error)

    def _watch(self) -> None:
        """Until the association is lost or the session closes."""
        interval = self._options.keep_alive / 2
        last_beat = time.monotonic()
        while True:
            with self._changed:
                left = last_beat + interval - time.monotonic()
                self._changed.wait_for(lambda: self._closing or self._lost or self._event, max(0, left))
                if self._closing or self._lost:
                    return
                event, self._event = self._event, False
            try:
                if event:
                    self._look_again()
                if time.monotonic() >= last_beat + interval:
                    last_beat = time.monotonic()
                    self._beat()
            except UnavailableError as error:
                lost = error if isinstance(error, ConnectionLostError) else ConnectionLostError(str(error))
                self._association.abort(lost)
                self._on_lost(lost)
                return

    def _beat(self) -> None:
        oldest = self.queue.oldest()
        if oldest is not None and time.monotonic() - oldest > self._options.io_timeout:
            raise SilenceError(
                f"{self._association.portal} left a command unanswered for {self._options.io_timeout:g} s"
            )
        self._association.keep_alive(self._options.keep_alive)

    def _look_again(self) -> None:
        timeout = self._options.keep_alive
        self._association.acknowledge_event(timeout)
        namespace = self._association.identify_namespace(timeout)
        self._check_unchanged(namespace)
        with self._changed:
            self.namespace = namespace
            self._rescans += 1
            self._changed.notify_all()

    def _replace(self) -> None:
        """Find a new association. Raises UnavailableError when that takes too long, other errors when it is refused."""
        lost_at = time.monotonic()
        with self._changed:
            lost = self._lost or ConnectionLostError("the connection is gone")
        self._association.close()
        not_before = lost_at
        if isinstance(lost, SilenceError):
            # Commands that are about to be sent again may still be on their way, and to carry them out late would
            # undo newer writes. A controller ends the association at the latest two intervals (KATO) after the last
            # command that it has seen (Base 2.0, 3.9), and from now on it sees none.
            not_before = lost_at + 2 * self._options.keep_alive
        limit = self._options.controller_loss_timeout
        deadline = math.inf if limit < 0 else lost_at + limit
        self._portal_index += 1
        while True:
            if self._pause(not_before, deadline):
                return
            not_before = time.monotonic() + self._options.reconnect_delay
            try:
                self._try_portals()
            except UnavailableError as error:
                lost = ConnectionLostError(str(error))
            else:
                return
            if time.monotonic() >= min(deadline, self._give_up_at):
                raise UnavailableError(
                    f"volume {self._connection.volume_id} was lost {time.monotonic() - lost_at:.0f} s ago, and "
                    f"no portal leads to it: {lost}"
                )

    def _pause(self, until: float, deadline: float) -> bool:
        """Wait until a moment, but not beyond the time to give up; True when the session closes."""
        with self._changed:
            while not self._closing:
                left = min(until, deadline, self._give_up_at) - time.monotonic()
                if left <= 0:
                    return False
                self._changed.wait(left)
            return True

    def _try_portals(self) -> None:
        """One attempt at each portal in turn. Raises the last UnavailableError, and at once any other error."""
        portals = self._connection.portals
        last: UnavailableError | None = None
        for _ in portals:
            try:
                self._establish(self._portal_index % len(portals))
            except UnavailableError as error:
                last = error
                self._portal_index += 1
            else:
                return
            if self._closing:
                break
        raise last or UnavailableError(f"volume {self._connection.volume_id} has no portal")

    def _establish(self, index: int) -> None:
        portal = self._connection.portals[index]
        association = Association(portal, self._connection.nqn, self._identity, self._options, self._keys)
        with self._changed:
            self._lost = None  # that of an earlier attempt; one that comes from now on counts
        try:
            association.bring_up(self.queue, self._on_event)
            self._check(association)
        except BaseException:
            association.close()
            raise
        with self._changed:
            self.namespace, self.limits = association.namespace, association.limits
            self._association = association
            self._rescans += 1
            self._changed.notify_all()
        self.queue.resume(association.io.queue_pair, association.limits.depth)

    def _check(self, association: Association) -> None:
        namespace = association.namespace
        if namespace.uuid and namespace.uuid != self._connection.volume_id:
            raise DataError(
                f"{self._connection.nqn} at {association.portal} holds volume {namespace.uuid} instead of "
                f"{self._connection.volume_id}"
            )
        if hasattr(self, "namespace"):
            self._check_unchanged(namespace)
            if association.limits.maximum_transfer < self.limits.maximum_transfer:
                raise UnsupportedError(
                    f"{association.portal} takes fewer bytes at once than before: attach the volume anew"
                )

    def _check_unchanged(self, namespace: Namespace) -> None:
        """Growth is fine; anything else would show other bytes than those that were written."""
        volume_id, before = self._connection.volume_id, self.namespace
        if namespace.uuid != before.uuid:
            raise DataError(
                f"volume {volume_id} has become another one, {namespace.uuid or 'without a uuid'}"
            )
        if namespace.block_size != before.block_size:
            raise DataError(
                f"volume {volume_id} has blocks of {namespace.block_size} bytes now instead of {before.block_size}"
            )
        if namespace.size < before.size:
            raise DataError(
                f"volume {volume_id} has shrunk from {before.size} to {namespace.size} bytes: its end is lost"
            )
