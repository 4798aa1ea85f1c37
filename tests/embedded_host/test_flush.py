"""What was written counts as safe when a flush that covers it has ended, and not a moment before."""

import threading
import time
from typing import cast

import pytest

from weft.embedded.host import Volume
from weft.embedded.host.association import Limits, Namespace
from weft.embedded.host.command_queue import CommandQueue
from weft.embedded.host.queue_pair import ConnectionLostError
from weft.embedded.host.session import Session
from weft.errors import DataError
from weft.nvme.events import CommandCompleted
from weft.nvme.layout import BytesLike
from weft.nvme.nvm import Flush, NvmCommand
from weft.nvme.status import SUCCESS, Status, StatusCode, do_not_retry


class Controller:
    """Stands for a session and all behind it: answers writes at once, and a flush when the test says so."""

    def __init__(self) -> None:
        self.queue = CommandQueue(64, _nobody)
        self.namespace = Namespace(uuid="", size=2**20, block_size=512)
        self.limits = Limits(
            maximum_transfer=2**20, maximum_zeroes=65536, depth=64, write_zeroes=True, dataset_management=True
        )
        self._flushes: list[int] = []
        self._answers: list[int] = []
        self._changed = threading.Condition()
        self._ending = False
        self._thread = threading.Thread(target=self._answer)
        self._thread.start()
        self.queue.resume(self, 64)

    def submit(self, cid: int, command: NvmCommand, *, data: BytesLike, into: BytesLike) -> None:  # noqa: ARG002
        with self._changed:
            (self._flushes if isinstance(command, Flush) else self._answers).append(cid)
            self._changed.notify_all()

    def end_flush(self, status: Status = SUCCESS) -> None:
        """Answer the oldest flush, which comes within a second."""
        with self._changed:
            assert self._changed.wait_for(lambda: self._flushes, 1), "no flush was sent"
            cid = self._flushes.pop(0)
        self.queue.completed(CommandCompleted(cid=cid, status=status, result=0))

    def stop(self) -> None:
        with self._changed:
            self._ending = True
            self._changed.notify_all()
        self._thread.join()

    def _answer(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._answers or self._ending)
                if not self._answers:
                    return
                cid = self._answers.pop(0)
            self.queue.completed(CommandCompleted(cid=cid, status=SUCCESS, result=0))


def _nobody(error: ConnectionLostError) -> None:
    del error


def _flushing(volume: Volume, errors: list[DataError]) -> threading.Thread:
    def flush() -> None:
        try:
            volume.flush()
        except DataError as error:
            errors.append(error)

    thread = threading.Thread(target=flush, daemon=True)
    thread.start()
    time.sleep(0.05)
    return thread


@pytest.mark.parametrize("status", [SUCCESS, do_not_retry(StatusCode.WRITE_FAULT)])
def test_nothing_is_safe_while_its_flush_goes_on_or_when_it_failed(status: Status) -> None:
    """Or a second fsync() would return at once, beside a first one that still waits and may fail."""
    controller = Controller()
    volume = Volume(cast(Session, controller))
    try:
        volume.write(0, bytes(512))
        errors: list[DataError] = []
        thread = _flushing(volume, errors)
        assert volume.unflushed
        controller.end_flush(status)
        thread.join(5)
        assert (volume.unflushed, bool(errors)) == (not status.ok, not status.ok)
    finally:
        controller.stop()


def test_a_flush_does_not_cover_what_is_written_while_it_goes_on() -> None:
    controller = Controller()
    volume = Volume(cast(Session, controller))
    try:
        volume.write(0, bytes(512))
        thread = _flushing(volume, [])
        volume.write(512, bytes(512))
        controller.end_flush()
        thread.join(5)
        assert volume.unflushed
        thread = _flushing(volume, [])
        controller.end_flush()
        thread.join(5)
        assert not volume.unflushed
    finally:
        controller.stop()
