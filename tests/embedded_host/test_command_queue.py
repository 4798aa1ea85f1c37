"""Every command is taken once, answered once, and sent again in order."""

import threading
import time
from collections.abc import Callable

import pytest

from weft.embedded.host.command_queue import MAXIMUM_TRIES, CommandQueue
from weft.embedded.host.queue_pair import ConnectionLostError
from weft.errors import DataError, NoSpaceError, PermissionDeniedError, UnavailableError
from weft.nvme.events import CommandCompleted
from weft.nvme.layout import BytesLike
from weft.nvme.nvm import NvmCommand, Write
from weft.nvme.status import SUCCESS, Status, StatusCode


class RecordingLink:
    """Stands for a connection: remembers what was sent, and is lost after so many commands."""

    def __init__(self, lost_after: int = 10**6) -> None:
        self.sent: list[tuple[int, int]] = []
        self._left = lost_after

    def submit(self, cid: int, command: NvmCommand, *, data: BytesLike, into: BytesLike) -> None:  # noqa: ARG002
        if not self._left:
            raise ConnectionLostError("the cable is out")
        self._left -= 1
        assert isinstance(command, Write)
        self.sent.append((cid, command.slba))

    @property
    def blocks(self) -> list[int]:
        return [slba for _, slba in self.sent]


def _nobody(error: ConnectionLostError) -> None:
    del error


def _queue(depth: int = 64) -> CommandQueue:
    return CommandQueue(depth, _nobody)


def _write(slba: int) -> Write:
    return Write(nsid=1, slba=slba, blocks=1)


def _complete(queue: CommandQueue, cid: int, status: Status = SUCCESS) -> None:
    queue.completed(CommandCompleted(cid=cid, status=status, result=0))


class Submitter(threading.Thread):
    """Submits writes in a batch and keeps the error that it ended with."""

    def __init__(self, queue: CommandQueue, slbas: list[int]) -> None:
        super().__init__()
        self._queue = queue
        self._slbas = slbas
        self.error: BaseException | None = None
        self.start()

    def run(self) -> None:
        try:
            with self._queue.batch() as batch:
                for slba in self._slbas:
                    batch.submit(_write(slba))
        except Exception as error:  # noqa: BLE001 -- the test looks at it
            self.error = error

    def end(self) -> None:
        self.join(5)
        assert not self.is_alive()


def _wait(check: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 5
    while not check():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_unanswered_commands_are_sent_again_in_their_order_before_newer_ones() -> None:
    queue, first, second = _queue(), RecordingLink(), RecordingLink()
    queue.resume(first, 64)
    early = Submitter(queue, [0, 1, 2, 3, 4])
    _wait(lambda: len(first.sent) == 5)
    _complete(queue, first.sent[3][0])
    queue.lost(ConnectionLostError("gone"))
    late = Submitter(queue, [10, 11])
    time.sleep(0.05)
    queue.resume(second, 64)
    assert second.blocks == [0, 1, 2, 4, 10, 11]
    for cid, _ in second.sent:
        _complete(queue, cid)
    early.end()
    late.end()
    assert early.error is None
    assert late.error is None


def test_a_second_loss_in_the_middle_of_sending_again_keeps_the_order() -> None:
    queue, first, second, third = _queue(), RecordingLink(), RecordingLink(lost_after=2), RecordingLink()
    queue.resume(first, 64)
    submitter = Submitter(queue, [0, 1, 2, 3, 4, 5])
    _wait(lambda: len(first.sent) == 6)
    queue.lost(ConnectionLostError("gone"))
    queue.resume(second, 64)
    queue.lost(ConnectionLostError("gone again"))
    queue.resume(third, 64)
    assert third.blocks == [0, 1, 2, 3, 4, 5]
    for cid, _ in third.sent:
        _complete(queue, cid)
    submitter.end()
    assert submitter.error is None


def test_a_narrower_connection_gets_what_waits_bit_by_bit() -> None:
    queue, first, second = _queue(), RecordingLink(), RecordingLink()
    queue.resume(first, 64)
    submitter = Submitter(queue, list(range(6)))
    _wait(lambda: len(first.sent) == 6)
    queue.lost(ConnectionLostError("gone"))
    queue.resume(second, 2)
    for expected in range(6):
        assert len(second.sent) <= expected + 2
        _complete(queue, second.sent[expected][0])
    submitter.end()
    assert second.blocks == list(range(6))


def test_a_full_queue_makes_callers_wait() -> None:
    queue, link = _queue(depth=2), RecordingLink()
    queue.resume(link, 64)
    submitter = Submitter(queue, [0, 1, 2])
    _wait(lambda: len(link.sent) == 2)
    time.sleep(0.05)
    assert link.blocks == [0, 1]
    _complete(queue, link.sent[0][0])
    _wait(lambda: len(link.sent) == 3)
    _complete(queue, link.sent[1][0])
    _complete(queue, link.sent[2][0])
    submitter.end()


def test_a_failed_queue_answers_everything_now_and_later() -> None:
    queue, link = _queue(depth=2), RecordingLink()
    queue.resume(link, 64)
    submitter = Submitter(queue, [0, 1, 2])
    _wait(lambda: len(link.sent) == 2)
    queue.lost(ConnectionLostError("gone"))
    queue.fail(UnavailableError("nobody is there"))
    submitter.end()
    assert isinstance(submitter.error, UnavailableError)
    with pytest.raises(UnavailableError, match="nobody is there"), queue.batch() as batch:
        batch.submit(_write(9))


def test_an_error_without_do_not_retry_is_tried_again() -> None:
    queue, link = _queue(), RecordingLink()
    queue.resume(link, 64)
    submitter = Submitter(queue, [7])
    _wait(lambda: len(link.sent) == 1)
    _complete(queue, link.sent[0][0], Status(StatusCode.TRANSIENT_TRANSPORT_ERROR))
    _wait(lambda: len(link.sent) == 2)
    _complete(queue, link.sent[1][0])
    submitter.end()
    assert submitter.error is None
    assert link.blocks == [7, 7]


def test_trying_again_has_an_end() -> None:
    queue, link = _queue(), RecordingLink()
    queue.resume(link, 64)
    submitter = Submitter(queue, [7])
    for sent in range(1, MAXIMUM_TRIES + 2):
        _wait(lambda: len(link.sent) == sent)  # noqa: B023 -- it is called at once
        _complete(queue, link.sent[-1][0], Status(StatusCode.WRITE_FAULT))
    submitter.end()
    assert isinstance(submitter.error, DataError)


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (StatusCode.CAPACITY_EXCEEDED, NoSpaceError),
        (StatusCode.NAMESPACE_IS_WRITE_PROTECTED, PermissionDeniedError),
        (StatusCode.LBA_OUT_OF_RANGE, DataError),
    ],
)
def test_a_refusal_reaches_who_asked_and_nobody_else(code: StatusCode, kind: type[Exception]) -> None:
    queue, link = _queue(), RecordingLink()
    queue.resume(link, 64)
    refused = Submitter(queue, [1])
    _wait(lambda: len(link.sent) == 1)
    other = Submitter(queue, [2])
    _wait(lambda: len(link.sent) == 2)
    _complete(queue, link.sent[0][0], Status(code, dnr=True))
    _complete(queue, link.sent[1][0])
    refused.end()
    other.end()
    assert isinstance(refused.error, kind)
    assert other.error is None
