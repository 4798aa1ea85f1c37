"""Commands that are sent and waited for one at a time: bring-up, Identify, keep-alives."""

import threading
from typing import Final

from weft.connection import NvmeofPortal
from weft.embedded.host.queue_pair import (
    ConnectionLostError,
    QueueListener,
    QueuePair,
    SilenceError,
    dial,
)
from weft.nvme.command import Command
from weft.nvme.events import CommandCompleted
from weft.nvme.host import IN_CAPSULE_DATA_SIZE
from weft.nvme.layout import BytesLike

FIRST_CID: Final = 0xF000
"""Command identifiers from here on are the exchange's; those below belong to the listener behind it."""

_CID_COUNT: Final = 0x0F00


class _Waiter:
    def __init__(self) -> None:
        self.answered = threading.Event()
        self.completion: CommandCompleted | None = None
        self.error = ConnectionLostError("the connection is gone")


class Exchange:
    """A queue pair on which commands can be waited for. What is not its own it passes on to the listener."""

    def __init__(
        self,
        portal: NvmeofPortal,
        listener: QueueListener,
        timeout: float,
        *,
        in_capsule_data_size: int = IN_CAPSULE_DATA_SIZE,
    ) -> None:
        """Connect to the portal and exchange ICReq and ICResp. Raises ConnectionLostError."""
        self._listener = listener
        self._lock = threading.Lock()
        self._waiters: dict[int, _Waiter] = {}
        self._next = 0
        self._lost: ConnectionLostError | None = None
        self._name = str(portal)
        self.queue_pair = QueuePair(
            dial(portal, timeout), self._name, self, in_capsule_data_size=in_capsule_data_size
        )
        try:
            self.queue_pair.start(timeout)
        except BaseException:
            self.queue_pair.close()
            raise

    def execute(
        self, command: Command, timeout: float, *, data: BytesLike = b"", into: BytesLike = b""
    ) -> CommandCompleted:
        """Send a command and wait for its answer.

        Raises ConnectionLostError. Without an answer within timeout seconds the connection is given up: what a late
        answer would bring must not be written to into.
        """
        waiter = _Waiter()
        with self._lock:
            if self._lost is not None:
                raise self._lost
            cid = FIRST_CID + self._next % _CID_COUNT
            self._next += 1
            self._waiters[cid] = waiter
        self.queue_pair.submit(cid, command, data=data, into=into)
        if not waiter.answered.wait(timeout):
            self.queue_pair.abort(
                SilenceError(f"{self._name} did not answer {type(command).__name__} within {timeout:.1f} s")
            )
            waiter.answered.wait()  # lost() follows an abort at once
        if waiter.completion is None:
            raise waiter.error
        return waiter.completion

    def completed(self, completion: CommandCompleted) -> None:
        with self._lock:
            waiter = self._waiters.pop(completion.cid, None)
        if waiter is None:
            self._listener.completed(completion)
            return
        waiter.completion = completion
        waiter.answered.set()

    def lost(self, error: ConnectionLostError) -> None:
        with self._lock:
            self._lost = error
            waiters, self._waiters = self._waiters, {}
        for waiter in waiters.values():
            waiter.error = error
            waiter.answered.set()
        self._listener.lost(error)
