"""What survives a loss of power: seen in the system calls, as only they can tell."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import sys
from pathlib import Path
from fakes.rows import make_snapshot, make_volume
from weft.drivers.file import FileDriver

driver = FileDriver(Path(sys.argv[1]))
volume = make_volume(2**20)
driver.create(volume)
driver.snapshot(make_snapshot(volume))
"""
TESTS = Path(__file__).resolve().parents[1]


def test_a_file_is_synced_before_it_gets_its_name_and_its_directory_after(tmp_path: Path) -> None:
    strace = shutil.which("strace")
    if strace is None:
        pytest.skip("strace is not installed")
    log = tmp_path / "log"
    traced = subprocess.run(
        [
            strace,
            "-f",
            "-y",
            "-o",
            log,
            "-e",
            "trace=fsync,rename",
            sys.executable,
            "-c",
            SCRIPT,
            tmp_path / "pool",
        ],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS), *filter(None, sys.path)])},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    if "PTRACE" in traced.stderr or "ptrace" in traced.stderr:
        pytest.skip(f"strace may not trace here: {traced.stderr.strip()}")
    assert traced.returncode == 0, traced.stderr
    calls = re.findall(r"\d+ +(fsync|rename)\((?:\d+<|\")([^>\"]+)", log.read_text())
    seen = [(call, Path(path).name if ".partial" in path else Path(path).parent.name) for call, path in calls]
    partials = [name for call, name in seen if call == "rename"]
    assert len(partials) == 2
    assert seen == [
        ("fsync", partials[0]),
        ("rename", partials[0]),
        ("fsync", "pool"),  # of pool/volumes
        ("fsync", "pool"),  # of pool/snapshots, for the volume's directory in it
        ("fsync", partials[1]),
        ("rename", partials[1]),
        ("fsync", "snapshots"),  # of pool/snapshots/<volume id>
    ]
