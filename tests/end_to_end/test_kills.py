"""kill -9 of each process at whatever moment, while the others and the hosts go on."""

import os
import random
import signal
import subprocess
import threading
import time
from pathlib import Path

from attached import AttachedAsObject, AttachedByPath
from tree import MIB
from verifying_io import VerifyingIo
from weft.errors import UnavailableError
from weft.model import GIB, Status, VolumeId
from weft.requests import CreateVolumeRequest
from weft.views import VolumeView
from weft_under_demo import WeftUnderDemo


def test_io_goes_on_without_an_error_while_daemon_and_target_are_killed_again_and_again(
    weft: WeftUnderDemo,
) -> None:
    weft.weft("volume", "create", "busy", "--size", "1GiB")
    busy = AttachedAsObject(weft, "busy")
    busy.attach()
    io = VerifyingIo(busy.device(), 32 * MIB)
    io.start()
    try:
        for _ in range(4):
            io.wait_for_operations(50)
            os.kill(weft.target_pid(), signal.SIGKILL)
            io.wait_for_operations(50)
            weft.kill_serve()
            io.wait_for_operations(50)
            weft.start()
    finally:
        io.stop()
    assert io.errors == []
    busy.detach()


def test_a_target_that_died_with_the_daemon_serves_the_same_volumes_again(weft: WeftUnderDemo) -> None:
    weft.weft("volume", "create", "busy", "--size", "1GiB")
    busy = AttachedAsObject(weft, "busy")
    busy.attach()
    io = VerifyingIo(busy.device(), 8 * MIB)
    io.start()
    try:
        io.wait_for_operations(20)
        target = weft.target_pid()
        weft.kill_serve()
        os.kill(target, signal.SIGKILL)
        time.sleep(0.5)
        weft.start()
        io.wait_for_operations(50)
    finally:
        io.stop()
    assert io.errors == []
    busy.detach()


def test_no_acknowledged_intent_is_lost_when_the_daemon_is_killed_at_random(weft: WeftUnderDemo) -> None:
    wanted: set[VolumeId] = set()
    deleted: set[VolumeId] = set()
    source = random.Random(11)
    client = weft.client()
    for _ in range(5):
        killer = threading.Timer(source.uniform(0.05, 0.6), weft.kill_serve)
        killer.start()
        try:
            while True:
                made = client.create_volume(CreateVolumeRequest(name="v", size=GIB)).volume.id
                if source.random() < 0.4:
                    client.delete_volume(made, wait=source.choice((0.0, 1.0)))
                    deleted.add(made)
                else:
                    wanted.add(made)
        except UnavailableError:  # whether the last request was taken is not known
            killer.join()
        weft.start()
    found = _settled_volumes(weft)
    assert wanted <= set(found)
    assert {view.status for view in found.values()} <= {Status.AVAILABLE}
    assert len(weft.pool_files()) == len(found)
    assert not deleted & set(found)


def _settled_volumes(weft: WeftUnderDemo) -> dict[VolumeId, VolumeView]:
    deadline = time.monotonic() + 60
    while True:
        found = {view.volume.id: view for view in weft.client().volumes()}
        if not any(view.status in {Status.CREATING, Status.DELETING} for view in found.values()):
            return found
        assert time.monotonic() < deadline, "volumes did not settle"
        time.sleep(0.1)


def test_a_killed_attachment_is_made_anew_and_detached_without_traces(weft_with_fuse: WeftUnderDemo) -> None:
    weft = weft_with_fuse
    weft.weft("volume", "create", "data", "--size", "1GiB")
    volume = AttachedByPath(weft, "data")
    volume.attach()
    device = volume.device()
    device.write(0, b"kept" * 1024)
    device.flush()
    processes = [pid for pid in weft.processes() if pid not in {weft.serve_pid, weft.target_pid()}]
    assert len(processes) == 1
    volume.close_devices()
    os.kill(processes[0], signal.SIGKILL)
    assert any("which is lost: attach it again" in each for each in weft.status()["problems"])
    volume = AttachedByPath(weft, "data")
    volume.attach()
    assert volume.device().read(0, 4) == b"kept"
    volume.detach()
    assert weft.mounts() == []
    assert weft.weft("attachment", "list") == []


def test_many_volumes_are_attached_and_detached_at_once(weft_with_fuse: WeftUnderDemo) -> None:
    weft = weft_with_fuse
    names = [f"many-{number}" for number in range(8)]
    for name in names:
        weft.client().create_volume(CreateVolumeRequest(name=name, size=GIB), wait=30)
    paths = _at_once(weft, "attach", names)
    assert len({each["path"] for each in paths}) == len(names)
    _at_once(weft, "detach", names)
    assert weft.mounts() == []
    for view in weft.client().volumes():
        assert weft.client().delete_volume(view.volume.id, wait=30)
    assert weft.pool_files() == []


def _at_once(weft: WeftUnderDemo, verb: str, names: list[str]) -> list[dict[str, str]]:
    results: list[dict[str, str]] = []
    errors: list[Exception] = []

    def one(name: str) -> None:
        try:
            results.append(weft.weft(verb, name))
        except (RuntimeError, subprocess.SubprocessError) as error:
            errors.append(error)

    threads = [threading.Thread(target=one, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    return results


def test_detaching_one_volume_leaves_another_s_io_alone(weft: WeftUnderDemo) -> None:
    for name in ("a", "b"):
        weft.weft("volume", "create", name, "--size", "1GiB")
    first, second = AttachedAsObject(weft, "a"), AttachedAsObject(weft, "b")
    first.attach()
    second.attach()
    io = VerifyingIo(second.device(), 8 * MIB)
    io.start()
    try:
        io.wait_for_operations(50)
        first.detach()
        io.wait_for_operations(50)
    finally:
        io.stop()
    assert io.errors == []
    second.detach()


def test_the_state_directory_is_its_owner_s_alone(weft: WeftUnderDemo) -> None:
    for path in (weft.directory / "data", weft.directory / "run"):
        assert path.stat().st_mode & 0o077 == 0
        for each in Path(path).rglob("*"):
            if each.is_socket() or each.is_file():
                assert each.stat().st_mode & 0o077 == 0, each
