"""A target and a host identity for each test, and the promise that no thread outlives a test."""

import threading
import time
from collections.abc import Iterator

import pytest

from embedded_host.target_process import TargetProcess, new_identity, shared_target
from weft.embedded.host import HostIdentity, VolumeOptions

__all__ = ["shared_target"]


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    deadline = time.monotonic() + 5
    while left := set(threading.enumerate()) - before:
        assert time.monotonic() < deadline, f"threads are left: {left}"
        time.sleep(0.01)


@pytest.fixture
def identity() -> HostIdentity:
    return new_identity()


@pytest.fixture
def target(shared_target: TargetProcess, identity: HostIdentity) -> Iterator[TargetProcess]:
    shared_target.identity = identity
    yield shared_target
    shared_target.reset()


@pytest.fixture
def impatient() -> VolumeOptions:
    """Times short enough for tests, long enough for two busy cores."""
    return VolumeOptions(reconnect_delay=0.1, controller_loss_timeout=30, keep_alive=2, connect_timeout=5)
