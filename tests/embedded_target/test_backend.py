"""Which files the target opens, and what their bytes are after each operation."""

import errno
import os
from pathlib import Path

import pytest

from weft.embedded.target import backend as backend_module
from weft.embedded.target.backend import Backend, check_holds, open_backend
from weft.errors import ConflictError, DataError, InvalidValueError, NotFoundError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "pool"
    root.mkdir()
    return root


@pytest.fixture
def volume(root: Path) -> Path:
    path = root / "volume"
    path.write_bytes(b"v" * 65536)
    return path


def test_a_file_outside_the_roots_is_not_opened(root: Path, tmp_path: Path) -> None:
    outside = tmp_path / "secret"
    outside.write_bytes(b"secret")
    (root / "link").symlink_to(outside)
    (root / "up").symlink_to(tmp_path)
    sibling = tmp_path / "pool-of-another"
    sibling.mkdir()
    (sibling / "volume").touch()
    for path in (
        outside,
        root / "link",
        root / "up" / "secret",
        root / ".." / "secret",
        sibling / "volume",
    ):
        with pytest.raises(InvalidValueError, match="outside the directories"):
            open_backend(path, [root])


@pytest.mark.parametrize(
    ("path", "real", "mapped_name", "uuid", "is_it"),
    [
        ("/dev/vg-1/weft-a", "/dev/dm-3", "vg--1-weft--a", "LVM-x", True),
        ("/dev/vg-1/weft-a", "/dev/dm-3", "vg--1-weft--b", "LVM-x", False),
        ("/dev/vg-1/weft-a", "/dev/dm-3", "vg--1-weft--a", "CRYPT-x", False),
        ("/dev/vg-1/weft-a", "/dev/dm-4", "vg--1-weft--a", "LVM-x", False),
        ("/dev/vg-1/weft-a", "/dev/sda", "vg--1-weft--a", "LVM-x", False),
        ("/tmp/vg-1/weft-a", "/dev/dm-3", "vg--1-weft--a", "LVM-x", False),
        ("/dev/vg-1/../weft-a", "/dev/dm-3", "..-weft--a", "LVM-x", False),
    ],
)
def test_a_link_to_a_mapped_device_is_followed_where_the_kernel_says_that_it_is_this_logical_volume(
    tmp_path: Path, path: str, real: str, mapped_name: str, uuid: str, *, is_it: bool
) -> None:
    described = tmp_path / "class" / "block" / "dm-3" / "dm"
    described.mkdir(parents=True)
    (described / "name").write_text(f"{mapped_name}\n")
    (described / "uuid").write_text(f"{uuid}\n")
    assert backend_module._is_logical_volume(Path(path), Path(real), tmp_path) is is_it


def test_a_link_that_stays_below_the_roots_is_followed(root: Path, volume: Path) -> None:
    (root / "link").symlink_to(volume)
    backend = open_backend(root / "link", [root])
    assert backend.is_at(volume)
    backend.close()


def test_what_is_neither_a_file_nor_a_device_is_refused(root: Path) -> None:
    os.mkfifo(root / "fifo")
    (root / "directory").mkdir()
    for name in ("fifo", "directory"):
        with pytest.raises(InvalidValueError, match="neither a regular file nor"):
            open_backend(root / name, [root])
    with pytest.raises(NotFoundError):
        open_backend(root / "nothing", [root])


def test_a_volume_has_one_owner_until_it_is_closed(root: Path, volume: Path) -> None:
    first = open_backend(volume, [root])
    with pytest.raises(ConflictError):
        open_backend(volume, [root])
    first.close()
    open_backend(volume, [root]).close()


def test_a_short_volume_is_noticed(root: Path, volume: Path) -> None:
    backend = open_backend(volume, [root])
    check_holds(backend, 65536)
    with pytest.raises(DataError):
        check_holds(backend, 65537)
    backend.close()


def test_a_file_that_was_replaced_is_noticed(root: Path, volume: Path) -> None:
    backend = open_backend(volume, [root])
    assert backend.is_at(volume)
    (root / "new").write_bytes(b"n" * 65536)
    (root / "new").rename(volume)
    assert not backend.is_at(volume)
    volume.unlink()
    assert not backend.is_at(volume)
    backend.close()


def test_reading_past_the_end_is_an_error_and_not_zeroes(root: Path, volume: Path) -> None:
    backend = open_backend(volume, [root])
    with pytest.raises(OSError, match="ends at byte") as caught:
        backend.read_into(65024, bytearray(1024))
    assert caught.value.errno == errno.EIO
    backend.close()


class Plain(Backend):
    """On a file system that neither punches holes nor zeroes ranges."""

    def _allocate_any(self, *_: object) -> bool:
        return False


@pytest.mark.parametrize("offered", [True, False])
def test_zeroes_are_zeroes_on_every_file_system(root: Path, volume: Path, *, offered: bool) -> None:
    opened = open_backend(volume, [root])
    backend = opened if offered else Plain(os.dup(opened._descriptor), volume)
    backend.write_zeroes(512, 1000, deallocate=False)
    backend.write_zeroes(4096, 20000, deallocate=True)
    data = volume.read_bytes()
    assert data[:512] == b"v" * 512
    assert data[512:1512] == bytes(1000)
    assert data[1512:4096] == b"v" * 2584
    assert data[4096:24096] == bytes(20000)
    assert data[24096:] == b"v" * (65536 - 24096)
    backend.deallocate(0, 4096)
    assert volume.read_bytes()[:512] == (bytes(512) if offered else b"v" * 512)
    opened.close()
    if not offered:
        backend.close()


def test_long_zeroes_are_written_in_pieces_of_bounded_size(root: Path, volume: Path) -> None:
    size = 3 * len(backend_module._ZEROES) + 100
    volume.write_bytes(b"v" * (size + 2))
    backend = open_backend(volume, [root])
    backend._write_zero_bytes(1, size)
    assert volume.read_bytes() == b"v" + bytes(size) + b"v"
    backend.close()


def test_a_flush_that_failed_is_never_followed_by_one_that_succeeds(volume: Path) -> None:
    """The kernel reports lost bytes once, and a second fdatasync() would succeed."""
    reader, writer = os.pipe()  # which cannot be synced
    os.close(reader)
    backend = Backend(writer, volume)
    try:
        with pytest.raises(OSError, match="Invalid argument"):
            backend.flush()
        healthy = os.open(volume, os.O_RDWR)
        os.dup2(healthy, writer)
        os.close(healthy)
        backend.write(0, b"works")
        with pytest.raises(OSError, match="an earlier flush failed"):
            backend.flush()
    finally:
        backend.close()
