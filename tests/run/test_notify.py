"""What weft tells the service manager."""

import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from weft.notify import machine_is_going_down, notify, wait_watched, watchdog_seconds


@pytest.fixture
def manager(short_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """A socket to which this process is to tell how it is."""
    monkeypatch.setenv("NOTIFY_SOCKET", str(short_path / "notify"))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(short_path / "notify"))
        listener.settimeout(5)
        yield listener


def test_the_manager_hears_that_weft_is_ready(manager: socket.socket) -> None:
    notify("READY=1")
    assert manager.recv(100) == b"READY=1"


def test_an_abstract_socket_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"weft-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(f"\0{name}")
        listener.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", f"@{name}")
        notify("READY=1")
        assert listener.recv(100) == b"READY=1"


def test_a_manager_that_is_not_there_is_no_failure(short_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("", "relative", str(short_path / "nobody")):
        monkeypatch.setenv("NOTIFY_SOCKET", name)
        notify("READY=1")


def test_the_watchdog_counts_only_for_the_process_that_it_is_meant_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("WATCHDOG_USEC", raising=False)
    assert watchdog_seconds() is None
    monkeypatch.setenv("WATCHDOG_USEC", "3000000")
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))
    assert watchdog_seconds() == 3.0
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid() + 1))
    assert watchdog_seconds() is None


def test_the_watchdog_hears_of_a_living_weft_again_and_again(
    manager: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "90000")
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))
    stop, checked = threading.Event(), threading.Semaphore(0)
    waiting = threading.Thread(target=wait_watched, args=(stop, checked.release))
    waiting.start()
    try:
        assert [manager.recv(100) for _ in range(3)] == [b"WATCHDOG=1"] * 3
        assert all(checked.acquire(timeout=5) for _ in range(3))
    finally:
        stop.set()
        waiting.join(10)
    assert not waiting.is_alive()


def test_the_watchdog_does_not_hear_of_a_weft_that_is_broken(
    manager: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "90000")
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))

    def broken() -> None:
        raise ArithmeticError

    with pytest.raises(ArithmeticError):
        wait_watched(threading.Event(), broken)
    manager.setblocking(False)
    with pytest.raises(BlockingIOError):
        manager.recv(100)


def test_without_a_watchdog_weft_just_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WATCHDOG_USEC", raising=False)
    stop = threading.Event()
    threading.Timer(0.05, stop.set).start()
    began = time.monotonic()
    wait_watched(stop, stop.clear)
    assert time.monotonic() - began >= 0.04


@pytest.mark.parametrize(
    ("said", "code", "goes_down"), [("stopping", 1, True), ("degraded", 1, False), ("running", 0, False)]
)
def test_weft_asks_the_manager_whether_the_machine_goes_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str, code: int, *, goes_down: bool
) -> None:
    program = tmp_path / "systemctl"
    program.write_text(f"#!/bin/sh\necho {said}\nexit {code}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr("weft.notify._SYSTEMD", tmp_path)
    assert machine_is_going_down() == goes_down


def test_without_a_manager_no_machine_goes_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("weft.notify._SYSTEMD", tmp_path / "none")
    assert not machine_is_going_down()
