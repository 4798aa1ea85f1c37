"""What is left of a lab whose process dies; without VMs, which any process can stand in for."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lab.processes import ProcessIdentity

LAB = """
import subprocess, sys
from lab.processes import ProcessIdentity
from lab.runs import guarded, own_folder
with guarded(), own_folder("mine") as folder:
    vm = subprocess.Popen(["sleep", "1000"], start_new_session=True)
    ProcessIdentity.of(vm.pid).write(folder / "node.pid")
    print("ready", flush=True)
    sys.stdin.read()
    vm.kill()
"""
REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_the_vms_of_a_lab_end_with_its_process_however_that_ends(
    tmp_path: Path, number: signal.Signals
) -> None:
    with _lab(tmp_path) as lab:
        vm = ProcessIdentity.read(tmp_path / "mine" / "node.pid")
        assert vm is not None
        lab.send_signal(number)
        lab.wait(10)
    deadline = time.monotonic() + 30
    while (vm.is_alive() or any(tmp_path.iterdir())) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not vm.is_alive()
    assert not any(tmp_path.iterdir())


def test_a_lab_that_ends_in_order_leaves_no_guard(tmp_path: Path) -> None:
    with _lab(tmp_path) as lab:
        children = _children(lab.pid)
        assert len(children) == 2, "the VM, and the guard"
    assert lab.returncode == 0
    assert not any(each.is_alive() for each in children)
    assert not any(tmp_path.iterdir())


def _lab(runs: Path) -> "subprocess.Popen[str]":
    """A process with a lab that runs, which ends in order when its input does."""
    lab = subprocess.Popen(
        [sys.executable, "-c", LAB],
        env={**os.environ, "WEFT_LAB_RUNS": str(runs)},
        cwd=REPOSITORY,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert lab.stdout is not None
    assert lab.stdout.readline() == "ready\n"
    return lab


def _children(pid: int) -> list[ProcessIdentity]:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text("ascii").split()
    return [ProcessIdentity.of(int(each)) for each in children]
