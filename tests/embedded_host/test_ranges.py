"""How byte ranges fall into commands, and who may write them at one time."""

import threading
import time
from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from weft.embedded.host.ranges import RangeLock, cut, pieces

OFFSETS = st.integers(0, 2**20)
LENGTHS = st.integers(0, 2**18)
BLOCKS = st.sampled_from([512, 4096])


@given(offset=OFFSETS, length=LENGTHS, block=BLOCKS)
def test_a_cut_range_is_head_body_and_tail_without_gap(offset: int, length: int, block: int) -> None:
    parts = cut(offset, length, block)
    assert parts.head_length + parts.body_length + parts.tail_length == length
    position = offset
    for part_offset, part_length in (
        (parts.head_offset, parts.head_length),
        (parts.body_offset, parts.body_length),
        (parts.tail_offset, parts.tail_length),
    ):
        assert part_offset == position or part_length == 0
        position += part_length


@given(offset=OFFSETS, length=LENGTHS, block=BLOCKS)
def test_a_body_is_whole_blocks_and_the_edges_lie_in_one_block_each(
    offset: int, length: int, block: int
) -> None:
    parts = cut(offset, length, block)
    assert parts.body_length % block == 0
    assert parts.body_length == 0 or parts.body_offset % block == 0
    for edge_offset, edge_length in (
        (parts.head_offset, parts.head_length),
        (parts.tail_offset, parts.tail_length),
    ):
        assert edge_length < block
        assert edge_length == 0 or edge_offset // block == (edge_offset + edge_length - 1) // block


@given(offset=OFFSETS, length=LENGTHS, maximum=st.sampled_from([4096, 65536, 2**20]))
def test_pieces_cover_a_range_in_order_and_none_is_too_long(offset: int, length: int, maximum: int) -> None:
    position = 0
    for piece in pieces(offset, length, maximum):
        assert (piece.start, piece.offset) == (position, offset + position)
        assert 0 < piece.length <= maximum
        assert piece.offset // maximum == (piece.offset + piece.length - 1) // maximum
        position += piece.length
    assert position == length


@given(offset=st.integers(0, 4096), data=st.binary(max_size=2048))
def test_parts_put_together_again_are_the_range(offset: int, data: bytes) -> None:
    content = bytes(range(256)) * 16
    data = data[: 4096 - offset]
    parts = cut(offset, len(data), 512)
    changed = bytearray(content)
    start = 0
    for part_offset, part_length in (
        (parts.head_offset, parts.head_length),
        (parts.body_offset, parts.body_length),
        (parts.tail_offset, parts.tail_length),
    ):
        changed[part_offset : part_offset + part_length] = data[start : start + part_length]
        start += part_length
    assert changed == content[:offset] + data + content[offset + len(data) :]


def _runs(action: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=action)
    thread.start()
    return thread


def test_sharers_of_a_range_do_not_wait_for_each_other() -> None:
    lock = RangeLock()
    with lock.shared(0, 10), lock.shared(5, 15):
        pass


def test_ranges_apart_do_not_wait_for_each_other() -> None:
    lock = RangeLock()
    with lock.alone(0, 10), lock.alone(10, 20), lock.shared(20, 30):
        pass


def test_who_has_a_range_alone_keeps_sharers_out() -> None:
    lock = RangeLock()
    order = []

    def share() -> None:
        with lock.shared(9, 20):
            order.append("shared")

    with lock.alone(0, 10):
        thread = _runs(share)
        time.sleep(0.05)
        order.append("alone")
    thread.join(5)
    assert order == ["alone", "shared"]


def test_who_wants_a_range_alone_is_not_overtaken_for_ever() -> None:
    lock = RangeLock()
    order = []

    def alone() -> None:
        with lock.alone(0, 10):
            order.append("alone")

    def late_sharer() -> None:
        with lock.shared(0, 10):
            order.append("late")

    with lock.shared(0, 10):
        first = _runs(alone)
        time.sleep(0.05)
        second = _runs(late_sharer)
        time.sleep(0.05)
        assert order == []
    first.join(5)
    second.join(5)
    assert order == ["alone", "late"]
