"""Bytes go into a volume and come out of it, at any offset, from any thread."""

import array
import threading
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from embedded_host.checked_writer import checked_writers
from embedded_host.target_process import MIB, TargetProcess, free_port, new_identity, tcp_portal
from weft.connection import NvmeofConnection, NvmeofPortal
from weft.embedded.host import Volume, VolumeOptions, discover
from weft.errors import (
    InvalidValueError,
    NotFoundError,
    PermissionDeniedError,
    UnavailableError,
    UnsupportedError,
)
from weft.model import Transport, VolumeId
from weft.names import new_id, subsystem_nqn


def test_what_is_written_is_in_the_backing_file_and_is_read_back(target: TargetProcess) -> None:
    connection = target.new_volume(64 * MIB)
    data = bytes(range(256)) * 4 * 4096 * 10  # 40 MiB, many commands
    with Volume.open(connection, target.identity) as volume:
        assert (volume.size, volume.block_size) == (64 * MIB, 512)
        assert volume.write(MIB, data) == len(data)
        assert volume.read(MIB, len(data)) == data
        assert volume.read(0, MIB) == bytes(MIB)
        volume.flush()
    assert target.path(connection.volume_id).read_bytes()[MIB : MIB + len(data)] == data


@pytest.mark.parametrize(
    ("offset", "length"),
    [(0, 1), (1, 1), (511, 2), (100, 300), (512, 513), (700, 5000), (1, 2 * MIB), (MIB - 1, MIB + 2), (0, 0)],
)
def test_unaligned_writes_leave_their_neighbours_alone(
    target: TargetProcess, offset: int, length: int
) -> None:
    connection = target.new_volume()
    before = b"\xee" * (4 * MIB)
    with Volume.open(connection, target.identity) as volume:
        volume.write(0, before)
        data = bytes(index % 251 for index in range(length))
        assert volume.write(offset, data) == length
        assert volume.read(offset, length) == data
        expected = before[:offset] + data + before[offset + length :]
        assert volume.read(0, len(before)) == expected


def test_buffers_of_any_kind_are_taken(target: TargetProcess) -> None:
    with Volume.open(target.new_volume(), target.identity) as volume:
        numbers = array.array("Q", range(1000))
        assert volume.write(0, memoryview(numbers)) == 8000
        into = bytearray(9000)
        assert volume.readinto(0, memoryview(into)[500:8500]) == 8000
        assert bytes(into) == bytes(500) + numbers.tobytes() + bytes(500)
        with pytest.raises(TypeError):
            volume.readinto(0, memoryview(bytes(10)))


@pytest.mark.parametrize(("offset", "length"), [(-1, 1), (16 * MIB, 1), (16 * MIB - 1, 2), (2**70, 1)])
def test_a_range_outside_is_refused_and_nothing_changes(
    target: TargetProcess, offset: int, length: int
) -> None:
    connection = target.new_volume()
    with Volume.open(connection, target.identity) as volume:
        for action in (
            lambda: volume.write(offset, b"x" * length),
            lambda: volume.read(offset, length),
            lambda: volume.discard(offset, length),
            lambda: volume.write_zeroes(offset, length),
        ):
            with pytest.raises(InvalidValueError, match="offset"):
                action()
        assert not volume.unflushed
    assert not any(target.path(connection.volume_id).read_bytes())


def test_zeroes_are_exact_and_give_storage_back(target: TargetProcess) -> None:
    connection = target.new_volume(64 * MIB)
    with Volume.open(connection, target.identity) as volume:
        volume.write(0, b"\xff" * (48 * MIB))
        volume.flush()
        used = target.path(connection.volume_id).stat().st_blocks
        volume.write_zeroes(MIB + 7, 40 * MIB)
        content = volume.read(0, 48 * MIB)
        assert content[: MIB + 7].count(0xFF) == MIB + 7
        assert not any(content[MIB + 7 : 41 * MIB + 7])
        assert content[41 * MIB + 7 :].count(0xFF) == 7 * MIB - 7
        volume.flush()
        assert target.path(connection.volume_id).stat().st_blocks < used / 2


def test_discard_gives_storage_back_and_spares_what_it_does_not_cover(target: TargetProcess) -> None:
    connection = target.new_volume(64 * MIB)
    with Volume.open(connection, target.identity) as volume:
        volume.write(0, b"\xff" * (48 * MIB))
        volume.flush()
        used = target.path(connection.volume_id).stat().st_blocks
        volume.discard(MIB + 7, 40 * MIB)
        assert volume.read(0, MIB + 7) == b"\xff" * (MIB + 7)
        assert volume.read(41 * MIB + 7, MIB) == b"\xff" * MIB
        volume.flush()
        assert target.path(connection.volume_id).stat().st_blocks < used / 2


def test_two_threads_in_one_block_do_not_lose_each_other(target: TargetProcess) -> None:
    with Volume.open(target.new_volume(), target.identity) as volume:

        def write(first: int) -> None:
            for _ in range(2):
                for position in range(first, 2048, 8):
                    volume.write(position, bytes([first + 1]))

        threads = [threading.Thread(target=write, args=(first,)) for first in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert volume.read(0, 2048) == bytes(range(1, 9)) * 256


def test_an_aligned_write_is_not_lost_under_an_unaligned_one(target: TargetProcess) -> None:
    with Volume.open(target.new_volume(), target.identity) as volume:
        ended = threading.Event()

        def unaligned() -> None:
            while not ended.is_set():
                volume.write(10, b"\x01" * 10)

        thread = threading.Thread(target=unaligned)
        thread.start()
        try:
            for number in range(2, 250):
                volume.write(0, bytes([number]) * 512)
                assert volume.read(100, 400) == bytes([number]) * 400
        finally:
            ended.set()
            thread.join(10)


def test_many_threads_write_and_read_at_once(target: TargetProcess) -> None:
    connection = target.new_volume()
    with Volume.open(connection, target.identity, VolumeOptions(queue_depth=4)) as volume:
        with checked_writers(volume, threads=8) as writers:
            deadline = time.monotonic() + 20
            while not all(writer.rounds > 30 for writer in writers):
                assert time.monotonic() < deadline, "the writers hold each other up"
                time.sleep(0.02)
        volume.flush()
        backing = target.path(connection.volume_id).read_bytes()
        for writer in writers:
            writer.expect_in(backing)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(
    steps=st.lists(
        st.tuples(st.sampled_from(["write", "zero", "read"]), st.integers(0, 70_000), st.integers(0, 9_000)),
        max_size=12,
    ),
    value=st.integers(1, 255),
)
def test_a_volume_behaves_like_a_bytearray(
    target: TargetProcess, steps: list[tuple[str, int, int]], value: int
) -> None:
    connection = target.new_volume(80_896)
    model = bytearray(80_896)
    with Volume.open(connection, target.identity) as volume:
        for action, offset, length in steps:
            if action == "write":
                data = bytes((value + index) % 256 for index in range(length))
                volume.write(offset, data)
                model[offset : offset + length] = data
            elif action == "zero":
                volume.write_zeroes(offset, length)
                model[offset : offset + length] = bytes(length)
            else:
                assert volume.read(offset, length) == model[offset : offset + length]
        assert volume.read(0, volume.size) == model
    target.remove(connection.volume_id)


def test_growth_is_seen_without_asking(target: TargetProcess) -> None:
    connection = target.new_volume(16 * MIB)
    with Volume.open(connection, target.identity) as volume:
        for size in (32 * MIB, 64 * MIB):
            target.export(connection.volume_id, size)
            volume.wait_for_size(size, 5)
            assert volume.size == size
            volume.write(size - 5, b"at the end"[:5])
            assert volume.refresh() == size
        with pytest.raises(UnavailableError, match="has not grown"):
            volume.wait_for_size(128 * MIB, 0.1)


def test_a_closed_volume_says_so(target: TargetProcess) -> None:
    volume = Volume.open(target.new_volume(), target.identity)
    volume.write(0, b"x")
    volume.close()
    volume.close()
    with pytest.raises(UnavailableError, match="closed"):
        volume.read(0, 1)
    assert not volume.unflushed


def test_a_host_that_is_not_named_is_refused_by_name(target: TargetProcess) -> None:
    stranger = new_identity()
    with pytest.raises(PermissionDeniedError, match=stranger.nqn):
        Volume.open(target.new_volume(), stranger)


def test_a_volume_that_is_not_exported_is_not_found(target: TargetProcess) -> None:
    connection = target.new_volume()
    target.remove(connection.volume_id)
    with pytest.raises((NotFoundError, PermissionDeniedError), match=connection.nqn):
        Volume.open(connection, target.identity)


def test_a_portal_without_target_is_unavailable_at_once(short_path: Path) -> None:
    del short_path
    volume_id = VolumeId(new_id())
    portal = tcp_portal(free_port())
    connection = NvmeofConnection(
        volume_id=volume_id, nqn=subsystem_nqn(volume_id), portals=(portal,), host_nqn="ALL"
    )
    with pytest.raises(UnavailableError, match=str(portal)):
        Volume.open(connection, new_identity())


def test_rdma_portals_are_refused_clearly() -> None:
    volume_id = VolumeId(new_id())
    portal = NvmeofPortal(transport=Transport.RDMA, address="192.0.2.1", port=4420)
    connection = NvmeofConnection(
        volume_id=volume_id, nqn=subsystem_nqn(volume_id), portals=(portal,), host_nqn="ALL"
    )
    with pytest.raises(UnsupportedError, match="rdma"):
        Volume.open(connection, new_identity())


def test_discovery_lists_what_this_host_may_use_and_nothing_else(target: TargetProcess) -> None:
    mine = [target.new_volume() for _ in range(3)]
    other = target.new_volume()
    target.export(other.volume_id, 16 * MIB, hosts=(new_identity().nqn,))
    entries = discover(mine[0].portals[0], target.identity)
    found = {entry.subnqn for entry in entries if entry.subtype == 2}
    assert found == {connection.nqn for connection in mine}
    assert {entry.trsvcid for entry in entries} == {str(target.ports[0])}


def test_a_long_discovery_log_is_read_whole(target: TargetProcess) -> None:
    connections = [target.new_volume(MIB) for _ in range(150)]
    entries = discover(connections[0].portals[0], target.identity)
    assert {each.nqn for each in connections} <= {entry.subnqn for entry in entries}
