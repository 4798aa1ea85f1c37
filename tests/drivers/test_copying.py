"""Copies of sparse files: the same bytes, and holes stay holes."""

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weft.drivers.copying import CHUNK, allocated, copy_extents, extents
from weft.errors import DataError

MIB = 2**20
PAGE = 4096


def ignore(done: int, total: int) -> None:
    pass


@given(
    pages=st.integers(0, 300),
    tail=st.integers(0, PAGE - 1),
    writes=st.lists(st.tuples(st.integers(0, 299), st.binary(min_size=1, max_size=3 * PAGE)), max_size=8),
)
def test_a_copy_has_the_same_bytes(pages: int, tail: int, writes: list[tuple[int, bytes]]) -> None:
    with tempfile.TemporaryFile() as source, tempfile.TemporaryFile() as destination:
        source.truncate(pages * PAGE + tail)
        for page, data in writes:
            if page < pages:
                os.pwrite(source.fileno(), data, page * PAGE)
        copy_extents(source.fileno(), destination.fileno(), ignore)
        size = os.fstat(source.fileno()).st_size
        assert os.pread(destination.fileno(), size + 1, 0) == os.pread(source.fileno(), size + 1, 0)


def test_a_copy_takes_no_more_room_than_its_source(tmp_path: Path) -> None:
    with (tmp_path / "source").open("w+b") as source, (tmp_path / "copy").open("w+b") as copy:
        source.truncate(1024 * MIB)
        for offset in (0, 100 * MIB, 1023 * MIB):
            os.pwrite(source.fileno(), b"x" * 64 * 1024, offset)
        if allocated(source.fileno()) > MIB:
            pytest.skip("the file system of the temporary directory has no sparse files")
        copy_extents(source.fileno(), copy.fileno(), ignore)
        os.fsync(copy.fileno())
        assert os.fstat(copy.fileno()).st_size == 1024 * MIB
        assert allocated(copy.fileno()) <= allocated(source.fileno()) + 64 * 1024
        assert list(extents(copy.fileno())) == list(extents(source.fileno()))


def test_a_copy_between_file_systems_goes_through_memory(tmp_path: Path) -> None:
    shared = Path("/dev/shm")
    if not os.access(shared, os.W_OK) or shared.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("/dev/shm is not another file system that this user may write")
    with (tmp_path / "source").open("w+b") as source, tempfile.TemporaryFile(dir=shared) as copy:
        source.truncate(8 * MIB)
        os.pwrite(source.fileno(), os.urandom(3 * MIB), 2 * MIB)
        copy_extents(source.fileno(), copy.fileno(), ignore)
        assert os.pread(copy.fileno(), 8 * MIB, 0) == os.pread(source.fileno(), 8 * MIB, 0)


def test_a_copy_can_be_called_off_between_chunks(tmp_path: Path) -> None:
    told: list[int] = []

    def stop(done: int, _total: int) -> None:
        told.append(done)
        if done >= CHUNK:
            raise TimeoutError

    with (tmp_path / "source").open("w+b") as source, (tmp_path / "copy").open("w+b") as copy:
        source.write(b"x" * 3 * CHUNK)
        source.flush()
        with pytest.raises(TimeoutError):
            copy_extents(source.fileno(), copy.fileno(), stop)
    assert told[0] == 0
    assert told[-1] < 2 * CHUNK


def test_a_source_that_is_cut_short_is_an_error(tmp_path: Path) -> None:
    with (tmp_path / "source").open("w+b") as source, (tmp_path / "copy").open("w+b") as copy:
        source.write(b"x" * 3 * CHUNK)
        source.flush()

        def cut(done: int, _total: int) -> None:
            if done == CHUNK:
                os.ftruncate(source.fileno(), CHUNK)

        with pytest.raises(DataError, match="shorter"):
            copy_extents(source.fileno(), copy.fileno(), cut)
