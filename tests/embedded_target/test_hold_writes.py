"""Holding writes gives whoever copies the file a point in time, for a bounded while."""

import time

import pytest

from embedded_target.workshop import HOST_A, HOST_B, Workshop
from weft.errors import ConflictError, InvalidValueError, NotFoundError
from weft.model import VolumeId
from weft.names import new_id
from weft.nvme.admin import KeepAlive
from weft.nvme.nvm import DatasetManagement, DsmRange, Flush, Read, Write, WriteZeroes, encode_dsm_ranges

WRITE = Write(nsid=1, slba=0, blocks=1)
LARGE = Write(nsid=1, slba=64, blocks=64)


def test_writes_wait_reads_go_on_and_release_says_that_it_lasted(workshop: Workshop) -> None:
    export = workshop.export(HOST_A)
    host = workshop.attach(export)
    queue = host.io[0]
    assert queue.call(WRITE, data=b"1" * 512).status.ok

    hold = workshop.target.hold_writes(export.volume_id, 20)
    waiting = [
        queue.submit(WRITE, data=b"2" * 512),
        queue.submit(LARGE, data=b"3" * 32768),
        queue.submit(WriteZeroes(nsid=1, slba=1, blocks=8)),
        queue.submit(
            DatasetManagement(nsid=1, ranges=1, deallocate=True),
            data=encode_dsm_ranges([DsmRange(slba=0, blocks=1)]),
        ),
    ]
    assert queue.read(Read(nsid=1, slba=0, blocks=1), 512) == b"1" * 512
    assert queue.call(Flush(nsid=1)).status.ok
    assert host.admin.call(KeepAlive()).status.ok
    assert not any(cid in queue.completed for cid in waiting)
    assert export.path.read_bytes()[:512] == b"1" * 512
    assert export.path.read_bytes()[32768:65536] == bytes(32768)

    assert hold.release()
    assert all(queue.wait(cid).status.ok for cid in waiting)
    assert export.path.read_bytes()[32768:65536] == b"3" * 32768


def test_a_hold_that_runs_out_lets_writes_go_on_and_says_so(workshop: Workshop) -> None:
    export = workshop.export(HOST_A)
    queue = workshop.attach(export).io[0]
    hold = workshop.target.hold_writes(export.volume_id, 0.2)
    began = time.monotonic()
    assert queue.call(WRITE, data=b"2" * 512).status.ok
    assert 0.1 < time.monotonic() - began < 5
    assert not hold.release()


def test_a_hold_is_of_one_volume_and_one_holder(workshop: Workshop) -> None:
    held, other = workshop.export(HOST_A), workshop.export(HOST_B)
    queue = workshop.attach(other, HOST_B).io[0]
    hold = workshop.target.hold_writes(held.volume_id, 20)
    assert queue.call(WRITE, data=b"o" * 512).status.ok
    with pytest.raises(ConflictError):
        workshop.target.hold_writes(held.volume_id, 20)
    assert hold.release()
    assert workshop.target.hold_writes(held.volume_id, 20).release()


def test_a_hold_needs_an_export_and_a_bounded_time(workshop: Workshop) -> None:
    export = workshop.export(HOST_A)
    with pytest.raises(NotFoundError):
        workshop.target.hold_writes(VolumeId(new_id()), 1)
    for seconds in (0, -1, 1e9, float("nan")):
        with pytest.raises(InvalidValueError):
            workshop.target.hold_writes(export.volume_id, seconds)


def test_an_export_can_be_removed_while_its_writes_are_held(workshop: Workshop) -> None:
    export = workshop.export(HOST_A)
    queue = workshop.attach(export).io[0]
    hold = workshop.target.hold_writes(export.volume_id, 20)
    queue.submit(WRITE, data=b"2" * 512)
    queue.call(Flush(nsid=1))
    workshop.target.remove_export(export.volume_id)
    hold.release()
    assert export.path.read_bytes() == bytes(export.size)
