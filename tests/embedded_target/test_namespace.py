"""The gate of a namespace: what is going on is waited for, what comes is held."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from weft.embedded.target.backend import open_backend
from weft.embedded.target.namespace import Namespace
from weft.errors import UnavailableError
from weft.model import VolumeId
from weft.names import new_id


@pytest.fixture
def namespace(tmp_path: Path) -> Iterator[Namespace]:
    path = tmp_path / "volume"
    path.write_bytes(bytes(65536))
    namespace = Namespace(VolumeId(new_id()), open_backend(path, [tmp_path]), 65536)
    yield namespace
    namespace.close()


def test_a_hold_begins_when_the_writes_that_were_going_on_are_done(namespace: Namespace) -> None:
    assert namespace.begin(writes=True) is not None
    assert namespace.begin(writes=False) is not None
    taken: list[float] = []

    def take() -> None:
        namespace.hold_writes(20)
        taken.append(time.monotonic())

    thread = threading.Thread(target=take)
    thread.start()
    time.sleep(0.05)
    assert not taken
    assert namespace.begin(writes=True) is None  # new ones wait already
    ended = time.monotonic()
    namespace.end(writes=True)
    thread.join(10)
    assert taken[0] >= ended


def test_a_write_that_does_not_end_ends_the_hold(namespace: Namespace) -> None:
    assert namespace.begin(writes=True) is not None
    with pytest.raises(UnavailableError):
        namespace.hold_writes(0.05)
    assert namespace.begin(writes=True) is not None


def test_whoever_waits_is_woken_once_by_release_and_at_once_without_a_hold(namespace: Namespace) -> None:
    woken: list[str] = []
    hold = namespace.hold_writes(20)
    namespace.on_release(lambda: woken.append("held"))
    assert not woken
    hold.release()
    hold.release()
    namespace.on_release(lambda: woken.append("free"))
    assert woken == ["held", "free"]


def test_other_bytes_are_served_only_when_nobody_uses_the_old(namespace: Namespace, tmp_path: Path) -> None:
    old = namespace.begin(writes=False)
    other = tmp_path / "other"
    other.write_bytes(b"o" * 65536)
    thread = threading.Thread(target=namespace.replace_backend, args=(open_backend(other, [tmp_path]),))
    thread.start()
    time.sleep(0.05)
    assert old is not None
    old.read_into(0, bytearray(512))
    namespace.end(writes=False)
    thread.join(10)
    backend = namespace.begin(writes=False)
    assert backend is not None
    assert backend.equals(0, b"o" * 512)
    namespace.end(writes=False)
