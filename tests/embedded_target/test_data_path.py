"""What a host writes it reads again, and the file below holds the same bytes."""

import errno
import os
import socket
from pathlib import Path

import pytest

from embedded_target.workshop import HOST_A, MIB, MakeWorkshop, Workshop
from nvme_tcp_host import RawHost
from weft.embedded.target.io_queue import _status_of
from weft.embedded.target.settings import Limits
from weft.nvme.nvm import (
    Compare,
    DatasetManagement,
    DsmRange,
    Flush,
    Read,
    Verify,
    Write,
    WriteZeroes,
    encode_dsm_ranges,
)
from weft.nvme.pdu import Digests
from weft.nvme.sqe import ALL_NAMESPACES
from weft.nvme.status import StatusCode


def blocks(data: bytes) -> int:
    return len(data) // 512


def write(host: RawHost, slba: int, data: bytes, *, fua: bool = False) -> None:
    done = host.io[0].call(Write(nsid=1, slba=slba, blocks=blocks(data), fua=fua), data=data)
    assert done.status.ok, done.status.text


def read(host: RawHost, slba: int, count: int) -> bytes:
    return host.io[0].read(Read(nsid=1, slba=slba, blocks=count), count * 512)


def test_a_small_write_travels_in_its_capsule_and_is_read_again(workshop: Workshop) -> None:
    export = workshop.export(HOST_A)
    host = workshop.attach(export)
    data = os.urandom(4096)
    write(host, 8, data)
    assert host.io[0].r2ts == 0
    assert read(host, 8, 8) == data
    assert export.path.read_bytes()[4096:8192] == data


def test_a_large_write_is_fetched_by_r2t_and_is_read_again(workshop: Workshop) -> None:
    export = workshop.export(HOST_A)
    host = workshop.attach(export)
    data = os.urandom(MIB)
    write(host, 0, data)
    assert host.io[0].r2ts == 1
    assert read(host, 0, 2048) == data
    assert export.path.read_bytes()[:MIB] == data


def test_flush_and_fua_answer_once_the_bytes_are_in_the_file(workshop: Workshop) -> None:
    export = workshop.export(HOST_A)
    host = workshop.attach(export)
    write(host, 0, b"f" * 512, fua=True)
    assert host.io[0].call(Flush(nsid=1)).status.ok
    assert host.io[0].call(Flush(nsid=ALL_NAMESPACES)).status.ok
    assert host.io[0].call(Flush(nsid=2)).status.code == StatusCode.INVALID_NAMESPACE_OR_FORMAT
    assert export.path.read_bytes()[:512] == b"f" * 512


def test_write_zeroes_makes_exactly_its_blocks_read_as_zeroes(workshop: Workshop) -> None:
    host = workshop.attach(workshop.export(HOST_A))
    for deallocate in (False, True):
        write(host, 0, b"x" * 32768)
        done = host.io[0].call(WriteZeroes(nsid=1, slba=3, blocks=50, deallocate=deallocate))
        assert done.status.ok
        assert read(host, 0, 64) == b"x" * 3 * 512 + bytes(50 * 512) + b"x" * 11 * 512


def test_deallocate_gives_room_back_and_its_blocks_read_as_zeroes(workshop: Workshop) -> None:
    export = workshop.export(HOST_A)
    host = workshop.attach(export)
    write(host, 0, os.urandom(MIB))
    before = export.path.stat().st_blocks
    ranges = [DsmRange(slba=8, blocks=1024), DsmRange(slba=1, blocks=0), DsmRange(slba=1040, blocks=8)]
    done = host.io[0].call(
        DatasetManagement(nsid=1, ranges=3, deallocate=True), data=encode_dsm_ranges(ranges)
    )
    assert done.status.ok, done.status.text
    assert export.path.stat().st_blocks < before
    assert read(host, 8, 1024) == bytes(1024 * 512)
    assert read(host, 0, 8) != bytes(4096)
    assert export.path.stat().st_size == export.size


def test_a_range_outside_the_volume_changes_nothing(workshop: Workshop) -> None:
    export = workshop.export(HOST_A)
    host = workshop.attach(export)
    write(host, 0, b"y" * 4096)
    ranges = [DsmRange(slba=0, blocks=8), DsmRange(slba=8190, blocks=8)]
    done = host.io[0].call(
        DatasetManagement(nsid=1, ranges=2, deallocate=True), data=encode_dsm_ranges(ranges)
    )
    assert done.status.code == StatusCode.LBA_OUT_OF_RANGE
    assert read(host, 0, 8) == b"y" * 4096


def test_compare_tells_equal_from_different(workshop: Workshop) -> None:
    host = workshop.attach(workshop.export(HOST_A))
    data = os.urandom(65536)
    write(host, 16, data)
    same = host.io[0].call(Compare(nsid=1, slba=16, blocks=128), data=data)
    other = host.io[0].call(Compare(nsid=1, slba=16, blocks=128), data=data[:-1] + bytes([data[-1] ^ 1]))
    assert same.status.ok
    assert other.status.code == StatusCode.COMPARE_FAILURE


def test_verify_reads_and_moves_no_data(workshop: Workshop) -> None:
    export = workshop.export(HOST_A)
    host = workshop.attach(export)
    assert host.io[0].call(Verify(nsid=1, slba=0, blocks=8192)).status.ok
    os.truncate(export.path, MIB)
    failed = host.io[0].call(Verify(nsid=1, slba=0, blocks=8192))
    assert failed.status.code == StatusCode.UNRECOVERED_READ_ERROR


@pytest.mark.parametrize(
    ("command", "size", "code"),
    [
        (Read(nsid=1, slba=8192, blocks=1), 512, StatusCode.LBA_OUT_OF_RANGE),
        (Read(nsid=1, slba=8191, blocks=2), 1024, StatusCode.LBA_OUT_OF_RANGE),
        (Read(nsid=1, slba=2**64 - 1, blocks=1), 512, StatusCode.LBA_OUT_OF_RANGE),
        (Read(nsid=2, slba=0, blocks=1), 512, StatusCode.INVALID_NAMESPACE_OR_FORMAT),
        (Read(nsid=1, slba=0, blocks=2), 512, StatusCode.DATA_SGL_LENGTH_INVALID),
        (Read(nsid=1, slba=0, blocks=4096), 2 * MIB, StatusCode.INVALID_FIELD_IN_COMMAND),
        (WriteZeroes(nsid=1, slba=8000, blocks=200), 0, StatusCode.LBA_OUT_OF_RANGE),
        (Verify(nsid=1, slba=8192, blocks=1), 0, StatusCode.LBA_OUT_OF_RANGE),
    ],
)
def test_a_command_that_cannot_be_carried_out_is_refused_for_good(
    workshop: Workshop, command: Read | WriteZeroes | Verify, size: int, code: StatusCode
) -> None:
    host = workshop.attach(workshop.export(HOST_A))
    refused = host.io[0].call(command, size=size)
    assert (refused.status.code, refused.status.dnr) == (code, True)
    assert read(host, 0, 1) == bytes(512)


def test_a_write_larger_than_mdts_is_refused_without_its_data(workshop: Workshop) -> None:
    host = workshop.attach(workshop.export(HOST_A))
    refused = host.io[0].call(Write(nsid=1, slba=0, blocks=4096), data=bytes(2 * MIB))
    assert refused.status.code == StatusCode.INVALID_FIELD_IN_COMMAND
    assert host.io[0].r2ts == 0


def test_many_commands_at_once_are_all_answered(make_workshop: MakeWorkshop) -> None:
    """More data than may be in flight: writes wait for their R2T, and none is forgotten."""
    workshop = make_workshop(limits=Limits(data_in_flight=MIB))
    host = workshop.attach(workshop.export(HOST_A))
    queue = host.io[0]
    pieces = [os.urandom(262144 if index % 2 else 4096) for index in range(30)]
    offsets = [sum(map(blocks, pieces[:index])) for index in range(30)]
    cids = [
        queue.submit(Write(nsid=1, slba=slba, blocks=blocks(piece)), data=piece)
        for slba, piece in zip(offsets, pieces, strict=True)
    ]
    assert all(queue.wait(cid).status.ok for cid in cids)
    assert [read(host, slba, blocks(piece)) for slba, piece in zip(offsets, pieces, strict=True)] == pieces


def test_digests_are_agreed_on_where_the_host_asks_for_them(workshop: Workshop) -> None:
    host = workshop.attach(workshop.export(HOST_A), digests=Digests(header=True, data=True))
    data = os.urandom(65536)
    write(host, 0, data)
    assert read(host, 0, 128) == data


def test_a_host_that_asks_for_no_in_capsule_data_is_served_by_r2t(workshop: Workshop) -> None:
    host = workshop.attach(workshop.export(HOST_A), in_capsule_data_size=0)
    before = host.io[0].r2ts
    write(host, 0, b"z" * 512)
    assert host.io[0].r2ts == before + 1
    assert read(host, 0, 1) == b"z" * 512


def test_a_full_disk_is_told_as_capacity_exceeded() -> None:
    assert _status_of(OSError(errno.ENOSPC, ""), writes=True).code == StatusCode.CAPACITY_EXCEEDED
    assert _status_of(OSError(errno.EIO, ""), writes=True).code == StatusCode.WRITE_FAULT
    assert _status_of(OSError(errno.EIO, ""), writes=False).code == StatusCode.UNRECOVERED_READ_ERROR


def test_small_answers_are_not_delayed(workshop: Workshop) -> None:
    """Looked up rather than measured: the kernel delays only some answers, and only sometimes."""
    workshop.attach(workshop.export(HOST_A), queues=2)
    sockets = [pair._socket for pair in workshop.target._connections._pairs]
    assert len(sockets) == 3
    assert all(each.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) for each in sockets)


def test_a_failed_flush_is_for_good_and_not_to_be_tried_again(workshop: Workshop) -> None:
    """A host that tried again would be told by the kernel that all is well, with bytes missing."""
    export = workshop.export(HOST_A)
    host = workshop.attach(export)
    write(host, 0, os.urandom(512))
    (served,) = [
        int(link.name)
        for link in Path("/proc/self/fd").iterdir()
        if os.path.realpath(link) == str(export.path)
    ]
    healthy = os.dup(served)
    reader, writer = os.pipe()  # which cannot be synced
    os.dup2(writer, served)
    statuses = [host.io[0].call(Flush(nsid=1)).status]
    os.dup2(healthy, served)
    for descriptor in (healthy, reader, writer):
        os.close(descriptor)
    statuses.append(host.io[0].call(Flush(nsid=1)).status)
    statuses.append(host.io[0].call(Write(nsid=1, slba=0, blocks=1, fua=True), data=bytes(512)).status)
    assert [(each.code, each.dnr) for each in statuses] == [(StatusCode.WRITE_FAULT, True)] * 3
    write(host, 0, os.urandom(512))
